"""YOLO: a text file of objects for each picture, and one of settings.

| layout | objects | pictures | parts |
| --- | --- | --- | --- |
| with `data.yaml` | `labels/train/1.txt` | `images/train/1.jpg` | `train:`, `val:`, `test:` in it |
| Roboflow's | `train/labels/1.txt` | `train/images/1.jpg` | the same, or the folders' names |
| two folders | `labels/1.txt` | `images/1.jpg` | folders in both, or none |

In `data.yaml`, a part is a folder, a list of folders, or a text file with the paths of pictures.

A line is a class and a box: centre x and y, width and height, as shares of the picture as displayed; or a class and a
polygon of three corners or more, of which the box is taken. Names come from `names:` (a list, or number: name), or from
`classes.txt`. A picture without a text file has no objects. All classes that are named are classes, in their order.

Source: the documentation of Ultralytics' data sets, and Darknet's.
"""

import math
import re
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vitrail.data.checks.faults import Fault, fault
from vitrail.data.dataset import Dataset
from vitrail.data.datasets.folder import PART_NAMES
from vitrail.data.datasets.marked import Marks, box_faults, open_marks
from vitrail.data.datasets.outlines import Outline, extent, surface
from vitrail.data.files import folders_in, is_picture_name, pictures_below, shown
from vitrail.data.strict import FileError, read_text, read_yaml
from vitrail.errors import many

LONGEST = 1 << 26  # bytes of one text file
LOOKED_AT = 1 << 16
NAMES = re.compile(rb"^\s*[\"']?names[\"']?\s*:", re.MULTILINE)
NAME_FILES = ("classes.txt", "obj.names", "names.txt", "_darknet.labels")
EDGE = 0.01  # of a picture's side, by which a number may be more than 1, or less than 0
KEYS = {"train": ("train",), "val": ("val", "valid", "validation"), "test": ("test",)}


class Source(NamedTuple):
    """One part of a data set.

    Attributes:
        root: of the data set.
        settings: the YAML file, if there is one.
        places: folders of pictures, and text files that list some.
    """

    root: Path
    settings: Path | None
    places: tuple[Path, ...]


class Line(NamedTuple):
    """One object: its class's number, its outline if it has one, its box in shares of the picture, and its line."""

    number: int
    box: tuple[float, float, float, float]
    outline: Outline | None
    place: str


def is_settings(file: Path) -> bool:
    """Whether a YAML file names classes."""
    if file.suffix.lower() not in (".yaml", ".yml") or not file.is_file():
        return False
    try:
        with open(file, "rb") as content:
            return NAMES.search(content.read(LOOKED_AT)) is not None
    except OSError:
        return False


def settings_of(path: Path) -> Path | None:
    """The YAML file of a data set."""
    if path.is_file():
        return path if is_settings(path) else None
    files = sorted(file for file in path.iterdir() if is_settings(file)) if path.is_dir() else []
    return min(files, key=lambda file: (file.stem != "data", file.name), default=None)


def has_labels(folder: Path) -> bool:
    """Whether text files stand in or below a folder."""
    return folder.is_dir() and next(folder.rglob("*.txt"), None) is not None


def without_settings(path: Path) -> dict[str | None, Source]:
    """The parts of a data set that are only folders."""
    if not path.is_dir():
        return {}
    named = {folder.name.lower(): folder for folder in folders_in(path)}
    found = {}
    for part, names in PART_NAMES.items():
        for folder in (named[name] for name in names if name in named):
            if (folder / "images").is_dir() and has_labels(folder / "labels"):
                found[part] = Source(path, None, (folder / "images",))
    if found or not (path / "images").is_dir() or not has_labels(path / "labels"):
        return found
    inside = {folder.name.lower(): folder for folder in folders_in(path / "images")}
    of_parts: dict[str | None, Source] = {
        part: Source(path, None, (inside[name],))
        for part, names in PART_NAMES.items()
        for name in names
        if name in inside
    }
    return of_parts or {None: Source(path, None, (path / "images",))}


def resolved(text: str, settings: Path, root: Any) -> Path | None:
    """Where a place in the settings is, of all that its writer may have counted from."""
    bare = text.strip().replace("\\", "/")
    inside = re.sub(r"^(\.\./|\./)+", "", bare)
    home = settings.parent
    bases = [home / str(root), home, home.parent] if isinstance(root, str) else [home, home.parent]
    for candidate in (base / word for word in (bare, inside) for base in bases):
        if candidate.exists():
            return candidate
    return None


def places_in(content: Any, part: str) -> list[str]:
    """What the settings say of a part."""
    value = next((content[key] for key in KEYS[part] if isinstance(content, dict) and content.get(key)), None)
    return [str(one) for one in (value if isinstance(value, list) else [value])] if value is not None else []


def sources(path: Path) -> dict[str | None, Source]:
    """The parts of a data set; `None` for one that is in one piece.

    Raises:
        FileError: its settings are no YAML.
    """
    settings = settings_of(path)
    if settings is None:
        return without_settings(path)
    content, found = read_yaml(settings), dict[str | None, Source]()
    for part in KEYS:
        places = places_in(content, part)
        there = [where for text in places if (where := resolved(text, settings, content.get("path")))]
        if there:
            found[part] = Source(settings.parent, settings, tuple(there))
    if found:
        return found
    plain = without_settings(settings.parent)
    return {part: source._replace(settings=settings) for part, source in plain.items()}


def recognises(path: Path) -> bool:
    if settings_of(path) is None:
        return bool(without_settings(path))
    try:
        return path.is_file() or any(label_folder(source, files_of(source)) for source in sources(path).values())
    except FileError:
        return path.is_file() or has_labels(path / "labels")


def parts(path: Path) -> tuple[str, ...]:
    found = sources(path)
    return tuple(part for part in PART_NAMES if part in found)


def files_of(source: Source) -> list[Path]:
    """The pictures of a part."""
    files: list[Path] = []
    for place in source.places:
        if place.is_dir():
            files += pictures_below(place)
        elif place.suffix.lower() == ".txt":
            lines = (line.strip().replace("\\", "/") for line in read_text(place, LONGEST * 4).splitlines())
            files += [found_in(line, place, source.root) for line in lines if line]
        elif is_picture_name(place.name):
            files.append(place)
    return files


def found_in(line: str, place: Path, root: Path) -> Path:
    """A picture that a list names, from wherever the list counts."""
    options = [root / line, place.parent / line, place.parent.parent / line]
    return next((option for option in options if option.is_file()), options[0])


def exchanged(folder: Path) -> Path | None:
    """The folder of labels for one of pictures: its last `images` is `labels`."""
    words = list(folder.parts)
    if "images" not in words:
        return None
    last = len(words) - 1 - words[::-1].index("images")
    return Path(*words[:last], "labels", *words[last + 1 :])


def label_folder(source: Source, files: list[Path]) -> dict[Path, Path]:
    """For each folder of pictures the one with their labels."""
    folders: dict[Path, list[Path]] = {}
    for file in files:
        folders.setdefault(file.parent, []).append(file)
    found = {}
    for folder, pictures in folders.items():
        options = [exchanged(folder), source.root / "labels" / folder.name, source.root / "labels", folder]
        some = pictures[:: max(1, len(pictures) // 50)]
        counts = {
            option: sum((option / f"{file.stem}.txt").is_file() for file in some)
            for option in options
            if option is not None
        }
        best = max(counts, key=lambda option: counts[option])
        if counts[best]:
            found[folder] = best
    return found


def read_names(source: Source, faults: list[Fault], notes: list[str]) -> dict[int, str]:
    """The names of the classes by number; nothing where nobody names them."""
    if source.settings is None:
        folders = (source.root, source.root / "labels", source.root.parent)
        file = next((folder / name for folder in folders for name in NAME_FILES if (folder / name).is_file()), None)
        if file is None:
            return {}
        lines = [line.strip() for line in read_text(file, LONGEST).splitlines()]
        return {number: line for number, line in enumerate(lines) if line}
    content = read_yaml(source.settings)
    given = content.get("names") if isinstance(content, dict) else None
    pairs = enumerate(given) if isinstance(given, list) else given.items() if isinstance(given, dict) else ()
    names: dict[int, str] = {}
    for number, name in pairs:
        number = int(number) if isinstance(number, str) and number.isdecimal() else number
        if type(number) is not int or number < 0 or isinstance(name, dict | list) or not str(name or "").strip():
            reason = f"names has {number!r:.40}: {name!r:.40}, and should have 0: cat, or a list of words."
            faults.append(fault("unnamed-class", source.settings, reason))
        else:
            names[number] = str(name).strip()
    if not names:
        reason = f"Its names are {given!r:.60}. Write names: [cat, dog], or a number and a name on each line."
        faults.append(fault("not-yolo", source.settings, reason))
    count = content.get("nc") if isinstance(content, dict) else None
    if names and type(count) is int and count != len(names):
        reason = f"nc is {count}, and names has {len(names)}. Put one of them right."
        faults.append(fault("names-count", source.settings, reason))
    for number, name in names.items():
        first = next(other for other, word in names.items() if word == name)
        if first != number:
            reason = f"Classes {first} and {number} are both called {name!r}."
            faults.append(fault("duplicate-category-name", source.settings, reason))
    return dict(sorted(names.items()))


def read_line(words: list[str], place: str) -> Line | Fault:
    """One object, or what is wrong with it."""
    if len(words) < 5 or len(words) == 6 or (len(words) > 5 and len(words) % 2 == 0):
        more = " A sixth number, how sure somebody was, is for predictions." if len(words) == 6 else ""
        reason = f"{len(words)} columns. A box takes 5 (class, centre x and y, width, height), a polygon 7, 9, 11 ..."
        return fault("wrong-columns", place, reason + more)
    try:
        number, *values = map(float, words)
    except ValueError:
        wrong = next(word for word in words if not is_number(word))
        return fault("text-box", place, f"{wrong!r:.40} is no number.")
    if not all(map(math.isfinite, values)):
        code = "nan-box" if any(map(math.isnan, values)) else "infinite-box"
        return fault(code, place, "A number is not finite.")
    if not (number >= 0 and number == number // 1 < 1 << 31):
        return fault("wrong-class", place, f"The class is {words[0]!r:.40}, and should be 0, 1, 2 ...")
    highest, lowest = max(values), min(values)
    if highest > 1 + EDGE or (lowest < -EDGE and len(values) > 4):
        reason = f"{highest if highest > 1 + EDGE else lowest:g} is no share of a picture: 0 to 1. Divide by its sides."
        return fault("not-normalised", place, reason)
    if len(values) > 4:
        outline = (array("d", values),)
        return Line(int(number), extent(outline), outline, place)
    x, y, width, height = values
    return Line(int(number), (x - width / 2, y - height / 2, x + width / 2, y + height / 2), None, place)


def is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


class Reading:
    """Gathers what text files say."""

    def __init__(self) -> None:
        self.lines: list[Line] = []
        self.owners: list[int] = []
        self.faults: list[Fault] = []
        self.unmarked = 0

    def add(self, place: int, file: Path | None) -> None:
        """The objects of a picture."""
        if file is None or not file.is_file():
            self.unmarked += 1
            return
        try:
            text = read_text(file, LONGEST)
        except FileError as error:
            self.faults.append(fault(error.code, file, error.hint))
            return
        for number, line in enumerate(text.splitlines(), start=1):
            if words := line.split():
                found = read_line(words, f"{shown(file)}:{number}")
                if isinstance(found, Fault):
                    self.faults.append(found)
                else:
                    self.lines.append(found)
                    self.owners.append(place)


def orphans(files: list[Path], folders: dict[Path, Path]) -> Iterator[Fault]:
    """Text files without a picture."""
    stems: dict[Path, set[str]] = {}
    for file in files:
        if file.parent in folders:
            stems.setdefault(folders[file.parent], set()).add(file.stem)
    for folder, known in stems.items():
        for file in sorted(folder.glob("*.txt")):
            if file.stem not in known and file.name not in NAME_FILES and not file.name.startswith("README"):
                yield fault("label-without-picture", file, "No picture in this part has its name. It is not read.")


def read(path: Path, part: str | None) -> Marks:
    """All that one part says, with what is wrong with it.

    Raises:
        DataError: the settings, or a list of pictures, cannot be read.
    """
    source = sources(path)[part]
    files, reading, notes = files_of(source), Reading(), list[str]()
    folders = label_folder(source, files)
    for place, file in enumerate(files):
        folder = folders.get(file.parent)
        reading.add(place, None if folder is None else folder / f"{file.stem}.txt")
    names = read_names(source, reading.faults, notes)
    if not names:
        highest = max((line.number for line in reading.lines), default=0)
        names = {number: str(number) for number in range(highest + 1)}
        notes.append(
            f"{shown(source.root)} names no classes: they are called 0 to {highest}. Put names into classes.txt."
        )
    unnamed = [line for line in reading.lines if line.number not in names]
    for line in unnamed:
        reason = f"The class is {line.number}, and {shown(source.settings or source.root)} names {numbers_in(names)}."
        reading.faults.append(fault("wrong-class", line.place, reason))
    reading.faults += orphans(files, folders)
    if reading.unmarked:
        reason = f"{reading.unmarked} of {many(len(files), 'picture')} have no text file, and so no objects."
        reading.faults.append(fault("unmarked-picture", source.places[0], reason))
    marks = columns(source, files, reading, names, notes)
    reading.faults += box_faults(marks, sizes=False)
    return marks


def numbers_in(names: dict[int, str]) -> str:
    """Which classes are named, in words."""
    first, last = min(names), max(names)
    return f"{first} to {last}" if last - first + 1 == len(names) else f"{len(names)} classes from {first} to {last}"


def columns(source: Source, files: list[Path], reading: Reading, names: dict[int, str], notes: list[str]) -> Marks:
    """What was read, as columns."""
    both = [(owner, line) for owner, line in zip(reading.owners, reading.lines, strict=True) if line.number in names]
    label = {number: place for place, number in enumerate(names)}
    boxes = np.array([line.box for _, line in both], np.float64).reshape(-1, 4)
    outlines = [line.outline for _, line in both]
    marked = sum(outline is not None for outline in outlines)
    if 0 < marked < len(outlines):
        notes.append(
            f"{shown(source.root)}: {marked} of {many(len(outlines), 'object')} have an outline; boxes fill theirs."
        )
    areas = [math.nan if line.outline is None else surface(line.outline) for _, line in both]
    return Marks(
        source.places[0],
        [str(file) for file in files],
        [file.stem for file in files],
        np.zeros((len(files), 2), np.int64),
        tuple(names.values()),
        tuple(names),
        np.array([owner for owner, _ in both], np.int64),
        np.array([label[line.number] for _, line in both], np.int64),
        boxes,
        np.zeros(len(both), bool),
        np.array(areas, np.float64),
        np.arange(1, len(both) + 1),
        outlines if marked else None,
        places=lambda place: both[place][1].place,
        relative=True,
        faults=reading.faults,
        notes=notes,
    )


def open_part(path: Path, part: str | None, classes: tuple[str, ...] | None = None) -> Dataset:
    """Read one part, or a data set that has none.

    Args:
        path: the folder, or its YAML file.
        part: `train`, `val` or `test`; `None` where there are none.
        classes: to number by, when another part or a model has said them.

    Raises:
        DataError: it cannot be read, or says what cannot be meant.
    """
    return open_marks(read(path, part), classes)
