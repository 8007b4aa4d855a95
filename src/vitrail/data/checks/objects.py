"""Faults of pictures with marked objects, whatever format says them."""

from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from vitrail.data.checks.faults import Fault, fault
from vitrail.data.checks.pictures import Entry, Look, clashes, picture_faults
from vitrail.data.datasets import coco, panoptic, voc, yolo
from vitrail.data.datasets.marked import Marks
from vitrail.data.files import hidden, is_picture_name, shown
from vitrail.data.strict import FileError
from vitrail.errors import DataError, ImageError, many
from vitrail.geometry.boxes import iou

LEFT_OUT = ("long", "extreme-aspect")  # detectors read whole pictures
ALIKE = 0.98  # intersection over union, from which two objects of a class are one
MANY = 1000  # classes
FEW = 5  # names in a sentence


class Part(NamedTuple):
    """What there is to check in one part.

    Attributes:
        source: the file or folder that says it.
        paths: of the pictures.
        sizes: rows and columns of each, as they are said; 0 where they are not.
        owners, labels: of the objects.
        classes: their names.
    """

    source: Path
    paths: list[str]
    sizes: np.ndarray
    owners: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]


def check_coco(path: Path) -> Iterator[Fault]:
    """All faults of COCO's JSON and its pictures."""
    parts: dict[str | None, Part] = {}
    for part, source in coco.sources(path).items():
        try:
            yield from coco.head_faults(source.file)
            marks = coco.read(source)
        except FileError as error:
            yield fault(error.code, error.path, error.hint)
            continue
        yield from [*marks.faults, *number_faults(marks), *twins(marks)]
        parts[part] = part_of(marks)
    yield from common_faults(path, parts)


def check_voc(path: Path) -> Iterator[Fault]:
    """All faults of VOC's XML and its pictures."""
    yield from check_parts(path, voc)


def check_yolo(path: Path) -> Iterator[Fault]:
    """All faults of YOLO's text files and their pictures."""
    yield from check_parts(path, yolo)
    try:
        yield from yolo.orphans(path)
    except DataError:
        return  # told where its part is read


def check_parts(path: Path, reader: Any) -> Iterator[Fault]:
    """All faults of a format that is read part by part."""
    parts: dict[str | None, Part] = {}
    told = set[Fault]()  # what is wrong with all of it, every part says
    try:
        for part in reader.sources(path):
            marks = reader.read(path, part)
            new = [found for found in (*marks.faults, *twins(marks)) if found not in told]
            told.update(new)
            yield from (found for found in new if found.code != "unlisted-picture")  # told by folders, of all formats
            parts[part] = part_of(marks)
    except FileError as error:
        yield fault(error.code, error.path, error.hint)
    except DataError as error:
        yield fault("no-data", path, str(error))
    yield from common_faults(path, parts)


def check_panoptic(path: Path) -> Iterator[Fault]:
    """All faults of COCO's panoptic JSON, its maps and its pictures."""
    parts: dict[str | None, Part] = {}
    for part, source in panoptic.sources(path).items():
        try:
            yield from coco.head_faults(source.file)
            found = panoptic.read(source)
        except FileError as error:
            yield fault(error.code, error.path, error.hint)
            continue
        yield from found.reading.faults
        sizes = np.zeros((len(found.paths), 2), np.int64)
        for place in range(len(found.paths)):
            sizes[place] = yield from map_faults(found, place)
        owners = np.repeat(np.arange(len(found.paths)), np.diff(found.starts))
        parts[part] = Part(found.source, found.paths, sizes, owners, found.labels, found.classes)
    yield from common_faults(path, parts)


def map_faults(found: panoptic.Segments, place: int) -> Generator[Fault, None, tuple[int, int]]:
    """What is wrong with one map of segments; its rows and columns come back, or zeros."""
    path, those = found.maps[place], found.ids[found.starts[place] : found.starts[place + 1]]
    if not Path(path).is_file():
        yield fault("missing-file", path, f"There is no such map of segments; {shown(found.source)} names it.")
        return 0, 0
    try:
        numbers = panoptic.read_map(path)
    except ImageError as error:
        yield fault(error.code, path, error.hint)
        return 0, 0
    except DataError as error:
        yield fault("map-mode", path, str(error))
        return 0, 0
    seen = set(np.unique(numbers).tolist()) - {0}
    for number in sorted(set(those.tolist()) - seen):
        place_of_it = f"{shown(found.source)}:image {found.numbers[place]}, segment {number}"
        yield fault("segment-without-pixels", place_of_it, f"No pixel of {shown(path)} is of this segment.")
    for number in sorted(seen - set(those.tolist())):
        count = int((numbers == number).sum())
        reason = f"{many(count, 'pixel')} {'is' if count == 1 else 'are'} of segment {number}, which is not listed."
        yield fault("unlisted-segment", path, reason)
    return numbers.shape[0], numbers.shape[1]


def part_of(marks: Marks) -> Part:
    return Part(marks.source, marks.paths, marks.sizes, marks.owners, marks.labels, marks.classes)


def number_faults(marks: Marks) -> Iterator[Fault]:
    """What is good to know about category ids."""
    ids = sorted(marks.class_ids)
    if ids and ids[0] == 0:
        yield fault("category-zero", marks.source, f"{named(marks, 0)} has the id 0; COCO counts from 1. It is kept.")
    if ids and ids[-1] - ids[0] + 1 != len(ids):
        reason = f"The ids of its {len(ids)} categories go from {ids[0]} to {ids[-1]}, with gaps. They are kept."
        yield fault("category-gaps", marks.source, reason)


def named(marks: Marks, number: int) -> str:
    return marks.classes[marks.class_ids.index(number)]


def twins(marks: Marks) -> Iterator[Fault]:
    """Objects of one class in the same place."""
    order = np.argsort(marks.owners, kind="stable")
    ends = np.flatnonzero(np.diff(marks.owners[order])) + 1
    for those in np.split(order, ends):
        if len(those) < 2:
            continue
        boxes = torch.from_numpy(marks.boxes_xyxy[those])
        alike = (iou(boxes, boxes) > ALIKE).numpy() & (marks.labels[those][:, None] == marks.labels[those])
        for later in np.flatnonzero(np.tril(alike, -1).any(axis=1)):
            first = int(np.flatnonzero(alike[later])[0])
            reason = f"It has the class and the box of {marks.places(int(those[first]))}. Remove one of them."
            yield fault("duplicate-object", marks.places(int(those[later])), reason)


Sizes = Mapping[str | None, Mapping[str, list[int]]]  # rows and columns that are said, by part and path


def size_faults(parts: Mapping[str | None, Part], sizes: Sizes, entry: Entry, seen: Look) -> Iterator[Fault]:
    """Whether a picture has the size that its objects are marked for."""
    part, (rows, columns) = parts[entry.part], seen.size
    high, wide = sizes[entry.part][str(entry.path)]
    if 0 in (high, wide) or (high, wide) == (rows, columns):
        return
    said = f"It has {columns} x {rows} pixels as displayed, and {shown(part.source)} says {wide} x {high}"
    if (high, wide) != (columns, rows):
        yield fault("size-disagrees", entry.path, f"{said}. Its objects are marked for another picture.")
    elif seen.turned:
        yield fault("turned-objects", entry.path, f"{said}, as it is stored. Its objects are turned with it.")
    else:
        yield fault("sides-exchanged", entry.path, f"{said}. Its objects are taken as they are.")


def entries(parts: Mapping[str | None, Part]) -> Iterator[Entry]:
    """The pictures that are there."""
    for name, part in parts.items():
        classes: dict[int, set[str]] = {}
        for owner, label in zip(part.owners.tolist(), part.labels.tolist(), strict=True):
            classes.setdefault(owner, set()).add(part.classes[label])
        for place, path in enumerate(part.paths):
            if Path(path).is_file():
                yield Entry(Path(path), name, tuple(sorted(classes.get(place, ()))))


def missing_faults(parts: Mapping[str | None, Part]) -> Iterator[Fault]:
    """Pictures that are listed and not there, and the other way round."""
    listed = {path for part in parts.values() for path in part.paths}
    for part in parts.values():
        for path in part.paths:
            if not Path(path).is_file():
                yield fault("missing-file", path, f"There is no such picture; {shown(part.source)} names it.")
    for folder in sorted({Path(path).parent for path in listed}):
        names = [file.name for file in folder.iterdir()] if folder.is_dir() else []
        pictures = sorted(name for name in names if is_picture_name(name) and not hidden(name))
        others = [name for name in pictures if str(folder / name) not in listed]
        if others:
            be, first = ("is", others[0]) if len(others) == 1 else ("are", f"{others[0]} first")
            reason = f"{many(len(others), 'picture')} in this folder {be} not listed: {first}."
            yield fault("unlisted-picture", folder, reason)


def class_faults(path: Path, parts: Mapping[str | None, Part]) -> Iterator[Fault]:
    """What the classes of the parts show together."""
    counts = {
        name: Counter({one: int(number) for one, number in zip(part.classes, tally(part), strict=True)})
        for name, part in parts.items()
    }
    every = list(dict.fromkeys(name for part in parts.values() for name in part.classes))
    marked = [name for name in every if any(count[name] for count in counts.values())]
    for name, twin in clashes(every):
        yield fault("class-case-clash", path, f"There are the classes {twin} and {name}. Rename or join them.")
    if len(every) > MANY:
        yield fault("many-classes", path, f"There are {len(every):,} classes. Is each word one of them?")
    if len(every) == 1:
        yield fault("single-class", path, f"There is only one class, {every[0]}: objects are told from nothing else.")
    if marked and len(marked) < len(every):
        idle = [name for name in every if name not in marked]
        shown_idle = ", ".join(idle[:FEW]) + (f" and {len(idle) - FEW} more" if len(idle) > FEW else "")
        yield fault("class-without-objects", path, f"{many(len(idle), 'class')} without an object: {shown_idle}.")
    learned = counts.get("train", counts.get(None, Counter()))
    for name in marked:
        if "train" in counts and not learned[name]:
            where = " and ".join(str(part) for part, count in counts.items() if count[name])
            yield fault("class-not-in-train", path, f"The class {name} is in {where}, and not in train.")
        elif "val" in counts and learned[name] and not counts["val"][name]:
            yield fault("class-only-in-train", path, f"The class {name} is in train, and not in val.")


def tally(part: Part) -> np.ndarray:
    """Objects of each class."""
    return np.bincount(part.labels, minlength=len(part.classes))


def common_faults(path: Path, parts: Mapping[str | None, Part]) -> Iterator[Fault]:
    """What is wrong whatever the format."""
    for name, part in parts.items():
        if not part.paths:
            yield fault("no-pictures", part.source, "It lists no picture.")
        elif not len(part.owners):
            where = f"the part {name}" if name else "it"
            yield fault(
                "no-objects", part.source, f"Nothing is marked in any of the {len(part.paths)} pictures of {where}."
            )
    yield from class_faults(path, parts)
    yield from missing_faults(parts)
    sizes = {name: dict(zip(part.paths, part.sizes.tolist(), strict=True)) for name, part in parts.items()}
    judge: Callable[[Entry, Look], Iterator[Fault]] = partial(size_faults, parts, sizes)
    yield from (found for found in picture_faults(entries(parts), judge) if found.code not in LEFT_OUT)
