"""transformers' ViT, DeiT, Dinov2 and Dinov2WithRegisters, with a classifier and without.

Files are mapped, not modules: since version 5 the modules have other names in memory, which are read as aliases.
transformers' ViT and DeiT have epsilon 1e-12 in their norms where nothing else is said.

Source: transformers 5.23, `models/{vit,deit,dinov2,dinov2_with_registers}` (names, fields and their defaults).
"""

import math
from collections.abc import Sequence
from typing import Any

from vitrail.errors import ConfigError
from vitrail.geometry.grid import pair
from vitrail.models.family import Format, Shapes
from vitrail.models.foreign import TRANSFORMERS_ACTIVATIONS, Fields, foreign_word, one_of, read_told_apart
from vitrail.models.vit import ViTConfig
from vitrail.models.vit_formats.common import differs
from vitrail.weights.keymap import Alias, Ignore, KeyMap, Rename, Split, within

TOKENS = (
    Alias("{rest}.gamma", "{rest}.weight"),
    Alias("{rest}.beta", "{rest}.bias"),
    Rename("embeddings.cls_token", "class_token"),
    Rename("embeddings.position_embeddings", "positions.table"),
    Rename("embeddings.patch_embeddings.projection.{p}", "patch_embed.project.{p}"),
    Rename("layernorm.{p}", "norm.{p}"),
)
ATTENTION = (
    Alias("layers.{i}.{rest}", "encoder.layer.{i}.{rest}"),
    Alias("encoder.layer.{i}.attention.q_proj.{p}", "encoder.layer.{i}.attention.attention.query.{p}"),
    Alias("encoder.layer.{i}.attention.k_proj.{p}", "encoder.layer.{i}.attention.attention.key.{p}"),
    Alias("encoder.layer.{i}.attention.v_proj.{p}", "encoder.layer.{i}.attention.attention.value.{p}"),
    Alias("encoder.layer.{i}.attention.o_proj.{p}", "encoder.layer.{i}.attention.output.dense.{p}"),
    Rename("encoder.layer.{i}.attention.attention.query.{p}", "blocks.{i}.attention.query.{p}"),
    Rename("encoder.layer.{i}.attention.attention.key.{p}", "blocks.{i}.attention.key.{p}"),
    Rename("encoder.layer.{i}.attention.attention.value.{p}", "blocks.{i}.attention.value.{p}"),
    Rename("encoder.layer.{i}.attention.output.dense.{p}", "blocks.{i}.attention.out.{p}"),
)
VIT = (
    *TOKENS,
    *ATTENTION,
    Alias("encoder.layer.{i}.mlp.fc1.{p}", "encoder.layer.{i}.intermediate.dense.{p}"),
    Alias("encoder.layer.{i}.mlp.fc2.{p}", "encoder.layer.{i}.output.dense.{p}"),
    Rename("encoder.layer.{i}.layernorm_before.{p}", "blocks.{i}.around_attention.norm.{p}"),
    Rename("encoder.layer.{i}.intermediate.dense.{p}", "blocks.{i}.mlp.expand.{p}"),
    Rename("encoder.layer.{i}.layernorm_after.{p}", "blocks.{i}.around_mlp.norm.{p}"),
    Rename("encoder.layer.{i}.output.dense.{p}", "blocks.{i}.mlp.contract.{p}"),
    Ignore("embeddings.mask_token", "it stood for hidden patches in pre-training; it is not written back"),
)
DEIT = (*VIT, Rename("embeddings.distillation_token", "distillation_token"))
DINOV2 = (
    *TOKENS,
    *ATTENTION,
    Rename("embeddings.mask_token", "mask_token"),
    Rename("encoder.layer.{i}.norm1.{p}", "blocks.{i}.around_attention.norm.{p}"),
    Rename("encoder.layer.{i}.layer_scale1.lambda1", "blocks.{i}.around_attention.layer_scale"),
    Rename("encoder.layer.{i}.norm2.{p}", "blocks.{i}.around_mlp.norm.{p}"),
    Rename("encoder.layer.{i}.layer_scale2.lambda1", "blocks.{i}.around_mlp.layer_scale"),
)
REGISTERS = Rename(
    "embeddings.register_tokens",
    "registers",
    empty=lambda ours: ours["class_token"].new_zeros(1, 0, ours["class_token"].shape[2]),
)
PLAIN_MLP = (
    Rename("encoder.layer.{i}.mlp.fc1.{p}", "blocks.{i}.mlp.expand.{p}"),
    Rename("encoder.layer.{i}.mlp.fc2.{p}", "blocks.{i}.mlp.contract.{p}"),
)
GATED_MLP = (
    Split("encoder.layer.{i}.mlp.weights_in.{p}", ("blocks.{i}.mlp.gate.{p}", "blocks.{i}.mlp.expand.{p}")),
    Rename("encoder.layer.{i}.mlp.weights_out.{p}", "blocks.{i}.mlp.contract.{p}"),
)
POOLER = (Rename("pooler.dense.{p}", "representation.{p}"),)
UNUSED_POOLER = (Ignore("pooler.dense.{p}", "the classifier does not read it; it is not written back"),)
CLASSIFIER = (Rename("classifier.{p}", "head.{p}"),)
TWO_CLASSIFIERS = (
    Rename("cls_classifier.{p}", "head.{p}"),
    Rename("distillation_classifier.{p}", "distillation_head.{p}"),
)


def read_common(config: Fields) -> dict[str, Any]:
    """The fields that all of them have."""
    dim, heads = config.get("hidden_size", 768), config.get("num_attention_heads", 12)
    if config.get("head_dim") not in (None, dim / heads if heads else None):
        raise ConfigError(f"head_dim={config['head_dim']} is not supported: heads are {dim} / {heads} wide here.")
    return {
        "image": config.get("image_size", 224),
        "channels": config.get("num_channels", 3),
        "dim": dim,
        "depth": config.get("num_hidden_layers", 12),
        "heads": heads,
        "activation": one_of(TRANSFORMERS_ACTIVATIONS, config.get("hidden_act", "gelu"), "hidden_act"),
        "dropout": config.get("hidden_dropout_prob", 0.0),
        "attention_dropout": config.get("attention_probs_dropout_prob", 0.0),
        "bias": config.get("qkv_bias", True),
    }


def write_common(config: ViTConfig) -> dict[str, Any]:
    """The fields that all of them have, from ours."""
    return {
        "hidden_size": config.dim,
        "num_hidden_layers": config.depth,
        "num_attention_heads": config.heads,
        "hidden_act": foreign_word(TRANSFORMERS_ACTIVATIONS, config.activation),
        "hidden_dropout_prob": config.dropout,
        "attention_probs_dropout_prob": config.attention_dropout,
        "layer_norm_eps": config.eps,
        "image_size": config.image,
        "patch_size": config.patch,
        "num_channels": config.channels,
        "qkv_bias": config.bias,
    }


def read_vit(config: Fields, shapes: Shapes) -> dict[str, Any]:
    """ViTModel or DeiTModel; whether it has a pooler, only its tensors tell."""
    pooled = "pooler.dense.weight" in shapes
    if pooled and config.get("pooler_act", "tanh") != "tanh":
        raise ConfigError(f"pooler_act={config['pooler_act']!r} is not supported. Supported: tanh.")
    return read_common(config) | {
        "patch": config.get("patch_size", 16),
        "mlp_dim": config.get("intermediate_size", 3072),
        "eps": config.get("layer_norm_eps", 1e-12),
        "dialect": "transformers",
        "representation": (config.get("pooler_output_size") or config.get("hidden_size", 768)) if pooled else None,
    }


def write_vit(config: ViTConfig) -> dict[str, Any]:
    """ViTConfig or DeiTConfig, from ours."""
    return write_common(config) | {
        "intermediate_size": config.mlp_dim,
        "pooler_act": "tanh",
        "pooler_output_size": config.representation or config.dim,
    }


def vit(model_type: str, name: str, table: tuple, *, classifier: bool, **fields: Any) -> Format:
    """A ViT or DeiT of transformers; `fields` of ours are what its name means."""
    return Format(
        library="transformers",
        architectures=(name,),
        keymap=KeyMap(table),
        read_config=lambda config, shapes: (
            read_vit(config, shapes) | {"classes": read_told_apart(config) if classifier else 0} | fields
        ),
        write_config=lambda config: write_vit(config) | {"architectures": [name], "model_type": model_type},
        misfits=lambda config: differs(
            config,
            classes=max(config.classes, 1) if classifier else 0,
            representation=None if classifier else config.representation,
            **fields,
        ),
        defaults={"eps": 1e-12, "dialect": "transformers"} | fields,
    )


def swiglu_width(width: int) -> int:
    """Width inside DINOv2's gated MLP: two thirds of the plain one, rounded up to a multiple of 8."""
    return (int(width * 2 / 3) + 7) // 8 * 8


def mlp_ratio(config: ViTConfig) -> int | None:
    """The whole number by which DINOv2 widens its MLPs, if there is one."""
    for ratio in range(1, 65):
        width = config.dim * ratio
        if (swiglu_width(width) if config.gated else width) == config.mlp_dim:
            return ratio
    return None


def check_square(image: int | Sequence[int], patch: int | Sequence[int]) -> None:
    """Refuse a DINOv2 for a picture that is not square: transformers takes its positions for those of a square.

    Raises:
        ConfigError: says which square answers the same.
    """
    (rows, columns), (height, width) = pair(image), pair(patch)
    if rows // height != columns // width:
        side = math.isqrt((rows // height) * (columns // width))
        raise ConfigError(
            f"image_size={image} with patch_size={patch} makes {rows // height} x {columns // width} patches, and "
            f"transformers takes the positions of a DINOv2 for those of a square. Set image_size={side * height}: it "
            f"answers the same for a picture of any size."
        )


def read_dinov2(config: Fields, registers: bool) -> dict[str, Any]:
    """Dinov2Model or Dinov2WithRegistersModel."""
    common, gated = read_common(config), config.get("use_swiglu_ffn", False)
    width = int(common["dim"] * config.get("mlp_ratio", 4))
    patch = config.get("patch_size", 16 if registers else 14)
    check_square(common["image"], patch)
    return common | {
        "patch": patch,
        "mlp_dim": swiglu_width(width) if gated else width,
        "eps": config.get("layer_norm_eps", 1e-6),
        "dropout": 0.0,
        "embed_dropout": common["dropout"] or None,  # there, no branch is dropped
        "gated": gated,
        "layer_scale": config.get("layerscale_value", 1.0),
        "drop_path": config.get("drop_path_rate", 0.0),
        "registers": config.get("num_register_tokens", 4) if registers else 0,
        "mask_token": registers or config.get("use_mask_token", True),
    }


def write_dinov2(config: ViTConfig, registers: bool) -> dict[str, Any]:
    """Dinov2Config or Dinov2WithRegistersConfig, from ours."""
    own = {"num_register_tokens": config.registers} if registers else {"use_mask_token": config.mask_token}
    return write_common(config) | own | {
        "hidden_dropout_prob": config.embedded_dropout,
        "mlp_ratio": mlp_ratio(config),
        "use_swiglu_ffn": config.gated,
        "layerscale_value": config.layer_scale,
        "drop_path_rate": config.drop_path,
    }  # fmt: skip


def dinov2(*, registers: bool, classifier: bool, gated: bool) -> Format:
    """One of the eight forms of transformers' DINOv2."""
    model_type = "dinov2_with_registers" if registers else "dinov2"
    kind = "ForImageClassification" if classifier else "Model"
    name = f"Dinov2{'WithRegisters' if registers else ''}{kind}"
    rules = (*DINOV2, *((REGISTERS,) if registers else ()), *(GATED_MLP if gated else PLAIN_MLP))
    means = {
        "positions_for": "class",
        "dialect": "dinov2-registers" if registers else "dinov2",
        "pool": "class+mean" if classifier else "class",
    }

    def misfits(config: ViTConfig) -> list[str]:
        none = config.dialect == "dinov2-registers"  # what tells a model without registers from a plain DINOv2
        wrong = differs(
            config,
            classes=max(config.classes, 1) if classifier else 0,
            registers=max(config.registers, 0 if none else 1) if registers else 0,
            mask_token=registers or config.mask_token,
            layer_scale=1.0 if config.layer_scale is None else config.layer_scale,
            gated=gated,
            pool=means["pool"],
            positions_for="class",
        )
        wrong += [] if mlp_ratio(config) else ["mlp_dim"]
        return wrong if config.grid[0] == config.grid[1] else [*wrong, "image"]

    return Format(
        library="transformers",
        architectures=(name,),
        keymap=KeyMap((*within(f"{model_type}.", rules), *CLASSIFIER) if classifier else rules),
        read_config=lambda config, shapes: (
            read_dinov2(config, registers) | {"classes": read_told_apart(config) if classifier else 0} | means
        ),
        write_config=lambda config: (
            write_dinov2(config, registers) | {"architectures": [name], "model_type": model_type}
        ),
        misfits=misfits,
        defaults={"eps": 1e-6} | means,
    )


FORMATS = (
    vit(
        "vit",
        "ViTForImageClassification",
        (*within("vit.", (*VIT, *UNUSED_POOLER)), *CLASSIFIER),
        classifier=True,
    ),
    vit("vit", "ViTModel", (*VIT, *POOLER), classifier=False),
    vit(
        "deit",
        "DeiTForImageClassification",
        (*within("deit.", (*DEIT, *UNUSED_POOLER)), *CLASSIFIER),
        classifier=True,
        distillation_token=True,
    ),
    vit(
        "deit",
        "DeiTForImageClassificationWithTeacher",
        (*within("deit.", (*DEIT, *UNUSED_POOLER)), *TWO_CLASSIFIERS),
        classifier=True,
        distillation_token=True,
        distillation_head=True,
    ),
    vit("deit", "DeiTModel", (*DEIT, *POOLER), classifier=False, distillation_token=True),
    *(
        dinov2(registers=registers, classifier=classifier, gated=gated)
        for registers in (True, False)  # a model without registers is written as one with them where both fit
        for classifier in (True, False)
        for gated in (False, True)
    ),
)
