"""What every data set offers, and how one is made of files or of a part of another."""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, NamedTuple, Protocol, runtime_checkable

from vitrail.data.files import fingerprint
from vitrail.data.images import ImageFile
from vitrail.errors import DataError
from vitrail.samples import Sample

LOOKED_AT = 64  # pictures whose size is read before the model's is chosen
PURPOSES = {  # what data is for, as its reader says
    "classify": "classify pictures",
    "detect": "detect objects in pictures",
    "panoptic": "segment pictures",
    "translate": "translate",
    "language": "learn a language from",
    "classify-text": "classify texts",
    "tag": "tag words",
    "answer": "answer questions",
}

Label = int | tuple[int, ...]


def classes_of(label: Label) -> tuple[int, ...]:
    """The classes that a label stands for: one, or all that there are."""
    return label if isinstance(label, tuple) else (label,)


@runtime_checkable
class Dataset(Protocol):
    """Samples by number: pictures that are not yet decoded, or texts."""

    @property
    def task(self) -> str:
        """What the labels are for: a name out of `PURPOSES`, such as `classify`."""
        ...

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes; a label is a place in this list."""
        ...

    @property
    def multi_label(self) -> bool:
        """Whether a picture may have several classes, or none."""
        ...

    @property
    def channels(self) -> int:
        """Channels of a picture: 3, or what all have by format, such as 1 where all are grey."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Any:  # a `Sample`, or one of `data.text`
        ...

    def labels(self) -> list[Label]:
        """The label of every sample, without decoding any."""
        ...

    def fingerprint(self, index: int) -> bytes:
        """Sixteen bytes that are the same wherever a picture has the same content."""
        ...


def in_brief(dataset: Dataset) -> str:
    """What a data set is called where it is printed: not all that it holds."""
    classes = f", {len(dataset.classes):,} classes" if dataset.classes else ""
    return f"<{type(dataset).__name__}: {len(dataset):,} samples for {dataset.task}{classes}>"


@dataclass(frozen=True)
class PictureFiles:
    """Pictures in files, each with the number of its class, or with those of all its classes."""

    paths: Sequence[str]  # a million of them take a tenth of the memory of a million `Path`s
    targets: Sequence[Label]
    classes: tuple[str, ...]
    multi_label: bool = False
    channels: int = 3
    task: str = "classify"

    def __repr__(self) -> str:
        return in_brief(self)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Sample:
        return Sample(ImageFile(self.paths[index]), self.targets[index])

    def labels(self) -> list[Label]:
        return list(self.targets)

    def fingerprint(self, index: int) -> bytes:
        return fingerprint(self.paths[index])

    def known_by(self, index: int) -> str:
        """The name of a file, and how large it is."""
        path = self.paths[index]
        return f"{os.path.basename(path)} {os.path.getsize(path) if os.path.isfile(path) else 0}"


def class_ids_of(dataset: Dataset) -> tuple[int, ...]:
    """By what numbers a data set calls its classes; their places where it has none."""
    return getattr(dataset, "class_ids", tuple(range(len(dataset.classes))))


@dataclass(frozen=True)
class Subset:
    """Some samples of another data set, in the order of `indices`."""

    whole: Dataset
    indices: Sequence[int]

    def __repr__(self) -> str:
        return in_brief(self)

    @property
    def task(self) -> str:
        return self.whole.task

    @property
    def classes(self) -> tuple[str, ...]:
        return self.whole.classes

    @property
    def multi_label(self) -> bool:
        return self.whole.multi_label

    @property
    def channels(self) -> int:
        return self.whole.channels

    @property
    def class_ids(self) -> tuple[int, ...]:
        """By what numbers the whole data set calls its classes; their places where it has none."""
        return class_ids_of(self.whole)

    @property
    def things(self) -> tuple[bool, ...]:
        """Which classes are countable things, in panoptic data; all of them in any other."""
        return getattr(self.whole, "things", (True,) * len(self.classes))

    @property
    def most_objects(self) -> int:
        """In one picture of the whole data set; 0 where none are marked."""
        return getattr(self.whole, "most_objects", 0)

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Any:
        return self.whole[self.indices[index]]

    def labels(self) -> list[Label]:
        labels = self.whole.labels()
        return [labels[index] for index in self.indices]

    def fingerprint(self, index: int) -> bytes:
        return self.whole.fingerprint(self.indices[index])

    def known_by(self, index: int) -> str:
        """What tells a sample from others at once; empty where nothing does."""
        known_by = getattr(self.whole, "known_by", None)
        return "" if known_by is None else known_by(self.indices[index])


def refuse_one_class(dataset: Dataset, where: str) -> None:
    """Refuse data with labels in which there is nothing to tell apart.

    Raises:
        DataError: it has no class, or only one.
    """
    if dataset.task not in ("classify", "classify-text") or len(dataset.classes) > 1:
        return
    if not dataset.classes:
        raise DataError(f"{where} has no label in any row. Write some.")
    if not dataset.multi_label:
        raise DataError(f"There is only one class, {dataset.classes[0]}: nothing to tell apart.")


def identity(dataset: Dataset, most: int = 50_000) -> str:
    """A word that is another when samples are others, stand in another order or are labelled otherwise.

    Of pictures in files the names and sizes are looked at, of texts everything, of anything else the labels; and of
    `most` samples at most, so that it takes moments. Boxes and masks are not looked at.
    """
    told = hashlib.blake2b(repr(dataset.labels()[:most]).encode(), digest_size=8)
    known_by = getattr(dataset, "known_by", None)
    if known_by is not None:
        for index in range(min(len(dataset), most)):
            told.update(known_by(index).encode("utf-8", "surrogatepass"))
    return told.hexdigest()


class Splits(NamedTuple):
    """A data set to learn from and one to be judged by.

    Attributes:
        train, val: with the same classes in the same order.
        notes: what was guessed or decided on the way, as sentences for the person.
    """

    train: Dataset
    val: Dataset
    notes: list[str]


def typical_side(dataset: Dataset) -> int:
    """The shorter side of a typical picture, in pixels; only headers are read."""
    stride = max(1, len(dataset) // LOOKED_AT)
    return int(median(min(dataset[index].picture.size) for index in range(0, len(dataset), stride)))
