"""How verbs print: tables for people, lines of JSON for programs."""

import csv
import json
import re
import sys
from collections.abc import Iterable, Sequence
from io import StringIO
from typing import Any

UNBOUNDED = 100_000  # columns: a program that reads a table wants one line for each row
RULE, MOST_RULED = {"\u2500", " "}, 80  # the line below the names of the columns, which need not be that long


CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # what a terminal obeys instead of showing it


def visible(cell: str) -> str:
    """The same text with its control characters spelled out: names out of somebody's file move no cursor."""
    return CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), cell)


def print_json_lines(records: Iterable[Any]) -> None:
    """One JSON object on each line, as it becomes known."""
    for record in records:
        print(json.dumps(record, ensure_ascii=False), flush=True)


def flat(value: Any, name: str = "") -> dict[str, Any]:
    """Nested values under one name each: `guesses.1.label`, counted from 1; words of a list go into one value."""
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list) and not all(isinstance(item, str) for item in value):
        items = enumerate(value, start=1)
    else:
        return {name: ";".join(value) if isinstance(value, list) else value}
    cells = (flat(item, f"{name}.{key}" if name else str(key)) for key, item in items)
    return {key: cell for part in cells for key, cell in part.items()}


def print_csv(records: Iterable[dict[str, Any]], columns: Sequence[str] = ()) -> None:
    """Comma-separated values, with a column for everything that any record has; of none, those that are named."""
    rows = [flat(record) for record in records]
    columns = list(dict.fromkeys([*columns, *(name for row in rows for name in row)]))
    writer = csv.DictWriter(sys.stdout, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table as wide as the terminal, in which long cells go on in the next line; one line for each row elsewhere.

    A column whose cells are all empty is left out.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table

    rows = list(rows)
    shown = [place for place in range(len(columns)) if any(row[place] for row in rows)]
    drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, show_header=any(columns))
    for place in shown:
        drawn.add_column(columns[place], overflow="fold")
    for row in rows:
        drawn.add_row(*(visible(row[place]) for place in shown))
    if sys.stdout.isatty():
        Console(file=sys.stdout, highlight=False, markup=False).print(drawn)
        return
    text = StringIO()
    Console(file=text, highlight=False, markup=False, width=UNBOUNDED).print(drawn)
    lines = text.getvalue().splitlines()
    print("\n".join(line.rstrip()[:MOST_RULED] if set(line) <= RULE else line.rstrip() for line in lines))
