"""Weights of one configuration made ready for another: other classes, another picture, other channels."""

import torch
from torch import Tensor

from vitrail.core.positions import resize_positions
from vitrail.errors import CheckpointError
from vitrail.models.family import changed, resize_channels
from vitrail.models.foreign import Fields
from vitrail.models.vit import ViTConfig


def change(config: ViTConfig, changes: Fields) -> ViTConfig:
    """A configuration with some fields changed.

    New classes are read from the token itself: the layer before the old head goes with it, as the paper does when it
    fine-tunes (Dosovitskiy et al. 2021, section 3.2).
    """
    changes = dict(changes)
    classes = changes.get("classes", config.classes)
    if classes and classes != config.classes and not config.classes:
        changes.setdefault("representation", None)
    if not classes:
        changes.setdefault("distillation_head", False)
    return changed(config, changes)


def resize_stem(tensors: dict[str, Tensor], old: ViTConfig, new: ViTConfig) -> list[str]:
    """Make the first convolution read another number of channels."""
    name = "patch_embed.convolutions.0.weight" if old.stem else "patch_embed.project.weight"
    name = name if old.backbone is None else "patch_embed.backbone.stem.weight"
    return resize_channels(tensors, name, old.channels, new.channels)


def resize_places(tensors: dict[str, Tensor], old: ViTConfig, new: ViTConfig) -> list[str]:
    """Stretch learned positions to the new grid, in the dialect of the new configuration.

    Raises:
        CheckpointError: a table of relative positions, which belongs to its grid.
    """
    if old.grid == new.grid or old.position in ("none", "sinusoidal", "relative-log"):
        return []
    if old.position == "relative":
        raise CheckpointError(
            f"The relative positions of these weights are for {old.grid[0]} x {old.grid[1]} patches and cannot be "
            f"stretched to {new.grid[0]} x {new.grid[1]}. Keep image={old.image}."
        )
    tables = {"positions.table": (old.grid, new.grid, old.positioned)}
    if old.position == "axes":
        tables = {
            "positions.rows": ((old.grid[0], 1), (new.grid[0], 1), 0),
            "positions.columns": ((1, old.grid[1]), (1, new.grid[1]), 0),
        }
    for name, (before, after, prefix) in tables.items():
        tensors[name] = resize_positions(tensors[name], before, after, prefix=prefix, dialect=new.dialect)
    return [
        f"Positions stretched from {old.grid[0]} x {old.grid[1]} to {new.grid[0]} x {new.grid[1]} patches, as "
        f"{new.dialect} does."
    ]


def prefix_names(config: ViTConfig) -> list[str]:
    """The tokens without a place, in their order; those that have a learned position come first."""
    tokens = ["class token"] * config.class_token + ["distillation token"] * config.distillation_token
    return tokens + [f"register {number}" for number in range(config.registers)]


def insert_places(tensors: dict[str, Tensor], old: ViTConfig, new: ViTConfig) -> list[str]:
    """Give new tokens before the patches a position of zeros, and take away those of tokens that are gone."""
    if old.position != "learned" or new.position != "learned":
        return []
    before, after = prefix_names(old)[: old.positioned], prefix_names(new)[: new.positioned]
    lost = [name for name in before if name in prefix_names(new) and name not in after]
    if before == after or lost:  # a token that stays and loses its position would answer otherwise
        return []
    table = tensors["positions.table"]
    rows = [table[:, before.index(name)] if name in before else torch.zeros_like(table[:, 0]) for name in after]
    tensors["positions.table"] = torch.cat([*(row[:, None] for row in rows), table[:, old.positioned :]], dim=1)
    added = [name for name in after if name not in before]
    gone = [name for name in before if name not in after]
    return [f"positions.table has a new row of zeros for: {', '.join(added)}."] * bool(added) + [
        f"positions.table lost the row of: {', '.join(gone)}."
    ] * bool(gone)


def resize(tensors: dict[str, Tensor], old: ViTConfig, new: ViTConfig) -> tuple[dict[str, Tensor], list[str]]:
    """Tensors of one configuration made ready for another, and a sentence for each change."""
    tensors = dict(tensors)
    return tensors, (
        resize_stem(tensors, old, new) + resize_places(tensors, old, new) + insert_places(tensors, old, new)
    )
