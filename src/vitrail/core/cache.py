"""Keys and values already computed, kept for the queries still to come."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vitrail.errors import ConfigError


class KeyValueCache:
    """Room for a fixed number of keys and values, filled in place.

    Their memory is taken once and stays where it is. What `extend` gives is the part that is filled, so it grows with
    each step and attention reads nothing that is empty; torch.compile would compile a step anew for each length.

    Args:
        batch, heads, capacity, width: the most that will ever be kept.
    """

    def __init__(
        self,
        batch: int,
        heads: int,
        capacity: int,
        width: int,
        *,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        self.kept = torch.zeros(2, batch, heads, capacity, width, device=device, dtype=dtype)  # keys, and values
        self.length = 0

    def extend(
        self, key: Float[Tensor, "batch heads new width"], value: Float[Tensor, "batch heads new width"]
    ) -> tuple[Float[Tensor, "batch heads all width"], Float[Tensor, "batch heads all width"]]:
        """Append the newest keys and values, if there are any, and return all that are kept so far."""
        end = self.length + key.shape[2]
        if end > self.kept.shape[3]:
            raise ConfigError(
                f"The cache holds {self.kept.shape[3]} tokens and {end} were asked of it. "
                f"Make it with a capacity of {end} or more."
            )
        if end > self.length:
            self.kept[0, :, :, self.length : end] = key
            self.kept[1, :, :, self.length : end] = value
            self.length = end
        return self.kept[0, :, :, :end], self.kept[1, :, :, :end]

    def forget(self, count: int) -> None:
        """Let go of the newest tokens, so many of them."""
        self.length -= count

    def reorder(self, rows: Int[Tensor, "samples"]) -> None:
        """Let each sample go on from what another has kept: sample `n` from that of `rows[n]`.

        Where their number stays, the buffer is filled in place; otherwise it is made anew, with more samples or fewer.
        """
        if rows.shape[0] != self.kept.shape[1]:
            self.kept = self.kept[:, rows]
            return
        moved = (rows != torch.arange(len(rows), device=rows.device)).nonzero()[:, 0]
        filled = self.kept[:, :, :, : self.length]
        filled[:, moved] = filled[:, rows[moved]]


class DecoderCache(NamedTuple):
    """What one block of a decoder keeps.

    Attributes:
        tokens: keys and values of what has been written so far.
        memory: keys and values of what the encoder understood; filled when it is first looked at.
    """

    tokens: KeyValueCache
    memory: KeyValueCache
