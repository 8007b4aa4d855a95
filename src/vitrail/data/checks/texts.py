"""What is wrong with texts."""

from collections.abc import Iterator

from vitrail.data.checks.faults import Fault, fault
from vitrail.data.dataset import Dataset
from vitrail.data.open import open_splits
from vitrail.data.text.dataset import Pair
from vitrail.errors import DataError

UNEVEN, LONG = 4, 12  # times as many words on one side of a pair as on the other, where that has so many


def check(path: str) -> Iterator[Fault]:
    """Everything that is wrong with texts, or good to know; the first thing only where they cannot be opened."""
    try:
        splits = open_splits(path)
    except DataError as error:
        yield fault("no-data", path, str(error))
        return
    if splits.train.task in ("classify-text", "tag") and len(splits.train.classes) == 1:
        yield fault("one-class", path, f"There is only one class, {splits.train.classes[0]}: nothing to tell apart.")
    for part in (splits.train, splits.val):
        yield from each(part)
    learned = {splits.train.fingerprint(index): splits.train[index].name for index in range(len(splits.train))}
    for index in range(len(splits.val)):
        if (first := learned.get(splits.val.fingerprint(index))) is not None:
            yield fault("text-across-parts", splits.val[index].name, f"The same text is learned from in {first}.")


def each(texts: Dataset) -> Iterator[Fault]:
    """What is wrong with single texts."""
    for sample in (texts[index] for index in range(len(texts))):
        if isinstance(sample, Pair):
            counts = [len(text.split()) for text in sample.texts]
            if sample.source == sample.target and min(counts) > 1:
                yield fault("same-text", sample.name, "Both sides of the pair are the same.")
            if max(counts) >= max(UNEVEN * min(counts), LONG):
                yield fault(
                    "uneven-pair", sample.name, f"One side has {max(counts)} words and the other {min(counts)}."
                )
