"""What the formats of all libraries share."""

from typing import Any

from vitrail.models.vit import ViTConfig

QUERY_KEY_VALUE = tuple(f"blocks.{{i}}.attention.{part}.{{p}}" for part in ("query", "key", "value"))

PLAIN = ViTConfig()
STRUCTURE = (
    "stem", "backbone", "class_token", "distillation_token", "distillation_head", "registers", "mask_token", "position",
    "positions_for", "norm", "gated", "layer_scale", "pool", "norm_pooled", "representation",
)  # fmt: skip


def differs(config: ViTConfig, **values: Any) -> list[str]:
    """In what a configuration is not a plain ViT with these values; sizes are free."""
    wanted = {name: getattr(PLAIN, name) for name in STRUCTURE} | values
    placed = {"all": config.prefix, "class": config.prefix - config.registers, "patches": 0}
    if placed[wanted["positions_for"]] == config.positioned:
        wanted["positions_for"] = config.positions_for  # the same, said otherwise
    return [name for name, value in wanted.items() if getattr(config, name) != value]
