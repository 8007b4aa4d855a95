"""RandAugment: a few operations, drawn from a list, all with the same strength.

The paper's strength M means different things in different libraries, so a policy names its dialect:

- `rand-m9-mstd0.5-inc1` is timm's, which DeiT and most ViT recipes use. After `rand`: `m` strength of 10, `n` how many
  operations (2), `p` chance of each (0.5), `mstd` deviation of the strength (0; above 100 it is drawn evenly from 0 to
  m), `mmax` the largest strength (10), `inc1` all operations grow stronger with m.
- `torchvision-n2-m9` is torchvision's: `m` strength of 30, `n` how many operations (2), all of which are done.

Source: Cubuk et al., "RandAugment: Practical automated data augmentation with a reduced search space", 2019.
Operation by operation compared with timm 1.0.31 and torchvision 0.28.0, on Pillow pictures.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from vitrail.errors import ConfigError
from vitrail.fields import Range

Fill = tuple[int, ...] | None


class Look(NamedTuple):
    """How pictures are moved.

    Attributes:
        fill: the colour of what comes in from outside; black when `None`.
        filter: Pillow's way to read between pixels.
    """

    fill: Fill
    filter: Image.Resampling


def move(image: Image.Image, matrix: tuple[float, ...], look: Look) -> Image.Image:
    """Look up each pixel of the result where the matrix says it comes from."""
    return image.transform(image.size, Image.Transform.AFFINE, matrix, look.filter, fillcolor=look.fill)


def shear_x(image: Image.Image, slope: float, look: Look) -> Image.Image:
    return move(image, (1.0, slope, 0.0, 0.0, 1.0, 0.0), look)


def shear_y(image: Image.Image, slope: float, look: Look) -> Image.Image:
    return move(image, (1.0, 0.0, 0.0, slope, 1.0, 0.0), look)


def translate_x(image: Image.Image, share: float, look: Look) -> Image.Image:
    return move(image, (1.0, 0.0, share * image.width, 0.0, 1.0, 0.0), look)


def translate_y(image: Image.Image, share: float, look: Look) -> Image.Image:
    return move(image, (1.0, 0.0, 0.0, 0.0, 1.0, share * image.height), look)


def translate_x_whole(image: Image.Image, share: float, look: Look) -> Image.Image:
    return translate_x(image, int(share * image.width) / image.width, look)


def translate_y_whole(image: Image.Image, share: float, look: Look) -> Image.Image:
    return translate_y(image, int(share * image.height) / image.height, look)


def rotate(image: Image.Image, degrees: float, look: Look) -> Image.Image:
    return image.rotate(degrees, look.filter, fillcolor=look.fill)


def identity(image: Image.Image, amount: float, look: Look) -> Image.Image:
    return image


def auto_contrast(image: Image.Image, amount: float, look: Look) -> Image.Image:
    return ImageOps.autocontrast(image)


def equalize(image: Image.Image, amount: float, look: Look) -> Image.Image:
    return ImageOps.equalize(image)


def invert(image: Image.Image, amount: float, look: Look) -> Image.Image:
    return ImageOps.invert(image)


def posterize(image: Image.Image, bits: int, look: Look) -> Image.Image:
    return ImageOps.posterize(image, min(8, max(1, bits)))  # none would be black, and since Pillow 13 an error


def solarize(image: Image.Image, threshold: float | int, look: Look) -> Image.Image:
    return ImageOps.solarize(image, math.ceil(threshold))


def solarize_add(image: Image.Image, amount: int, look: Look) -> Image.Image:
    """Make the darker half brighter."""
    table = [min(255, level + amount) if level < 128 else level for level in range(256)]
    return image.point(table * len(image.getbands()))


def enhance(kind: type) -> "Change":
    """Colour, contrast, brightness or sharpness by a factor, where 1 changes nothing."""

    def change(image: Image.Image, factor: float, look: Look) -> Image.Image:
        return kind(image).enhance(factor)

    return change


color, contrast = enhance(ImageEnhance.Color), enhance(ImageEnhance.Contrast)
brightness, sharpness = enhance(ImageEnhance.Brightness), enhance(ImageEnhance.Sharpness)

Change = Callable[[Image.Image, Any, Look], Image.Image]  # what the number means is the operation's own business


class Operation(NamedTuple):
    """What is done to a picture, and how much of it.

    Attributes:
        change: called as `change(image, amount, look)`.
        amount: of a level, where 1 is full strength.
        signed: whether the level may as well be negative.
    """

    change: Change
    amount: Callable[[float], float | int] = lambda level: level
    signed: bool = False


TIMM_ALWAYS = (
    Operation(auto_contrast),
    Operation(equalize),
    Operation(invert),
    Operation(rotate, lambda level: 30 * level, signed=True),
    Operation(solarize_add, lambda level: min(128, int(110 * level))),
    Operation(shear_x, lambda level: 0.3 * level, signed=True),
    Operation(shear_y, lambda level: 0.3 * level, signed=True),
    Operation(translate_x, lambda level: 0.45 * level, signed=True),
    Operation(translate_y, lambda level: 0.45 * level, signed=True),
)
TIMM = (
    *TIMM_ALWAYS,
    Operation(posterize, lambda level: int(4 * level)),
    Operation(solarize, lambda level: min(256, int(256 * level))),
    *(Operation(change, lambda level: 0.1 + 1.8 * level) for change in (color, contrast, brightness, sharpness)),
)
TIMM_INCREASING = (
    *TIMM_ALWAYS,
    Operation(posterize, lambda level: 4 - int(4 * level)),
    Operation(solarize, lambda level: 256 - min(256, int(256 * level))),
    *(
        Operation(change, lambda level: max(0.1, 1 + 0.9 * level), signed=True)
        for change in (color, contrast, brightness, sharpness)
    ),
)
TORCHVISION = (
    Operation(identity),
    Operation(auto_contrast),
    Operation(equalize),
    Operation(rotate, lambda level: 30 * level, signed=True),
    Operation(shear_x, lambda level: 0.3 * level, signed=True),
    Operation(shear_y, lambda level: 0.3 * level, signed=True),
    Operation(translate_x_whole, lambda level: 150 / 331 * level, signed=True),
    Operation(translate_y_whole, lambda level: 150 / 331 * level, signed=True),
    Operation(posterize, lambda level: 8 - round(4 * level)),
    Operation(solarize, lambda level: 255 * (1 - level)),
    *(
        Operation(change, lambda level: 1 + 0.9 * level, signed=True)
        for change in (color, contrast, brightness, sharpness)
    ),
)


@dataclass(frozen=True)
class RandAugment:
    """A policy.

    Attributes:
        operations: to draw from, each as often as the others, and perhaps twice.
        number: how many to draw.
        level: how strong, where 1 is full strength.
        deviation: of the level, normally distributed; infinite for evenly from 0 to `level`.
        most: largest level.
        chance: that an operation that was drawn is done.
        filters: ways to read between pixels, one of which is drawn each time.
        filled: whether what comes in from outside is filled with a given colour, or black.
        words: the policy as it was written, which is what another process is sent.
    """

    operations: tuple[Operation, ...]
    number: int
    level: float
    deviation: float
    most: float
    chance: float
    filters: tuple[Image.Resampling, ...]
    filled: bool
    words: str

    def __reduce__(self) -> tuple[Any, ...]:
        return RandAugment.parse, (self.words,)

    @classmethod
    def parse(cls, policy: str) -> "RandAugment":
        """Read a policy as it is written in recipes.

        Raises:
            ConfigError: it is in no dialect that we know.
        """
        dialect, *settings = policy.split("-")
        if dialect not in SETTINGS:
            raise ConfigError(
                f"{policy!r} is no RandAugment policy. There are 'rand-m9-mstd0.5-inc1' and 'torchvision-n2-m9'."
            )
        values = dict(SETTINGS[dialect])
        for setting in settings:
            match = re.fullmatch(r"([a-z]+)(\d+(?:\.\d+)?)", setting)
            if match is None or match[1] not in values:
                raise ConfigError(
                    f"{setting!r} in {policy!r} means nothing in the dialect {dialect!r}, "
                    f"which has {', '.join(values)}, each followed by a number."
                )
            values[match[1]] = float(match[2])
            if not LIMITS[match[1]].holds(values[match[1]]):
                raise ConfigError(
                    f"{setting} in {policy!r}: {match[1]} must {LIMITS[match[1]].words(values[match[1]])}"
                )
        return (timm_policy if dialect == "rand" else torchvision_policy)(policy, **values)

    def __call__(self, image: Image.Image, random: np.random.Generator, fill: Fill = None) -> Image.Image:
        """Change a grey or colour picture.

        Args:
            image: of mode L or RGB.
            random: what to draw from.
            fill: for what comes in from outside, where the dialect fills it.
        """
        for place in random.integers(len(self.operations), size=self.number):
            done, negative = random.random(2)
            if done >= self.chance:
                continue
            operation = self.operations[place]
            level = self.draw_level(random)
            look = Look(fill if self.filled else None, self.filters[int(random.integers(len(self.filters)))])
            signed = -level if operation.signed and negative < 0.5 else level
            image = operation.change(image, operation.amount(signed), look)
        return image

    def draw_level(self, random: np.random.Generator) -> float:
        if self.deviation == float("inf"):
            return random.uniform(0, self.level)
        return min(self.most, max(0.0, self.level + self.deviation * random.standard_normal()))


SETTINGS = {
    "rand": {"m": 10.0, "n": 2.0, "p": 0.5, "mstd": 0.0, "mmax": 10.0, "inc": 0.0},
    "torchvision": {"n": 2.0, "m": 9.0},
}
LIMITS = {
    "m": Range(0, 30, usual="9, of 10 in timm and of 30 in torchvision"),
    "n": Range(1, 20, usual="2"),
    "p": Range(0, 1),
    "mstd": Range(0, usual="0.5"),
    "mmax": Range(0, 30, usual="10"),
    "inc": Range(0, 1),
}


def timm_policy(words: str, *, m: float, n: float, p: float, mstd: float, mmax: float, inc: float) -> RandAugment:
    return RandAugment(
        operations=TIMM_INCREASING if inc else TIMM,
        number=int(n),
        level=m / 10,
        deviation=float("inf") if mstd > 100 else mstd / 10,
        most=mmax / 10,
        chance=p,
        filters=(Image.Resampling.BILINEAR, Image.Resampling.BICUBIC),
        filled=True,
        words=words,
    )


def torchvision_policy(words: str, *, n: float, m: float) -> RandAugment:
    return RandAugment(
        operations=TORCHVISION,
        number=int(n),
        level=m / 30,
        deviation=0.0,
        most=1.0,
        chance=1.0,
        filters=(Image.Resampling.NEAREST,),
        filled=False,
        words=words,
    )
