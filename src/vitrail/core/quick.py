"""Attention by whichever of two kernels is quicker on this processor, for these tensors.

torch's fused kernel works through the keys in small pieces, so that the weights never take memory. On CPU the pieces
are too small to run at full speed, above all backwards. Where products run in oneDNN, computing the weights whole is
up to 2.7 times as fast, as long as those of one head stay in the cache of their core. With tile instructions (AMX) the
fused kernel is as quick forwards, and takes up to four times as long forwards and backwards together.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from vitrail.core.kernels import fused, plain
from vitrail.core.precision import multiplies_in_tiles, products_are_quick

CACHE = 2**20  # bytes that the weights of one head may take: the second-level cache of one core
FEWEST = 2  # queries for which oneDNN pays: word by word, it would prepare itself anew for each number of keys


def quick(
    query: Float[Tensor, "batch heads query width"],
    key: Float[Tensor, "batch heads key width"],
    value: Float[Tensor, "batch heads key value_width"],
    mask: Tensor | None,
    *,
    scale: float,
    dropout: float = 0.0,
) -> Float[Tensor, "batch heads query value_width"]:
    """`plain` on a CPU for short sequences that it multiplies at full speed, and with dropout; else `fused`."""
    queries, keys = query.shape[-2], key.shape[-2]
    short = queries >= FEWEST and queries * keys * query.element_size() <= CACHE
    # while a graph is traced no product is quick, so that nothing asks there what the processor can do
    whole = short and products_are_quick(query) and (query.requires_grad or not multiplies_in_tiles())
    exact = query.device.type == "cpu" and query.dtype in (torch.float32, torch.float64)
    if dropout and (exact or products_are_quick(query)) and not torch.compiler.is_compiling():
        whole = True  # on CPU the fused kernel knows no dropout, and would compute the weights whole itself
    kernel = plain if whole else fused
    return kernel(query, key, value, mask, scale=scale, dropout=dropout)
