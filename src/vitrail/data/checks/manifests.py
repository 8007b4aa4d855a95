"""Faults of a table that names pictures and labels."""

import os
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

from vitrail.data.checks.faults import Fault, fault
from vitrail.data.checks.pictures import Entry, class_faults, name_faults, picture_faults
from vitrail.data.datasets.manifest import Row, RowError, rows, tables, without_part
from vitrail.data.files import shown

BOM = b"\xef\xbb\xbf"


def check(path: Path) -> Iterator[Fault]:
    """All faults of a table, or of a folder of tables."""
    listed: dict[Path, tuple[str, Row]] = {}  # the first line that names a picture, with its place
    readable = True
    for part, table in tables(path).items():
        with open(table, "rb") as file:
            if file.read(len(BOM)) == BOM:
                yield fault("bom", table, "It begins with a byte order mark, which is skipped.")
        said: list[tuple[str, str | None]] = []
        try:
            for row in rows(table):
                if isinstance(row, RowError):
                    yield fault(row.code, row.place, row.hint)
                else:
                    place, split = f"{shown(table)}:{row.line}", part or row.split
                    said.append((place, split))
                    yield from row_faults(place, row._replace(split=split), listed)
            for error in without_part(said):
                yield fault(error.code, error.place, error.hint)
        except RowError as error:
            readable = False
            yield fault(error.code, error.place, error.hint)
    if readable and not listed:
        yield fault("no-pictures", path, "It names no picture that is there.")
    counts: dict[str | None, Counter[str]] = defaultdict(Counter)
    for _, row in listed.values():
        counts[row.split].update(row.labels)
    yield from class_faults(path, counts)
    yield from name_faults(path, set().union(*counts.values()))
    yield from picture_faults(Entry(row.path, row.split, row.labels) for _, row in listed.values())


def row_faults(place: str, row: Row, listed: dict[Path, tuple[str, Row]]) -> Iterator[Fault]:
    """What is wrong with one line, seeing the lines before it; a sound one is added to them."""
    path = Path(os.path.normpath(row.path))
    if not path.is_file():
        yield fault("missing-file", place, f"There is no file {shown(path)}. Paths count from the table's folder.")
        return
    if path not in listed:
        listed[path] = (place, row)
        return
    before, first = listed[path]
    if (set(row.labels), row.split) == (set(first.labels), first.split):
        yield fault("duplicate-row", place, f"Says the same as {before}.")
    else:
        yield fault("conflicting-rows", place, f"{shown(path)} is also in {before}, with another label or part.")
