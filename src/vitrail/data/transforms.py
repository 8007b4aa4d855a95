"""A sample becomes the pixels that a model reads: varied for training, plain for everything else.

All that is drawn depends on a key of whole numbers (seed, epoch, index, and how often the sample was shown before in
the epoch, if it was) and on nothing else.

Source: crops as in Szegedy et al., "Going Deeper with Convolutions", CVPR 2015, section 6; erasing as in Zhong et
al., "Random Erasing Data Augmentation", AAAI 2020, with the settings of timm.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, ImageEnhance
from torch import Tensor

from vitrail.data.chance import Draw, chance
from vitrail.data.randaugment import RandAugment
from vitrail.errors import ConfigError
from vitrail.fields import Range, check_fields, check_ranges, typed
from vitrail.pixels import MODES, to_channels, to_pixels
from vitrail.preprocessing import Preprocessing
from vitrail.samples import Layered, Picture, Sample

TRIES = 10  # draws of a rectangle before the largest that fits is taken, or none
ERASED_AREA = (0.02, 1 / 3)  # share of the picture
ERASED_RATIO = (0.3, 1 / 0.3)  # height to width


@dataclass(frozen=True, kw_only=True, slots=True)
class Augment:
    """How pictures are varied in training. The defaults are a crop and a mirror, as for every ImageNet model."""

    scale: tuple[float, float] = (0.08, 1.0)  # share of the picture's area that a crop takes
    ratio: tuple[float, float] = (3 / 4, 4 / 3)  # width to height of a crop, where the model's input counts as 1
    horizontal_flip: float = 0.5  # chance
    vertical_flip: float = 0.0  # chance
    randaugment: str | None = None  # "rand-m9-mstd0.5-inc1" is timm's dialect, "torchvision-n2-m9" torchvision's
    jitter: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)  # brightness, contrast, saturation, hue
    erase: float = 0.0  # chance that a rectangle is replaced by noise

    def __post_init__(self) -> None:
        for name in ("scale", "ratio", "jitter"):
            object.__setattr__(self, name, tuple(getattr(self, name)))  # a list, as JSON gives it
        check_fields(self)
        chance = Range(0, 1)
        check_ranges(
            self,
            scale=Range(0, 1, above=True, usual="0.08,1"),
            ratio=Range(0, 100, above=True, usual="0.75,1.33"),
            horizontal_flip=chance,
            vertical_flip=chance,
            jitter=Range(0, 1, usual="0.4,0.4,0.4,0"),
            erase=chance,
        )
        for name in ("scale", "ratio"):
            first, second = getattr(self, name)
            if first > second:
                raise ConfigError(
                    f"{name}={first},{second} has the larger first. Type --set data.augment.{name}={second},{first}."
                )
        if self.jitter[3] > 0.5:
            raise ConfigError(
                f"jitter={typed(self.jitter)} turns the hue, its last number, by more than half a circle: 0.5."
            )
        if self.randaugment is not None:
            RandAugment.parse(self.randaugment)

    @classmethod
    def none(cls) -> "Augment":
        """Every picture whole, stretched to the model's input."""
        return cls(scale=(1.0, 1.0), ratio=(1.0, 1.0), horizontal_flip=0.0)


class View(NamedTuple):
    """Which part of a picture is seen, and which way round.

    Attributes:
        box: left, top, right, bottom in pixels of the picture as displayed.
        mirrored: left and right change places.
        upside_down: top and bottom do.
    """

    box: tuple[int, int, int, int]
    mirrored: bool
    upside_down: bool


def draw_view(source: tuple[int, int], size: tuple[int, int], augment: Augment, random: np.random.Generator) -> View:
    """Draw a crop and flips, before anything is decoded.

    Args:
        source: rows and columns of the picture.
        size: rows and columns that the model reads.
        augment: how far a crop may go.
        random: what to draw from.
    """
    box = draw_crop(source, augment, size[1] / size[0], random)
    mirrored, upside_down = random.random(2) < (augment.horizontal_flip, augment.vertical_flip)
    return View(box, bool(mirrored), bool(upside_down))


def draw_crop(
    source: tuple[int, int], augment: Augment, shape: float, random: np.random.Generator
) -> tuple[int, int, int, int]:
    """Draw a rectangle that lies in the picture; the largest one in the middle when none was found in ten tries.

    Args:
        shape: width to height that an undistorted crop has.
    """
    rows, columns = source
    low, high = (shape * side for side in augment.ratio)
    if augment.scale == (1.0, 1.0) and augment.ratio == (1.0, 1.0):
        return 0, 0, columns, rows
    for _ in range(TRIES):
        area = random.uniform(*augment.scale) * rows * columns
        ratio = math.exp(random.uniform(math.log(low), math.log(high)))
        width, height = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < width <= columns and 0 < height <= rows:
            left, top = int(random.integers(columns - width + 1)), int(random.integers(rows - height + 1))
            return left, top, left + width, top + height
    width = min(columns, max(1, round(rows * high)))
    height = min(rows, max(1, round(columns / low)))
    left, top = (columns - width) // 2, (rows - height) // 2
    return left, top, left + width, top + height


@runtime_checkable
class Turned(Protocol):
    """Says which sides of a picture change places."""

    @property
    def mirrored(self) -> bool: ...

    @property
    def upside_down(self) -> bool: ...


def flip(image: Image.Image, view: Turned) -> Image.Image:
    if view.mirrored:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if view.upside_down:
        image = image.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
    return image


def jitter(image: Image.Image, strength: tuple[float, ...], random: np.random.Generator) -> Image.Image:
    """Change brightness, contrast, saturation and hue, in an order that is drawn too."""
    low = np.maximum(0.0, 1 - np.array(strength[:3]))
    factors = random.uniform(low, 1 + np.array(strength[:3]))
    turn = random.uniform(-strength[3], strength[3])
    for place in random.permutation(4):
        if place == 3 and strength[3]:
            image = turn_hue(image, turn)
        elif place < 3 and strength[place]:
            enhance = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)[place]
            image = enhance(image).enhance(float(factors[place]))
    return image


def turn_hue(image: Image.Image, turn: float) -> Image.Image:
    """Move every colour along the colour circle, by a share of it; grey pictures have no hue."""
    if image.mode != "RGB":
        return image
    hue, saturation, value = image.convert("HSV").split()
    moved = hue.point([(level + round(turn * 255)) % 256 for level in range(256)])
    return Image.merge("HSV", (moved, saturation, value)).convert("RGB")


def erase(pixels: Float[Tensor, "channels rows columns"], random: np.random.Generator) -> None:
    """Replace a rectangle by noise, in place; in pixels that are already normalised."""
    channels, rows, columns = pixels.shape
    for _ in range(TRIES):
        area = random.uniform(*ERASED_AREA) * rows * columns
        ratio = math.exp(random.uniform(*np.log(ERASED_RATIO)))
        height, width = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < height < rows and 0 < width < columns:
            top, left = int(random.integers(rows - height + 1)), int(random.integers(columns - width + 1))
            noise = random.standard_normal((channels, height, width), dtype=np.float32)
            pixels[:, top : top + height, left : left + width] = torch.from_numpy(noise)
            return


def check_sample(sample: Sample) -> None:
    """Refuse a picture that stands alone.

    Raises:
        ConfigError: says how a sample is made of one.
    """
    if not isinstance(sample, Sample):
        raise ConfigError(
            f"{type(sample).__name__} is no sample. Give Sample(ImageFile(path)), or of a Pillow image or pixels "
            f"Sample(PictureArray(picture)); both pictures are in vitrail.data.images."
        )


@dataclass(frozen=True)
class TrainTransform:
    """What `train_transform` makes."""

    preprocessing: Preprocessing
    augment: Augment
    policy: RandAugment | None

    def __call__(self, sample: Sample, seed: tuple[int, ...]) -> Float[Tensor, "channels rows columns"]:
        check_sample(sample)
        random = chance(Draw.AUGMENT, *seed)
        rows, columns = self.preprocessing.size
        view = draw_view(sample.picture.size, (rows, columns), self.augment, random)
        parts = [part.resize((columns, rows), self.filter) for part in self.parts(sample.picture, view.box)]
        images = [self.recolour(flip(part, view), random) for part in parts]
        pixels = self.preprocessing.normalise(torch.cat([to_pixels(image) for image in images]))
        if random.random() < self.augment.erase:
            erase(pixels, random)
        return pixels

    def parts(self, picture: Picture, box: tuple[int, int, int, int]) -> list[Image.Image]:
        """A part of a picture in the channels that the model reads, or, where Pillow has none such, each alone."""
        if isinstance(picture, Layered):
            left, top, right, bottom = box
            return self.preprocessing.layers(picture.pixels[:, top:bottom, left:right])
        return [to_channels(picture.read(box, self.preprocessing.size), self.preprocessing.channels)]

    def recolour(self, image: Image.Image, random: np.random.Generator) -> Image.Image:
        """Change the colours, and by RandAugment the place, of a whole picture; never of a channel alone."""
        if any(self.augment.jitter):
            image = jitter(image, self.augment.jitter, random)
        return image if self.policy is None else self.policy(image, random, fill=self.mean_colour)

    @property
    def filter(self) -> Image.Resampling:
        return Image.Resampling[self.preprocessing.interpolation.upper()]

    @property
    def mean_colour(self) -> tuple[int, ...]:
        return tuple(min(255, round(255 * mean)) for mean in self.preprocessing.mean)


@dataclass(frozen=True)
class EvalTransform:
    """What `eval_transform` makes."""

    preprocessing: Preprocessing

    def __call__(self, sample: Sample, seed: tuple[int, ...] = ()) -> Float[Tensor, "channels rows columns"]:
        check_sample(sample)
        return self.preprocessing(sample.picture).pixels


def train_transform(preprocessing: Preprocessing, augment: Augment) -> TrainTransform:
    """Pixels for training, varied anew in each epoch.

    Called as `transform(sample, (seed, epoch, index))`. The part that is seen is drawn first, so that only it is
    decoded, and no finer than the model reads it.
    """
    policy = None if augment.randaugment is None else RandAugment.parse(augment.randaugment)
    if policy is not None and preprocessing.channels not in (1, 3):
        raise ConfigError(
            f"RandAugment is for grey and colour pictures, not for {preprocessing.channels} channels. Type "
            f"--set data.augment.randaugment=none."
        )
    if any(augment.jitter) and preprocessing.channels not in MODES:
        raise ConfigError(
            f"Jitter is for grey and colour pictures, not for {preprocessing.channels} channels. Type "
            f"--set data.augment.jitter=0,0,0,0."
        )
    return TrainTransform(preprocessing, augment, policy)


def eval_transform(preprocessing: Preprocessing) -> EvalTransform:
    """Pixels as the model's card says, always the same for a picture."""
    return EvalTransform(preprocessing)
