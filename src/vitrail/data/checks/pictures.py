"""Faults of pictures, one by one, and of classes: whatever format listed them."""

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import NamedTuple
from unicodedata import normalize

from vitrail.data.checks.faults import Fault, fault
from vitrail.data.decoding import decode, opened, orientation
from vitrail.data.files import SUFFIXES, digest, shown
from vitrail.errors import ImageError, many

MOST_THREADS = 8  # each may hold a picture of 64 million pixels
AT_ONCE = 512  # pictures handed to the threads at a time: as much as is remembered in full
TINY = 16  # pixels of the shorter side
HUGE = 24_000_000  # pixels
EXTREME = 8  # times as long as wide
LONG = 3 / 2  # times as long as wide, as most cameras see; a square cut out of the middle of more loses a third
UNEVEN = 10  # times as many pictures in one class as in another


class Entry(NamedTuple):
    """A picture that a data set lists.

    Attributes:
        path: of the file.
        part: `train`, `val` or `test`; `None` where there are no parts.
        labels: the names of its classes.
    """

    path: Path
    part: str | None
    labels: tuple[str, ...]


class Look(NamedTuple):
    """What opening a picture showed.

    Attributes:
        digest: of the file's content.
        format: by its content, in Pillow's word.
        mode: in Pillow's word.
        size: rows and columns as displayed.
        turned: whether EXIF says so.
        animated: whether more pictures are in the file.
        transparent: whether any pixel can be seen through.
        error: why it cannot be decoded, if so; then only `digest` means anything.
    """

    digest: bytes
    format: str = ""
    mode: str = ""
    size: tuple[int, int] = (0, 0)
    turned: bool = False
    animated: bool = False
    transparent: bool = False
    error: ImageError | None = None


def look(entry: Entry) -> Look:
    """Read and decode a picture."""
    try:
        with opened(entry.path) as (image, file):
            # MPO is a JPEG with more pictures behind it, such as the views that drones and telephones keep
            format, mode = "JPEG" if image.format == "MPO" else image.format or "", image.mode
            animated = getattr(image, "is_animated", False)
            picture, turn = decode(image, file), orientation(image)
            transparent = picture.mode == "RGBA" and picture.getchannel("A").getextrema()[0] != 255
            size = (picture.width, picture.height) if turn >= 5 else (picture.height, picture.width)
            return Look(digest(entry.path), format, mode, size, turn > 1, animated, transparent)
    except ImageError as error:
        return Look(b"", error=error)


def look_at_all(entries: Iterable[Entry]) -> Iterator[tuple[Entry, Look]]:
    """Look at pictures in several threads, some at a time, in their order."""
    entries = iter(entries)
    with ThreadPoolExecutor(min(MOST_THREADS, os.cpu_count() or 1)) as threads:
        while some := list(islice(entries, AT_ONCE)):
            yield from zip(some, threads.map(look, some), strict=True)


def nothing_else(entry: Entry, seen: Look) -> Iterator[Fault]:
    """No further fault of a picture."""
    return iter(())


def picture_faults(
    entries: Iterable[Entry], judge: Callable[[Entry, Look], Iterator[Fault]] = nothing_else
) -> Iterator[Fault]:
    """Everything that only opening the files can show.

    Args:
        entries: the pictures.
        judge: what else is wrong with a picture that can be decoded.
    """
    alike: dict[bytes, list[Entry]] = defaultdict(list)
    kinds: dict[str, list[Path]] = defaultdict(list)
    decoded = 0
    for entry, seen in look_at_all(entries):
        if seen.error is not None:
            yield fault(seen.error.code, entry.path, seen.error.hint)
            continue
        decoded += 1
        alike[seen.digest].append(entry)
        yield from own_faults(entry.path, seen)
        yield from judge(entry, seen)
        for kind in notable(seen):
            kinds[kind].append(entry.path)
    yield from duplicates(alike)
    if long := kinds.pop("long", None):
        be, their = ("is", "its") if len(long) == 1 else ("are", "their")
        yield fault(
            "long",
            long[0],
            f"{len(long)} of {many(decoded, 'picture')} {be} longer than 3:2; a model that reads squares sees {their} "
            f"middle only. `--set model.image=ROWSxCOLUMNS` reads rectangles.",
        )
    for kind, paths in kinds.items():
        count = "1 picture is" if len(paths) == 1 else f"{len(paths)} pictures are"
        yield fault(kind, paths[0], f"{count} {NOTABLE[kind]}" + (", this one first." if len(paths) > 1 else "."))


def own_faults(path: Path, seen: Look) -> Iterator[Fault]:
    """What is odd about one picture."""
    rows, columns = seen.size
    usual = SUFFIXES[seen.format]
    if path.suffix.lower() not in usual:
        yield fault("wrong-extension", path, f"It is a {seen.format} file. Let its name end in {usual[0]}.")
    if min(rows, columns) < TINY:
        yield fault("tiny", path, f"It has only {columns} x {rows} pixels.")
    elif max(rows, columns) > EXTREME * min(rows, columns):
        yield fault("extreme-aspect", path, f"It is {columns} x {rows} pixels; a square crop shows little of it.")
    if rows * columns > HUGE:
        yield fault("huge", path, f"It has {columns} x {rows} pixels and will be slow to read. Make it smaller.")


NOTABLE = {
    "rotated": "turned by EXIF orientation, as a viewer would",
    "grey": "grey",
    "cmyk": "made of printing colours (CMYK), and converted",
    "deep": "of more than 8 bits, and scaled",
    "transparent": "transparent, and laid on white",
    "animated": "animated, and only their first frames are read",
}


def notable(seen: Look) -> Iterator[str]:
    """What is worth counting."""
    facts = {
        "rotated": seen.turned,
        "grey": seen.mode in ("1", "L", "LA"),
        "cmyk": seen.mode == "CMYK",
        "deep": seen.mode.startswith(("I", "F")),
        "transparent": seen.transparent,
        "animated": seen.animated and seen.format not in ("TIFF", "JPEG"),
        "long": max(seen.size) > LONG * (min(seen.size) + 1),  # 500 x 333 is as near to 3:2 as pixels can be
    }
    return (kind for kind, holds in facts.items() if holds)


def duplicates(alike: dict[bytes, list[Entry]]) -> Iterator[Fault]:
    """Pictures with the same content, each compared with the first of its kind."""
    for first, *others in alike.values():
        for other in others:
            if other.path == first.path:
                continue  # one file listed twice is a matter of the list
            if other.part != first.part:
                code, more = "duplicate-across-parts", "A score on it is no proof. Remove one of them."
            elif other.labels != first.labels:
                code, more = "duplicate-across-classes", "At least one of their labels is wrong."
            else:
                code, more = "duplicate", "It counts twice."
            yield fault(code, other.path, f"The same picture as {shown(first.path)}. {more}")


def class_faults(root: Path | str, counts: dict[str | None, Counter[str]], unit: str = "picture") -> Iterator[Fault]:
    """What the classes of the parts show together.

    Args:
        root: what to call the data set.
        counts: for each part, how many samples each class has.
        unit: what a sample is called.
    """
    learned = counts.get("train", counts.get(None, Counter()))
    present = [name for name, count in learned.items() if count]
    if len(learned) == 1:
        yield fault("one-class", root, f"There is only one class, {next(iter(learned))}: nothing to tell apart.")
    for name in present:
        if learned[name] == 1 and len(present) > 1:
            yield fault("one-picture-class", root, f"The class {name} has a single {unit}.")
    if present and (most := max(learned[name] for name in present)) > UNEVEN * min(learned[name] for name in present):
        rarest = min(present, key=learned.__getitem__)
        yield fault(
            "imbalance", root, f"The classes have from {learned[rarest]} ({rarest}) to {most} {unit}s: balance them."
        )
    for part in counts.keys() - {"train", None}:
        for name in sorted(counts[part].keys() - learned.keys()):
            yield fault("class-not-in-train", root, f"The class {name} is in {part}, and not in train.")
    for name in sorted(learned.keys() - counts.get("val", learned).keys()):
        yield fault("class-only-in-train", root, f"The class {name} is in train, and not in val.")


def name_faults(root: Path | str, names: Iterable[str]) -> Iterator[Fault]:
    """What is odd about the names of classes in a table: two that a person would not tell apart, or several in one."""
    names = sorted(names)
    for name, twin in clashes(names):
        yield fault("class-case-clash", root, f"There are the classes {name} and {twin}. Write both alike.")
    for name in (name for name in names if "," in name and set(map(str.strip, name.split(","))) & set(names)):
        yield fault("comma-in-label", root, f"{name!r} is taken for one label. Put ; between several.")


def clashes(names: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Names that differ from an earlier one only in case or in how accents are written, with that one."""
    alike: dict[str, list[str]] = defaultdict(list)
    for name in sorted(names):
        alike[normalize("NFC", name).casefold()].append(name)
    for first, *others in alike.values():
        yield from ((other, first + accents(other, first)) for other in others)


def accents(name: str, twin: str) -> str:
    """What is to be said of two names that look the same."""
    return " (whose accents are written otherwise)" if name.casefold() != twin.casefold() else ""
