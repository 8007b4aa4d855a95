"""The idx files of MNIST and its relatives, gzipped or not.

A folder with `train-images-idx3-ubyte`, `train-labels-idx1-ubyte`, `t10k-images-idx3-ubyte` and
`t10k-labels-idx1-ubyte`, each perhaps with `.gz`; `t10k` is the test part. An idx file is two zero bytes, the type of
its values (8 = unsigned bytes), the number of its dimensions, each dimension as four bytes, the largest first, and
the values. Pictures are `count x rows x columns`, or, in any number of channels, `count x rows x columns x channels`.

Source: Y. LeCun, C. Cortes and C. Burges, "The MNIST database of handwritten digits".
"""

import gzip
import hashlib
import math
import re
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedIOBase
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from vitrail.data.dataset import Label, in_brief
from vitrail.data.files import shown
from vitrail.data.images import picture_of
from vitrail.data.strict import FileError
from vitrail.errors import DataError
from vitrail.samples import Sample

PART_PREFIXES = {"train": "train", "val": "val", "t10k": "test", "test": "test"}
FILE_NAME = re.compile(r"(train|val|t10k|test)[-_.](images|labels)[-_.]idx\d-ubyte(\.gz)?")
UNSIGNED_BYTES = 8
LARGEST, MOST = 1 << 32, 1 << 26  # bytes of values in one file, and items


class IdxError(FileError):
    """A file that is not idx, or not all of it."""


@dataclass(frozen=True)
class IdxPictures:
    """Pictures and labels that were read from idx files."""

    pictures: UInt8[np.ndarray, "pictures rows columns *channels"]
    targets: UInt8[np.ndarray, " pictures"]
    classes: tuple[str, ...]
    name: str  # of the file that the pictures came from
    multi_label: bool = False
    task: str = "classify"

    @property
    def channels(self) -> int:
        return 1 if self.pictures.ndim == 3 else self.pictures.shape[3]

    def __repr__(self) -> str:
        return in_brief(self)

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> Sample:
        return Sample(picture_of(self.pictures[index], f"{self.name}[{index}]"), int(self.targets[index]))

    def labels(self) -> list[Label]:
        return self.targets.tolist()

    def fingerprint(self, index: int) -> bytes:
        return hashlib.blake2b(self.pictures[index].tobytes(), digest_size=16).digest()


def find_files(path: Path) -> dict[str, dict[str, Path]]:
    """The files of a folder by part and kind: `{"train": {"images": ..., "labels": ...}, "test": ...}`."""
    found: dict[str, dict[str, Path]] = {part: {} for part in PART_PREFIXES.values()}
    for file in sorted(path.iterdir()):
        if match := FILE_NAME.fullmatch(file.name):
            found[PART_PREFIXES[match[1]]].setdefault(match[2], file)
    return {part: files for part, files in found.items() if files}


def recognises(path: Path) -> bool:
    return path.is_dir() and bool(find_files(path))


def parts(path: Path) -> tuple[str, ...]:
    return tuple(find_files(path))


def open_idx(path: Path) -> BufferedIOBase:
    return gzip.open(path) if path.suffix == ".gz" else open(path, "rb")


@contextmanager
def guarded(path: Path) -> Iterator[None]:
    """What the system and gzip say about a file, as our error."""
    try:
        yield
    except EOFError as error:
        raise IdxError("truncated", path, "ends inside its compressed data.") from error
    except (OSError, zlib.error) as error:
        raise IdxError("unreadable", path, f"cannot be read ({error}).") from error


def read_header(path: Path, file: BufferedIOBase) -> tuple[int, ...]:
    """The dimensions that a file promises."""
    magic = file.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or not 1 <= magic[3] <= 4:
        raise IdxError("wrong-magic", path, f"starts with {magic.hex(' ') or 'nothing'}, which is not an idx file.")
    if magic[2] != UNSIGNED_BYTES:
        raise IdxError("wrong-magic", path, f"holds values of type {magic[2]}; only unsigned bytes (type 8) are read.")
    sizes = file.read(4 * magic[3])
    if len(sizes) < 4 * magic[3]:
        raise IdxError("truncated", path, "ends inside its own header.")
    shape = struct.unpack(f">{magic[3]}I", sizes)
    promised = " x ".join(map(str, shape))
    if math.prod(shape) > LARGEST or shape[0] > MOST:
        raise IdxError("too-large", path, f"promises {promised} values; at most {LARGEST} are read, of {MOST} items.")
    if 0 in shape:
        raise IdxError("wrong-shape", path, f"promises {promised} values, and that is nothing.")
    return shape


def read_shape(path: Path) -> tuple[int, ...]:
    """The dimensions that a file promises, the number of its items first."""
    with guarded(path), open_idx(path) as file:
        return read_header(path, file)


def read_items(path: Path) -> Iterator[bytes]:
    """The items of an idx file, one after the other.

    Raises:
        IdxError: it is something else, or shorter or longer than it says.
    """
    with guarded(path), open_idx(path) as file:
        count, *shape = read_header(path, file)
        size = math.prod(shape)
        for number in range(count):
            item = file.read(size)
            if len(item) < size:
                raise IdxError("truncated", path, f"ends after {number} of the {count} items that it promises.")
            yield item
        if file.read(1):
            raise IdxError("trailing-bytes", path, f"goes on after the {count} items that it promises.")


def read_idx(path: Path) -> UInt8[np.ndarray, "..."]:
    """Read an idx file of unsigned bytes.

    Raises:
        IdxError: it is something else, or shorter or longer than it says.
    """
    return np.frombuffer(b"".join(read_items(path)), np.uint8).reshape(read_shape(path))


def open_part(path: Path, part: str | None, classes: tuple[str, ...] | None = None) -> IdxPictures:
    """Read one part into memory.

    Args:
        path: the folder.
        part: `train`, `val` or `test`.
        classes: their names; the digits up to the largest label unless given.

    Raises:
        DataError: a file is missing, damaged, or does not fit the other.
    """
    files = find_files(path)[part or "train"]
    for kind in ("images", "labels"):
        if kind not in files:
            raise DataError(f"{shown(path)} has no idx file with the {kind} of its {part} part.")
    pictures, targets = read_idx(files["images"]), read_idx(files["labels"])
    check_fit(files, pictures.shape, targets)
    largest = int(targets.max())
    if classes is None:
        classes = tuple(str(number) for number in range(largest + 1))
    if largest >= len(classes):
        raise IdxError("label-range", files["labels"], f"has a label {largest}, and there are {len(classes)} classes.")
    return IdxPictures(pictures, targets, classes, shown(files["images"]))


def check_fit(files: dict[str, Path], pictures: tuple[int, ...], targets: np.ndarray) -> None:
    """Complain unless these are pictures, and there is one label for each."""
    if len(pictures) not in (3, 4) or 0 in pictures:
        size = " x ".join(map(str, pictures))
        raise IdxError("wrong-shape", files["images"], f"is {size}; pictures are count x rows x columns (x channels).")
    if targets.shape != pictures[:1]:
        count = " x ".join(map(str, targets.shape))
        raise IdxError("count-mismatch", files["labels"], f"has {count} labels for {pictures[0]} pictures.")
