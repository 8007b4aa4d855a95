"""Running text: a .txt file, or a folder of them, gzipped or not.

A folder may have files named after parts (`train.txt`, `val.txt`); otherwise each file is a document. Documents are
read in passages of whole lines, cut where a line is empty if one is near, so that some can be set aside.
"""

from collections.abc import Iterator
from pathlib import Path

from vitrail.data.datasets.manifest import RowError
from vitrail.data.files import folders_in, shown
from vitrail.data.text.dataset import Passage, Texts, some
from vitrail.data.text.reading import Complain, by_part, files_in, kind_of, refuse, text_lines
from vitrail.errors import DataError

PASSAGE = 4096  # characters after which the next empty line, or at most twice as many, ends a passage
KINDS = (".txt", ".text")
LEGAL = frozenset({"readme", "license", "licence"})


def documents(path: Path) -> list[Path]:
    """The text files at a path, without what is about them."""
    if path.is_file():
        return [path] if kind_of(path) in KINDS else []
    return [file for file in files_in(path) if kind_of(file) in KINDS and file.stem.lower() not in LEGAL]


def recognises(path: Path | str) -> bool:
    """Whether there is running text, and no folders beside it, which would be classes of pictures with notes."""
    place = Path(path)
    if not place.exists() or (place.is_dir() and folders_in(place)):
        return False
    return bool(documents(place))


def part_files(path: Path) -> dict[str, Path]:
    named = by_part(documents(path)) if path.is_dir() else {}
    return named if "train" in named else {}


def parts(path: Path | str) -> tuple[str, ...]:
    return tuple(part_files(Path(path)))


def passages(path: Path, document: int, complain: Complain) -> Iterator[Passage]:
    """A document in passages."""
    lines: list[str] = []
    length, first, place = 0, 1, 0
    for number, line in enumerate(text_lines(path, complain), start=1):
        lines.append(f"{line}\n")
        length += len(line) + 1
        if length >= 2 * PASSAGE or (length >= PASSAGE and not line.strip()):
            yield Passage(f"{shown(path)}:{first}", "".join(lines), document, place)
            lines, length, first, place = [], 0, number + 1, place + 1
    if "".join(lines).strip():
        yield Passage(f"{shown(path)}:{first}", "".join(lines), document, place)


def open_part(
    path: Path | str, part: str | None, classes: tuple[str, ...] | None = None, complain: Complain = refuse
) -> Texts:
    """Read one part, or all documents where there are no parts.

    Args:
        path: the file or folder.
        part: `train`, `val` or `test`; `None` where there are none.
        classes: nothing is told apart here.
        complain: told what is wrong with single lines, instead of stopping at the first.

    Raises:
        DataError: there is no such part, or no text.
    """
    path = Path(path)
    named = part_files(path)
    if part is not None and part not in named:
        raise DataError(f"{shown(path)} has no text for {part}.")
    files = documents(path) if part is None else [named[part]]
    found = [passage for number, file in enumerate(files) for passage in passages(file, number, complain)]
    for number in sorted(set(range(len(files))) - {passage.document for passage in found}) if found else ():
        complain(RowError("empty-document", shown(files[number]), "There is no text in it."))
    return Texts(some(found, shown(path), "lines of text"), "language")
