"""What a recipe learns from: how much of it at once, how it is varied, and how it becomes batches."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import partial
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

from vitrail.data.dataset import Dataset, Splits, typical_side
from vitrail.data.datasets.marked import without_masks
from vitrail.data.loader import Loader
from vitrail.data.mixing import Mixing
from vitrail.data.text.answering import Questions
from vitrail.data.text.batches import TextLoader
from vitrail.data.text.prepared import Prepared
from vitrail.data.text.uses import Causal, Classification, Masked, Tagging, Translation
from vitrail.data.transforms import Augment, eval_transform, train_transform
from vitrail.data.views import MarkedBatches, ObjectAugment, ObjectTransform
from vitrail.errors import ConfigError, many
from vitrail.fields import Range, check_fields, check_ranges
from vitrail.generation import Generation
from vitrail.pixels import MODES
from vitrail.preprocessing import Fitted
from vitrail.samples import Batch
from vitrail.tokenizing import TextPreprocessing, train_byte_pairs, train_joint, train_word_pieces

MOST_WORKERS = 256  # processes that read

Say = Callable[[str], None]


@runtime_checkable
class Batches(Protocol):
    """Batches epoch by epoch, from wherever one wants to begin."""

    @property
    def lost(self) -> str:
        """A sentence about what is too long to be read as a whole; empty where nothing is."""
        ...

    def __len__(self) -> int: ...

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]: ...

    def describe(self, index: int) -> str:
        """What to call a sample of a batch in front of a person."""
        ...


@runtime_checkable
class Material(Protocol):
    """What a recipe learns from; `Pictures` is the example to read."""

    path: str
    batch: int
    workers: int

    @property
    def unit(self) -> str:
        """What one sample is called."""
        ...

    @property
    def kinds(self) -> str:
        """What the classes of the data are called."""
        ...

    @property
    def example(self) -> str:
        """What stands for one sample in a command."""
        ...

    @property
    def reading(self) -> str:
        """Who reads, in words."""
        ...

    @property
    def at_once(self) -> str:
        """How much a batch takes, in words."""
        ...

    @property
    def even(self) -> bool:
        """Whether all batches have one shape, so that freed memory fits again."""
        ...

    def meaning(self, data: Dataset) -> str:
        """The task that a model of this has, once it is trained, as the catalog calls it."""
        ...

    def fitted(self, splits: Splits, changes: Mapping[str, Any], say: Say) -> "Material":
        """The same without what this data cannot have; `changes` are fields of the model's configuration."""
        ...

    def equipped(self, data: Dataset, config: Any) -> "Equipment":
        """What a fresh model needs from the data before it is made, given its configuration so far."""
        ...

    def reads(self, preprocessing: Any) -> Any:
        """How inputs are prepared for the model, with what this says otherwise."""
        ...

    def learning(self, data: Dataset, preprocessing: Any, *, seed: int, rank: int, world: int) -> Batches:
        """Batches to learn from; of several processes each gets its slice."""
        ...

    def judging(self, data: Dataset, preprocessing: Any) -> Batches:
        """Batches to be judged by."""
        ...


@dataclass(frozen=True, kw_only=True)
class Equipment:
    """What a fresh model is given by the data.

    Attributes:
        changes: fields of its configuration.
        card: fields of its card.
    """

    changes: Mapping[str, Any] = field(default_factory=dict)
    card: Mapping[str, Any] = field(default_factory=dict)


class FromPictures:
    """What all pictures have in common, labelled or marked."""

    batch: int
    workers: int

    unit, kinds, example = "picture", "classes", "PICTURE"

    @property
    def at_once(self) -> str:
        return many(self.batch, "picture")

    @property
    def reading(self) -> str:
        return f"{self.workers} reading pictures" if self.workers else "pictures are read in between"

    def equipped(self, data: Dataset, config: Any) -> Equipment:
        """Nothing: pictures are prepared for the model, and not it for them."""
        return Equipment()


@dataclass(frozen=True, kw_only=True)
class Pictures(FromPictures):
    """Labelled pictures.

    Attributes:
        path: what `open_splits` reads.
        batch: pictures at once in one process; a step takes `batch * accumulate` in each.
        balanced: draw every class as often as any other.
        workers: processes that read pictures; any number gives the same bytes.
        augment: how pictures are varied.
        mixing: how pictures of a batch are mixed; `None` leaves them apart.
    """

    path: str
    batch: int = 32
    balanced: bool = False
    workers: int = 0
    augment: Augment = field(default_factory=Augment)
    mixing: Mixing | None = None

    even = True

    def __post_init__(self) -> None:
        check_fields(self)
        check_ranges(self, batch=Range(1), workers=Range(0, MOST_WORKERS, usual="1 to 8; 0 reads pictures in between"))

    def meaning(self, data: Dataset) -> str:
        return data.task

    def fitted(self, splits: Splits, changes: Mapping[str, Any], say: Say) -> "Pictures":
        """The same without RandAugment where pictures are neither grey nor in colour, which it cannot vary.

        Raises:
            ConfigError: the pictures do not give so many channels.
        """
        given = splits.train.channels
        channels = changes.get("channels", given)
        if channels != given and not {channels, given} <= MODES.keys():
            gives = (
                "pictures give 1 (grey), 3 (colour) or 4 (colour and alpha)"
                if given in MODES
                else f"these have {given}"
            )
            raise ConfigError(f"model.channels={channels}, and {gives}. Type --set model.channels={given}.")
        if channels in (1, 3) or self.augment.randaugment is None:
            return self
        say(f"RandAugment is left out: it varies grey and colour pictures, and these have {channels} channels.")
        return replace(self, augment=replace(self.augment, randaugment=None))

    def reads(self, preprocessing: Any) -> Any:
        return preprocessing

    def learning(self, data: Dataset, preprocessing: Any, *, seed: int, rank: int, world: int) -> Loader:
        return Loader(
            data,
            train_transform(preprocessing, self.augment),
            self.batch,
            seed=seed,
            shuffle=True,
            workers=self.workers,
            balanced=self.balanced,
            rank=rank,
            world=world,
            mixing=self.mixing,
        )

    def judging(self, data: Dataset, preprocessing: Any) -> Loader:
        return Loader(data, eval_transform(preprocessing), self.batch, workers=self.workers)


@dataclass(frozen=True, kw_only=True)
class MarkedPictures(FromPictures):
    """Pictures in which objects are marked.

    Attributes:
        path: what `open_splits` reads.
        use: what is made of them: boxes, or segments of all pixels.
        batch: pictures at once in one process; a step takes `batch * accumulate` in each.
        workers: processes that read pictures; any number gives the same bytes.
        shorter, longer: how large a picture is read, pixels of its sides; as the weights were published unless given.
        augment: how pictures are varied.
    """

    path: str
    use: Literal["detect", "panoptic"] = "detect"
    batch: int = 4
    workers: int = 0
    shorter: int | None = None
    longer: int | None = None
    augment: ObjectAugment = field(default_factory=ObjectAugment)

    even = False

    def __post_init__(self) -> None:
        check_fields(self)
        side = Range(16, 8192, usual="256 to 800 for the shorter side and 426 to 1333 for the longer")
        check_ranges(
            self,
            batch=Range(1),
            workers=Range(0, MOST_WORKERS, usual="1 to 8; 0 reads pictures in between"),
            shorter=side,
            longer=side,
        )

    def meaning(self, data: Dataset) -> str:
        return self.use

    def fitted(self, splits: Splits, changes: Mapping[str, Any], say: Say) -> "MarkedPictures":
        """The same. How large pictures are read is said where they are read smaller than they are, or than published.

        Small objects are lost by it, and time is won.
        """
        typical, usual = typical_side(splits.train), Fitted()
        if self.shorter is not None and self.shorter < max(typical, usual.shorter):
            say(
                f"The shorter side of the pictures is about {typical} pixels; they are read at {self.shorter}; "
                f"published: {usual.shorter} (--set data.shorter={usual.shorter} --set data.longer={usual.longer})."
            )
        return self

    def reads(self, preprocessing: Any) -> Any:
        """At the size that this says."""
        sides = {"shorter": self.shorter, "longer": self.longer}
        return replace(preprocessing, **{name: side for name, side in sides.items() if side is not None})

    def learning(self, data: Dataset, preprocessing: Any, *, seed: int, rank: int, world: int) -> Loader:
        return Loader(
            self.seen(data),
            ObjectTransform(preprocessing, self.augment),
            self.batch,
            seed=seed,
            shuffle=True,
            workers=self.workers,
            rank=rank,
            world=world,
            assemble=MarkedBatches(preprocessing, judging=False),
        )

    def judging(self, data: Dataset, preprocessing: Any) -> Loader:
        transform, assemble = ObjectTransform(preprocessing, None), MarkedBatches(preprocessing, judging=True)
        return Loader(self.seen(data), transform, self.batch, workers=self.workers, assemble=assemble)

    def seen(self, data: Dataset) -> Dataset:
        """The data with no more than is learned from: masks take longer to draw than a picture to read."""
        return without_masks(data) if self.use == "detect" else data


def translating(preprocessing: TextPreprocessing) -> Generation:
    """How translations are written: four beams, with the length penalty of Wu et al. 2016 as the paper sets it."""
    assert preprocessing.start_token is not None
    assert preprocessing.end_token is not None
    return Generation(
        start=preprocessing.id_of(preprocessing.start_token),
        end=(preprocessing.id_of(preprocessing.end_token),),
        padding=preprocessing.pad_id,
        beams=4,
        length_penalty=0.6,
        penalty="gnmt",
        max_tokens=min(200, preprocessing.max_tokens),
    )


def going_on(preprocessing: TextPreprocessing) -> Generation:
    """How texts go on: drawn, as the likeliest words soon repeat themselves."""
    assert preprocessing.end_token is not None
    end = preprocessing.id_of(preprocessing.end_token)
    return Generation(
        end=(end,), padding=end, sample=True, temperature=0.8, top_p=0.95, max_tokens=100,
        max_length=preprocessing.max_tokens,
    )  # fmt: skip


WRITE: dict[str, Callable[[TextPreprocessing], Generation]] = {"translate": translating, "causal-lm": going_on}


class Use(NamedTuple):
    """What can be made of texts.

    Attributes:
        prepared: makes batches of them.
        learn: learns pieces from them.
        unit: what one sample is called.
        data: what they must be for, as their reader says.
    """

    prepared: Callable[..., Prepared]
    learn: Callable[..., TextPreprocessing]
    unit: str
    data: str


cased_pieces = partial(train_word_pieces, lower_case=False)  # capitals tell names
USES: dict[str, Use] = {
    "translate": Use(Translation, train_joint, "sentence pair", "translate"),
    "translate-parallel": Use(Translation, train_joint, "sentence pair", "translate"),
    "causal-lm": Use(Causal, train_byte_pairs, "passage", "language"),
    "masked-lm": Use(Masked, train_word_pieces, "passage", "language"),
    "classify": Use(Classification, train_word_pieces, "text", "classify-text"),
    "tag": Use(Tagging, cased_pieces, "sentence", "tag"),
    "answer": Use(Questions, train_word_pieces, "question", "answer"),
}
RUNNING = tuple(name for name, use in USES.items() if use.data == "language")
TRANSLATING = tuple(name for name, use in USES.items() if use.data == "translate")


@dataclass(frozen=True, kw_only=True)
class Texts:
    """Texts, cut into pieces and put side by side with others of about their length.

    Attributes:
        path: what `open_splits` reads.
        use: what is made of them: a name out of `USES`.
        batch: rows at once in one process at most; a step takes `batch * accumulate` in each.
        tokens: in a batch at most, with padding; in translation those of the longer side.
        length: tokens in a row of running text; all that the model reads unless given.
        vocabulary: pieces that a fresh model learns to read by, fewer where the text is small.
        uncased: the share of sentences to translate that lose their capitals while a model learns, so that it also
            understands people who type none.
        workers: nothing is read by other processes: putting a batch together costs less than sending it.
    """

    path: str
    use: Literal["translate", "translate-parallel", "causal-lm", "masked-lm", "classify", "tag", "answer"]
    batch: int = 64
    tokens: int = 4096
    length: int | None = None
    vocabulary: int = 8000
    uncased: float = 0.0
    workers: int = 0

    even = False

    def __post_init__(self) -> None:
        check_fields(self)
        check_ranges(
            self,
            batch=Range(1),
            tokens=Range(1, usual="1000 to 25000"),
            length=Range(2, usual="128 to 1024, or none for all that the model reads"),
            vocabulary=Range(300, 2**20, usual="4000 to 37000"),
            uncased=Range(0, 1, usual="0 to 0.3"),
            workers=Range(0, MOST_WORKERS),
        )
        for name, uses in (("length", RUNNING), ("uncased", TRANSLATING)):
            if getattr(self, name) and self.use not in uses:
                raise ConfigError(
                    f"data.{name}={getattr(self, name)} has no meaning for {self.use!r}, only for "
                    f"{' and '.join(map(repr, uses))}. Leave it out."
                )

    @property
    def unit(self) -> str:
        return USES[self.use].unit

    @property
    def example(self) -> str:
        said = {"answer": "'QUESTION' --context 'TEXT'", "masked-lm": "'TEXT WITH [MASK]'"}
        return said.get(self.use, "'TEXT'")

    @property
    def reading(self) -> str:
        return "batches are put together in between"

    @property
    def kinds(self) -> str:
        return "languages" if self.use in TRANSLATING else "classes"

    def meaning(self, data: Dataset) -> str:
        return self.use

    @property
    def at_once(self) -> str:
        return f"up to {many(self.batch, 'row')} or {self.tokens:,} tokens"

    def fitted(self, splits: Splits, changes: Mapping[str, Any], say: Say) -> "Texts":
        """The same.

        Raises:
            ConfigError: the data is for another use.
        """
        if splits.train.task != USES[self.use].data:
            raise ConfigError(
                f"data.use={self.use} learns from data for {USES[self.use].data!r}, and this is for "
                f"{splits.train.task!r}. Give other data, or a recipe for this."
            )
        return self

    def equipped(self, data: Dataset, config: Any) -> Equipment:
        """Pieces learned from the texts, and room in the model for as many as there are."""
        learn = USES[self.use].learn
        texts = [text for index in range(len(data)) for text in data[index].texts]
        if self.uncased:
            texts += [data[index].source.lower() for index in range(len(data))]
        preprocessing = learn(texts, size=self.vocabulary, max_tokens=config.max_tokens)
        sizes = {one.name: preprocessing.size for one in fields(config) if one.name.endswith("vocabulary")}
        card: dict[str, Any] = {"preprocessing": preprocessing}
        if self.use in WRITE:
            card["generation"] = WRITE[self.use](preprocessing)
        return Equipment(changes=sizes, card=card)

    def reads(self, preprocessing: Any) -> Any:
        return preprocessing

    def prepared(self, data: Dataset, preprocessing: TextPreprocessing, *, learning: bool) -> Prepared:
        """What batches are made of."""
        more: dict[str, Any] = {} if self.length is None else {"length": self.length}
        if self.use == "causal-lm":
            more["shift"] = learning  # blocks begin elsewhere in each epoch
        if self.uncased and learning:
            more["uncased"] = self.uncased
        return USES[self.use].prepared(data, preprocessing, **more)

    def learning(self, data: Dataset, preprocessing: Any, *, seed: int, rank: int, world: int) -> TextLoader:
        prepared = self.prepared(data, preprocessing, learning=True)
        return TextLoader(
            prepared, self.tokens, most=self.batch, seed=seed, shuffle=True, drop_last=world > 1, rank=rank, world=world
        )

    def judging(self, data: Dataset, preprocessing: Any) -> TextLoader:
        return TextLoader(self.prepared(data, preprocessing, learning=False), self.tokens, most=self.batch)
