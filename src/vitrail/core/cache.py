"""Keys and values already computed, kept for the queries still to come."""

import torch
from jaxtyping import Float
from torch import Tensor

from vitrail.errors import ConfigError


class KeyValueCache:
    """Room for a fixed number of keys and values, filled in place.

    The buffers never change shape, so that a compiled step can be used again and again.

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
        self.keys = torch.zeros(batch, heads, capacity, width, device=device, dtype=dtype)
        self.values = torch.zeros_like(self.keys)
        self.length = 0

    def extend(
        self, key: Float[Tensor, "batch heads new width"], value: Float[Tensor, "batch heads new width"]
    ) -> tuple[Float[Tensor, "batch heads all width"], Float[Tensor, "batch heads all width"]]:
        """Append the newest keys and values and return all that are kept so far."""
        end = self.length + key.shape[2]
        if end > self.keys.shape[2]:
            raise ConfigError(
                f"The cache holds {self.keys.shape[2]} tokens and {end} were asked of it. "
                f"Make it with a capacity of {end} or more."
            )
        self.keys[:, :, self.length : end] = key
        self.values[:, :, self.length : end] = value
        self.length = end
        return self.keys[:, :, :end], self.values[:, :, :end]
