"""Texts in numbers: what batches are made of, in any order, at any time.

Texts are cut into pieces once, when they are prepared; a batch is then put together in a thousandth of a second, which
is less than it would cost to have it sent by another process.
"""

from collections.abc import Iterable, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from vitrail.data.dataset import Dataset
from vitrail.data.text.dataset import Labelled, Pair, Passage, Question, Tagged
from vitrail.errors import DataError
from vitrail.samples import Batch, Words
from vitrail.tokenizing import TextPreprocessing

IN_WORDS = {
    Pair: "pairs of sentences",
    Passage: "running text",
    Labelled: "texts with labels",
    Tagged: "words with tags",
    Question: "questions about texts",
}
IGNORED = -100  # a target that is not asked for; what torch's cross-entropy leaves out by itself


class Ragged:
    """Rows of numbers of different lengths, end to end: a fifth of the memory of lists."""

    def __init__(self, rows: Iterable[Sequence[int]]) -> None:
        kept = [np.asarray(row, dtype=np.int32) for row in rows]
        self.lengths = np.array([len(row) for row in kept], dtype=np.int64)
        self.starts = np.concatenate([np.zeros(1, dtype=np.int64), self.lengths.cumsum()])
        self.values = np.concatenate(kept) if kept else np.zeros(0, dtype=np.int32)

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, index: int) -> np.ndarray:
        return self.values[self.starts[index] : self.starts[index + 1]]

    def at(self, indices: Int[np.ndarray, " batch"]) -> list[np.ndarray]:
        """Some of the rows."""
        return [self[index] for index in indices.tolist()]


@runtime_checkable
class Prepared(Protocol):
    """What batches are made of."""

    @property
    def lengths(self) -> Int[np.ndarray, " samples"]:
        """How many tokens each item takes in a batch: of several rows that belong together, the longest."""
        ...

    @property
    def lost(self) -> str:
        """A sentence about texts that are too long to be read as a whole; empty where there are none."""
        ...

    def batch(self, indices: Int[np.ndarray, " batch"], seed: int, epoch: int) -> Batch:
        """Some items side by side; what chance does to them depends on nothing but the numbers."""
        ...

    def describe(self, index: int) -> str:
        """What to call an item in front of a person."""
        ...


def of_kind(texts: Dataset, kind: type, use: str) -> list:
    """The samples, if they are of the kind that a use wants.

    Raises:
        DataError: they are not.
    """
    samples = [texts[index] for index in range(len(texts))]
    if not all(isinstance(sample, kind) for sample in samples):
        there = IN_WORDS.get(type(samples[0]), "something else")
        raise DataError(f"The data are {there}, and {use} needs {IN_WORDS[kind]}. Name {IN_WORDS[kind]}.")
    return samples


def filled(rows: Sequence[np.ndarray], width: int, value: int, left: bool = False) -> Int[Tensor, "batch tokens"]:
    """Rows filled up to one width."""
    table = np.full((len(rows), width), value, dtype=np.int64)
    for place, row in enumerate(rows):
        table[place, slice(width - len(row), None) if left else slice(len(row))] = row
    return torch.from_numpy(table)


def words_of(
    rows: Sequence[np.ndarray], preprocessing: TextPreprocessing, segments: Sequence[np.ndarray] | None = None
) -> Words:
    """Rows of ids side by side, as a model reads them."""
    width, left = max(map(len, rows), default=0), preprocessing.padding == "left"
    ids = filled(rows, width, preprocessing.pad_id, left)
    valid = filled([np.ones(len(row)) for row in rows], width, 0, left).bool()
    if not preprocessing.segments:
        return Words(ids, valid)
    sides = torch.zeros_like(ids) if segments is None else filled(segments, width, 0, left)
    return Words(ids, valid, sides)


def index_of(indices: np.ndarray) -> Int[Tensor, " batch"]:
    return torch.from_numpy(np.asarray(indices, dtype=np.int64))
