"""Attention weighed by what it did for an answer.

Attention says what was mixed, and the gradient of an answer says what of that mattered. Their product, where it speaks
for the answer, is carried through the layers as rollout carries attention.

Source: Chefer, Gur and Wolf, "Generic Attention-model Explainability for Interpreting Bi-Modal and Encoder-Decoder
Transformers", ICCV 2021, equations 5 and 6, for one stream of tokens. Compared with numbers of their code in
tests/parity/test_explain.py.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vitrail.core.kernels import Kernel, attention_weights
from vitrail.errors import ExplanationError
from vitrail.explain.seam import Around, attentions, with_kernels

Maps = list[Float[Tensor, "batch heads tokens tokens"]]


def relevance(
    maps: Sequence[Float[Tensor, "batch heads tokens tokens"]],
    gradients: Sequence[Float[Tensor, "batch heads tokens tokens"]],
) -> Float[Tensor, "batch tokens tokens"]:
    """How much each token of the input (columns) spoke for the answer through each token of the output (rows).

    Args:
        maps: the attention of each layer, from the first to the last.
        gradients: of the answer, with respect to each of them.
    """
    whole = torch.eye(maps[0].shape[-1], dtype=maps[0].dtype, device=maps[0].device)
    found = whole.expand(maps[0].shape[0], -1, -1)
    for attention, gradient in zip(maps, gradients, strict=True):
        found = found + (attention * gradient).clamp(min=0).mean(dim=1) @ found
    return found


class TracedKernel(Around):
    """Answers with the kernel it is given, to the last bit, and lets gradients reach the weights beside it."""

    def __init__(self, kernel: Kernel, maps: Maps) -> None:
        super().__init__(kernel)
        self.maps = maps

    def after(
        self, answer: Tensor, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scale: float
    ) -> Float[Tensor, "batch heads query value_width"]:
        self.maps.append(attention_weights(query, key, mask, scale=scale))
        mixed = self.maps[-1] @ value
        return answer.detach() + (mixed - mixed.detach())  # adds zero, and the way back


class Traced(NamedTuple):
    """What one pass through a model gives.

    Attributes:
        answer: what the model answered, one number for each picture.
        maps: the attention of each layer.
        gradients: of the sum of the answers with respect to them.
    """

    answer: Float[Tensor, " batch"]
    maps: Maps
    gradients: Maps


def traced(
    model: nn.Module,
    images: Float[Tensor, "batch channels height width"],
    answer: Callable[[Tensor], Float[Tensor, " batch"]],
) -> Traced:
    """Run a twin of a model, and take the gradient of an answer with respect to all attention in it.

    Args:
        model: is not touched; no gradient is left in its parameters.
        images: prepared for it.
        answer: one number for each picture, out of what the model returns.

    Raises:
        ExplanationError: nothing here attends, or not all of it over the same tokens.
    """
    maps = Maps()
    twin = with_kernels(model, lambda _, attention: TracedKernel(attention.kernel, maps), attentions(model))
    value, gradients = way_back(twin, images, answer, maps)
    check_one_stream(maps)
    return Traced(value, [one.detach() for one in maps], gradients)


def way_back(
    twin: nn.Module,
    images: Float[Tensor, "batch channels height width"],
    answer: Callable[[Tensor], Float[Tensor, " batch"]],
    kept: Maps,
) -> tuple[Float[Tensor, " batch"], Maps]:
    """The answers of a twin, and the gradient of their sum with respect to what its kernels have kept on the way."""
    with torch.inference_mode(False), torch.enable_grad():
        images = images.clone().requires_grad_()  # so that there is a way back even where no parameter learns
        value = answer(twin.eval()(images))
        return value.detach(), Maps(torch.autograd.grad(value.sum(), kept))


def check_one_stream(maps: Maps) -> None:
    """Refuse attention that cannot be multiplied from layer to layer.

    Raises:
        ExplanationError: windows, or tokens that attend to others.
    """
    shapes = sorted({tuple(one.shape[-2:]) for one in maps})
    if len(shapes) > 1 or shapes[0][0] != shapes[0][1]:
        raise ExplanationError(
            f"The layers of this model attend over different tokens ({', '.join(map(str, shapes))}), so they cannot be "
            f"followed through each other. Look at one layer with --method attention, or use --method gradient."
        )
