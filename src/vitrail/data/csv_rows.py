"""The rows of a CSV file, of which none takes those below it for its own because of a quote."""

import csv
from collections.abc import Iterable, Iterator, Sequence

UNCLOSED = "a quote opens here and is not closed"


def csv_rows(lines: Iterable[str], separator: str) -> Iterator[tuple[int, list[str] | str]]:
    """Each row below a first line, with the number of the line where it begins; at last, what ends them too early.

    Quotes are read as Python's reader reads them, strays among them, but for one that takes the rows below for its own.
    """
    taken: list[str] = []  # lines of this row

    def seen() -> Iterator[str]:
        for line in lines:
            taken.append(line)
            yield line

    line, reader = 2, csv.reader(seen(), delimiter=separator)
    while True:
        try:
            values = next(reader, None)
        except csv.Error as error:
            long = len(taken) > 1 and "limit" in str(error)
            yield line, f"{UNCLOSED}, or holds too long a text." if long else f"cannot be read from here on: {error}."
            return
        if values is None:
            return
        if swallows(taken, separator):
            yield line, f"{UNCLOSED}. Close it, or double each quote inside a text."
            return
        yield line, values
        line += len(taken)
        taken.clear()


def swallows(lines: Sequence[str], separator: str) -> bool:
    """Whether a quote in these lines of one row is never closed, or is closed by one that was meant to open another."""
    if not any('"' in line for line in lines):
        return False
    try:
        next(csv.reader(lines, delimiter=separator, strict=True), None)
    except csv.Error:
        return closed_oddly("".join(lines), separator)
    return False


def closed_oddly(row: str, separator: str) -> bool:
    """The same of a row that a strict reader refuses, letter by letter."""
    inside, opened, before, letters = False, 0, separator, iter(enumerate(row, start=1))
    for place, letter in letters:
        after = row[place : place + 1]
        if letter == '"' and inside and after == '"':
            next(letters)  # two stand for one
        elif letter == '"' and inside:
            inside = False
            opens = (before == separator or before.isspace()) and after != separator and not (after or " ").isspace()
            if opens and "\n" in row[opened:place]:
                return True
        elif letter == '"' and before == separator:
            inside, opened = True, place
        before = letter
    return inside
