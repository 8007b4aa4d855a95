"""YOLO: a text file of objects for each picture, and one of settings.

| layout | objects | pictures | parts |
| --- | --- | --- | --- |
| with `data.yaml` | `labels/train/1.txt` | `images/train/1.jpg` | `train:`, `val:`, `test:` in it |
| Roboflow's | `train/labels/1.txt` | `train/images/1.jpg` | the same, or the folders' names |
| two folders | `labels/1.txt` | `images/1.jpg` | folders in both, or none |
| Darknet's, LabelImg's | `1.txt` | `1.jpg` | `train/`, `val/`; or `train.txt`, `valid.txt`; or none |

In `data.yaml`, a part is a folder, a list of folders, or a text file with the paths of pictures; so it is in Darknet's
`obj.data`, and without either, `train.txt`, `valid.txt` and `test.txt` may be such files. Where a path leads nowhere,
being of another machine, its last words are looked for. All of this may lie up to two folders deeper.

A line is a class and a box: centre x and y, width and height, as shares of the picture as displayed; or a class and a
polygon of three corners or more, of which the box is taken. Names come from `names:` (a list, or number: name), or from
`classes.txt` or `obj.names`. A picture without a text file has no objects. All classes that are named are classes, in
their order.

Source: the documentation of Ultralytics' data sets, and Darknet's.
"""

import math
import os
import re
from array import array
from collections.abc import Iterator
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np

from vitrail.data.checks.faults import Fault, fault
from vitrail.data.dataset import Dataset
from vitrail.data.datasets.folder import PART_NAMES
from vitrail.data.datasets.marked import Marks, box_faults, open_marks
from vitrail.data.datasets.outlines import Outline, extent, surface
from vitrail.data.datasets.places import (
    few_folders_in,
    files_ending,
    homes_below,
    likely_folders,
    named_folders,
    part_folders,
    part_of,
)
from vitrail.data.files import folders_in, is_picture_name, numbers_of, pictures_below, shown
from vitrail.data.strict import FileError, read_text, read_yaml
from vitrail.errors import many

LONGEST = 1 << 26  # bytes of one text file
LOOKED_AT = 1 << 16
NAMES = re.compile(rb"^\s*[\"']?names[\"']?\s*:", re.MULTILINE)
NAME_FILES = ("classes.txt", "obj.names", "names.txt", "_darknet.labels")
LABEL_FOLDERS = ("labels", "label", "annotations", "txt")  # tried in this order, however they are written
EDGE = 0.01  # of a picture's side, by which a number may be more than 1, or less than 0
FAR = 1.0  # the same, by which a file that stands anywhere may miss and still be one of labels
SOME = 50  # files that are looked at
ENOUGH = 5000  # pictures of a part that are asked for their labels
KEYS = {"train": ("train",), "val": ("val", "valid", "validation"), "test": ("test",)}
PART_OF_KEY = {key: part for part, keys in KEYS.items() for key in keys}
FOREIGN = re.compile(r"^(/|[A-Za-z]:)")  # a path that begins at the root of some machine


class Source(NamedTuple):
    """One part of a data set.

    Attributes:
        root: of the data set.
        settings: the YAML file, if there is one.
        places: folders of pictures, and text files that list some.
        labels: the folder of the text files, where `places` does not lead to it.
    """

    root: Path
    settings: Path | None
    places: tuple[Path, ...]
    labels: Path | None = None


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
    files = [file for file in files_ending(path, ".yaml", ".yml") if is_settings(file)] if path.is_dir() else []
    return min(files, key=lambda file: (file.stem != "data", file.name), default=None)


def has_texts(folder: Path) -> bool:
    """Whether text files stand in or below a folder."""
    return folder.is_dir() and next(folder.rglob("*.txt"), None) is not None


def spread(files: list[Path]) -> list[Path]:
    """Some of many files, from all over."""
    return files[:: max(1, len(files) // SOME)][:SOME]


def looks_marked(file: Path) -> bool:
    """Whether the first line of a text file is a class and shares of a picture, whatever else may be wrong with it."""
    try:
        with open(file, "rb") as content:
            words = content.read(LOOKED_AT).decode("utf-8-sig", "ignore").strip().split("\n", 1)[0].split()
        number, *values = map(float, words)
    except (OSError, ValueError):
        return False
    return len(values) >= 4 and 0 <= number == number // 1 and all(-FAR <= value <= 1 + FAR for value in values)


def marked_stems(folder: Path) -> set[str]:
    """The names of the text files of a folder, if objects are marked in one of some of them."""
    files = files_ending(folder, ".txt")
    return {file.stem for file in files} if any(looks_marked(file) for file in spread(files)) else set()


def is_about(labels: Path, pictures: Path) -> bool:
    """Whether the text files of a folder have the names of pictures in another, or in the same."""
    stems = marked_stems(labels)
    pairs = map(os.path.splitext, os.listdir(pictures) if stems else ())
    return any(stem in stems and is_picture_name(stem + ending) for stem, ending in pairs)


def share_names(labels: Path, pictures: Path) -> bool:
    """Whether a folder of labels is about one of pictures, or a folder in it about the one of its name."""
    inner = [(place, pictures / place.name) for place in few_folders_in(labels)]
    return is_about(labels, pictures) or any(is_about(*both) for both in inner if both[1].is_dir())


def in_two(folder: Path) -> tuple[Path, Path] | None:
    """The folders of pictures and of labels in a folder, if they are called so."""
    named = named_folders(folder)
    for pictures in likely_folders(folder):
        for labels in (named[name] for name in LABEL_FOLDERS if name in named):
            if has_texts(labels) if labels.name == "labels" else share_names(labels, pictures):
                return pictures, labels
    return None


def in_one_piece(folder: Path, root: Path) -> Source | None:
    """Pictures and labels in two folders of a folder, or side by side in it."""
    if both := in_two(folder):
        return Source(root, None, both[:1], both[1])
    return Source(root, None, (folder,), folder) if is_about(folder, folder) else None


def lists_pictures(file: Path) -> bool:
    """Whether the first lines of a text file are the paths of pictures."""
    if not file.is_file() or file.suffix.lower() != ".txt":
        return False
    with open(file, "rb") as content:
        text = content.read(LOOKED_AT).decode("utf-8", "ignore")
        cut = bool(content.read(1))
    lines = [line.strip() for line in (text.rpartition("\n")[0] or text if cut else text).splitlines()]
    return any(lines) and all(is_picture_name(line) for line in lines if line)


def list_files(home: Path) -> dict[str, Path]:
    """The text files that list pictures, by part: as Darknet's settings (`obj.data`) have it, or by their names."""
    settings = next((file for file in files_ending(home, ".data") if file.is_file()), None)
    try:
        lines = [] if settings is None else read_text(settings, LONGEST).splitlines()
    except FileError:  # something else that is called so
        lines = []
    pairs = [line.partition("=") for line in lines]
    told = {key.strip(): value.strip() for key, _, value in pairs if value.strip()}
    places = {part: PurePosixPath(told[key]) for key, part in PART_OF_KEY.items() if key in told}
    said = {part: resolved(str(place), home, None) or home / place.name for part, place in places.items()}
    named = {part: home / f"{key}.txt" for key, part in PART_OF_KEY.items() if lists_pictures(home / f"{key}.txt")}
    return {part: file for part, file in said.items() if lists_pictures(file)} or named


def in_lists(home: Path) -> dict[str | None, Source]:
    """The parts of which text files list the pictures."""
    lists = list_files(home)
    both = in_two(home) if lists else None
    found = {part: Source(home, None, (file,), both[1] if both else None) for part, file in lists.items()}
    return {**found} if any(has_labels(source) for source in found.values()) else {}


def without_settings(home: Path) -> dict[str | None, Source]:
    """The parts of a data set that has no YAML file."""
    if found := in_lists(home):
        return found
    folders = part_folders(home)
    if of_parts := {part: piece for part, place in folders.items() if (piece := in_one_piece(place, home))}:
        return {**of_parts}
    whole = in_one_piece(home, home)
    if whole is None or whole.labels == home:
        return {} if whole is None else {None: whole}
    inside = part_folders(whole.places[0]) or by_words(whole.places[0])
    return {part: whole._replace(places=(place,)) for part, place in inside.items()} or {None: whole}


def by_words(folder: Path) -> dict[str, Path]:
    """The folders in a folder with the name of a part in their own (`train2017`), if each has one."""
    named = [(part_of(one.name), one) for one in folders_in(folder)]
    found = {part: one for part, one in named if part is not None}
    return found if len(found) == len(named) else {}


def resolved(text: str, home: Path, root: Any) -> Path | None:
    """Where a place in the settings is, of all that its writer may have counted from.

    Args:
        text: the place as it is written.
        home: the folder of the settings.
        root: what they say that they count from, if it is a text.
    """
    bare = text.strip().replace("\\", "/")
    words = PurePosixPath(re.sub(r"^(\.\./|\./)+", "", bare)).parts
    inside = [str(PurePosixPath(*words[place:])) for place in range(len(words) if FOREIGN.match(bare) else 1) if words]
    own = [home / str(root), home] if isinstance(root, str) else [home]
    near = own if FOREIGN.match(bare) else [*own, home.parent]  # a neighbour may have the same folders
    for word in (bare, *inside):
        for base in near:
            if (base / word).exists():
                return base / word
    return next((folder / word for word in inside for folder in few_folders_in(home) if (folder / word).exists()), None)


def places_in(content: Any, part: str) -> list[str]:
    """What the settings say of a part."""
    value = next((content[key] for key in KEYS[part] if isinstance(content, dict) and content.get(key)), None)
    return [str(one) for one in (value if isinstance(value, list) else [value])] if value is not None else []


def with_settings(settings: Path) -> dict[str | None, Source]:
    """The parts that a YAML file tells of, or those that stand beside it without its knowing.

    Raises:
        FileError: it is no YAML.
    """
    content, found, home = read_yaml(settings), dict[str | None, Source](), settings.parent
    for part in KEYS:
        places = places_in(content, part)
        there = [where for text in places if (where := resolved(text, home, content.get("path")))]
        if there:
            found[part] = Source(home, settings, tuple(there))
    if any(has_labels(source) for source in found.values()):
        return found
    return {part: source._replace(settings=settings) for part, source in without_settings(home).items()} or found


def sources_at(home: Path) -> dict[str | None, Source]:
    """The parts of a data set that stands in a folder.

    Raises:
        FileError: its settings are no YAML.
    """
    settings = settings_of(home)
    return without_settings(home) if settings is None else with_settings(settings)


def stands_at(home: Path) -> bool:
    """Whether a data set stands in a folder, whatever may be wrong with its settings."""
    try:
        return any(has_labels(source) for source in sources_at(home).values())
    except FileError:
        return has_texts(home / "labels")


def homes(path: Path) -> list[Path]:
    """The folders in and below one in which such data sets stand; or the YAML file itself."""
    if not path.is_dir():
        return [] if settings_of(path) is None else [path]
    return homes_below(path, stands_at)


def sources(path: Path) -> dict[str | None, Source]:
    """The parts of a data set; `None` for one that is in one piece.

    Raises:
        FileError: its settings are no YAML.
    """
    home = next(iter(homes(path)), None)
    return {} if home is None else sources_at(home)


def parts(path: Path) -> tuple[str, ...]:
    found = sources(path)
    return tuple(part for part in PART_NAMES if part in found)


def is_marked(picture: Path) -> bool:
    """Whether there is a text file beside a picture."""
    return picture.with_suffix(".txt").is_file()


def each_file(source: Source) -> Iterator[Path]:
    """The pictures of a part, as they are met."""
    for place in source.places:
        if place == source.labels:  # they stand side by side, in folders there too; other pictures are something else
            yield from (file for file in pictures_below(place) if file.parent == place or is_marked(file))
        elif place.is_dir():
            yield from pictures_below(place)
        elif place.suffix.lower() == ".txt":
            lines = [line.strip().replace("\\", "/") for line in read_text(place, LONGEST * 4).splitlines()]
            yield from listed([line for line in lines if line], place, source.root)
        elif is_picture_name(place.name):
            yield place


def files_of(source: Source) -> list[Path]:
    """The pictures of a part."""
    return list(each_file(source))


def has_labels(source: Source) -> bool:
    """Whether there are labels for pictures of a part; of very many, the first ones are asked for."""
    return bool(label_folder(source, list(islice(each_file(source), ENOUGH))))


def listed(lines: list[str], place: Path, root: Path) -> list[Path]:
    """The pictures that a list names, from wherever it counts; only the last words of a path of another machine do."""
    bases = [*dict.fromkeys((root, place.parent, place.parent.parent, *likely_folders(root)))]
    deepest = max((line.count("/") for line in lines[:SOME]), default=0)
    ways = [(base, skipped) for skipped in range(deepest + 1) for base in bases]

    def by(way: tuple[Path, int], line: str) -> Path:
        return way[0] / (line.split("/", way[1])[-1] if way[1] else line)

    ways.sort(key=lambda way: -sum(by(way, line).is_file() for line in lines[:SOME]))
    ways = [ways[0], *(way for way in ways if not way[1])]  # one way for all, or the line as it is written
    return [next((file for way in ways if (file := by(way, line)).is_file()), root / line) for line in lines]


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
        given = [] if source.labels is None else [source.labels / folder.name, source.labels]
        usual = [exchanged(folder), source.root / "labels" / folder.name, source.root / "labels", folder]
        counts = {
            option: sum((option / f"{file.stem}.txt").is_file() for file in spread(pictures))
            for option in (*given, *usual)
            if option is not None
        }
        best = max(counts, key=lambda option: counts[option])
        if counts[best]:
            found[folder] = best
    return found


def name_file(source: Source) -> Path | None:
    """The text file with the names of the classes, a line each."""
    around = [source.root, source.root / "labels", source.root / "data", *source.places, source.root.parent]
    folders = [folder for folder in (*around, source.labels) if folder is not None and folder.is_dir()]
    for folder in folders:
        options = [*(folder / name for name in NAME_FILES), *files_ending(folder, ".names")]
        if file := next((file for file in options if file.is_file()), None):
            return file
    return None


def read_names(source: Source, faults: list[Fault]) -> dict[int, str]:
    """The names of the classes by number; nothing where nobody names them."""
    if source.settings is None:
        file = name_file(source)
        lines = [] if file is None else [line.strip() for line in read_text(file, LONGEST).splitlines()]
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

    def add(self, place: int, picture: Path, file: Path | None) -> None:
        """The objects of a picture."""
        if file is None or not file.is_file():
            self.unmarked += picture.is_file()  # one that is not there is another fault
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


def orphans(path: Path) -> Iterator[Fault]:
    """Text files of which there is no picture, in any part or beside those of the parts."""
    stems, others = dict[Path, set[str]](), set[Path]()
    for source in sources(path).values():
        files = files_of(source)
        folders = label_folder(source, files)
        for folder in {file.parent for file in files} & folders.keys():
            known = stems.setdefault(folders[folder], set())
            if folder.is_dir():
                known |= {Path(name).stem for name in os.listdir(folder) if is_picture_name(name)}
        for file in files:
            if file.parent in folders:
                stems[folders[file.parent]].add(file.stem)
        others |= {*source.places}
    for folder, known in stems.items():
        for file in sorted(folder.glob("*.txt")):
            is_known = file.stem in known or file.name in NAME_FILES or file in others
            if not is_known and not file.name.startswith("README") and not lists_pictures(file):
                yield fault("label-without-picture", file, "No picture has its name. It is not read.")


def read(path: Path, part: str | None) -> Marks:
    """All that one part says, with what is wrong with it.

    Raises:
        DataError: the settings, or a list of pictures, cannot be read.
    """
    source = sources(path)[part]
    files, reading = files_of(source), Reading()
    folders = label_folder(source, files)
    for place, file in enumerate(files):
        folder = folders.get(file.parent)
        reading.add(place, file, None if folder is None else folder / f"{file.stem}.txt")
    names = read_names(source, reading.faults)
    if not names:
        highest = max((line.number for line in reading.lines), default=0)
        names = {number: str(number) for number in range(highest + 1)}
        if source.settings is None:  # which are wrong, and that is said, if they name none
            reason = f"It names no classes: they are called 0 to {highest}. Put names into classes.txt."
            reading.faults.append(fault("nameless-classes", source.root, reason))
    unnamed = [line for line in reading.lines if line.number not in names]
    for line in unnamed:
        reason = f"The class is {line.number}, and {shown(source.settings or source.root)} names {numbers_in(names)}."
        reading.faults.append(fault("wrong-class", line.place, reason))
    if reading.unmarked:
        reason = f"{reading.unmarked} of {many(len(files), 'picture')} have no text file, and so no objects."
        reading.faults.append(fault("unmarked-picture", source.places[0], reason))
    marks = columns(source, files, reading, names)
    reading.faults += box_faults(marks, sizes=False)
    return marks


def numbers_in(names: dict[int, str]) -> str:
    """Which classes are named, in words."""
    first, last = min(names), max(names)
    return f"{first} to {last}" if last - first + 1 == len(names) else f"{len(names)} classes from {first} to {last}"


def columns(source: Source, files: list[Path], reading: Reading, names: dict[int, str]) -> Marks:
    """What was read, as columns."""
    both = [(owner, line) for owner, line in zip(reading.owners, reading.lines, strict=True) if line.number in names]
    label = {number: place for place, number in enumerate(names)}
    boxes = np.array([line.box for _, line in both], np.float64).reshape(-1, 4)
    outlines = [line.outline for _, line in both]
    marked = sum(outline is not None for outline in outlines)
    if 0 < marked < len(outlines):
        have = "has" if marked == 1 else "have"
        reason = f"{marked} of {many(len(outlines), 'object')} {have} an outline; the others are filled boxes."
        reading.faults.append(fault("missing-outline", source.root, reason))
    areas = [math.nan if line.outline is None else surface(line.outline) for _, line in both]
    return Marks(
        source.places[0],
        [str(file) for file in files],
        numbers_of(str(file) for file in files),
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
