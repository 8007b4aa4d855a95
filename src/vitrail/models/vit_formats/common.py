"""What the formats of all libraries share."""

from collections.abc import Mapping
from typing import Any

from vitrail.errors import ConfigError
from vitrail.models.vit import ViTConfig

Fields = Mapping[str, Any]

QUERY_KEY_VALUE = tuple(f"blocks.{{i}}.attention.{part}.{{p}}" for part in ("query", "key", "value"))

PLAIN = ViTConfig()
STRUCTURE = (
    "stem", "class_token", "distillation_token", "distillation_head", "registers", "mask_token", "position",
    "positions_for", "norm", "gated", "layer_scale", "pool", "norm_pooled", "representation",
)  # fmt: skip


def differs(config: ViTConfig, **values: Any) -> list[str]:
    """In what a configuration is not a plain ViT with these values; sizes are free."""
    wanted = {name: getattr(PLAIN, name) for name in STRUCTURE} | values
    placed = {"all": config.prefix, "class": config.prefix - config.registers, "patches": 0}
    if placed[wanted["positions_for"]] == config.positioned:
        wanted["positions_for"] = config.positions_for  # the same, said otherwise
    return [name for name, value in wanted.items() if getattr(config, name) != value]


def one_of(table: Mapping[str, Any], value: Any, field: str) -> Any:
    """What a foreign word means here.

    Raises:
        ConfigError: a word we do not know.
    """
    if value not in table:
        raise ConfigError(f"{field}={value!r} is not supported. Supported: {', '.join(map(str, table))}.")
    return table[value]


def foreign_word(table: Mapping[str, str], value: str) -> str:
    """The first foreign word for one of ours."""
    return next(theirs for theirs, ours in table.items() if ours == value)
