"""A folder of folders: one for each class, named as the class, with its pictures inside.

The layout of torchvision's ImageFolder, and its order: classes sorted by name, then files. Around it there may be
parts: `train/`, `val/` (or `valid/`, `validation/`) and `test/`. Hidden files, and files whose names are not those of
pictures, are left out; `vitrail check` lists them.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from vitrail.data.classes import class_numbers, listing
from vitrail.data.dataset import PictureFiles
from vitrail.data.files import folders_in, is_picture_name, pictures_below, shown
from vitrail.errors import DataError, many

PART_NAMES = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}


Place = TypeVar("Place")


def parts_among(found: Mapping[str, Place]) -> dict[str, Place]:
    """What stands for each part, by our name for it; of several names for one part the first that there is."""
    names = {part: next((name for name in names if name in found), None) for part, names in PART_NAMES.items()}
    return {part: found[name] for part, name in names.items() if name is not None}


def recognises(path: Path) -> bool:
    return path.is_dir()


def find_parts(path: Path) -> dict[str, Path]:
    """Where the parts of a data set stand, by the names that we have for them.

    Only a folder with folders in it is a part: `train` beside `car` and `bus` is a class.
    """
    folders = {folder.name.lower(): folder for folder in folders_in(path) if folders_in(folder)}
    return parts_among(folders)


def parts(path: Path) -> tuple[str, ...]:
    return tuple(find_parts(path))


def open_part(path: Path, part: str | None, classes: tuple[str, ...] | None = None) -> PictureFiles:
    """Read one part, or a folder that has no parts.

    Args:
        path: the folder.
        part: `train`, `val` or `test`; `None` where there are none.
        classes: the classes to number by, when another part has already said them; some of them may be missing here.

    Raises:
        DataError: no classes, a class without a picture, or one that is not in `classes`.
    """
    root = find_parts(path)[part] if part else path
    folders = {folder.name: folder for folder in folders_in(root)}
    if not folders:
        raise DataError(without_classes(root))
    unprintable = next((name for name in folders if shown(name) != name), None)
    if unprintable is not None:
        raise DataError(f"The folder {shown(folders[unprintable])} has a name that is not UTF-8. Rename it.")
    files = {name: [str(path) for path in pictures_below(folder)] for name, folder in folders.items()}
    files = {name: found for name, found in files.items() if found or classes is None}
    empty = [name for name, found in files.items() if not found]
    if len(empty) == len(files):
        raise DataError(without_classes(root))
    if empty:
        raise DataError(
            f"{shown(root)} has no picture in {len(empty)} of its {len(files)} classes: {listing(empty)}. "
            "Remove these folders, or put pictures in."
        )
    return numbered(root, files, tuple(files) if classes is None else classes)


def numbered(root: Path, files: dict[str, list[str]], classes: tuple[str, ...]) -> PictureFiles:
    """Give each file the number of its class."""
    number = class_numbers(classes, files, root)
    paths = [path for found in files.values() for path in found]
    targets = [number[name] for name, found in files.items() for _ in found]
    return PictureFiles(paths, targets, classes)


def without_classes(root: Path) -> str:
    """The sentence for a folder that has no folders with pictures."""
    loose = sum(is_picture_name(entry.name) for entry in root.iterdir())
    found = f"{many(loose, 'picture')} and" if loose else "no pictures and"
    return (
        f"{shown(root)} holds {found} no folder with pictures, and nothing that says what they show. A data set has "
        f"one folder for each class with its pictures inside ({root.name}/daisy/1.jpg), or is a .csv or .jsonl file "
        f"with the columns path and label, or has marked objects beside its pictures, as COCO (.json), Pascal VOC "
        f"(.xml) or YOLO (.txt) write them."
    )
