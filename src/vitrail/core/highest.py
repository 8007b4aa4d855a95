"""The highest of many scores, sooner than by sorting."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

BLOCK = 64  # scores that are first compared among themselves


def highest(
    scores: Float[Tensor, "rows outputs"], count: int
) -> tuple[Float[Tensor, "rows chosen"], Int[Tensor, "rows chosen"]]:
    """The `count` highest scores of each row and where they stand, best first; all where there are fewer.

    What `torch.topk` finds, several times as fast: they stand in the blocks whose highest are highest. Of scores that
    are equal and finite those are taken that it takes.
    """
    whole = scores.shape[1] - scores.shape[1] % BLOCK  # what does not fill a block is looked through in any case
    if whole <= (count + 1) * BLOCK:
        return sorted_out(scores, count)
    chosen = scores[:, :whole].unflatten(1, (-1, BLOCK)).amax(dim=2).topk(count + 1).indices
    within, rest = (torch.arange(*ends, device=scores.device) for ends in ((0, BLOCK), (whole, scores.shape[1])))
    looked_at = torch.cat([(chosen[..., None] * BLOCK + within).flatten(1), rest.expand(len(scores), -1)], dim=1)
    values, best = scores.gather(1, looked_at).topk(count + 1)
    if ((values[:, 1:] == values[:, :-1]) & values[:, 1:].isfinite()).any():
        return sorted_out(scores, count)
    return values[:, :count], looked_at.gather(1, best[:, :count])


def sorted_out(
    scores: Float[Tensor, "rows outputs"], count: int
) -> tuple[Float[Tensor, "rows chosen"], Int[Tensor, "rows chosen"]]:
    """The same by `torch.topk`."""
    values, places = scores.topk(min(count, scores.shape[1]))
    return values, places
