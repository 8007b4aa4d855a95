"""Files of facebookresearch/dinov2: encoders without a classifier.

Source: github.com/facebookresearch/dinov2, `models/vision_transformer.py` (names; how positions are stretched).
"""

from vitrail.models.family import Format
from vitrail.models.vit_formats.common import QUERY_KEY_VALUE
from vitrail.weights.keymap import Alias, KeyMap, Rename, Split

NAMES = (
    Rename("cls_token", "class_token"),
    Rename("pos_embed", "positions.table"),
    Rename("mask_token", "mask_token"),
    Rename("patch_embed.proj.{p}", "patch_embed.project.{p}"),
    Alias("blocks.{j}.{i}.{rest}", "blocks.{i}.{rest}"),  # blocks in chunks, for sharded training
    Rename("blocks.{i}.norm1.{p}", "blocks.{i}.around_attention.norm.{p}"),
    Split("blocks.{i}.attn.qkv.{p}", QUERY_KEY_VALUE),
    Rename("blocks.{i}.attn.proj.{p}", "blocks.{i}.attention.out.{p}"),
    Rename("blocks.{i}.ls1.gamma", "blocks.{i}.around_attention.layer_scale"),
    Rename("blocks.{i}.norm2.{p}", "blocks.{i}.around_mlp.norm.{p}"),
    Rename("blocks.{i}.ls2.gamma", "blocks.{i}.around_mlp.layer_scale"),
    Rename("norm.{p}", "norm.{p}"),
)
PLAIN_MLP = (
    Rename("blocks.{i}.mlp.fc1.{p}", "blocks.{i}.mlp.expand.{p}"),
    Rename("blocks.{i}.mlp.fc2.{p}", "blocks.{i}.mlp.contract.{p}"),
)
GATED_MLP = (
    Split("blocks.{i}.mlp.w12.{p}", ("blocks.{i}.mlp.gate.{p}", "blocks.{i}.mlp.expand.{p}")),
    Rename("blocks.{i}.mlp.w3.{p}", "blocks.{i}.mlp.contract.{p}"),
)
REGISTERS = (Rename("register_tokens", "registers"),)
FORMATS = tuple(
    Format(
        library="dinov2",
        keymap=KeyMap((*NAMES, *registers, *mlp)),
        defaults={"eps": 1e-6, "dialect": dialect, "positions_for": "class", "pool": "class"},
    )
    for registers, dialect in (((), "dino"), (REGISTERS, "dinov2-registers"))
    for mlp in (PLAIN_MLP, GATED_MLP)
)
