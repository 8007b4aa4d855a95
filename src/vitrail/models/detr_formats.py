"""How others write DETR down: transformers, on its own ResNet or on timm's, and the published code's bare files.

The published code stacks queries, keys and values in one matrix; transformers keeps them apart. Both freeze the norms
of the backbone, and so does a model that is read here. Where transformers is to learn from all layers of the decoder
(`auxiliary_loss`), it also hands the normed answer of each to the next, which the paper does not: `renormed` here.

Source: facebookresearch/detr at 29901c5 (names); transformers 5.23, `models/detr` (names, fields and their defaults).
"""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from vitrail.errors import CheckpointError, ConfigError
from vitrail.models.detr import DETR, VARIANTS, DETRConfig
from vitrail.models.family import Family, Format, Shapes, Tensors
from vitrail.models.foreign import TRANSFORMERS_ACTIVATIONS, Fields, foreign_word, one_of, read_classes
from vitrail.models.resnet import ResNetConfig
from vitrail.models.resnet_formats import (
    ARCHITECTURES,
    STAGES,
    read_transformers,
    torchvision_names,
    transformers_names,
    write_transformers,
)
from vitrail.models.resnet_formats import FAMILY as RESNET
from vitrail.models.resnetv2_formats import FAMILY as RESNETV2
from vitrail.models.vit_formats import FAMILY as VIT
from vitrail.preprocessing import Fitted
from vitrail.weights.keymap import Alias, Ignore, KeyMap, Rename, Rule, Split, within

INSIDE = "backbone."  # where the backbone stands in our names
UNCOUNTED = "how many batches a norm has seen decides nothing; it is not written back"


def heads(classes: str, boxes: str, queries: str, project: str) -> tuple[Rule, ...]:
    """What stands before and behind the transformer."""
    return (
        Rename(f"{project}.{{p}}", "project.{p}"),
        Rename(f"{queries}.weight", "queries"),
        Rename(f"{classes}.{{p}}", "class_head.{p}"),
        Rename(f"{boxes}.layers.{{i}}.{{p}}", "box_head.layers.{i}.{p}"),
    )


def stacked(theirs: str, ours: str) -> tuple[Rule, ...]:
    """One attention of torch, which stacks three of its projections."""
    projections = (f"{ours}.query.{{p}}", f"{ours}.key.{{p}}", f"{ours}.value.{{p}}")
    return (
        Split(f"{theirs}.in_proj_{{p}}", projections),
        Rename(f"{theirs}.out_proj.{{p}}", f"{ours}.out.{{p}}"),
    )


PUBLISHED = (
    *within("backbone.0.body.", torchvision_names(INSIDE)),
    Rename("backbone.1.row_embed.weight", "positions.rows"),
    Rename("backbone.1.col_embed.weight", "positions.columns"),
    *stacked("transformer.encoder.layers.{i}.self_attn", "encoder.{i}.attention"),
    *stacked("transformer.decoder.layers.{i}.self_attn", "decoder.{i}.attention"),
    *stacked("transformer.decoder.layers.{i}.multihead_attn", "decoder.{i}.cross_attention"),
    *(
        Rename(f"transformer.{stack}.layers.{{i}}.linear{number}.{{p}}", f"{stack}.{{i}}.mlp.{name}.{{p}}")
        for stack in ("encoder", "decoder")
        for number, name in ((1, "expand"), (2, "contract"))
    ),
    *(
        Rename(f"transformer.{stack}.layers.{{i}}.norm{number}.{{p}}", f"{stack}.{{i}}.around_{name}.norm.{{p}}")
        for stack, sublayers in (
            ("encoder", ("attention", "mlp")),
            ("decoder", ("attention", "cross_attention", "mlp")),
        )
        for number, name in enumerate(sublayers, 1)
    ),
    Rename("transformer.encoder.norm.{p}", "encoder_norm.{p}"),
    Rename("transformer.decoder.norm.{p}", "decoder_norm.{p}"),
    *heads("class_embed", "bbox_embed", "query_embed", "input_proj"),
    Ignore("backbone.0.body.{rest}.num_batches_tracked", UNCOUNTED),
)

PARTS = (("q_proj", "query"), ("k_proj", "key"), ("v_proj", "value"), ("out_proj", "out"))


def apart(theirs: str, ours: str) -> tuple[Rule | Alias, ...]:
    """One attention of transformers."""
    return (
        Alias(f"{theirs}.o_proj.{{p}}", f"{theirs}.out_proj.{{p}}"),
        *(Rename(f"{theirs}.{old}.{{p}}", f"{ours}.{new}.{{p}}") for old, new in PARTS),
    )


def stack(name: str) -> tuple[Rule | Alias, ...]:
    """What the blocks of the encoder and of the decoder share."""
    theirs, ours = f"model.{name}.layers.{{i}}", f"{name}.{{i}}"
    return (
        *apart(f"{theirs}.self_attn", f"{ours}.attention"),
        Alias(f"{theirs}.mlp.{{p}}.{{rest}}", f"{theirs}.{{p}}.{{rest}}"),
        Rename(f"{theirs}.fc1.{{p}}", f"{ours}.mlp.expand.{{p}}"),
        Rename(f"{theirs}.fc2.{{p}}", f"{ours}.mlp.contract.{{p}}"),
        Rename(f"{theirs}.self_attn_layer_norm.{{p}}", f"{ours}.around_attention.norm.{{p}}"),
        Rename(f"{theirs}.final_layer_norm.{{p}}", f"{ours}.around_mlp.norm.{{p}}"),
    )


BODY = "model.backbone.conv_encoder.model."  # as files have it; in memory it is called otherwise since version 5
IN_TRANSFORMERS: tuple[Rule | Alias, ...] = (
    Alias("model.backbone.model.{rest}", f"{BODY}{{rest}}"),
    Alias("model.backbone.position_embedding.{rest}", "model.position_embedding.{rest}"),
    *stack("encoder"),
    *stack("decoder"),
    *apart("model.decoder.layers.{i}.encoder_attn", "decoder.{i}.cross_attention"),
    Rename("model.decoder.layers.{i}.encoder_attn_layer_norm.{p}", "decoder.{i}.around_cross_attention.norm.{p}"),
    Rename("model.decoder.layernorm.{p}", "decoder_norm.{p}"),
    Rename("model.position_embedding.row_embeddings.weight", "positions.rows"),
    Rename("model.position_embedding.column_embeddings.weight", "positions.columns"),
    *heads("class_labels_classifier", "bbox_predictor", "model.query_position_embeddings", "model.input_projection"),
    Ignore(f"{BODY}{{rest}}.num_batches_tracked", UNCOUNTED),
)
BODIES = {"own": within(BODY, transformers_names(INSIDE)), "timm": within(BODY, torchvision_names(INSIDE))}

SAME = {  # transformers' words for fields of ours, where the values are the same
    "num_queries": "queries", "d_model": "dim", "encoder_layers": "encoder_depth", "decoder_layers": "decoder_depth",
    "dropout": "dropout", "attention_dropout": "attention_dropout", "activation_dropout": "activation_dropout",
    "position_embedding_type": "position", "auxiliary_loss": "renormed",
}  # fmt: skip
BOTH = {"attention_heads": "heads", "ffn_dim": "mlp_dim"}  # which it has for the encoder and for the decoder
DEFAULTS = {
    "num_queries": 100, "d_model": 256, "encoder_layers": 6, "decoder_layers": 6, "dropout": 0.1,
    "attention_dropout": 0.0, "activation_dropout": 0.0, "position_embedding_type": "sine", "encoder_ffn_dim": 2048,
    "decoder_ffn_dim": 2048, "encoder_attention_heads": 8, "decoder_attention_heads": 8, "activation_function": "relu",
    "num_channels": 3, "auxiliary_loss": False,
}  # fmt: skip
IS_DETR = {"norm": "after", "eps": 1e-5}
UNREFINED = {"refined": False}  # which no other library has
AS_BACKBONE = {"family": "resnet", "classes": 0, "norm": "frozen"}
STRIDES = {"None": False, "32": False, "16": True}  # timm's output_stride, and whether the last stage is dilated for it


def values_of(config: Any) -> dict[str, Any]:
    """The fields of a configuration and their values."""
    return {field.name: getattr(config, field.name) for field in fields(config)}


def backbone_of(config: Fields) -> Fields:
    """What a DetrConfig says of its backbone; older ones only give its name."""
    given = config.get("backbone_config")
    if given is not None:
        return given
    if config.get("use_timm_backbone") is False:
        return {"model_type": "resnet"}
    return {"model_type": "timm_backbone", "backbone": config.get("backbone")} | (config.get("backbone_kwargs") or {})


def stages_read(config: Fields) -> list[int]:
    """Which maps of its backbone a DetrConfig hands on, in order: 0 is the stem, then the stages; empty if unsaid."""
    given = backbone_of(config)
    stages = len(given.get("depths") or range(STAGES))
    own = given.get("model_type") == "resnet"  # timm has other names for its stages, and numbers for them
    if own and given.get("out_features"):
        names = {"stem": 0} | {f"stage{number}": number for number in range(1, stages + 1)}
        return [one_of(names, name, "backbone_config.out_features") for name in given["out_features"]]
    return [range(stages + 1)[place] for place in given.get("out_indices") or []]


def check_stages(config: Fields, *, masks: bool) -> None:
    """Refuse a DetrConfig whose transformer, or whose masks, read other maps than ours do.

    Raises:
        ConfigError: says which are read, and which should be.
    """
    read, stages = stages_read(config), len(backbone_of(config).get("depths") or range(STAGES))
    every = [*range(1, stages + 1)]
    if not read or (read == every if masks else read[-1] == stages):
        return
    needed = f"masks are made from {every} here" if masks else f"a DETR looks at the last, {stages}, here"
    raise ConfigError(
        f"The backbone hands on its stages {read} (out_features or out_indices of backbone_config; 0 is the stem), and "
        f"{needed}."
    )


def read_backbone(config: Fields) -> dict[str, Any]:
    """The ResNet of a DetrConfig: transformers' own, or a published one of timm's by its name.

    Raises:
        ConfigError: a backbone of another kind, or one of which another stage than the last is read.
    """
    given = backbone_of(config)
    kinds = {"resnet": "own", "timm_backbone": "timm"}
    kind = one_of(kinds, given.get("model_type"), "backbone_config.model_type")
    check_stages(config, masks=False)
    if kind == "own":
        return read_transformers(given, {}) | AS_BACKBONE
    published = one_of(ARCHITECTURES, given.get("backbone") or "resnet50", "backbone")
    return values_of(published) | AS_BACKBONE | {
        "dilated": bool(config.get("dilation")) or one_of(STRIDES, str(given.get("output_stride")), "output_stride"),
        "channels": given.get("num_channels", config.get("num_channels", 3)),
    }  # fmt: skip


def read(config: Fields, shapes: Shapes) -> dict[str, Any]:
    """DetrConfig.

    Raises:
        ConfigError: an encoder and a decoder of different sizes, or a backbone that is no ResNet.
    """
    backbone = read_backbone(config)
    config = DEFAULTS | {name: value for name, value in config.items() if value is not None}
    for word in BOTH:
        if config[f"encoder_{word}"] != config[f"decoder_{word}"]:
            raise ConfigError(
                f"encoder_{word}={config[f'encoder_{word}']} and decoder_{word}={config[f'decoder_{word}']} are "
                f"different, and a DETR has one such number here."
            )
    return {ours: config[theirs] for theirs, ours in SAME.items()} | IS_DETR | {
        **{ours: config[f"encoder_{word}"] for word, ours in BOTH.items()},
        "backbone": backbone,
        "classes": read_classes(config),
        "activation": one_of(TRANSFORMERS_ACTIVATIONS, config["activation_function"], "activation_function"),
    }  # fmt: skip


def write_backbone(config: ResNetConfig, body: str) -> dict[str, Any]:
    """What a DetrConfig says of its ResNet."""
    if body == "timm":
        name = next(name for name in ARCHITECTURES if is_published(config, name))
        return {"use_timm_backbone": True, "backbone": name, "use_pretrained_backbone": False, "backbone_config": None}
    stages = [f"stage{number}" for number in range(1, STAGES + 1)]
    return {"use_timm_backbone": False, "backbone_config": write_transformers(config) | {"out_features": stages}}


def write(config: DETRConfig, body: str) -> dict[str, Any]:
    """DetrConfig, from ours."""
    assert isinstance(config.backbone, ResNetConfig), "others are misfits"
    sizes = {f"{part}_{word}": getattr(config, ours) for word, ours in BOTH.items() for part in ("encoder", "decoder")}
    return {theirs: getattr(config, ours) for theirs, ours in SAME.items()} | sizes | {
        "model_type": "detr",
        "architectures": ["DetrForObjectDetection"],
        "is_encoder_decoder": True,
        "num_channels": config.channels,
        "activation_function": foreign_word(TRANSFORMERS_ACTIVATIONS, config.activation),
        "dilation": config.backbone.dilated,
        **write_backbone(config.backbone, body),
    }  # fmt: skip


def is_published(config: ResNetConfig, name: str) -> bool:
    """Whether a ResNet has the sizes that timm means by a name."""
    published = ARCHITECTURES[name]
    return all(getattr(config, one) == getattr(published, one) for one in ("block", "layers", "stem", "widths"))


def misfits(config: DETRConfig, body: str) -> list[str]:
    """In what a configuration is not a DETR of transformers on its own ResNet, or on timm's."""
    wrong = [name for name, value in IS_DETR.items() if getattr(config, name) != value]
    wrong += ["query_groups"] * (config.query_groups > 1) + ["anchors"] * config.anchors + ["refined"] * config.refined
    backbone = config.backbone
    if not isinstance(backbone, ResNetConfig) or backbone.eps != 1e-5 or len(backbone.layers) != STAGES:
        return [*wrong, "backbone"]
    fits = any(is_published(backbone, name) for name in ARCHITECTURES) if body == "timm" else not backbone.dilated
    return wrong if fits else [*wrong, "backbone"]


def transformers(body: str) -> Format:
    """DetrForObjectDetection on a ResNet with names of its own or of timm."""
    return Format(
        library="transformers",
        architectures=("DetrForObjectDetection",),
        model_type="detr",
        keymap=KeyMap((*BODIES[body], *IN_TRANSFORMERS)),
        read_config=read,
        write_config=lambda config: write(config, body),
        misfits=lambda config: misfits(config, body),
        defaults=IS_DETR | UNREFINED,
    )


FORMATS = (
    transformers("own"),
    transformers("timm"),
    Format(library="facebook", keymap=KeyMap(PUBLISHED), defaults={"eps": 1e-5} | UNREFINED),
)
BACKBONES = {family.config: family for family in (RESNET, RESNETV2, VIT)}


def part(tensors: Mapping[str, Any]) -> dict[str, Any]:
    """What belongs to the backbone, by the names that it has alone."""
    return {name.removeprefix(INSIDE): value for name, value in tensors.items() if name.startswith(INSIDE)}


def depth(shapes: Shapes, stack: str) -> int:
    """How many blocks a stack has."""
    return len({name.split(".")[1] for name in shapes if name.startswith(f"{stack}.")})


def infer(shapes: Shapes, guess: Fields) -> dict[str, Any]:
    """What the shapes of our tensors tell; heads, the activation and a dilated last stage they do not.

    Raises:
        CheckpointError: the file has no queries or no heads.
    """
    if not {"queries", "class_head.weight", "encoder.0.mlp.expand.weight"} <= {*shapes}:
        raise CheckpointError("The file has no queries, no classes or no encoder: these are not weights of a DETR.")
    backbone = guess["backbone"]
    told = BACKBONES[type(backbone)].infer(part(shapes), values_of(backbone))
    queries, width = shapes["queries"]
    groups = guess.get("query_groups", 1)
    if queries % groups:
        raise CheckpointError(f"The file has {queries} queries, which are not query_groups={groups} of one size.")
    return {
        "backbone": {"family": backbone.family, **told},
        "queries": queries // groups,
        "anchors": width == 2,
        "dim": shapes["class_head.weight"][1],
        "classes": shapes["class_head.weight"][0] - 1,
        "mlp_dim": shapes["encoder.0.mlp.expand.weight"][0],
        "encoder_depth": depth(shapes, "encoder"),
        "decoder_depth": depth(shapes, "decoder"),
        "norm": "before" if "encoder_norm.weight" in shapes else "after",
        "position": "learned" if "positions.rows" in shapes else "sine",
    }


def resize(tensors: Tensors, old: DETRConfig, new: DETRConfig) -> tuple[Tensors, list[str]]:
    """Tensors of one configuration made ready for another: what the backbone can change, and the groups of queries.

    A group that is new begins as the first one; dropout, and what each is matched with, tell them apart.
    """
    said: list[str] = []
    if (old.query_groups, old.queries) != (new.query_groups, new.queries) and old.queries == new.queries:
        first = tensors["queries"][: new.query_groups * new.queries]
        copies = -(-new.query_groups * new.queries // first.shape[0])
        tensors = tensors | {"queries": first.repeat(copies, 1)[: new.query_groups * new.queries]}
        said = [f"query_groups was {old.query_groups}, is {new.query_groups}: the first one answers, as before."]
    if type(old.backbone) is not type(new.backbone):
        return tensors, said
    changed, notes = BACKBONES[type(old.backbone)].resize(part(tensors), old.backbone, new.backbone)
    others = {name: tensor for name, tensor in tensors.items() if not name.startswith(INSIDE)}
    return {f"{INSIDE}{name}": tensor for name, tensor in changed.items()} | others, [*said, *notes]


def card(config: DETRConfig) -> dict[str, Any]:
    """The card of a fresh model: it finds objects."""
    return {"task": "detect", "preprocessing": Fitted().for_channels(config.channels)}


FAMILY = Family(
    name="detr",
    config=DETRConfig,
    build=DETR,
    variants=VARIANTS,
    formats=FORMATS,
    reads=Fitted,
    card=card,
    heads=("class_head.*",),
    training=("dropout", "attention_dropout", "activation_dropout", "query_groups"),
    identity=("backbone", "dim", "heads", "mlp_dim", "encoder_depth", "decoder_depth", "queries", "anchors"),
    flexible=("classes", "backbone"),
    untold={"heads": "dim"},
    assumed=("heads", "activation", "renormed"),
    learns={"detect": "detect", "panoptic": "detect"},
    infer=infer,
    resize=resize,
)
