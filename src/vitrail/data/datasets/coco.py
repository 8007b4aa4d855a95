"""COCO's JSON: pictures, objects with boxes and outlines, and categories.

| layout | annotations | pictures |
| --- | --- | --- |
| COCO's own | `annotations/instances_train2017.json` | `train2017/`, or `images/train2017/` |
| Roboflow's | `train/_annotations.coco.json` | beside it |
| files of parts | `train.json`, `annotations/train.json`, `annotations/train/1.json` | `images/`, or `images/train/` |
| one file | `annotations.json`, or `--data FILE.json` | beside it, or in a folder beside it |

The folder of annotations may have any name, and all of this may lie up to two folders deeper. Where a `file_name` leads
nowhere, being of another machine, its last word is looked for. A part is known by its name (`train`, `val` or `valid`,
`test`) in that of the file or of its folder. Classes are in the order of their category ids. A box is left, top, width,
height; (0, 0) is the corner of the first pixel. Crowds are kept as such: nothing is learned from them, and what is
found inside one counts neither for nor against a detector.

Source: T.-Y. Lin et al., "Microsoft COCO: Common Objects in Context", ECCV 2014, and its page on the data format.
"""

import os
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, TypeGuard

import numpy as np

from vitrail.data.checks.faults import Fault, fault
from vitrail.data.dataset import Dataset
from vitrail.data.datasets.folder import PART_NAMES
from vitrail.data.datasets.marked import FARTHEST, Marks, area_faults, box_faults, open_marks
from vitrail.data.datasets.outlines import (
    Outline,
    OutlineError,
    extent,
    lengths,
    pack,
    read_polygons,
    read_runs,
    surface,
)
from vitrail.data.datasets.places import (
    FEW,
    few_folders_in,
    files_ending,
    homes_below,
    likely_folders,
    named_folders,
    part_of,
    upwards,
)
from vitrail.data.files import pictures_below, shown
from vitrail.data.strict import BOM, FileError, read_json
from vitrail.errors import DataError, many

LOOKED_AT = 1 << 16  # bytes of a JSON file that show what it is
TABLES = re.compile(r'"(images|annotations)"\s*:\s*\[')
CATEGORIES = re.compile(r'"categories"\s*:\s*\[')  # which may be long, or all that somebody wrote of them
FIELDS = re.compile(r'"(file_name|image_id|category_id|supercategory)"\s*:')  # that other JSON hardly has
MOST_FILES = 50  # JSON files of a folder that are looked at: where there are more, they are of one picture each
OTHER_KINDS = ("captions", "image_info", "images_info", "stuff")  # COCO's files about something else
ORDINARY = ("instances", "_annotations.coco", "annotations")  # those that are taken where there are several
SOME = 50  # pictures by which their folder is found


class Source(NamedTuple):
    """One annotation file.

    Attributes:
        file: the JSON.
        root: of the whole data set.
        others: files that could have been meant as well.
        top: the folder up to which pictures are looked for; the root, where it is not said.
    """

    file: Path
    root: Path
    others: tuple[Path, ...] = ()
    top: Path | None = None


def head_of(path: Path) -> str:
    """The beginning of a file, as text; nothing of one that cannot be read."""
    try:
        with open(path, "rb") as file:
            head = file.read(LOOKED_AT)
    except OSError:
        return ""
    return head.decode("utf-16" if head[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8", "ignore")


def is_coco(path: Path) -> bool:
    """Whether a JSON file begins like one of COCO's, and not with categories alone, as Label Studio's for YOLO does."""
    if path.suffix.lower() != ".json" or not path.is_file():
        return False
    head = head_of(path)
    return bool(TABLES.search(head) or (CATEGORIES.search(head) and path.stat().st_size > LOOKED_AT))


def named_so(path: Path) -> bool:
    """Whether a file is called as COCO's are, whatever is in it."""
    name = path.name.lower()
    return name.endswith(".json") and (name.startswith(("instances_", "panoptic_")) or name == "_annotations.coco.json")


def rank(path: Path) -> tuple[int, str]:
    """Which of several files for one part is meant: instances before anything else, captions never."""
    name = path.name.lower()
    if name.startswith(ORDINARY):
        return 0, name
    return (2 if name.startswith(("panoptic", "person_keypoints")) else 1), name


def json_files(folder: Path) -> list[Path]:
    """The files of a folder that may be COCO's."""
    named = files_ending(folder, ".json")
    files = [file for file in named if not (file.name.startswith(OTHER_KINDS) or file.stem.endswith("_categories"))]
    return [file for place, file in enumerate(files) if named_so(file) or (place < MOST_FILES and is_coco(file))]


def files_by_part(folder: Path) -> dict[str | None, list[Path]]:
    """The files of a folder by the parts that they are named after, or else those in folders of parts."""
    found: dict[str | None, list[Path]] = {}
    for file in json_files(folder):
        found.setdefault(part_of(file.stem), []).append(file)
    for inner in () if found else few_folders_in(folder):
        if part := part_of(inner.name):
            annotated = [place for place in few_folders_in(inner) if place.name.lower() == "annotations"]
            if files := [file for place in (inner, *annotated) for file in json_files(place)]:
                found.setdefault(part, []).extend(files)
    return found


def surely(found: dict[str | None, list[Path]]) -> bool:
    """Whether files are COCO's, and no other JSON that speaks of images and annotations."""
    return any(named_so(file) or FIELDS.search(head_of(file)) for files in found.values() for file in files)


def speaks_of_others(folder: Path) -> bool:
    """Whether there are annotations in a folder, and no pictures in or below it."""
    return surely(files_by_part(folder)) and next(iter(pictures_below(folder)), None) is None


def annotation_folders(home: Path) -> list[Path]:
    """The folders in a folder that are called `annotations`, however that is written."""
    return [folder for name, folder in named_folders(home).items() if name == "annotations"]


def files_at(home: Path) -> dict[str | None, list[Path]]:
    """The files of a data set that stands in a folder, by part: in `annotations`, in it, or in the only folder in it
    that has some and no picture."""
    for folder in (*annotation_folders(home), home):
        if found := files_by_part(folder):
            return found
    inner = [folder for folder in few_folders_in(home) if speaks_of_others(folder)]
    return files_by_part(inner[0]) if len(inner) == 1 else {}


def stands_aside(home: Path) -> bool:
    """Whether the files of a data set are in a folder of any name, which another format may have left there."""
    return home.is_dir() and not any(files_by_part(folder) for folder in (*annotation_folders(home), home))


def stands_at(home: Path, *, named: bool) -> bool:
    """Whether a data set stands in a folder; less is enough in the one that was named."""
    found = files_at(home)
    return bool(found) if named else surely(found)


def homes(path: Path) -> list[Path]:
    """The folders in and below one in which such data sets stand; or the file itself."""
    if not path.is_dir():
        return [path] if is_coco(path) else []
    return homes_below(path, lambda folder: stands_at(folder, named=folder == path))


def anything(file: Path) -> bool:
    return True


def sources_at(home: Path, top: Path, fits: Callable[[Path], bool] = anything) -> dict[str | None, Source]:
    """The annotation files of a data set that stands in a folder, or in a file, with pictures in or near it.

    Args:
        home: the folder or the file.
        top: the folder up to which pictures are looked for.
        fits: which files may be taken.
    """
    if home.is_file():
        return {None: Source(home, home.parent)} if fits(home) else {}
    found = {part: some for part, files in files_at(home).items() if (some := [file for file in files if fits(file)])}
    if len(found) > 1:
        found.pop(None, None)
    chosen = {part: sorted(files, key=rank) for part, files in sorted(found.items(), key=str)}
    return {part: Source(files[0], home, tuple(files[1:]), top) for part, files in chosen.items()}


def sources(path: Path) -> dict[str | None, Source]:
    """The annotation files of a data set, by part; `None` for one that is in one piece."""
    home = next(iter(homes(path)), None)
    return {} if home is None else sources_at(home, path)


def parts(path: Path) -> tuple[str, ...]:
    found = sources(path)
    return tuple(part for part in PART_NAMES if part in found)


def folders_for(source: Source) -> Iterator[Path]:
    """Where the pictures of an annotation file may be, likeliest first."""
    stem, top = source.file.stem, source.top or source.root
    words = [stem.split("_", 1)[1]] if "_" in stem else []
    part = part_of(stem) or part_of(source.file.parent.name)
    words += [stem, *(PART_NAMES[part] if part else ())]
    near = list(dict.fromkeys([source.root, source.file.parent, source.file.parent.parent, *upwards(source.root, top)]))
    for root in dict.fromkeys([*near, source.root.parent, top.parent]):
        for folder in (root, *likely_folders(root)):
            yield from (folder / word for word in words)
        yield from (root, *likely_folders(root))
    for root in near:
        around = [
            folder for folder in named_folders(root).values() if part is None or part_of(folder.name) in (None, part)
        ]
        yield from around
        yield from (inner for folder in around[:FEW] for inner in few_folders_in(folder))


def plain_name(name: str) -> str:
    """A file name as it is written on this system."""
    return name.replace("\\", "/")


def picture_folder(source: Source, names: list[str], avoid: Path | None = None) -> tuple[Path, bool]:
    """The folder in which most of some pictures are, and whether only the last word of their names counts.

    Args:
        source: the annotation file.
        names: of all pictures.
        avoid: a folder that holds something else under the same names.
    """
    some = names[:: max(1, len(names) // SOME)][:SOME]
    best, most = (source.file.parent, False), 0
    for folder in dict.fromkeys(folders_for(source)):
        if not folder.is_dir() or folder == avoid:
            continue
        for bare in (False, True):
            count = sum((folder / (PurePosixPath(name).name if bare else name)).is_file() for name in some)
            if count > most:
                best, most = (folder, bare), count
        if 2 * most > len(some):
            break
    return best


def joined(folder: Path, names: list[str], bare: bool) -> list[str]:
    """The paths of pictures in a folder; only the last word of their names counts if they are to be `bare`."""
    return [os.path.normpath(folder / (PurePosixPath(name).name if bare else name)) for name in names]


def compact(record: dict[str, Any]) -> dict[str, Any]:
    """An annotation in less memory: polygons as arrays, and nothing that is not read."""
    if "segmentation" in record:
        record["segmentation"] = pack(record["segmentation"])
        record.pop("caption", None)
    return record


def whole(value: Any) -> TypeGuard[int]:
    return type(value) is int and -(2**63) <= value < 2**63


class Reading:
    """Reads a COCO file into columns and faults; each method takes one of its tables.

    Args:
        file: the JSON, for the faults.
    """

    def __init__(self, file: Path) -> None:
        self.file, self.name = file, shown(file)
        self.faults: list[Fault] = []
        self.missing: Counter[str] = Counter()

    def wrong(self, code: str, what: str, reason: str) -> None:
        self.faults.append(fault(code, f"{self.name}:{what}" if what else self.name, reason))

    def table(self, content: dict[str, Any], name: str) -> list[tuple[int, dict[str, Any]]]:
        """The objects of one table, each with its place."""
        rows = content.get(name)
        if not isinstance(rows, list):
            self.wrong("not-coco", "", f"It has no list called {name}. COCO has images, annotations and categories.")
            return []
        for place, row in enumerate(rows):
            if not isinstance(row, dict):
                self.wrong("bad-record", f"{name}[{place}]", f"It is {row!r:.40}, and not a JSON object.")
        return [(place, row) for place, row in enumerate(rows) if isinstance(row, dict)]

    def categories(self, rows: list[tuple[int, dict[str, Any]]]) -> dict[int, dict[str, Any]]:
        """Categories by id, in its order."""
        found: dict[int, dict[str, Any]] = {}
        for place, row in rows:
            number, name = row.get("id"), row.get("name")
            if not whole(number):
                self.wrong("wrong-id", f"categories[{place}]", f"Its id is {number!r:.40}, and not a whole number.")
            elif not isinstance(name, str) or not name.strip():
                self.wrong("unnamed-class", f"category {number}", f"Its name is {name!r:.40}, and not a word.")
            elif number in found:
                other = found[number]["name"]
                self.wrong("duplicate-category-id", f"category {number}", f"Both {other!r} and {name!r} have this id.")
            else:
                found[number] = row
        return dict(sorted(found.items()))

    def pictures(self, rows: list[tuple[int, dict[str, Any]]]) -> dict[Any, dict[str, Any]]:
        """Pictures by id, in their order."""
        found: dict[Any, dict[str, Any]] = {}
        for place, row in rows:
            number, name = row.get("id"), row.get("file_name")
            if not (whole(number) or isinstance(number, str)):
                self.wrong("wrong-id", f"images[{place}]", f"Its id is {number!r:.40}, and not a whole number.")
            elif not isinstance(name, str) or not name.strip() or "\0" in name:
                self.wrong("unnamed-class", f"image {number}", f"Its file_name is {name!r:.40}, and not a path.")
            elif number in found:
                self.wrong("duplicate-picture-id", f"image {number}", f"{found[number]['file_name']} has this id too.")
            else:
                found[number] = row
        return found

    def outside(self, pictures: dict[Any, dict[str, Any]]) -> None:
        """Pictures that are not in the folder of the data set."""
        for number, row in pictures.items():
            words = PurePosixPath(plain_name(row["file_name"].strip()))
            if words.is_absolute() or ".." in words.parts:
                self.wrong("outside-root", f"image {number}", f"{words} leads out of the folder of pictures.")

    def twice(self, numbers: list[Any], paths: list[str]) -> None:
        """Pictures that are listed under two ids."""
        first: dict[str, Any] = {}
        for number, path in zip(numbers, paths, strict=True):
            if first.setdefault(path, number) != number:
                reason = f"It is {shown(path)}, as image {first[path]} is. Join their annotations."
                self.wrong("listed-twice", f"image {number}", reason)

    def keypoints(self, what: str, row: dict[str, Any], category: dict[str, Any]) -> None:
        """Three numbers for each point that the category names."""
        given, names = row.get("keypoints"), category.get("keypoints")
        if given is None and names is None:
            return
        if (
            isinstance(names, list)
            and given is not None
            and (not isinstance(given, list) or len(given) != 3 * len(names))
        ):
            count = len(given) if isinstance(given, list) else repr(given)[:40]
            self.wrong(
                "keypoints-length", what, f"It has {count} numbers for {many(len(names), 'keypoint')}: 3 for each."
            )

    def size(self, number: Any, row: dict[str, Any]) -> tuple[int, int]:
        """Rows and columns of a picture; 0 where they are not said."""
        sides = row.get("height"), row.get("width")
        if all(isinstance(side, int | float) and 0 < side < FARTHEST and side == int(side) for side in sides):
            return int(sides[0]), int(sides[1])  # pyright: ignore[reportArgumentType]
        self.missing["missing-size"] += 1
        if any(side is not None and not (isinstance(side, int | float) and side > 0) for side in sides):
            self.wrong(
                "missing-size", f"image {number}", f"Its height and width are {sides[0]!r:.20} and {sides[1]!r:.20}."
            )
        return 0, 0

    def box(self, what: str, row: dict[str, Any], outline: Outline | None) -> tuple[float, float, float, float] | None:
        """Left, top, right, bottom."""
        given = row.get("bbox")
        if given is None:
            if outline is not None:
                return extent(outline)
            self.wrong("missing-box", what, "It has no bbox.")
            return None
        if not isinstance(given, list) or len(given) != 4:
            self.wrong("box-length", what, f"Its bbox is {given!r:.60}, and should be left, top, width, height.")
            return None
        for value in given:
            if type(value) is not int and type(value) is not float:
                self.wrong("text-box", what, f"Its bbox has {value!r:.40}, which is no number.")
                return None
            if value != value:
                self.wrong("nan-box", what, "Its bbox has NaN.")
                return None
            if not -FARTHEST < value < FARTHEST:
                endless = value in (float("inf"), float("-inf"))
                code, number = ("infinite-box", "Infinity") if endless else ("huge-box", f"{value!s:.20}")
                self.wrong(code, what, f"Its bbox has {number}.")
                return None
        left, top, width, height = given
        return left, top, left + width, top + height

    def outline(self, what: str, row: dict[str, Any], size: tuple[int, int]) -> Outline | None:
        """Where an object is, if that is said, and can be."""
        given = row.get("segmentation")
        if given is None or given == [] or given == {}:
            return None
        try:
            if not isinstance(given, dict):
                return read_polygons(given)
            runs = read_runs(given)
        except OutlineError as error:
            self.wrong("wrong-outline", what, f"In its segmentation {error}.")
            return None
        if 0 not in size and runs.size != size:
            there, here = " x ".join(map(str, runs.size)), " x ".join(map(str, size))
            self.wrong("rle-size", what, f"Its mask is {there}, rows x columns, in a picture of {here}.")
            return None
        try:
            lengths(runs)
        except OutlineError as error:
            self.wrong("bad-rle", what, f"In its segmentation {error}.")
            return None
        return runs

    def area(self, row: dict[str, Any], box: tuple[float, float, float, float], outline: Outline | None) -> float:
        value = row.get("area")
        if isinstance(value, int | float) and type(value) is not bool and abs(value) < FARTHEST**2:
            return float(value)
        self.missing["missing-area"] += 1
        return (box[2] - box[0]) * (box[3] - box[1]) if outline is None else surface(outline)

    def crowd(self, what: str, row: dict[str, Any]) -> bool:
        value = row.get("iscrowd")
        if value is None:
            self.missing["missing-crowd"] += 1
        elif value not in (0, 1):
            self.wrong("wrong-crowd", what, f"Its iscrowd is {value!r:.40}, and should be 0 or 1.")
            return False
        return bool(value)


def category_names(reading: Reading, categories: dict[int, dict[str, Any]], used: set[Any]) -> dict[int, str]:
    """The classes: a name that stands twice is kept where objects have it."""
    names: dict[str, int] = {}
    for number, row in categories.items():
        name = row["name"].strip()
        if name in names and number in used:
            if names[name] in used:
                reading.wrong(
                    "duplicate-category-name", f"category {number}", f"Category {names[name]} is called {name!r} too."
                )
            names[name] = number
        names.setdefault(name, number)
    return {number: name for name, number in sorted(names.items(), key=lambda item: item[1])}


def picture_number(row: dict[str, Any]) -> Any:
    """The id of an object's picture; one of COCO's own tools writes the whole picture instead."""
    number = row.get("image_id")
    number = number.get("id") if isinstance(number, dict) else number
    return number if whole(number) or isinstance(number, str) else None


def read(source: Source) -> Marks:
    """All that a COCO file says, with what is wrong with it.

    Raises:
        FileError: it is not JSON.
        DataError: it is not COCO's.
    """
    content = read_json(source.file, compact)
    reading = Reading(source.file)
    if not isinstance(content, dict):
        raise FileError("not-coco", source.file, "it is no JSON object with images, annotations and categories.")
    pictures = reading.pictures(reading.table(content, "images"))
    rows = reading.table(content, "annotations")
    categories = reading.categories(reading.table(content, "categories"))
    if any(found.code == "not-coco" for found in reading.faults):
        raise FileError("not-coco", source.file, reading.faults[-1].reason)
    used = {number for _, row in rows if type(number := row.get("category_id")) is int}
    names = category_names(reading, categories, used)
    if not names:
        reading.wrong("no-classes", "", "It lists no category.")
    files = [plain_name(row["file_name"].strip()) for row in pictures.values()]
    folder, bare = picture_folder(source, files)
    paths = joined(folder, files, bare)
    sizes = [reading.size(number, row) for number, row in pictures.items()]
    columns = read_objects(reading, rows, pictures, names, sizes, categories)
    marks = Marks(
        source.file,
        paths,
        list(pictures),
        np.array(sizes, np.int64).reshape(-1, 2),
        tuple(names.values()),
        tuple(names),
        *columns,
        places=lambda place: f"{reading.name}:annotation {columns[5][place]}",
        faults=reading.faults,
    )
    reading.outside(pictures)
    reading.twice(list(pictures), paths)
    reading.faults += [*box_faults(marks), *area_faults(marks), *absences(reading, len(paths), len(rows))]
    if source.others:
        others = ", ".join(shown(other.name) for other in source.others)
        segments = any(other.name.startswith("panoptic_") for other in source.others)
        name = f"{shown(source.root)}:panoptic" if segments else "that"
        reading.wrong("other-annotations", "", f"It is read; {others}, beside it, is not. Name {name} to read it.")
    return marks


def read_objects(
    reading: Reading,
    rows: list[tuple[int, dict[str, Any]]],
    pictures: dict[Any, dict[str, Any]],
    names: dict[int, str],
    sizes: list[tuple[int, int]],
    categories: dict[int, dict[str, Any]],
) -> tuple[Any, ...]:
    """The columns of the sound objects: owners, labels, boxes, crowd, areas, ids and outlines."""
    owner = {number: place for place, number in enumerate(pictures)}
    label = {number: place for place, number in enumerate(names)}
    found: list[tuple[int, int, bool, float, int]] = []
    boxes: list[tuple[float, float, float, float]] = []
    outlines: list[Outline | None] = []
    seen: set[int] = set()
    for place, row in rows:
        number = row.get("id")
        if number is None or whole(number):
            number = place + 1 if number is None else number
            what = f"annotation {number}"
        else:
            reading.wrong("wrong-id", f"annotations[{place}]", f"Its id is {number!r:.40}, and not a whole number.")
            continue
        if number in seen:
            reading.wrong("duplicate-object-id", what, "Another annotation has this id.")
        seen.add(number)
        category, picture = row.get("category_id"), picture_number(row)
        if type(category) is int and category in categories and category not in label:
            continue  # its name stands twice, which has been told
        if type(category) is not int or category not in label:
            reading.wrong("unknown-category", what, f"Its category_id is {category!r:.40}, which no category has.")
            continue
        if picture not in owner:
            reading.wrong("unknown-picture", what, f"Its image_id is {row.get('image_id')!r:.40}, which no image has.")
            continue
        reading.keypoints(what, row, categories[category])
        outline = reading.outline(what, row, sizes[owner[picture]])
        box = reading.box(what, row, outline)
        if box is None:
            continue
        area, crowd = reading.area(row, box, outline), reading.crowd(what, row)
        found.append((owner[picture], label[category], crowd, area, number))
        boxes.append(box)
        outlines.append(outline)
    owners, labels, crowds, areas, ids = zip(*found, strict=True) if found else ((),) * 5
    return (
        np.array(owners, np.int64),
        np.array(labels, np.int64),
        np.array(boxes, np.float64).reshape(-1, 4),
        np.array(crowds, bool),
        np.array(areas, np.float64),
        np.array(ids, np.int64),
        outlines if any(outline is not None for outline in outlines) else None,
    )


def absences(reading: Reading, pictures: int, objects: int) -> Iterator[Fault]:
    """What is not said, in one note for each kind."""
    wholes = {
        "missing-size": (pictures, "picture", "no width and height; they are taken from the files"),
        "missing-area": (objects, "object", "no area; it is taken from the outline or the box"),
        "missing-crowd": (objects, "object", "no iscrowd; each is taken as a single one"),
    }
    for code, count in reading.missing.items():
        every, thing, lacks = wholes[code]
        yield fault(code, reading.name, f"{count} of {many(every, thing)} say {lacks}.")


def open_part(path: Path, part: str | None, classes: tuple[str, ...] | None = None) -> Dataset:
    """Read one part, or an annotation file.

    Args:
        path: the folder or file.
        part: `train`, `val` or `test`; `None` where there are none.
        classes: to number by, when another part or a model has said them.

    Raises:
        DataError: it cannot be read, or says what cannot be meant.
    """
    found = sources(path)
    if part not in found:
        raise DataError(f"{shown(path)} is in parts: {', '.join(map(str, found))}. Name one of them.")
    return open_marks(read(found[part]), classes)


def head_faults(file: Path) -> Iterator[Fault]:
    """A mark before the first letter."""
    with open(file, "rb") as content:
        if content.read(len(BOM)) == BOM:
            yield fault("bom", file, "It begins with a byte order mark, which is skipped.")
