"""A generated world: a textured thing in the light, before a cluttered background in the dark.

`scenes:` has 4000 scenes to learn from; `scenes:1000,size=48x96,channels=1,seed=7` has 1000, of 48 rows and 96
columns, in grey, of another world. Validation and test parts have a fifth as many. The class of a scene is the shape
of the thing. Its colours, pattern, place, size and direction are drawn alike for all classes, and all shapes have the
same area: nothing but the shape gives the class away. That the thing is lit lets a small network find it in minutes.

A scene depends on nothing but seed, part and index, and has the same bytes on every machine. With `channels=6`, or any
other number, a colour has so many values: a wave that goes once round them, so that every channel shows the whole scene
and none is a copy of another.

`scenes:1000,size=96x128,objects=5` shows one to five things in each scene, with boxes and masks, for detection;
`scenes:1000,objects=5,panoptic` names every pixel (`datasets.crowded`).
"""

import hashlib
import re
from dataclasses import dataclass, replace
from pathlib import Path

from vitrail.data.chance import Draw, chance
from vitrail.data.dataset import Label
from vitrail.data.datasets.crowded import CrowdedScenes
from vitrail.data.datasets.painting import CLASSES, PARTS, Dice, Drawing, check_scenes, draw
from vitrail.data.images import picture_of
from vitrail.errors import DataError
from vitrail.samples import Sample

TAKES = {
    "size": "rows x columns, such as size=48x96",
    "channels": "a whole number, such as channels=1",
    "seed": "a whole number, such as seed=7",
    "objects": "the most things in a scene, such as objects=5",
}


@dataclass(frozen=True, kw_only=True)
class Scenes:
    """Scenes of the generated world; each is drawn when it is asked for.

    A sample's extras hold `masks`, boolean of shape `(things, rows, columns)`: where each thing with a class is seen.
    """

    count: int = 4000
    part: str = "train"
    size: tuple[int, int] = (64, 64)  # rows and columns, pixels
    channels: int = 3
    seed: int = 0
    classes: tuple[str, ...] = CLASSES
    multi_label: bool = False
    task: str = "classify"

    def __post_init__(self) -> None:
        check_scenes(self.count, self.size, self.channels, self.classes)

    def __len__(self) -> int:
        return self.count

    def draw(self, index: int) -> Drawing:
        """Make one scene."""
        if not 0 <= index < self.count:
            raise IndexError(f"scene {index} of {self.count}")
        random = chance(Draw.SCENE, self.seed, PARTS.index(self.part), index)
        scene = Dice(random, self.size, self.channels).scene(self.shape(index))
        drawing = draw(scene, self.size, self.channels)
        return drawing._replace(masks=drawing.masks[[thing.shape in CLASSES for thing in scene.things]])

    def shape(self, index: int) -> str:
        """All shapes take turns."""
        return CLASSES[index % len(CLASSES)]

    def __getitem__(self, index: int) -> Sample:
        drawing = self.draw(index)
        picture = picture_of(drawing.image, f"scenes:{self.part}[{index}]")
        return Sample(picture, self.classes.index(self.shape(index)), {"masks": drawing.masks})

    def labels(self) -> list[Label]:
        numbers = [self.classes.index(name) for name in CLASSES]
        return [numbers[index % len(CLASSES)] for index in range(self.count)]

    def fingerprint(self, index: int) -> bytes:
        return hashlib.blake2b(self.draw(index).image.tobytes(), digest_size=16).digest()


def recognises(path: Path | str) -> bool:
    return str(path).startswith("scenes:")


def parts(path: Path | str) -> tuple[str, ...]:
    return PARTS


def no_scenes(word: str, path: Path | str) -> DataError:
    """What to say of a word that means nothing: that its value does not, where its name does."""
    name, equals, value = word.partition("=")
    if equals and name in TAKES:
        given = f"not {value!r}" if value else "and none is given"
        return DataError(f"{name} in {str(path)!r} takes {TAKES[name]}, {given}.")
    whole = "scenes:1000,size=48x96,channels=1,seed=7"
    return DataError(
        f"{word!r} in {str(path)!r} means nothing. Write {whole}, or less of it; objects=5 draws up to five things "
        f"with their boxes, and panoptic names every pixel."
    )


def read_spelling(path: Path | str) -> Scenes | CrowdedScenes:
    """What was asked for, as the part to learn from.

    Raises:
        DataError: it is not spelt `scenes:1000,size=48x96,channels=1,seed=7`, where all but `scenes:` may be missing,
            and `objects=5` and `panoptic` may follow.
    """
    wanted: dict = {}
    for word in str(path).removeprefix("scenes:").split(","):
        if not word:
            continue
        if re.fullmatch(r"\d+", word):
            wanted["count"] = int(word)
        elif match := re.fullmatch(r"size=(\d+)x(\d+)", word):
            wanted["size"] = (int(match[1]), int(match[2]))
        elif match := re.fullmatch(r"(channels|seed|objects)=(\d+)", word):
            wanted[match[1]] = int(match[2])
        elif word == "panoptic":
            wanted["panoptic"] = True
        else:
            raise no_scenes(word, path)
    return CrowdedScenes(**wanted) if wanted.keys() & {"objects", "panoptic"} else Scenes(**wanted)


def open_part(path: Path | str, part: str | None, classes: tuple[str, ...] | None = None) -> Scenes | CrowdedScenes:
    """The scenes of one part; `val` and `test` have a fifth as many as `train`.

    Raises:
        DataError: the spelling means nothing, or `classes` lacks a shape.
    """
    train = read_spelling(path)
    count = train.count if part == "train" else -(-train.count // 5)
    return replace(train, part=part, count=count, classes=classes or train.classes)
