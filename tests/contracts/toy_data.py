"""A data set that vitrail has never heard of: a text file whose lines hold a path and a brightness, 0 to 255."""

from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from vitrail.data.checks.faults import Fault
from vitrail.data.dataset import PictureFiles


def recognises(path: Path) -> bool:
    return path.suffix == ".toy"


def parts(path: Path) -> tuple[str, ...]:
    return "train", "val"


def open_part(path: Path, part: str | None, classes: tuple[str, ...] | None = None) -> PictureFiles:
    rows = [line.split() for line in path.read_text().splitlines()]
    rows = rows[::2] if part == "train" else rows[1::2]
    paths = [str(path.parent / name) for name, _ in rows]
    return PictureFiles(paths, [int(value) for _, value in rows], classes=(), task="brightness")


def check(path: Path) -> Iterator[Fault]:
    yield from ()


def write(folder: Path, count: int = 24) -> Path:
    """Grey pictures that get brighter, and the file that lists them."""
    values = [255 * index // (count - 1) for index in range(count)]
    for value in values:
        Image.new("RGB", (20, 18), (value, value, value)).save(folder / f"{value}.png")
    table = folder / "greys.toy"
    table.write_text("".join(f"{value}.png {value}\n" for value in values))
    return table
