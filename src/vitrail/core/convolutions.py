"""Convolutions with the norm that follows them, and maps of which only a part shows the picture.

A batch of pictures of several sizes is padded at the right and at the bottom, and `valid` says which cells show a
picture. Zeros are put back into the others after each layer, as if they were the border of a smaller map, so a picture
is answered as it is alone. The cells of a picture are counted as its map would have them: a stride of 2 leaves every
second one, beginning with the first, which is what convolutions with an odd kernel make of it.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

Norm = Literal["batch", "frozen"]
MOMENTUM = 0.1  # share of a batch in the running statistics, as in torch


def thinned(valid: Bool[Tensor, "batch rows columns"] | None, stride: int) -> Tensor | None:
    """Which cells show a picture after a layer with this stride: every `stride`-th, beginning with the first."""
    return valid if valid is None or stride == 1 else valid[:, ::stride, ::stride]


def without_padding(
    x: Float[Tensor, "batch dim rows columns"], valid: Bool[Tensor, "batch rows columns"] | None
) -> Float[Tensor, "batch dim rows columns"]:
    """The map with zeros where it shows no picture."""
    return x if valid is None else x.masked_fill(~valid[:, None], 0.0)


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
            around: what is added before the rectifier: the input of a residual block.
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
