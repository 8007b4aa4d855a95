"""torchvision's `VisionTransformer`, of which there are only bare files.

Source: torchvision 0.28, `models/vision_transformer.py` (names and layouts).
"""

from vitrail.models.family import Format
from vitrail.models.vit_formats.common import QUERY_KEY_VALUE
from vitrail.weights.keymap import Alias, KeyMap, Rename, Split

NAMES = (
    Rename("class_token", "class_token"),
    Rename("encoder.pos_embedding", "positions.table"),
    Rename("encoder.layers.encoder_layer_{i}.ln_1.{p}", "blocks.{i}.around_attention.norm.{p}"),
    Split("encoder.layers.encoder_layer_{i}.self_attention.in_proj_{p}", QUERY_KEY_VALUE),
    Rename("encoder.layers.encoder_layer_{i}.self_attention.out_proj.{p}", "blocks.{i}.attention.out.{p}"),
    Rename("encoder.layers.encoder_layer_{i}.ln_2.{p}", "blocks.{i}.around_mlp.norm.{p}"),
    Alias("encoder.layers.encoder_layer_{i}.mlp.linear_1.{p}", "encoder.layers.encoder_layer_{i}.mlp.0.{p}"),
    Alias("encoder.layers.encoder_layer_{i}.mlp.linear_2.{p}", "encoder.layers.encoder_layer_{i}.mlp.3.{p}"),
    Rename("encoder.layers.encoder_layer_{i}.mlp.0.{p}", "blocks.{i}.mlp.expand.{p}"),
    Rename("encoder.layers.encoder_layer_{i}.mlp.3.{p}", "blocks.{i}.mlp.contract.{p}"),
    Rename("encoder.ln.{p}", "norm.{p}"),
    Rename("heads.pre_logits.{p}", "representation.{p}"),
    Rename("heads.head.{p}", "head.{p}"),
)
PATCH = (Rename("conv_proj.{p}", "patch_embed.project.{p}"),)
STEM = (
    Rename("conv_proj.conv_bn_relu_{i}.0.{p}", "patch_embed.convolutions.{i}.{p}"),
    Rename("conv_proj.conv_bn_relu_{i}.1.{p}", "patch_embed.norms.{i}.{p}"),
    Rename("conv_proj.conv_last.{p}", "patch_embed.project.{p}"),
)
FORMATS = tuple(
    Format(
        library="torchvision",
        keymap=KeyMap((*NAMES, *stem)),
        defaults={"eps": 1e-6, "dialect": "torchvision"},
        preprocessing={"interpolation": "bilinear"},
    )
    for stem in (PATCH, STEM)
)
