"""What a panoptic model says about one picture, as a person reads it: every pixel is of one segment, or of none."""

from collections import Counter
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from vitrail.samples import Truth
from vitrail.tasks.panoptic_quality import Compared, Marked, compared


class Segment(NamedTuple):
    """One segment of a picture.

    Attributes:
        number: by which its pixels are marked; more than 0.
        label: its class, as a place among the classes.
        score: how much the model believes in it, 0 to 1.
    """

    number: int
    label: int
    score: float = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class Segmented:
    """The segments of one picture.

    Attributes:
        numbers: of which segment each pixel of the file is; 0 where of none.
        segments: those that have a pixel.
        classes: all that there are, by name.
        things: which of them are countable things; the others are stuff, like grass and sky.
        class_ids: by what numbers the data set calls the classes; their places where it has none.
    """

    numbers: Int[Tensor, "rows columns"]
    segments: tuple[Segment, ...]
    classes: tuple[str, ...]
    things: tuple[bool, ...]
    class_ids: tuple[int, ...] = ()

    def __repr__(self) -> str:
        return f"<Segmented: {self.summary()}>"

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns."""
        rows, columns = self.numbers.shape
        return rows, columns

    @property
    def areas(self) -> list[int]:
        """Pixels of each segment."""
        counts = dict(zip(*(column.tolist() for column in torch.unique(self.numbers, return_counts=True)), strict=True))
        return [counts.get(segment.number, 0) for segment in self.segments]

    @property
    def marked(self) -> Marked:
        """The same as scores count it; an answer holds no crowds."""
        segments, labels = (np.array([one[place] for one in self.segments], int) for place in (0, 1))
        areas = np.array(self.areas, float)
        return Marked(self.numbers.cpu().numpy(), segments, labels, areas, np.zeros(len(labels), bool))

    def record(self, top: int | None = None) -> dict[str, Any]:
        """Ready for JSON: the segments, largest first."""
        pairs = sorted(zip(self.areas, self.segments, strict=True), key=lambda pair: -pair[0])
        segments = [
            {
                "label": self.classes[segment.label],
                "thing": self.things[segment.label],
                "score": segment.score,
                "area": area,
                "number": segment.number,
            }
            for area, segment in pairs[:top]
        ]
        return {"size": self.size, "segments": segments}

    def summary(self, top: int | None = None) -> str:
        """One line: how many there are of each thing, and what stuff."""
        counts = Counter(segment.label for segment in self.segments)
        things = [f"{count} {self.classes[label]}" for label, count in counts.most_common() if self.things[label]]
        stuff = [self.classes[label] for label in counts if not self.things[label]]
        return ", ".join([*things, *stuff][:top]) or "no segments"

    def compared(self, truth: Truth) -> Compared:
        """Which segments are found, wrong and missed."""
        return compared(Marked.of_objects(truth.objects), self.marked)

    def mistake(self, truth: Truth) -> float:
        """How many segments are missed or said for nothing, and what those that are found lack of the true ones."""
        found = self.compared(truth)
        return float(found.missed.sum() + found.wrong.sum() + (1 - found.overlaps).sum())
