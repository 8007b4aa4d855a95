"""A text becomes what a model reads, and comes back.

The tokenizer is part of a model: other pieces, or the same under other numbers, and the weights mean nothing. So each
text model carries its own in its card, as the content of a `tokenizer.json`.
Compared with transformers in tests/parity/test_tokenizers.py.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

from vitrail.errors import ConfigError, many, unknown
from vitrail.fields import Range, check_fields, check_ranges
from vitrail.samples import Words
from vitrail.tokenizing.bounds import check_text
from vitrail.tokenizing.engines import Encoded, Engine, engine_of

MOST_TOKENS = 1 << 20  # that a model could say it reads
SPACES = " ▁"  # in a piece; sentencepiece writes a space so
PROBE = "a"  # a text by which is seen what a tokenizer puts around texts
BETWEEN = "\t"  # two texts that are typed in one


def joined(texts: Iterable[str]) -> str:
    """Texts that are read together, as they are typed: with a tab between them, and none in them."""
    return BETWEEN.join(text.replace(BETWEEN, " ") for text in texts)


class Frame(NamedTuple):
    """Pieces that a tokenizer puts before, between or behind texts.

    Attributes:
        ids: of these pieces.
        segments: to which of two texts each is said to belong.
        inside: to which those of the text before them are.
    """

    ids: tuple[int, ...]
    segments: tuple[int, ...]
    inside: int


def framed(encoded: Encoded, length: int) -> tuple[Frame, ...]:
    """What stands before, between and behind texts of so many pieces each.

    Raises:
        ConfigError: the texts left no piece to see it by.
    """
    places = [place for place, added in enumerate(encoded.added) if not added]
    if not length or not places or len(places) % length:
        raise ConfigError(f"This tokenizer does not say what stands around a text: it makes nothing of {PROBE!r}.")
    texts = [places[first : first + length] for first in range(0, len(places), length)]
    starts = [0, *(text[-1] + 1 for text in texts)]
    stops = [*(text[0] for text in texts), len(encoded.ids)]
    inside = [0, *(encoded.segments[text[0]] for text in texts)]
    return tuple(
        Frame(tuple(encoded.ids[start:stop]), tuple(encoded.segments[start:stop]), segment)
        for start, stop, segment in zip(starts, stops, inside, strict=True)
    )


@dataclass(frozen=True, kw_only=True)
class TextPreprocessing:
    """How a text becomes what a model reads.

    Attributes:
        tokenizer: the content of a tokenizer.json; empty where the model came without one.
        max_tokens: how many the model reads at once, with those that the tokenizer puts around a text.
        overflow: what becomes of a longer text: it is refused with a sentence, or it is cut.
        padding: on which side shorter texts of a batch are filled up.
        segments: whether the model wants to know which of two texts a token is of.
        pad_token, unknown_token, start_token, end_token, mask_token, class_token, separator_token: the special tokens
            that this tokenizer has, as it spells them; `None` for those that it has not. Without a `pad_token`,
            places that are not `valid` hold the number 0. Marian's translations start with the `pad_token`.

    Raises:
        ConfigError: a field that makes no sense.
    """

    tokenizer: str = ""
    max_tokens: int = 512
    overflow: Literal["refuse", "cut"] = "refuse"
    padding: Literal["right", "left"] = "right"
    segments: bool = False
    pad_token: str | None = None
    unknown_token: str | None = None
    start_token: str | None = None
    end_token: str | None = None
    mask_token: str | None = None
    class_token: str | None = None
    separator_token: str | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        check_ranges(self, max_tokens=Range(1, MOST_TOKENS, usual="512"))

    @property
    def engine(self) -> Engine:
        """What does the work, made on first use.

        Raises:
            ConfigError: there is no tokenizer.
            CheckpointError: it cannot be used.
        """
        return engine_of(self.tokenizer)

    @cached_property
    def vocabulary(self) -> dict[str, int]:
        """The number of every piece."""
        return self.engine.vocabulary()

    @cached_property
    def pieces(self) -> dict[int, str]:
        """The piece of every number."""
        return {number: piece for piece, number in self.vocabulary.items()}

    @property
    def size(self) -> int:
        """How many rows a table of word embeddings needs: the largest number and one."""
        return 1 + max(self.vocabulary.values(), default=-1)

    def id_of(self, token: str) -> int:
        """The number of a piece, such as `[MASK]`.

        Raises:
            ConfigError: there is no such piece.
        """
        number = self.vocabulary.get(token)
        if number is None:
            special = [name for name in self.special if name in self.vocabulary]
            raise ConfigError(unknown("piece in this vocabulary", token, special or sorted(self.vocabulary)[:20]))
        return number

    @property
    def special(self) -> list[str]:
        """The special tokens that this tokenizer has, as it spells them."""
        fields = (
            self.pad_token, self.unknown_token, self.start_token, self.end_token, self.mask_token, self.class_token,
            self.separator_token,
        )  # fmt: skip
        return list(dict.fromkeys(token for token in fields if token is not None))

    @property
    def special_ids(self) -> list[int]:
        """Their numbers."""
        return [self.vocabulary[token] for token in self.special if token in self.vocabulary]

    @property
    def pad_id(self) -> int:
        """What stands where there is nothing."""
        return 0 if self.pad_token is None else self.id_of(self.pad_token)

    def encode(self, text: str, pair: str | None = None, *, target: bool = False, name: str = "The text") -> Encoded:
        """One text, or two side by side, in pieces.

        Args:
            text, pair: what to read.
            target: whether it is a translation, which some tokenizers cut by rules of its language.
            name: what to call the text in an error.

        Raises:
            ConfigError: it is longer than the model reads, unless `overflow` is `cut`, or is not text.
        """
        check_text(text, name)
        if pair is not None:
            check_text(pair, name)
        encoded = self.engine.encode(text, pair, self.max_tokens if self.overflow == "cut" else None, target)
        if len(encoded.ids) > self.max_tokens:
            raise ConfigError(
                f"{name} has {len(encoded.ids):,} tokens, and this model reads {self.max_tokens:,} at once: "
                f"{text[:40]!r} ... Shorten it, or cut it into parts. From Python, "
                "preprocessing={'overflow': 'cut'} has its end left out."
            )
        return encoded

    def encode_all(self, texts: Sequence[str], *, target: bool = False, around: bool = True) -> list[list[int]]:
        """The ids of many texts, however long: for data sets.

        Args:
            texts: what to read.
            target: whether they are translations.
            around: whether with what the tokenizer puts around a text.

        Raises:
            ConfigError: one is far too long, or is not text.
        """
        for number, text in enumerate(texts):
            check_text(text, f"Text {number:,}")
        return self.engine.batch(texts, target, around)

    def knows_nothing_of(self, text: str) -> bool:
        """Whether nothing of a text is in the vocabulary: the model reads the unknown token alone.

        Raises:
            ConfigError: it is far too long, or is not text.
        """
        if self.unknown_token not in self.vocabulary:
            return False
        [ids] = self.encode_all([text], around=False)
        read = {piece for piece in self.tokens(ids) if piece.strip(SPACES)}
        return read == {self.unknown_token}

    def spell(self, words: Sequence[str]) -> list[list[int]]:
        """The ids of each of some words of a sentence, with nothing around them.

        Raises:
            ConfigError: one is far too long, or is not text.
        """
        for word in words:
            check_text(word, "A word")
        return self.engine.spell(words)

    @cached_property
    def frames(self) -> tuple[Frame, ...]:
        """What this tokenizer puts before, between and behind two texts."""
        return framed(self.engine.encode(PROBE, PROBE, None, False), len(self.spell([PROBE])[0]))

    @cached_property
    def frame(self) -> tuple[Frame, ...]:
        """What it puts before and behind one text."""
        return framed(self.engine.encode(PROBE, None, None, False), len(self.spell([PROBE])[0]))

    def wrap(self, first: Sequence[int], second: Sequence[int] | None = None) -> tuple[list[int], list[int]]:
        """Ids with what the tokenizer puts around a text, or around two, and to which of the two each belongs.

        Raises:
            ConfigError: the tokenizer reads one text at a time.
        """
        frames = self.frame if second is None else self.frames
        ids, segments = list(frames[0].ids), list(frames[0].segments)
        for inside, after in zip([first] if second is None else [first, second], frames[1:], strict=True):
            ids += [*inside, *after.ids]
            segments += [after.inside] * len(inside) + list(after.segments)
        return ids, segments

    def __call__(
        self, texts: Sequence[str], pairs: Sequence[str | None] | None = None, *, target: bool = False
    ) -> Words:
        """Texts side by side, as a model reads them.

        Args:
            texts: any number of them.
            pairs: what goes with each of them, for models that read two.
            target: whether they are translations.

        Raises:
            ConfigError: a text that is too long, or one of which no token is left.
        """
        if isinstance(texts, str):
            raise ConfigError("texts is one text. Give a list of texts: [text].")
        if pairs is not None and len(pairs) != len(texts):
            raise ConfigError(f"{many(len(texts), 'text')} and {many(len(pairs), 'pair')}: there must be one for each.")
        seconds = [None] * len(texts) if pairs is None else pairs
        encoded = []
        for number, (text, pair) in enumerate(zip(texts, seconds, strict=True), start=1):
            name = "The text" if len(texts) == 1 else f"Text {number}"
            one = self.encode(text, pair, target=target, name=name)
            if not one.ids:
                raise ConfigError(f"{name} is {text[:40]!r}, which gives the model no token to read. Write something.")
            encoded.append(one)
        return self.side_by_side([one.ids for one in encoded], [one.segments for one in encoded])

    def side_by_side(self, ids: Sequence[Sequence[int]], segments: Sequence[Sequence[int]] | None = None) -> Words:
        """Rows of different lengths, filled up to the longest."""
        longest = max(map(len, ids), default=0)
        table = torch.full((len(ids), longest), self.pad_id)
        valid = torch.zeros(len(ids), longest, dtype=torch.bool)
        sides = torch.zeros_like(table)
        for row, numbers in enumerate(ids):
            place = slice(longest - len(numbers), None) if self.padding == "left" else slice(len(numbers))
            table[row, place] = torch.tensor(numbers, dtype=torch.int64)
            valid[row, place] = True
            if segments is not None:
                sides[row, place] = torch.tensor(segments[row], dtype=torch.int64)
        return Words(table, valid, sides if self.segments else None)

    def known(self, ids: Sequence[int] | Int[Tensor, " tokens"]) -> list[int]:
        """The same ids as numbers, all of which stand for a piece."""
        numbers = ids.tolist() if isinstance(ids, Tensor) else list(ids)
        foreign = next((number for number in numbers if number not in self.pieces), None)
        if foreign is not None:
            raise ConfigError(f"{foreign} is no id of this vocabulary, which has {self.size:,} of them.")
        return numbers

    def decode(self, ids: Sequence[int] | Int[Tensor, " tokens"], *, special: bool = False) -> str:
        """The text that some ids stand for.

        Args:
            ids: of one text.
            special: whether special tokens are written too.

        Raises:
            ConfigError: a number that is not in the vocabulary.
        """
        return self.engine.decode(self.known(ids), special)

    def tokens(self, ids: Sequence[int] | Int[Tensor, " tokens"]) -> list[str]:
        """The pieces that some ids stand for, as the vocabulary spells them.

        Raises:
            ConfigError: a number that is not in the vocabulary.
        """
        return [self.pieces[number] for number in self.known(ids)]
