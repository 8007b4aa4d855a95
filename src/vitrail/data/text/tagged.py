"""Words with tags: one word a line with its tag behind it, an empty line between sentences (CoNLL).

Columns are separated by blanks or tabs; the first is the word and the last its tag, whatever stands between. Lines
that begin with `-DOCSTART-`, and remarks before a sentence (`# `), are left out. Files end in .conll, .bio, .iob, .iob2
or .ner, or in .txt or .tsv if they look like that; a folder may have one for each part.
"""

import re
from itertools import islice
from pathlib import Path

from vitrail.data.classes import class_numbers, class_order
from vitrail.data.datasets.manifest import RowError
from vitrail.data.files import shown
from vitrail.data.text.dataset import Tagged, Texts, some
from vitrail.data.text.reading import Complain, by_part, files_in, kind_of, refuse, text_lines
from vitrail.errors import DataError

KINDS = (".conll", ".bio", ".iob", ".iob2", ".ner")
PERHAPS = (".txt", ".tsv")
TAG = re.compile(r"O|[BIESLU]-\S+")
LOOKED_AT = 200  # lines
LEFT_OUT = ("-DOCSTART-", "# ")


def looks_tagged(path: Path) -> bool:
    """Whether the lines of a file are words with tags that say where a name begins and goes on."""
    try:
        lines = [line.split() for line in islice(text_lines(path), LOOKED_AT) if line.strip()]
    except DataError:
        return False
    lines = [line for line in lines if line[0] != LEFT_OUT[0]]
    return len(lines) > 1 and all(len(line) > 1 and TAG.fullmatch(line[-1]) for line in lines)


def tagged_files(path: Path) -> list[Path]:
    files = files_in(path) if path.is_dir() else [path] if path.is_file() else []
    return [file for file in files if kind_of(file) in KINDS or (kind_of(file) in PERHAPS and looks_tagged(file))]


def recognises(path: Path | str) -> bool:
    found = tagged_files(Path(path))
    return bool(found) and (Path(path).is_file() or "train" in by_part(found))


def parts(path: Path | str) -> tuple[str, ...]:
    return tuple(by_part(tagged_files(Path(path)))) if Path(path).is_dir() else ()


def sentences(path: Path, complain: Complain) -> list[tuple[str, list[str], list[str]]]:
    """The sentences of a file: where each begins, its words and its tags.

    A line with a word and no tag is complained of, and one that has not as many columns as the first.
    """
    found, words, tags, first, usual = [], [], [], 1, 0
    for number, line in enumerate([*text_lines(path, complain), ""], start=1):
        columns = line.split()
        if not columns or columns[0] == LEFT_OUT[0]:
            if words:
                found.append((f"{shown(path)}:{first}", words, tags))
            words, tags, first = [], [], number + 1
        elif words or not line.startswith(LEFT_OUT[1]) or TAG.fullmatch(columns[-1]):
            if len(columns) < 2:
                hint = f"{line.strip()[:40]!r} has no tag behind it. Write: word TAG."
                complain(RowError("missing-tag", f"{shown(path)}:{number}", hint))
                continue
            usual = usual or len(columns)
            if len(columns) != usual:
                hint = f"{len(columns)} columns where the first line has {usual}: {columns[-1]!r} is taken for the tag."
                complain(RowError("uneven-columns", f"{shown(path)}:{number}", hint))
            words.append(columns[0])
            tags.append(columns[-1])
    return found


def open_part(
    path: Path | str, part: str | None, classes: tuple[str, ...] | None = None, complain: Complain = refuse
) -> Texts:
    """Read one part, or a file that has no parts.

    Args:
        path: the file, or a folder of files named after their parts.
        part: `train`, `val` or `test`; `None` where there are none.
        classes: the tags to number by, when another part has already said them.
        complain: told what is wrong with single lines, instead of stopping at the first.

    Raises:
        DataError: no sentences, a word without a tag, or a tag that is not in `classes`.
    """
    path = Path(path)
    file = path if path.is_file() else by_part(tagged_files(path)).get(part or "")
    if file is None:
        raise DataError(f"{shown(path)} has no tagged sentences{f' for {part}' if part else ''}.")
    found = some(sentences(file, complain), shown(file), "tagged sentences")
    present = {tag for _, _, tags in found for tag in tags}
    if classes is None:
        classes = class_order(present)
    number = class_numbers(classes, sorted(present), file, called="tags")
    samples = [Tagged(name, tuple(words), tuple(number[tag] for tag in tags)) for name, words, tags in found]
    return Texts(samples, "tag", classes)
