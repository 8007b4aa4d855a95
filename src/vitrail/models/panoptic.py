"""Panoptic DETR: a detector whose queries also paint the pixels of what they have found.

Source: Carion et al., "End-to-End Object Detection with Transformers", ECCV 2020, section 4.4 and figure 8.
Compared with the published code and with transformers in tests/parity/test_panoptic.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import ClassVar

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from vitrail.core.positions import CountedSinusoids
from vitrail.core.tokens import Feature, Tokens, extent
from vitrail.errors import ConfigError
from vitrail.fields import Range, check_fields, check_ranges
from vitrail.models.detr import DETR, DETRConfig, Memory
from vitrail.models.detr import VARIANTS as DETECTORS
from vitrail.models.resnet import ResNetConfig
from vitrail.outputs import Detections, Segmentations

GROUPS = 8  # of channels that are normalised together
STAGES = (3, 4)  # of the backbone, whose last is read by the detector and whose others sharpen the masks
NARROWER = (2, 4, 8, 16)  # by what the width of the detector is divided, from map to map
COCO = {"classes": 250}  # the highest number of a category in COCO panoptic, and one


@dataclass(frozen=True, kw_only=True, slots=True)
class PanopticConfig:
    """Everything that shapes a panoptic DETR: the detector in it, and how many classes that tells apart."""

    family: ClassVar[str] = "detr-panoptic"

    detr: DETRConfig = field(default_factory=lambda: replace(DETECTORS["detr-resnet-50"], **COCO))
    classes: int = 250  # of the detector: things and stuff
    looks: int | None = None  # maps of where each query looks; as many as the detector has heads unless given
    even: bool = False  # whether looks are told in even shares, so that fresh masks see them; published: in shares of 1
    placed: bool = False  # whether looks are told where boxes and cells are, as points need it; published: not

    def __post_init__(self) -> None:
        check_fields(self)
        check_ranges(self, looks=Range(1, 1024, usual="8"))
        backbone, width = self.detr.backbone, self.detr.dim + self.maps
        if self.placed and not self.detr.anchors:
            raise ConfigError("placed=True tells looks the points that queries are, and needs detr.anchors=True.")
        if self.classes != self.detr.classes:
            raise ConfigError(f"classes={self.classes} and detr.classes={self.detr.classes} should be one number.")
        if not isinstance(backbone, ResNetConfig) or len(backbone.layers) not in STAGES:
            raise ConfigError(
                f"Masks are sharpened by maps of several sizes, so the backbone has to be a ResNet of "
                f"{' or '.join(map(str, STAGES))} stages."
            )
        least = NARROWER[len(backbone.layers) - 1] * GROUPS
        if width % GROUPS or self.detr.dim % least or self.detr.dim % self.maps:
            raise ConfigError(
                f"dim={self.detr.dim} should be a multiple of {least} and of the {self.maps} maps of a query, and the "
                f"two together of {GROUPS}, for channels that are normalised {GROUPS} groups at a time. Set looks=8, "
                f"for example."
            )

    @property
    def maps(self) -> int:
        """Of where each query looks."""
        return self.detr.heads if self.looks is None else self.looks

    @property
    def channels(self) -> int:
        """Of the image."""
        return self.detr.channels

    @property
    def queries(self) -> int:
        """Slots: the most segments that can be found in a picture."""
        return self.detr.queries


VARIANTS = {
    f"{name}-panoptic": PanopticConfig(detr=replace(DETECTORS[name], **COCO))
    for name in ("detr-resnet-50", "detr-resnet-50-dc5", "detr-resnet-101")
} | {
    "detr-resnet-18-small-panoptic": PanopticConfig(
        detr=replace(DETECTORS["detr-resnet-18-small"], heads=8, **COCO)
    ),
    "detr-tiny-panoptic": PanopticConfig(detr=replace(DETECTORS["detr-tiny"], **COCO), looks=8, even=True, placed=True),
}  # fmt: skip


def cells_of(tokens: Tokens) -> Float[Tensor, "#batch 1 1"] | int:
    """How many cells show each picture."""
    return tokens.x.shape[1] if tokens.valid is None else tokens.valid.sum(dim=1)[:, None, None].to(tokens.x)


class AttentionMaps(nn.Module):
    """Where each query looks, with one softmax over all heads and cells; nothing is passed on.

    Args:
        dim: width of queries and memory.
        heads: how many maps each query has.
        even: answer in even shares: 1 where a query looks at everything alike. Shares of one are thousandths, beside
            which a fresh mask head sees little but the picture.
        near: begin by looking at what is near, where places are told: what asks and what answers have one matrix.
    """

    def __init__(self, dim: int, heads: int, *, even: bool = False, near: bool = False) -> None:
        super().__init__()
        self.heads, self.scale, self.even = heads, (dim // heads) ** -0.5, even
        self.query, self.key = nn.Linear(dim, dim), nn.Linear(dim, dim)
        for part in (self.query, self.key):
            nn.init.xavier_uniform_(part.weight)
            nn.init.zeros_(part.bias)
        if near:
            self.key.load_state_dict(self.query.state_dict())

    def forward(
        self,
        x: Float[Tensor, "batch queries dim"],
        memory: Memory,
        places: Float[Tensor, "batch queries dim"] | None = None,
    ) -> Float[Tensor, "batch queries heads rows columns"]:
        """Shares of each query's look, which sum to one; even shares sum to as many as there are.

        Args:
            x: the queries.
            memory: what the encoder understood.
            places: the positions of what the queries have found, which are then compared with those of the cells.
        """
        tokens, (rows, _) = memory.tokens, memory.tokens.grid
        cells = tokens.x if places is None else tokens.x + memory.position
        x = x if places is None else x + places
        query = rearrange(
            self.query(x) * self.scale, "batch query (heads width) -> batch query heads width", heads=self.heads
        )
        key = rearrange(self.key(cells), "batch key (heads width) -> batch key heads width", heads=self.heads)
        scores = torch.einsum("b q h w, b k h w -> b q h k", query, key)
        if tokens.valid is not None:  # the least number and not infinity, which is no number where nothing is shown
            scores = scores.masked_fill(~tokens.valid[:, None, None], torch.finfo(scores.dtype).min)
        shares = scores.flatten(2).softmax(dim=-1)
        if self.even:
            shares = shares * (self.heads * cells_of(tokens))
        return rearrange(
            shares, "batch query (heads rows columns) -> batch query heads rows columns", heads=self.heads, rows=rows
        )


class Refine(nn.Module):
    """A 3x3 convolution, a group norm and a rectifier."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.norm = nn.GroupNorm(GROUPS, outputs)

    def forward(self, x: Float[Tensor, "painted inputs rows columns"]) -> Float[Tensor, "painted outputs rows columns"]:
        return F.relu(self.norm(self.convolution(x)))


class MaskHead(nn.Module):
    """Maps of where queries look, sharpened step by step with the finer maps of the backbone (a feature pyramid).

    Args:
        dim: width of the detector.
        heads: maps of each query.
        finer: widths of the backbone's maps, coarsest first.

    Source: Lin et al., "Feature Pyramid Networks for Object Detection", CVPR 2017.
    """

    def __init__(self, dim: int, heads: int, finer: Sequence[int]) -> None:
        super().__init__()
        widths = [dim // divisor for divisor in NARROWER[: len(finer) + 1]]
        self.mix = Refine(dim + heads, dim + heads)
        self.narrow = Refine(dim + heads, widths[0])
        self.adapters = nn.ModuleList(nn.Conv2d(one, width, 1) for one, width in zip(finer, widths, strict=False))
        self.refine = nn.ModuleList(Refine(*pair) for pair in pairwise(widths))
        self.out = nn.Conv2d(widths[-1], 1, 3, padding=1)
        for part in self.modules():
            if isinstance(part, nn.Conv2d):
                nn.init.kaiming_uniform_(part.weight, a=1)
                assert part.bias is not None
                nn.init.zeros_(part.bias)

    def forward(
        self,
        pictures: Int[Tensor, " painted"],
        seen: Float[Tensor, "batch dim rows columns"],
        looks: Float[Tensor, "painted heads rows columns"],
        finer: Sequence[Tensor],
    ) -> Float[Tensor, "painted height width"]:
        """Logits of each pixel, on the finest map, belonging to some queries.

        Args:
            pictures: the place of the picture that each query is asked about.
            seen: what the detector reads.
            looks: where each query looks on it.
            finer: the backbone's other maps, coarsest first.
        """
        x = self.narrow(self.mix(torch.cat([seen[pictures], looks], dim=1)))
        for adapter, refine, map in zip(self.adapters, self.refine, finer, strict=True):
            x = refine(F.interpolate(x, size=map.shape[2:], mode="nearest") + adapter(map)[pictures])
        return self.out(x)[:, 0]


class Canvas:
    """The masks of some pictures, of which only those are painted that are asked for.

    Painting is most of the work, and most of the queries have found nothing. A mask depends on its own query and
    picture alone: in a batch with padding each picture is painted as if it were by itself.

    Args:
        head: paints.
        looks: where all queries look.
        seen: what the detector reads.
        finer: the backbone's other maps, coarsest first. Where they have no `valid`, all of the frame is painted.
    """

    def __init__(
        self,
        head: MaskHead,
        looks: Float[Tensor, "batch queries heads rows columns"],
        seen: Feature,
        finer: Sequence[Feature],
    ) -> None:
        self.head, self.looks, self.seen, self.finer = head, looks, seen, finer

    def __getitem__(
        self, where: tuple[Int[Tensor, " chosen"], Int[Tensor, " chosen"]]
    ) -> Float[Tensor, "chosen height width"]:
        """The masks of some queries, given the places of their pictures in the batch, and the queries."""
        pictures, queries = where
        if not len(pictures):  # one in vain, so that in several processes all parts always learn
            return self[pictures.new_zeros(1), queries.new_zeros(1)][:0]
        looks = self.looks[pictures, queries]
        if self.seen.valid is None:
            return self.head(pictures, self.seen.map, looks, [one.map for one in self.finer])
        masks = looks.new_zeros(len(pictures), *self.finer[-1].map.shape[2:])
        for place in pictures.unique().tolist():
            its = pictures == place
            painted = self.alone(place, looks[its])
            masks[its, : painted.shape[1], : painted.shape[2]] = painted
        return masks

    def alone(
        self, place: int, looks: Float[Tensor, "painted heads rows columns"]
    ) -> Float[Tensor, "painted height width"]:
        """Masks of one picture, without its padding."""
        maps = []
        for one in (self.seen, *self.finer):
            assert one.valid is not None
            rows, columns = extent(one.valid[place])
            maps.append(one.map[place : place + 1, :, :rows, :columns])
        seen, *finer = maps
        rows, columns = seen.shape[2:]
        nobody_else = torch.zeros(len(looks), dtype=torch.int64, device=looks.device)
        return self.head(nobody_else, seen, looks[:, :, :rows, :columns], finer)

    def whole(self) -> Float[Tensor, "batch queries height width"]:
        """The masks of all queries."""
        batch, queries = self.looks.shape[:2]
        places = torch.arange(batch * queries, device=self.looks.device)
        return self[places // queries, places % queries].unflatten(0, (batch, queries))


class Panoptic(nn.Module):
    """Find objects and stuff: what each is, where its box is, and which pixels are its."""

    def __init__(self, config: PanopticConfig) -> None:
        super().__init__()
        self.config = config
        detr = config.detr
        *finer, _ = detr.backbone.dims
        self.detr = DETR(detr)
        self.look = AttentionMaps(detr.dim, config.maps, even=config.even, near=config.placed)
        self.mask_head = MaskHead(detr.dim, config.maps, finer[::-1])

    @property
    def bleeds(self) -> bool:
        """Whether masks reach over the border of a picture into the padding beside it, as published."""
        backbone = self.config.detr.backbone
        assert isinstance(backbone, ResNetConfig), "the configuration refuses others"
        return backbone.padding == "original"

    def canvas(
        self,
        x: Float[Tensor, "batch queries dim"],
        boxes: Float[Tensor, "batch queries 4"],
        memory: Memory,
        seen: Feature,
        finer: Sequence[Feature],
    ) -> Canvas:
        """The masks of all queries, from what the decoder made of them.

        A query that is a point tells its box from there, and need not know itself where it is; its look is told.
        With `padding="original"` nothing is put back to zero, and masks bleed over the border of a picture.
        """
        places = None
        if self.config.placed:
            assert isinstance(self.detr.positions, CountedSinusoids)  # the configuration sees to it
            places = self.detr.positions.at(boxes[..., :2].detach())
        if self.bleeds:
            seen, finer = seen._replace(valid=None), [one._replace(valid=None) for one in finer]
        return Canvas(self.mask_head, self.look(x, memory, places), seen, finer)

    def layers(
        self,
        pixels: Float[Tensor, "batch channels height width"],
        valid: Bool[Tensor, "batch height width"] | None = None,
    ) -> list[Detections | Segmentations]:
        """What each layer of the decoder would answer, first to last; only the last paints, and only what is asked."""
        *coarser, last = self.detr.backbone.features(pixels, range(len(self.config.detr.backbone.dims)), valid)
        seen = last._replace(map=self.detr.project(last.map))
        memory = self.detr.read(seen)
        decoded = self.detr.decode(memory)
        *earlier, answer = map(self.detr.answer, decoded)
        canvas = self.canvas(decoded[-1].x, answer.boxes, memory, seen, coarser[::-1])
        return [*earlier, Segmentations(answer.logits, answer.boxes, canvas)]

    def forward(
        self,
        pixels: Float[Tensor, "batch channels height width"],
        valid: Bool[Tensor, "batch height width"] | None = None,
    ) -> Segmentations:
        """What each query has found, and the logits of its pixels on a grid of a quarter of the frame.

        Args:
            pixels: prepared pictures; where they have different sizes, each in the upper left corner of the frame.
            valid: `True` where there is a picture and not padding; `None` when all is.
        """
        answer = self.layers(pixels, valid)[-1]
        assert isinstance(answer, Segmentations), "the last layer paints"
        assert isinstance(answer.masks, Canvas), "when it is asked"
        return answer._replace(masks=answer.masks.whole())
