"""Where explanations look at a model: a kernel around the one that each `Attention` of its twin has.

The twin is a structural copy that shares every parameter and buffer, so what is done to its kernels is noticed by
nobody who uses the model meanwhile.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vitrail.core.attention import Attention
from vitrail.core.kernels import Kernel, attention_weights, fused, plain
from vitrail.core.quick import quick
from vitrail.core.twins import twin_of
from vitrail.errors import ConfigError, ExplanationError


class Around(nn.Module, ABC):
    """Asks the kernel it is given, and then does what it is there for: note the weights, or change the answer.

    It is a module because a kernel may be one, with parameters of its own.
    """

    def __init__(self, kernel: Kernel) -> None:
        super().__init__()
        self.kernel = kernel

    def forward(
        self,
        query: Float[Tensor, "batch heads query width"],
        key: Float[Tensor, "batch heads key width"],
        value: Float[Tensor, "batch heads key value_width"],
        mask: Tensor | None,
        *,
        scale: float,
        dropout: float = 0.0,
    ) -> Float[Tensor, "batch heads query value_width"]:
        answer = self.kernel(query, key, value, mask, scale=scale, dropout=dropout)
        return self.after(answer, query, key, value, mask, scale)

    @abstractmethod
    def after(
        self, answer: Tensor, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scale: float
    ) -> Float[Tensor, "batch heads query value_width"]:
        """What is answered in the end, by the kernel's answer and what it was asked."""


def exact_weights(
    query: Float[Tensor, "batch heads rows width"],
    key: Float[Tensor, "batch heads key width"],
    mask: Tensor | None,
    scale: float,
) -> Float[Tensor, "batch heads rows key"]:
    """How much each query looks at each key, in float32 where the model computes in less; no gradient comes back."""
    exact = torch.promote_types(query.dtype, torch.float32)
    with torch.autocast(query.device.type, enabled=False):
        mask = None if mask is None else mask.detach()
        return attention_weights(query.detach().to(exact), key.detach().to(exact), mask, scale=scale)


def attentions(model: nn.Module) -> dict[str, Attention]:
    """The parts of a model that attend, by name, in the model's order.

    Raises:
        ExplanationError: there are none.
    """
    found = {name: part for name, part in model.named_modules() if isinstance(part, Attention)}
    if not found:
        raise ExplanationError(
            f"{type(model).__name__} has no attention to show: none of its parts is a vitrail Attention. "
            f"Ask a transformer, such as vit-small-16, and give the plain model rather than an exported or packed one. "
            f"`vitrail explain RUN PICTURE --method gradient` goes by pixel and needs no attention."
        )
    return found


PROBE = 4  # tokens by which a kernel of somebody's own is tried
CLOSE = 0.05  # of the largest value: what kernels of low precision may differ in


def mixes_by_softmax(attention: Attention) -> bool:
    """Whether the kernel of an `Attention` answers as softmax(scale q k^T) v does, which is what its weights mean."""
    kernel = attention.kernel
    if isinstance(kernel, Around) or kernel in (quick, fused, plain):
        return True
    weight = attention.query.weight
    shape = (3, 1, attention.heads, PROBE, weight.shape[0] // attention.heads)
    query, key, value = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(weight)
    truth = plain(query, key, value, None, scale=attention.scale)
    try:
        with torch.no_grad():
            answer = kernel(query, key, value, None, scale=attention.scale, dropout=0.0)
            return answer.shape == truth.shape and bool((answer - truth).abs().max() <= CLOSE * truth.abs().max())
    except Exception:  # whatever a kernel raises that takes no four tokens: it cannot be tried
        return False


def check_kernels(every: dict[str, Attention], names: Iterable[str]) -> None:
    """Refuse to say where attention looked that did not look by softmax.

    Raises:
        ExplanationError: a kernel that somebody has put there computes something else.
    """
    for name in names:
        if not mixes_by_softmax(every[name]):
            raise ExplanationError(
                f"The kernel of {name or 'this attention'} is not one of vitrail's, and mixes values otherwise than "
                f"softmax(q k^T) does: the weights of softmax, which would be drawn, were never computed. "
                f"Maps of method='gradient' (--method gradient) need none."
            )


def own_twin(model: nn.Module) -> nn.Module:
    """The twin that will be looked at.

    Raises:
        ExplanationError: the model cannot be copied.
    """
    try:
        return twin_of(model)
    except ConfigError as error:
        raise ExplanationError(
            f"{error} So its attention cannot be recorded. Give the plain model: not sharded, packed or exported."
        ) from error


def with_kernels(model: nn.Module, around: Callable[[str, Attention], Around], names: Iterable[str]) -> nn.Module:
    """A twin of a model in which some attention has a kernel around its own.

    Args:
        model: a plain module; it stays as it is.
        around: makes the kernel, by the name of an `Attention` and the `Attention` itself.
        names: whose.

    Raises:
        ExplanationError: there is no attention, or one of these does not mix by softmax.
    """
    twin = own_twin(model)
    every, names = attentions(twin), list(names)
    check_kernels(every, names)
    for name in names:
        every[name].kernel = around(name, every[name])
    return twin


def check_within(kind: str, places: Iterable[int], count: int, name: str) -> None:
    """Refuse the number of a layer, head or token that `name` does not have."""
    for place in places:
        if not 0 <= place < count:
            raise ExplanationError(f"There is no {kind} {place}: {name} has {kind}s 0 to {count - 1}.")
