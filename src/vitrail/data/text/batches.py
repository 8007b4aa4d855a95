"""Batches of texts by their number of tokens, in an order that depends on nothing but the seed and the epoch.

Items of about the same length stand together, so that little is padding; a batch holds so many that with its padding
it stays within a number of tokens. Which places of the sorted items make up a batch is the same in every epoch; which
of the equally long items stand there, and in what order the batches come, is not. So every epoch has the same number
of batches, an epoch can start anywhere, and the processes of a distributed run see together what one would have seen.
"""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Int

from vitrail.data.chance import Draw, chance
from vitrail.data.text.prepared import Prepared
from vitrail.errors import ConfigError
from vitrail.samples import Batch


def cut_by_tokens(lengths: Int[np.ndarray, " samples"], tokens: int, most: int | None, world: int) -> list[slice]:
    """Cut lengths, sorted from short to long, into runs that stay within a number of tokens with their padding.

    Each of `world` processes gets an equal share of a run, so a run holds `world` times what one of them can take.
    """
    found, first = [], 0
    for place, length in enumerate(lengths.tolist()):
        room = max(1, tokens // max(1, length))
        if place - first + 1 > world * (room if most is None else min(room, most)):
            found.append(slice(first, place))
            first = place
    return [*found, slice(first, len(lengths))] if len(lengths) else found


def evened(runs: list[slice], world: int) -> list[slice]:
    """The same runs with at least one item for each process, where there are enough: short ones take from before.

    Only the last run of a cut can be short; it may have `world` items, since every run has room for one in each.
    """
    found = list(runs)
    for place in range(len(found) - 1, 0, -1):
        short = world - (found[place].stop - found[place].start)
        if short > 0:
            start = max(found[place].start - short, found[place - 1].start)
            found[place - 1], found[place] = slice(found[place - 1].start, start), slice(start, found[place].stop)
    return [run for run in found if run.stop > run.start]


class TextLoader:
    """The batches of prepared texts, epoch by epoch.

    Args:
        prepared: what batches are made of.
        tokens: in a batch, with padding, in each process of a distributed run. In translation those of the source or
            of the target, whichever has more.
        most: items in a batch at most, in each process.
        seed: of the order, and of what chance does to the texts.
        shuffle: whether each epoch has an order of its own.
        drop_last: leave out what cannot be shared among all processes, which are fewer items than there are processes.
        rank, world: which process of how many this is; each takes its slice of the same large batch.

    Raises:
        ConfigError: there is nothing to read, an item is longer than a batch, or the arguments contradict each other.
    """

    def __init__(
        self,
        prepared: Prepared,
        tokens: int,
        *,
        most: int | None = None,
        seed: int = 0,
        shuffle: bool = False,
        drop_last: bool = False,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        if tokens < 1 or (most is not None and most < 1):
            raise ConfigError(f"tokens={tokens} and most={most} must be at least 1. Usual: tokens=4096.")
        if not 0 <= rank < world:
            raise ConfigError(f"rank={rank} must be one of the {world} from 0 to {world - 1}.")
        self.prepared, self.seed, self.shuffle, self.rank, self.world = prepared, seed, shuffle, rank, world
        self.lengths = np.asarray(prepared.lengths)
        if not len(self.lengths):
            raise ConfigError("There are no texts to make batches of.")
        longest = int(self.lengths.max())
        if longest > tokens:
            raise ConfigError(
                f"{prepared.describe(int(self.lengths.argmax()))} has {longest:,} tokens, and a batch {tokens:,}. Use "
                f"tokens={longest} or more."
            )
        self.sorted = np.argsort(self.lengths, kind="stable")
        runs = evened(cut_by_tokens(self.lengths[self.sorted], tokens, most, world), world)
        self.runs = [run for run in runs if run.stop - run.start >= world or not drop_last]
        if not self.runs:
            raise ConfigError(f"{len(self.lengths)} texts cannot be shared among {world} processes.")

    def describe(self, index: int) -> str:
        """What to call an item in front of a person."""
        return self.prepared.describe(index)

    def __len__(self) -> int:
        """Batches in an epoch."""
        return len(self.runs)

    @property
    def lost(self) -> str:
        """A sentence about texts that are too long to be read as a whole; empty where there are none."""
        return self.prepared.lost

    def order(self, epoch: int) -> list[Int[np.ndarray, " batch"]]:
        """The items of each batch of an epoch, for all processes together."""
        if not self.shuffle:
            return [self.sorted[run] for run in self.runs]
        draw = chance(Draw.ORDER, self.seed, epoch)
        mixed = draw.permutation(len(self.lengths))
        mixed = mixed[np.argsort(self.lengths[mixed], kind="stable")]  # equally long ones stay mixed
        return [mixed[self.runs[place]] for place in draw.permutation(len(self.runs))]

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch, from batch `start` on; each process its share of every batch."""
        for whole in self.order(epoch)[start:]:
            mine = np.array_split(whole, self.world)[self.rank]
            if len(mine):
                yield self.prepared.batch(mine, self.seed, epoch)
