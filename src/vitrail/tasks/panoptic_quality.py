"""Panoptic quality: how well every pixel of a picture is told, as panopticapi counts it.

A segment is found if it shares more than half with one of its class, of which there can be only one. `sq` is how much
those that are found share (segmentation quality), `rq` how many are found (recognition quality, an F1), and `pq` the
one times the other. All are means over classes: all of them, things, and stuff.

Void, and crowds: pixels that are marked as nothing do not count against a segment that lies on them, and a segment of
which more than half lies there, or on a crowd of its class, is not counted at all. A crowd need not be found. Of
several crowds of a class in one picture, only the last is seen, as in the original.

Source: Kirillov et al., "Panoptic Segmentation", CVPR 2019, section 4.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from vitrail.geometry.panoptic import VOID, numbered
from vitrail.samples import Objects
from vitrail.tasks.scores import UNDEFINED

FOUND = 0.5  # share above which two segments are one; no second can have as much


class Marked(NamedTuple):
    """A picture whose pixels are marked.

    Attributes:
        numbers: of which segment each pixel is; 0 where of none.
        segments, labels: the number and the class of each segment.
        areas: pixels, as the data set says it.
        crowd: which are crowds.
    """

    numbers: Int[np.ndarray, "rows columns"]
    segments: Int[np.ndarray, " segments"]
    labels: Int[np.ndarray, " segments"]
    areas: Float[np.ndarray, " segments"]
    crowd: Bool[np.ndarray, " segments"]

    @classmethod
    def of_objects(cls, objects: Objects) -> "Marked":
        """The truth, of masks that share no pixel."""
        assert objects.masks is not None, "there are no masks to judge by"
        numbers = np.arange(1, len(objects) + 1)
        areas = objects.areas.double().numpy()
        return cls(numbered(objects.masks.numpy()), numbers, objects.labels.numpy(), areas, objects.crowd.numpy())


class Tally(NamedTuple):
    """How often each class was found, said for nothing and missed, and how much those that were found share."""

    shared: Float[np.ndarray, " classes"]
    found: Int[np.ndarray, " classes"]
    wrong: Int[np.ndarray, " classes"]
    missed: Int[np.ndarray, " classes"]

    @classmethod
    def nothing(cls, classes: int) -> "Tally":
        """Before anything is counted."""
        return cls(np.zeros(classes), *(np.zeros(classes, int) for _ in range(3)))

    def plus(self, other: "Tally") -> "Tally":
        """Both together."""
        return Tally(*(ours + theirs for ours, theirs in zip(self, other, strict=True)))

    @property
    def occurring(self) -> Bool[np.ndarray, " classes"]:
        """The classes that are marked or said anywhere."""
        return self.found + self.wrong + self.missed > 0

    def quality(self) -> dict[str, Float[np.ndarray, " classes"]]:
        """`pq`, `sq` and `rq` of each class; 0 where it does not occur, or is never found."""
        whole = np.maximum(self.found + 0.5 * self.wrong + 0.5 * self.missed, 0.5)
        return {"pq": self.shared / whole, "sq": self.shared / np.maximum(self.found, 1), "rq": self.found / whole}

    def means(self, chosen: Bool[np.ndarray, " classes"]) -> dict[str, float]:
        """The mean of each over those of some classes that occur; -1 where none does."""
        counted = chosen & self.occurring
        return {
            name: float(values[counted].sum() / counted.sum()) if counted.any() else UNDEFINED
            for name, values in self.quality().items()
        }


def shared_pixels(truth: Marked, said: Marked) -> Int[np.ndarray, "objects found"]:
    """Pixels that each true segment shares with each that is said; the first row and column are those of none.

    Pixels of segments that nobody lists are in neither.
    """
    rows = np.concatenate([[VOID], truth.segments])
    columns = np.concatenate([[VOID], said.segments])
    table = np.zeros((len(rows), len(columns)), int)
    pairs, counts = np.unique(np.stack([truth.numbers.ravel(), said.numbers.ravel()]), axis=1, return_counts=True)
    places = [{number: place for place, number in enumerate(numbers.tolist())} for numbers in (rows, columns)]
    for (first, second), count in zip(pairs.T.tolist(), counts.tolist(), strict=True):
        if first in places[0] and second in places[1]:
            table[places[0][first], places[1][second]] = count
    return table


class Compared(NamedTuple):
    """What is right and wrong in one picture.

    Attributes:
        pairs: places of the true and of the said segment, of each that is found.
        overlaps: how much the two share.
        missed: of each true segment, whether it is not found; crowds need not be.
        wrong: of each that is said, whether it is said for nothing.
    """

    pairs: Int[np.ndarray, "found 2"]
    overlaps: Float[np.ndarray, " found"]
    missed: Bool[np.ndarray, " segments"]
    wrong: Bool[np.ndarray, " answers"]


def compared(truth: Marked, said: Marked) -> Compared:
    """Find out which segments are the same.

    Args:
        truth: what is marked.
        said: what a model says; no crowds.
    """
    table = shared_pixels(truth, said)
    void, shared = table[0, 1:], table[1:, 1:]
    union = truth.areas[:, None] + said.areas[None] - shared - void[None]
    same = (truth.labels[:, None] == said.labels[None]) & ~truth.crowd[:, None]
    overlap = np.where(same & (shared > 0), shared / np.maximum(union, 1), 0)
    pairs = np.argwhere(overlap > FOUND)

    ignored = void.astype(float)
    crowds = {label: place for place, label in enumerate(truth.labels.tolist()) if truth.crowd[place]}
    for place, label in enumerate(said.labels.tolist()):
        if label in crowds:
            ignored[place] += shared[crowds[label], place]
    missed = ~truth.crowd & ~np.isin(np.arange(len(truth.labels)), pairs[:, 0])
    wrong = ~np.isin(np.arange(len(said.labels)), pairs[:, 1]) & (ignored <= FOUND * said.areas)
    return Compared(pairs, overlap[pairs[:, 0], pairs[:, 1]], missed, wrong)


def compare(truth: Marked, said: Marked, classes: int) -> Tally:
    """Count one picture; arguments as for `compared`, and how many classes there are."""
    pairs, overlaps, missed, wrong = compared(truth, said)
    found = truth.labels[pairs[:, 0]]
    return Tally(
        np.bincount(found, overlaps, classes),
        np.bincount(found, minlength=classes),
        np.bincount(said.labels[wrong], minlength=classes),
        np.bincount(truth.labels[missed], minlength=classes),
    )
