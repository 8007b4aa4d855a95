"""A family whose configuration holds others, as small as it can be."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from vitrail.fields import check_fields
from vitrail.models.family import Family, Format
from vitrail.weights.keymap import KeyMap, Rename


@dataclass(frozen=True, kw_only=True, slots=True)
class Wide:
    family: ClassVar[str] = "wide"

    dims: tuple[int, ...] = (2, 3)
    eps: float = 1e-5

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, kw_only=True, slots=True)
class Deep:
    family: ClassVar[str] = "deep"

    depth: int = 2
    eps: float = 1e-6


@dataclass(frozen=True, kw_only=True, slots=True)
class HolderConfig:
    backbone: Wide | Deep = Wide()
    stem: Deep | None = None
    image: int = 16
    classes: int = 4


class Holder(nn.Module):
    def __init__(self, config: HolderConfig) -> None:
        super().__init__()
        self.config = config
        widths = config.backbone.dims if isinstance(config.backbone, Wide) else [1] * config.backbone.depth
        self.parts = nn.ModuleList(nn.Linear(width, 1) for width in widths)

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1)[:, : self.config.classes]


def infer(shapes, guess):
    """The widths, as a family tells what is within."""
    widths = [shape[1] for name, shape in sorted(shapes.items()) if name.endswith("weight")]
    return {"backbone": {"family": "wide", "dims": tuple(widths)}}


FAMILY = Family(
    name="holder",
    config=HolderConfig,
    build=Holder,
    variants={"holder-a": HolderConfig(), "holder-b": HolderConfig(backbone=Deep(), stem=Deep(depth=5))},
    flexible=("classes", "image"),
    formats=(Format(library="timm", keymap=KeyMap([Rename("p.{i}.{p}", "parts.{i}.{p}")])),),
)
