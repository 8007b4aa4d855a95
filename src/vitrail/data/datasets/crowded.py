"""The generated world with several things in a scene, each with its box and its mask.

`scenes:1000,size=96x128,objects=5` has one to five things in each of 1000 scenes: any classes, sizes from small to
large, nearer ones before farther ones, some cut off by the edge. A box is the tightest around what is seen. Of every
thing at least half of what lies in the picture is seen: one that would hide more of another is put elsewhere.

`panoptic` also names what is no thing: `ground`, the `patch`es on it, and the `bar`s that lie about; so every pixel is
of one segment. Its classes are those of things, then these three.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Float

from vitrail.data.chance import Draw, chance
from vitrail.data.dataset import Label
from vitrail.data.datasets.painting import (
    CLASSES,
    DIM,
    PARTS,
    Canvas,
    Dice,
    Drawing,
    Scene,
    Thing,
    check_scenes,
    draw,
    refuse_other_shapes,
)
from vitrail.data.images import picture_of
from vitrail.errors import DataError
from vitrail.samples import Objects, Sample

STUFF = ("ground", "patch", "bar")
MOST = 100  # things in a scene
RADII = (0.08, 0.26)  # of a disc of the same area, in shorter sides of the picture
MARGIN = 0.6  # of a centre from the edge, in radii
TRIES = 12  # places for a thing, before it is left out
SHOWING = 0.5  # share of a thing that is seen at least
LEAST = 24  # pixels of a thing that are seen at least
COVERED = 0.5  # of a patch over the ground, from which a pixel is the patch's


def boxes_around(masks: Bool[np.ndarray, "objects rows columns"]) -> Float[np.ndarray, "objects 4"]:
    """Left, top, right, bottom of masks that each hold a pixel."""
    boxes = np.zeros((len(masks), 4))
    for box, mask in zip(boxes, masks, strict=True):
        down, across = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        box[:] = across[0], down[0], across[-1] + 1, down[-1] + 1
    return boxes


def arrange(dice: Dice, most: int) -> list[Thing]:
    """One thing or several, from the farthest to the nearest, of which none hides too much of another."""
    canvas, things, seen = Canvas(dice.size, 1), list[Thing](), list[tuple[np.ndarray, int]]()
    for _ in range(1 + dice.below(most)):
        shape = CLASSES[dice.below(len(CLASSES))]
        for _ in range(TRIES):
            thing = dice.thing(shape, RADII, MARGIN)
            place = canvas.distance(thing) < 0
            left = [(mask & ~place, whole) for mask, whole in seen]
            if place.sum() >= LEAST and all(mask.sum() >= max(LEAST, SHOWING * whole) for mask, whole in left):
                things.append(thing)
                seen = [*left, (place, int(place.sum()))]
                break
    return things


@dataclass(frozen=True, kw_only=True)
class CrowdedScenes:
    """Scenes with several things; each is drawn when it is asked for."""

    count: int = 4000
    part: str = "train"
    size: tuple[int, int] = (64, 64)  # rows and columns, pixels
    channels: int = 3
    seed: int = 0
    objects: int = 5  # in a scene at most
    panoptic: bool = False  # whether ground, patches and bars have masks too
    classes: tuple[str, ...] = ()  # all that there are, unless given
    multi_label: bool = True
    task: str = field(init=False, default="detect")

    def __post_init__(self) -> None:
        every = (*CLASSES, *STUFF) if self.panoptic else CLASSES
        object.__setattr__(self, "classes", self.classes or every)
        object.__setattr__(self, "task", "panoptic" if self.panoptic else "detect")
        check_scenes(self.count, self.size, self.channels, self.classes)
        if not 1 <= self.objects <= MOST:
            raise DataError(f"objects={self.objects} in a scene: at least one, and at most {MOST}.")
        refuse_other_shapes(every, self.classes)

    def __len__(self) -> int:
        return self.count

    @property
    def class_ids(self) -> tuple[int, ...]:
        """Places."""
        return tuple(range(len(self.classes)))

    @property
    def things(self) -> tuple[bool, ...]:
        """Which classes are countable."""
        return tuple(name not in STUFF for name in self.classes)

    @property
    def most_objects(self) -> int:
        """In one scene."""
        return self.objects + len(STUFF) * self.panoptic

    def scene(self, index: int) -> Scene:
        """All that one scene shows; the things with a class are its last."""
        if not 0 <= index < self.count:
            raise IndexError(f"scene {index} of {self.count}")
        dice = Dice(chance(Draw.CROWD, self.seed, PARTS.index(self.part), index), self.size, self.channels)
        things, ground = arrange(dice, self.objects), dice.ground()
        behind = [dice.bar(0.2, DIM) for _ in range(3 + dice.below(3))]
        return Scene(ground, [*behind, *things], dice.random.random(self.size).astype(np.float32))

    def draw(self, index: int) -> tuple[Scene, Drawing]:
        """Make one scene."""
        scene = self.scene(index)
        return scene, draw(scene, self.size, self.channels)

    def segments(self, scene: Scene, drawing: Drawing) -> tuple[list[str], Bool[np.ndarray, "segments rows columns"]]:
        """What is seen, by name: things, and in panoptic scenes whatever else, each kind of it as one."""
        names = [thing.shape for thing in scene.things]
        masks = [mask for name, mask in zip(names, drawing.masks, strict=True) if name in CLASSES]
        shown = [name for name in names if name in CLASSES]
        if self.panoptic:
            bars = np.any([mask for name, mask in zip(names, drawing.masks, strict=True) if name == "bar"], axis=0)
            free = ~np.any([*masks, bars], axis=0)
            patch = free & np.any([cover > COVERED for cover, _ in scene.ground.patches], axis=0)
            for name, mask in zip(STUFF, (free & ~patch, patch, bars), strict=True):
                if mask.any():
                    shown.append(name)
                    masks.append(mask)
        return shown, np.stack(masks) if masks else np.zeros((0, *self.size), bool)

    def __getitem__(self, index: int) -> Sample:
        scene, drawing = self.draw(index)
        names, masks = self.segments(scene, drawing)
        labels = [self.classes.index(name) for name in names]
        first = index * (MOST + len(STUFF)) + 1
        objects = Objects(
            torch.from_numpy(boxes_around(masks)).float(),
            torch.tensor(labels, dtype=torch.int64),
            torch.zeros(len(names), dtype=torch.bool),
            torch.from_numpy(masks.sum((1, 2))).float(),
            torch.from_numpy(masks),
            tuple(range(first, first + len(names))),
        )
        picture = picture_of(drawing.image, f"scenes:{self.part}[{index}]")
        return Sample(picture, tuple(sorted(set(labels))), objects=objects, number=index)

    @cached_property
    def present(self) -> Sequence[Label]:
        """The classes of each scene."""
        if self.panoptic:  # whether a patch is seen shows only when it is painted
            seen = (self.segments(*self.draw(index))[0] for index in range(self.count))
            return [tuple(sorted({self.classes.index(name) for name in names})) for names in seen]
        found = []
        for index in range(self.count):
            random = chance(Draw.CROWD, self.seed, PARTS.index(self.part), index)
            things = arrange(Dice(random, self.size, self.channels), self.objects)
            found.append(tuple(sorted({self.classes.index(thing.shape) for thing in things})))
        return found

    def labels(self) -> list[Label]:
        return list(self.present)

    def fingerprint(self, index: int) -> bytes:
        return hashlib.blake2b(self.draw(index)[1].image.tobytes(), digest_size=16).digest()
