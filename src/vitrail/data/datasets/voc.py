"""Pascal VOC: one XML file of objects for each picture.

| layout | annotations | pictures | parts |
| --- | --- | --- | --- |
| VOC's own | `Annotations/1.xml` | `JPEGImages/1.jpg` | `ImageSets/Main/train.txt`, `val.txt`, `test.txt` |
| folders | `train/1.xml` | `train/1.jpg` | `train/`, `val/` or `valid/`, `test/` |
| folders in two | `train/annots/1.xml` | `train/images/1.jpg` | the same |
| two folders | `annots/1.xml` | `images/1.jpg` | none, or `ImageSets` |
| one folder | `1.xml` | `1.jpg` | none |

A folder of XML files may have any name, and all of this may lie up to two folders deeper (`VOCdevkit/VOC2012`).

Classes are all that the files name, sorted. VOC counts pixels from 1 and the last one is inside: a box from 1 to 640
covers a picture of 640 columns. So 1 is taken from left and top, and right and bottom stay, as Detectron2 and
torchvision's examples have it; where files count from 0, a box so begins a pixel too early, or at the edge. Objects
marked `difficult` are kept as ones that do not count, as crowds of COCO are: nothing is learned from them, and whatever
is found inside one is not judged. VOC's own tools forgive a single answer for each.

Source: M. Everingham et al., "The Pascal Visual Object Classes Challenge", IJCV 2010, and its development kit.
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from xml.etree.ElementTree import Element

import numpy as np

from vitrail.data.checks.faults import Fault, fault
from vitrail.data.classes import class_order
from vitrail.data.dataset import Dataset
from vitrail.data.datasets.folder import PART_NAMES
from vitrail.data.datasets.marked import FARTHEST, Marks, box_faults, open_marks
from vitrail.data.datasets.places import (
    class_folders,
    few_folders_in,
    files_ending,
    homes_below,
    part_folders,
    pictures_beside,
)
from vitrail.data.files import PICTURE_SUFFIXES, hidden, numbers_of, shown
from vitrail.data.strict import FileError, read_text, read_xml
from vitrail.errors import many

LONGEST_LIST = 1 << 28  # bytes of names in one part
LOOKED_AT = 4096  # bytes of an XML file that show what it is
SOME = 10  # files that are looked at


class Source(NamedTuple):
    """One part of a data set.

    Attributes:
        annotations: the folder of XML files.
        pictures: the folder of pictures.
        list: the file that names those of this part; `None` where all are.
    """

    annotations: Path
    pictures: Path
    list: Path | None


class Thing(NamedTuple):
    """One object of an XML file: its class, its box as it is written, and whether it counts."""

    name: str
    box: tuple[float, float, float, float]
    difficult: bool
    place: str


class Page(NamedTuple):
    """One XML file: rows and columns, 0 where they are not said, the picture's name, and the objects."""

    size: tuple[int, int]
    filename: str
    things: list[Thing]
    faults: list[Fault]


def is_page(file: Path) -> bool:
    """Whether a file begins like one of VOC's."""
    try:
        with open(file, "rb") as content:
            return b"<annotation" in content.read(LOOKED_AT)
    except OSError:
        return False


def has_pages(folder: Path) -> bool:
    """Whether annotations are in a folder: one of its first few XML files is enough."""
    if not folder.is_dir():
        return False
    return any(is_page(file) for file in files_ending(folder, ".xml")[:SOME])


def in_lists(root: Path, annotations: Path, top: Path) -> dict[str | None, Source]:
    """The parts that text files name, as VOC has them; or one piece."""
    pictures, lists = pictures_beside(annotations, top), root / "ImageSets" / "Main"
    found: dict[str | None, Source] = {}
    for part in PART_NAMES:
        if (file := lists / f"{part}.txt").is_file():
            found[part] = Source(annotations, pictures, file)
    if "train" not in found and (both := lists / "trainval.txt").is_file():
        found["train"] = Source(annotations, pictures, both)
    return found or {None: Source(annotations, pictures, None)}


def annotations_in(folder: Path) -> Path | None:
    """Where the XML files of a folder are: in `Annotations`, in it, or in the only folder in it that has some."""
    for place in (folder / "Annotations", folder):
        if has_pages(place):
            return place
    others = {*part_folders(folder).values(), *class_folders(folder)}
    inner = [place for place in few_folders_in(folder) if place not in others and has_pages(place)]
    return inner[0] if len(inner) == 1 else None


def in_folders(root: Path, top: Path) -> dict[str | None, Source]:
    """The parts that have folders of their own."""
    found = {part: place for part, folder in part_folders(root).items() if (place := annotations_in(folder))}
    return {part: Source(place, pictures_beside(place, top), None) for part, place in found.items()}


def sources_at(home: Path, top: Path) -> dict[str | None, Source]:
    """The parts of a data set that stands in a folder, with pictures in or near it, up to `top`."""
    if not (home / "Annotations").is_dir() and (parts_found := in_folders(home, top)):
        return parts_found
    if annotations := annotations_in(home):
        return in_lists(home, annotations, top)
    return in_folders(home, top)


def homes(path: Path) -> list[Path]:
    """The folders in and below one in which such data sets stand (`VOCdevkit/VOC2012`)."""
    return homes_below(path, lambda folder: bool(sources_at(folder, folder))) if path.is_dir() else []


def sources(path: Path) -> dict[str | None, Source]:
    """The parts of a data set; `None` for one that is in one piece."""
    home = next(iter(homes(path)), None)
    return {} if home is None else sources_at(home, path)


def parts(path: Path) -> tuple[str, ...]:
    found = sources(path)
    return tuple(part for part in PART_NAMES if part in found)


def number_in(element: Element | None, name: str) -> float:
    """A number out of a child; not a number where there is none."""
    text = None if element is None else element.findtext(name)
    try:
        return float(text or "nan")
    except ValueError:
        return math.nan


def read_box(element: Element, place: str) -> tuple[float, float, float, float] | Fault:
    """Left, top, right, bottom as they are written, or what is wrong with them."""
    box = element.find("bndbox")
    if box is None:
        return fault("missing-box", place, "It has no bndbox.")
    sides = []
    for name in ("xmin", "ymin", "xmax", "ymax"):
        text = (box.findtext(name) or "").strip()
        if not text:
            return fault("box-length", place, f"Its bndbox has no {name}.")
        try:
            value = float(text)
        except ValueError:
            return fault("text-box", place, f"Its {name} is {text!r:.40}, which is no number.")
        if math.isnan(value):
            return fault("nan-box", place, f"Its {name} is NaN.")
        if math.isinf(value):
            return fault("infinite-box", place, f"Its {name} is infinite.")
        if abs(value) >= FARTHEST:
            return fault("huge-box", place, f"Its {name} is {value:g}.")
        sides.append(value)
    left, top, right, bottom = sides
    return left, top, right, bottom


def read_page(file: Path) -> Page:
    """One XML file.

    Raises:
        FileError: it is not XML, or no annotation.
    """
    root, name = read_xml(file), shown(file)
    if root.tag != "annotation":
        raise FileError("not-voc", file, f"it begins with <{root.tag:.40}>, and VOC's files with <annotation>.")
    sides = [number_in(root.find("size"), side) for side in ("height", "width")]
    size = (int(sides[0]), int(sides[1])) if all(0 < side < FARTHEST for side in sides) else (0, 0)
    things, faults = [], []
    for number, element in enumerate(root.iter("object"), start=1):
        place = f"{name}:object {number}"
        word, box = (element.findtext("name") or "").strip(), read_box(element, place)
        if not word:
            faults.append(fault("unnamed-class", place, "It has no name."))
        elif isinstance(box, Fault):
            faults.append(box)
        else:
            things.append(Thing(word, box, (element.findtext("difficult") or "0").strip() == "1", place))
    return Page(size, (root.findtext("filename") or "").strip(), things, faults)


def listed(source: Source) -> list[str]:
    """The names of the files of a part, without their endings."""
    if source.list is None:
        return [file.stem for file in files_ending(source.annotations, ".xml")]
    lines = read_text(source.list, LONGEST_LIST).splitlines()
    return [words[0] for line in lines if (words := line.split()) and words[-1] != "-1"]


def picture_for(stem: str, filename: str, files: dict[str, str]) -> str | None:
    """The picture of an XML file: the one of its name, or else the one it names."""
    return files.get(stem) or files.get(Path(filename.replace("\\", "/")).stem)


def pictures_in(folder: Path) -> dict[str, str]:
    """Pictures of a folder, by their names without ending."""
    files = (
        sorted(file for file in folder.iterdir() if file.suffix.lower() in PICTURE_SUFFIXES) if folder.is_dir() else []
    )
    return {file.stem: str(file) for file in reversed(files)}


def all_classes(path: Path) -> tuple[str, ...]:
    """The names of all classes of all parts, sorted."""
    names: set[str] = set()
    for folder in {source.annotations for source in sources(path).values()}:
        for file in sorted(folder.glob("*.xml")):
            if not hidden(file.name):
                try:
                    names.update(thing.name for thing in read_page(file).things)
                except FileError:
                    continue  # told where its part is read
    return class_order(names)


class Reading:
    """Gathers what XML files say into columns."""

    def __init__(self) -> None:
        self.paths: list[str] = []
        self.sizes: list[tuple[int, int]] = []
        self.owners: list[int] = []
        self.things: list[Thing] = []
        self.faults: list[Fault] = []
        self.unsized: list[Path] = []
        self.bare = 0  # pictures without a file, which have no objects
        self.left = 0  # pictures without a file in a folder of their own, of which nobody knows

    def add(self, path: str, page: Page) -> None:
        """A picture with its objects."""
        self.faults += page.faults
        self.owners += [len(self.paths)] * len(page.things)
        self.things += page.things
        self.paths.append(path)
        self.sizes.append(page.size)


def read_pages(source: Source) -> Reading:
    """All files of a part."""
    reading, files = Reading(), pictures_in(source.pictures)
    stems = listed(source)
    beside = source.pictures == source.annotations
    if source.list is None and beside:
        stems = sorted({*stems, *files})  # a picture without objects may have no file
    for stem in stems:
        page_file = source.annotations / f"{stem}.xml"
        if not page_file.is_file():
            if stem in files:
                reading.add(files[stem], Page((0, 0), "", [], []))
                reading.bare += 1
            else:
                place = shown(source.list or page_file)
                reading.faults.append(fault("missing-picture", place, f"It names {shown(stem)}, which is not there."))
            continue
        try:
            page = read_page(page_file)
        except FileError as error:
            reading.faults.append(fault(error.code, page_file, error.hint))
            continue
        if (path := picture_for(stem, page.filename, files)) is None:
            hint = f"No picture called {shown(stem)} is in {shown(source.pictures)}."
            reading.faults.append(fault("missing-picture", page_file, hint))
            continue
        named = Path(page.filename.replace("\\", "/")).stem
        if page.filename and named != Path(path).stem:
            hint = f"It says that its picture is {shown(page.filename)}; {Path(path).name} is read."
            reading.faults.append(fault("filename-disagrees", page_file, hint))
        if 0 in page.size:
            reading.unsized.append(page_file)
        reading.add(path, page)
    if source.list is None and not beside:
        reading.left = len({*files.values()} - {*reading.paths})
    if reading.unsized:
        count, be = len(reading.unsized), "does" if len(reading.unsized) == 1 else "do"
        hint = f"{many(count, 'file')} {be} not say the size of the picture; it is taken from there."
        reading.faults.append(fault("missing-size", reading.unsized[0], hint))
    return reading


def read(path: Path, part: str | None) -> Marks:
    """All that one part says, with what is wrong with it.

    Raises:
        DataError: there is no such part.
    """
    source, classes = sources(path)[part], all_classes(path)
    reading = read_pages(source)
    things, label = reading.things, {name: place for place, name in enumerate(classes)}
    written = np.array([thing.box for thing in things], np.float64).reshape(-1, 4)
    boxes = np.concatenate([np.where(written[:, :2] == 0, 0, written[:, :2] - 1), written[:, 2:]], axis=1)
    empty = (written[:, 2:] <= written[:, :2]).any(axis=1, keepdims=True)
    boxes[:, :2] = np.where(empty, written[:, :2], boxes[:, :2])  # so that what has no area keeps none
    sides = boxes[:, 2:] - boxes[:, :2]
    marks = Marks(
        source.list or source.annotations,
        reading.paths,
        numbers_of(reading.paths),
        np.array(reading.sizes, np.int64).reshape(-1, 2),
        classes,
        tuple(range(len(classes))),
        np.array(reading.owners, np.int64),
        np.array([label[thing.name] for thing in things], np.int64),
        boxes,
        np.array([thing.difficult for thing in things], bool),
        sides[:, 0] * sides[:, 1],
        np.arange(1, len(things) + 1),
        None,
        places=lambda place: things[place].place,
        faults=reading.faults,
    )
    reading.faults += box_faults(marks, sizes=False)
    if not classes:
        reading.faults.append(fault("no-classes", path, "Its files name no object."))
    reading.faults += notes(marks, written, reading)
    return marks


def notes(marks: Marks, written: np.ndarray, reading: Reading) -> Iterator[Fault]:
    """What is good to know of a part that is read."""
    for code, count, end in (
        ("unmarked-picture", reading.bare, "so no objects"),
        ("unlisted-picture", reading.left, "are left out"),
    ):
        if count:
            has, end = ("has", end.replace("are", "is")) if count == 1 else ("have", end)
            yield fault(code, marks.source, f"{many(count, 'picture')} {has} no XML file, and {end}.")
    if count := int(marks.crowd.sum()):
        reason = f"{many(count, 'object')} marked difficult are neither learned nor judged."
        yield fault("difficult-object", marks.source, reason)
    if zeros := int((written[:, :2] == 0).any(axis=1).sum()):
        begin = "begins" if zeros == 1 else "begin"
        reason = (
            f"{many(zeros, 'box')} {begin} at 0, and VOC counts from 1. If the whole data set counts from 0, its boxes "
            "are read a pixel too large at the left and at the top."
        )
        yield fault("from-zero", marks.source, reason)


def open_part(path: Path, part: str | None, classes: tuple[str, ...] | None = None) -> Dataset:
    """Read one part, or a data set that has none.

    Args:
        path: the folder.
        part: `train`, `val` or `test`; `None` where there are none.
        classes: to number by, when another part or a model has said them.

    Raises:
        DataError: it cannot be read, or says what cannot be meant.
    """
    return open_marks(read(path, part), classes)
