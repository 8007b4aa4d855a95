"""ResNet: a deep stack of convolutions, each pair or triple of which only adds to what it was given.

Source: He et al., "Deep Residual Learning for Image Recognition", CVPR 2016. The stride of a bottleneck stands on its
3x3 convolution, as in torchvision, timm and transformers ("v1.5") and not on the first 1x1 of the paper. As the
backbone of DETR (Carion et al., ECCV 2020) its norms are frozen, and in its DC5 the last stage is dilated.
Compared with torchvision, timm and transformers in tests/parity/test_resnet.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from jaxtyping import Bool, Float
from torch import Tensor, nn

from vitrail.core.convolutions import (
    ConvNorm,
    MaxPool,
    Norm,
    Stage,
    after_stages,
    channels_last,
    nearest,
    thinned,
    without_padding,
)
from vitrail.core.embeddings import check_channels, check_images
from vitrail.core.init import init_convolutions
from vitrail.core.tokens import Feature, Tokens, mean_of_patches, tokens_of
from vitrail.errors import ConfigError
from vitrail.fields import Range, check_fields, check_ranges
from vitrail.geometry.grid import pair

STAGES = 4  # the most that any published file names
EXPANSION = {"basic": 1, "bottleneck": 4}  # how much wider a block's answer is than its 3x3 convolution
STEM_STRIDE = 4  # pixels between cells of the first stage
SIZE = Range(1, 2**24)
RANGES = {
    "image": SIZE, "channels": SIZE, "layers": Range(1, 1000), "stem": SIZE, "widths": SIZE, "classes": Range(0, 2**24),
    "eps": Range(0, above=True, usual="1e-5"),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class ResNetConfig:
    """Everything that shapes a ResNet. The defaults are ResNet-50."""

    family: ClassVar[str] = "resnet"

    image: int | tuple[int, int] = 224  # what it was trained on, side or rows and columns, in pixels; it reads any size
    channels: int = 3  # of the image
    stem: int = 64  # width of the 7x7 convolution
    block: Literal["basic", "bottleneck"] = "bottleneck"  # two 3x3 convolutions, or a 3x3 between two 1x1
    layers: tuple[int, ...] = (3, 4, 6, 3)  # blocks of each stage
    widths: tuple[int, ...] = (64, 128, 256, 512)  # of the 3x3 convolutions of each; a bottleneck answers four times it
    norm: Norm = "batch"
    eps: float = 1e-5  # of every norm
    dilated: bool = False  # the last stage keeps the grid of the one before, and looks twice as far (DC5)
    padding: Literal["exact", "original"] = "exact"  # whether a picture in a padded batch answers as alone
    classes: int = 1000  # 0 leaves out the head: the answer is the mean of the last map

    def __post_init__(self) -> None:
        for name in ("image", "layers", "widths"):
            if not isinstance(getattr(self, name), int):
                object.__setattr__(self, name, tuple(getattr(self, name)))  # a list, as JSON gives it
        check_fields(self)
        check_ranges(self, "", **RANGES)
        if not len(self.layers) == len(self.widths) <= STAGES or not self.layers:
            raise ConfigError(
                f"layers={self.layers} and widths={self.widths} need one number for each stage, and there are 1 to "
                f"{STAGES} stages."
            )

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns of the image, pixels."""
        return pair(self.image)

    @property
    def strides(self) -> tuple[int, ...]:
        """Pixels between neighbouring cells of each stage's map."""
        last = len(self.layers) - 1
        return tuple(STEM_STRIDE * 2 ** (stage - (self.dilated and 0 < stage == last)) for stage in range(last + 1))

    @property
    def multiple(self) -> tuple[int, int]:
        """By what the rows and columns of a picture must divide: any number will do."""
        return (1, 1)

    @property
    def dims(self) -> tuple[int, ...]:
        """Width of each stage's map."""
        return tuple(EXPANSION[self.block] * width for width in self.widths)


BASIC: dict[str, Any] = {"block": "basic"}

VARIANTS = {
    "resnet-18": ResNetConfig(**BASIC, layers=(2, 2, 2, 2)),
    "resnet-34": ResNetConfig(**BASIC, layers=(3, 4, 6, 3)),
    "resnet-50": ResNetConfig(),
    "resnet-101": ResNetConfig(layers=(3, 4, 23, 3)),
    "resnet-152": ResNetConfig(layers=(3, 8, 36, 3)),
}


def basic(inputs: int, width: int, stride: int, dilations: tuple[int, int], **norm: Any) -> list[ConvNorm]:
    """Two 3x3 convolutions (figure 5, left)."""
    return [
        ConvNorm(inputs, width, 3, stride=stride, dilation=dilations[0], **norm),
        ConvNorm(width, width, 3, dilation=dilations[1], **norm),
    ]


def bottleneck(inputs: int, width: int, stride: int, dilations: tuple[int, int], **norm: Any) -> list[ConvNorm]:
    """A 3x3 convolution between a 1x1 that narrows and a 1x1 that widens (figure 5, right)."""
    return [
        ConvNorm(inputs, width, 1, **norm),
        ConvNorm(width, width, 3, stride=stride, dilation=dilations[0], **norm),
        ConvNorm(width, EXPANSION["bottleneck"] * width, 1, **norm),
    ]


BRANCHES = {"basic": basic, "bottleneck": bottleneck}


class Block(nn.Module):
    """y = relu(f(x) + x): what a few convolutions make of the map is added to it (eq. 1 and 2).

    Args:
        convolutions: f, without the rectifier behind its last.
        shortcut: takes x to the size of f(x) where they differ.
    """

    def __init__(self, convolutions: Sequence[ConvNorm], shortcut: ConvNorm | None) -> None:
        super().__init__()
        self.convolutions, self.shortcut = nn.ModuleList(convolutions), shortcut

    def forward(
        self, x: Float[Tensor, "batch inputs rows columns"], valid: Bool[Tensor, "batch rows columns"] | None = None
    ) -> Float[Tensor, "batch outputs fewer_rows fewer_columns"]:
        around = x if self.shortcut is None else self.shortcut(x, valid)
        convolutions: list[Any] = [*self.convolutions]
        *first, last = convolutions
        for convolution in first:
            x, valid = convolution(x, valid), thinned(valid, convolution.stride)
        return last(x, valid, around)


def build_stage(config: ResNetConfig, number: int) -> Stage:
    """One of the stages, counted from 0."""
    inputs, width = (config.stem, *config.dims)[number], config.widths[number]
    stride = config.strides[number] // (STEM_STRIDE, *config.strides)[number]
    dilation = 2 if number and stride == 1 else 1
    norm: dict[str, Any] = {"norm": config.norm, "eps": config.eps}
    blocks = []
    for place in range(config.layers[number]):
        step = stride if place == 0 else 1
        dilations = (dilation if place else 1, dilation)  # the first block still looks as the stage before did
        convolutions = BRANCHES[config.block](inputs, width, step, dilations, **norm)
        changes = step > 1 or inputs != config.dims[number]
        shortcut = ConvNorm(inputs, config.dims[number], 1, stride=step, **norm, relu=False) if changes else None
        blocks.append(Block(convolutions, shortcut))
        inputs = config.dims[number]
    return Stage(blocks, stride)


class ResNet(nn.Module):
    """Classify an image from the mean of its last map.

    Fresh blocks begin as the identity: the norm at the end of each branch has weight 0 (Goyal et al. 2017, section
    5.1). Frozen norms cannot leave that, and begin with weight 1.
    """

    def __init__(self, config: ResNetConfig) -> None:
        super().__init__()
        self.config = config
        norm: dict[str, Any] = {"norm": config.norm, "eps": config.eps}
        self.stem = ConvNorm(config.channels, config.stem, 7, stride=2, **norm)
        self.max_pool = MaxPool()
        self.stages = nn.ModuleList(build_stage(config, number) for number in range(len(config.layers)))
        self.head = nn.Linear(config.dims[-1], config.classes) if config.classes else nn.Identity()
        init_convolutions(self)
        for part in self.modules():
            if isinstance(part, Block) and config.norm == "batch":
                last: Any = part.convolutions[-1]
                nn.init.zeros_(last.norm.weight)

    def features(
        self,
        images: Float[Tensor, "batch channels height width"],
        at: Sequence[int],
        valid: Bool[Tensor, "batch height width"] | None = None,
    ) -> list[Feature]:
        """The maps after chosen stages (counted from 0).

        With `valid` and `padding="exact"`, a picture has the cells and the values that it has alone. With
        `padding="original"` what stands beside a picture flows into it, and its cells are found by nearest resizing,
        both as in DETR's code.

        Raises:
            ConfigError: no stage, or one that there is not.
        """
        check_images(images, self.stem.convolution.weight)
        check_channels(images.shape[1], self.config.channels)
        exact = self.config.padding == "exact"
        shown = valid if exact else None
        x = channels_last(without_padding(images, shown))
        for part in (self.stem, self.max_pool):
            x, shown = part(x, shown), thinned(shown, part.stride)
        found = after_stages(self.stages, x, shown, at, STEM_STRIDE)
        return found if exact else [one._replace(valid=nearest(valid, one.map)) for one in found]

    def encode(
        self,
        images: Float[Tensor, "batch channels height width"],
        valid: Bool[Tensor, "batch height width"] | None = None,
    ) -> Tokens:
        """The cells of the last map, row by row."""
        return tokens_of(self.features(images, [len(self.stages) - 1], valid)[0])

    def pool(self, tokens: Tokens) -> Float[Tensor, "batch read"]:
        """What the head reads: the mean of all cells that show the picture."""
        return mean_of_patches(tokens)

    def forward(self, images: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch classes"]:
        """Logits."""
        return self.head(self.pool(self.encode(images)))
