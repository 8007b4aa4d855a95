"""What is wrong with a data set, file by file, before anything runs. Nothing is changed.

`checks/faults.py` lists the codes.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from vitrail.data.checks import folders, idxs, manifests, objects, texts
from vitrail.data.checks.faults import Fault, fault
from vitrail.data.dataset import refuse_one_class
from vitrail.data.datasets import coco, folder, idx, manifest, panoptic, scenes, voc, yolo
from vitrail.data.open import TEXTS, format_of, holds_texts, open_dataset, open_splits, parts
from vitrail.errors import DataError, ImageError, many

__all__ = ["Fault", "check", "count_in_words"]

CHECKS = {
    folder: folders.check,
    idx: idxs.check,
    manifest: manifests.check,
    coco: objects.check_coco,
    panoptic: objects.check_panoptic,
    voc: objects.check_voc,
    yolo: objects.check_yolo,
}
ORDER = ("error", "warning", "note")


def check(path: Path | str) -> list[Fault]:
    """Find everything that is wrong with a data set, or good to know: errors first, each kind together.

    Every file is read and decoded, in several threads; some hundred at a time are in memory.

    Raises:
        DataError: nothing is there, or nothing that is a data set.
    """
    found = list(find(path))
    if not any(one.severity == "error" for one in found):
        found += unopened(path)
    return sorted(found, key=lambda found: (ORDER.index(found.severity), found.code, in_order(found.path)))


def in_order(path: str) -> list[tuple[str, int]]:
    """What sorts places as people count: line 2 before line 10."""
    return [(text, int(number or 0)) for text, number in re.findall(r"(\D*)(\d{0,18})", path)]


def unopened(path: Path | str) -> list[Fault]:
    """Why data in which nothing is wrong cannot be learned from all the same; nothing where it can."""
    try:
        refuse_one_class(open_splits(path).train, str(path))
    except (DataError, ImageError) as error:
        return [fault("cannot-open", path, str(error))]
    return []


def count_in_words(path: Path | str) -> list[str]:
    """One line with the numbers of samples and classes; none where the data set cannot be opened."""
    try:
        splits = open_splits(path)
        test = len(open_dataset(path, "test", splits.train.classes or None)) if "test" in parts(path) else 0
    except (DataError, ImageError):
        return []
    name, train, val = str(path).removesuffix(":"), len(splits.train), len(splits.val)
    and_judged = f", {val:,} to be judged by and {test:,} in its part test" if test else f" and {val:,} to be judged by"
    unit, classes = "texts" if holds_texts(path) else "pictures", splits.train.classes
    among = f", in {many(len(classes), 'class')}" if classes and splits.train.task != "translate" else ""
    return [f"{name}: {train + val + test:,} {unit}, {train:,} to learn from{and_judged}{among}."]


def find(path: Path | str) -> Iterator[Fault]:
    reader, place = format_of(path)
    if reader in TEXTS:
        yield from texts.check(str(path))
        return
    if reader is scenes:
        scenes.read_spelling(path)  # which raises if it means nothing
        return
    try:
        yield from CHECKS[reader](Path(place))
    except OSError as error:
        yield fault("unreadable", error.filename or path, f"It cannot be read ({error.strerror}).")
