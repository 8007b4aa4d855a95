"""Pictures with marked objects, written in another format: into a new folder, all of it or nothing.

Boxes are kept, and whatever else the format can say; what it cannot is counted and told. Pictures are copied byte by
byte; those that are no files are written as PNG.
"""

import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, count
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

import yaml

from vitrail.data.classes import class_order, listing
from vitrail.data.dataset import Dataset, class_ids_of
from vitrail.data.datasets import voc
from vitrail.data.datasets.marked import MarkedFiles, scaled, without_masks
from vitrail.data.datasets.outlines import Outline, Runs, packed_runs
from vitrail.data.files import shown
from vitrail.data.headers import files_of, unreadable
from vitrail.data.images import ImageFile
from vitrail.data.open import OBJECTS, format_of, scenes
from vitrail.errors import ConfigError, DataError, many
from vitrail.samples import Sample

DIGITS = 4  # of a coordinate in pixels, after the point
SHARES = 8  # of one in shares of a picture
MOST_IDS = 20  # numbers of classes in a sentence


class Marked(NamedTuple):
    """One object, ready to be written.

    Attributes:
        label: the class, as a place.
        box: left, top, right, bottom in pixels of the picture as displayed.
        crowd: whether it is not to be counted.
        area: pixels.
        number: by which the data set calls it.
        outline: where it is, if that is known.
    """

    label: int
    box: tuple[float, float, float, float]
    crowd: bool
    area: float
    number: int
    outline: Outline | None


@dataclass
class Job:
    """A conversion under way.

    Attributes:
        folder: where everything is written.
        classes, ids: names, and the numbers that the source has for them.
        lost: what the format cannot say, and of how many.
        found: the classes of which there is an object, as places.
        uncounted: how many objects are not to be counted.
        difficult: whether the source calls those difficult, and not crowds.
    """

    folder: Path
    classes: tuple[str, ...]
    ids: tuple[int, ...]
    lost: Counter[str] = field(default_factory=Counter)
    found: set[int] = field(default_factory=set)
    uncounted: int = 0
    difficult: bool = False


def outlines_of(dataset: Dataset, index: int, sample: Sample) -> dict[int, Outline]:
    """The outlines of the objects of a picture, by their ids, as it is displayed."""
    assert sample.objects is not None
    if isinstance(dataset, MarkedFiles) and isinstance(sample.picture, ImageFile):
        marks, those = dataset.marks, dataset.those_of(index)
        if marks.outlines is None:
            return {}
        if dataset.turn(index, sample.picture) == 1:
            size = sample.picture.size
            known = zip(marks.ids[those].tolist(), marks.outlines[those], strict=True)
            return {number: scaled(one, size) if marks.relative else one for number, one in known if one is not None}
        drawn = dataset[index].objects
        assert drawn is not None
        assert drawn.masks is not None
        pairs = zip(marks.ids[those].tolist(), marks.outlines[those], strict=True)
        known = {number for number, one in pairs if one is not None}
        masks = zip(drawn.ids, drawn.masks.numpy(), strict=True)
        return {number: packed_runs(mask) for number, mask in masks if number in known}
    if sample.objects.masks is None:
        return {}
    masks = (packed_runs(mask) for mask in sample.objects.masks.numpy())
    return dict(zip(sample.objects.ids, masks, strict=True))


def marked(dataset: Dataset, index: int) -> tuple[Sample, list[Marked]]:
    """A picture with its objects."""
    sample = without_masks(dataset)[index]
    objects = sample.objects
    outlines = outlines_of(dataset, index, sample)
    rows = zip(
        objects.labels.tolist(),
        objects.boxes_xyxy.tolist(),
        objects.crowd.tolist(),
        objects.areas.tolist(),
        objects.ids,
        strict=True,
    )
    found = []
    for label, box, crowd, area, number in rows:
        left, top, right, bottom = (round(side, DIGITS) for side in box)
        found.append(Marked(label, (left, top, right, bottom), crowd, round(area, 2), number, outlines.get(number)))
    return sample, found


def copy_picture(sample: Sample, folder: Path, taken: set[str]) -> str:
    """Put a picture into a folder under a name that no other has, and say which."""
    folder.mkdir(parents=True, exist_ok=True)
    if isinstance(sample.picture, ImageFile):
        stem, ending = sample.picture.path.stem, sample.picture.path.suffix
    else:
        stem, ending = f"{sample.number:06}" if isinstance(sample.number, int) else str(len(taken)), ".png"
    name, again = stem, 1
    while name.casefold() in taken:
        again += 1
        name = f"{stem}-{again}"
    taken.add(name.casefold())
    if isinstance(sample.picture, ImageFile):
        shutil.copyfile(sample.picture.path, folder / (name + ending))
    else:
        sample.picture.read().save(folder / (name + ending))
    return name + ending


def plain(value: float) -> int | float:
    """A whole number without its point."""
    return int(value) if value == int(value) else value


def segmentation(outline: Outline | None) -> Any:
    """An outline in COCO's words."""
    if outline is None:
        return []
    if isinstance(outline, Runs):
        counts = outline.counts if isinstance(outline.counts, str) else list(outline.counts)
        return {"size": list(outline.size), "counts": counts}
    return [[plain(round(value, DIGITS)) for value in polygon] for polygon in outline]


def distinct(numbers: Sequence[int | str | None]) -> list[int]:
    """Whole numbers that all differ: those given; what has none, or another's, is counted on from the highest."""
    kept, highest = set[int](), max((number for number in numbers if isinstance(number, int)), default=0)
    spare, found = count(max(highest, 0) + 1), list[int]()
    for number in numbers:
        found.append(number if isinstance(number, int) and number not in kept else next(spare))
        kept.add(found[-1])
    return found


def write_coco(job: Job, part: str | None, dataset: Dataset) -> None:
    """One part as COCO has it."""
    folder = job.folder / (part or "images")
    images, annotations, taken = [], [], set[str]()
    both = [marked(dataset, index) for index in range(len(dataset))]
    numbers = distinct([sample.number for sample, _ in both])
    ids = iter(distinct([one.number for _, objects in both for one in objects]))
    for number, (sample, objects) in zip(numbers, both, strict=True):
        rows, columns = sample.picture.size
        name = copy_picture(sample, folder, taken)
        images.append({"id": number, "file_name": name, "width": columns, "height": rows})
        for one in objects:
            job.uncounted += one.crowd
            left, top, right, bottom = one.box
            record = {
                "id": next(ids),
                "image_id": number,
                "category_id": job.ids[one.label],
                "bbox": [plain(round(side, DIGITS)) for side in (left, top, right - left, bottom - top)],
                "area": one.area,
                "iscrowd": int(one.crowd),
            }
            annotations.append(record if one.outline is None else {**record, "segmentation": segmentation(one.outline)})
    categories = [{"id": number, "name": name} for number, name in zip(job.ids, job.classes, strict=True)]
    file = job.folder / ("annotations.json" if part is None else f"annotations/instances_{part}.json")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))


def write_voc(job: Job, part: str | None, dataset: Dataset) -> None:
    """One part as Pascal VOC has it."""
    pages, stems = job.folder / "Annotations", []
    pages.mkdir(parents=True, exist_ok=True)
    taken = {file.stem.casefold() for file in pages.iterdir()}
    for sample, objects in (marked(dataset, index) for index in range(len(dataset))):
        rows, columns = sample.picture.size
        name = copy_picture(sample, job.folder / "JPEGImages", taken)
        root = ElementTree.Element("annotation")
        ElementTree.SubElement(root, "folder").text = "JPEGImages"
        ElementTree.SubElement(root, "filename").text = name
        size = ElementTree.SubElement(root, "size")
        for side, value in (("width", columns), ("height", rows), ("depth", dataset.channels)):
            ElementTree.SubElement(size, side).text = str(value)
        for one in objects:
            left, top, right, bottom = one.box
            if right - left <= 1 or bottom - top <= 1:
                job.lost["one pixel wide or high at most, which Pascal VOC cannot say, left out"] += 1
                continue
            job.lost["without the outline, which Pascal VOC cannot say"] += one.outline is not None
            job.uncounted += one.crowd
            job.found.add(one.label)
            add_object(root, job.classes[one.label], (left + 1, top + 1, right, bottom), one.crowd)
        ElementTree.indent(root)
        stems.append(Path(name).stem)
        ElementTree.ElementTree(root).write(pages / f"{stems[-1]}.xml", encoding="utf-8")
    if part is not None:
        lists = job.folder / "ImageSets" / "Main"
        lists.mkdir(parents=True, exist_ok=True)
        (lists / f"{part}.txt").write_text("".join(f"{stem}\n" for stem in stems))


def add_object(root: ElementTree.Element, name: str, box: tuple[float, ...], difficult: bool) -> None:
    """An object of an XML file, with its box counted from 1."""
    element = ElementTree.SubElement(root, "object")
    ElementTree.SubElement(element, "name").text = name
    ElementTree.SubElement(element, "difficult").text = str(int(difficult))
    corners = ElementTree.SubElement(element, "bndbox")
    for side, value in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True):
        ElementTree.SubElement(corners, side).text = str(plain(round(value, DIGITS)))


def yolo_line(one: Marked, size: tuple[int, int], polygons: bool) -> str:
    """An object in shares of its picture."""
    high, wide = size
    if polygons and one.outline is not None:
        values = [value / (high if place % 2 else wide) for place, value in enumerate(one.outline[0])]
    else:
        left, top, right, bottom = one.box
        values = [(left + right) / 2 / wide, (top + bottom) / 2 / high, (right - left) / wide, (bottom - top) / high]
    return " ".join([str(one.label), *(f"{value:.{SHARES}f}".rstrip("0").rstrip(".") for value in values)])


def one_polygon(outline: Outline | None) -> bool:
    return outline is not None and not isinstance(outline, Runs) and len(outline) == 1


def write_yolo(job: Job, part: str | None, dataset: Dataset) -> None:
    """One part as YOLO has it."""
    images, labels, taken = job.folder / "images" / (part or ""), job.folder / "labels" / (part or ""), set[str]()
    labels.mkdir(parents=True, exist_ok=True)
    both = [marked(dataset, index) for index in range(len(dataset))]
    counted = [one for _, objects in both for one in objects if not one.crowd]
    polygons = bool(counted) and all(one_polygon(one.outline) for one in counted)
    for sample, objects in both:
        name = copy_picture(sample, images, taken)
        single = [one for one in objects if not one.crowd]
        job.uncounted += len(objects) - len(single)
        if not polygons:
            outlines = sum(one.outline is not None for one in single)
            job.lost["with a box only: YOLO says an outline where each object has a single polygon"] += outlines
        lines = [yolo_line(one, sample.picture.size, polygons) + "\n" for one in single]
        (labels / f"{Path(name).stem}.txt").write_text("".join(lines))
    settings = job.folder / "data.yaml"
    told = yaml.safe_load(settings.read_text()) if settings.exists() else {}
    told.update({part or "train": str(Path("images", part or ""))} if part else {})
    told["names"] = dict(enumerate(job.classes))
    settings.write_text(yaml.safe_dump(told, sort_keys=False, allow_unicode=True))


WRITERS = {"coco": write_coco, "voc": write_voc, "yolo": write_yolo}


def all_classes(datasets: Sequence[Dataset]) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """The classes of all parts, with the number that the first part that has one has for it; in that order."""
    ids: dict[str, int] = {}
    for dataset in datasets:
        for name, number in zip(dataset.classes, class_ids_of(dataset), strict=True):
            ids.setdefault(name, number)
    if len(set(ids.values())) < len(ids):  # two parts do not agree
        ids = {name: place for place, name in enumerate(ids)}
    return tuple(ids), tuple(ids.values())


def crowd_note(job: Job, to: str) -> str:
    """What became of the objects that are not to be counted."""
    which = f"{many(job.uncounted, 'object')} marked {'difficult' if job.difficult else 'as a crowd (iscrowd)'}"
    be = "is" if job.uncounted == 1 else "are"
    if to == "yolo":
        return f"{which} {be} left out: YOLO cannot say that an object is not to be counted."
    if job.difficult == (to == "voc"):
        return ""
    now = "difficult" if to == "voc" else "a crowd (iscrowd)"
    return f"{which} {be} {now} now: neither learned nor judged in either format."


def number_note(job: Job, to: str) -> str:
    """What became of the numbers of the classes, where they are others when what is written is read."""
    in_order = to != "voc" or job.classes == class_order(job.classes)
    if to == "coco" or not job.ids or (in_order and job.ids == tuple(range(len(job.ids)))):
        return ""
    listed = f": {', '.join(map(str, job.ids))}" if len(job.ids) <= MOST_IDS else ""
    were = f"they were {min(job.ids)} to {max(job.ids)}{listed}."
    if to == "voc":
        return f"Pascal VOC keeps no class numbers, and classes are read from it sorted by name; {were}"
    return f"Class numbers are 0 to {len(job.ids) - 1} now, and stay so on the way back; {were}"


def class_note(job: Job) -> str:
    """Which classes are lost where a format has only those of its objects."""
    idle = [name for place, name in enumerate(job.classes) if place not in job.found]
    if not idle:
        return ""
    be = "is" if len(idle) == 1 else "are"
    return f"{many(len(idle), 'class')} without an object {be} left out, as Pascal VOC lists none: {listing(idle)}."


def notes_on(job: Job, to: str) -> Iterator[str]:
    """What could not be kept."""
    yield from (f"{many(count, 'object')} {words}." for words, count in job.lost.items() if count)
    notes = (job.uncounted and crowd_note(job, to), number_note(job, to), to == "voc" and class_note(job))
    yield from (note for note in notes if note)


def convert_data(source: str, out: Path, to: str) -> list[str]:
    """Write a data set of marked objects in another format.

    Args:
        source: what `open_dataset` reads.
        out: the folder to write, new or empty.
        to: `coco`, `voc` or `yolo`.

    Returns:
        What was put right on the way, what the format cannot say, pictures that are broken, and how many there are.

    Raises:
        DataError: the source cannot be read, or nothing is marked in it as these formats mark things.
    """
    reader, place = format_of(source)
    if reader not in (*OBJECTS, scenes):
        raise DataError(f"{shown(source)} has no marked objects, which {to} is for.")
    parts = reader.parts(place) or (None,)
    first = [reader.open_part(place, part, None) for part in parts]
    if any(dataset.task != "detect" for dataset in first):
        raise DataError(f"{shown(source)} is for {first[0].task}, and {to} is written of boxes with classes.")
    classes, ids = all_classes(first)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"{out} is there already. Nothing is overwritten: name a new folder.")
    job = Job(out.with_name(f".{out.name}.{os.getpid()}.partial"), classes, ids, difficult=reader is voc)
    job.folder.mkdir(parents=True)
    try:
        for part in parts:
            WRITERS[to](job, part, reader.open_part(place, part, classes))
        os.replace(job.folder, out)
    finally:
        shutil.rmtree(job.folder, ignore_errors=True)
    notes = [note for dataset in first for note in getattr(dataset, "notes", ())]
    broken = [f"{error} It is copied as it is." for error in unreadable(chain.from_iterable(map(files_of, first)))]
    counted = f"{many(sum(map(len, first)), 'picture')} written."
    return [*dict.fromkeys(notes), *notes_on(job, to), *broken, counted]
