"""Where data sets of marked objects stand: the folders that people have, whatever the format."""

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from vitrail.data.datasets.folder import PART_NAMES, parts_among
from vitrail.data.files import folders_in, hidden, is_picture_name

DEEPEST = 2  # folders that a data set may lie below the one that is named
FEW = 50  # folders in one folder that are looked into; more are taken for classes
PICTURE_FOLDERS = ("jpegimages", "images", "imgs", "img", "pictures", "photos", "frames")  # likeliest first
MASK_FOLDERS = ("masks", "mask", "trimaps", "segmentationclass", "segmentationobject", "labels")  # of no photographs
FEWEST = 2  # folders of pictures side by side that are classes


def part_of(name: str) -> str | None:
    """The part that a file or folder is named after: `val` for `instances_val2017`."""
    words = set(re.split(r"[^a-z]+", name.lower()))
    return next((part for part, names in PART_NAMES.items() if words & set(names)), None)


def few_folders_in(folder: Path) -> list[Path]:
    """The folders in a folder, if they are not so many that they must be classes; none where nobody may look."""
    folders = [*named_folders(folder).values()]
    return folders if len(folders) <= FEW else []


def names_in(folder: Path) -> list[str]:
    """What stands in a folder, by name; nothing of one that nobody may look into."""
    try:
        return os.listdir(folder)
    except OSError:
        return []


def named_folders(folder: Path) -> dict[str, Path]:
    """The folders in a folder by their names in small letters; nothing of one that nobody may look into."""
    try:
        return {one.name.lower(): one for one in folders_in(folder)}
    except OSError:
        return {}


def part_folders(folder: Path) -> dict[str, Path]:
    """The folders in a folder that are called as parts are, by part."""
    return parts_among(named_folders(folder))


def files_ending(folder: Path, *endings: str) -> list[Path]:
    """What is not hidden in a folder and has a name that ends so, sorted. Only names are looked at, for speed."""
    return [folder / name for name in sorted(names_in(folder)) if name.lower().endswith(endings) and not hidden(name)]


def has_pictures(folder: Path) -> bool:
    return any(map(is_picture_name, names_in(folder)))


def only_pictures(folder: Path) -> bool:
    """Whether nothing but pictures stands in a folder, as in most folders of classes: then nothing is marked there."""
    return all(is_picture_name(name) or hidden(name) for name in names_in(folder))


def likely_folders(folder: Path) -> list[Path]:
    """The folders in a folder that are called as those of pictures are, likeliest first."""
    named = named_folders(folder)
    return [named[name] for name in PICTURE_FOLDERS if name in named]


def upwards(folder: Path, top: Path) -> Iterator[Path]:
    """A folder and those around it, up to one of them; nothing where that is not around it."""
    yield from (around for around in (folder, *folder.parents) if around == top or top in around.parents)


def named_for_pictures(folder: Path) -> bool:
    """Whether a folder is called as a part is, or as pictures are: it is no class."""
    return folder.name.lower() in PICTURE_FOLDERS or part_of(folder.name) is not None


def class_folders(folder: Path) -> list[Path]:
    """The folders in a folder that are classes: several with pictures in them, none called as parts or pictures are."""
    found = [one for one in few_folders_in(folder) if not named_for_pictures(one) and has_pictures(one)]
    return found if len(found) >= FEWEST else []


def pictures_beside(annotations: Path, top: Path) -> Path:
    """The folder of the pictures that a folder of annotations is about: it, or one near it, up to `top`.

    Of several, one that is called so, or else the one that shares most names with the annotations; one of masks last.
    """
    if has_pictures(annotations):
        return annotations
    arounds = [*upwards(annotations.parent, top)]
    likely = [folder for around in arounds for folder in likely_folders(around) if folder != annotations]
    others = [folder for around in arounds for folder in few_folders_in(around) if folder != annotations]
    others.sort(key=lambda folder: folder.name.lower() in MASK_FOLDERS)
    inner = [place for folder in (*likely, *others) for place in (folder / annotations.name, folder)]
    found = [place for place in dict.fromkeys((*inner, *arounds)) if place.is_dir() and has_pictures(place)]
    stems = {os.path.splitext(name)[0] for name in names_in(annotations)}
    shared = {place: sum(os.path.splitext(name)[0] in stems for name in names_in(place)) for place in found}
    return max(found, key=shared.__getitem__, default=next(iter(likely), annotations.parent))


def homes_below(path: Path, stands_at: Callable[[Path], bool], depth: int = DEEPEST) -> list[Path]:
    """The folders in which a data set stands: the one that is named, or else those a little deeper.

    Args:
        path: the folder that is named.
        stands_at: whether one stands in a folder.
        depth: how many folders deeper it may lie.
    """
    if not os.access(path, os.R_OK | os.X_OK):
        return []
    if stands_at(path):
        return [path]
    classes = class_folders(path)
    inner = [folder for folder in few_folders_in(path) if folder not in classes and not only_pictures(folder)]
    return [home for folder in inner if depth for home in homes_below(folder, stands_at, depth - 1)]
