"""Faults of a folder of class folders."""

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from vitrail.data.checks.faults import Fault, fault
from vitrail.data.checks.pictures import Entry, clashes, class_faults, picture_faults
from vitrail.data.datasets.folder import find_parts, without_classes
from vitrail.data.files import folders_in, hidden, is_picture_name, pictures_below, shown
from vitrail.errors import many


def check(path: Path) -> Iterator[Fault]:
    """All faults of a folder, with parts or without."""
    parts = find_parts(path)
    roots: dict[str | None, Path] = {**parts} or {None: path}
    if parts:
        yield from faults_beside(path, parts)
    counts: dict[str | None, Counter[str]] = {}
    for part, root in roots.items():
        classes = {folder.name: sum(1 for _ in pictures_below(folder)) for folder in folders_in(root)}
        counts[part] = Counter(classes)
        yield from layout_faults(root, classes)
        for folder in folders_in(root):
            yield from file_faults(folder, path)
    yield from class_faults(path, counts)
    yield from picture_faults(list_entries(roots))


def list_entries(roots: dict[str | None, Path]) -> Iterator[Entry]:
    """All pictures, class by class, part by part."""
    for part, root in roots.items():
        for folder in folders_in(root):
            yield from (Entry(picture, part, (folder.name,)) for picture in pictures_below(folder))


def faults_beside(path: Path, parts: dict[str, Path]) -> Iterator[Fault]:
    """What stands beside the folders of the parts, where nobody looks."""
    read = ", ".join(folder.name for folder in parts.values())
    for folder in folders_in(path):
        if folder not in parts.values() and (count := sum(1 for _ in pictures_below(folder))):
            reason = f"{many(count, 'picture')} beside {read}, and not read. Move them there, or out of the data set."
            yield fault("beside-parts", folder, reason)
    for picture in loose_pictures(path):
        yield fault("loose-picture", picture, f"Beside {read}, and not read. Move it to its class there.")


def loose_pictures(root: Path) -> list[Path]:
    """Pictures that stand where only folders are read."""
    return sorted(file for file in root.iterdir() if file.is_file() and is_picture_name(file.name))


def layout_faults(root: Path, classes: dict[str, int]) -> Iterator[Fault]:
    """What is odd about the folders, and beside them.

    Args:
        classes: how many pictures each has.
    """
    if not classes:
        yield fault("no-data", root, without_classes(root))
    elif not any(classes.values()):
        yield fault("no-pictures", root, f"None of its {len(classes)} folders has a picture.")
    for name, count in classes.items():
        if not count and any(classes.values()):
            yield fault("empty-class", root / name, "No picture is in this folder. Put some in, or remove it.")
        if shown(name) != name:
            yield fault("class-name", root / name, "The name of this folder is not UTF-8. Rename it.")
        if name != name.strip():
            yield fault("space-in-name", root / name, f"The class is called {name!r}. Rename the folder.")
    for name, twin in clashes(classes):
        yield fault("class-case-clash", root / name, f"There is also {twin}, another class. Rename or join them.")
    for name in sorted(filter(hidden, os.listdir(root))):
        yield fault("hidden-file", root / name, "Hidden, and not read. Remove it.")
    for picture in loose_pictures(root) if classes else ():
        yield fault("loose-picture", picture, "Beside the class folders, and not read. Move it into one.")


def file_faults(folder: Path, root: Path) -> Iterator[Fault]:
    """What is odd about the names in a class folder, and below it.

    Args:
        root: of the whole data set, out of which no link should lead.
    """
    inside = os.path.realpath(root)
    for place, folders, files in os.walk(folder):
        for name in sorted(folders + files):
            path = Path(place, name)
            if path.is_symlink() and os.path.commonpath([inside, os.path.realpath(path)]) != inside:
                target = shown(os.path.realpath(path))
                yield fault("outside-root", path, f"A link to {target}, outside the data set. Copy it in.")
            if hidden(name):
                yield fault("hidden-file", path, "Hidden, and not read. Remove it.")
            elif name in folders:
                yield fault("nested-folder", path, f"Its pictures are read as {folder.name}. Move it if it is a class.")
            elif not is_picture_name(name):
                yield fault("not-a-picture", path, "Not named as a picture, and not read. Remove or rename it.")
        folders[:] = [name for name in folders if not hidden(name)]
        for name, twin in clashes(files):
            yield fault("file-case-clash", Path(place, name), f"There is also {twin}; on many systems one hides it.")
