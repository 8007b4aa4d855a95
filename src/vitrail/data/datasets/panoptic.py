"""COCO's panoptic format: every pixel belongs to one segment, which is a thing or a kind of stuff.

The JSON (`annotations/panoptic_train2017.json`) lists for each picture a PNG and its segments; the PNG stands in a
folder of the JSON's name (`annotations/panoptic_train2017/`) and holds in each pixel the id of its segment, as
R + 256 G + 65536 B. Pixels of 0, or of an id that the JSON does not list, belong to nothing. A category with `isthing`
0 is stuff. Pictures are looked for as with COCO's other files. Where boxes stand beside the segments, as in COCO's own
folder, `coco/` is read for its boxes and `coco/:panoptic` for its segments.

Source: A. Kirillov et al., "Panoptic Segmentation", CVPR 2019, and COCO's page on the data format.
"""

import mmap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Int
from PIL import Image

from vitrail.data.classes import class_numbers
from vitrail.data.dataset import Label, in_brief
from vitrail.data.datasets import coco
from vitrail.data.datasets.coco import Reading, Source, joined, picture_folder, picture_number, plain_name
from vitrail.data.datasets.crowded import boxes_around
from vitrail.data.datasets.folder import PART_NAMES
from vitrail.data.datasets.marked import displayed_masks, notes_about, refuse, turn_of
from vitrail.data.decoding import decode, opened
from vitrail.data.files import fingerprint, folders_in, shown
from vitrail.data.images import ImageFile
from vitrail.data.strict import FileError, read_json
from vitrail.errors import DataError
from vitrail.samples import Objects, Sample

LARGEST_ID = 1 << 24


def is_panoptic(file: Path) -> bool:
    """Whether a JSON file speaks of segments before it speaks of any outline."""
    try:
        found = file.stat()
    except OSError:  # nobody may look
        return False
    return speaks_of_segments(file, (found.st_mtime_ns, found.st_size))


@lru_cache(maxsize=64)
def speaks_of_segments(file: Path, state: tuple[int, int]) -> bool:
    """The same; of a file that has not changed, which may be large, it is asked once."""
    try:
        with open(file, "rb") as content, mmap.mmap(content.fileno(), 0, access=mmap.ACCESS_READ) as text:
            outline = text.find(b'"segmentation"')
            return text.find(b'"segments_info"', 0, len(text) if outline < 0 else outline) >= 0
    except (OSError, ValueError):  # it cannot be read, or is empty
        return False


def homes(path: Path) -> list[Path]:
    """The folders in and below one in which such data sets stand; or the file itself."""
    found = {home: coco.sources_at(home, path) for home in coco.homes(path)}
    return [home for home, some in found.items() if all(is_panoptic(source.file) for source in some.values())]


def homes_beside(path: Path) -> list[Path]:
    """The folders in which there are such files, also where `homes` leaves them to boxes that stand beside them."""
    found = {home: coco.sources_at(home, path, seems_panoptic) for home in coco.homes(path)}
    return [home for home, some in found.items() if any(is_panoptic(source.file) for source in some.values())]


def seems_panoptic(file: Path) -> bool:
    """Whether a file has segments, or is called as if it had: if then it has none, whoever reads it says so."""
    return file.name.lower().startswith("panoptic_") or is_panoptic(file)


def spelling(path: Path | str) -> tuple[Path, bool]:
    """A path, and whether `path:panoptic` asks for its segments where other annotations stand beside them."""
    place, colon, word = str(path).rpartition(":")
    asked = bool(place.strip() and colon) and word == "panoptic" and not Path(path).exists()
    return Path(place if asked else path), asked


def sources(path: Path) -> dict[str | None, Source]:
    """The annotation files of a data set, by part; `None` for one that is in one piece."""
    home = next(iter(homes_beside(path)), None)
    return {} if home is None else coco.sources_at(home, path, seems_panoptic)


def parts(path: Path) -> tuple[str, ...]:
    found = sources(path)
    return tuple(part for part in PART_NAMES if part in found)


class Segments(NamedTuple):
    """What a panoptic file says, picture by picture and segment by segment.

    Attributes:
        source: the JSON.
        paths, maps: of the pictures, and of the PNGs with the ids of their segments.
        numbers: by which the file calls the pictures.
        classes, class_ids, things: names, the file's numbers for them, and which are countable.
        starts: where the segments of each picture begin.
        ids, labels, crowd: of the segments.
        reading: everything that is wrong.
    """

    source: Path
    paths: list[str]
    maps: list[str]
    numbers: list[int | str]
    classes: tuple[str, ...]
    class_ids: tuple[int, ...]
    things: tuple[bool, ...]
    starts: Int[np.ndarray, " pictures_and_one"]
    ids: Int[np.ndarray, " segments"]
    labels: Int[np.ndarray, " segments"]
    crowd: Bool[np.ndarray, " segments"]
    reading: Reading


def map_folder(source: Source, names: list[str]) -> Path:
    """The folder with the PNGs of a panoptic file."""
    stem = source.file.stem
    near = [source.file.parent / stem, source.root / stem, source.file.parent, source.root]
    if named := [folder for folder in near[:2] if folder.is_dir()]:
        return named[0]
    folders = [*near, *(folder for root in near[2:] for folder in folders_in(root))]
    return max(folders, key=lambda folder: sum((folder / name).is_file() for name in names[: coco.SOME]))


def read_segments(
    reading: Reading, what: str, row: dict[str, Any], label: dict[int, int]
) -> Iterator[tuple[int, int, bool]]:
    """Id, label and crowd of the sound segments of a picture."""
    rows = row.get("segments_info")
    if not isinstance(rows, list):
        reading.wrong("bad-record", what, "It has no list called segments_info.")
        return
    seen: set[int] = set()
    for place, one in enumerate(rows):
        number = one.get("id") if isinstance(one, dict) else None
        if type(number) is not int or not 0 < number < LARGEST_ID:
            reading.wrong("wrong-id", f"{what}, segment [{place}]", f"Its id is {number!r:.40}, and no colour has it.")
            continue
        if number in seen:
            reading.wrong("duplicate-object-id", f"{what}, segment {number}", "Another segment here has this id.")
            continue
        seen.add(number)
        category = one.get("category_id")
        if type(category) is not int or category not in label:
            reason = f"Its category_id is {category!r:.40}, which no category has."
            reading.wrong("unknown-category", f"{what}, segment {number}", reason)
            continue
        yield number, label[category], bool(one.get("iscrowd", 0))


def read(source: Source) -> Segments:
    """All that a panoptic file says, with what is wrong with it.

    Raises:
        FileError: it is not JSON, or not COCO's.
    """
    content, reading = read_json(source.file), Reading(source.file)
    if not isinstance(content, dict):
        raise FileError("not-coco", source.file, "it is no JSON object with images, annotations and categories.")
    pictures = reading.pictures(reading.table(content, "images"))
    rows = reading.table(content, "annotations")
    categories = reading.categories(reading.table(content, "categories"))
    if any(found.code == "not-coco" for found in reading.faults):
        raise FileError("not-coco", source.file, reading.faults[-1].reason)
    names = coco.category_names(reading, categories, set(categories))
    if not names:
        reading.wrong("no-classes", "", "It lists no category.")
    label = {number: place for place, number in enumerate(names)}
    told: dict[Any, tuple[str, list[tuple[int, int, bool]]]] = {}
    for place, row in rows:
        number, file = picture_number(row), row.get("file_name")
        if number not in pictures:
            reading.wrong(
                "unknown-picture", f"annotations[{place}]", f"Its image_id is {number!r:.40}, which no image has."
            )
        elif not isinstance(file, str) or not file.strip():
            reading.wrong("missing-picture", f"image {number}", f"The file_name of its PNG is {file!r:.40}.")
        elif number in told:
            reading.wrong("duplicate-object-id", f"image {number}", "It is annotated twice; the first counts.")
        else:
            told[number] = (plain_name(file), list(read_segments(reading, f"image {number}", row, label)))
    reading.outside(pictures)
    silent = [number for number in pictures if number not in told]
    for number in silent:
        reading.wrong("no-segments", f"image {number}", "It has no segments, and is left out.")
    kept = {number: row for number, row in pictures.items() if number in told}
    files, pngs = [plain_name(row["file_name"].strip()) for row in kept.values()], [told[number][0] for number in kept]
    maps = map_folder(source, pngs)
    folder, bare = picture_folder(source, files, avoid=maps)
    segments = [told[number][1] for number in kept]
    flat = [one for some in segments for one in some]
    return Segments(
        source.file,
        joined(folder, files, bare),
        [str(maps / name) for name in pngs],
        list(kept),
        tuple(names.values()),
        tuple(names),
        tuple(categories[number].get("isthing", 1) != 0 for number in names),
        np.cumsum([0, *map(len, segments)]),
        np.array([one[0] for one in flat], np.int64),
        np.array([one[1] for one in flat], np.int64),
        np.array([one[2] for one in flat], bool),
        reading,
    )


def read_map(path: str) -> Int[np.ndarray, "rows columns"]:
    """The id of its segment for each pixel of a PNG.

    Raises:
        ImageError: it cannot be decoded.
        DataError: it is not in colour, and so holds something else.
    """
    with opened(Path(path)) as (image, file):
        mode = image.mode
        pixels: Image.Image = decode(image, file)
    if mode not in ("RGB", "RGBA"):
        raise DataError(f"{shown(path)} is of mode {mode}; the ids of segments stand in red, green and blue.")
    values = np.asarray(pixels.convert("RGB")).astype(np.int64)
    return values @ np.array([1, 256, 65536])


@dataclass(frozen=True, eq=False)
class PanopticFiles:
    """Pictures in files, with a segment for nearly every pixel; a segment is an object with a mask."""

    segments: Segments
    classes: tuple[str, ...]
    class_ids: tuple[int, ...]
    things: tuple[bool, ...]
    targets: Int[np.ndarray, " segments"]
    notes: tuple[str, ...] = ()
    multi_label: bool = True
    channels: int = 3
    task: str = "panoptic"

    @property
    def paths(self) -> Sequence[str]:
        return self.segments.paths

    def __repr__(self) -> str:
        return in_brief(self)

    def __len__(self) -> int:
        return len(self.segments.paths)

    def those_of(self, index: int) -> slice:
        """The segments of a picture."""
        return slice(int(self.segments.starts[index]), int(self.segments.starts[index + 1]))

    @property
    def most_objects(self) -> int:
        """In one picture."""
        return int(np.diff(self.segments.starts).max(initial=0))

    def label(self, index: int) -> tuple[int, ...]:
        return tuple(np.unique(self.targets[self.those_of(index)]).tolist())

    @cached_property
    def present(self) -> list[Label]:
        """The classes of each picture."""
        return [self.label(index) for index in range(len(self))]

    def labels(self) -> list[Label]:
        return list(self.present)

    def fingerprint(self, index: int) -> bytes:
        return fingerprint(self.segments.paths[index])

    def __getitem__(self, index: int) -> Sample:
        picture = ImageFile(self.segments.paths[index])
        objects = self.objects(index, picture)
        return Sample(picture, self.label(index), objects=objects, number=self.segments.numbers[index])

    def masks(self, index: int, picture: ImageFile) -> Bool[np.ndarray, "segments rows columns"]:
        """Where the segments of a picture are, as it is displayed.

        Raises:
            DataError: the PNG is of another size than the picture.
        """
        numbers, size = read_map(self.segments.maps[index]), picture.size
        masks = numbers[None] == self.segments.ids[self.those_of(index), None, None]
        if numbers.shape == size:
            return masks
        turn = turn_of(picture) if numbers.shape == size[::-1] else 1
        if turn < 5:
            (rows, columns), (high, wide) = numbers.shape, size
            raise DataError(
                f"{shown(self.segments.maps[index])} is {columns} x {rows} pixels, and {shown(picture.name)} is "
                f"{wide} x {high}. A segment's pixels must be those of its picture."
            )
        return displayed_masks(masks, turn)

    def objects(self, index: int, picture: ImageFile) -> Objects:
        """The segments of a picture that have pixels."""
        masks, those = self.masks(index, picture), self.those_of(index)
        there = masks.any((1, 2))
        masks = masks[there]
        return Objects(
            torch.from_numpy(boxes_around(masks)).float(),
            torch.from_numpy(self.targets[those][there]),
            torch.from_numpy(self.segments.crowd[those][there]),
            torch.from_numpy(masks.sum((1, 2))).float(),
            torch.from_numpy(masks),
            tuple(self.segments.ids[those][there].tolist()),
        )


def open_part(path: Path, part: str | None, classes: tuple[str, ...] | None = None) -> PanopticFiles:
    """Read one part, or an annotation file.

    Args:
        path: the folder or file.
        part: `train`, `val` or `test`; `None` where there are none.
        classes: to number by, when another part or a model has said them.

    Raises:
        DataError: it cannot be read, says what cannot be meant, or has a class that is not among `classes`.
    """
    found = read(sources(path)[part])
    refuse(found.reading.faults)
    if not found.paths:
        raise DataError(f"{shown(found.source)} names no pictures with segments.")
    notes = tuple(notes_about(found.reading.faults, found.source))
    if classes is None:
        return PanopticFiles(found, found.classes, found.class_ids, found.things, found.labels, notes)
    number = class_numbers(classes, (found.classes[place] for place in np.unique(found.labels).tolist()), found.source)
    known = {name: place for place, name in enumerate(found.classes)}
    table = np.array([number.get(name, -1) for name in found.classes], np.int64)
    ids = tuple(found.class_ids[known[name]] if name in known else -1 for name in classes)
    things = tuple(found.things[known[name]] if name in known else True for name in classes)
    return PanopticFiles(found, classes, ids, things, table[found.labels], notes)
