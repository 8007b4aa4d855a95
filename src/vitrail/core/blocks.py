"""The blocks that transformers are made of: a residual path, an MLP, and what one layer does with them.

Source: Vaswani et al. 2017, section 3.1.
"""

from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from vitrail.core.attention import Attention
from vitrail.core.cache import DecoderCache, KeyValueCache
from vitrail.core.dropout import dropout
from vitrail.core.masks import join

NormPlace = Literal["before", "after", "branch"]
Sublayer = Callable[[Tensor], Tensor]


def drop_path(branch: Float[Tensor, "batch *rest"], rate: float) -> Float[Tensor, "batch *rest"]:
    """Stochastic depth: leave the whole branch out for some samples, and scale it up for the others.

    Source: Huang et al., "Deep Networks with Stochastic Depth", ECCV 2016.
    """
    kept = branch.new_empty(branch.shape[0], *[1] * (branch.ndim - 1)).bernoulli_(1 - rate)
    return branch * kept / (1 - rate)


class Residual(nn.Module):
    """Add a sublayer's answer to its input, with the norm in one of three places.

    `before` is `x + f(norm(x))`: steady in deep stacks (ViT, GPT-2). `after` is `norm(x + f(x))`: the 2017
    Transformer, BERT, DETR. `branch` is `x + norm(f(x))`: Swin V2.

    Args:
        dim: width of a token.
        norm: where the norm stands.
        eps: of the layer norm.
        layer_scale: what each channel of the branch is first multiplied by, learned from there; `None` for no
            such factor (Touvron et al., "Going Deeper with Image Transformers", ICCV 2021).
        drop_path: chance that a sample skips the branch in training.
        dropout: rate at which the branch's values are dropped in training.
    """

    def __init__(
        self,
        dim: int,
        *,
        norm: NormPlace = "before",
        eps: float = 1e-6,
        layer_scale: float | None = None,
        drop_path: float = 0.0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.place, self.drop_path, self.dropout = norm, drop_path, dropout
        self.norm = nn.LayerNorm(dim, eps=eps)
        self.layer_scale = None if layer_scale is None else nn.Parameter(torch.full((dim,), layer_scale))

    def forward(self, x: Float[Tensor, "batch tokens dim"], sublayer: Sublayer) -> Float[Tensor, "batch tokens dim"]:
        if self.place == "before":
            return x + self.thin(sublayer(self.norm(x)))
        if self.place == "after":
            return self.norm(x + self.thin(sublayer(x)))
        return x + self.thin(self.norm(sublayer(x)))

    def thin(self, branch: Float[Tensor, "batch tokens dim"]) -> Float[Tensor, "batch tokens dim"]:
        """Scale the branch, and drop parts of it in training."""
        if self.layer_scale is not None:
            branch = branch * self.layer_scale
        if not self.training:
            return branch
        if self.dropout:
            branch = dropout(branch, self.dropout)
        return drop_path(branch, self.drop_path) if self.drop_path else branch


def quick_gelu(x: Tensor) -> Tensor:
    """The approximation that CLIP was trained with."""
    return x * torch.sigmoid(1.702 * x)


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu-tanh": partial(F.gelu, approximate="tanh"),  # GPT-2, SigLIP
    "quick-gelu": quick_gelu,
    "relu": F.relu,
    "silu": F.silu,
}


class MLP(nn.Module):
    """The position-wise feed-forward network: expand, activate, contract, each token for itself (section 3.3)."""

    def __init__(
        self, dim: int, hidden: int, *, activation: Callable[[Tensor], Tensor] = F.gelu, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.expand = nn.Linear(dim, hidden)
        self.contract = nn.Linear(hidden, dim)
        self.activation, self.dropout = activation, dropout

    def forward(self, x: Float[Tensor, "batch tokens dim"]) -> Float[Tensor, "batch tokens dim"]:
        hidden = self.activation(self.expand(x))
        return self.contract(dropout(hidden, self.dropout, self.training))


class GatedMLP(nn.Module):
    """An MLP in which one half of the expansion opens or shuts the other (SwiGLU).

    Source: Shazeer, "GLU Variants Improve Transformer", 2020, eq. 6.
    """

    def __init__(self, dim: int, hidden: int, *, activation: Callable[[Tensor], Tensor] = F.silu) -> None:
        super().__init__()
        self.gate = nn.Linear(dim, hidden)
        self.expand = nn.Linear(dim, hidden)
        self.contract = nn.Linear(hidden, dim)
        self.activation = activation

    def forward(self, x: Float[Tensor, "batch tokens dim"]) -> Float[Tensor, "batch tokens dim"]:
        return self.contract(self.activation(self.gate(x)) * self.expand(x))


def placed(x: Tensor, position: Tensor | None) -> Tensor:
    """Tokens that say where they stand, if they have a place."""
    return x if position is None else x + position


class EncoderBlock(nn.Module):
    """Self-attention, then the MLP. With a causal mask it is a decoder layer without cross-attention, as in GPT.

    Args:
        attention, mlp: the two sublayers.
        around_attention, around_mlp: the residual path around each.
        bias: gives what is added to the scores (a relative position bias), if anything.
    """

    def __init__(
        self,
        attention: nn.Module,
        mlp: nn.Module,
        around_attention: Residual,
        around_mlp: Residual,
        bias: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.attention, self.mlp = attention, mlp
        self.around_attention, self.around_mlp = around_attention, around_mlp
        self.bias = bias

    def forward(
        self,
        x: Float[Tensor, "batch tokens dim"],
        *,
        position: Tensor | None = None,
        mask: Tensor | None = None,
        past: KeyValueCache | None = None,
    ) -> Float[Tensor, "batch tokens dim"]:
        """
        Args:
            x: the tokens.
            position: added to queries and keys but not to values (DETR).
            mask: who may look at whom.
            past: keys and values of earlier tokens, at which these look too; theirs are added to it.
        """
        if self.bias is not None:
            mask = join(mask, self.bias())

        def attend(h: Tensor) -> Tensor:
            there = placed(h, position)
            return self.attention(there, there, h, mask, past)

        x = self.around_attention(x, attend)  # before the norm: z' = MSA(LN(z)) + z (ViT, eq. 2)
        return self.around_mlp(x, self.mlp)  # z = MLP(LN(z')) + z' (eq. 3)


class DecoderBlock(nn.Module):
    """Self-attention, cross-attention to the memory, then the MLP (section 3.1)."""

    def __init__(
        self,
        attention: Attention,
        cross_attention: Attention,
        mlp: nn.Module,
        around_attention: Residual,
        around_cross_attention: Residual,
        around_mlp: Residual,
    ) -> None:
        super().__init__()
        self.attention, self.cross_attention, self.mlp = attention, cross_attention, mlp
        self.around_attention, self.around_cross_attention = around_attention, around_cross_attention
        self.around_mlp = around_mlp

    def forward(
        self,
        x: Float[Tensor, "batch tokens dim"],
        memory: Float[Tensor, "batch memory memory_dim"],
        *,
        position: Tensor | None = None,
        memory_position: Tensor | None = None,
        mask: Tensor | None = None,
        memory_mask: Tensor | None = None,
        past: DecoderCache | None = None,
    ) -> Float[Tensor, "batch tokens dim"]:
        """
        Args:
            x: what has been written so far, or what has come since `past`.
            memory: what the encoder understood.
            position: added to queries and keys but not to values (DETR's object queries).
            memory_position: added to the keys of the memory but not to its values.
            mask: who may look at whom among `x`; `memory_mask`: who may look at what in the memory.
            past: what this block has kept of earlier tokens and of the memory, of which every part is projected once.
        """
        own, read = (None, None) if past is None else past  # keys and values of the tokens, and of the memory
        key = placed(memory, memory_position)
        if read is not None:  # from the second step on nothing of the memory is left to project
            memory, key = memory[:, read.length :], key[:, read.length :]

        def attend(h: Tensor) -> Tensor:
            there = placed(h, position)
            return self.attention(there, there, h, mask, own)

        def attend_memory(h: Tensor) -> Tensor:
            return self.cross_attention(placed(h, position), key, memory, memory_mask, read)

        x = self.around_attention(x, attend)
        x = self.around_cross_attention(x, attend_memory)
        return self.around_mlp(x, self.mlp)

    def cache(self, batch: int, capacity: int, memory: int) -> DecoderCache:
        """Room for so many tokens to be written, and for a memory of so many."""
        return DecoderCache(self.attention.cache(batch, capacity), self.cross_attention.cache(batch, memory))
