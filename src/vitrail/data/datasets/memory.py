"""Pictures that are in memory already, from Python: learned from as those in files are."""

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from vitrail.data.dataset import Label, classes_of, in_brief
from vitrail.data.images import PictureArray
from vitrail.errors import DataError
from vitrail.pixels import MODES, channels_first
from vitrail.samples import Picture, Sample


def picture_of(pixels: Any) -> Picture:
    """One picture: of a Pillow image, a uint8 array (rows, columns, channels) or tensor (channels, rows, columns).

    Raises:
        DataError: a number of channels that no picture has.
    """
    if isinstance(pixels, Image.Image):
        return PictureArray(pixels)
    whole = channels_first(pixels)
    if whole.shape[0] not in MODES:
        raise DataError(f"A picture in memory has 1, 3 or 4 channels, and this one has {whole.shape[0]}.")
    return PictureArray(whole)


@dataclass(frozen=True, repr=False)
class PicturesInMemory:
    """Pictures, each with the number of its class, or with those of all its classes.

    Attributes:
        pictures: Pillow images, uint8 arrays (rows, columns, channels) or uint8 tensors (channels, rows, columns).
        targets: for each the place of its class in `classes`; where several may hold, a tuple of places.
        classes: their names.
        multi_label: whether a picture may have several classes, or none.
        channels: of what the model reads: 3, or 1 where all pictures are grey, or 4.

    Raises:
        DataError: another number of labels than pictures, or a label that is no place in `classes`.
    """

    pictures: Any  # a list, or an array of all of them
    targets: Any
    classes: tuple[str, ...]
    multi_label: bool = False
    channels: int = 3
    task: str = "classify"

    def __post_init__(self) -> None:
        if len(self.pictures) != len(self.targets):
            raise DataError(
                f"There are {len(self.pictures):,} pictures and {len(self.targets):,} labels: give one for each."
            )
        plain = [tuple(map(int, label)) if isinstance(label, tuple) else int(label) for label in self.targets]
        object.__setattr__(self, "targets", plain)  # they may have been numpy's or torch's
        object.__setattr__(self, "classes", tuple(self.classes))
        outside = {one for label in plain for one in classes_of(label)} - {*range(len(self.classes))}
        if outside:
            raise DataError(
                f"A picture is of class {min(outside)}, and there are classes 0 to {len(self.classes) - 1}: "
                f"{', '.join(self.classes[:8])}."
            )

    def __repr__(self) -> str:
        return in_brief(self)

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> Sample:
        return Sample(picture_of(self.pictures[index]), self.targets[index])

    def labels(self) -> list[Label]:
        return list(self.targets)

    def fingerprint(self, index: int) -> bytes:
        return hashlib.blake2b(np.asarray(picture_of(self.pictures[index]).read()).tobytes(), digest_size=16).digest()
