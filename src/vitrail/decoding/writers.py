"""What decoding needs of a model, and how the two kinds of model give it.

Decoding knows a model only as a `Writer`: it is told words and says how likely each is to come next. An
encoder-decoder writes a `Translation`, a decoder alone a `Continuation`. Both keep keys and values of what has been
written, so that each step costs one word.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vitrail.core.cache import DecoderCache, KeyValueCache
from vitrail.core.shortlist import ANSWERED_BY, Judge, Listed

NOTHING = -1  # stands in what has been written where there is padding: no word has this number


class Wanted(NamedTuple):
    """Of which words the logits are wanted, where not of all: the others may have less than they should.

    Attributes:
        count: the likeliest ones of each row, so many;
        judge: after this has been done to logits, which may lower some, or put numbers of its own in their place.
    """

    count: int
    judge: Judge


@runtime_checkable
class Writer(Protocol):
    """Sentences being written side by side, one to a row."""

    def step(self, ids: Int[Tensor, "batch new"]) -> Float[Tensor, "batch vocabulary"]:
        """Write these words after those that are there; logits of the word that comes next.

        `NOTHING` stands where there is padding, and where a sentence is over while others go on.
        """
        ...

    def reorder(self, rows: Int[Tensor, "samples"]) -> None:
        """Let each row go on from another: row `n` from what was row `rows[n]`. There may be more rows or fewer."""
        ...


@runtime_checkable
class Selective(Writer, Protocol):
    """A writer that is quicker where not all words are wanted."""

    def likeliest(self, ids: Int[Tensor, "batch new"], wanted: Wanted) -> Float[Tensor, "batch new vocabulary"]:
        """Write these words after those that are there; logits of what comes after each, right for those wanted."""
        ...


@runtime_checkable
class Reviser(Writer, Protocol):
    """A writer that says what follows each of several words, and can take back the last ones."""

    def steps(self, ids: Int[Tensor, "batch new"]) -> Float[Tensor, "batch new vocabulary"]:
        """Write these words after those that are there; logits of what comes after each of them."""
        ...

    def forget(self, count: int) -> None:
        """Take back the last words, so many of each row."""
        ...


def likeliest(model: Any, x: Float[Tensor, "*batch dim"], wanted: Wanted) -> Float[Tensor, "*batch vocabulary"]:
    """What the model's `next` answers, as far as it is wanted."""
    layer = getattr(model, getattr(model.next, ANSWERED_BY, ""), None)
    return layer.likeliest(x, *wanted) if isinstance(layer, Listed) else model.next(x)


class ModelWriter(ABC):
    """What the two writers share: a model reads the newest words, and its `next` says what follows them."""

    model: Any

    @abstractmethod
    def read(self, ids: Int[Tensor, "batch new"]) -> Float[Tensor, "batch new dim"]:
        """What the decoder makes of the newest words, of which it keeps keys and values."""

    def step(self, ids: Int[Tensor, "batch new"]) -> Float[Tensor, "batch vocabulary"]:
        return self.model.next(self.read(ids)[:, -1])

    def steps(self, ids: Int[Tensor, "batch new"]) -> Float[Tensor, "batch new vocabulary"]:
        return self.model.next(self.read(ids))

    def likeliest(self, ids: Int[Tensor, "batch new"], wanted: Wanted) -> Float[Tensor, "batch new vocabulary"]:
        return likeliest(self.model, self.read(ids), wanted)


class Translation(ModelWriter):
    """Sentences written by a decoder that looks at what its encoder has understood of others.

    Args:
        model: has `encode`, `decode`, `next` and `cache` as `models.transformer.Transformer` has them.
        source: the sentences that are read.
        source_valid: `True` where a word of them is real and not padding.
        capacity: how many words may be written at most.
    """

    def __init__(
        self,
        model: Any,
        source: Int[Tensor, "batch source"],
        source_valid: Bool[Tensor, "batch source"] | None,
        capacity: int,
    ) -> None:
        self.model, self.valid = model, source_valid
        self.memory: Tensor = model.encode(source, source_valid)
        self.past: Sequence[DecoderCache] = model.cache(source.shape[0], capacity, source.shape[1])
        self.sentences = torch.arange(source.shape[0], device=source.device)  # which of them each row translates

    def read(self, ids: Int[Tensor, "batch new"]) -> Float[Tensor, "batch new dim"]:
        return self.model.decode(ids.clamp(min=0), self.memory, self.valid, None, self.past)

    def forget(self, count: int) -> None:
        for block in self.past:
            block.tokens.forget(count)

    def reorder(self, rows: Int[Tensor, "samples"]) -> None:
        sentences = self.sentences[rows]
        moved = not torch.equal(sentences, self.sentences)  # beams of one sentence look at one memory
        for block in self.past:
            block.tokens.reorder(rows)
            if moved:
                block.memory.reorder(rows)
        if moved:
            self.memory, self.sentences = self.memory[rows], sentences
            self.valid = None if self.valid is None else self.valid[rows]


class Continuation(ModelWriter):
    """Texts that a decoder goes on with.

    Args:
        model: has `encode`, `next` and `cache` as `models.gpt.GPT` has them.
        valid: `True` where a word of the prompts is real; padding must stand before them (`aligned`).
        rows: how many texts.
        capacity: how many words there may be at most, the prompts and their padding included.
    """

    def __init__(self, model: Any, valid: Bool[Tensor, "batch tokens"] | None, rows: int, capacity: int) -> None:
        self.model, self.valid = model, valid
        self.past: Sequence[KeyValueCache] = model.cache(rows, capacity)

    def read(self, ids: Int[Tensor, "batch new"]) -> Float[Tensor, "batch new dim"]:
        if self.valid is not None:
            told = self.valid.shape[1] - self.past[0].length  # of the prompts, at the first step
            self.valid = torch.cat([self.valid, ids[:, told:] != NOTHING], dim=1)
        return self.model.encode(ids.clamp(min=0), self.valid, self.past)

    def forget(self, count: int) -> None:
        for kept in self.past:
            kept.forget(count)
        if self.valid is not None:
            self.valid = self.valid[:, : self.past[0].length]

    def reorder(self, rows: Int[Tensor, "samples"]) -> None:
        for kept in self.past:
            kept.reorder(rows)
        self.valid = None if self.valid is None else self.valid[rows]


def aligned(
    ids: Int[Tensor, "batch tokens"], valid: Bool[Tensor, "batch tokens"]
) -> tuple[Int[Tensor, "batch tokens"], Bool[Tensor, "batch tokens"]]:
    """The same texts with all padding before them, wherever it stood, so that the next word follows the last one."""
    order = valid.to(torch.uint8).argsort(dim=1, stable=True)
    return ids.gather(1, order), valid.gather(1, order)
