"""A table of texts with labels: .csv, .tsv or .jsonl.

| column | other names | holds |
| --- | --- | --- |
| `text` | `sentence`, `review`, `content`, `comment`, `document`, `sentence1`, `premise` | what is read |
| `second` | `text2`, `sentence2`, `hypothesis` (may be missing) | the other text, where two are compared |
| `label` | `class`, `category`, `target`, `sentiment` | its class |
| `labels` | `classes`, `tags` | all its classes, `kind|short`; there may be none |
| `split` | `part`, `set` (may be missing) | `train`, `val` or `test` |

A folder with `train.csv` and `val.csv` (or .tsv, .jsonl) is one data set.
"""

from pathlib import Path
from typing import Any, NamedTuple

from vitrail.data.classes import class_numbers, class_order, listing
from vitrail.data.datasets.manifest import COLUMNS, RowError, read_labels, without_part
from vitrail.data.files import shown
from vitrail.data.text.dataset import Labelled, Texts, some
from vitrail.data.text.reading import (
    PARTS,
    Complain,
    by_part,
    column,
    files_in,
    header_of,
    ignore,
    kind_of,
    part_of,
    refuse,
    table_rows,
    text_in,
)
from vitrail.tokenizing import joined

TABLES = (".csv", ".tsv", ".jsonl", ".ndjson")
FIRST = ("text", "sentence", "review", "content", "comment", "document", "sentence1", "premise", "text1")
SECOND = ("second", "text2", "sentence2", "hypothesis", "pair")
ALIASES = {"sentiment": "label"}
EXPECTED = "Expected the columns text and label (good film,positive), or text and labels (good film,kind|short)."


class Row(NamedTuple):
    """One row.

    Attributes:
        place: where it stands.
        first, second: what is read.
        labels: the names of its classes.
        several: whether it could have had more than one.
        part: that it names.
    """

    place: str
    first: str
    second: str | None
    labels: tuple[str, ...]
    several: bool
    part: str | None


def spelled(record: dict[str, Any]) -> dict[str, Any]:
    """A record with the names of columns that the tables of pictures know."""
    return {ALIASES.get(name.strip().lower(), name): value for name, value in record.items()}


def has_columns(path: Path) -> bool:
    names = list(spelled(dict.fromkeys(header_of(path))))
    return column(names, FIRST) is not None and column(names, (*COLUMNS["label"], *COLUMNS["labels"])) is not None


def tables_in(path: Path) -> dict[str | None, Path]:
    """The tables at a path, by the part that their name stands for."""
    if path.is_file():
        return {None: path} if kind_of(path) in TABLES else {}
    return {**by_part(file for file in files_in(path) if kind_of(file) in TABLES)}


def recognises(path: Path | str) -> bool:
    if not Path(path).exists():
        return False
    found = tables_in(Path(path))
    table = found.get(None) or found.get("train")
    return table is not None and has_columns(table)


def read_row(place: str, record: dict[str, Any]) -> Row:
    """What one row says.

    Raises:
        RowError: a column is missing, or holds something else.
    """
    record = spelled(record)
    first, second = column(record, FIRST), column(record, SECOND)
    if first is None:
        words = f"there is no column called text, only {listing(list(record))}. {EXPECTED}"
        raise RowError("missing-column", place, words)
    if column(record, (*COLUMNS["label"], *COLUMNS["labels"])) is None:
        words = f"there is no column called label, only {listing(list(record))}. {EXPECTED}"
        raise RowError("missing-column", place, words)
    text = text_in(record, first, place)
    if not text:
        raise RowError("empty-text", place, "the text is empty. Write one, or remove the row.")
    labels, several = read_labels(record, place)
    other = None if second is None else text_in(record, second, place)
    return Row(place, text, other, labels, several, part_of(record, place))


def rows(path: Path, complain: Complain) -> list[tuple[str | None, Row]]:
    """All rows with the part they are of."""
    found = []
    for part, table in tables_in(path).items():
        read = []
        for place, record in table_rows(table, complain):
            try:
                row = read_row(place, record)
            except RowError as error:
                complain(error)
            else:
                read.append((part or row.part, row))
        for error in without_part([(row.place, said) for said, row in read]):
            complain(error)
        found += read
    return found


def rows_of(table: Path, pairs: bool) -> list[str]:
    """The texts of a table, row by row, whether or not they have labels.

    Args:
        table: the file.
        pairs: whether a row may have two.

    Raises:
        DataError: it cannot be read, has no column of texts, or two that are not wanted.
    """
    found = list[str]()
    for place, record in table_rows(table):
        first, second = column(record, FIRST), column(record, SECOND)
        if first is None:
            raise RowError("missing-column", place, f"there is no column called text, only {listing(list(record))}.")
        if second is not None and not pairs:
            raise RowError(
                "pairs", place, f"{first} and {second} are compared, and this model reads one text of a row."
            )
        found.append(joined(text_in(record, name, place) for name in (first, second) if name is not None))
    return found


def parts(path: Path | str) -> tuple[str, ...]:
    present = {part for part, _ in rows(Path(path), ignore)}
    return tuple(part for part in PARTS if part in present)


def open_part(
    path: Path | str, part: str | None, classes: tuple[str, ...] | None = None, complain: Complain = refuse
) -> Texts:
    """Read one part, or a table that has no parts.

    Args:
        path: the table, or a folder of tables named after their parts.
        part: `train`, `val` or `test`; `None` where there are none.
        classes: the classes to number by, when another part has already said them.
        complain: told what is wrong with single rows, instead of stopping at the first.

    Raises:
        DataError: no rows, bad rows, or a class that is not in `classes`.
    """
    path = Path(path)
    found = rows(path, complain)
    wanted = "labelled texts" if part is None else f"texts for {part}"
    chosen = some([row for said, row in found if part is None or said == part], shown(path), wanted)
    if classes is None:
        classes = class_order(label for row in chosen for label in row.labels)
    number = class_numbers(classes, sorted({label for row in chosen for label in row.labels}), path)
    several = any(row.several for _, row in found)
    samples = []
    for row in chosen:
        numbers = tuple(sorted(number[label] for label in row.labels))
        samples.append(Labelled(row.place, row.first, numbers if several else numbers[0], row.second))
    return Texts(samples, "classify-text", classes, several)
