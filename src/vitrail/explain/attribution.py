"""Relevance handed back through every part of a model, to the attention in it.

An answer is shared out among what it was made of, from the head to the first block: a linear layer gives each input
its share of what was positive, a sum gives each addend its own, a product half to either side, and what works on single
numbers (norms, activations) passes it on as it is. What reaches the attention of a layer is weighed by the gradient and
followed through the layers, as `relevance` does with attention itself.

Each rule is written as a gradient: a part answers as it did, and what flows back through it is its rule. So one
backward pass of torch does the whole.

Source: Chefer, Gur and Wolf, "Transformer Interpretability Beyond Attention Visualization", CVPR 2021, section 3.
Compared with numbers of their code in tests/parity/test_explain.py. As there, biases take no share. An average of
tokens or of heads, which they do not have, hands back evenly.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from vitrail.core.attention import Attention
from vitrail.core.blocks import MLP, Residual, Sublayer
from vitrail.core.kernels import Kernel, attention_weights
from vitrail.errors import ExplanationError
from vitrail.explain.relevance import Maps, Traced, traceable, traced, way_back
from vitrail.explain.seam import Around, attentions, with_kernels

LEAST = 1e-9  # added to what is divided by


def share(relevance: Tensor, whole: Tensor) -> Tensor:
    """What comes back for each unit of the whole; nothing where there is nothing."""
    return torch.where(whole == 0, 0.0, relevance / (whole + LEAST))


def weighted(x: Tensor) -> Tensor:
    """The same numbers; what flows back is multiplied by them."""
    return x.detach() * (1 + x - x.detach())


def passed(x: Tensor, answer: Tensor) -> Tensor:
    """An answer that hands back to `x` all that it gets."""
    return answer.detach() + (x - x.detach())


def halved(x: Tensor) -> Tensor:
    """The same numbers; half flows back."""
    return x.detach() + (x - x.detach()) / 2


def shared(answer: Tensor, made: Tensor) -> Tensor:
    """An answer that hands back what it gets to all that `made` was made of, each by its part in it."""
    return answer.detach() + share(made - made.detach(), made.detach())


class Added(torch.autograd.Function):
    """A sum; of what flows back, either side gets as much as it has given, sample by sample."""

    @staticmethod
    def forward(context: Any, one: Tensor, other: Tensor) -> Tensor:
        context.save_for_backward(one, other)
        return one + other

    @staticmethod
    def backward(context: Any, *relevances: Any) -> Any:
        one, other = context.saved_tensors
        [relevance] = relevances
        parts = [side * share(relevance, one + other) for side in (one, other)]
        sums = [total(part) for part in parts]
        whole = sums[0].abs() + sums[1].abs()
        return tuple(
            part * share(share(sum.abs(), whole) * total(relevance), sum) for part, sum in zip(parts, sums, strict=True)
        )


def total(x: Float[Tensor, "batch tokens dim"]) -> Float[Tensor, "batch 1 1"]:
    """The sum of each sample."""
    return x.sum(dim=(1, 2), keepdim=True)


class AttributedLinear(nn.Linear):
    """Inputs share in what is positive: positive ones through positive weights, negative ones through negative."""

    def forward(self, input: Float[Tensor, "*batch inputs"]) -> Float[Tensor, "*batch outputs"]:
        x, weight = weighted(input), self.weight.detach()
        made = F.linear(x.clamp(min=0), weight.clamp(min=0)) + F.linear(x.clamp(max=0), weight.clamp(max=0))
        return shared(super().forward(input), made)


class AttributedNorm(nn.LayerNorm):
    """Passes on what it gets."""

    def forward(self, input: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch dim"]:
        return passed(input, super().forward(input))


class AttributedResidual(Residual):
    """Shares between the branch and what goes past it."""

    def forward(self, x: Float[Tensor, "batch tokens dim"], sublayer: Sublayer) -> Float[Tensor, "batch tokens dim"]:
        if self.place == "before":
            return Added.apply(x, self.scaled(sublayer(self.norm(x))))
        if self.place == "after":
            return self.norm(Added.apply(x, self.scaled(sublayer(x))))
        return Added.apply(x, self.scaled(self.norm(sublayer(x))))

    def scaled(self, branch: Float[Tensor, "batch tokens dim"]) -> Float[Tensor, "batch tokens dim"]:
        """The branch with its scale, which passes on what it gets."""
        return passed(branch, self.thin(branch))


class AttributedKernel(Around):
    """Shares between weights and values, and what reaches the weights between queries and keys."""

    def __init__(self, kernel: Kernel, name: str, kept: list[tuple[str, Tensor]]) -> None:
        super().__init__(kernel)
        self.name, self.kept = name, kept

    def after(
        self, answer: Tensor, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scale: float
    ) -> Float[Tensor, "batch heads query value_width"]:
        made = weighted(halved(traceable(query))) @ weighted(halved(key)).transpose(-2, -1)
        scores = shared(made, made)
        weights = passed(scores, attention_weights(query.detach(), key.detach(), mask, scale=scale))
        self.kept.append((self.name, weights))
        return shared(answer, weighted(halved(weights)) @ weighted(halved(value)))


class AttributedMLP(MLP):
    """Its activation passes on what it gets."""

    def forward(self, x: Float[Tensor, "batch tokens dim"]) -> Float[Tensor, "batch tokens dim"]:
        hidden = self.expand(x)
        return self.contract(passed(hidden, self.activation(hidden)))


RULES: dict[type[nn.Module], type[nn.Module]] = {
    nn.Linear: AttributedLinear,
    nn.LayerNorm: AttributedNorm,
    Residual: AttributedResidual,
    MLP: AttributedMLP,
}


def check_ruled(model: nn.Module) -> None:
    """Refuse blocks with a part that no rule was published for.

    Raises:
        ExplanationError: names it.
    """
    for name in attentions(model):
        block = model.get_submodule(name.rpartition(".")[0])
        for role, part in block.named_children():  # a bias of the scores only says who may look at whom
            if role != "bias" and not isinstance(part, Attention | Residual) and type(part) not in RULES:
                raise ExplanationError(
                    f"Attribution has no rule for {type(part).__name__}, which the blocks of this model have. "
                    f"Use --method relevance."
                )


def attributed(
    model: nn.Module,
    images: Float[Tensor, "batch channels height width"],
    answer: Callable[[Tensor], Float[Tensor, " batch"]],
) -> Traced:
    """Hand an answer back to the attention of each layer.

    Args:
        model: is not touched; no gradient is left in its parameters.
        images: prepared for it.
        answer: one number for each picture, out of what the model returns.

    Returns:
        The answers; what reached the attention of each layer; and the gradients that `traced` gives.

    Raises:
        ExplanationError: nothing here attends, or a part has no rule.
    """
    check_ruled(model)
    gradients = traced(model, images, answer).gradients
    kept: list[tuple[str, Tensor]] = []
    twin = with_kernels(
        model, lambda name, attention: AttributedKernel(attention.kernel, name, kept), attentions(model)
    )
    for part in twin.modules():
        part.__class__ = RULES.get(type(part), type(part))

    def seen(_: int, value: Tensor, reached: Maps) -> Traced:
        return Traced(value, [name for name, _ in kept], reached, gradients)

    [found] = way_back(twin, images, lambda outputs: [answer(outputs)], kept, seen)
    return found
