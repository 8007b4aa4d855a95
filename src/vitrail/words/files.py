"""Files of word vectors: word2vec's, text and binary, and GloVe's; gzipped or not. Nothing in them is run.

word2vec begins with a line that says how many words there are and how wide they are. Then comes a line for each word
(text), or the word, a blank and its numbers as 32-bit floats, the smallest byte first (binary). GloVe is the text
without the first line; some of its words hold blanks.
"""

import codecs
import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedIOBase
from pathlib import Path

import numpy as np
from jaxtyping import Float

from vitrail.errors import ConfigError, DataError
from vitrail.words.vectors import WordVectors

WIDEST = 1 << 14  # numbers in one vector
MOST = 1 << 24  # words
LONGEST_WORD = 1 << 12  # bytes
LONGEST_LINE = LONGEST_WORD + 32 * WIDEST  # bytes
SNIFFED = 1 << 12  # bytes of the first vector that tell text from binary


@contextmanager
def opened(path: Path) -> Iterator[BufferedIOBase]:
    """A file to read, unpacked where its name ends in `.gz`.

    Raises:
        DataError: it cannot be read.
    """
    try:
        with open(path, "rb") as raw:
            if path.name.lower().endswith(".gz"):
                with gzip.open(raw) as file:
                    yield file
            else:
                yield raw
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"{path} is a damaged gzip file ({error}). Fetch it anew.") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}).") from error


def line_of(file: BufferedIOBase, path: Path) -> bytes:
    """The next line.

    Raises:
        DataError: it has no end.
    """
    line = file.readline(LONGEST_LINE + 1)
    if len(line) > LONGEST_LINE:
        raise DataError(f"{path} has a line of more than {LONGEST_LINE:,} bytes: it holds no word vectors.")
    return line


def header_in(line: bytes) -> tuple[int, int] | None:
    """How many words there are and how wide they are, where a line says that."""
    fields = line.split()
    if len(fields) != 2 or not all(field.isdigit() and len(field) < 12 for field in fields):
        return None
    return int(fields[0]), int(fields[1])


def numbers_in(fields: list[bytes], place: str) -> list[float]:
    """The numbers of one vector.

    Raises:
        DataError: one of them is none.
    """
    try:
        return [float(field) for field in fields]
    except ValueError as error:
        raise DataError(f"{place}: {error}. Expected a word and its numbers, separated by blanks.") from error


def spelled(word: bytes) -> str:
    return word.decode("utf-8", "replace")


def is_text(head: bytes) -> bool:
    """Whether what follows the first line of word2vec's format is text."""
    fields = head.split(b"\n")[0].split()[1:4]
    try:
        return bool(fields) and all(float(field) is not None for field in fields)
    except ValueError:
        return False


def text_rows(
    file: BufferedIOBase, path: Path, dim: int | None, first: bytes = b""
) -> Iterator[tuple[str, list[float]]]:
    """The words and vectors of a text file, the first line having been read already where it is one of them."""
    number, line = (1, first) if first else (2, line_of(file, path))
    while line:
        fields = line.rstrip().replace(b"\t", b" ").split(b" ")
        if line.strip():
            dim = dim or len(fields) - 1
            place = f"{path}:{number}"
            if len(fields) < dim + 1 or not 0 < dim <= WIDEST:
                wanted = f"{dim} were" if dim else "a word and its numbers, separated by blanks, were"
                raise DataError(f"{place}: {len(fields) - 1} numbers where {wanted} expected.")
            yield spelled(b" ".join(fields[:-dim])), numbers_in(fields[-dim:], place)
        number, line = number + 1, line_of(file, path)


def binary_rows(file: BufferedIOBase, path: Path, count: int, dim: int) -> Iterator[tuple[str, np.ndarray]]:
    """The words and vectors of a binary file."""
    for number in range(count):
        word = bytearray()
        while (byte := file.read(1)) != b" ":
            if not byte or len(word) > LONGEST_WORD:
                raise DataError(f"{path} ends, or loses its way, at word {number + 1:,} of {count:,}. Fetch it anew.")
            if byte != b"\n":
                word += byte
        content = file.read(4 * dim)
        if len(content) < 4 * dim:
            raise DataError(f"{path} ends within the vector of word {number + 1:,} of {count:,}. Fetch it anew.")
        yield spelled(bytes(word)), np.frombuffer(content, dtype="<f4")


def read_vectors(path: Path | str, most: int | None = None) -> WordVectors:
    """Read word vectors; what kind of file it is, is seen from how it begins.

    Args:
        path: word2vec's text or binary format, or GloVe's; perhaps gzipped.
        most: read no more than so many words; the most frequent ones come first.

    Raises:
        DataError: it cannot be read, is cut off, or holds something else.
    """
    path = Path(path)
    known: dict[str, np.ndarray] = {}
    seen, promised = 0, 0
    with opened(path) as file:
        line = line_of(file, path)
        first = line.removeprefix(codecs.BOM_UTF8)
        header = header_in(first)
        if header is None:
            found = text_rows(file, path, None, first)
        else:
            promised, dim = header
            if not 0 < dim <= WIDEST or not 0 < promised <= MOST:
                raise DataError(f"{path} promises {promised:,} words of {dim:,} numbers, which is not read.")
            text = is_text(file.read(SNIFFED))
            file.seek(len(line))
            found = text_rows(file, path, dim) if text else binary_rows(file, path, promised, dim)
        for word, vector in found:
            seen += 1
            with np.errstate(over="ignore"):  # what is too large becomes infinite, and is refused as such
                known.setdefault(word, np.asarray(vector, dtype=np.float32))
            if len(known) >= (most or MOST):
                break
        else:
            if seen < promised:
                raise DataError(f"{path} promises {promised:,} words and holds {seen:,}. Fetch it anew.")
    if not known:
        raise DataError(f"{path} holds no word vectors.")
    return WordVectors(tuple(known), stacked(list(known.values()), path))


def stacked(rows: list[np.ndarray], path: Path) -> Float[np.ndarray, "words dim"]:
    """The vectors as one table.

    Raises:
        DataError: they are not all of one width.
    """
    widths = {len(row) for row in rows}
    if len(widths) > 1:
        raise DataError(f"{path} has vectors of {sorted(widths)[:4]} numbers. All must have the same.")
    return np.stack(rows)


def write_vectors(vectors: WordVectors, path: Path | str) -> None:
    """Write word vectors in word2vec's text format, from which they come back to the last bit.

    Raises:
        ConfigError: a word holds a blank, which the format has no place for.
    """
    blank = next((word for word in vectors.words if not word or word.split() != [word]), None)
    if blank is not None:
        raise ConfigError(f"The word {blank!r} holds a blank or nothing, and word2vec's format separates by blanks.")
    with open(path, "w", encoding="utf-8") as file:
        file.write(f"{len(vectors)} {vectors.dim}\n")
        for word, row in zip(vectors.words, vectors.vectors.astype(np.float32), strict=True):
            file.write(f"{word} {' '.join(map(str, row))}\n")
