"""Vision Transformer: an image read as a sequence of patches.

Source: Dosovitskiy et al., "An Image is Worth 16x16 Words", ICLR 2021. The same modules, given other parts, are
DeiT (Touvron et al., ICML 2021), ViT with a convolutional stem (Xiao et al., NeurIPS 2021), DINOv2 (Oquab et al.,
2023) and registers (Darcet et al., ICLR 2024). A hybrid cuts its patches from the map of a ResNetV2 (section 3.1).
The paper's D is `dim`, its L `depth`, its P `patch` and its N the number of patches, `grid[0] * grid[1]`. Its eq. 1 is
`ViT.embed`; eq. 2 and 3 are `EncoderBlock` (core/blocks.py), stacked; eq. 4 is the last norm, and `pool` takes z_L^0.
Compared with transformers, timm and torchvision in tests/parity/test_vit.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn

from vitrail.core.attention import Attention
from vitrail.core.blocks import ACTIVATIONS, MLP, EncoderBlock, GatedMLP, NormPlace, Residual
from vitrail.core.dropout import dropout
from vitrail.core.embeddings import ConvStem, PatchEmbed, check_divides, check_images
from vitrail.core.init import depth_decay, init_transformer
from vitrail.core.positions import (
    DIALECTS,
    LearnedAxes,
    LearnedPositions,
    LogRelativeBias,
    RelativeBias,
    SinusoidalPositions,
    positions_of_pictures,
)
from vitrail.core.stacks import Stack
from vitrail.core.tokens import Feature, Tokens, feature, mean_of_patches
from vitrail.errors import ConfigError, unknown
from vitrail.fields import LARGEST, Range, check_fields, check_ranges
from vitrail.geometry.grid import pair
from vitrail.models.resnetv2 import ResNetV2, ResNetV2Config
from vitrail.outputs import DistilledLogits

Position = Literal["learned", "axes", "sinusoidal", "relative", "relative-log", "none"]


MOST_PATCHES = 2**24  # a picture of 65,536 x 65,536 pixels in patches of 16; no table of positions is longer
SIZE, COUNT = Range(1, 2**24), Range(0, 2**24)  # no published model has a hundredth of so many
RATE = Range(0, 1, below=True)
RANGES = {
    "image": SIZE, "patch": SIZE, "channels": SIZE, "dim": SIZE, "depth": Range(1, 1000), "heads": SIZE,
    "mlp_dim": SIZE, "stem": SIZE, "relative_hidden": SIZE, "representation": SIZE, "classes": COUNT,
    "registers": COUNT, "eps": Range(0, above=True, usual="1e-6"), "layer_scale": Range(-LARGEST),
    "drop_path": RATE, "dropout": RATE, "embed_dropout": RATE, "attention_dropout": RATE,
}  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class ViTConfig:
    """Everything that shapes a Vision Transformer. The defaults are ViT-B/16."""

    family: ClassVar[str] = "vit"

    image: int | tuple[int, int] = 224  # side of a square, or rows and columns, in pixels
    patch: int | tuple[int, int] = 16  # side of a square, or rows and columns, in pixels
    channels: int = 3  # of the image
    dim: int = 768  # width of a token
    depth: int = 12  # number of blocks
    heads: int = 12
    mlp_dim: int = 3072  # width inside each MLP
    classes: int = 1000  # 0 leaves out the head: the answer is the pooled token

    stem: tuple[int, ...] = ()  # widths of stride-2 convolutions in place of one patch convolution
    stem_last: Literal["norm", "bias"] = "norm"  # what follows the last of them
    backbone: ResNetV2Config | None = None  # whose last map is cut into patches, in place of the picture (hybrid)
    class_token: bool = True
    distillation_token: bool = False  # a second class token, that listens to a teacher
    distillation_head: bool = False  # and has a classifier of its own
    registers: int = 0  # further tokens without a place
    mask_token: bool = False  # the token that stood for hidden patches in pre-training, kept to be written back
    position: Position = "learned"
    positions_for: Literal["all", "class", "patches"] = "all"  # which tokens have a learned position
    dialect: str = "timm"  # how positions are interpolated to another grid (section 3.2)
    relative_hidden: int = 128  # width inside the MLP of position="relative-log"

    norm: NormPlace = "before"
    eps: float = 1e-6  # of every layer norm
    bias: bool = True  # in the query, key and value projections
    activation: Literal["gelu", "gelu-tanh", "quick-gelu", "relu", "silu"] = "gelu"  # inside each MLP without a gate
    gated: bool = False  # MLPs with a gate (SwiGLU)
    layer_scale: float | None = None  # first value of the factor on each branch
    pool: Literal["class", "mean", "class+mean"] = "class"  # what the head reads
    norm_pooled: bool = False  # the last norm stands after the pooling instead of before (timm's fc_norm)
    representation: int | None = None  # width of a tanh layer before the head, as in pre-training (section 3.1)
    drop_path: float = 0.0  # stochastic depth: chance that a sample skips a branch of the last block; 0 at the first
    dropout: float = 0.0  # of every branch; not inside the MLP, as in transformers
    embed_dropout: float | None = None  # of the embedded patches; `None` for that of the branches
    attention_dropout: float = 0.0  # of the weights of attention

    def __post_init__(self) -> None:
        for name in ("image", "patch"):
            if not isinstance(getattr(self, name), int):
                object.__setattr__(self, name, pair(getattr(self, name)))  # a list, as JSON gives it
        object.__setattr__(self, "stem", tuple(self.stem))
        check_fields(self)
        check_ranges(self, "", **RANGES)
        if self.layer_scale is not None:
            object.__setattr__(self, "layer_scale", float(self.layer_scale))  # 1 would make a factor of whole numbers
        if (patches := self.grid[0] * self.grid[1]) > MOST_PATCHES:
            raise ConfigError(
                f"image={self.image} with patch={self.patch} makes {patches:,} patches, and at most {MOST_PATCHES:,} "
                f"are read. Choose a smaller image or larger patches."
            )
        check_divides(*self.size, self.patch_size)
        if self.dim % self.heads:
            raise ConfigError(
                f"dim={self.dim} does not divide into heads={self.heads}. Choose a multiple of {self.heads}."
            )
        if self.stem and self.patch_size != (2 ** len(self.stem),) * 2:
            raise ConfigError(
                f"{len(self.stem)} stride-2 convolutions make patches of {2 ** len(self.stem)} pixels, not of "
                f"{self.patch}. Set patch={2 ** len(self.stem)} or give another number of widths in stem."
            )
        if self.backbone is not None:  # which has no head, and reads what the whole model reads
            object.__setattr__(self, "backbone", replace(self.backbone, image=224, channels=3, classes=0))
            self.check_backbone(self.backbone)
        if "class" in self.pool and not self.class_token:
            raise ConfigError(f"pool={self.pool!r} reads the class token, and class_token is False. Use pool='mean'.")
        if self.distillation_head and self.norm_pooled:
            raise ConfigError("distillation_head=True reads a token after the last norm. Use norm_pooled=False.")
        if self.distillation_head and not (self.distillation_token and self.pool == "class"):
            raise ConfigError(
                f"distillation_head=True needs distillation_token=True and pool='class', and they are "
                f"{self.distillation_token} and {self.pool!r}."
            )
        if self.distillation_head and not self.classes:
            raise ConfigError("distillation_head=True needs classes, and there are 0. Use distillation_head=False.")
        if self.position == "sinusoidal" and self.dim % 4:
            raise ConfigError(f"position='sinusoidal' needs a width that divides by 4, and dim={self.dim} does not.")
        if self.dialect not in DIALECTS:
            raise ConfigError(unknown("dialect of resizing positions", self.dialect, DIALECTS))

    def check_backbone(self, backbone: ResNetV2Config) -> None:
        """Refuse a backbone whose cells make no patches."""
        if self.stem:
            raise ConfigError(
                f"stem={self.stem} and a backbone are two ways to make patches. Set stem=() or backbone=None."
            )
        if any(side % backbone.stride for side in self.patch_size):
            raise ConfigError(
                f"Patches of {self.patch} pixels do not divide into cells of the backbone, which are "
                f"{backbone.stride} pixels apart. Set patch={backbone.stride}, or a multiple of it."
            )

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns of the image, pixels."""
        return pair(self.image)

    @property
    def patch_size(self) -> tuple[int, int]:
        """Rows and columns of a patch, pixels."""
        return pair(self.patch)

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches."""
        return self.size[0] // self.patch_size[0], self.size[1] // self.patch_size[1]

    @property
    def dims(self) -> tuple[int, ...]:
        """Width of each block's map."""
        return (self.dim,) * self.depth

    @property
    def strides(self) -> tuple[tuple[int, int], ...]:
        """Pixels between neighbouring cells of each block's map, rows then columns."""
        return (self.patch_size,) * self.depth

    @property
    def multiple(self) -> tuple[int, int]:
        """By what the rows and columns of a picture must divide."""
        return self.patch_size

    @property
    def prefix(self) -> int:
        """How many tokens that are no part of the picture stand before the patches."""
        return self.class_token + self.distillation_token + self.registers

    @property
    def positioned(self) -> int:
        """How many of the prefix tokens have a learned position."""
        return {
            "all": self.prefix,
            "class": self.class_token + self.distillation_token,
            "patches": 0,
        }[self.positions_for]

    @property
    def embedded_dropout(self) -> float:
        """The dropout of what the first block reads."""
        return self.dropout if self.embed_dropout is None else self.embed_dropout

    @property
    def pooled(self) -> int:
        """Width of the pooled token."""
        return 2 * self.dim if self.pool == "class+mean" else self.dim

    @property
    def read(self) -> int:
        """Width of what the head reads."""
        return self.pooled if self.representation is None else self.representation


class ViT(nn.Module):
    """Classify an image from tokens that have read all its patches."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.config = config
        dim = config.dim
        self.patch_embed = build_patches(config)
        self.class_token = nn.Parameter(torch.zeros(1, 1, dim)) if config.class_token else None
        self.distillation_token = nn.Parameter(torch.zeros(1, 1, dim)) if config.distillation_token else None
        self.registers = nn.Parameter(torch.zeros(1, config.registers, dim)) if config.registers else None
        if config.mask_token:
            self.register_buffer("mask_token", torch.zeros(1, dim))
        self.positions = build_positions(config)
        self.blocks = Stack(build_block(config, rate) for rate in depth_decay(config.drop_path, config.depth))
        self.norm = nn.LayerNorm(config.pooled if config.norm_pooled else dim, eps=config.eps)
        self.representation = None if config.representation is None else nn.Linear(config.pooled, config.representation)
        # its weights are drawn, where section 3.2 begins fine-tuning with zeros
        self.head = nn.Linear(config.read, config.classes) if config.classes else nn.Identity()
        self.distillation_head = nn.Linear(config.dim, config.classes) if config.distillation_head else None
        init_transformer(self)
        for token in self.prefix_tokens():
            nn.init.normal_(token, std=0.02)

    def forward(self, images: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch classes"]:
        """Logits (y of eq. 4, through the head); those of the two heads are averaged where there are two."""
        if self.distillation_head is not None:
            opinions = self.opinions(images)
            return (opinions.logits + opinions.distilled) / 2
        return self.head(self.pool(self.encode(images)))

    def encode(
        self,
        images: Float[Tensor, "batch channels height width"],
        valid: Bool[Tensor, "batch height width"] | None = None,
    ) -> Tokens:
        """All tokens after the last block, normalised unless the norm stands after the pooling."""
        tokens = self.blocks(self.embed(images, valid))  # eq. 2 and 3, L times
        return tokens if self.config.norm_pooled else tokens._replace(x=self.norm(tokens.x))

    def embed(
        self,
        images: Float[Tensor, "batch channels height width"],
        valid: Bool[Tensor, "batch height width"] | None = None,
    ) -> Tokens:
        """Cut into patches, make each a vector, put the class token in front, and tell each its place."""
        check_images(images, next(self.patch_embed.parameters()))
        if valid is not None:
            images = images.masked_fill(~valid[:, None], 0.0)  # a patch may be partly padding
        hybrid = isinstance(self.patch_embed, Hybrid)  # whose layers see beyond a patch
        patches = self.patch_embed(images, valid) if hybrid else self.patch_embed(images)
        grid = (patches.shape[2], patches.shape[3])
        if self.config.position.startswith("relative") and grid != self.config.grid:
            raise ConfigError(
                f"The relative positions of this model are for {self.config.grid[0]} x {self.config.grid[1]} patches, "
                f"and the image has {grid[0]} x {grid[1]}. `create_model(..., image={tuple(images.shape[2:])})` fits."
            )
        x = rearrange(patches, "batch dim rows columns -> batch (rows columns) dim")  # x_p E of eq. 1
        prefix = [token.expand(images.shape[0], -1, -1) for token in self.prefix_tokens()]
        x = torch.cat([*prefix, x], dim=1)  # [x_class; x_p E], and what later papers put between
        shown = self.shown_cells(valid)
        if self.positions is not None:
            x = x + self.place_prefix(self.position_embeddings(grid, shown))  # + E_pos: z_0
        x = dropout(x, self.config.embedded_dropout, self.patch_embed.training)  # a frozen part is in eval mode
        return Tokens(x, grid, self.config.prefix, self.valid_tokens(shown))

    def pool(self, tokens: Tokens) -> Float[Tensor, "batch read"]:
        """What the head reads: the class token, the mean of the patches, or both side by side."""
        parts = []
        if self.reads_class_token:
            parts.append(tokens.x[:, 0])  # z_L^0
        if "mean" in self.config.pool:
            parts.append(mean_of_patches(tokens))
        pooled = torch.cat(parts, dim=-1)
        if self.config.norm_pooled:
            pooled = self.norm(pooled)
        return pooled if self.representation is None else torch.tanh(self.representation(pooled))

    def features(
        self,
        images: Float[Tensor, "batch channels height width"],
        at: Sequence[int],
        valid: Bool[Tensor, "batch height width"] | None = None,
    ) -> list[Feature]:
        """The patches after chosen blocks (counted from 0), as maps over the picture."""
        seen = self.blocks.at(self.embed(images, valid), at)
        return [feature(tokens, self.config.patch_size) for tokens in seen]

    @property
    def reads_class_token(self) -> bool:
        """Whether the head reads the class token, alone or beside the mean of the patches."""
        return "class" in self.config.pool

    def read_tokens(self, tokens: Tokens) -> list[slice]:
        """Which tokens the head reads, part by part; of each part it reads the mean."""
        parts = [slice(0, 1)] if self.reads_class_token else []
        if self.distillation_head is not None:
            parts.append(slice(1, 2))
        return [*parts, slice(tokens.prefix, None)] if "mean" in self.config.pool else parts

    def prefix_tokens(self) -> list[Tensor]:
        """The tokens that are no part of the picture, in their order."""
        tokens = (self.class_token, self.distillation_token, self.registers)
        return [token for token in tokens if token is not None]

    def position_embeddings(
        self, grid: tuple[int, int], shown: Bool[Tensor, "batch rows columns"] | None
    ) -> Float[Tensor, "#batch places dim"]:
        """E_pos: where patches stand in the picture that they are of, whatever stands beside it in the frame."""
        assert self.positions is not None
        if shown is None or bool(shown.all()):
            return self.positions(grid)
        return positions_of_pictures(self.positions, shown, self.config.positioned)

    def place_prefix(self, table: Float[Tensor, "#batch places dim"]) -> Float[Tensor, "#batch tokens dim"]:
        """Give the prefix tokens that have no position a position of zeros."""
        unplaced = self.config.prefix - self.config.positioned
        if not unplaced:
            return table
        placed, patches = table[:, : self.config.positioned], table[:, self.config.positioned :]
        return torch.cat([placed, table.new_zeros(table.shape[0], unplaced, table.shape[2]), patches], dim=1)

    def shown_cells(
        self, valid: Bool[Tensor, "batch height width"] | None
    ) -> Bool[Tensor, "batch rows columns"] | None:
        """Which patches are real: those of which any pixel is."""
        if valid is None:
            return None
        return F.max_pool2d(valid[:, None].float(), self.config.patch_size)[:, 0].bool()

    def valid_tokens(self, shown: Bool[Tensor, "batch rows columns"] | None) -> Bool[Tensor, "batch tokens"] | None:
        """Which tokens are real: those of real patches; tokens without a place always are."""
        return None if shown is None else F.pad(shown.flatten(1), (self.config.prefix, 0), value=True)

    def opinions(self, images: Float[Tensor, "batch channels height width"]) -> DistilledLogits:
        """The class token's logits and the distillation token's, apart."""
        if self.distillation_head is None:
            raise ConfigError(
                "This model has no distillation head. Make it with distillation_head=True (deit-*-distilled-16)."
            )
        tokens = self.encode(images)
        return DistilledLogits(self.head(self.pool(tokens)), self.distillation_head(tokens.x[:, 1]))


def build_block(config: ViTConfig, drop_path: float) -> EncoderBlock:
    """One layer of the encoder, from the parts that the configuration names."""

    def residual() -> Residual:
        return Residual(
            config.dim,
            norm=config.norm,
            eps=config.eps,
            layer_scale=config.layer_scale,
            drop_path=drop_path,
            dropout=config.dropout,
        )

    bias = None
    if config.position == "relative":
        bias = RelativeBias(config.grid, config.heads, prefix=config.prefix)
    if config.position == "relative-log":
        bias = LogRelativeBias(config.grid, config.heads, hidden=config.relative_hidden, prefix=config.prefix)
    mlp = (
        GatedMLP(config.dim, config.mlp_dim)
        if config.gated
        else MLP(config.dim, config.mlp_dim, activation=ACTIVATIONS[config.activation])
    )
    return EncoderBlock(
        Attention(config.dim, config.heads, bias=config.bias, dropout=config.attention_dropout),
        mlp,
        residual(),
        residual(),
        bias,
    )


def build_positions(config: ViTConfig) -> nn.Module | None:
    """What is added to the tokens before the first block, if anything."""
    if config.position == "learned":
        return LearnedPositions(config.grid, config.dim, prefix=config.positioned, dialect=config.dialect)
    if config.position == "axes":
        return LearnedAxes(config.grid, config.dim, prefix=config.positioned, dialect=config.dialect)
    if config.position == "sinusoidal":
        return SinusoidalPositions(config.grid, config.dim, prefix=config.positioned)
    return None


class Hybrid(nn.Module):
    """Patches of a map that a ResNetV2 has made of the picture (section 3.1).

    Args:
        backbone: makes the map.
        dim: width of a token.
        patch: height and width of a patch, pixels.
    """

    def __init__(self, backbone: ResNetV2, dim: int, patch: tuple[int, int]) -> None:
        super().__init__()
        self.backbone, self.stride = backbone, patch
        cells = (patch[0] // backbone.config.stride, patch[1] // backbone.config.stride)
        self.project = nn.Conv2d(backbone.config.dim, dim, kernel_size=cells, stride=cells)

    def forward(
        self,
        images: Float[Tensor, "batch channels height width"],
        valid: Bool[Tensor, "batch height width"] | None = None,
    ) -> Float[Tensor, "batch dim rows columns"]:
        check_divides(images.shape[2], images.shape[3], self.stride)
        return self.project(self.backbone.last_map(images, valid).map)


def build_patches(config: ViTConfig) -> nn.Module:
    """What makes vectors of the picture."""
    if config.backbone is not None:
        return Hybrid(ResNetV2(replace(config.backbone, channels=config.channels)), config.dim, config.patch_size)
    if config.stem:
        return ConvStem(config.channels, config.dim, config.stem, last=config.stem_last)
    return PatchEmbed(config.channels, config.dim, config.patch_size)


TINY: dict[str, Any] = {"dim": 192, "heads": 3, "mlp_dim": 768}
SMALL: dict[str, Any] = {"dim": 384, "heads": 6, "mlp_dim": 1536}
BASE: dict[str, Any] = {"dim": 768, "heads": 12, "mlp_dim": 3072}
LARGE: dict[str, Any] = {"dim": 1024, "depth": 24, "heads": 16, "mlp_dim": 4096}
HUGE: dict[str, Any] = {"dim": 1280, "depth": 32, "heads": 16, "mlp_dim": 5120}
DISTILLED: dict[str, Any] = {"distillation_token": True, "distillation_head": True}
DINOV2: dict[str, Any] = {
    "image": 518,
    "patch": 14,
    "layer_scale": 1.0,
    "pool": "class+mean",
    "positions_for": "class",
    "dialect": "dinov2",
}

ROOT = ResNetV2Config(norm="after", border="same", layers=(), widths=(), classes=0)  # the first convolution alone
R26 = replace(ROOT, layers=(2, 2, 2, 2), widths=(256, 512, 1024, 2048))
R50 = replace(R26, layers=(3, 4, 6, 3))
R50_16 = replace(R26, layers=(3, 4, 9), widths=(256, 512, 1024))  # the fourth stage's blocks moved to the third

VARIANTS = {  # base, large and huge are the paper's; tiny and small DeiT's, most hybrids of Steiner et al., 2021
    "vit-tiny-16": ViTConfig(**TINY),
    "vit-tiny-16-384": ViTConfig(**TINY, image=384),
    "vit-small-8": ViTConfig(**SMALL, patch=8),
    "vit-small-16": ViTConfig(**SMALL),
    "vit-small-16-384": ViTConfig(**SMALL, image=384),
    "vit-small-32": ViTConfig(**SMALL, patch=32),
    "vit-small-32-384": ViTConfig(**SMALL, patch=32, image=384),
    "vit-base-8": ViTConfig(**BASE, patch=8),
    "vit-base-16": ViTConfig(**BASE),
    "vit-base-16-384": ViTConfig(**BASE, image=384),
    "vit-base-32": ViTConfig(**BASE, patch=32),
    "vit-base-32-384": ViTConfig(**BASE, patch=32, image=384),
    "vit-large-16": ViTConfig(**LARGE),
    "vit-large-16-384": ViTConfig(**LARGE, image=384),
    "vit-large-32": ViTConfig(**LARGE, patch=32),
    "vit-large-32-384": ViTConfig(**LARGE, patch=32, image=384),
    "vit-huge-14": ViTConfig(**HUGE, patch=14),
    # ViT_C of Xiao et al.: one block fewer, so that the convolutions cost what the block did
    "vit-tiny-conv": ViTConfig(dim=192, heads=3, mlp_dim=576, depth=11, stem=(24, 48, 96, 192)),
    "vit-small-conv": ViTConfig(dim=384, heads=6, mlp_dim=1152, depth=11, stem=(48, 96, 192, 384)),
    "vit-base-conv": ViTConfig(**BASE, depth=11, stem=(64, 128, 256, 512)),
    "vit-tiny-hybrid-32": ViTConfig(**TINY, patch=32, backbone=ROOT),
    "vit-tiny-hybrid-32-384": ViTConfig(**TINY, patch=32, backbone=ROOT, image=384),
    "vit-small-hybrid-32": ViTConfig(**SMALL, patch=32, backbone=R26),
    "vit-small-hybrid-32-384": ViTConfig(**SMALL, patch=32, backbone=R26, image=384),
    "vit-base-hybrid-16": ViTConfig(**BASE, backbone=R50_16),
    "vit-base-hybrid-16-384": ViTConfig(**BASE, backbone=R50_16, image=384),
    "vit-large-hybrid-32": ViTConfig(**LARGE, patch=32, backbone=R50),
    "vit-large-hybrid-32-384": ViTConfig(**LARGE, patch=32, backbone=R50, image=384),
    "deit-tiny-16": ViTConfig(**TINY),
    "deit-small-16": ViTConfig(**SMALL),
    "deit-base-16": ViTConfig(**BASE),
    "deit-base-16-384": ViTConfig(**BASE, image=384),
    "deit-tiny-distilled-16": ViTConfig(**TINY, **DISTILLED),
    "deit-small-distilled-16": ViTConfig(**SMALL, **DISTILLED),
    "deit-base-distilled-16": ViTConfig(**BASE, **DISTILLED),
    "deit-base-distilled-16-384": ViTConfig(**BASE, **DISTILLED, image=384),
    "dinov2-small-14": ViTConfig(**SMALL, **DINOV2),
    "dinov2-base-14": ViTConfig(**BASE, **DINOV2),
    "dinov2-large-14": ViTConfig(**LARGE, **DINOV2),
    "dinov2-giant-14": ViTConfig(**DINOV2, dim=1536, depth=40, heads=24, mlp_dim=4096, gated=True),
}
VARIANTS |= {
    name.replace("-14", "-registers-14"): replace(config, registers=4, dialect="dinov2-registers")
    for name, config in VARIANTS.items()
    if name.startswith("dinov2")
}
