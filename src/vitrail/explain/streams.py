"""Attention followed from layer to layer: through one stack, or through an encoder and a decoder that looks at it."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vitrail.errors import ExplanationError
from vitrail.explain.kinds import kinds


class Step(NamedTuple):
    """One attention of a decoder.

    Attributes:
        across: whether it looks at what the encoder has read; else at the decoder's own tokens.
        mixed: how much each token took from each, over all heads.
    """

    across: bool
    mixed: Float[Tensor, "batch query key"]


class Flow(NamedTuple):
    """What has reached each token of the stack that answers.

    Attributes:
        own: from each token that this stack was handed.
        read: from each token that the encoder was handed; `None` where there is but one stack.
    """

    own: Float[Tensor, "batch query query"]
    read: Float[Tensor, "batch query key"] | None = None

    @property
    def reached(self) -> Float[Tensor, "batch query key"]:
        """From what was read."""
        return self.own if self.read is None else self.read


class Parted(NamedTuple):
    """The attention of a model by its stacks.

    Attributes:
        encoder: of the encoder, or of the only stack, from the first layer to the last.
        decoder: of the decoder; empty where there is none.
    """

    encoder: list[Float[Tensor, "batch tokens tokens"]]
    decoder: list[Step]


def identity(like: Float[Tensor, "batch tokens key"]) -> Float[Tensor, "batch tokens tokens"]:
    """Every token from itself alone."""
    batch, tokens = like.shape[:2]
    return torch.eye(tokens, dtype=like.dtype, device=like.device).expand(batch, -1, -1)


def parted(model: nn.Module, names: Sequence[str], mixed: Sequence[Tensor]) -> Parted:
    """Sort what was mixed in each layer by where it belongs; that of a backbone is followed no further.

    Args:
        model: whose attention it is.
        names: of the layers, in the order in which they were asked.
        mixed: how much each token took from each in them, over all heads: (batch, query, key).

    Raises:
        ExplanationError: the layers of one stack attend over different tokens, or not to themselves.
    """
    of = {name: kind for kind, found in kinds(model).items() for name in found}
    encoder = [one for name, one in zip(names, mixed, strict=True) if of[name] in ("self", "encoder")]
    decoder = [
        Step(of[name] == "cross", one)
        for name, one in zip(names, mixed, strict=True)
        if of[name] in ("decoder", "cross")
    ]
    check_one_stream(encoder)
    check_one_stream([step.mixed for step in decoder if not step.across])
    return Parted(encoder, decoder)


def check_one_stream(mixed: Sequence[Tensor]) -> None:
    """Refuse attention that cannot be multiplied from layer to layer.

    Raises:
        ExplanationError: windows, or tokens that attend to others.
    """
    shapes = sorted({tuple(one.shape[-2:]) for one in mixed})
    if len(shapes) > 1 or any(rows != columns for rows, columns in shapes):
        raise ExplanationError(
            f"The layers of this model attend over different tokens ({', '.join(map(str, shapes))}), so they cannot be "
            f"followed through each other. Look at one layer with --method attention, or use --method gradient."
        )
