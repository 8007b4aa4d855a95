"""How other libraries write ResNet down: torchvision, timm (whose names are torchvision's) and transformers.

What a norm remembers of training is read and written; how many batches it has seen decides nothing, is left out, and is
written as 0. Compared with all three in tests/parity/test_resnet.py.

Source: torchvision 0.28 `models/resnet.py`, timm 1.0.31 `models/resnet.py`, transformers 5.23 `models/resnet` (names,
arguments and what they default to).
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from vitrail.errors import CheckpointError, ConfigError
from vitrail.models.family import Family, Format, Shapes, Tensors, resize_channels
from vitrail.models.foreign import Fields, one_of, read_told_apart, refuse_others
from vitrail.models.resnet import EXPANSION, STAGES, VARIANTS, ResNet, ResNetConfig
from vitrail.weights.keymap import Ignore, KeyMap, Rename, within

NORM = ("weight", "bias", "running_mean", "running_var")
CONVOLUTIONS = 3  # the most that a block has
UNCOUNTED = "how many batches a norm has seen decides nothing; 0 is written back"


def layer(convolution: str, norm: str, mine: str) -> list[Rename]:
    """The rules of a convolution and the norm that follows it."""
    return [
        Rename(f"{convolution}.weight", f"{mine}.convolution.weight"),
        *(Rename(f"{norm}.{part}", f"{mine}.norm.{part}") for part in NORM),
    ]


def torchvision_names(mine: str = "") -> tuple[Rename, ...]:
    """The rules for the convolutions and norms of torchvision's ResNet, and of DETR's backbone, which is one.

    Args:
        mine: what stands before our names, where a ResNet stands inside another model: `backbone.`.
    """
    rules = layer("conv1", "bn1", f"{mine}stem")
    for stage in range(STAGES):
        theirs, ours = f"layer{stage + 1}.{{i}}", f"{mine}stages.{stage}.{{i}}"
        for number in range(CONVOLUTIONS):
            rules += layer(f"{theirs}.conv{number + 1}", f"{theirs}.bn{number + 1}", f"{ours}.convolutions.{number}")
        rules += layer(f"{theirs}.downsample.0", f"{theirs}.downsample.1", f"{ours}.shortcut")
    return tuple(rules)


def transformers_names(mine: str = "") -> tuple[Rename, ...]:
    """The rules for the convolutions and norms of transformers' `ResNetModel`."""
    rules = layer("embedder.embedder.convolution", "embedder.embedder.normalization", f"{mine}stem")
    theirs, ours = "encoder.stages.{j}.layers.{i}", f"{mine}stages.{{j}}.{{i}}"
    for number in range(CONVOLUTIONS):
        part = f"{theirs}.layer.{number}"
        rules += layer(f"{part}.convolution", f"{part}.normalization", f"{ours}.convolutions.{number}")
    rules += layer(f"{theirs}.shortcut.convolution", f"{theirs}.shortcut.normalization", f"{ours}.shortcut")
    return tuple(rules)


def zeros_for(names: Iterable[Any]) -> Callable[[Mapping[str, Tensor]], Tensors]:
    """Writes a count of 0 for every norm."""
    table = KeyMap(names)

    def write(ours: Mapping[str, Tensor]) -> Tensors:
        means = {name: tensor for name, tensor in ours.items() if name.endswith(".running_mean")}
        counts = (name.replace("running_mean", "num_batches_tracked") for name in table.write(means))
        return {name: torch.zeros((), dtype=torch.int64) for name in counts}

    return write


def table(names: tuple[Any, ...], head: tuple[Rename, ...] = ()) -> KeyMap:
    """The rules for a whole model."""
    return KeyMap((*names, Ignore("{rest}.num_batches_tracked", UNCOUNTED, zeros_for(names)), *head))


TORCHVISION = table(torchvision_names(), (Rename("fc.{p}", "head.{p}"),))
CLASSIFIER = table(within("resnet.", transformers_names()), (Rename("classifier.1.{p}", "head.{p}"),))
ENCODER = table(transformers_names())

ARCHITECTURES = {name.replace("-", ""): config for name, config in VARIANTS.items()}  # as timm calls them
TIMM_ARGUMENTS = ("in_chans", "num_classes", "layers", "channels", "output_stride")
TIMM_TRAINING = ("drop_rate", "drop_path_rate", "drop_block_rate", "zero_init_last")
TIMM_NEUTRAL = {  # arguments at values that change no answer
    "cardinality": 1, "base_width": 64, "stem_width": 64, "stem_type": "", "replace_stem_pool": False,
    "block_reduce_first": 1, "down_kernel_size": 1, "avg_down": False, "channel_masks": None, "global_pool": "avg",
    "act_layer": "relu", "norm_layer": "batchnorm2d", "aa_layer": None, "block_args": None,
}  # fmt: skip
TIMM_STRIDES = {"32": False, "16": True}  # of the last stage; `dilated` here
TIMM_STEM = 64  # its plain stem has no other width


def read_timm(config: Fields, shapes: Shapes) -> dict[str, Any]:
    """timm's `ResNet`: the sizes behind the name, and what the folder says otherwise."""
    name, given = str(config["architecture"]).split(".")[0], config.get("model_args") or {}
    for argument, value in given.items():
        if argument not in (*TIMM_ARGUMENTS, *TIMM_TRAINING) and TIMM_NEUTRAL.get(argument, ()) != value:
            raise ConfigError(f"timm's {argument}={value!r} is not supported by the ResNet here.")
    published = config.get("pretrained_cfg") or config
    image = published.get("input_size") or (3, 224, 224)
    base = ARCHITECTURES[name]
    return {
        "image": image[1] if image[1] == image[2] else tuple(image[1:]),
        "channels": given.get("in_chans", image[0]),
        "block": base.block,
        "norm": "batch",
        "layers": given.get("layers", base.layers),
        "widths": given.get("channels", base.widths),
        "dilated": one_of(TIMM_STRIDES, str(given.get("output_stride", 32)), "output_stride"),
        "classes": config.get("num_classes", given.get("num_classes", published.get("num_classes", 1000))),
    }


def write_timm(config: ResNetConfig) -> dict[str, Any]:
    """Our config as the `config.json` of a timm folder: the nearest name, and what differs from it."""
    names = [name for name, size in ARCHITECTURES.items() if size.block == config.block]
    name = next((name for name in names if ARCHITECTURES[name].layers == config.layers), names[0])
    published, arguments = ARCHITECTURES[name], {}
    if config.layers != published.layers:
        arguments["layers"] = config.layers
    if config.widths != published.widths:
        arguments["channels"] = config.widths
    if config.dilated:
        arguments["output_stride"] = 16
    if config.channels != published.channels:
        arguments["in_chans"] = config.channels
    return {
        "architecture": name,
        "num_classes": config.classes,
        "num_features": config.dims[-1],
        "global_pool": "avg",
    } | ({"model_args": arguments} if arguments else {})


def timm_misfits(config: ResNetConfig) -> list[str]:
    """In what a configuration is not timm's: four stages, a stem of 64, its epsilon."""
    wanted = {"stem": TIMM_STEM, "eps": 1e-5}
    wrong = [name for name, value in wanted.items() if getattr(config, name) != value]
    return wrong if len(config.layers) == STAGES else [*wrong, "layers"]


def read_transformers(config: Fields, shapes: Shapes) -> dict[str, Any]:
    """transformers' `ResNetConfig`; it does not say what size of pictures the model was trained on."""
    refuse_others(config, hidden_act="relu", downsample_in_bottleneck=False, downsample_in_first_stage=False)
    block = one_of({name: name for name in EXPANSION}, config.get("layer_type", "bottleneck"), "layer_type")
    dims = config.get("hidden_sizes", VARIANTS["resnet-50"].dims)
    if any(dim % EXPANSION[block] for dim in dims):
        raise ConfigError(f"hidden_sizes={list(dims)} of bottlenecks should divide by {EXPANSION[block]}.")
    return {
        "channels": config.get("num_channels", 3),
        "stem": config.get("embedding_size", 64),
        "block": block,
        "norm": "batch",
        "layers": config.get("depths", VARIANTS["resnet-50"].layers),
        "widths": [dim // EXPANSION[block] for dim in dims],
    }


def write_transformers(config: ResNetConfig) -> dict[str, Any]:
    """transformers' `ResNetConfig`, from ours."""
    return {
        "model_type": "resnet",
        "num_channels": config.channels,
        "embedding_size": config.stem,
        "hidden_sizes": config.dims,
        "depths": config.layers,
        "layer_type": config.block,
        "hidden_act": "relu",
        "downsample_in_first_stage": False,
        "downsample_in_bottleneck": False,
    }


def transformers(name: str, keymap: KeyMap, *, classifier: bool) -> Format:
    """transformers' ResNet with a classifier or without."""

    def misfits(config: ResNetConfig) -> list[str]:
        wrong = ["classes"] if classifier != bool(config.classes) else []
        wrong += ["dilated"] if config.dilated else []
        return [*wrong, "eps"] if config.eps != 1e-5 else wrong

    return Format(
        library="transformers",
        architectures=(name,),
        keymap=keymap,
        read_config=lambda config, shapes: (
            read_transformers(config, shapes) | {"classes": read_told_apart(config) if classifier else 0}
        ),
        write_config=lambda config: write_transformers(config) | {"architectures": [name]},
        misfits=misfits,
        defaults={"eps": 1e-5},
    )


FORMATS = (
    transformers("ResNetForImageClassification", CLASSIFIER, classifier=True),
    transformers("ResNetModel", ENCODER, classifier=False),
    Format(
        library="timm",
        architectures=tuple(ARCHITECTURES),
        keymap=TORCHVISION,
        read_config=read_timm,
        write_config=write_timm,
        misfits=timm_misfits,
        defaults={"eps": 1e-5},
    ),
    Format(
        library="torchvision",
        keymap=TORCHVISION,
        defaults={"eps": 1e-5},
        preprocessing={"interpolation": "bilinear"},
    ),
)


def infer(shapes: Shapes, guess: Fields) -> dict[str, Any]:
    """What the shapes of our tensors tell about a configuration.

    Raises:
        CheckpointError: the file has no stem or no first block.
    """
    stem, first = shapes.get("stem.convolution.weight"), "stages.0.0.convolutions.0.convolution.weight"
    if stem is None or first not in shapes:
        raise CheckpointError("The file has no 7x7 convolution or no first block: these are not weights of a ResNet.")
    places = {tuple(map(int, name.split(".")[1:3])) for name in shapes if name.startswith("stages.")}
    stages = range(max(stage for stage, _ in places) + 1)
    wide = "stages.0.0.convolutions.2.convolution.weight" in shapes
    return {
        "channels": stem[1],
        "stem": stem[0],
        "block": "bottleneck" if wide else "basic",
        "layers": tuple(sum(here == stage for here, _ in places) for stage in stages),
        "widths": tuple(shapes[f"stages.{stage}.0.convolutions.1.convolution.weight"][0] for stage in stages),
        "classes": shapes.get("head.weight", (0,))[0],
    }


def resize(tensors: dict[str, Tensor], old: ResNetConfig, new: ResNetConfig) -> tuple[dict[str, Tensor], list[str]]:
    """Tensors of one configuration made ready for another: other channels."""
    tensors = dict(tensors)
    return tensors, resize_channels(tensors, "stem.convolution.weight", old.channels, new.channels)


FAMILY = Family(
    name="resnet",
    config=ResNetConfig,
    build=ResNet,
    variants=VARIANTS,
    formats=FORMATS,
    heads=("head.*",),
    training=("norm",),
    identity=("block", "layers", "stem", "widths"),
    flexible=("classes", "image", "channels", "padding"),
    assumed=("dilated",),
    learns={"classify": "classify"},
    infer=infer,
    resize=resize,
)
