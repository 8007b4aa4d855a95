"""Where data sets of marked objects stand: the folders that people have, whatever the format."""

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from vitrail.data.datasets.folder import PART_NAMES
from vitrail.data.files import folders_in, hidden, is_picture_name, shown
from vitrail.errors import DataError

DEEPEST = 2  # folders that a data set may lie below the one that is named
FEW = 50  # folders in one folder that are looked into; more are taken for classes
PICTURE_FOLDERS = ("jpegimages", "images", "imgs", "img", "pictures")  # tried in this order, however they are written


def part_of(name: str) -> str | None:
    """The part that a file or folder is named after: `val` for `instances_val2017`."""
    words = set(re.split(r"[^a-z]+", name.lower()))
    return next((part for part, names in PART_NAMES.items() if words & set(names)), None)


def few_folders_in(folder: Path) -> list[Path]:
    """The folders in a folder, if they are not so many that they must be classes."""
    folders = folders_in(folder)
    return folders if len(folders) <= FEW else []


def named_folders(folder: Path) -> dict[str, Path]:
    """The folders in a folder by their names in small letters; nothing of one that nobody may look into."""
    try:
        return {one.name.lower(): one for one in folders_in(folder)}
    except OSError:
        return {}


def part_folders(folder: Path) -> dict[str, Path]:
    """The folders in a folder that are called as parts are, by part."""
    named = named_folders(folder)
    return {part: named[name] for part, names in PART_NAMES.items() for name in names if name in named}


def files_ending(folder: Path, *endings: str) -> list[Path]:
    """What is not hidden in a folder and has a name that ends so, sorted. Only names are looked at, for speed."""
    return [folder / name for name in sorted(os.listdir(folder)) if name.lower().endswith(endings) and not hidden(name)]


def has_pictures(folder: Path) -> bool:
    return any(map(is_picture_name, os.listdir(folder)))


def only_pictures(folder: Path) -> bool:
    """Whether nothing but pictures stands in a folder, as in most folders of classes: then nothing is marked there."""
    return all(is_picture_name(name) or hidden(name) for name in os.listdir(folder))


def likely_folders(folder: Path) -> list[Path]:
    """The folders in a folder that are called as those of pictures are, likeliest first."""
    named = named_folders(folder)
    return [named[name] for name in PICTURE_FOLDERS if name in named]


def upwards(folder: Path, top: Path) -> Iterator[Path]:
    """A folder and those around it, up to one of them; nothing where that is not around it."""
    yield from (around for around in (folder, *folder.parents) if around == top or top in around.parents)


def pictures_beside(annotations: Path, top: Path) -> Path:
    """The folder of the pictures that a folder of annotations is about: it, or the nearest with some up to `top`."""
    if has_pictures(annotations):
        return annotations
    for around in upwards(annotations.parent, top):
        likely = [folder for folder in likely_folders(around) if folder != annotations]
        others = [folder for folder in folders_in(around) if folder != annotations and folder not in likely]
        for folder in (*likely, *others):
            for place in (folder / annotations.name, folder):
                if place.is_dir() and has_pictures(place):
                    return place
        if likely:
            return likely[0]
    return annotations.parent


def homes(path: Path, stands_at: Callable[[Path], bool], depth: int = DEEPEST) -> list[Path]:
    """The folders in which a data set stands: the one that is named, or else those a little deeper.

    Args:
        path: the folder that is named.
        stands_at: whether one stands in a folder.
        depth: how many folders deeper it may lie.
    """
    try:
        if stands_at(path):
            return [path]
        inner = [folder for folder in few_folders_in(path) if not only_pictures(folder)] if depth else []
        return [home for folder in inner for home in homes(folder, stands_at, depth - 1)]
    except OSError:  # a folder that nobody may look into
        return []


def only_home(path: Path, found: list[Path]) -> Path | None:
    """The folder in which the data set stands, if there is one.

    Raises:
        DataError: there are several.
    """
    if len(found) > 1:
        names = ", ".join(shown(home.relative_to(path)) for home in found)
        raise DataError(f"{shown(path)} holds {names}. Name one of them.")
    return found[0] if found else None
