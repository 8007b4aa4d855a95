"""A picture becomes what a model reads, and remembers where its pixels went.

Published weights answer as published only when their pictures are resized, cut and normalised as they were for them.
Libraries differ in small things (whose resampling, which way half a pixel is rounded), so a `Preprocessing` says each
of them, and every model carries its own in its card.
Compared with transformers and with timm's published settings in tests/parity/test_preprocessing.py.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from vitrail.errors import ConfigError, ImageError, many, unknown
from vitrail.geometry.placement import Placement, Size
from vitrail.pixels import MODES, channels_first, to_channels, to_image, to_pixels
from vitrail.samples import Images, Layered, Picture

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
LARGEST = 64_000_000  # pixels after the resize; those of a 1 x 60000 picture would fill 12 GB
AT_ONCE = 4_000_000  # pixels of a batch of whole pictures
LONGEST = 2**16  # pixels along a side, read or resized to


class Prepared(NamedTuple):
    """What a model reads, and the way back.

    Attributes:
        pixels: normalised, of one picture.
        placement: from the pixels of the file, as displayed, to these.
    """

    pixels: Float[Tensor, "channels rows columns"]
    placement: Placement


def resize_with_pillow(image: Image.Image, size: Size, interpolation: str) -> UInt8[Tensor, "channels rows columns"]:
    """Pillow's resize: every pixel that shrinks into one has its share in it."""
    return to_pixels(image.resize((size[1], size[0]), Image.Resampling[interpolation.upper()]))


def resize_with_tensors(image: Image.Image, size: Size, interpolation: str) -> UInt8[Tensor, "channels rows columns"]:
    """torch's resize with antialiasing, as in torchvision on tensors; it differs from Pillow's by a level or so."""
    mode, antialias = ("nearest-exact", False) if interpolation == "nearest" else (interpolation, True)
    return F.interpolate(to_pixels(image)[None], size, mode=mode, antialias=antialias)[0]


RESAMPLERS = {"pillow": resize_with_pillow, "tensor": resize_with_tensors}
INTERPOLATIONS = {
    "pillow": ("nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"),
    "tensor": ("nearest", "bilinear", "bicubic"),
}
FITS = ("squash", "cover", "contain")
MARGINS = ("even", "floor", "zero")


def middle(have: int, want: int, margin: str) -> int:
    """Where the middle `want` of `have` pixels begins; below zero where there are too few.

    An odd number of pixels cannot be left out in equal parts. `floor` rounds down (transformers on Pillow), `zero`
    towards zero (transformers on tensors), `even` to the even number, and a border towards zero (torchvision, timm).
    """
    spare = have - want
    if margin == "floor":
        return spare // 2
    return round(spare / 2) if margin == "even" and spare > 0 else int(spare / 2)


def crop(
    pixels: UInt8[Tensor, "channels rows columns"], top: int, left: int, size: Size, fill: tuple[int, ...]
) -> UInt8[Tensor, "channels height width"]:
    """Cut a window out of a picture. Where it reaches beyond the edge there is `fill`, one value or one per channel."""
    channels, rows, columns = pixels.shape
    edges = (-left, left + size[1] - columns, -top, top + size[0] - rows)
    values = fill * channels if len(fill) == 1 else fill
    return torch.stack([F.pad(channel, edges, value=value) for channel, value in zip(pixels, values, strict=True)])


def refuse_enormous(picture: Any, source: Size, resized: Size) -> None:
    """Refuse a picture that would fill the memory once it is resized.

    Raises:
        ImageError: names it.
    """
    if math.prod(resized) > LARGEST:
        raise ImageError(
            "too-narrow",
            getattr(picture, "name", "a picture in memory"),
            f"It has {source[1]} x {source[0]} pixels, and would have {resized[1]} x {resized[0]} once resized. "
            "Cut out a part of it first.",
        )


def covering(pair: Size) -> dict[str, Any]:
    """The fields that resize a picture, in proportion, until it covers so many rows and columns."""
    return {"resize": pair[0]} if pair[0] == pair[1] else {"resize": pair, "fit": "cover"}


def seen_again(
    pixels: Float[Tensor, "channels rows columns"], mean: tuple[float, ...], std: tuple[float, ...]
) -> UInt8[Tensor, "channels rows columns"]:
    """Normalised numbers as pixels of 0 to 255, to be looked at."""
    means, deviations = (torch.tensor(each, device="cpu")[:, None, None] for each in (mean, std))
    return ((pixels.cpu().float() * deviations + means).clamp(0, 1) * 255).round().to(torch.uint8)


Kind = TypeVar("Kind", bound="PicturePreprocessing")


def average(values: Sequence[float]) -> float:
    """Of a few numbers."""
    return sum(values) / len(values)


@dataclass(frozen=True, kw_only=True, slots=True)
class PicturePreprocessing(ABC):
    """What all ways to prepare a picture have: how it is resampled, and about which numbers its values are spread."""

    interpolation: str = "bicubic"
    resampler: Literal["pillow", "tensor"] = "pillow"
    mean: tuple[float, ...] = IMAGENET_MEAN  # of each channel, where white is 1
    std: tuple[float, ...] = IMAGENET_STD

    @abstractmethod
    def __call__(self, picture: Picture | Image.Image | Tensor | np.ndarray) -> Prepared:
        """Prepare one picture."""

    @abstractmethod
    def together(self, pictures: Sequence[Tensor]) -> Any:
        """What the model is called with for several pictures."""

    def check(self) -> None:
        """Refuse a way of resampling that there is not, and numbers that cannot normalise.

        Raises:
            ConfigError: names them.
        """
        if self.resampler not in RESAMPLERS:
            raise ConfigError(unknown("value of resampler", self.resampler, RESAMPLERS))
        if self.interpolation not in INTERPOLATIONS[self.resampler]:
            raise ConfigError(unknown("interpolation", self.interpolation, INTERPOLATIONS[self.resampler]))
        if not len(self.mean) == len(self.std) > 0:
            raise ConfigError(f"mean={self.mean} and std={self.std} need one value for each channel.")
        if 0 in self.std or not all(map(math.isfinite, self.mean + self.std)):
            raise ConfigError(f"mean={self.mean} and std={self.std} must be finite numbers, and std not zero.")

    @property
    def channels(self) -> int:
        """How many the model reads."""
        return len(self.mean)

    def for_channels(self: Kind, channels: int) -> Kind:
        """For a model that reads another number of channels: each takes the average of mean and deviation."""
        if channels == self.channels:
            return self
        return replace(self, mean=(average(self.mean),) * channels, std=(average(self.std),) * channels)

    def layers(self, picture: Picture | Image.Image | Tensor | np.ndarray) -> list[Image.Image]:
        """The picture in the channels that the model reads, or, where Pillow has none such, each channel alone."""
        if isinstance(picture, Layered):
            picture = picture.pixels
        if isinstance(picture, Tensor | np.ndarray):
            pixels = channels_first(picture)
            if pixels.shape[0] != self.channels and not {pixels.shape[0], self.channels} <= MODES.keys():
                raise ConfigError(
                    f"This picture has {many(pixels.shape[0], 'channel')}, and the model reads {self.channels}. Give "
                    f"both the same number, as with --set model.channels={pixels.shape[0]} in training."
                )
            if pixels.shape[0] == self.channels and self.channels not in MODES:
                return [to_image(channel[None]) for channel in pixels]
            picture = to_image(pixels)
        if not isinstance(picture, Image.Image | Picture):
            raise ConfigError(
                f"{type(picture).__name__} is no picture. Give a Pillow image, uint8 pixels, or a file's: "
                f"vitrail.read_image(path)."
            )
        image = picture if isinstance(picture, Image.Image) else picture.read()
        return [to_channels(image, self.channels)]

    def normalise(self, pixels: UInt8[Tensor, "channels rows columns"]) -> Float[Tensor, "channels rows columns"]:
        """Numbers about zero, from pixels of 0 to 255."""
        mean, std = (torch.tensor(each, device=pixels.device)[:, None, None] for each in (self.mean, self.std))
        return pixels.to(torch.float32).div_(255).sub_(mean).div_(std)


@dataclass(frozen=True, kw_only=True, slots=True)
class Preprocessing(PicturePreprocessing):
    """Resize, cut out the middle, normalise. Plain values only, so that a card can hold it."""

    size: tuple[int, int] = (224, 224)  # rows and columns that the model reads
    resize: int | tuple[int, int] | None = 256  # the shorter side, or rows and columns, before the middle is cut out
    fit: Literal["squash", "cover", "contain"] = "squash"  # only for a pair in `resize`: exactly, at least, at most
    margin: Literal["even", "floor", "zero"] = "even"  # how half a pixel is rounded when the middle is cut out
    fill: tuple[int, ...] = (0,)  # around a picture smaller than `size`: 0 to 255, for all channels or for each

    def __post_init__(self) -> None:
        for name, known in (("fit", FITS), ("margin", MARGINS)):
            if getattr(self, name) not in known:
                raise ConfigError(unknown(f"value of {name}", getattr(self, name), known))
        sides = (*self.size, *(self.resize if isinstance(self.resize, tuple) else (self.resize or 1,)))
        if not all(type(side) is int and 1 <= side <= LONGEST for side in sides):
            raise ConfigError(
                f"size={self.size} and resize={self.resize} must be whole numbers of pixels from 1 to {LONGEST:,}."
            )
        if len(self.mean) != len(self.std) or len(self.fill) not in (1, len(self.mean)):
            raise ConfigError(f"mean={self.mean}, std={self.std} and fill={self.fill} need one value for each channel.")
        self.check()

    @classmethod
    def imagenet(cls, size: int | Size = 224, crop: float = 0.875, **changes: Any) -> "Preprocessing":
        """The usual one, with ImageNet's mean and deviation.

        Args:
            size: side of a square, or rows and columns, that the model reads.
            crop: the share of a square picture's sides that is cut out of its middle.
            changes: any other field.
        """
        rows, columns = (size, size) if isinstance(size, int) else size
        return cls(size=(rows, columns), **covering((int(rows / crop), int(columns / crop))) | changes)

    def for_size(self, size: Size) -> "Preprocessing":
        """The same share of the picture, for a model that reads another size."""
        if self.resize is None:
            return replace(self, size=size)
        before = self.resize if isinstance(self.resize, tuple) else (self.resize, self.resize)
        pair = (size[0] * before[0] // self.size[0], size[1] * before[1] // self.size[1])
        return replace(self, size=size, **({"resize": pair} if isinstance(self.resize, tuple) else covering(pair)))

    def for_channels(self, channels: int) -> "Preprocessing":
        """For a model that reads another number of channels, around a picture too."""
        if channels == self.channels:
            return self
        mean, std = (average(self.mean),) * channels, (average(self.std),) * channels
        return replace(self, mean=mean, std=std, fill=(round(average(self.fill)),))

    def resized(self, source: Size) -> Size:
        """Rows and columns of a picture after the resize."""
        rows, columns = source
        if self.resize is None:
            return source
        if isinstance(self.resize, int):
            longer = int(self.resize * max(source) / min(source))  # rounded down by all who do it
            return (self.resize, longer) if rows <= columns else (longer, self.resize)
        if self.fit == "squash":
            return self.resize
        scales = (rows / self.resize[0], columns / self.resize[1])
        scale = min(scales) if self.fit == "cover" else max(scales)
        return max(round(rows / scale), 1), max(round(columns / scale), 1)

    def __call__(self, picture: Picture | Image.Image | Tensor | np.ndarray) -> Prepared:
        """Prepare one picture.

        Args:
            picture: one of `vitrail.data.images`; or a Pillow image, taken as it stands; or uint8 pixels, a tensor
                (channels, rows, columns) or an array (rows, columns, channels). Grey, colour, and colour with alpha
                are made into what the model reads; any other number of channels must be the model's own.

        Raises:
            ImageError: it cannot be decoded, or is so long and narrow that resizing it would take gigabytes.
            ConfigError: it does not have the channels that the model reads.
        """
        layers = self.layers(picture)
        source = (layers[0].height, layers[0].width)
        resized = self.resized(source)
        refuse_enormous(picture, source, resized)
        top, left = (middle(have, want, self.margin) for have, want in zip(resized, self.size, strict=True))
        pixels = torch.cat([RESAMPLERS[self.resampler](layer, resized, self.interpolation) for layer in layers])
        placement = Placement.resize(source, resized).then(Placement.crop(resized, top, left, self.size))
        return Prepared(self.normalise(crop(pixels, top, left, self.size, self.fill)), placement)

    def together(self, pictures: Sequence[Tensor]) -> Float[Tensor, "batch channels rows columns"]:
        """What the model is called with for several pictures: all have one size."""
        return torch.stack(list(pictures))


@dataclass(frozen=True, kw_only=True, slots=True)
class Fitted(PicturePreprocessing):
    """The whole picture in proportion, as large as two bounds let it be; normalised. So detectors read.

    Pictures of different shapes stay so, and go side by side as `Images`.

    Source: Carion et al., "End-to-End Object Detection with Transformers", ECCV 2020, section 4.
    """

    interpolation: str = "bilinear"
    shorter: int = 800  # pixels of the shorter side
    longer: int = 1333  # pixels of the longer side, at most; where it would be more, both are less

    def __post_init__(self) -> None:
        if not all(type(side) is int and 1 <= side <= LONGEST for side in (self.shorter, self.longer)):
            raise ConfigError(
                f"shorter={self.shorter} and longer={self.longer} must be whole numbers of pixels, 1 to {LONGEST:,}."
            )
        if self.shorter > self.longer:
            raise ConfigError(
                f"shorter={self.shorter} pixels is more than longer={self.longer}. Let them change places."
            )
        self.check()

    @property
    def size(self) -> Size:
        """Rows and columns of a usual photograph, four to three, as it is read."""
        return self.resized((480, 640))

    @property
    def at_once(self) -> int:
        """How many pictures side by side are as much work as is good for a processor: more are not faster."""
        return max(AT_ONCE // (self.shorter * self.longer), 1)

    def resized(self, source: Size) -> Size:
        """Rows and columns of a picture after the resize; fractions of a pixel are dropped, as those before us do."""
        rows, columns = source
        shorter: float = self.shorter
        if max(source) / min(source) * self.shorter > self.longer:
            shorter = self.longer * min(source) / max(source)
        whole = max(round(shorter), 1)
        if min(source) == whole:
            return source
        longer = max(int(shorter * max(source) / min(source)), 1)
        return (whole, longer) if rows <= columns else (longer, whole)

    def __call__(self, picture: Picture | Image.Image | Tensor | np.ndarray) -> Prepared:
        """Prepare one picture; arguments and errors are those of `Preprocessing`."""
        layers = self.layers(picture)
        source = (layers[0].height, layers[0].width)
        resized = self.resized(source)
        refuse_enormous(picture, source, resized)
        pixels = torch.cat([RESAMPLERS[self.resampler](layer, resized, self.interpolation) for layer in layers])
        return Prepared(self.normalise(pixels), Placement.resize(source, resized))

    def together(self, pictures: Sequence[Tensor]) -> Images:
        """What the model is called with for several pictures, which may differ in size."""
        rows, columns = (max(picture.shape[axis] for picture in pictures) for axis in (1, 2))
        frame = pictures[0].new_zeros(len(pictures), pictures[0].shape[0], rows, columns)
        valid = torch.zeros(len(pictures), rows, columns, dtype=torch.bool)
        for number, picture in enumerate(pictures):
            high, wide = picture.shape[1:]
            frame[number, :, :high, :wide] = picture
            valid[number, :high, :wide] = True
        return Images(frame, valid)
