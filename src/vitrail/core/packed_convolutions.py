"""Convolutions that predict faster on CPU: norms folded into weights, weights laid out, rectifiers and sums fused.

In prediction a norm is a factor and a shift for each channel, and both go into the weights of the convolution before
it. oneDNN adds the other branch of a residual block and rectifies while a result is still in a register. Maps are kept
with their channels last, and the weights in the order that suits the size of the map, which is found anew when another
size comes.
"""

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from vitrail.core.convolutions import (
    BatchNorm,
    ConvNorm,
    StandardisedConv,
    channels_last,
    standardised,
    thinned,
    with_border,
)
from vitrail.core.layouts import Origin, is_float32_on_cpu, predicts


class ConvLayout:
    """A convolution as oneDNN likes it for maps of one shape, and what it was made of.

    It never changes, so copies of a model share it.

    Args:
        convolution: whose stride and dilation it has.
        weight, bias: what it computes with.
        padding: rows and columns around the map.
        shape: of the map.
        origin: the tensors that weight and bias were made of.
    """

    def __init__(
        self,
        convolution: nn.Conv2d,
        weight: Tensor,
        bias: Tensor | None,
        padding: tuple[int, ...],
        shape: torch.Size,
        origin: Origin,
    ) -> None:
        self.shape, self.origin, self.bias = shape, origin, bias
        self.where = [list(padding), list(convolution.stride), list(convolution.dilation), 1]
        weight = weight.contiguous(memory_format=torch.channels_last)
        self.weight = torch.ops.mkldnn._reorder_convolution_weight(weight, *self.where, list(shape))

    def __deepcopy__(self, memo: dict[int, Any]) -> "ConvLayout":
        return self

    def suits(self, x: Tensor, *tensors: Tensor) -> bool:
        """Whether it was made for a map of this shape, of these tensors as they are."""
        return self.shape == x.shape and self.origin.is_still(*tensors)

    def __call__(self, x: Tensor, around: Tensor | None = None, *, relu: bool = False) -> Tensor:
        """The convolution, plus what goes around it, rectified."""
        name = "relu" if relu else "none"
        if around is None:
            return torch.ops.mkldnn._convolution_pointwise(x, self.weight, self.bias, *self.where, name, [], "")
        return torch.ops.mkldnn._convolution_pointwise.binary(
            x, around, self.weight, self.bias, *self.where, "add", 1.0, name if relu else None, [], ""
        )


def is_hooked(part: nn.Module) -> bool:
    """Whether somebody listens to a part, which must then be called."""
    return bool(part._forward_hooks or part._forward_pre_hooks)


class PackedConvNorm(ConvNorm):
    """A `ConvNorm` whose norm is part of its weights while it predicts in float32 on CPU; elsewhere it is itself."""

    layout: ConvLayout | None

    def forward(
        self,
        x: Float[Tensor, "batch inputs rows columns"],
        valid: Bool[Tensor, "batch rows columns"] | None = None,
        around: Float[Tensor, "batch outputs fewer_rows fewer_columns"] | None = None,
    ) -> Float[Tensor, "batch outputs fewer_rows fewer_columns"]:
        if not self.can_fold(x):
            return super().forward(x, valid, around)
        x, layout, tensors = channels_last(x), self.layout, self.tensors()
        if layout is None or not layout.suits(x, *tensors):
            layout = ConvLayout(self.convolution, *self.folded(), self.border, x.shape, Origin(*tensors))
            self.layout = layout
        x = layout(x, around if around is None else channels_last(around), relu=self.relu)
        shown = thinned(valid, self.stride)
        return x if shown is None else x.mul_(shown[:, None].to(x))  # in place: seven times as fast as filling

    def tensors(self) -> tuple[Tensor, ...]:
        """All that the answer depends on."""
        norm = self.norm
        return self.convolution.weight, norm.weight, norm.bias, norm.running_mean, norm.running_var

    @property
    def border(self) -> tuple[int, ...]:
        """Rows and columns of zeros around a map."""
        padding = self.convolution.padding
        assert isinstance(padding, tuple)
        return padding

    def can_fold(self, x: Tensor) -> bool:
        learning = self.norm.training and not self.norm.frozen
        hooked = is_hooked(self.convolution) or is_hooked(self.norm)
        return x.numel() > 0 and predicts(x, *self.tensors()) and not learning and not hooked

    def folded(self) -> tuple[Tensor, Tensor]:
        """The weight and the bias of a convolution that answers what convolution and norm do."""
        weight, factor, shift, mean, variance = (tensor.detach() for tensor in self.tensors())
        factor = factor * torch.rsqrt(variance + self.norm.eps)
        return weight * factor[:, None, None, None], shift - mean * factor


class PackedStandardisedConv(StandardisedConv):
    """A `StandardisedConv` that has standardised its weights while it predicts in float32 on CPU."""

    layout: ConvLayout | None

    def forward(
        self, input: Float[Tensor, "batch inputs rows columns"]
    ) -> Float[Tensor, "batch outputs fewer_rows fewer_columns"]:
        if not (input.numel() > 0 and predicts(input, self.weight)):
            return super().forward(input)
        x = channels_last(with_border(input, self.kernel_size[0], self.stride[0], self.border))
        layout = self.layout
        if layout is None or not layout.suits(x, self.weight):
            weight = standardised(self.weight.detach(), self.weight_eps)
            layout = self.layout = ConvLayout(self, weight, None, (0, 0), x.shape, Origin(self.weight))
        return layout(x)


PACKED: dict[type, type] = {ConvNorm: PackedConvNorm, StandardisedConv: PackedStandardisedConv}


def packable_convolution(part: nn.Module) -> bool:
    """Whether a part is a convolution of ours with weights of its own; subclasses may mean something else."""
    if type(part) is StandardisedConv:
        return isinstance(part.weight, nn.Parameter) and is_float32_on_cpu(part.weight)
    if type(part) is not ConvNorm or type(part.norm) is not BatchNorm or type(part.convolution) is not nn.Conv2d:
        return False
    weight = part.convolution.weight
    return isinstance(weight, nn.Parameter) and is_float32_on_cpu(weight)


def pack(part: nn.Module) -> None:
    """Make a convolution its packed kind; it keeps its hooks, and its place wherever it is referred to."""
    part.__class__ = PACKED[type(part)]
    part.layout = None  # type: ignore[assignment]  # made when the first map comes, for its size
