"""From what a person typed after `--data` to data sets.

A path is a folder of class folders, a table (.csv, .tsv, .jsonl), a folder of idx files, or `scenes:` for the
generated world; or pictures with marked objects, as COCO, Pascal VOC or YOLO write them; or it leads to texts
(`data.text`): sentence pairs, running text, tables of labelled texts, tagged words, questions. Each of these may come
in parts; where there is no validation part, one is set aside.
"""

import os
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

from vitrail.data.aside import choose_validation
from vitrail.data.dataset import Dataset, Splits, Subset
from vitrail.data.datasets import coco, folder, idx, manifest, panoptic, scenes, voc, yolo
from vitrail.data.datasets.places import class_folders, few_folders_in
from vitrail.data.files import nowhere, pictures_below, shown
from vitrail.data.text import labelled, lines, pairs, questions, tagged
from vitrail.data.text.dataset import Texts
from vitrail.errors import DataError

OBJECTS = (panoptic, coco, voc, yolo)  # asked before all others: their folders hold pictures too
NAMES = {panoptic: "COCO panoptic", coco: "COCO", voc: "Pascal VOC", yolo: "YOLO", folder: "class folders"}
MOST_TOLD = 8  # data sets in a sentence
PICTURES = (manifest, idx, folder)  # asked in this order; any folder that is nothing else is a folder of classes
TEXTS = (pairs, questions, tagged, labelled, lines)  # asked in this order; any text file is running text at last
KINDS = (
    "Give pictures: a folder of class folders, a .csv or .jsonl file, a folder of idx files, or scenes: for generated "
    "ones; or pictures with marked objects, as in COCO (.json), Pascal VOC (.xml) or YOLO (data.yaml); or texts: "
    "sentence pairs (train.de and train.en, or a table with a column for each language), a table with the columns text "
    "and label, words with tags (.conll), questions (.json as in SQuAD v1.1), or running text (.txt)."
)


def class_folders_beside(path: Path, home: Path) -> list[Path]:
    """The folders that hold folders of classes, beside a data set with pictures of its own that stands below a path."""
    if next(iter(pictures_below(home)), None) is None:
        return []  # its pictures are those beside it
    others = [one for one in few_folders_in(path) if one != home and one not in home.parents]
    return [one for one in others if class_folders(one)]


def marked_in(path: Path) -> dict[Path, ModuleType]:
    """Where data sets of marked objects stand, in a folder or a little deeper, each with the module that reads it."""
    stands = [(home, reader) for reader in OBJECTS for home in reader.homes(path)]
    stands.sort(key=lambda one: one[1] in (panoptic, coco) and coco.stands_aside(one[0]))  # another format goes before
    found: dict[Path, ModuleType] = {}
    for home, reader in stands:
        found.setdefault(home, reader)
    return {home: reader for home, reader in found.items() if found.keys().isdisjoint(home.parents)}


def marked_reader(path: Path) -> ModuleType | None:
    """The module that reads the marked objects at a path, if there are any.

    Raises:
        DataError: there are several data sets.
    """
    found = marked_in(path)
    if len(found) == 1 and path not in found:
        found |= dict.fromkeys(class_folders_beside(path, *found), folder)
    refuse_several(path, found)
    return next(iter(found.values()), None)


def refuse_several(path: Path, found: dict[Path, ModuleType]) -> None:
    """Refuse a path that leads to several data sets.

    Raises:
        DataError: names them.
    """
    if len(found) > 1:
        told = [f"{shown(home.relative_to(path))} ({NAMES[reader]})" for home, reader in sorted(found.items())]
        more = f" and {len(told) - MOST_TOLD} more" if len(told) > MOST_TOLD else ""
        raise DataError(
            f"{shown(path)} holds {len(told)} data sets: {', '.join(told[:MOST_TOLD])}{more}. Name one of them, such "
            f"as {shown(min(found, key=lambda home: (found[home] is folder, home)))}."
        )


def taken_apart(data: Path | str) -> tuple[Path, str]:
    """The path of a data set, and what `corpus:de-en` or `coco:panoptic` says behind it; nothing for most."""
    place, asked = panoptic.spelling(data)
    if asked:
        return place, "panoptic"
    place, way = pairs.spelling(data)
    return place, "" if way is None else "-".join(way)


def for_purpose(data: str, purposes: Collection[str]) -> str:
    """The data set as it is spelled to be read for one of some purposes.

    That is as it was given, unless it has boxes and segments, which are not both wanted.

    Raises:
        DataError: nothing is there, or nothing that is a data set.
    """
    if "panoptic" in purposes and "detect" not in purposes and format_of(data)[0] is coco:
        return f"{data}:panoptic" if panoptic.homes_beside(Path(data).expanduser()) else data
    return data


def segments_at(path: Path) -> tuple[ModuleType, Path]:
    """The reader of the segments that were asked for, and where they are.

    Raises:
        DataError: there are none, or several data sets have some.
    """
    found = panoptic.homes_beside(path)
    if not found:
        raise DataError(f"{shown(path)} holds no segments as COCO has them (annotations/panoptic_train.json).")
    refuse_several(path, dict.fromkeys(found, panoptic))
    return panoptic, path


def check_path(path: Any) -> None:
    """Refuse what is in memory, before anybody takes it for a name.

    Raises:
        DataError: it is no path; says how data in memory is learned from.
    """
    if not isinstance(path, str | os.PathLike):
        raise DataError(
            f"A data set is named by its path, and this is a {type(path).__name__}. Data in memory is learned from by "
            f"vitrail.train.fit.fit(recipe, out, splits=...): docs/api.md has an example."
        )


def format_of(path: Path | str) -> tuple[ModuleType, Path | str]:
    """The module that reads what stands at a path, and the path as it wants it.

    A folder with pictures in it never holds texts.

    Raises:
        DataError: nothing is there, nothing that is a data set, or several of them.
    """
    check_path(path)
    if scenes.recognises(path):
        return scenes, path
    if not str(path).strip():
        raise DataError(f"No data set was named: the path is empty. {KINDS}")
    path = Path(path).expanduser()
    place, said = taken_apart(path)
    if not place.exists():
        raise DataError(
            f"There is no data set at {shown(place)}: {nowhere(place)} `vitrail train --help` says what may be there."
        )
    if not place.is_file() and not place.is_dir():
        raise DataError(f"{shown(place)} is a pipe or a device. Name a file or a folder.")
    if said == "panoptic":
        return segments_at(place)
    if place == path and (reader := marked_reader(path)):
        return reader, path
    if yolo.lists_pictures(place):
        raise DataError(
            f"{shown(place)} lists pictures, as a part of YOLO's data does. Name the folder of the data set, or a "
            f"data.yaml that says train: {shown(place.name)}, val: and names:."
        )
    illustrated = place.is_dir() and next(iter(pictures_below(place)), None)
    for reader in (*(() if illustrated else TEXTS), *PICTURES):
        if reader.recognises(path):
            return reader, path
    raise DataError(f"{shown(path)} is not a data set. {KINDS}")


def holds_texts(path: Path | str) -> bool:
    """Whether a path leads to texts.

    Raises:
        DataError: it leads nowhere, or to nothing that is a data set.
    """
    return format_of(path)[0] in TEXTS


def same_data(one: str, other: str) -> bool:
    """Whether two paths, however they are typed, lead to the same data, read in the same way."""
    (here, said), (there, told) = taken_apart(one), taken_apart(other)
    return one == other or (here.expanduser().resolve() == there.expanduser().resolve() and said == told)


def name_of(data: str) -> str:
    """What to call a folder that comes of a data set."""
    if data.startswith("scenes:"):
        return data.replace(":", "-").strip("-")
    place, said = taken_apart(data)
    place = place.resolve()
    name = place.name if place.is_dir() else place.stem
    return f"{name}-{said}" if said else name


def parts(path: Path | str) -> tuple[str, ...]:
    """The parts that a data set comes in, out of `train`, `val` and `test`; none where it is in one piece."""
    reader, path = format_of(path)
    return reader.parts(path)


def open_dataset(path: Path | str, split: str | None = None, classes: tuple[str, ...] | None = None) -> Dataset:
    """Open a data set, or one part of it.

    Args:
        path: see above.
        split: `train`, `val` or `test`. A set without a validation part gives the two that `open_splits` makes of it.
            `None` takes a set that is in one piece as it is.
        classes: the classes to number by, when another part, or a model, has already said them.

    Raises:
        DataError: it cannot be read, has no such part, or is in parts and none was named.
    """
    reader, place = format_of(path)
    found = reader.parts(place)
    if split is None and found:
        raise DataError(f"{shown(path)} is in parts: {', '.join(found)}. Name one of them: split={found[-1]!r}.")
    if split in ("train", "val") and "val" not in found and (not found or "train" in found):
        splits = split_off(reader.open_part(place, "train" if found else None, classes), str(path))
        return splits.train if split == "train" else splits.val
    if split is None or split in found:
        return reader.open_part(place, split, classes)
    raise DataError(f"{shown(path)} has no part called {split!r}. It has {', '.join(found) or 'only one piece'}.")


def open_splits(path: Path | str, seed: int = 0, validation: float = 0.1) -> Splits:
    """Open what to learn from and what to be judged by.

    Args:
        path: see above.
        seed: which samples are set aside, where there is no validation part.
        validation: the share to set aside then.

    Returns:
        Both, with the classes of the training part; what was decided is in `notes`.

    Raises:
        DataError: it cannot be read, or there is nothing to learn from.
    """
    reader, place = format_of(path)
    found = reader.parts(place)
    if found and "train" not in found:
        raise DataError(f"{shown(path)} has no part called train to learn from, only {', '.join(found)}.")
    train = reader.open_part(place, "train" if found else None, None)
    if "val" in found:
        val = reader.open_part(place, "val", train.classes or None)
        splits = Splits(train, val, list(dict.fromkeys((*notes_of(train), *notes_of(val)))))
    else:
        splits = split_off(train, str(path), seed, validation)
    if "test" in found and reader is not scenes:
        splits.notes.append(
            f"{shown(path)} has a part called test, which neither learns nor chooses anything here. "
            "`vitrail evaluate` with --split test judges by it."
        )
    return splits


def notes_of(dataset: Dataset) -> tuple[str, ...]:
    """What was guessed or left out while a data set was read; pictures are not guessed about."""
    return getattr(dataset, "notes", ())


def split_off(whole: Dataset, name: str, seed: int = 0, validation: float = 0.1) -> Splits:
    """Set some samples aside for validation, by a hash of their content.

    Raises:
        DataError: there are too few.
    """
    unit = "texts" if isinstance(whole, Texts) else "pictures"
    with ThreadPoolExecutor() as readers:
        contents = list(readers.map(whole.fingerprint, range(len(whole))))
    aside = choose_validation(contents, whole.labels(), seed, validation)
    if not aside or len(aside) == len(whole):
        raise DataError(
            f"{shown(name)} has too few {unit} to set some aside for validation. Two that differ are needed, in each "
            "class if there are classes."
        )
    train = [index for index in range(len(whole)) if index not in aside]
    note = (
        f"{shown(name)} has no validation part: {len(aside):,} of its {len(whole):,} {unit} "
        f"{'is' if len(aside) == 1 else 'are'} set aside as one, chosen by a hash of their content."
    )
    return Splits(Subset(whole, train), Subset(whole, sorted(aside)), [*notes_of(whole), note])
