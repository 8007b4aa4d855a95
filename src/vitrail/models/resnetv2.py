"""ResNet with its norms before the convolutions, group norm and standardised weights: Big Transfer, and hybrid ViTs.

Source: He et al., "Identity Mappings in Deep Residual Networks", ECCV 2016, as Kolesnikov et al., "Big Transfer",
ECCV 2020, train it: group norm for batch norm, weights with mean 0 and variance 1 (Qiao et al. 2019). With the norms
behind the convolutions and TensorFlow's borders it is what hybrid Vision Transformers see through (Dosovitskiy et al.,
ICLR 2021, section 3.1).
Compared with timm in tests/parity/test_resnetv2.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from vitrail.core.convolutions import (
    Border,
    GroupNorm,
    Stage,
    StandardisedConv,
    after_stages,
    channels_last,
    nearest,
    thinned,
    with_border,
    without_padding,
)
from vitrail.core.embeddings import check_channels, check_images
from vitrail.core.init import init_convolutions
from vitrail.core.tokens import Feature, Tokens, mean_of_patches, tokens_of
from vitrail.errors import ConfigError
from vitrail.fields import Range, check_fields, check_ranges
from vitrail.geometry.grid import pair

STAGES = 4  # the most that any published file names
STEM_STRIDE = 4  # pixels between cells of the first stage
SIZE = Range(1, 2**24)
EPS = Range(0, above=True, usual="1e-5")
RANGES = {
    "image": SIZE, "channels": SIZE, "layers": Range(1, 1000), "stem": SIZE, "widths": SIZE, "groups": SIZE,
    "classes": Range(0, 2**24), "eps": EPS, "weight_eps": Range(0, above=True, usual="1e-8"),
}  # fmt: skip


def quarter(width: int) -> int:
    """Width inside a bottleneck: a quarter, as the multiple of 8 that is nearest and loses less than a tenth."""
    near = max(8, (width // 4 + 4) // 8 * 8)
    return near + 8 if 10 * near < 9 * (width // 4) else near


@dataclass(frozen=True, kw_only=True, slots=True)
class ResNetV2Config:
    """Everything that shapes a ResNetV2. The defaults are Big Transfer's R50x1."""

    family: ClassVar[str] = "resnetv2"

    image: int | tuple[int, int] = 224  # what it was trained on, side or rows and columns, in pixels; it reads any size
    channels: int = 3  # of the image
    stem: int = 64  # width of the 7x7 convolution
    layers: tuple[int, ...] = (3, 4, 6, 3)  # bottlenecks of each stage; none leaves the stem alone
    widths: tuple[int, ...] = (256, 512, 1024, 2048)  # of each stage's answer; inside a bottleneck it is a quarter
    norm: Literal["before", "after"] = "before"  # where the norm and the rectifier stand beside each convolution
    groups: int = 32  # of channels that are normalised together
    eps: float = 1e-5  # of every norm
    weight_eps: float = 1e-8  # added to the variance of weights
    border: Border = "even"  # how maps are padded: alike on all sides, or as TensorFlow's SAME
    padding: Literal["exact", "original"] = "exact"  # whether a picture in a padded batch answers as alone
    classes: int = 1000  # 0 leaves out the head: the answer is the mean of the last map

    def __post_init__(self) -> None:
        for name in ("image", "layers", "widths"):
            if not isinstance(getattr(self, name), int):
                object.__setattr__(self, name, tuple(getattr(self, name)))  # a list, as JSON gives it
        check_fields(self)
        check_ranges(self, "", **RANGES)
        if not len(self.layers) == len(self.widths) <= STAGES:
            raise ConfigError(
                f"layers={self.layers} and widths={self.widths} need one number for each stage, and there are at most "
                f"{STAGES} stages."
            )
        for width in (self.stem, *self.widths, *map(quarter, self.widths)):
            if width % self.groups:
                raise ConfigError(
                    f"A map {width} wide does not divide into groups={self.groups}. A stage of width w has maps w and "
                    f"w / 4 wide; choose stem, widths and groups so that all divide."
                )

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns of the image, pixels."""
        return pair(self.image)

    @property
    def strides(self) -> tuple[int, ...]:
        """Pixels between neighbouring cells of each stage's map."""
        return tuple(STEM_STRIDE * 2**stage for stage in range(len(self.layers)))

    @property
    def multiple(self) -> tuple[int, int]:
        """By what the rows and columns of a picture must divide, so that it answers alone as in a padded batch."""
        return (self.stride, self.stride) if self.border == "same" else (1, 1)

    @property
    def stride(self) -> int:
        """Pixels between neighbouring cells of the last map."""
        return (STEM_STRIDE, *self.strides)[-1]

    @property
    def dims(self) -> tuple[int, ...]:
        """Width of each stage's map."""
        return self.widths

    @property
    def dim(self) -> int:
        """Width of the last map."""
        return (self.stem, *self.widths)[-1]


def times(factor: int) -> dict[str, Any]:
    """Every map wider by a factor."""
    return {"stem": 64 * factor, "widths": (256 * factor, 512 * factor, 1024 * factor, 2048 * factor)}


VARIANTS = {
    "resnetv2-50": ResNetV2Config(image=448),
    "resnetv2-50x3": ResNetV2Config(image=448, **times(3)),
    "resnetv2-101": ResNetV2Config(image=448, layers=(3, 4, 23, 3)),
    "resnetv2-101x3": ResNetV2Config(image=448, layers=(3, 4, 23, 3), **times(3)),
    "resnetv2-152x2": ResNetV2Config(image=448, layers=(3, 8, 36, 3), **times(2)),
    "resnetv2-152x4": ResNetV2Config(image=480, layers=(3, 8, 36, 3), **times(4)),
}


class Bottleneck(nn.Module):
    """x + f(x), where f is a 3x3 convolution between a 1x1 that narrows and a 1x1 that widens.

    With norms before (figure 4e of the paper), each convolution reads a normalised, rectified map, and nothing is done
    to the sum. With norms after, each convolution is followed by its norm, and the sum is rectified.

    Args:
        config: of the model.
        inputs, width: of the map that comes and of the one that goes.
        stride: of the 3x3 convolution.
        changes: whether x passes a convolution of its own: in the first block of a stage.
    """

    def __init__(self, config: ResNetV2Config, inputs: int, width: int, stride: int, *, changes: bool) -> None:
        super().__init__()
        inner = quarter(width)
        self.before = config.norm == "before"
        normed = (inputs, inner, inner) if self.before else (inner, inner, width)
        self.convolutions = nn.ModuleList(
            [conv(config, inputs, inner, 1), conv(config, inner, inner, 3, stride), conv(config, inner, width, 1)]
        )
        self.norms = nn.ModuleList(norm(config, channels) for channels in normed)
        self.shortcut = conv(config, inputs, width, 1, stride) if changes else None
        self.shortcut_norm = norm(config, width) if changes and not self.before else None

    def forward(
        self, x: Float[Tensor, "batch inputs rows columns"], valid: Bool[Tensor, "batch rows columns"] | None = None
    ) -> Float[Tensor, "batch outputs fewer_rows fewer_columns"]:
        return self.norms_before(x, valid) if self.before else self.norms_after(x, valid)

    def norms_before(self, x: Tensor, valid: Tensor | None) -> Tensor:
        h = F.relu(self.norms[0](x, valid))
        around = x if self.shortcut is None else self.shortcut(h)
        convolutions: list[Any] = [*self.convolutions]
        for number, convolution in enumerate(convolutions):
            if number:
                h = F.relu(self.norms[number](h, valid))
            h, valid = convolution(h), thinned(valid, convolution.stride[0])
        return h + around

    def norms_after(self, x: Tensor, valid: Tensor | None) -> Tensor:
        around = x
        if self.shortcut is not None and self.shortcut_norm is not None:
            around = self.shortcut_norm(self.shortcut(x), thinned(valid, self.shortcut.stride[0]))
        pairs: list[Any] = [*zip(self.convolutions, self.norms, strict=True)]
        for number, (convolution, after) in enumerate(pairs):
            valid = thinned(valid, convolution.stride[0])
            x = after(convolution(x), valid)
            x = F.relu(x + around if number == len(pairs) - 1 else x)
        return x


def conv(config: ResNetV2Config, inputs: int, outputs: int, kernel: int, stride: int = 1) -> StandardisedConv:
    """A convolution as the configuration has them."""
    return StandardisedConv(inputs, outputs, kernel, stride=stride, border=config.border, weight_eps=config.weight_eps)


def norm(config: ResNetV2Config, width: int) -> GroupNorm:
    """A norm as the configuration has them."""
    return GroupNorm(config.groups, width, eps=config.eps)


def build_stage(config: ResNetV2Config, number: int) -> Stage:
    """One of the stages, counted from 0."""
    inputs, width = (config.stem, *config.widths)[number : number + 2]
    stride = 2 if number else 1
    return Stage(
        (
            Bottleneck(config, width if place else inputs, width, 1 if place else stride, changes=place == 0)
            for place in range(config.layers[number])
        ),
        stride,
    )


class ResNetV2(nn.Module):
    """Classify an image from the mean of its last map."""

    def __init__(self, config: ResNetV2Config) -> None:
        super().__init__()
        self.config = config
        before = config.norm == "before"
        self.stem = conv(config, config.channels, config.stem, 7, 2)
        self.stem_norm = None if before else norm(config, config.stem)
        self.stages = nn.ModuleList(build_stage(config, number) for number in range(len(config.layers)))
        self.norm = norm(config, config.dim) if before else None
        self.head = nn.Linear(config.dim, config.classes) if config.classes else nn.Identity()
        init_convolutions(self)

    def after_stem(self, x: Tensor, shown: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """The map before the first stage, a quarter as high and wide, and where it shows a picture."""
        x, shown = self.stem(x), thinned(shown, 2)
        x = without_padding(x, shown) if self.stem_norm is None else F.relu(self.stem_norm(x, shown))
        x, shown = F.max_pool2d(with_border(x, 3, 2, self.config.border), kernel_size=3, stride=2), thinned(shown, 2)
        return without_padding(x, shown), shown

    def features(
        self,
        images: Float[Tensor, "batch channels height width"],
        at: Sequence[int],
        valid: Bool[Tensor, "batch height width"] | None = None,
    ) -> list[Feature]:
        """The maps after chosen stages (counted from 0); with norms before, the last norm is not among them.

        With `valid` and `padding="exact"`, a picture has the cells and the values that it has alone; with
        `border="same"` this holds where the sides of picture and batch divide by the stride. With `padding="original"`
        what stands beside a picture flows into it.

        Raises:
            ConfigError: no stage, or one that there is not.
        """
        exact = self.config.padding == "exact"
        x, shown = self.prepared(images, valid if exact else None)
        found = after_stages(self.stages, x, shown, at, STEM_STRIDE)
        return found if exact else [one._replace(valid=nearest(valid, one.map)) for one in found]

    def prepared(self, images: Tensor, shown: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """The map before the first stage, of images that have been looked at."""
        check_images(images, self.stem.weight)
        check_channels(images.shape[1], self.config.channels)
        return self.after_stem(channels_last(without_padding(images, shown)), shown)

    def last_map(self, images: Tensor, valid: Tensor | None = None) -> Feature:
        """What the head, or a transformer, reads: the last map, normalised."""
        exact = self.config.padding == "exact"
        if self.stages:
            last = self.features(images, [len(self.stages) - 1], valid)[0]
        else:
            x, shown = self.prepared(images, valid if exact else None)
            last = Feature(x, (STEM_STRIDE, STEM_STRIDE), shown if exact else nearest(valid, x))
        if self.norm is None:
            return last
        return last._replace(map=F.relu(self.norm(last.map, last.valid if exact else None)))

    def encode(
        self,
        images: Float[Tensor, "batch channels height width"],
        valid: Bool[Tensor, "batch height width"] | None = None,
    ) -> Tokens:
        """The cells of the last map, row by row, normalised."""
        return tokens_of(self.last_map(images, valid))

    def pool(self, tokens: Tokens) -> Float[Tensor, "batch read"]:
        """What the head reads: the mean of all cells that show the picture."""
        return mean_of_patches(tokens)

    def forward(self, images: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch classes"]:
        """Logits."""
        return self.head(self.pool(self.encode(images)))
