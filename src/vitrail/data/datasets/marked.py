"""Pictures in which somebody has marked objects, whatever format says it.

What a format says is read into `Marks`: columns of numbers, with everything that is wrong in a list of faults. Warnings
are about what can be put right, and it is, with a note; errors are about what cannot be meant, and refuse the data.
`vitrail check` tells all of them.
"""

from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int

from vitrail.data.checks.faults import Fault, fault
from vitrail.data.classes import class_numbers
from vitrail.data.dataset import Dataset, Label, Subset, in_brief
from vitrail.data.datasets.outlines import Outline, OutlineError, Runs, filled
from vitrail.data.decoding import opened, orientation
from vitrail.data.files import fingerprint, shown
from vitrail.data.images import ImageFile
from vitrail.errors import DataError, many
from vitrail.samples import Objects, Sample

FARTHEST = 1e6  # pixels: no box has a number beyond
ROUNDING = 1.0  # pixels that a box may reach beyond its picture without a word
LEAST_CORNERS = 3  # boxes that must look like two corners before all are taken for such
SAID = {
    "zero-box": "without area {are} left out",
    "outside-box": "{reach} beyond {their} picture and {are} cut at the edge",
    "unknown-picture": "in pictures that are not listed {are} left out",
    "duplicate-object-id": "with the id of another {are} given a new one",
    "wrong-outline": "with an outline that is none {are} taken to fill {their} box",
    "rle-size": "with a mask of another size than {their} picture {are} taken to fill {their} box",
    "bad-rle": "with a damaged mask {are} taken to fill {their} box",
    "wrong-area": "with an area that {their} box cannot have {are} given that of the box",
    "keypoints-length": "with keypoints of another number than {their} category has {are} read all the same",
    "wrong-crowd": "with an iscrowd that is neither 0 nor 1 {are} taken as single ones",
}  # what is done about each warning about objects, in a note
SAID_OF_FILES = {
    "label-without-picture": ("text file", "without a picture, not read"),
    "outside-root": ("picture", "outside the folder, read all the same"),
    "filename-disagrees": ("file", "that name another picture, of which the one with their own name is read"),
    "no-segments": ("picture", "without segments, left out"),
}  # and about files


@dataclass(eq=False)
class Marks:
    """What a data set says, picture by picture and object by object.

    Attributes:
        source: the file or folder that says it.
        paths: of the pictures; they need not exist.
        numbers: by which the data set calls the pictures.
        sizes: rows and columns of each picture; 0 where they are not said.
        classes, class_ids: names, and the numbers that the data set has for them.
        owners: the picture of each object, as a place in `paths`.
        labels: the class of each object, as a place in `classes`.
        boxes_xyxy: left, top, right, bottom; pixels, or shares of the picture where `relative`.
        crowd: which objects are crowds, or are not to be counted for another reason.
        areas: pixels, as the data set says; not a number where it does not.
        ids: by which the data set calls the objects.
        outlines: where each object is; `None` for one of which only the box is known, or for all.
        places: how to call an object in front of a person, by its place.
        faults: what has been found wrong so far.
    """

    source: Path
    paths: list[str]
    numbers: list[int | str]
    sizes: Int[np.ndarray, "pictures 2"]
    classes: tuple[str, ...]
    class_ids: tuple[int, ...]
    owners: Int[np.ndarray, " objects"]
    labels: Int[np.ndarray, " objects"]
    boxes_xyxy: Float[np.ndarray, "objects 4"]
    crowd: Bool[np.ndarray, " objects"]
    areas: Float[np.ndarray, " objects"]
    ids: Int[np.ndarray, " objects"]
    outlines: list[Outline | None] | None
    places: Callable[[int], str]
    relative: bool = False
    faults: list[Fault] = field(default_factory=list)


class Edges(NamedTuple):
    """How boxes lie in their pictures.

    Attributes:
        beyond: how far each reaches outside, pixels or shares of a side; 0 where the picture's size is not known.
        elsewhere: which lie wholly outside.
    """

    beyond: Float[np.ndarray, " objects"]
    elsewhere: Bool[np.ndarray, " objects"]


def limits(marks: Marks) -> Float[np.ndarray, "objects 2"]:
    """Columns and rows of each object's picture; infinite where they are not known."""
    if marks.relative:
        return np.ones((len(marks.owners), 2))
    sizes = np.where(marks.sizes > 0, marks.sizes, np.inf)[:, ::-1]
    return sizes[marks.owners].reshape(-1, 2)


def edges(boxes: Float[np.ndarray, "objects 4"], most: Float[np.ndarray, "objects 2"]) -> Edges:
    """Compare boxes with the sizes of their pictures."""
    before, after = -boxes[:, :2], boxes[:, 2:] - most
    beyond = np.maximum(np.maximum(before, after), 0).max(axis=1, initial=0)
    return Edges(beyond, np.any((boxes[:, :2] >= most) | (boxes[:, 2:] <= 0), axis=1))


def corners_for_sizes(marks: Marks, most: Float[np.ndarray, "objects 2"]) -> bool:
    """Whether what was read as left, top, width, height must be left, top, right, bottom.

    Then many boxes reach far beyond their pictures, and nearly all fit as corners.
    """
    boxes = marks.boxes_xyxy
    if marks.relative or not len(boxes) or not np.isfinite(most).all():
        return False
    other = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
    fits = ((other[:, 2:] > other[:, :2]) & (other[:, 2:] <= most + ROUNDING)).all(axis=1)
    far = (boxes[:, 2:] > most + np.maximum(0.02 * most, 2)).any(axis=1)
    return bool(far.sum() >= max(LEAST_CORNERS, len(boxes) / 10) and fits.mean() > 0.97)


def box_faults(marks: Marks, *, sizes: bool = True) -> Iterator[Fault]:
    """What is wrong with the boxes of objects, whose numbers are finite.

    Args:
        marks: the objects.
        sizes: whether the format writes left, top, width and height, so that they can be mistaken for corners.
    """
    boxes, most = marks.boxes_xyxy, limits(marks)
    sides = boxes[:, 2:] - boxes[:, :2]
    found = edges(boxes, most)
    unit = "" if marks.relative else " pixels"
    for place in np.flatnonzero((sides < 0).any(axis=1)).tolist():
        wide, high = sides[place]
        yield fault("negative-box", marks.places(place), f"Its box is {wide:g} wide and {high:g} high.")
    if sizes and corners_for_sizes(marks, most):
        far = int((found.beyond > ROUNDING).sum())
        yield fault(
            "corners-for-sizes",
            marks.source,
            f"{far} of {len(boxes)} boxes reach beyond their pictures, and would fit as left, top, right, bottom. A "
            "bbox is left, top, width, height: write the differences.",
        )
        return
    for place in np.flatnonzero((sides >= 0).all(axis=1) & (sides == 0).any(axis=1)).tolist():
        wide, high = sides[place]
        yield fault("zero-box", marks.places(place), f"Its box is {wide:g} wide and {high:g} high. Remove it.")
    sound = (sides > 0).all(axis=1)
    for place in np.flatnonzero(found.elsewhere & sound).tolist():
        left, top, right, bottom = boxes[place]
        yield fault(
            "box-elsewhere",
            marks.places(place),
            f"Its box, from {left:g}, {top:g} to {right:g}, {bottom:g}, lies wholly outside the picture of "
            f"{most[place, 0]:g} x {most[place, 1]:g}{unit}.",
        )
    rounding = 0.002 if marks.relative else ROUNDING
    for place in np.flatnonzero((found.beyond > rounding) & sound & ~found.elsewhere).tolist():
        yield fault(
            "outside-box",
            marks.places(place),
            f"Its box reaches {found.beyond[place]:g}{unit or ' of a side'} beyond the picture.",
        )


def area_faults(marks: Marks) -> Iterator[Fault]:
    """Areas that are not positive, or larger than the box."""
    sides = marks.boxes_xyxy[:, 2:] - marks.boxes_xyxy[:, :2]
    most = sides.prod(axis=1)
    wrong = (marks.areas <= 0) | (marks.areas > 1.05 * most + 4)
    for place in np.flatnonzero(wrong & (sides > 0).all(axis=1)).tolist():
        yield fault(
            "wrong-area", marks.places(place), f"Its area is {marks.areas[place]:g}, and its box has {most[place]:g}."
        )


def refuse(faults: Sequence[Fault]) -> None:
    """Complain about what cannot be meant.

    Raises:
        DataError: the first error, with how many more there are.
    """
    errors = [found for found in faults if found.severity == "error"]
    if errors:
        rest = f" {many(len(errors) - 1, 'more fault')}; `vitrail check` lists them." if len(errors) > 1 else ""
        raise DataError(f"{errors[0].path}: {errors[0].reason}{rest}")


def notes_about(faults: Sequence[Fault], source: Path) -> Iterator[str]:
    """What is done about warnings, one sentence for each kind; and the notes, as they are."""
    counts = Counter(found.code for found in faults if found.severity == "warning")
    first = {found.code: found.path for found in reversed(faults)}
    for code, count in counts.items():
        if code in SAID_OF_FILES:
            thing, done = SAID_OF_FILES[code]
            yield f"{shown(source)}: {many(count, thing)} {done} ({first[code]}{' first' if count > 1 else ''})."
            continue
        done = SAID[code].format(
            are="is" if count == 1 else "are",
            their="its" if count == 1 else "their",
            reach="reaches" if count == 1 else "reach",
        )
        joined = f"{many(count, 'object')} {done}"
        yield f"{shown(source)}: {joined} ({first[code]}{' first' if count > 1 else ''})."
    yield from (f"{found.path}: {found.reason}" for found in faults if found.severity == "note")


def put_right(marks: Marks) -> Marks:
    """The same objects without those that have no area, in the order of their pictures, with ids that all differ."""
    boxes, most = marks.boxes_xyxy, limits(marks)
    inside = np.concatenate([np.clip(boxes[:, :2], 0, most), np.clip(boxes[:, 2:], 0, most)], axis=1)
    sides = inside[:, 2:] - inside[:, :2]
    chosen = np.flatnonzero((sides > 0).all(axis=1))
    chosen = chosen[np.argsort(marks.owners[chosen], kind="stable")]
    space = sides.prod(axis=1)
    wrong = (
        np.isnan(marks.areas) | (marks.areas <= 0) | (marks.areas > 1.05 * (boxes[:, 2:] - boxes[:, :2]).prod(1) + 4)
    )
    places = marks.places
    return replace(
        marks,
        owners=marks.owners[chosen],
        labels=marks.labels[chosen],
        boxes_xyxy=inside[chosen],
        crowd=marks.crowd[chosen],
        areas=np.where(wrong, space, marks.areas)[chosen],
        ids=distinct(marks.ids[chosen]),
        outlines=None if marks.outlines is None else [marks.outlines[place] for place in chosen.tolist()],
        places=lambda place: places(int(chosen[place])),
    )


def distinct(ids: Int[np.ndarray, " objects"]) -> Int[np.ndarray, " objects"]:
    """The same ids, where the second of two alike gets a number that nobody has."""
    _, first = np.unique(ids, return_index=True)
    again = np.ones(len(ids), bool)
    again[first] = False
    if again.any():
        ids = ids.copy()
        ids[again] = ids.max() + 1 + np.arange(again.sum())
    return ids


def renumbered(marks: Marks, classes: tuple[str, ...]) -> Marks:
    """The same objects, numbered by classes that another part, or a model, has said.

    Raises:
        DataError: an object is of none of them.
    """
    number = class_numbers(classes, (marks.classes[place] for place in np.unique(marks.labels).tolist()), marks.source)
    table = np.array([number.get(name, -1) for name in marks.classes], np.int64)
    known = dict(zip(marks.classes, marks.class_ids, strict=True))
    labels = table[marks.labels] if len(marks.labels) else marks.labels
    return replace(marks, labels=labels, classes=classes, class_ids=tuple(known.get(name, -1) for name in classes))


def displayed_boxes(boxes: np.ndarray, size: tuple[int, int], turn: int) -> np.ndarray:
    """Where parts of a stored picture lie once it is turned as EXIF says.

    Args:
        boxes: left, top, right, bottom in stored pixels.
        size: rows and columns as displayed.
        turn: EXIF orientation.
    """
    left, top, right, bottom = boxes.T
    if turn >= 5:
        left, top, right, bottom = top, left, bottom, right
    rows, columns = size
    if turn in (2, 3, 6, 7):
        left, right = columns - right, columns - left
    if turn in (3, 4, 7, 8):
        top, bottom = rows - bottom, rows - top
    return np.stack([left, top, right, bottom], axis=1)


def displayed_masks(masks: np.ndarray, turn: int) -> np.ndarray:
    """Masks of a stored picture, turned as EXIF says."""
    if turn >= 5:
        masks = rearrange(masks, "objects rows columns -> objects columns rows")
    if turn in (2, 3, 6, 7):
        masks = masks[:, :, ::-1]
    if turn in (3, 4, 7, 8):
        masks = masks[:, ::-1]
    return np.ascontiguousarray(masks)


def turn_of(picture: ImageFile) -> int:
    """EXIF orientation of a picture."""
    with opened(picture.path) as (image, _):
        return orientation(image)


@dataclass(frozen=True, eq=False)
class MarkedFiles:
    """Pictures in files, with the objects that somebody has marked in them.

    Attributes:
        marks: objects in the order of their pictures.
        class_ids: by what numbers the data set calls its classes; -1 for a class that it does not have.
        notes: what was guessed, left out or put right, as sentences.
        with_masks: whether objects come with masks, where the data set has outlines.
    """

    marks: Marks
    notes: tuple[str, ...] = ()
    with_masks: bool = True
    multi_label: bool = True
    channels: int = 3
    task: str = "detect"

    @property
    def classes(self) -> tuple[str, ...]:
        return self.marks.classes

    @property
    def class_ids(self) -> tuple[int, ...]:
        return self.marks.class_ids

    @property
    def paths(self) -> Sequence[str]:
        return self.marks.paths

    @cached_property
    def starts(self) -> Int[np.ndarray, " pictures_and_one"]:
        """Where the objects of each picture begin."""
        return np.searchsorted(self.marks.owners, np.arange(len(self) + 1))

    def __repr__(self) -> str:
        return in_brief(self)

    def __len__(self) -> int:
        return len(self.marks.paths)

    def those_of(self, index: int) -> slice:
        """The objects of a picture."""
        return slice(int(self.starts[index]), int(self.starts[index + 1]))

    @property
    def most_objects(self) -> int:
        """In one picture."""
        return int(np.diff(self.starts).max(initial=0))

    def label(self, index: int) -> tuple[int, ...]:
        return tuple(np.unique(self.marks.labels[self.those_of(index)]).tolist())

    def labels(self) -> list[Label]:
        return [self.label(index) for index in range(len(self))]

    def fingerprint(self, index: int) -> bytes:
        return fingerprint(self.marks.paths[index])

    def __getitem__(self, index: int) -> Sample:
        picture = ImageFile(self.marks.paths[index])
        return Sample(
            picture, self.label(index), objects=self.objects(index, picture), number=self.marks.numbers[index]
        )

    def turn(self, index: int, picture: ImageFile) -> int:
        """How the picture must be turned for its objects to lie right: 1, unless they are said for the stored one.

        Raises:
            DataError: it is of another size than its objects are said for.
        """
        said, real = tuple(self.marks.sizes[index].tolist()), picture.size
        if self.marks.relative or 0 in said or said == real:
            return 1
        if said == real[::-1]:
            turn = turn_of(picture)
            return turn if turn >= 5 else 1
        raise DataError(
            f"{shown(picture.name)} is {real[1]} x {real[0]} pixels, and its objects are marked for {said[1]} x "
            f"{said[0]} in {shown(self.marks.source)}. Put back the picture that was marked, or scale its boxes."
        )

    def objects(self, index: int, picture: ImageFile) -> Objects:
        """What is marked in a picture, as it is displayed."""
        marks, those, size = self.marks, self.those_of(index), picture.size
        boxes, turn = marks.boxes_xyxy[those], self.turn(index, picture)
        scale = np.array([size[1], size[0]] * 2, float)
        if marks.relative:
            boxes = boxes * scale
        stored = size if turn < 5 else (size[1], size[0])
        masks = self.masks(those, boxes, stored) if self.with_masks and marks.outlines is not None else None
        if turn > 1:
            boxes = displayed_boxes(boxes, size, turn)
            masks = None if masks is None else displayed_masks(masks, turn)
        boxes = np.clip(boxes, 0, scale)
        objects = Objects(
            torch.from_numpy(boxes).float(),
            torch.from_numpy(marks.labels[those]),
            torch.from_numpy(marks.crowd[those]),
            torch.from_numpy(self.areas(those, size)).float(),
            None if masks is None else torch.from_numpy(masks),
            tuple(marks.ids[those].tolist()),
        )
        return objects.only((objects.boxes_xyxy[:, 2:] > objects.boxes_xyxy[:, :2]).all(dim=1))

    def areas(self, those: slice, size: tuple[int, int]) -> Float[np.ndarray, " objects"]:
        """Pixels of some objects of a picture."""
        return self.marks.areas[those] * (size[0] * size[1] if self.marks.relative else 1)

    def masks(self, those: slice, boxes: np.ndarray, size: tuple[int, int]) -> Bool[np.ndarray, "objects rows columns"]:
        """Where objects are; all of its box where an object has no outline that holds for this picture."""
        assert self.marks.outlines is not None
        masks = np.zeros((len(boxes), *size), bool)
        for mask, outline, box in zip(masks, self.marks.outlines[those], boxes, strict=True):
            try:
                if outline is None:
                    raise OutlineError
                mask[:] = filled(scaled(outline, size) if self.marks.relative else outline, size)
            except OutlineError:
                left, top, right, bottom = np.round(box).astype(int)
                mask[max(top, 0) : bottom, max(left, 0) : right] = True
        return masks


def scaled(outline: Outline, size: tuple[int, int]) -> Outline:
    """Polygons in shares of a picture, in its pixels; runs count pixels already."""
    if isinstance(outline, Runs):
        return outline
    factors = (size[1], size[0])
    return tuple(array("d", (v * factors[i % 2] for i, v in enumerate(polygon))) for polygon in outline)


def without_masks(dataset: Dataset) -> Dataset:
    """The same data set without the masks of its objects, which take time and memory to draw."""
    if isinstance(dataset, Subset):
        return replace(dataset, whole=without_masks(dataset.whole))
    return replace(dataset, with_masks=False) if isinstance(dataset, MarkedFiles) else dataset


def open_marks(marks: Marks, classes: tuple[str, ...] | None, **more: Any) -> MarkedFiles:
    """A data set of what a format has said.

    Args:
        marks: with all faults that could be found without opening pictures.
        classes: to number by, when another part or a model has said them.

    Raises:
        DataError: something cannot be meant, or an object is of none of the classes.
    """
    refuse(marks.faults)
    if not marks.paths:
        raise DataError(f"{shown(marks.source)} names no pictures.")
    notes = tuple(notes_about(marks.faults, marks.source))
    right = put_right(marks if classes is None else renumbered(marks, classes))
    return MarkedFiles(replace(right, faults=[], places=str), notes, **more)
