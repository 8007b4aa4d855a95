"""What every explanation is: maps over a picture that can be drawn, and taken on into a notebook as numbers."""

import io
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import UInt8
from torch import Tensor

from vitrail.data.images import PictureArray
from vitrail.explain.curves import Plot
from vitrail.explain.drawing import Caption, Panel, corners, draw
from vitrail.explain.figures import KINDS, check_place, png
from vitrail.geometry.placement import Placement
from vitrail.samples import Picture
from vitrail.writing import write_whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LEAST = (1200, 1200)  # rows and columns to which a picture is decoded for drawing; a page shows no more


class Drawn(ABC):
    """Numbers, and the drawing that shows them; a notebook shows the drawing."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: .figure() draws it, .save(path) keeps the drawing, .arrays() has its numbers>"

    def _repr_png_(self) -> bytes:
        return png(self.figure())

    @abstractmethod
    def figure(self) -> "Figure":
        """The drawing, as a matplotlib figure that belongs to no window."""

    @abstractmethod
    def arrays(self) -> dict[str, np.ndarray]:
        """The numbers behind the drawing, by name."""

    def save(self, path: str | Path) -> Path:
        """Draw it into a picture file, with its numbers in a `.npz` beside; gives the path of the drawing.

        A folder that is not there is made.

        Raises:
            ExplanationError: the path does not end like a picture (.png, .jpg, .webp, .pdf, .svg), or is a folder.
        """
        path = Path(path)
        check_place(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        drawing, numbers = io.BytesIO(), io.BytesIO()
        self.figure().savefig(drawing, format=KINDS[path.suffix.lower()])
        np.savez_compressed(numbers, allow_pickle=False, **self.arrays())
        write_whole(path.with_suffix(".npz"), numbers.getvalue())
        return write_whole(path, drawing.getvalue())


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Explanation(Drawn):
    """Something about one picture, to be drawn over it.

    Attributes:
        picture: what was shown.
        placement: from its pixels, as displayed, to those that the model read.
        answer: what the model says of the picture, to be written on the drawing; empty where nobody has told.
    """

    picture: Picture
    placement: Placement
    answer: str = ""

    @property
    def covered(self) -> Placement:
        """From the pixels of the file to what the maps cover: what the model read, unless they reach beyond it."""
        return self.placement

    @property
    def placed(self) -> dict[str, np.ndarray]:
        """Where the corners of a map lie in the picture as displayed, for its numbers: x, y, going round."""
        return {"corners": corners(self.covered).numpy()}

    @property
    def columns(self) -> int | None:
        """How many panels stand side by side; as looks well where it is not decided."""
        return None

    @abstractmethod
    def panels(self) -> list[Panel]:
        """What is drawn, line by line."""

    @abstractmethod
    def caption(self) -> Caption:
        """What is written on the drawing."""

    def plots(self) -> list[Plot]:
        """What is drawn below that; nothing unless there is something to measure."""
        return []

    def figure(self) -> "Figure":
        """The drawing, as a matplotlib figure that belongs to no window."""
        picture = self.picture.read(least=LEAST)
        return draw(picture, self.covered, self.panels(), self.caption(), self.columns, self.plots())


def visible_channels(pixels: UInt8[Tensor, "channels rows columns"]) -> Picture:
    """The first three channels as colours, or the first as grey: what can be drawn of a picture with any channels."""
    return PictureArray(pixels[: 3 if pixels.shape[0] >= 3 else 1])
