"""Sentences and their translations.

A folder with a file for each part and language, one sentence a line, gzipped or not (`train.de.gz`, `train.en.gz`,
`val.de`, ...); or a table (.csv, .tsv, .jsonl) with a column for each language. `folder:en-de` says which way to
translate, which has to be said where there are more than two languages.
"""

import re
from itertools import combinations
from pathlib import Path
from typing import Any

from vitrail.data.classes import listing
from vitrail.data.datasets.manifest import COLUMNS, RowError, without_part
from vitrail.data.files import shown
from vitrail.data.text.dataset import Pair, Texts, some
from vitrail.data.text.reading import (
    PARTS,
    Complain,
    by_part,
    column,
    files_in,
    header_of,
    ignore,
    kind_of,
    part_called,
    part_of,
    refuse,
    stem_of,
    table_rows,
    text_in,
    text_lines,
)
from vitrail.errors import DataError, many, unknown

LANGUAGE = re.compile(r"[a-z]{2,3}(_[a-z]{2,4})?")
WAY = re.compile(r"(.+):([a-zA-Z_]{2,8})-([a-zA-Z_]{2,8})")
TABLES = (".csv", ".tsv", ".jsonl", ".ndjson")
NAMED = (("source", "target"), ("src", "tgt"), ("src", "trg"))


def spelling(path: Path | str) -> tuple[Path, tuple[str, str] | None]:
    """A path and the way to translate, where `path:de-en` says it."""
    found = WAY.fullmatch(str(path))
    if found and not Path(path).exists():
        return Path(found[1]), (found[2].lower(), found[3].lower())
    return Path(path), None


def by_language(folder: Path) -> dict[str, dict[str, Path]]:
    """The files of a folder by part and language, also where a part has only one."""
    found: dict[str, dict[str, Path]] = {}
    for path in sorted(files_in(folder), key=lambda path: (len(path.name), path.name)):
        language, part = kind_of(path).removeprefix("."), part_called(stem_of(path))
        if part is not None and LANGUAGE.fullmatch(language) and f".{language}" not in (*TABLES, ".txt", ".md"):
            found.setdefault(part, {}).setdefault(language, path)
    return found


def language_files(folder: Path) -> dict[str, dict[str, Path]]:
    """The files of a folder by part and language: `{"train": {"de": ..., "en": ...}, ...}`."""
    found = by_language(folder)
    return {part: found[part] for part in PARTS if len(found.get(part, {})) > 1}


def table_languages(path: Path) -> list[str]:
    """The columns of a table that hold sentences and their translations."""
    names = header_of(path)
    if column(names, COLUMNS["path"]):  # of pictures
        return []
    for pair in NAMED:
        if all(column(names, [name]) for name in pair):
            return list(pair)
    return [name.lower() for name in names if LANGUAGE.fullmatch(name.lower()) and name.lower() != "id"]


def tables_in(path: Path) -> dict[str | None, Path]:
    """The tables of pairs at a path, by the part that their name stands for."""
    if path.is_file():
        return {None: path} if kind_of(path) in TABLES and len(table_languages(path)) > 1 else {}
    named = by_part(file for file in files_in(path) if kind_of(file) in TABLES)
    return {part: file for part, file in named.items() if len(table_languages(file)) > 1}


def recognises(path: Path | str) -> bool:
    place, _ = spelling(path)
    if place.is_dir():
        return bool(language_files(place)) or "train" in tables_in(place)
    return bool(tables_in(place))


def parts(path: Path | str) -> tuple[str, ...]:
    place, way = spelling(path)
    if place.is_dir():
        return tuple(language_files(place)) or tuple(part for part in PARTS if part in tables_in(place))
    way = way or direction(place, table_languages(place), None)[0]
    present = {part for _, part in read_table(place, way, ignore)}
    return tuple(part for part in PARTS if part in present)


def direction(
    place: Path, languages: list[str], way: tuple[str, str] | None, known: tuple[str, ...] | None = None
) -> tuple[tuple[str, str], tuple[str, ...]]:
    """Which language is read and which is written, and what is to be said about that.

    Args:
        place: where they stand.
        languages: which there are.
        way: as a person has typed it.
        known: as another part, or a model, has it; where the languages are called otherwise it says nothing.

    Raises:
        RowError: it cannot be told, there is no such language, or it is the other way than the known one.
    """
    if way is not None and known is not None and way == known[::-1]:
        right = "-".join(known)
        words = f"it is to be read from {way[0]} to {way[1]}, and {right} is wanted. Type {shown(place)}:{right}."
        raise RowError("which-way", shown(place), words)
    if way is None and known is not None and len(known) == 2 and set(known) <= set(languages):
        way = (known[0], known[1])
    if way is not None:
        absent = next((language for language in way if language not in languages), None)
        if absent is not None:
            raise RowError("which-way", shown(place), unknown("language", absent, languages))
        return way, ()
    if len(languages) == 2:
        one, other = languages
        if (one, other) in NAMED:
            return (one, other), ()
        note = f"{shown(place)} is read from {one} to {other}; {place.name}:{other}-{one} is the other way."
        return (one, other), (note,)
    ways = [f"{place.name}:{one}-{other}" for one, other in combinations(languages, 2)]
    words = f"it has {len(languages)} languages: {listing(languages)}. Say which way: {ways[0]}."
    raise RowError("which-way", shown(place), words)


def read_row(place: str, record: dict[str, Any], way: tuple[str, str]) -> tuple[Pair, str | None]:
    """The pair in a row, and the part that it names.

    Raises:
        RowError: a column is missing, or holds something else.
    """
    texts = []
    for language in way:
        name = column(record, [language])
        if name is None:
            words = f"there is no column called {language}, only {listing(list(record))}."
            raise RowError("missing-column", place, words)
        texts.append(text_in(record, name, place))
    return Pair(place, *texts), part_of(record, place)


def read_table(path: Path, way: tuple[str, str], complain: Complain) -> list[tuple[Pair, str | None]]:
    """The pairs of a table, each with the part that its row names."""
    found = []
    for place, record in table_rows(path, complain):
        try:
            found.append(read_row(place, record, way))
        except RowError as error:
            complain(error)
    for error in without_part([(pair.name, part) for pair, part in found]):
        complain(error)
    return found


def read_files(source: Path, target: Path, complain: Complain) -> list[Pair]:
    """The pairs of two files that have the same number of lines.

    Raises:
        RowError: they have not.
    """
    first, second = list(text_lines(source, complain)), list(text_lines(target, complain))
    if len(first) != len(second):
        raise RowError(
            "count-mismatch",
            shown(source),
            f"it has {many(len(first), 'line')} and {shown(target)} {len(second)}: they are no pairs. Line 1 of one "
            "file must be the translation of line 1 of the other, and so on.",
        )
    return [
        Pair(f"{shown(source)}:{number}", one.strip(), other.strip())
        for number, (one, other) in enumerate(zip(first, second, strict=True), start=1)
    ]


def open_part(
    path: Path | str, part: str | None, classes: tuple[str, ...] | None = None, complain: Complain = refuse
) -> Texts:
    """Read one part, or a table that has no parts.

    Args:
        path: see above.
        part: `train`, `val` or `test`; `None` where there are none.
        classes: the two languages, the one that is read first, when another part has already said them.
        complain: told what is wrong with single lines and pairs, instead of stopping at the first.

    Raises:
        DataError: no pairs, files of different lengths, languages that cannot be told, or the other way round.
    """
    place, way = spelling(path)
    all_files = language_files(place) if place.is_dir() else {}
    if all_files:
        files = all_files.get(part or "", {})
        chosen, notes = direction(place, sorted(files), way, classes)
        pairs = read_files(files[chosen[0]], files[chosen[1]], complain)
    else:
        tables = tables_in(place)
        table = tables.get(part) or tables.get(None)
        if table is None:
            raise DataError(f"{shown(place)} has no sentence pairs{f' for {part}' if part else ''}.")
        chosen, notes = direction(place, table_languages(table), way, classes)
        whole = part is None or tables.get(part) is not None
        pairs = [pair for pair, said in read_table(table, chosen, complain) if whole or said == part]
    kept = [pair for pair in pairs if pair.source and pair.target]
    for pair in pairs:
        if not (pair.source and pair.target):
            both = "Both sides are" if not (pair.source or pair.target) else "One side is"
            complain(RowError("empty-side", pair.name, f"{both} empty, and the pair is left out."))
    if len(kept) < len(pairs):
        left_out = len(pairs) - len(kept)
        notes = (
            *notes,
            f"{shown(place)}: {many(left_out, 'pair')} with an empty side {'is' if left_out == 1 else 'are'} left out.",
        )
    return Texts(some(kept, shown(place), "sentence pairs"), "translate", chosen, notes=notes)
