"""A picture and whatever goes with it, before and after it becomes numbers for a model."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int, UInt8
from PIL import Image
from torch import Tensor
from typing_extensions import Protocol, runtime_checkable  # Python 3.11's own would ask a picture for its size


@runtime_checkable
class Picture(Protocol):
    """Something that can be decoded, and says how large it is before it is.

    A crop can so be drawn first, and only what it needs decoded.
    """

    @property
    def name(self) -> str:
        """How to call it in front of a person: its path, or what it was made from."""
        ...

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns in pixels, as displayed (EXIF orientation applied), from the header alone."""
        ...

    def read(
        self, box: tuple[float, float, float, float] | None = None, least: tuple[int, int] | None = None
    ) -> Image.Image:
        """Decode, as displayed.

        Args:
            box: left, top, right, bottom of the part that is wanted, in displayed pixels.
            least: rows and columns below which the part need not be resolved; a decoder may then give a
                smaller picture of the same part.

        Raises:
            ImageError: it cannot be decoded.
        """
        ...


@runtime_checkable
class Layered(Picture, Protocol):
    """A picture with a number of channels that no picture file has; decoding it gives what can be seen of it."""

    @property
    def pixels(self) -> UInt8[Tensor, "channels rows columns"]:
        """All channels, as displayed."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Objects:
    """The objects that somebody has marked in a picture; there may be none.

    Attributes:
        boxes_xyxy: left, top, right, bottom of each, in pixels of the picture as displayed.
        labels: their classes, as places in the classes of the data set.
        crowd: which are not one object but a crowd of them, which nobody has counted.
        areas: pixels that each covers, as the data set says it; by these COCO tells small from large.
        masks: where each is, of the picture's rows and columns; `None` where only boxes are known.
        ids: by what number the data set calls each.
    """

    boxes_xyxy: Float[Tensor, "objects 4"]
    labels: Int[Tensor, " objects"]
    crowd: Bool[Tensor, " objects"]
    areas: Float[Tensor, " objects"]
    masks: Bool[Tensor, "objects rows columns"] | None = None
    ids: tuple[int, ...] = ()

    def __len__(self) -> int:
        return self.labels.shape[0]

    def only(self, chosen: Bool[Tensor, " objects"]) -> "Objects":
        """Some of them."""
        return Objects(
            self.boxes_xyxy[chosen],
            self.labels[chosen],
            self.crowd[chosen],
            self.areas[chosen],
            None if self.masks is None else self.masks[chosen],
            tuple(number for number, stays in zip(self.ids, chosen.tolist(), strict=False) if stays),
        )


@dataclass(frozen=True, slots=True)
class Sample:
    """What a data set holds at one index.

    Attributes:
        picture: the image, not yet decoded.
        label: its class, or all its classes where there can be several; `None` when unknown.
        extras: whatever else is known, by name (masks of generated scenes).
        objects: what is marked in it, of a data set for detection or segmentation.
        number: by what number the data set calls the picture; `None` where it has none.
    """

    picture: Picture
    label: int | tuple[int, ...] | None = None
    extras: dict[str, Any] | None = None
    objects: Objects | None = None
    number: int | str | None = None

    @property
    def name(self) -> str:
        """How to call it in front of a person."""
        return self.picture.name


class Words(NamedTuple):
    """Sentences side by side, as a text model reads them.

    Attributes:
        ids: the number of each word piece in the tokenizer's vocabulary.
        valid: which of them are of the sentence, and not padding.
        segments: to which of two sentences each belongs, 0 or 1; `None` for families that do not ask.
    """

    ids: Int[Tensor, "batch tokens"]
    valid: Bool[Tensor, "batch tokens"]
    segments: Int[Tensor, "batch tokens"] | None = None

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> "Words":
        """The same sentences on another device."""
        return Words(
            self.ids.to(device, non_blocking=non_blocking),
            self.valid.to(device, non_blocking=non_blocking),
            None if self.segments is None else self.segments.to(device, non_blocking=non_blocking),
        )


class Images(NamedTuple):
    """Pictures of different sizes side by side, each in the upper left corner of the same frame.

    Attributes:
        pixels: zero where there is no picture.
        valid: `True` where there is one.
    """

    pixels: Float[Tensor, "batch channels height width"]
    valid: Bool[Tensor, "batch height width"]

    def to(self, *args: Any, non_blocking: bool = False) -> "Images":
        """The same pictures on another device, or in another precision, as `Tensor.to` has it."""
        pixels = self.pixels.to(*args, non_blocking=non_blocking)
        return Images(pixels, self.valid.to(pixels.device, non_blocking=non_blocking))


class Targets(NamedTuple):
    """What a detector is to find in one picture; crowds are not among it.

    Attributes:
        labels: the class of each object.
        boxes: centre x and y, width and height of each, where the picture is the unit square.
        masks: where each is, of the rows and columns of the picture as the model reads it; `None` where only boxes
            are known.
    """

    labels: Int[Tensor, " objects"]
    boxes: Float[Tensor, "objects 4"]
    masks: Bool[Tensor, "objects rows columns"] | None = None


class AskedPoints(NamedTuple):
    """Points that a detector is asked from in training, besides its own queries.

    Attributes:
        points: across and down in the unit square, one after the other.
        labels: the class that is said to be there.
        sizes: of the groups that they are in, which know nothing of each other.
    """

    points: Float[Tensor, "batch points 2"]
    labels: Int[Tensor, "batch points"]
    sizes: tuple[int, ...]


class Truth(NamedTuple):
    """All that is known of a picture, for whoever judges: in pixels of the file as displayed.

    Attributes:
        objects: what is marked in it, crowds too.
        size: rows and columns of the picture.
        number: by what number the data set calls it, or where it stands there.
    """

    objects: Objects
    size: tuple[int, int]
    number: int | str


class Batch(NamedTuple):
    """What one step of training or evaluation works on.

    Attributes:
        inputs: what the model is called with: pictures as one tensor, `Images` of different sizes, or `Words`.
        target: what the task compares with; classification takes `(batch,)` class numbers or
            `(batch, classes)` shares, detection a tuple of `Targets`.
        index: where each sample stands in its data set, so that an error can name it.
        references: the truth as a person would have it, where the target does not hold it: sentences, or `Truth`;
            of running text, how many characters it is.
    """

    inputs: Any
    target: Any
    index: Int[Tensor, " batch"]
    references: Any = None
