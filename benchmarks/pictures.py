"""JPEG files of the size that cameras and data sets have, from the generated world."""

from pathlib import Path

from vitrail.data.open import open_dataset

DRAWN = 32  # different pictures; the rest are links to them
SIZE = "375x500"  # rows and columns, as most of ImageNet


def write_pictures(folder: Path, count: int) -> Path:
    """Make a folder of class folders with so many pictures; returns it."""
    scenes = open_dataset(f"scenes:{DRAWN},size={SIZE}", "train")
    for index in range(min(count, DRAWN)):
        sample = scenes[index]
        file = folder / scenes.classes[sample.label] / f"{index}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        sample.picture.read().save(file, quality=90)
    drawn = sorted(folder.rglob("*.jpg"))
    for index in range(len(drawn), count):
        file = drawn[index % len(drawn)]
        (file.parent / f"{index}.jpg").hardlink_to(file)
    return folder
