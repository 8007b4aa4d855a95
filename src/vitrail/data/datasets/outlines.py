"""Where an object is, as COCO and YOLO write it: polygons, or runs of pixels down the columns of a picture.

Source: the mask format of T.-Y. Lin et al., "Microsoft COCO", ECCV 2014; polygons are filled as its tools do.
"""

import math
from array import array
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Int

NUMBERS = {int, float}
FARTHEST = 1e5  # pixels that a corner may lie from the picture's own


class Runs(NamedTuple):
    """A mask as lengths of runs down the columns, first of pixels outside.

    Attributes:
        size: rows and columns.
        counts: the lengths, or the text that packs them.
    """

    size: tuple[int, int]
    counts: Sequence[int] | str


Outline = tuple[array, ...] | Runs  # polygons, each as x, y, x, y ...; or runs


class OutlineError(ValueError):
    """What is written is no outline."""


def pack(given: Any) -> Any:
    """Polygons of numbers as compact arrays; whatever else is given stays as it is."""
    if isinstance(given, list) and given and all(type(polygon) is list for polygon in given):
        try:
            if all(NUMBERS.issuperset(map(type, polygon)) for polygon in given):
                return tuple(array("d", polygon) for polygon in given)
        except OverflowError:
            return given
    return given


def unpacked(text: str) -> Int[np.ndarray, " lengths"]:
    """The lengths that COCO packs into letters: five bits each, each as the difference to the last but one.

    Raises:
        OutlineError: letters that are none of these, or an end in the middle of a number.
    """
    values = np.frombuffer(text.encode("ascii", "replace"), np.uint8).astype(np.int64) - 48
    if values.size == 0 or values.min() < 0 or values.max() > 63 or values[-1] & 32:
        raise OutlineError("its packed runs are damaged")
    ends = np.flatnonzero((values & 32) == 0)
    starts = np.concatenate([[0], ends[:-1] + 1])
    if (ends - starts).max() > 8:
        raise OutlineError("its packed runs are damaged")
    place = np.arange(values.size) - np.repeat(starts, ends - starts + 1)
    numbers = np.add.reduceat((values & 31) << (5 * place), starts)
    negative = (values[ends] & 16) != 0
    numbers[negative] -= np.int64(1) << (5 * (ends - starts + 1))[negative]
    numbers[1::2], numbers[2::2] = numbers[1::2].cumsum(), numbers[2::2].cumsum()
    return numbers


def lengths(runs: Runs) -> Int[np.ndarray, " lengths"]:
    """The lengths of runs, which fill their picture.

    Raises:
        OutlineError: they are negative, or fill more or less.
    """
    counts = unpacked(runs.counts) if isinstance(runs.counts, str) else np.fromiter(runs.counts, np.int64)
    rows, columns = runs.size
    if counts.size == 0 or counts.min() < 0 or int(counts.sum()) != rows * columns:
        raise OutlineError(f"its runs cover {int(counts.sum())} pixels of {rows} x {columns}")
    return counts


def read_runs(given: dict) -> Runs:
    """A mask out of JSON.

    Raises:
        OutlineError: it is none.
    """
    size, counts = given.get("size"), given.get("counts")
    if not (
        isinstance(size, list) and len(size) == 2 and all(type(side) is int and 0 < side < 1 << 16 for side in size)
    ):
        raise OutlineError(f"its size is {size!r:.40}, and should be rows and columns")
    if isinstance(counts, list) and all(type(count) is int and 0 <= count < 1 << 32 for count in counts):
        counts = array("q", counts)
    elif not isinstance(counts, str):
        raise OutlineError("its counts are neither whole numbers nor text")
    return Runs((size[0], size[1]), counts)


def read_polygons(given: Any) -> tuple[array, ...]:
    """The polygons that are ones; a few others among them are left out.

    Raises:
        OutlineError: there is none.
    """
    packed = pack(given)
    if not isinstance(packed, tuple):
        raise OutlineError("it is neither polygons nor runs")
    faults = [polygon_fault(polygon) for polygon in packed]
    if not any(faults):
        return packed
    if all(faults):
        raise OutlineError(faults[0])
    return tuple(polygon for polygon, fault in zip(packed, faults, strict=True) if not fault)


def polygon_fault(polygon: array) -> str:
    """What is wrong with one polygon; nothing, mostly."""
    if len(polygon) < 6:
        return f"a polygon has {len(polygon)} numbers, and three corners take 6"
    if len(polygon) % 2:
        return f"a polygon has {len(polygon)} numbers, an x without its y"
    lowest, highest = min(polygon), max(polygon)
    if not (max(highest, -lowest) < FARTHEST and math.isfinite(sum(polygon))):
        return "a polygon has a corner that is nowhere near the picture"
    return ""


def filled(outline: Outline, size: tuple[int, int]) -> Bool[np.ndarray, "rows columns"]:
    """The pixels of a picture of this size, in rows and columns, that an outline holds.

    Raises:
        OutlineError: runs that do not fill such a picture.
    """
    if isinstance(outline, Runs):
        if outline.size != size:
            raise OutlineError(
                f"its mask is {outline.size[0]} x {outline.size[1]} in a picture of {size[0]} x {size[1]}"
            )
        counts = lengths(outline)
        return np.repeat(np.arange(counts.size) % 2 == 1, counts).reshape(size[1], size[0]).T
    from faster_coco_eval import mask  # a quarter of a second

    rows, columns = size
    pieces: Any = mask.frPyObjects([polygon.tolist() for polygon in outline], rows, columns)
    return mask.decode(mask.merge(pieces)).astype(bool)


def packed_runs(mask: Bool[np.ndarray, "rows columns"]) -> Runs:
    """A mask as lengths of runs."""
    flat = np.concatenate([[False], mask.T.reshape(-1)])
    changes = np.flatnonzero(flat[1:] != flat[:-1])
    counts = np.diff(np.concatenate([[0], changes, [mask.size]]))
    return Runs(mask.shape, array("q", counts.tolist()))


def extent(outline: Outline) -> tuple[float, float, float, float]:
    """Left, top, right, bottom of an outline.

    Raises:
        OutlineError: runs that do not fill their picture.
    """
    if isinstance(outline, Runs):
        inside = filled(outline, outline.size)
        down, across = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
        if not down.size:
            return 0.0, 0.0, 0.0, 0.0
        return float(across[0]), float(down[0]), float(across[-1] + 1), float(down[-1] + 1)
    corners = np.concatenate([np.asarray(polygon) for polygon in outline]).reshape(-1, 2)
    (left, top), (right, bottom) = corners.min(0).tolist(), corners.max(0).tolist()
    return left, top, right, bottom


def surface(outline: Outline) -> float:
    """Pixels that an outline holds; polygons by the shoelace formula, as if none overlapped."""
    if isinstance(outline, Runs):
        return float(lengths(outline)[1::2].sum())
    total = 0.0
    for polygon in outline:
        x, y = np.asarray(polygon).reshape(-1, 2).T
        total += abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1))) / 2
    return total
