"""A table that names pictures and their labels: .csv, .tsv or .jsonl, in UTF-8.

One line a picture, and for CSV a first line with the names of the columns:

| column | other names | holds |
| --- | --- | --- |
| `path` | `file`, `file_name`, `filename`, `image`, `image_path` | where the picture is, from the table's folder |
| `label` | `class`, `category`, `target` | its class |
| `labels` | `classes`, `tags` | all its classes, `cat|dog` or `cat;dog`; there may be none |
| `split` | `part`, `set` (may be missing) | `train`, `val` or `test` |

Other columns are left alone. CSV columns are separated by `,` `;` or a tab, whichever the first line has most of. In
JSON lines, labels may also be a list, which makes it several labels even under the name `label`. Classes are sorted by
name, or by number if all are whole numbers. A folder with `train.csv` and `val.csv` (or .tsv, .jsonl) is one data set.
"""

import csv
import json
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from vitrail.data.classes import class_numbers, class_order, listing
from vitrail.data.csv_rows import csv_rows
from vitrail.data.dataset import PictureFiles
from vitrail.data.datasets.folder import PART_NAMES, parts_among
from vitrail.data.files import shown
from vitrail.errors import DataError

SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson")
COLUMNS = {
    "path": ("path", "file", "file_name", "filename", "image", "image_path"),
    "label": ("label", "class", "category", "target"),
    "labels": ("labels", "classes", "tags"),
    "split": ("split", "part", "set"),
}
CORNERS = {"xmin", "ymin", "xmax", "ymax"}  # columns of a table of boxes
EXPECTED = (
    "Expected: path and label (1.jpg,cat), or path and labels where a picture can have several (1.jpg,cat;dog); "
    "columns of 0 and 1 for each class are not read. Texts have text and label; "
    "pairs of sentences have a column for each language (de,en)."
)
BETWEEN_LABELS = re.compile(r"[|;]")


class Row(NamedTuple):
    """One line of the table.

    Attributes:
        line: its number in the file, from 1.
        path: of the picture; it need not exist.
        labels: the names of its classes.
        several: whether it could have had more than one.
        split: its part, by the name that we have for it, or `None`.
    """

    line: int
    path: Path
    labels: tuple[str, ...]
    several: bool
    split: str | None


class RowError(DataError):
    """A line that says nothing usable.

    Args:
        code: a short, stable word for the kind of fault.
        place: the file and the line, `labels.csv:12`.
        hint: what is wrong and what to do about it, in words.
    """

    def __init__(self, code: str, place: str, hint: str) -> None:
        super().__init__(f"{place}: {hint}")
        self.code, self.place, self.hint = code, place, hint

    def __reduce__(self) -> tuple:
        return type(self), (self.code, self.place, self.hint)


def recognises(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES or (path.is_dir() and "train" in part_files(path))


def part_files(folder: Path) -> dict[str, Path]:
    """The tables of a folder that are named after a part."""
    tables = {table.stem.lower(): table for table in sorted(folder.iterdir()) if table.suffix.lower() in SUFFIXES}
    return parts_among(tables)


def tables(path: Path) -> dict[str | None, Path]:
    """The files to read, by the part that their name stands for; `None` for a file that holds all."""
    return {**part_files(path)} if path.is_dir() else {None: path}


def rows(table: Path) -> Iterator[Row | RowError]:
    """Read a table line by line; a bad line comes as an error, so that all of them can be told at once.

    Raises:
        RowError: the file as a whole cannot be read.
    """
    lines = text_lines(table)
    records = read_json(table, lines) if table.suffix.lower() in (".jsonl", ".ndjson") else read_csv(table, lines)
    for line, record in records:
        yield record if isinstance(record, RowError) else read_row(table, line, record)


def text_lines(table: Path) -> Iterator[str]:
    """The lines of a text file, without the mark that some programs put in front of UTF-8."""
    with open(table, "rb") as file:
        if file.read(2) in (b"\xff\xfe", b"\xfe\xff"):
            raise RowError("encoding", shown(table), "this is UTF-16. Save it as UTF-8.")
    with open(table, encoding="utf-8-sig", newline="") as file:
        try:
            yield from file
        except UnicodeDecodeError as error:
            raise RowError(
                "encoding", shown(table), f"byte {error.start} is not UTF-8 ({error.reason}). Save it as UTF-8."
            ) from error


def read_csv(table: Path, lines: Iterator[str]) -> Iterator[tuple[int, dict | RowError]]:
    """Each line of a CSV file, as what stands in its columns."""
    header = next(lines, None)
    if header is None or not header.strip():
        raise RowError("empty", shown(table), f"the file is empty. {EXPECTED}")
    separator = "\t" if table.suffix.lower() == ".tsv" else max(",;\t", key=header.count)
    names = [name.strip() for name in next(csv.reader([header], delimiter=separator))]
    require_different(names, f"{shown(table)}:1", {name for names in COLUMNS.values() for name in names})
    require_columns(names, f"{shown(table)}:1")
    for line, values in csv_rows(lines, separator):
        if isinstance(values, str):
            yield line, RowError("bad-csv", f"{shown(table)}:{line}", values)
        elif len(values) == len(names):
            yield line, dict(zip(names, values, strict=True))
        elif any(value.strip() for value in values):
            hint = f"{len(values)} columns where the first line names {len(names)}. Put quotes around commas."
            yield line, RowError("wrong-columns", f"{shown(table)}:{line}", hint)


def read_json(table: Path, lines: Iterator[str]) -> Iterator[tuple[int, dict | RowError]]:
    """Each line of a JSON lines file that is not blank."""
    for line, text in enumerate(lines, start=1):
        if not text.strip():
            continue
        place = f"{shown(table)}:{line}"
        try:
            record = json.loads(text)
        except (ValueError, RecursionError) as error:
            yield line, RowError("bad-json", place, f"this line is not JSON ({error}).")
            continue
        if isinstance(record, dict):
            yield line, record
        else:
            yield line, RowError("bad-json", place, 'not an object such as {"path": "1.jpg", "label": "cat"}.')


def named(record: Iterable[str], column: str) -> str | None:
    """How a column is called here, in its own spelling."""
    spelling = {name.strip().lower(): name for name in record}
    return next((spelling[name] for name in COLUMNS[column] if name in spelling), None)


def require_different(names: Sequence[str], place: str, known: Collection[str] | None = None) -> None:
    """Complain about a name that two columns have; where some are known, the others are nobody's business."""
    counted = Counter(name.strip().lower() for name in names if name.strip())
    twice = next((name for name, count in counted.items() if count > 1 and (known is None or name in known)), None)
    if twice is not None:
        raise RowError("wrong-columns", place, f"two columns are called {twice}. Rename one, or leave it out.")


def without_part(said: Sequence[tuple[str, str | None]]) -> Iterator[RowError]:
    """Complaints about rows (their place and their part) that name no part while others do: nobody would read them."""
    for place, part in said if any(part for _, part in said) else ():
        if part is None:
            hint = "it names no part, and other lines do. Write train, val or test, or leave the line out."
            yield RowError("no-part", place, hint)


def require_columns(names: Iterable[str], place: str) -> None:
    """Complain unless there is a column of paths and one of labels, and none of boxes."""
    names = list(names)
    if {name.strip().lower().replace("_", "") for name in names} >= CORNERS:
        raise RowError(
            "missing-column",
            place,
            "the columns xmin, ymin, xmax and ymax are of boxes, and a table says what a whole picture shows. Marked "
            "objects are read as COCO (.json), Pascal VOC (.xml) or YOLO (.txt) write them.",
        )
    if named(names, "path") is None:
        raise RowError("missing-column", place, f"there is no column called path, only {listing(names)}. {EXPECTED}")
    if named(names, "label") is None and named(names, "labels") is None:
        raise RowError(
            "missing-column", place, f"there is no column called label or labels, only {listing(names)}. {EXPECTED}"
        )
    if named(names, "label") is not None and named(names, "labels") is not None:
        raise RowError("wrong-columns", place, f"there are a column label and a column labels. Keep one. {EXPECTED}")


def read_row(table: Path, line: int, record: dict) -> Row | RowError:
    """What one line says."""
    place = f"{shown(table)}:{line}"
    try:
        require_columns(record, place)
        labels, several = read_labels(record, place)
        return Row(line, table.parent / read_path(record, place), labels, several, read_split(record, place))
    except RowError as error:
        return error


def read_path(record: dict, place: str) -> str:
    path = record[named(record, "path")]
    if not isinstance(path, str) or not path.strip() or "\0" in path:
        raise RowError("missing-file", place, f"{path!r} is not the path of a picture.")
    return path.strip()


def read_labels(record: dict, place: str) -> tuple[tuple[str, ...], bool]:
    """The names of the classes, and whether there could be several."""
    column = named(record, "labels")
    several = column is not None
    given = record[column if several else named(record, "label")]
    if isinstance(given, list):
        given, several = [str(label).strip() for label in given], True
    elif several:
        given = [label.strip() for label in BETWEEN_LABELS.split("" if given is None else str(given))]
    else:
        given = ["" if given is None else str(given).strip()]
        if not given[0]:
            raise RowError("empty-label", place, "the label is empty. Give one, or remove the line.")
    return tuple(dict.fromkeys(label for label in given if label)), several


def read_split(record: dict, place: str) -> str | None:
    column = named(record, "split")
    given = record[column] if column is not None else None
    if given is None or not str(given).strip():
        return None
    name = str(given).strip().lower()
    part = next((part for part, names in PART_NAMES.items() if name in names), None)
    if part is None:
        raise RowError("unknown-split", place, f"{given!r} is not a part. Write train, val or test.")
    return part


def sound_rows(path: Path) -> list[Row]:
    """All rows of all tables, in their parts.

    Raises:
        RowError: a bad line, with how many more there are.
    """
    found, bad = [], []
    for part, table in tables(path).items():
        read = list(rows(table))
        sound = [row._replace(split=part or row.split) for row in read if isinstance(row, Row)]
        found += sound
        bad += [row for row in read if isinstance(row, RowError)]
        bad += without_part([(f"{shown(table)}:{row.line}", row.split) for row in sound])
    if bad:
        more = f" {len(bad) - 1} more lines are at fault; `vitrail check` lists them." if len(bad) > 1 else ""
        raise RowError(bad[0].code, bad[0].place, bad[0].hint + more)
    return found


def parts(path: Path) -> tuple[str, ...]:
    present = {row.split for row in sound_rows(path)}
    return tuple(part for part in PART_NAMES if part in present)


def open_part(path: Path, part: str | None, classes: tuple[str, ...] | None = None) -> PictureFiles:
    """Read one part, or a table that has no parts.

    The files themselves are not looked at; one that is missing is an error when it is read.

    Args:
        path: the table, or a folder with tables named after their parts.
        part: `train`, `val` or `test`; `None` where there are none.
        classes: the classes to number by, when another part has already said them.

    Raises:
        DataError: no rows, bad rows, or a class that is not in `classes`.
    """
    found = sound_rows(path)
    chosen = [row for row in found if part is None or row.split == part]
    if not chosen:
        raise DataError(f"{shown(path)} names no pictures{f' for {part}' if part else ''}.")
    if classes is None:
        classes = class_order(label for row in chosen for label in row.labels)
    number = class_numbers(classes, sorted({label for row in chosen for label in row.labels}), path)
    several = any(row.several for row in found)
    numbers = [tuple(sorted(number[label] for label in row.labels)) for row in chosen]
    targets = numbers if several else [first for (first,) in numbers]
    return PictureFiles([str(row.path) for row in chosen], targets, classes, multi_label=several)
