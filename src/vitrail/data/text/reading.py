"""Lines of text files, gzipped or not, and tables; whatever is wrong with one is a sentence that names the place."""

import csv
import gzip
import io
import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from vitrail.data.classes import listing
from vitrail.data.csv_rows import csv_rows
from vitrail.data.datasets.folder import PART_NAMES
from vitrail.data.datasets.manifest import RowError, require_different
from vitrail.data.files import shown
from vitrail.errors import DataError

Complain = Callable[[RowError], None]  # told what is wrong with a line, which is then left out
MERELY_ODD = frozenset({"empty-side", "uneven-columns", "empty-document"})

LONGEST_LINE = 1 << 20  # characters; a longer line is no line of text
LARGEST = 1 << 34  # bytes of text, unpacked, in one file
MARKS = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}
PARTS = {part: (*names, "dev") if part == "val" else names for part, names in PART_NAMES.items()}


def refuse(error: RowError) -> None:
    """Stop at the first line that is wrong and not merely odd, as reading does unless it is told otherwise."""
    if error.code not in MERELY_ODD:
        raise error


def ignore(error: RowError) -> None:
    """Say nothing: somebody else reads the same lines and will."""


def kind_of(path: Path) -> str:
    """What a file's name ends with, without what says that it is gzipped: `.txt` for `a.txt.gz`."""
    name = path.name.lower().removesuffix(".gz")
    return Path(name).suffix


def stem_of(path: Path) -> str:
    """A file's name without its endings: `train` for `train.de.gz`."""
    return Path(path.name.lower().removesuffix(".gz")).stem


def part_called(name: str) -> str | None:
    """The part that a name stands for: `test` for `test_2016_flickr`, `val` for `dev-v1.1`."""
    first = name.lower().replace("-", "_").replace(".", "_").split("_")[0]
    return next((part for part, names in PARTS.items() if first in names), None)


def by_part(files: Iterable[Path]) -> dict[str, Path]:
    """The files that are named after a part; of several for one part, the plainest name."""
    found: dict[str, Path] = {}
    for path in sorted(files, key=lambda path: (len(path.name), path.name)):
        part = part_called(stem_of(path))
        if part is not None:
            found.setdefault(part, path)
    return {part: found[part] for part in PARTS if part in found}


def files_in(folder: Path) -> list[Path]:
    """The files of a folder that are not hidden, sorted by name."""
    return sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))


def legible(line: str, path: Path, number: int, complain: Complain) -> str:
    """A line of which each byte that is not UTF-8 has become half a character: spelled out, as in `Stra\\xdfe`."""
    try:
        line.encode()
    except UnicodeEncodeError:
        content = line.encode("utf-8", "surrogateescape")
    else:
        return line
    try:
        content.decode()
    except UnicodeDecodeError as error:
        complain(
            RowError(
                "encoding",
                f"{shown(path)}:{number}",
                f"this line is not UTF-8 ({error.reason}). Save the file as UTF-8.",
            )
        )
    return content.decode("utf-8", "backslashreplace")


def text_lines(path: Path, complain: Complain = refuse) -> Iterator[str]:
    """The lines of a text file in UTF-8, without their ends; gzipped where its name ends in `.gz`.

    Raises:
        RowError: it cannot be read, or has a line without an end; or one that is not UTF-8, unless `complain` takes it.
    """
    number = 0
    try:
        with open(path, "rb") as raw, gzip.open(raw) if path.name.lower().endswith(".gz") else raw as file:
            counted = Counted(file, shown(path))
            text = io.TextIOWrapper(counted, encoding="utf-8-sig", errors="surrogateescape", newline="\n")
            while line := text.readline(LONGEST_LINE + 1):
                number += 1
                if len(line) > LONGEST_LINE:
                    raise RowError(
                        "long-line",
                        f"{shown(path)}:{number}",
                        f"this line has more than {LONGEST_LINE:,} characters. Put each sentence, or each paragraph, "
                        "on a line of its own.",
                    )
                yield legible(line.rstrip("\r\n"), path, number, complain)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise RowError("damaged", shown(path), f"this is a damaged gzip file ({error}). Fetch it anew.") from error
    except OSError as error:
        raise RowError("unreadable", shown(path), f"it cannot be read ({error.strerror}).") from error


class Counted(io.RawIOBase):
    """A file of bytes that says when it is no text file at all, or far too large."""

    def __init__(self, file: Any, name: str) -> None:
        self.file, self.name, self.seen = file, name, 0

    def readable(self) -> bool:
        return True

    def readinto(self, room: Any) -> int:
        content = self.file.read(len(room))
        if self.seen == 0 and content[:2] in MARKS:
            raise RowError("encoding", self.name, f"this is {MARKS[content[:2]]}. Save it as UTF-8.")
        self.seen += len(content)
        if self.seen > LARGEST:
            words = f"it holds more than {LARGEST >> 30} GB of text. Cut it into several files."
            raise RowError("too-large", self.name, words)
        room[: len(content)] = content
        return len(content)


def header_of(path: Path) -> list[str]:
    """The names of the columns of a table; none where it has none, or cannot be read."""
    try:
        first = next((line for line in text_lines(path) if line.strip()), "").split("\r")[0]  # old Mac programs' end
    except DataError:
        return []
    if kind_of(path) in (".jsonl", ".ndjson"):
        try:
            record = json.loads(first)
        except (ValueError, RecursionError):
            return []
        return list(flattened(record)) if isinstance(record, dict) else []
    return [name.strip() for name in next(csv.reader([first], delimiter=separator_of(path, first)), [])]


def separator_of(path: Path, header: str) -> str:
    """What stands between the columns."""
    return "\t" if kind_of(path) == ".tsv" else max(",;\t", key=header.count)


def flattened(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record with the languages of a `translation` as columns of their own."""
    inner = record.get("translation")
    return {**record, **inner} if isinstance(inner, dict) else dict(record)


def table_rows(path: Path, complain: Complain = refuse) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each row of a .csv, .tsv or .jsonl file, with its place (`file:12`).

    Raises:
        RowError: it is empty; or a line cannot be read, unless `complain` takes it.
    """
    if kind_of(path) in (".jsonl", ".ndjson"):
        yield from json_rows(path, complain)
        return
    lines = text_lines(path, complain)
    header = next(lines, "")
    if not header.strip():
        raise RowError("empty", shown(path), "it is empty. Expected a first line with the names of the columns.")
    separator = separator_of(path, header)
    if "\r" in header:
        hint = "its lines end as old Mac programs end them. Save it as CSV in UTF-8, with the line ends of today."
        raise RowError("bad-csv", shown(path), hint)
    names = [name.strip() for name in next(csv.reader([header], delimiter=separator))]
    require_different(names, f"{shown(path)}:1")
    for line, values in csv_rows((f"{line}\n" for line in lines), separator):
        place = f"{shown(path)}:{line}"
        if isinstance(values, str):
            complain(RowError("bad-csv", place, values))
        elif len(values) == len(names):
            yield place, dict(zip(names, values, strict=True))
        elif any(value.strip() for value in values):
            words = f"{len(values)} columns where the first line names {len(names)} ({listing(names)})."
            complain(RowError("wrong-columns", place, f"{words} Put quotes around a text with {separator!r} in it."))


def json_rows(path: Path, complain: Complain) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each line of a JSON lines file that is not blank."""
    some = False
    for number, line in enumerate(text_lines(path, complain), start=1):
        if not line.strip():
            continue
        some, place = True, f"{shown(path)}:{number}"
        try:
            record = json.loads(line)
            if "\\u" in line:
                sound(json.dumps(record, ensure_ascii=False), place)
        except RowError as error:
            complain(error)
            continue
        except (ValueError, RecursionError) as error:
            complain(RowError("bad-json", place, f"this line is not JSON ({error})."))
            continue
        if isinstance(record, dict):
            yield place, flattened(record)
        else:
            complain(RowError("bad-json", place, "not an object with a value for each column."))
    if not some:
        raise RowError("empty", shown(path), "it is empty.")


def column(names: Iterable[str], wanted: Iterable[str]) -> str | None:
    """The first of the wanted columns that there is, in its own spelling."""
    spelling = {name.strip().lower(): name for name in names}
    return next((spelling[name] for name in wanted if name in spelling), None)


def sound(text: str, place: str) -> str:
    """The same text, if it is one: JSON can spell half a character.

    Raises:
        RowError: it does.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        words = f"half a character (a lone surrogate) stands at {error.start} of the text."
        raise RowError("encoding", place, words) from error
    return text


def text_in(record: Mapping[str, Any], name: str, place: str) -> str:
    """The text in a column.

    Raises:
        RowError: there is none, or something else.
    """
    value = record.get(name)
    if not isinstance(value, str):
        raise RowError("not-a-text", place, f"{name} should hold a text, and holds {value!r:.40}.")
    return sound(value.strip(), place)


def part_of(record: Mapping[str, Any], place: str) -> str | None:
    """The part that a row says it is of, where there is a column for that.

    Raises:
        RowError: it is none.
    """
    name = column(record, ("split", "part", "set"))
    given = "" if name is None or record[name] is None else str(record[name]).strip()
    if not given:
        return None
    part = part_called(given)
    if part is None:
        raise RowError("unknown-split", place, f"{given!r} is not a part. Write train, val or test.")
    return part
