"""Making up for classes that are much rarer than others."""

from operator import itemgetter

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from vitrail.data.dataset import Dataset, classes_of
from vitrail.errors import ConfigError, many

UNEVEN = 5  # how much more frequent the largest class must be than the smallest for somebody to be told


def class_counts(dataset: Dataset) -> Int[np.ndarray, " classes"]:
    """How many samples each class has."""
    numbers = [number for label in dataset.labels() for number in classes_of(label)]
    return np.bincount(np.array(numbers, dtype=np.int64), minlength=len(dataset.classes))


def in_words_if_uneven(dataset: Dataset, unit: str) -> str:
    """How often the most frequent class comes, and the rarest, if that is far from even; nothing otherwise."""
    counted = zip(class_counts(dataset).tolist(), dataset.classes, strict=True)
    present = sorted(((count, name) for count, name in counted if count), key=itemgetter(0))
    if not present or present[-1][0] <= UNEVEN * present[0][0]:
        return ""
    (fewest, rare), (most, common) = present[0], present[-1]
    return f"{common!r} has {many(most, unit)} and {rare!r} {fewest:,}."


def class_weights(dataset: Dataset) -> Float[Tensor, " classes"]:
    """What to multiply the loss of each class by, so that all classes count the same.

    Inverse to the counts, and one on average over the pictures. A class without a picture weighs nothing, unless all
    are without.
    """
    counts = class_counts(dataset)
    if not counts.any():
        return torch.ones(len(counts))
    present = (counts > 0).sum()
    weights = np.divide(counts.sum(), present * counts, out=np.zeros(len(counts)), where=counts > 0)
    return torch.from_numpy(weights).float()


def balanced_order(dataset: Dataset, generator: np.random.Generator) -> Int[np.ndarray, " samples"]:
    """An epoch as long as the data set in which every class is shown equally often.

    Within a class, no picture comes a second time before all others have come once more.

    Raises:
        ConfigError: pictures have several labels, so no order is balanced.
    """
    if dataset.multi_label:
        raise ConfigError(
            "Balanced sampling needs one label for each picture, and these can have several. Type "
            "--set task.weights=balanced instead of --set data.balanced=true."
        )
    labels = np.array(dataset.labels())
    present = generator.permutation(np.unique(labels))
    quota, rest = divmod(len(labels), len(present))
    chosen = []
    for place, number in enumerate(present):
        members, wanted = np.flatnonzero(labels == number), quota + (place < rest)
        rounds = [generator.permutation(members) for _ in range(-(-wanted // len(members)))]
        chosen.append(np.concatenate(rounds)[:wanted] if rounds else members[:0])
    return generator.permutation(np.concatenate(chosen))
