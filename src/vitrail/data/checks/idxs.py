"""Faults of a folder of idx files."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import repeat
from pathlib import Path

from vitrail.data.checks.faults import Fault, fault
from vitrail.data.checks.pictures import Entry, class_faults, duplicates
from vitrail.data.datasets.idx import IdxError, check_fit, find_files, read_idx, read_items, read_shape


def check(path: Path) -> Iterator[Fault]:
    """All faults of the files, part by part."""
    counts: dict[str | None, Counter[str]] = {}
    alike: dict[bytes, list[Entry]] = defaultdict(list)
    for part, files in find_files(path).items():
        for kind in sorted({"images", "labels"} - files.keys()):
            yield fault("missing-file", path, f"There is no idx file with the {kind} of the {part} part.")
        try:
            for content, entry in list_entries(part, files):
                alike[content].append(entry)
                counts.setdefault(part, Counter()).update(entry.labels)
        except IdxError as error:
            yield fault(error.code, error.path, error.hint)
    yield from class_faults(path, counts)
    yield from duplicates(alike)


def list_entries(part: str, files: dict[str, Path]) -> Iterator[tuple[bytes, Entry]]:
    """Each picture of a part, with a hash of its content; one at a time is in memory.

    Raises:
        IdxError: a file is damaged, or does not fit the other.
    """
    labels = read_idx(files["labels"]) if "labels" in files else None
    if "images" not in files:
        return
    if labels is not None:
        check_fit(files, read_shape(files["images"]), labels)
    names = repeat(()) if labels is None else ((str(label),) for label in labels.tolist())
    for number, (item, name) in enumerate(zip(read_items(files["images"]), names)):  # noqa: B905 unlabelled: endless
        place = files["images"].with_name(f"{files['images'].name}[{number}]")
        yield hashlib.blake2b(item, digest_size=16).digest(), Entry(place, part, name)
