"""Attention weighed by what it did for an answer.

Attention says what was mixed, and the gradient of an answer says what of that mattered. Their product, where it speaks
for the answer, is carried through the layers as rollout carries attention.

Source: Chefer, Gur and Wolf, "Generic Attention-model Explainability for Interpreting Bi-Modal and Encoder-Decoder
Transformers", ICCV 2021: equations 5 and 6 for one stream of tokens, and 7 to 10 where a decoder looks at what an
encoder has read. The first are compared with numbers of their code in tests/parity/test_explain.py, the others with the
equations written out in tests/oracles/test_streams.py.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vitrail.core.kernels import Kernel, attention_weights
from vitrail.explain.seam import Around, attentions, with_kernels
from vitrail.explain.streams import Flow, Step, identity, parted

Maps = list[Float[Tensor, "batch heads query key"]]
Kept = TypeVar("Kept")


def spoke(
    attention: Float[Tensor, "batch heads query key"], gradient: Float[Tensor, "batch heads query key"]
) -> Float[Tensor, "batch query key"]:
    """What of some attention spoke for the answer (equation 5)."""
    return (attention * gradient).clamp(min=0).mean(dim=1)


def relevance(spoken: Sequence[Float[Tensor, "batch tokens tokens"]]) -> Float[Tensor, "batch tokens tokens"]:
    """How much each token of the input (columns) spoke for an answer through each token of the output (equation 6).

    Args:
        spoken: what spoke for it in each layer (`spoke`), from the first to the last.
    """
    found = identity(spoken[0])
    for one in spoken:
        found = found + one @ found
    return found


def evened(found: Float[Tensor, "batch tokens tokens"]) -> Float[Tensor, "batch tokens tokens"]:
    """Relevance whose rows sum to one beside the identity (equations 8 and 9); where there is none, the identity."""
    whole = identity(found)
    beside = found - whole
    sums = beside.sum(dim=-1, keepdim=True)
    return torch.where(sums > 0, beside / sums, 0.0) + whole


def relevance_across(encoder: Float[Tensor, "batch source source"], decoder: Sequence[Step]) -> Flow:
    """The same through a decoder that looks at what an encoder has read (equations 6, 7 and 10).

    Args:
        encoder: relevance in the encoder; the tokens that the decoder looks at are its last ones.
        decoder: what spoke for the answer in each attention of the decoder, from the first to the last.
    """
    own = identity(decoder[0].mixed)
    read = own.new_zeros(*own.shape[:2], encoder.shape[-1])
    for across, spoken in decoder:
        if across:
            read = read + evened(own).mT @ spoken @ evened(encoder)[:, -spoken.shape[-1] :]
        else:
            own, read = own + spoken @ own, read + spoken @ read
    return Flow(own, read)


def traceable(x: Tensor) -> Tensor:
    """The same numbers, to which gradients find back even where nothing before them learns."""
    return x if x.requires_grad else x.detach().requires_grad_()


class TracedKernel(Around):
    """Answers with the kernel it is given, to the last bit, and lets gradients reach the weights beside it."""

    def __init__(self, kernel: Kernel, name: str, kept: list[tuple[str, Tensor]]) -> None:
        super().__init__(kernel)
        self.name, self.kept = name, kept

    def after(
        self, answer: Tensor, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scale: float
    ) -> Float[Tensor, "batch heads query value_width"]:
        weights = attention_weights(traceable(query), key, mask, scale=scale)
        self.kept.append((self.name, weights))
        mixed = weights @ value
        return answer.detach() + (mixed - mixed.detach())  # adds zero, and the way back


class Traced(NamedTuple):
    """What one pass through a model gives.

    Attributes:
        answer: what the model answered, one number for each sample.
        names: of the layers, in the order in which they were asked.
        maps: the attention of each layer.
        gradients: of the sum of the answers with respect to them.
    """

    answer: Float[Tensor, " batch"]
    names: list[str]
    maps: Maps
    gradients: Maps


def traced(
    model: nn.Module, inputs: Tensor | Sequence[Tensor | None], answer: Callable[[Any], Float[Tensor, " batch"]]
) -> Traced:
    """Run a twin of a model, and take the gradient of an answer with respect to all attention in it.

    Args:
        model: is not touched; no gradient is left in its parameters.
        inputs: what the model is called with, prepared for it.
        answer: one number for each sample, out of what the model returns.

    Raises:
        ExplanationError: nothing here attends.
    """
    [found] = traced_each(model, inputs, lambda outputs: [answer(outputs)], lambda _, seen: seen)
    return found


def traced_each(
    model: nn.Module,
    inputs: Tensor | Sequence[Tensor | None],
    answers: Callable[[Any], Sequence[Float[Tensor, " batch"]]],
    keep: Callable[[int, Traced], Kept],
) -> list[Kept]:
    """The same for several answers of one pass, of which no more is remembered than is wanted.

    Args:
        model: is not touched; no gradient is left in its parameters.
        inputs: what the model is called with, prepared for it.
        answers: each one number for each sample, out of what the model returns.
        keep: what is wanted of an answer, by its number.

    Raises:
        ExplanationError: nothing here attends.
    """
    kept: list[tuple[str, Tensor]] = []
    twin = with_kernels(model, lambda name, attention: TracedKernel(attention.kernel, name, kept), attentions(model))

    def seen(number: int, value: Tensor, gradients: Maps) -> Kept:
        return keep(number, Traced(value, [name for name, _ in kept], [one.detach() for _, one in kept], gradients))

    return way_back(twin, inputs, answers, kept, seen)


def way_back(
    twin: nn.Module,
    inputs: Tensor | Sequence[Tensor | None],
    answers: Callable[[Any], Sequence[Float[Tensor, " batch"]]],
    kept: Sequence[tuple[str, Tensor]],
    keep: Callable[[int, Tensor, Maps], Kept],
) -> list[Kept]:
    """The answers of a twin, and the gradients of their sums with respect to what its kernels have kept on the way.

    A layer that an answer does not depend on has a gradient of zero. `keep` takes what is wanted of each answer, by its
    number, out of both.
    """
    with torch.inference_mode(False), torch.enable_grad():
        given = [inputs] if isinstance(inputs, Tensor) else inputs
        values = answers(twin.eval()(*(None if one is None else one.clone() for one in given)))
        maps = [one for _, one in kept]
        found = []
        for number, value in enumerate(values, start=1):
            again = number < len(values)
            gradients = torch.autograd.grad(value.sum(), maps, retain_graph=again, materialize_grads=True)
            found.append(keep(number - 1, value.detach(), Maps(gradients)))
        return found


def relevance_of(model: nn.Module, seen: Traced) -> Flow:
    """Relevance through a model, whether or not it has a decoder.

    Args:
        model: whose attention it is.
        seen: by `traced`, or by `attributed`.

    Raises:
        ExplanationError: the layers of one stack attend over different tokens.
    """
    spoken = [spoke(attention, gradient) for attention, gradient in zip(seen.maps, seen.gradients, strict=True)]
    encoder, decoder = parted(model, seen.names, spoken)
    within = relevance(encoder)
    return relevance_across(within, decoder) if decoder else Flow(within)
