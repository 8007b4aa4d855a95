"""DETR: a picture goes in, a set of objects comes out, and nothing in between sorts, suppresses or anchors boxes.

Source: Carion et al., "End-to-End Object Detection with Transformers", ECCV 2020, figure 2 and appendix A. The paper's
N is `queries`, its d is `dim`. Any backbone that gives a map of the picture will do: a ResNet, as published, or a ViT.
Compared with the published code and with transformers in tests/parity/test_detr.py.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal, NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn

from vitrail.core.attention import Attention
from vitrail.core.blocks import ACTIVATIONS, MLP, DecoderBlock, EncoderBlock, Residual
from vitrail.core.masks import padding_mask
from vitrail.core.positions import CountedAxes, CountedSinusoids
from vitrail.core.stacks import Blocks, Stack
from vitrail.core.tokens import Feature, Tokens, feature
from vitrail.errors import ConfigError
from vitrail.fields import Range, check_fields, check_ranges
from vitrail.geometry.grid import pair
from vitrail.models.resnet import VARIANTS as RESNETS
from vitrail.models.resnet import ResNet, ResNetConfig
from vitrail.models.resnetv2 import ResNetV2, ResNetV2Config
from vitrail.models.vit import ViT, ViTConfig
from vitrail.outputs import Detections
from vitrail.samples import AskedPoints

MOST_CELLS = 50  # rows, and columns, of a map for which there are learned positions
SIZE, DEPTH, RATE = Range(1, 2**24), Range(1, 1000), Range(0, 1, below=True)
RANGES = {
    "dim": SIZE, "heads": SIZE, "mlp_dim": SIZE, "queries": Range(1, 100_000), "query_groups": Range(1, 100),
    "classes": SIZE, "encoder_depth": DEPTH, "decoder_depth": DEPTH, "eps": Range(0, above=True, usual="1e-5"),
    "dropout": RATE, "attention_dropout": RATE, "activation_dropout": RATE,
}  # fmt: skip
FINE = 8 * math.pi  # waves across a picture whose queries are points: the shortest is a quarter of it
PLASTIC = 1.324717957244746  # the root of x**3 = x + 1, which spreads points over a square most evenly
BACKBONES = {ResNetConfig: ResNet, ResNetV2Config: ResNetV2, ViTConfig: ViT}


def resnet(name: str, **changes: Any) -> ResNetConfig:
    """A ResNet as a backbone: without classifier, its norms as they were published."""
    return replace(RESNETS[name], classes=0, **({"norm": "frozen"} | changes))


@dataclass(frozen=True, kw_only=True, slots=True)
class DETRConfig:
    """Everything that shapes a DETR. The defaults are the published one on a ResNet-50, for COCO."""

    family: ClassVar[str] = "detr"

    backbone: ResNetConfig | ResNetV2Config | ViTConfig = field(default_factory=lambda: resnet("resnet-50"))
    queries: int = 100  # object slots: the most objects that can be found in a picture
    anchors: bool = False  # whether a query is a point of the picture, which its box is told from; else it is learned
    refined: bool = False  # whether each decoder block asks from where the one before saw the box; of points only
    query_groups: int = 1  # sets of as many queries that learn side by side; the first one answers
    classes: int = 91  # the highest number of a category in COCO, and one; that there is no object comes on top
    dim: int = 256  # width of a token
    heads: int = 8
    encoder_depth: int = 6  # number of blocks
    decoder_depth: int = 6
    mlp_dim: int = 2048  # width inside each MLP
    position: Literal["sine", "learned"] = "sine"  # of a cell of the map
    norm: Literal["before", "after"] = "after"
    renormed: bool = (
        False  # each decoder block reads the normed answer of the one before (transformers' auxiliary_loss)
    )
    eps: float = 1e-5  # of every layer norm
    activation: Literal["gelu", "gelu-tanh", "quick-gelu", "relu", "silu"] = "relu"  # inside each MLP
    dropout: float = 0.1  # of every branch
    attention_dropout: float = 0.1  # of what is looked at
    activation_dropout: float = 0.1  # inside each MLP

    def __post_init__(self) -> None:
        check_fields(self)
        check_ranges(self, "", **RANGES)
        if self.dim % self.heads:
            raise ConfigError(
                f"dim={self.dim} does not divide into heads={self.heads}. Choose a multiple of {self.heads}."
            )
        divisor = {"sine": 4, "learned": 2}[self.position]
        if self.dim % divisor:
            raise ConfigError(f"position={self.position!r} needs a width that divides by {divisor}; dim={self.dim}.")
        if self.anchors and self.position != "sine":
            raise ConfigError(f"anchors=True needs position='sine', which tells any point, not {self.position!r}.")
        if self.refined and not self.anchors:
            raise ConfigError("refined=True moves the points that queries are, and needs anchors=True.")
        if self.backbone.classes:  # a backbone has no classifier of its own
            object.__setattr__(self, "backbone", replace(self.backbone, classes=0))

    @property
    def channels(self) -> int:
        """Of the image."""
        return self.backbone.channels


SMALL: dict[str, Any] = {"dim": 128, "heads": 4, "encoder_depth": 3, "decoder_depth": 3, "mlp_dim": 512}

HALF: dict[str, Any] = {"norm": "batch", "stem": 32, "widths": (32, 64, 128, 256)}

STILL: dict[str, Any] = {"dropout": 0.0, "attention_dropout": 0.0, "activation_dropout": 0.0}

VARIANTS = {
    # ours, to begin from nothing on a processor: cells of 16 pixels, norms that learn, queries that are points
    "detr-tiny": DETRConfig(
        backbone=resnet("resnet-18", norm="batch", stem=32, layers=(2, 2, 2), widths=(32, 64, 128)),
        anchors=True,
        refined=True,
        **SMALL,
        **STILL,
    ),
    "detr-resnet-50": DETRConfig(),
    "detr-resnet-50-dc5": DETRConfig(backbone=resnet("resnet-50", dilated=True)),
    "detr-resnet-101": DETRConfig(backbone=resnet("resnet-101")),
    "detr-resnet-101-dc5": DETRConfig(backbone=resnet("resnet-101", dilated=True)),
    # to be trained from nothing on a processor: a ResNet-18 of half the width, whose norms learn
    "detr-resnet-18-small": DETRConfig(backbone=resnet("resnet-18", **HALF), **SMALL),
    "detr-resnet-18-small-dc5": DETRConfig(backbone=resnet("resnet-18", **HALF, dilated=True), **SMALL),
}


def build_residual(config: DETRConfig) -> Residual:
    return Residual(config.dim, norm=config.norm, eps=config.eps, dropout=config.dropout)


def build_attention(config: DETRConfig) -> Attention:
    return Attention(config.dim, config.heads, dropout=config.attention_dropout)


def build_mlp(config: DETRConfig) -> MLP:
    return MLP(config.dim, config.mlp_dim, activation=ACTIVATIONS[config.activation], dropout=config.activation_dropout)


def build_encoder_block(config: DETRConfig) -> EncoderBlock:
    """One layer of the encoder (appendix A.3)."""
    return EncoderBlock(build_attention(config), build_mlp(config), build_residual(config), build_residual(config))


def build_decoder_block(config: DETRConfig) -> DecoderBlock:
    """One layer of the decoder."""
    return DecoderBlock(
        build_attention(config),
        build_attention(config),
        build_mlp(config),
        build_residual(config),
        build_residual(config),
        build_residual(config),
    )


class BoxHead(nn.Module):
    """A box for each token, from three linear layers: centre and size, whose sigmoid is in the unit square."""

    def __init__(self, dim: int, layers: int = 3) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(dim, 4 if last else dim) for last in [False] * (layers - 1) + [True])

    def forward(self, x: Float[Tensor, "batch queries dim"]) -> Float[Tensor, "batch queries 4"]:
        *hidden, last = self.layers
        for layer in hidden:
            x = F.relu(layer(x))
        return last(x)


class Memory(NamedTuple):
    """What the encoder understood of a picture.

    Attributes:
        tokens: one for each cell of the map, row by row.
        position: where each of them stands.
    """

    tokens: Tokens
    position: Float[Tensor, "#batch tokens dim"]


class Decoded(NamedTuple):
    """What a layer of the decoder makes of the queries.

    Attributes:
        x: a token for each, normalised.
        origin: from where its box is told, before the sigmoid: the point that the query is, or nothing.
    """

    x: Float[Tensor, "batch queries dim"]
    origin: Float[Tensor, "#batch queries 4"]


def init_as_published(stack: nn.Module) -> None:
    """Draw matrices from Glorot's uniform; biases of attention are zero.

    The published code keeps queries, keys and values in one matrix of three times the width, for which Glorot's
    uniform is narrower than for each of them: by the square root of two.
    """
    for part in stack.modules():
        if isinstance(part, nn.Linear):
            nn.init.xavier_uniform_(part.weight)
        if isinstance(part, Attention):
            for projection in (part.query, part.key, part.value, part.out):
                nn.init.zeros_(projection.bias)
    for part in stack.modules():
        if isinstance(part, Attention):
            for projection in (part.query, part.key, part.value):
                nn.init.xavier_uniform_(projection.weight, gain=math.sqrt(0.5))


def padded(
    pixels: Float[Tensor, "batch channels height width"],
    valid: Bool[Tensor, "batch height width"] | None,
    multiple: tuple[int, int],
) -> tuple[Tensor, Tensor | None]:
    """Pictures with so much padding, at the right and at the bottom, that their sides divide by a multiple."""
    (rows, columns), (high, wide) = pixels.shape[2:], multiple
    if rows % high == 0 and columns % wide == 0:
        return pixels, valid
    edges = (0, -columns % wide, 0, -rows % high)
    shown = torch.ones_like(pixels[:, 0], dtype=torch.bool) if valid is None else valid
    return F.pad(pixels, edges), F.pad(shown, edges)


def build_positions(config: DETRConfig) -> CountedSinusoids | CountedAxes:
    """Where the cells of a map stand; where queries are points, finer than published, to tell them apart."""
    if config.position == "learned":
        return CountedAxes(MOST_CELLS, config.dim)
    return CountedSinusoids(config.dim, length=FINE, base=100) if config.anchors else CountedSinusoids(config.dim)


@torch.no_grad()
def init_anchors(queries: Tensor, decoder: nn.Module) -> None:
    """Spread points evenly over the picture, and let each look first at what is near it.

    Cross-attention begins with the same matrix for what asks and what answers: positions then are compared as they
    are, and the nearest ones agree most.

    Source: the points are those of Wang et al., "Anchor DETR: Query Design for Transformer-Based Object Detection",
    AAAI 2022; evenly as in Roberts, "The Unreasonable Effectiveness of Quasirandom Sequences", 2018.
    """
    number = torch.arange(1, queries.shape[0] + 1, dtype=torch.float64)
    places = torch.stack([number / PLASTIC % 1, number / PLASTIC**2 % 1], dim=1)
    queries.copy_(torch.logit(places.clamp(0.02, 0.98)))
    for block in decoder.children():
        attention = block.get_submodule("cross_attention")
        attention.get_submodule("key").load_state_dict(attention.get_submodule("query").state_dict())


def apart(sizes: Sequence[int], device: torch.device) -> Bool[Tensor, "query key"] | None:
    """Let queries look at those of their own group only; `None` where there is only one.

    Source: Chen et al., "Group DETR: Fast DETR Training with Group-Wise One-to-Many Assignment", ICCV 2023.
    """
    if len(sizes) == 1:
        return None
    group = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes)).to(device)
    return group[:, None] == group[None]


def class_codes(config: DETRConfig) -> Float[Tensor, "classes dim"]:
    """A vector by which a query can be told each class; drawn once for all, and never learned."""
    return torch.randn(config.classes, config.dim, generator=torch.Generator().manual_seed(0))


class DETR(nn.Module):
    """Find objects: what each is, and where."""

    attention_kinds: ClassVar[Mapping[str, str]] = {
        "backbone.*": "backbone",
        "encoder.*": "encoder",
        "decoder.*.attention": "decoder",
        "decoder.*.cross_attention": "cross",
    }

    def __init__(self, config: DETRConfig) -> None:
        super().__init__()
        self.config = config
        dim = config.dim
        self.backbone = BACKBONES[type(config.backbone)](config.backbone)
        self.project = nn.Conv2d(config.backbone.dims[-1], dim, kernel_size=1)
        self.positions = build_positions(config)
        self.encoder = Stack(build_encoder_block(config) for _ in range(config.encoder_depth))
        self.encoder_norm = nn.LayerNorm(dim, eps=config.eps) if config.norm == "before" else nn.Identity()
        self.decoder = Blocks(build_decoder_block(config) for _ in range(config.decoder_depth))
        self.decoder_norm = nn.LayerNorm(dim, eps=config.eps)
        self.queries = nn.Parameter(torch.empty(config.query_groups * config.queries, 2 if config.anchors else dim))
        self.class_head = nn.Linear(dim, config.classes + 1)
        self.box_head = BoxHead(dim)
        init_as_published(self.encoder)
        init_as_published(self.decoder)
        if config.anchors:
            init_anchors(self.queries, self.decoder)
        else:
            nn.init.normal_(self.queries)

    @property
    def stride(self) -> tuple[int, int]:
        """Pixels between neighbouring cells of the map that the encoder reads, rows then columns."""
        return pair(self.config.backbone.strides[-1])

    def see(
        self,
        pixels: Float[Tensor, "batch channels height width"],
        valid: Bool[Tensor, "batch height width"] | None = None,
    ) -> Feature:
        """The last map of the backbone, in the width of the transformer."""
        tokens = self.backbone.encode(*padded(pixels, valid, self.config.backbone.multiple))
        seen = feature(tokens, self.stride)
        return seen._replace(map=self.project(seen.map))

    def read(self, seen: Feature) -> Memory:
        """What the encoder makes of a map: every cell looks at all others."""
        position = self.positions(seen)
        cells = rearrange(seen.map, "batch dim rows columns -> batch (rows columns) dim")
        valid = None if seen.valid is None else seen.valid.flatten(1)
        tokens = self.encoder(Tokens(cells, (seen.map.shape[2], seen.map.shape[3]), 0, valid), position)
        return Memory(tokens._replace(x=self.encoder_norm(tokens.x)), position)

    def encode(
        self,
        pixels: Float[Tensor, "batch channels height width"],
        valid: Bool[Tensor, "batch height width"] | None = None,
    ) -> Memory:
        """What the encoder understands of pictures: the memory that the queries look at."""
        return self.read(self.see(pixels, valid))

    def decode(self, memory: Memory, groups: int = 1, asked: AskedPoints | None = None) -> list[Decoded]:
        """What each layer of the decoder makes of the queries, first to last.

        A query knows at first only which one it is: it is a position added to nothing. Where points are refined, a
        layer asks from the middle of the box that the one before has seen, and tells its own from there (Zhu et al.,
        "Deformable DETR", ICLR 2021, iterative bounding box refinement).

        Args:
            memory: what the encoder understood.
            groups: how many sets of queries are asked. They stand one after the other, and do not look at each other.
            asked: points that are asked after them, where queries are points.
        """
        tokens, position = memory
        queries, sizes = self.queries[: groups * self.config.queries], [self.config.queries] * groups
        origin, placed = self.origin_of(queries), self.placed(queries)[None]
        if asked is not None:
            points = F.pad(torch.logit(asked.points.to(origin), eps=1e-3), (0, 2))
            origin = torch.cat([origin.expand(len(points), -1, -1), points], dim=1)
            placed, sizes = self.placed(origin[..., :2]), [*sizes, *asked.sizes]
        told = {
            "memory": tokens.x,
            "mask": apart(sizes, queries.device),
            "memory_position": position,
            "memory_mask": None if tokens.valid is None else padding_mask(tokens.valid),
        }
        x = tokens.x.new_zeros(tokens.x.shape[0], *placed.shape[1:])
        if asked is not None:
            x[:, -asked.labels.shape[1] :] = class_codes(self.config).to(x)[asked.labels]
        layers = []
        for block in self.decoder:
            x = self.decoder.run(block, x, position=placed, **told)
            seen = self.decoder_norm(x)
            layers.append(Decoded(seen, origin))
            if self.config.renormed:
                x = seen
            if self.config.refined:
                origin = self.box_head(seen) + origin
                origin = origin.detach() if self.training else origin  # each layer learns its own part
                placed = self.placed(origin[..., :2])
        if self.config.renormed:
            layers[-1] = layers[-1]._replace(x=self.decoder_norm(x))  # the last one twice, as there
        return layers

    def origin_of(self, queries: Float[Tensor, "queries width"]) -> Float[Tensor, "1 queries 4"]:
        """From where boxes are told: from points, if queries are that; a point has no size."""
        return F.pad(queries if self.config.anchors else queries.new_zeros(len(queries), 2), (0, 2))[None]

    def placed(self, queries: Float[Tensor, "*queries width"]) -> Float[Tensor, "*queries dim"]:
        """The positions of queries: those of their points, if they are points; else they are positions."""
        if not self.config.anchors:
            return queries
        assert isinstance(self.positions, CountedSinusoids)  # the configuration sees to it
        return self.positions.at(queries.sigmoid())

    def answer(self, decoded: Decoded) -> Detections:
        """What each query has found."""
        return Detections(self.class_head(decoded.x), (self.box_head(decoded.x) + decoded.origin).sigmoid())

    def layers(
        self,
        pixels: Float[Tensor, "batch channels height width"],
        valid: Bool[Tensor, "batch height width"] | None = None,
    ) -> list[Detections]:
        """What each layer of the decoder would answer, first to last; the last is what `forward` answers.

        Training compares them all with the truth (section 3.2, auxiliary decoding losses). In training every group of
        queries answers in every layer, the first one last.
        """
        return self.layers_asked(pixels, valid)[0]

    def layers_asked(
        self,
        pixels: Float[Tensor, "batch channels height width"],
        valid: Bool[Tensor, "batch height width"] | None = None,
        asked: AskedPoints | None = None,
    ) -> tuple[list[Detections], list[Detections]]:
        """The same, and what each layer would answer from points that are asked besides.

        Raises:
            ConfigError: points are asked of a model whose queries are none.
        """
        if asked is not None and not self.config.anchors:
            raise ConfigError(
                "Only a DETR whose queries are points (anchors=True) can be asked from others. Type --set "
                "task.denoising=0, or --set model.anchors=true."
            )
        groups = self.config.query_groups if self.training else 1
        answers = [*map(self.answer, self.decode(self.encode(pixels, valid), groups, asked))]
        own = groups * self.config.queries
        besides = [Detections(*(part[:, own:] for part in answer)) for answer in answers]
        by_group = [zip(*(part[:, :own].chunk(groups, dim=1) for part in answer), strict=True) for answer in answers]
        layers = [Detections(*answer) for some in reversed([*zip(*by_group, strict=True)]) for answer in some]
        return layers, besides

    def forward(
        self,
        pixels: Float[Tensor, "batch channels height width"],
        valid: Bool[Tensor, "batch height width"] | None = None,
    ) -> Detections:
        """What each query has found.

        Args:
            pixels: prepared pictures; where they have different sizes, each in the upper left corner of the frame.
            valid: `True` where there is a picture and not padding; `None` when all is.
        """
        return self.answer(self.decode(self.encode(pixels, valid))[-1])
