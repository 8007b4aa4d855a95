"""The matrix products of a network and nothing else: what no way of computing them in the same precision can undercut.

Attention between tokens, norms, activations and the optimiser come on top.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from side_by_side import Work
from torch import Tensor, nn

from vitrail.core.packing import packed
from vitrail.core.precision import fast_float32


def layers(model: nn.Module, images: Tensor) -> list[tuple[nn.Module, Tensor]]:
    """Every linear layer of a network with what it reads when it sees these pictures."""
    seen: list[tuple[nn.Module, Tensor]] = []

    def note(layer: nn.Module, inputs: tuple[Tensor]) -> None:
        seen.append((layer, inputs[0].detach().clone()))

    hooks = [part.register_forward_pre_hook(note) for part in model.modules() if isinstance(part, nn.Linear)]
    with torch.no_grad():
        model(images)
    for hook in hooks:
        hook.remove()
    return seen


def of_prediction(model: nn.Module, images: Tensor) -> Work:
    """The products of one answer, as `packed()` computes them."""
    seen = layers(packed(model), images)

    def work() -> None:
        for layer, x in seen:
            layer(x)

    return work


def of_a_step(make: Callable[[], nn.Module], images: Tensor) -> Work:
    """Those of a training step: forwards, and backwards to what was read and to the weights."""
    triples = []
    for layer, x in layers(make(), images):
        rows, weight = x.flatten(0, -2), layer.get_parameter("weight").detach()
        triples.append((rows, weight, torch.randn(rows.shape[0], weight.shape[0])))

    def work() -> None:
        with torch.no_grad(), fast_float32():
            for rows, weight, gradient in triples:
                F.linear(rows, weight)
                gradient @ weight
                gradient.t() @ rows

    return work
