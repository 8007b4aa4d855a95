"""Convolutions with the norm that follows them, and maps of which only a part shows the picture.

A batch of pictures of several sizes is padded at the right and at the bottom, and `valid` says which cells show a
picture. Zeros are put back into the others after each layer, as if they were the border of a smaller map, so a picture
is answered as it is alone. The cells of a picture are counted as its map would have them: a stride of 2 leaves every
second one, beginning with the first, which is what convolutions with an odd kernel make of it.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from vitrail.core.stacks import Blocks
from vitrail.core.tokens import Feature
from vitrail.errors import ConfigError

Norm = Literal["batch", "frozen"]
Border = Literal["even", "same"]
MOMENTUM = 0.1  # share of a batch in the running statistics, as in torch


def thinned(valid: Bool[Tensor, "batch rows columns"] | None, stride: int) -> Tensor | None:
    """Which cells show a picture after a layer with this stride: every `stride`-th, beginning with the first."""
    if valid is None or stride == 1:
        return valid
    rows, columns = (torch.arange(0, side, stride, device=valid.device) for side in valid.shape[1:])
    return valid[:, rows[:, None], columns]  # slices would hold an exported program to even or to odd sizes


def without_padding(
    x: Float[Tensor, "batch dim rows columns"], valid: Bool[Tensor, "batch rows columns"] | None
) -> Float[Tensor, "batch dim rows columns"]:
    """The map with zeros where it shows no picture."""
    return x if valid is None else torch.where(valid[:, None], x, 0.0)  # filling would lose the layout, and is slower


def channels_last(x: Float[Tensor, "batch dim rows columns"]) -> Float[Tensor, "batch dim rows columns"]:
    """The same map with all channels of a cell side by side in memory, as a processor convolves and pools fastest."""
    return x.contiguous(memory_format=torch.channels_last) if x.device.type == "cpu" else x


def nearest(
    valid: Bool[Tensor, "batch height width"] | None, x: Float[Tensor, "batch dim rows columns"]
) -> Bool[Tensor, "batch rows columns"] | None:
    """Which cells of a map show a picture, by nearest resizing of the pixels that do: as DETR's code finds them."""
    if valid is None:
        return None
    return F.interpolate(valid[:, None].float(), size=x.shape[2:], mode="nearest")[:, 0].bool()


class BatchNorm(nn.Module):
    """Each channel brought to mean 0 and variance 1, then scaled and shifted.

    In training the mean and variance are those of the batch, padding included, and what is met is remembered for
    prediction. A frozen norm uses what is remembered, always, and learns nothing; with it a batch may be small. Both
    hold the same four tensors. torch counts the batches beside them, which decides nothing.

    Args:
        width: channels.
        eps: added to the variance.
        frozen: keep all four tensors as they are.

    Source: Ioffe and Szegedy, "Batch Normalization", ICML 2015; frozen in Carion et al., ECCV 2020, section A.4.
    """

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, width: int, *, eps: float = 1e-5, frozen: bool = False) -> None:
        super().__init__()
        self.eps, self.frozen = eps, frozen
        for name, first in (("weight", torch.ones(width)), ("bias", torch.zeros(width))):
            if frozen:
                self.register_buffer(name, first)
            else:
                setattr(self, name, nn.Parameter(first))
        self.register_buffer("running_mean", torch.zeros(width))
        self.register_buffer("running_var", torch.ones(width))

    def forward(self, x: Float[Tensor, "batch dim rows columns"]) -> Float[Tensor, "batch dim rows columns"]:
        learning = self.training and not self.frozen
        return F.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, learning, MOMENTUM, self.eps
        )


class ConvNorm(nn.Module):
    """A convolution without bias, its norm, and a rectifier unless it is left out.

    Args:
        inputs, outputs: channels.
        kernel: side, odd; the border is padded so that a stride of 1 keeps the size.
        stride: pixels from one cell to the next.
        dilation: pixels from one weight to the next.
        norm: `batch` or `frozen`.
        eps: of the norm.
        relu: whether negative values become zero at the end.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        *,
        stride: int = 1,
        dilation: int = 1,
        norm: Norm = "batch",
        eps: float = 1e-5,
        relu: bool = True,
    ) -> None:
        super().__init__()
        self.stride, self.relu = stride, relu
        border = dilation * (kernel - 1) // 2
        self.convolution = nn.Conv2d(
            inputs, outputs, kernel, stride=stride, padding=border, dilation=dilation, bias=False
        )
        self.norm = BatchNorm(outputs, eps=eps, frozen=norm == "frozen")

    def forward(
        self,
        x: Float[Tensor, "batch inputs rows columns"],
        valid: Bool[Tensor, "batch rows columns"] | None = None,
        around: Float[Tensor, "batch outputs fewer_rows fewer_columns"] | None = None,
    ) -> Float[Tensor, "batch outputs fewer_rows fewer_columns"]:
        """The next map.

        Args:
            x: the map before.
            valid: where it shows a picture; the answer is zero where it shows none.
            around: what is added before the rectifier: the input of a residual block, zero where no picture is shown.
        """
        x = without_padding(self.norm(self.convolution(x)), thinned(valid, self.stride))
        if around is not None:
            x = x + around
        return F.relu(x) if self.relu else x


class MaxPool(nn.Module):
    """The largest value in each square of 3 x 3 cells, two cells apart.

    Padding counts as zero, which no rectified map is below.
    """

    stride = 2

    def forward(
        self, x: Float[Tensor, "batch dim rows columns"], valid: Bool[Tensor, "batch rows columns"] | None = None
    ) -> Float[Tensor, "batch dim fewer_rows fewer_columns"]:
        x = F.max_pool2d(x, kernel_size=3, stride=self.stride, padding=1)
        return without_padding(x, thinned(valid, self.stride))


def same_border(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """How many zeros TensorFlow's `SAME` puts before and after a line, where an odd one goes behind.

    An even and an odd line are thus padded otherwise, so a picture answers alike alone and in a padded batch only where
    the sides of both divide by the stride of the whole network.
    """
    missing = (-(-size // stride) - 1) * stride + kernel - size
    return missing // 2, missing - missing // 2


def with_border(
    x: Float[Tensor, "batch dim rows columns"], kernel: int, stride: int, border: Border
) -> Float[Tensor, "batch dim height width"]:
    """A map with zeros around it, so that a layer with this kernel gives one cell for each `stride` of its cells."""
    if kernel == 1:
        return x
    if border == "even":
        return F.pad(x, ((kernel - 1) // 2,) * 4)
    top, bottom = same_border(x.shape[2], kernel, stride)
    left, right = same_border(x.shape[3], kernel, stride)
    return F.pad(x, (left, right, top, bottom))


def standardised(weight: Float[Tensor, "outputs inputs rows columns"], eps: float) -> Tensor:
    """The weights of each output with mean 0 and variance 1.

    Source: Qiao et al., "Micro-Batch Training with Batch-Channel Normalization and Weight Standardization", 2019.
    """
    variance, mean = torch.var_mean(weight, dim=(1, 2, 3), correction=0, keepdim=True)
    return (weight - mean) * torch.rsqrt(variance + eps)


class StandardisedConv(nn.Conv2d):
    """A convolution without bias that standardises its weights each time it is used.

    Args:
        inputs, outputs: channels.
        kernel: side, odd.
        stride: pixels from one cell to the next.
        border: `even` pads all sides alike, `same` as TensorFlow does.
        weight_eps: added to the variance of the weights.
    """

    def __init__(
        self, inputs: int, outputs: int, kernel: int, *, stride: int = 1, border: Border, weight_eps: float
    ) -> None:
        super().__init__(inputs, outputs, kernel, stride=stride, bias=False)
        self.border: Border = border
        self.weight_eps = weight_eps

    def forward(
        self, input: Float[Tensor, "batch inputs rows columns"]
    ) -> Float[Tensor, "batch outputs fewer_rows fewer_columns"]:
        x = with_border(input, self.kernel_size[0], self.stride[0], self.border)
        return F.conv2d(x, standardised(self.weight, self.weight_eps), stride=self.stride)


class GroupNorm(nn.GroupNorm):
    """Groups of channels brought to mean 0 and variance 1 over the whole map, then each scaled and shifted.

    Padding does not count, and is zero in the answer.
    """

    def forward(
        self, input: Float[Tensor, "batch dim rows columns"], valid: Bool[Tensor, "batch rows columns"] | None = None
    ) -> Float[Tensor, "batch dim rows columns"]:
        if valid is None:
            return super().forward(input)
        shown = valid[:, None, None]
        x = input.unflatten(1, (self.num_groups, -1)).masked_fill(~shown, 0.0)
        cells = (valid.sum(dim=(1, 2)) * x.shape[2]).clamp(min=1).view(-1, 1, 1, 1, 1)
        x = (x - x.sum(dim=(2, 3, 4), keepdim=True) / cells).masked_fill(~shown, 0.0)
        x = x * torch.rsqrt(x.square().sum(dim=(2, 3, 4), keepdim=True) / cells + self.eps)
        x = x.flatten(1, 2) * self.weight[:, None, None] + self.bias[:, None, None]
        return without_padding(x, valid)


class Stage(Blocks):
    """Blocks that work on maps of one size; the first of them may make it smaller."""

    def __init__(self, blocks: Iterable[nn.Module], stride: int) -> None:
        super().__init__(blocks)
        self.stride = stride

    def forward(self, x: Tensor, valid: Tensor | None = None) -> Tensor:
        for number, block in enumerate(self):
            here = valid if number == 0 else thinned(valid, self.stride)
            x = self.run(block, x, here)
        return x


def after_stages(
    stages: nn.ModuleList, x: Tensor, shown: Tensor | None, at: Sequence[int], stride: int
) -> list[Feature]:
    """The maps after chosen stages, counted from 0; later ones are not run.

    Args:
        stages: all of them.
        x: the map before the first.
        shown: where it shows a picture.
        at: which are wanted, in this order.
        stride: pixels between its cells.

    Raises:
        ConfigError: no stage, or one that there is not.
    """
    if isinstance(at, int):
        raise ConfigError(f"{at} is one stage; expected a sequence of them, such as ({at},).")
    outside = [stage for stage in at if not 0 <= stage < len(stages)]
    if outside or not at:
        asked = f"There is no stage {outside[0]}" if outside else "No stage was named"
        raise ConfigError(f"{asked}: this model has stages 0 to {len(stages) - 1}.")
    found: dict[int, Feature] = {}
    for number in range(max(at) + 1):
        stage: Any = stages[number]
        x, shown, stride = stage(x, shown), thinned(shown, stage.stride), stride * stage.stride
        found[number] = Feature(x, (stride, stride), shown)
    return [found[number] for number in at]
