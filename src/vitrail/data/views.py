"""A picture with what is marked in it becomes what a detector learns from: one affine map moves all of it together.

What is seen of a picture is drawn before anything is decoded, and depends on a key of whole numbers (seed, epoch,
index) and on nothing else.

Source: Carion et al., "End-to-End Object Detection with Transformers", ECCV 2020, section 4, "Technical details";
the sizes of the crop are those of its published code, as shares of the largest side.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from PIL import Image
from torch import Tensor

from vitrail.data.chance import Draw, chance
from vitrail.data.transforms import flip, jitter
from vitrail.errors import ConfigError
from vitrail.fields import Range, check_fields, check_ranges
from vitrail.geometry.boxes import area, to_cxcywh
from vitrail.geometry.placement import Placement, Size
from vitrail.pixels import to_channels, to_pixels
from vitrail.preprocessing import Fitted
from vitrail.samples import Batch, Objects, Sample, Targets, Truth

BEFORE = (0.5, 0.75)  # the shorter side before a crop, as shares of `Fitted.shorter`: 400 to 600 of 800
CROPPED = (0.48, 0.75)  # the sides of the crop then: 384 to 600 of 800
SEEN = 0.0  # pixels above which what is left of a box is an object


@dataclass(frozen=True, kw_only=True, slots=True)
class ObjectAugment:
    """How pictures with marked objects are varied in training. The defaults are the published ones."""

    scales: tuple[float, float] = (0.6, 1.0)  # the shorter side, as shares of the largest: 480 to 800 of 800
    steps: int = 11  # sizes between them, both ends counted
    crop: float = 0.5  # chance that a part is seen, and not the whole
    horizontal_flip: float = 0.5  # chance
    vertical_flip: float = 0.0  # chance
    jitter: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)  # brightness, contrast, saturation, hue

    def __post_init__(self) -> None:
        for name in ("scales", "jitter"):
            object.__setattr__(self, name, tuple(getattr(self, name)))  # a list, as JSON gives it
        check_fields(self)
        chance = Range(0, 1)
        check_ranges(
            self,
            scales=Range(0, 4, above=True, usual="0.6,1"),
            steps=Range(1, 1000),
            crop=chance,
            horizontal_flip=chance,
            vertical_flip=chance,
            jitter=Range(0, 1, usual="0.2,0.2,0.2,0"),
        )
        if self.scales[0] > self.scales[1]:
            first, second = self.scales
            raise ConfigError(
                f"scales={first},{second} has the larger first. Type --set data.augment.scales={second},{first}."
            )

    @classmethod
    def none(cls) -> "ObjectAugment":
        """Every picture whole, at the largest size."""
        return cls(scales=(1.0, 1.0), steps=1, crop=0.0, horizontal_flip=0.0)


class Seen(NamedTuple):
    """One picture as a detector is shown it.

    Attributes:
        pixels: normalised.
        targets: what is to be found in it.
        truth: all that is known of the file.
    """

    pixels: Float[Tensor, "channels rows columns"]
    targets: Targets
    truth: Truth


class Window(NamedTuple):
    """Which part of a picture is seen, how large, and which way round.

    Attributes:
        box: left, top, right, bottom in pixels of the picture as displayed.
        size: rows and columns that it becomes.
        mirrored, upside_down: which sides change places.
    """

    box: tuple[int, int, int, int]
    size: Size
    mirrored: bool
    upside_down: bool

    def placement(self, source: Size) -> Placement:
        """From pixels of the picture to those of what is seen."""
        turned = Placement.flip(self.size, horizontal=self.mirrored, vertical=self.upside_down)
        return Placement.window(source, self.box, self.size).then(turned)


def draw_window(source: Size, fitted: Fitted, augment: ObjectAugment, random: np.random.Generator) -> Window:
    """Draw what is seen of a picture.

    Args:
        source: its rows and columns.
        fitted: how large it is at most.
        augment: how far it may vary.
        random: what to draw from.
    """
    box = (0, 0, source[1], source[0])
    if random.random() < augment.crop:
        box = draw_part(source, fitted, random)
    low, high = augment.scales
    share = low + (high - low) * random.integers(augment.steps) / max(augment.steps - 1, 1)
    sized = replace(fitted, shorter=min(max(round(fitted.shorter * share), 1), fitted.longer))
    mirrored, upside_down = random.random(2) < (augment.horizontal_flip, augment.vertical_flip)
    return Window(box, sized.resized((box[3] - box[1], box[2] - box[0])), bool(mirrored), bool(upside_down))


def draw_part(source: Size, fitted: Fitted, random: np.random.Generator) -> tuple[int, int, int, int]:
    """A rectangle in the picture, in its pixels: of a size that it has after the first of two resizes."""
    rows, columns = source
    scale = fitted.shorter * random.choice((BEFORE[0], sum(BEFORE) / 2, BEFORE[1])) / min(source)
    low, high = (fitted.shorter * share / scale for share in CROPPED)
    width, height = (max(round(random.uniform(min(low, side), min(high, side))), 1) for side in (columns, rows))
    left, top = int(random.integers(columns - width + 1)), int(random.integers(rows - height + 1))
    return left, top, left + width, top + height


def move_masks(masks: Bool[Tensor, "objects rows columns"], window: Window) -> Bool[Tensor, "objects height width"]:
    """Masks of a picture as masks of what is seen of it."""
    left, top, right, bottom = window.box
    if not len(masks):
        return masks.new_zeros(0, *window.size)
    part = masks[:, top:bottom, left:right].float()
    part = F.interpolate(part[None], window.size, mode="nearest-exact")[0] > 0.5
    axes = [axis for axis, turned in ((2, window.mirrored), (1, window.upside_down)) if turned]
    return part.flip(axes) if axes else part


def move(objects: Objects, window: Window, source: Size) -> Targets:
    """What there is to find in the part that is seen: what is cut off or is a crowd is left out."""
    rows, columns = window.size
    corners = window.placement(source).forward(objects.boxes_xyxy.reshape(-1, 2)).reshape(-1, 2, 2)
    boxes = torch.cat([corners.amin(dim=1), corners.amax(dim=1)], dim=1)  # a mirror swaps the corners
    frame = boxes.new_tensor([columns, rows, columns, rows])
    boxes = torch.minimum(boxes.clamp(min=0), frame)
    there = ~objects.crowd & (area(boxes) > SEEN)
    masks = None
    if objects.masks is not None:
        masks = move_masks(objects.masks, window)
        there = there & masks.flatten(1).any(dim=1)
        masks = masks[there]
    return Targets(objects.labels[there], to_cxcywh(boxes[there] / frame).float(), masks)


@dataclass(frozen=True)
class ObjectTransform:
    """Pixels and targets of a sample, varied anew in each epoch unless `augment` varies nothing.

    Called as `transform(sample, (seed, epoch, index))`. The part that is seen is drawn first, so that only it is
    decoded, and no finer than it is seen.
    """

    preprocessing: Fitted
    augment: ObjectAugment | None

    def __call__(self, sample: Sample, seed: tuple[int, ...] = ()) -> Seen:
        assert sample.objects is not None, "a data set for detection says what is in its pictures"
        source = sample.picture.size
        truth = Truth(sample.objects, source, sample.name if sample.number is None else sample.number)
        if self.augment is None:
            pixels, _ = self.preprocessing(sample.picture)
            whole = Window((0, 0, source[1], source[0]), (pixels.shape[1], pixels.shape[2]), False, False)
            return Seen(pixels, move(sample.objects, whole, source), truth)
        random = chance(Draw.AUGMENT, *seed)
        window = draw_window(source, self.preprocessing, self.augment, random)
        image = to_channels(sample.picture.read(window.box, window.size), self.preprocessing.channels)
        rows, columns = window.size
        image = flip(image.resize((columns, rows), self.filter), window)
        if any(self.augment.jitter):
            image = jitter(image, self.augment.jitter, random)
        return Seen(self.preprocessing.normalise(to_pixels(image)), move(sample.objects, window, source), truth)

    @property
    def filter(self) -> Image.Resampling:
        return Image.Resampling[self.preprocessing.interpolation.upper()]


@dataclass(frozen=True)
class MarkedBatches:
    """Puts pictures of different sizes together with what is marked in them.

    Attributes:
        preprocessing: puts the pictures side by side.
        judging: whether all that is known of each file goes with them.
    """

    preprocessing: Fitted
    judging: bool

    def __call__(self, samples: Sequence[Sample], seen: Sequence[Seen], indices: Int[np.ndarray, " batch"]) -> Batch:
        inputs = self.preprocessing.together([one.pixels for one in seen])
        targets, truths = tuple(one.targets for one in seen), tuple(one.truth for one in seen)
        return Batch(inputs, targets, torch.from_numpy(indices), truths if self.judging else None)
