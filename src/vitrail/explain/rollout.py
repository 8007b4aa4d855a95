"""Attention through all layers at once: what a token looks at, through whatever those tokens looked at before.

Source: Abnar and Zuidema, "Quantifying Attention Flow in Transformers", ACL 2020, section 3. Compared with numbers of
other people's code in tests/parity/test_explain.py.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor


def rollout(maps: Sequence[Float[Tensor, "batch heads tokens tokens"]]) -> Float[Tensor, "batch tokens tokens"]:
    """The product of the layers, each the mean of its heads with the identity for what goes past it.

    Args:
        maps: the attention of each layer, from the first to the last; a row sums to one.

    Returns:
        How much of each token of the input (columns) there is in each token of the output (rows); a row sums to one.
    """
    whole = torch.eye(maps[0].shape[-1], dtype=maps[0].dtype, device=maps[0].device)
    flow = whole.expand(maps[0].shape[0], -1, -1)
    for attention in maps:
        through = attention.mean(dim=1) + whole  # half of it attended to, half passed by the residual connection
        flow = through / through.sum(dim=-1, keepdim=True) @ flow
    return flow
