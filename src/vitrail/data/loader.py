"""Batches, in an order that depends on nothing but the seed and the epoch.

Batch `number` of an epoch can be made by itself: which samples it has, how they are augmented and how they are mixed
are functions of the seed, the epoch and their places. So an epoch can start anywhere, and is the same with any number
of worker processes; and the processes of a distributed run see together what a single one would have seen.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from vitrail.data.balance import balanced_order
from vitrail.data.chance import Draw, chance
from vitrail.data.dataset import Dataset, Label, classes_of
from vitrail.data.mixing import Mixing
from vitrail.data.workers import Tell, Workers
from vitrail.errors import ConfigError
from vitrail.samples import Batch, Sample

Transform = Callable[[Sample, tuple[int, ...]], Any]
Assemble = Callable[[Sequence[Sample], Sequence[Any], Int[np.ndarray, " batch"]], Batch]


class Ticket(NamedTuple):
    """One batch that is wanted.

    Attributes:
        epoch: of the run.
        number: of the batch in its epoch.
        indices: of its samples in the data set.
        repeats: how often each has been shown before in this epoch.
    """

    epoch: int
    number: int
    indices: Int[np.ndarray, " batch"]
    repeats: Int[np.ndarray, " batch"]


def earlier(order: Int[np.ndarray, " samples"]) -> Int[np.ndarray, " samples"]:
    """How often each number has come before it."""
    together = np.argsort(order, kind="stable")
    first = np.searchsorted(order[together], order[together])  # where the run of its equals begins
    counted = np.empty_like(order)
    counted[together] = np.arange(len(order)) - first
    return counted


@dataclass(frozen=True)
class Labelled:
    """Puts pictures of one size together with their classes.

    Attributes:
        classes: how many there are.
        multi_label: whether a picture can have several.
    """

    classes: int
    multi_label: bool

    def __call__(self, samples: Sequence[Sample], seen: Sequence[Tensor], indices: Int[np.ndarray, " batch"]) -> Batch:
        labels = [sample.label for sample in samples]
        return Batch(torch.stack(list(seen)), self.targets(labels), torch.from_numpy(indices))

    def targets(self, labels: list[Label | None]) -> Int[Tensor, " batch"] | Float[Tensor, "batch classes"]:
        """Class numbers; or, where there can be several, a one for each that is there."""
        if not self.multi_label:
            return torch.tensor(labels)
        shares = torch.zeros(len(labels), self.classes)
        for row, present in zip(shares, labels, strict=True):
            row[[] if present is None else list(classes_of(present))] = 1.0
        return shares


@dataclass(frozen=True)
class Reader:
    """Makes the batch that a ticket asks for."""

    dataset: Dataset
    transform: Transform
    seed: int
    mixing: Mixing | None
    assemble: Assemble

    def __call__(self, ticket: Ticket, tell: Tell = lambda index: None) -> Batch:
        samples, seen = [], []
        for index, repeat in zip(ticket.indices.tolist(), ticket.repeats.tolist(), strict=True):
            tell(index)
            samples.append(self.dataset[index])
            key = (self.seed, ticket.epoch, index)
            seen.append(self.transform(samples[-1], (*key, repeat) if repeat else key))  # each time another crop
        batch = self.assemble(samples, seen, ticket.indices)
        if self.mixing is None:
            return batch
        return self.mixing(batch, len(self.dataset.classes), (self.seed, ticket.epoch, ticket.number))

    def describe(self, index: int) -> str:
        """What to call a sample in front of a person."""
        return self.dataset[index].picture.name


class Loader:
    """The batches of a data set, epoch by epoch.

    Args:
        dataset: where the samples are.
        transform: called as `transform(sample, (seed, epoch, index))`, and with a number more where a sample is shown
            again in an epoch; gives what is seen of one sample: its pixels,
            or whatever `assemble` puts together.
        batch: samples in a batch, in each process of a distributed run.
        seed: of order, augmentation and mixing.
        shuffle: whether each epoch has an order of its own.
        workers: processes that read ahead; 0 reads in this one.
        drop_last: leave out the last batch when it is not full. Otherwise the last processes of a distributed run may
            get less of it than the first, or nothing.
        balanced: show every class equally often, instead of every sample once.
        rank, world: which process of how many this is; each takes its slice of the same large batch.
        mixing: Mixup and CutMix.
        assemble: puts samples, what is seen of each, and their indices together to a batch; pixels and classes unless
            given.

    Raises:
        ConfigError: there is not even one batch, or the arguments contradict each other.
    """

    lost = ""  # every picture is read as a whole

    def __init__(
        self,
        dataset: Dataset,
        transform: Transform,
        batch: int,
        *,
        seed: int = 0,
        shuffle: bool = False,
        workers: int = 0,
        drop_last: bool = False,
        balanced: bool = False,
        rank: int = 0,
        world: int = 1,
        mixing: Mixing | None = None,
        assemble: Assemble | None = None,
    ) -> None:
        if batch < 1:
            raise ConfigError(f"batch={batch} must be at least 1.")
        if drop_last and len(dataset) < batch * world:
            raise ConfigError(
                f"{len(dataset)} pictures do not fill one batch of {batch * world}. "
                f"Use --batch {max(1, len(dataset) // world)} or less."
            )
        if mixing is not None and world > 1 and batch % 2:
            raise ConfigError(f"Mixing works in pairs, which batch={batch} would tear apart. Use an even batch.")
        self.dataset, self.batch, self.workers, self.drop_last = dataset, batch, workers, drop_last
        self.seed, self.shuffle, self.balanced, self.rank, self.world = seed, shuffle, balanced, rank, world
        assemble = assemble or Labelled(len(dataset.classes), dataset.multi_label)
        self.read = Reader(dataset, transform, seed, mixing, assemble)
        self.idle: Workers | None = None  # processes that have finished an epoch and wait for the next

    def describe(self, index: int) -> str:
        """What to call a sample in front of a person."""
        return self.dataset[index].picture.name

    def __len__(self) -> int:
        """Batches in an epoch."""
        together = self.batch * self.world
        return len(self.dataset) // together if self.drop_last else -(-len(self.dataset) // together)

    def order(self, epoch: int) -> Int[np.ndarray, " samples"]:
        """The indices of all samples of an epoch, for all processes, one batch after the other."""
        if self.balanced:
            return balanced_order(self.dataset, chance(Draw.ORDER, self.seed, epoch))
        if self.shuffle:
            return chance(Draw.ORDER, self.seed, epoch).permutation(len(self.dataset))
        return np.arange(len(self.dataset))

    def tickets(self, epoch: int, start: int = 0) -> Iterator[Ticket]:
        """What to read from batch `start` on; each process its slice of every batch."""
        order = self.order(epoch)
        repeats = earlier(order)
        for number in range(start, len(self)):
            first = (number * self.world + self.rank) * self.batch
            if first < len(order):
                part = slice(first, first + self.batch)
                yield Ticket(epoch, number, order[part], repeats[part])

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch, from batch `start` on.

        Raises:
            ImageError: a picture cannot be read; it is named.
            DataError: a worker process was killed; what it was reading is named.
        """
        if not self.workers:
            yield from map(self.read, self.tickets(epoch, start))
            return
        workers, self.idle = self.idle or Workers(self.read, self.workers, self.read.describe), None
        try:
            yield from workers.run(self.tickets(epoch, start))
        except BaseException:  # an error, or nobody wants the rest: what is under way is of no use
            workers.close()
            raise
        self.idle = workers
