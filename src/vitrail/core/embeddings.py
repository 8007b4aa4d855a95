"""Pictures cut into patches, each made a vector."""

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from vitrail.errors import ConfigError


def nearest_sizes(side: int, patch: int) -> str:
    """The sentence part that names the sides next to `side` which divide into patches."""
    below = side // patch * patch
    return f"{below} and {below + patch}" if below else f"{patch}"


def check_divides(rows: int, columns: int, patch: tuple[int, int]) -> None:
    """Refuse a picture whose sides do not divide into patches, rather than drop its last pixels.

    Raises:
        ConfigError: names the side and the nearest sizes that do divide.
    """
    for side, size, pixels in (("height", rows, patch[0]), ("width", columns, patch[1])):
        if not size or size % pixels:
            raise ConfigError(
                f"An image {side} of {size} pixels does not divide into patches of {pixels}. "
                f"The nearest sizes that do: {nearest_sizes(size, pixels)}."
            )


def check_images(images: Tensor, weight: Tensor) -> None:
    """Refuse what is no batch of prepared pictures in the precision of the weights.

    Raises:
        ConfigError: no tensor, another number of axes, whole numbers, or another kind of number than the weights; says
            what to do.
    """
    if not isinstance(images, Tensor):
        raise ConfigError(
            f"{type(images).__name__} is no tensor; expected prepared pixels (batch, channels, height, width): "
            f"model.card.preprocessing(picture).pixels[None] makes them of a picture, and vitrail.predictor(model) "
            f"takes pictures as they are."
        )
    if images.ndim != 4:
        hint = " Add a batch axis: images[None]." if images.ndim == 3 else ""
        raise ConfigError(
            f"The images have shape {tuple(images.shape)}; expected (batch, channels, height, width).{hint}"
        )
    if not images.is_floating_point():
        raise ConfigError(
            f"The images are {images.dtype}; expected prepared pixels, which are floating: "
            f"model.card.preprocessing(picture).pixels makes them of a picture."
        )
    if images.shape[1] != weight.shape[1] == images.shape[3]:
        raise ConfigError(
            f"The images have shape {tuple(images.shape)}, with the channels last; expected (batch, channels, height, "
            f"width). Use images.movedim(3, 1)."
        )
    if torch.compiler.is_compiling() or images.is_meta or torch.is_autocast_enabled(images.device.type):
        return  # autocast mixes them on purpose; meta tensors only have shapes, and no autocast
    if images.dtype != weight.dtype:
        raise ConfigError(
            f"The images are {images.dtype} and the weights {weight.dtype}. Use images.to({weight.dtype}), or "
            f"model.to({images.dtype})."
        )


class PatchEmbed(nn.Module):
    """One linear map for each patch, the same for all of them: a convolution whose stride is its size.

    Args:
        channels: of the picture.
        dim: width of a token.
        patch: height and width of a patch, pixels.

    Source: Dosovitskiy et al., ICLR 2021, eq. 1.
    """

    def __init__(self, channels: int, dim: int, patch: tuple[int, int]) -> None:
        super().__init__()
        self.channels, self.stride = channels, patch
        self.project = nn.Conv2d(channels, dim, kernel_size=patch, stride=patch)

    def forward(self, images: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch dim rows columns"]:
        check_channels(images.shape[1], self.channels)
        check_divides(images.shape[2], images.shape[3], self.stride)
        return self.project(images)


class ConvStem(nn.Module):
    """A few stride-2 convolutions and a 1x1 in place of one large patch; training becomes steadier.

    Args:
        channels: of the picture.
        dim: width of a token.
        widths: channels after each 3x3 convolution; four of them make patches of 16 pixels.
        last: `norm` follows the last 3x3 with batch norm and ReLU as the paper does; `bias` leaves it linear, as
            timm's `ConvStem` does.

    Source: Xiao et al., "Early Convolutions Help Transformers See Better", NeurIPS 2021, section 4.
    """

    def __init__(
        self, channels: int, dim: int, widths: tuple[int, ...], *, last: Literal["norm", "bias"] = "norm"
    ) -> None:
        super().__init__()
        self.channels, self.stride = channels, (2 ** len(widths), 2 ** len(widths))
        inputs = (channels, *widths[:-1])
        linear = [last == "bias" and step == len(widths) - 1 for step in range(len(widths))]
        self.convolutions = nn.ModuleList(
            nn.Conv2d(before, after, kernel_size=3, stride=2, padding=1, bias=plain)
            for before, after, plain in zip(inputs, widths, linear, strict=True)
        )
        self.norms = nn.ModuleList(
            nn.BatchNorm2d(width) for width, plain in zip(widths, linear, strict=True) if not plain
        )
        self.project = nn.Conv2d(widths[-1], dim, kernel_size=1)

    def forward(self, images: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch dim rows columns"]:
        check_channels(images.shape[1], self.channels)
        check_divides(images.shape[2], images.shape[3], self.stride)
        x = images
        for step, convolution in enumerate(self.convolutions):
            x = convolution(x)
            if step < len(self.norms):
                x = F.relu(self.norms[step](x))
        return self.project(x)


def check_channels(given: int, expected: int) -> None:
    """Refuse a picture with another number of channels than the model reads."""
    if given != expected:
        raise ConfigError(
            f"The image has {given} channels and the model reads {expected}. "
            f"`create_model(..., channels={given})` makes one that fits; weights are inflated from {expected}."
        )
