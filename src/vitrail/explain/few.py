"""A few of the samples of a data set, spread evenly over it, by which a model is examined many times."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from vitrail.data.dataset import Dataset, Subset
from vitrail.data.material import Batches, MarkedPictures, Pictures, Texts
from vitrail.data.text.batches import TextLoader
from vitrail.data.text.prepared import Prepared
from vitrail.preprocessing import PicturePreprocessing
from vitrail.samples import Batch
from vitrail.tokenizing import TextPreprocessing

FEW = 64  # pictures or texts
PIECES = 8192  # that the texts have together at most, however long they are


def spread(count: int, most: int) -> list[int]:
    """So many places of a data set at most, evenly over all of it, as classes often stand in order."""
    return list(range(0, count, max(count // most, 1)))[:most]


def spread_texts(lengths: Int[np.ndarray, " samples"], most: int = FEW, pieces: int = PIECES) -> list[int]:
    """The same, and so few that they have no more pieces together than that, but one at least."""
    chosen = spread(len(lengths), most)
    while len(chosen) > 1 and (total := int(lengths[chosen].sum())) > pieces:
        most = max(1, min(len(chosen) - 1, len(chosen) * pieces // total))
        chosen = spread(len(lengths), most)
    return chosen


@dataclass(frozen=True)
class Some:
    """Some of the texts that are prepared, in the order of `indices`."""

    whole: Prepared
    indices: Int[np.ndarray, " samples"]

    @property
    def lengths(self) -> Int[np.ndarray, " samples"]:
        return self.whole.lengths[self.indices]

    @property
    def lost(self) -> str:
        return self.whole.lost

    def batch(self, indices: Int[np.ndarray, " batch"], seed: int, epoch: int) -> Batch:
        return self.whole.batch(self.indices[indices], seed, epoch)

    def describe(self, index: int) -> str:
        return self.whole.describe(int(self.indices[index]))


def few(
    material: Pictures | MarkedPictures | Texts,
    dataset: Dataset,
    preprocessing: PicturePreprocessing | TextPreprocessing,
) -> Batches:
    """Batches of at most 64 pictures, or of at most 64 texts of 8192 pieces together.

    Args:
        material: makes batches of the data.
        dataset: the data; running text is cut into blocks before some of these are taken.
        preprocessing: how the model reads it.

    Raises:
        DataError: there are none, or they are not of the kind that the model reads.
    """
    if isinstance(preprocessing, TextPreprocessing) and isinstance(material, Texts):
        prepared = material.prepared(dataset, preprocessing, learning=False)
        some = Some(prepared, np.array(spread_texts(prepared.lengths), dtype=np.int64))
        return TextLoader(some, material.tokens, most=material.batch)
    return material.judging(Subset(dataset, spread(len(dataset), FEW)), preprocessing)
