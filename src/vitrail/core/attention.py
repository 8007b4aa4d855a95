"""Attention: each query looks at all keys and takes away a mixture of their values.

Source: Vaswani et al., "Attention Is All You Need", NeurIPS 2017, section 3.2.
The paper's Q, K and V are `query`, `key` and `value`; its d_model is `dim`, its h `heads`, its d_k `dim // heads`.
"""

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor, nn

from vitrail.core.cache import KeyValueCache
from vitrail.core.kernels import Kernel
from vitrail.core.quick import quick
from vitrail.errors import ConfigError

Prepare = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


class Attention(nn.Module):
    """Multi-head attention with one projection for each of what is asked, what answers and what is passed on.

    Args:
        dim: width of the queries and of the answer.
        heads: how many times to look, each time in `dim // heads` dimensions.
        key_dim, value_dim: widths of keys and values where they differ from `dim`.
        bias: whether query, key and value projections add a bias.
        out_bias: whether the output projection does.
        scale: what the scores are multiplied by; 1 / sqrt(width of a head) unless given.
        dropout: rate at which weights are dropped in training.
        prepare: changes queries and keys after their projection (rotary positions, query-key norm).
        kernel: how the mixture is computed.

    Raises:
        ConfigError: `dim` does not divide into `heads`.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        *,
        key_dim: int | None = None,
        value_dim: int | None = None,
        bias: bool = True,
        out_bias: bool = True,
        scale: float | None = None,
        dropout: float = 0.0,
        prepare: Prepare | None = None,
        kernel: Kernel = quick,
    ) -> None:
        super().__init__()
        if dim % heads:
            raise ConfigError(f"dim={dim} does not divide into heads={heads}. Choose a multiple of {heads}.")
        self.heads = heads
        self.scale = (dim // heads) ** -0.5 if scale is None else scale
        self.dropout = dropout
        self.prepare = prepare
        self.kernel = kernel
        # W^Q, W^K, W^V and W^O, each for all heads side by side
        self.query = nn.Linear(dim, dim, bias=bias)
        self.key = nn.Linear(dim if key_dim is None else key_dim, dim, bias=bias)
        self.value = nn.Linear(dim if value_dim is None else value_dim, dim, bias=bias)
        self.out = nn.Linear(dim, dim, bias=out_bias)

    def forward(
        self,
        query: Float[Tensor, "batch query dim"],
        key: Float[Tensor, "batch key key_dim"],
        value: Float[Tensor, "batch key value_dim"],
        mask: Tensor | None = None,
        past: KeyValueCache | None = None,
    ) -> Float[Tensor, "batch query dim"]:
        """Answer each query: self-attention where all three are the same tokens, cross-attention where not.

        Args:
            query: what is asked.
            key: what answers.
            value: what is passed on.
            mask: boolean, `True` = may look, or float, added to the scores; broadcastable to
                `(batch, heads, query, key)`.
            past: keys and values of earlier tokens; the new ones are added to it in place.
        """
        q = self.split(self.query(query))
        if past is None or key.shape[1]:
            k, v = self.split(self.key(key)), self.split(self.value(value))
        else:  # all that there is to look at has been kept
            k = v = q[:, :, :0]
        if self.prepare is not None:
            q, k = self.prepare(q, k)
        if past is not None:
            k, v = past.extend(k, v)
        # softmax(scale q k^T + mask) v, as `kernels.plain` spells it out
        mixed = self.kernel(q, k, v, mask, scale=self.scale, dropout=self.dropout if self.training else 0.0)
        return self.out(self.joined(mixed))  # Concat(head_1, ..., head_h) W^O

    # Not by einops, which takes longer than a new word's attention itself when words are written one by one.

    def split(self, x: Float[Tensor, "batch tokens dim"]) -> Float[Tensor, "batch heads tokens width"]:
        """Each head gets its own part of the width."""
        return x.unflatten(2, (self.heads, -1)).transpose(1, 2)

    def joined(self, x: Float[Tensor, "batch heads tokens width"]) -> Float[Tensor, "batch tokens dim"]:
        """The heads side by side again."""
        return x.transpose(1, 2).flatten(2)

    def cache(self, batch: int, capacity: int) -> KeyValueCache:
        """Room for the keys and values of so many tokens, to be handed to `forward` as `past`."""
        weight = self.key.weight
        width = weight.shape[0] // self.heads
        return KeyValueCache(batch, self.heads, capacity, width, device=weight.device, dtype=weight.dtype)
