"""How softmax(q k^T) v is computed. Every kernel has one signature, so that one can stand for another.

A kernel takes heads already split, a mask in the meaning of `core.masks`, the scale and the dropout rate, and
gives each query a mixture of the values. A query that may look nowhere gets zeros.
"""

from typing import NamedTuple, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from vitrail.core.dropout import dropout as drop


@runtime_checkable
class Kernel(Protocol):
    """The seam at which attention can be computed otherwise, recorded or ablated."""

    def __call__(
        self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, *, scale: float, dropout: float
    ) -> Tensor: ...


def fused(
    query: Float[Tensor, "batch heads query width"],
    key: Float[Tensor, "batch heads key width"],
    value: Float[Tensor, "batch heads key value_width"],
    mask: Tensor | None,
    *,
    scale: float,
    dropout: float = 0.0,
) -> Float[Tensor, "batch heads query value_width"]:
    """torch's fused kernel: fast, never holds the weights, and answers zeros where all is masked."""
    if mask is not None:
        mask = torch.atleast_2d(mask if mask.dtype == torch.bool else mask.to(query.dtype))  # torch wants two axes
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout, scale=scale)


def plain(
    query: Float[Tensor, "batch heads query width"],
    key: Float[Tensor, "batch heads key width"],
    value: Float[Tensor, "batch heads key value_width"],
    mask: Tensor | None,
    *,
    scale: float,
    dropout: float = 0.0,
) -> Float[Tensor, "batch heads query value_width"]:
    """The equation as the paper prints it (Vaswani et al. 2017, eq. 1), weights and all."""
    weights, nowhere = masked_softmax(query, key, mask, scale)
    mixed = drop(weights, dropout) @ value
    return mixed if nowhere is None else mixed.masked_fill(nowhere, 0.0)


def attention_weights(
    query: Float[Tensor, "batch heads query width"],
    key: Float[Tensor, "batch heads key width"],
    mask: Tensor | None = None,
    *,
    scale: float,
) -> Float[Tensor, "batch heads query key"]:
    """How much each query looks at each key: softmax(scale * q k^T), masked.

    Each row sums to one, except that of a query that may look nowhere, which is all zeros.
    """
    weights, nowhere = masked_softmax(query, key, mask, scale)
    return weights if nowhere is None else weights.masked_fill(nowhere, 0.0)


class Softmaxed(NamedTuple):
    """What a softmax makes of scores.

    Attributes:
        weights: how much each query looks at each key; of one that may look nowhere, at all alike.
        nowhere: which queries these are; `None` where all may look somewhere.
    """

    weights: Float[Tensor, "batch heads query key"]
    nowhere: Bool[Tensor, "..."] | None


def masked_softmax(
    query: Float[Tensor, "batch heads query width"],
    key: Float[Tensor, "batch heads key width"],
    mask: Tensor | None,
    scale: float,
) -> Softmaxed:
    """softmax(scale q k^T + mask), and which queries may look nowhere.

    The softmax of such a row would be NaN, and so would its gradient: it is taken without the mask, and whoever asks
    puts zeros in its place. A mask is mostly much smaller than the scores, so what can be done to it is done to it.
    """
    scores = scale * query @ key.transpose(-2, -1)  # Q K^T / sqrt(d_k)
    if mask is None:
        return Softmaxed(scores.softmax(dim=-1), None)
    if mask.dtype == torch.bool:
        mask = scores.new_zeros(mask.shape).masked_fill(~mask, float("-inf"))
    mask = mask.to(scores.dtype)  # in which a large number may be infinite
    nowhere = (mask == float("-inf")).all(dim=-1, keepdim=True)
    mask = mask.masked_fill(nowhere, 0.0)
    return Softmaxed((scores + mask).softmax(dim=-1), nowhere)
