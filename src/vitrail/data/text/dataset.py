"""What a text data set holds: samples by number, each with a name for errors, and a fingerprint of what is read."""

import hashlib
from collections.abc import Sequence
from dataclasses import astuple, dataclass, field

from vitrail.data.dataset import Label, in_brief
from vitrail.data.datasets.manifest import RowError


@dataclass(frozen=True, slots=True)
class Pair:
    """A sentence and its translation.

    Attributes:
        name: where it stands, for a person.
        source, target: what is read, and what it becomes.
    """

    name: str
    source: str
    target: str

    @property
    def content(self) -> str:
        return self.source

    @property
    def texts(self) -> tuple[str, ...]:
        return self.source, self.target


@dataclass(frozen=True, slots=True)
class Passage:
    """A stretch of running text.

    Attributes:
        name: where it stands, for a person.
        text: whole lines, with their ends.
        document: the number of the document it is of.
        place: the number of the passage in its document; the next one goes on where this one ends.
    """

    name: str
    text: str
    document: int
    place: int

    @property
    def content(self) -> str:
        return self.text

    @property
    def texts(self) -> tuple[str, ...]:
        return (self.text,)


@dataclass(frozen=True, slots=True)
class Labelled:
    """A text, or two, with a label.

    Attributes:
        name: where it stands, for a person.
        text: what is read.
        label: the number of its class, or the numbers of all its classes.
        second: the other text, where two are compared.
    """

    name: str
    text: str
    label: Label
    second: str | None = None

    @property
    def content(self) -> str:
        return self.text if self.second is None else f"{self.text}\0{self.second}"

    @property
    def texts(self) -> tuple[str, ...]:
        return (self.text,) if self.second is None else (self.text, self.second)


@dataclass(frozen=True, slots=True)
class Tagged:
    """A sentence in words, each with a tag.

    Attributes:
        name: where it stands, for a person.
        words: of the sentence.
        tags: the number of each word's tag.
    """

    name: str
    words: tuple[str, ...]
    tags: tuple[int, ...]

    @property
    def content(self) -> str:
        return "\0".join(self.words)

    @property
    def texts(self) -> tuple[str, ...]:
        return (" ".join(self.words),)


@dataclass(frozen=True, slots=True)
class Question:
    """A question whose answer stands in a text.

    Attributes:
        name: where it stands, for a person.
        id: as the file has it; predictions are handed in under it.
        question: what is asked.
        context: the text to look in.
        answers: as people have given them; all are right.
        starts: where each begins in the context, in characters.
    """

    name: str
    id: str
    question: str
    context: str
    answers: tuple[str, ...]
    starts: tuple[int, ...]

    @property
    def content(self) -> str:
        return self.context  # questions about one text never stand on both sides of a split

    @property
    def texts(self) -> tuple[str, ...]:
        return self.question, self.context


TextSample = Pair | Passage | Labelled | Tagged | Question


@dataclass(frozen=True)
class Texts:
    """Samples of one kind.

    Attributes:
        samples: all of them.
        task: what they are for: `translate`, `language`, `classify-text`, `tag` or `answer`.
        classes: what there is to tell apart: the labels, or the tags; of translations, the two languages, the one
            that is read first.
        multi_label: whether a text may have several labels, or none.
        notes: what was guessed or left out, as sentences for the person.
        channels: of a picture, of which there is none.
    """

    samples: Sequence[TextSample]
    task: str
    classes: tuple[str, ...] = ()
    multi_label: bool = False
    notes: tuple[str, ...] = field(default=())
    channels: int = 0

    def __repr__(self) -> str:
        return in_brief(self)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> TextSample:
        return self.samples[index]

    def labels(self) -> list[Label]:
        """The label of every sample; the same for all where there are none."""
        return [sample.label if isinstance(sample, Labelled) else 0 for sample in self.samples]

    def known_by(self, index: int) -> str:
        """All of a sample but where it stands."""
        return repr(astuple(self.samples[index])[1:])

    def fingerprint(self, index: int) -> bytes:
        """Sixteen bytes that are the same wherever the same is read."""
        return hashlib.blake2b(self.samples[index].content.encode(), digest_size=16).digest()


def some(samples: list, where: str, wanted: str) -> list:
    """The same samples, if there are any.

    Raises:
        RowError: there are none.
    """
    if not samples:
        raise RowError("empty", where, f"it is empty: there are no {wanted} in it.")
    return samples
