"""Finding picture files and telling whether two of them have the same content."""

import difflib
import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import chain, count
from pathlib import Path

from vitrail.data.decoding import open_file

SUFFIXES = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "PNG": (".png", ".apng"),
    "WEBP": (".webp",),
    "BMP": (".bmp", ".dib"),
    "GIF": (".gif",),
    "TIFF": (".tif", ".tiff"),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
}
PICTURE_SUFFIXES = frozenset(suffix for suffixes in SUFFIXES.values() for suffix in suffixes)
SYSTEM_NAMES = frozenset({"__MACOSX", "Thumbs.db", "desktop.ini"})
MOST_DIGITS = 15  # of a number that every reader of JSON keeps exactly
MOST_COMPARED = 1000  # names of a folder with one that is not there
HEAD = 1 << 16  # bytes that a fingerprint reads: two pictures agree in these, and in length, only by being copies


def shown(path: Path | str) -> str:
    """A path that can be printed anywhere, even where its name is not valid text."""
    try:
        content = os.fsencode(path)
    except UnicodeEncodeError:  # half a character, out of a file: no path has that
        content = str(path).encode("utf-8", "backslashreplace")
    return content.decode("utf-8", "backslashreplace")


def nowhere(path: Path) -> str:
    """Where a path that leads nowhere goes wrong, and what was probably meant."""
    path = Path(os.path.abspath(path))  # without the .. that may stand in it
    folder = next(above for above in path.parents if above.is_dir())
    missing = path.relative_to(folder).parts[0]
    if (folder / missing).is_symlink():
        return f"{shown(folder / missing)} is a link that leads nowhere, to {shown(os.readlink(folder / missing))}."
    if (folder / missing).exists():
        return f"{shown(folder / missing)} is a file and not a folder."
    with suppress(OSError):  # one that may not be listed
        names = {name.lower(): shown(name) for name in sorted(os.listdir(folder))[:MOST_COMPARED]}
        close = [names[name] for name in difflib.get_close_matches(missing.lower(), names, n=2)]
        meant = f" Did you mean {' or '.join(close)}?" if close else ""
        return f"{shown(folder)} holds no {shown(missing)}.{meant}"
    return f"{shown(folder)} may not be listed."


def hidden(name: str) -> bool:
    """Whether a name is one that people do not put there themselves (`.DS_Store`, `Thumbs.db` ...)."""
    return name.startswith(".") or name in SYSTEM_NAMES


def is_picture_name(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in PICTURE_SUFFIXES


def number_of(name: Path | str) -> int | str:
    """What to call a picture where nobody says: the number that its file is named by, as in COCO, or else its name."""
    stem = os.path.splitext(os.path.basename(name))[0]
    return int(stem) if stem.isdecimal() and stem.isascii() and len(stem) <= MOST_DIGITS else os.path.basename(name)


def numbers_of(names: Iterable[str]) -> list[int | str]:
    """What to call pictures, all differently: of two alike (`a/1.jpg`, `b/1.jpg`), the second by its whole path.

    One that is listed again is counted (`b/1.jpg (2)`).
    """
    taken = set[int | str]()
    return [own_number(name, taken) for name in names]


def own_number(name: str, taken: set[int | str]) -> int | str:
    """What to call one more picture, as `numbers_of` does, where some names are taken; then this one is too."""
    options = chain((number_of(name), name), (f"{name} ({again})" for again in count(2)))
    number = next(one for one in options if one not in taken)
    taken.add(number)
    return number


def folders_in(folder: Path) -> list[Path]:
    """The folders in a folder that are not hidden, sorted by name."""
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries if entry.is_dir() and not hidden(entry.name))
    return [Path(folder, name) for name in names]


def pictures_below(folder: Path) -> Iterator[Path]:
    """All files in and below a folder whose names say that they are pictures, sorted; hidden ones are left out."""
    seen = set()  # folders met so far: a link may lead back to one
    for place, folders, files in os.walk(folder, followlinks=True):
        status = os.stat(place)
        if (status.st_dev, status.st_ino) in seen:
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders[:] = sorted(name for name in folders if not hidden(name))
        yield from (Path(place, name) for name in sorted(files) if is_picture_name(name) and not hidden(name))


def fingerprint(path: Path | str) -> bytes:
    """Sixteen bytes from a file's length and beginning: the same for copies, cheap for large files.

    Raises:
        ImageError: it is missing, or no file.
    """
    with open_file(Path(path)) as file:
        length = os.fstat(file.fileno()).st_size
        return hashlib.blake2b(length.to_bytes(8, "big") + file.read(HEAD), digest_size=16).digest()


def digest(path: Path) -> bytes:
    """Sixteen bytes from all of a file's content."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).digest()
