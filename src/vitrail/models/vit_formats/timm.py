"""timm's `VisionTransformer`, `VisionTransformerDistilled` and `VisionTransformerRelPos`, and their conv-stem hybrid.

timm's norm has epsilon 1e-6 in all of them. Source: timm 1.0.31, `vision_transformer.py`, `deit.py`,
`vision_transformer_relpos.py`, `vision_transformer_hybrid.py` (names, arguments and what they default to).
"""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from vitrail.errors import ConfigError
from vitrail.models.family import Format, Misfits, Shapes
from vitrail.models.foreign import Fields, foreign_word, one_of
from vitrail.models.resnetv2 import ResNetV2Config
from vitrail.models.resnetv2_formats import timm_names
from vitrail.models.vit import R26, ViTConfig
from vitrail.models.vit_formats.common import QUERY_KEY_VALUE, differs
from vitrail.weights.keymap import Alias, Ignore, KeyMap, Rename, Split, within

NAMES = (
    Rename("cls_token", "class_token"),
    Rename("dist_token", "distillation_token"),
    Rename("reg_token", "registers"),
    Rename("pos_embed", "positions.table"),
    Rename("patch_embed.proj.{p}", "patch_embed.project.{p}"),
    Rename("patch_embed.backbone.{i}.conv.{p}", "patch_embed.convolutions.{i}.{p}"),
    Rename("patch_embed.backbone.{i}.bn.{p}", "patch_embed.norms.{i}.{p}"),
    Rename("blocks.{i}.norm1.{p}", "blocks.{i}.around_attention.norm.{p}"),
    Split("blocks.{i}.attn.qkv.{p}", QUERY_KEY_VALUE),
    Rename("blocks.{i}.attn.rel_pos.relative_position_bias_table", "blocks.{i}.bias.table"),
    Ignore("blocks.{i}.attn.rel_pos.relative_position_index", "it is computed from the grid, here and in timm"),
    Rename("blocks.{i}.attn.rel_pos.mlp.fc1.{p}", "blocks.{i}.bias.expand.{p}"),
    Rename("blocks.{i}.attn.rel_pos.mlp.fc2.{p}", "blocks.{i}.bias.contract.{p}"),
    Rename("blocks.{i}.attn.proj.{p}", "blocks.{i}.attention.out.{p}"),
    Rename("blocks.{i}.ls1.gamma", "blocks.{i}.around_attention.layer_scale"),
    Rename("blocks.{i}.norm2.{p}", "blocks.{i}.around_mlp.norm.{p}"),
    Rename("blocks.{i}.mlp.fc2.{p}", "blocks.{i}.mlp.contract.{p}"),
    Rename("blocks.{i}.ls2.gamma", "blocks.{i}.around_mlp.layer_scale"),
    Alias("pre_logits.fc.{p}", "pre_logits.{p}"),
    Rename("pre_logits.{p}", "representation.{p}"),
    Rename("head.{p}", "head.{p}"),
    Rename("head_dist.{p}", "distillation_head.{p}"),
)
NOT_POOLED = {"norm_pooled": False}
NORM = (Rename("norm.{p}", "norm.{p}"),)
NORM_POOLED = (Rename("fc_norm.{p}", "norm.{p}"),)
PLAIN_MLP = (Rename("blocks.{i}.mlp.fc1.{p}", "blocks.{i}.mlp.expand.{p}"),)
GATED_MLP = (Split("blocks.{i}.mlp.fc1.{p}", ("blocks.{i}.mlp.gate.{p}", "blocks.{i}.mlp.expand.{p}")),)

INSIDE = "patch_embed.backbone."
ROOT = (
    Rename(f"{INSIDE}conv.weight", f"{INSIDE}stem.weight"),
    Rename(f"{INSIDE}norm.{{p}}", f"{INSIDE}stem_norm.{{p}}"),
)
STAGES = within(INSIDE, (rule for rule in timm_names(INSIDE) if rule.theirs != "norm.{p}"))  # which norms before have

ARCHITECTURES = tomllib.loads(Path(__file__).with_name("timm.toml").read_text())  # sizes, in timm's words

POOLS = {"token": "class", "avg": "mean"}
BLOCKS = {"Block": "before", "ResPostBlock": "branch"}
MLPS = {"Mlp": False, "SwiGLUPacked": True}
ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_tanh": "gelu-tanh",
    "quick_gelu": "quick-gelu",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
}
NEUTRAL = {  # arguments that change no answer, or change none at this value
    "qk_norm": False, "scale_attn_norm": False, "scale_mlp_norm": False, "proj_bias": True, "pre_norm": False,
    "final_norm": True, "pool_include_prefix": False, "dynamic_img_pad": False, "shared_rel_pos": False,
    "norm_layer": "layernorm",
}  # fmt: skip
TRAINING = (
    "drop_rate", "pos_drop_rate", "patch_drop_rate", "proj_drop_rate", "attn_drop_rate", "weight_init", "fix_init",
    "dynamic_img_size", "strict_img_size", "num_classes",
)  # fmt: skip
READ = (
    "img_size", "patch_size", "in_chans", "embed_dim", "depth", "num_heads", "mlp_ratio", "qkv_bias", "init_values",
    "class_token", "no_embed_class", "reg_tokens", "global_pool", "fc_norm", "pos_embed", "rel_pos_type",
    "rel_pos_dim", "block_fn", "mlp_layer", "act_layer", "drop_path_rate",
)  # fmt: skip


def published(config: Fields) -> Fields:
    """What timm knows about published weights; in older folders it stands among the rest."""
    said = config.get("pretrained_cfg")
    if said and not isinstance(said, Mapping):
        raise TypeError(f"pretrained_cfg is {said!r:.40}")
    return said or {name: value for name, value in config.items() if name != "global_pool"}


def built_with(config: Fields) -> dict[str, Any]:
    """What timm's model is built with: the sizes behind the name, and what the folder says otherwise.

    Raises:
        ConfigError: an architecture, or an argument of it, that we cannot be.
    """
    name = str(config["architecture"]).split(".")[0]
    if name not in ARCHITECTURES:
        raise ConfigError(
            f"timm's {name!r} is not a Vision Transformer that can be read. If its sizes are one of ours, give the "
            f"weights file itself: from_pretrained(file, format='timm', model=...)."
        )
    relative = "relpos" in name
    base = {"class_token": not relative, "global_pool": "avg" if relative else "token"}
    base |= {"init_values": 1e-6, "fc_norm": False, "rel_pos_type": "mlp"} if relative else {}
    given = config.get("model_args") or {}
    for argument, value in given.items():
        if argument not in (*READ, *TRAINING) and NEUTRAL.get(argument) != value:
            raise ConfigError(f"timm's {argument}={value!r} is not supported by the Vision Transformer here.")
    image = published(config).get("input_size") or (3, 224, 224)
    sized = {"img_size": tuple(image[1:]), "in_chans": image[0]}
    return base | sized | ARCHITECTURES[name] | given


def hybrid_of(layers: tuple[int, ...]) -> ResNetV2Config:
    """The backbone of one of timm's hybrids."""
    return replace(R26, layers=layers, widths=R26.widths[: len(layers)])


def in_pixels(patch: int | Sequence[int], backbone: ResNetV2Config | None) -> Any:
    """The side of a patch in pixels; timm counts the cells of a backbone's map."""
    if backbone is None:
        return patch
    return patch * backbone.stride if isinstance(patch, int) else tuple(side * backbone.stride for side in patch)


def in_cells(config: ViTConfig) -> Any:
    """The side of a patch as timm counts it."""
    if config.backbone is None:
        return config.patch
    sides = tuple(side // config.backbone.stride for side in config.patch_size)
    return sides[0] if isinstance(config.patch, int) else sides


def pooling(arguments: Fields, classes: int, distilled: bool) -> str:
    """Which tokens timm's head reads.

    Raises:
        ConfigError: it reads them in a way that is not known here.
    """
    asked, has_class_token = arguments["global_pool"], arguments["class_token"]
    if distilled and not classes:
        raise ConfigError(
            "timm's distilled model with num_classes=0 answers the mean of its two tokens, which is not supported. "
            "Set num_classes in config.json to the number of classes that its heads have."
        )
    if asked == "" and not classes and has_class_token:
        return "class"  # what stands first among the tokens that timm answers
    if asked == "":
        raise ConfigError(
            f"timm's global_pool='' with num_classes={classes} and class_token={has_class_token} answers every token, "
            f"which is not supported. Set global_pool='token' or 'avg' in config.json."
        )
    if not has_class_token and asked == "token":
        raise ConfigError("timm's global_pool='token' reads a class token, and class_token is False. Set 'avg'.")
    return one_of(POOLS, asked, "global_pool")


def read(config: Fields, shapes: Shapes) -> dict[str, Any]:
    """timm's VisionTransformer, VisionTransformerDistilled or VisionTransformerRelPos."""
    arguments = built_with(config)
    classes = config.get("num_classes", arguments.get("num_classes", published(config).get("num_classes", 1000)))
    dim, relative = arguments.get("embed_dim", 768), "rel_pos_type" in arguments
    block = one_of(BLOCKS, arguments.get("block_fn", "Block"), "block_fn")
    gated = one_of(MLPS, arguments.get("mlp_layer", "Mlp"), "mlp_layer")
    width = int(dim * arguments.get("mlp_ratio", 4.0))
    activation = one_of(ACTIVATIONS, arguments.get("act_layer") or "gelu", "act_layer")
    if gated and activation != "silu":
        raise ConfigError(f"timm's SwiGLUPacked is a SwiGLU with act_layer='silu', not {activation!r}.")
    distilled = "distilled" in str(config["architecture"])
    pool = pooling(arguments, classes, distilled)
    pooled_norm = False if distilled else arguments.get("fc_norm")
    backbone = None if "backbone" not in arguments else hybrid_of(tuple(arguments["backbone"]))
    position = "learned" if arguments.get("pos_embed", "learn") == "learn" else "none"
    if relative:
        position = one_of({"mlp": "relative-log", "bias": "relative"}, arguments["rel_pos_type"], "rel_pos_type")
    return {
        "image": arguments["img_size"],
        "patch": in_pixels(arguments.get("patch_size", 16), backbone),
        "channels": arguments["in_chans"],
        "backbone": backbone,
        "dim": dim,
        "depth": arguments.get("depth", 12),
        "heads": arguments.get("num_heads", 12),
        "mlp_dim": width // 2 if gated else width,
        "classes": classes,
        "class_token": arguments["class_token"],
        "distillation_token": distilled,
        "distillation_head": distilled and classes > 0,
        "registers": arguments.get("reg_tokens", 0),
        "position": position,
        "relative_hidden": arguments.get("rel_pos_dim") or 128,
        "positions_for": "patches" if arguments.get("no_embed_class") else "all",
        "dialect": "timm",
        "norm": block,
        "bias": arguments.get("qkv_bias", True),
        "gated": gated,
        "activation": "gelu" if gated else activation,
        "layer_scale": (arguments.get("init_values") or None) if block == "before" else None,  # timm: 0 is none
        "pool": pool,
        "norm_pooled": pool == "mean" if pooled_norm is None else pooled_norm,
        "drop_path": arguments.get("drop_path_rate", 0.0),
    }


def architecture(config: ViTConfig) -> str:
    """A timm architecture with the modules that a configuration needs; sizes are said by arguments."""
    if config.backbone is not None:
        layers = list(config.backbone.layers)
        return next(name for name, sizes in ARCHITECTURES.items() if sizes.get("backbone") == layers)
    if config.distillation_token:
        return "deit_base_distilled_patch16_224"
    if config.position.startswith("relative"):
        return "vit_relpos_base_patch16_rpn_224" if config.norm == "branch" else "vit_relpos_base_patch16_224"
    if config.gated:
        return "vit_giant_patch14_dinov2"
    return "vit_base_patch16_rpn_224" if config.norm == "branch" else "vit_base_patch16_224"


def mlp_ratio(config: ViTConfig) -> float:
    """How much wider than a token timm makes the first layer of an MLP; a gated one has both halves in it."""
    width = config.mlp_dim * (2 if config.gated else 1)
    ratio = width / config.dim
    return ratio if int(config.dim * ratio) == width else (width + 0.5) / config.dim  # timm rounds down


def write(config: ViTConfig) -> dict[str, Any]:
    """Our config as the `config.json` of a timm folder."""
    relative = config.position.startswith("relative")
    pool = foreign_word(POOLS, config.pool)
    arguments = {
        "img_size": config.image,
        "patch_size": in_cells(config),
        "in_chans": config.channels,
        "embed_dim": config.dim,
        "depth": config.depth,
        "num_heads": config.heads,
        "mlp_ratio": mlp_ratio(config),
        "qkv_bias": config.bias,
        "init_values": config.layer_scale,
        "class_token": config.class_token,
        "global_pool": pool,
        "fc_norm": config.norm_pooled,
    }
    if relative:
        arguments["rel_pos_type"] = "bias" if config.position == "relative" else "mlp"
        arguments["rel_pos_dim"] = config.relative_hidden
    else:
        arguments["reg_tokens"] = config.registers
        arguments["pos_embed"] = "learn" if config.position == "learned" else "none"
        arguments["no_embed_class"] = config.positions_for == "patches"
    if config.drop_path:
        arguments["drop_path_rate"] = config.drop_path
    if config.activation != "gelu" and not config.gated:
        arguments["act_layer"] = foreign_word(ACTIVATIONS, config.activation)
    return {
        "architecture": architecture(config),
        "num_classes": config.classes,
        "num_features": config.dim,
        "global_pool": pool,
        "model_args": arguments,
    }


def misfits(norm_pooled: bool, gated: bool) -> Misfits:
    """In what a configuration is not timm's ViT, with its last norm here or there and its MLPs gated or not."""

    def wrong(config: ViTConfig) -> list[str]:
        relative, distilled = config.position.startswith("relative"), config.distillation_token
        positions = [*([] if gated else ["relative", "relative-log"]), *([] if distilled else ["none"])]
        plain = not (relative or gated or norm_pooled)
        return differs(
            config,
            eps=1e-6,
            class_token=config.class_token,
            distillation_token=distilled and plain and config.classes > 0,
            distillation_head=distilled and config.classes > 0,
            registers=0 if relative or distilled else config.registers,
            position=config.position if config.position in positions else "learned",
            positions_for="patches" if config.positions_for == "patches" and not distilled else "all",
            activation="gelu" if relative else config.activation,
            norm="branch" if config.norm == "branch" and not gated and not distilled else "before",
            layer_scale=None if config.norm == "branch" else config.layer_scale or None,
            gated=gated,
            pool="mean" if config.pool == "mean" and not distilled else "class",
            norm_pooled=norm_pooled,
        )

    return wrong


def hybrid_misfits(root: bool) -> Misfits:
    """In what a configuration is not one of timm's hybrids, with the first convolution alone or with stages."""
    plain = misfits(norm_pooled=False, gated=False)
    known = [hybrid_of(tuple(sizes["backbone"])) for sizes in ARCHITECTURES.values() if "backbone" in sizes]

    def wrong(config: ViTConfig) -> list[str]:
        others = plain(replace(config, backbone=None))
        same = config.backbone in known and bool(config.backbone.layers) != root
        return others if same else [*others, "backbone"]

    return wrong


def told_by_norm(shapes: Shapes) -> dict[str, Any]:
    """Where the last norm stands."""
    return {"norm_pooled": True, "pool": "mean"} if "fc_norm.weight" in shapes else NOT_POOLED


FORMATS = tuple(
    Format(
        library="timm",
        architectures=tuple(ARCHITECTURES),
        keymap=KeyMap((*NAMES, *norm, *mlp)),
        read_config=read,
        write_config=write,
        misfits=misfits(norm is NORM_POOLED, mlp is GATED_MLP),
        defaults={"eps": 1e-6, "dialect": "timm"},
        infer=told_by_norm,
    )
    for norm in (NORM, NORM_POOLED)
    for mlp in (PLAIN_MLP, GATED_MLP)
) + tuple(
    Format(
        library="timm",
        architectures=tuple(ARCHITECTURES),
        keymap=KeyMap((*NAMES, *NORM, *PLAIN_MLP, *backbone)),
        read_config=read,
        write_config=write,
        misfits=hybrid_misfits(root=backbone is ROOT),
        defaults={"eps": 1e-6, "dialect": "timm"},
        infer=lambda shapes: {**NOT_POOLED, "backbone": {"border": "same"}},
    )
    for backbone in (ROOT, STAGES)
)
