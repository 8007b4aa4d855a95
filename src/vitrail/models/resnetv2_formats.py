"""How timm writes ResNetV2 down, by itself (Big Transfer) and as what a hybrid Vision Transformer sees through.

Source: timm 1.0.31, `models/resnetv2.py` (names, arguments and what they default to).
"""

from typing import Any

from torch import Tensor

from vitrail.errors import CheckpointError, ConfigError
from vitrail.models.family import Family, Format, Shapes, resize_channels
from vitrail.models.foreign import Fields
from vitrail.models.resnetv2 import VARIANTS, ResNetV2, ResNetV2Config
from vitrail.weights.keymap import KeyMap, Rearrange, Rename

CONVOLUTIONS = 3  # of a bottleneck


def timm_names(mine: str = "") -> tuple[Rename, ...]:
    """The rules for all but the head.

    Args:
        mine: what stands before our names, where a ResNetV2 stands inside another model.
    """
    theirs, ours = "stages.{j}.blocks.{i}", f"{mine}stages.{{j}}.{{i}}"
    rules = [Rename("stem.conv.weight", f"{mine}stem.weight"), Rename("stem.norm.{p}", f"{mine}stem_norm.{{p}}")]
    for number in range(CONVOLUTIONS):
        rules.append(Rename(f"{theirs}.conv{number + 1}.weight", f"{ours}.convolutions.{number}.weight"))
        rules.append(Rename(f"{theirs}.norm{number + 1}.{{p}}", f"{ours}.norms.{number}.{{p}}"))
    rules.append(Rename(f"{theirs}.downsample.conv.weight", f"{ours}.shortcut.weight"))
    rules.append(Rename(f"{theirs}.downsample.norm.{{p}}", f"{ours}.shortcut_norm.{{p}}"))
    return (*rules, Rename("norm.{p}", f"{mine}norm.{{p}}"))


TIMM = KeyMap(
    (
        *timm_names(),
        Rearrange("head.fc.weight", "head.weight", "classes width 1 1 -> classes width"),
        Rename("head.fc.bias", "head.bias"),
    )
)
FACTORS = {  # of the widths, by timm's names
    "resnetv2_50x1_bit": 1, "resnetv2_50x3_bit": 3, "resnetv2_101x1_bit": 1, "resnetv2_101x3_bit": 3,
    "resnetv2_152x2_bit": 2, "resnetv2_152x4_bit": 4,
}  # fmt: skip
LAYERS = {"50": (3, 4, 6, 3), "101": (3, 4, 23, 3), "152": (3, 8, 36, 3)}
ARGUMENTS = ("in_chans", "num_classes", "channels", "stem_chs")
TRAINING = ("drop_rate", "drop_path_rate", "zero_init_last")
NEUTRAL = {
    "output_stride": 32, "avg_down": False, "preact": True, "basic": False, "bottle_ratio": 0.25, "act_layer": "relu",
    "global_pool": "avg",
}  # fmt: skip


def layers_of(architecture: str) -> tuple[int, ...]:
    """How many blocks the stages of one of timm's models have."""
    return LAYERS[architecture.split("_")[1].split("x")[0]]


def read(config: Fields, shapes: Shapes) -> dict[str, Any]:
    """timm's `ResNetV2` as Big Transfer has it: the sizes behind the name, and what the folder says otherwise."""
    name, given = str(config["architecture"]).split(".")[0], config.get("model_args") or {}
    for argument, value in given.items():
        if argument not in (*ARGUMENTS, *TRAINING) and NEUTRAL.get(argument, ()) != value:
            raise ConfigError(f"timm's {argument}={value!r} is not supported by the ResNetV2 here.")
    published = config.get("pretrained_cfg") or config
    image = published.get("input_size") or (3, 224, 224)
    return {
        "image": image[1] if image[1] == image[2] else tuple(image[1:]),
        "channels": given.get("in_chans", image[0]),
        "stem": FACTORS[name] * given.get("stem_chs", 64),
        "layers": layers_of(name),
        "widths": [FACTORS[name] * width for width in given.get("channels", VARIANTS["resnetv2-50"].widths)],
        "classes": config.get("num_classes", given.get("num_classes", published.get("num_classes", 1000))),
    }


def architecture(config: ResNetV2Config) -> str | None:
    """The architecture of timm that has these stages, and whose factor divides these widths."""
    fitting = [
        name
        for name, factor in FACTORS.items()
        if layers_of(name) == config.layers and not any(width % factor for width in (config.stem, *config.widths))
    ]
    return max(fitting, key=lambda name: config.stem == 64 * FACTORS[name], default=None)


def write(config: ResNetV2Config) -> dict[str, Any]:
    """Our config as the `config.json` of a timm folder."""
    name = architecture(config)
    assert name is not None
    arguments: dict[str, Any] = {}
    if config.stem != 64 * FACTORS[name]:
        arguments["stem_chs"] = config.stem // FACTORS[name]
    channels = tuple(width // FACTORS[name] for width in config.widths)
    if channels != VARIANTS["resnetv2-50"].widths:
        arguments["channels"] = channels
    if config.channels != 3:
        arguments["in_chans"] = config.channels
    return {
        "architecture": name,
        "num_classes": config.classes,
        "num_features": config.dim,
        "global_pool": "avg",
    } | ({"model_args": arguments} if arguments else {})


BIG_TRANSFER: dict[str, Any] = {"norm": "before", "groups": 32, "eps": 1e-5, "weight_eps": 1e-8, "border": "even"}


def misfits(config: ResNetV2Config) -> list[str]:
    """In what a configuration is not one of Big Transfer's."""
    wrong = [name for name, value in BIG_TRANSFER.items() if getattr(config, name) != value]
    return wrong if architecture(config) else [*wrong, "layers"]


def infer(shapes: Shapes, guess: Fields) -> dict[str, Any]:
    """What the shapes of our tensors tell about a configuration.

    Raises:
        CheckpointError: the file has no stem.
    """
    if "stem.weight" not in shapes:
        raise CheckpointError("The file has no 7x7 convolution: these are not the weights of a ResNetV2.")
    places = {tuple(map(int, name.split(".")[1:3])) for name in shapes if name.startswith("stages.")}
    stages = range(max((stage for stage, _ in places), default=-1) + 1)
    return {
        "channels": shapes["stem.weight"][1],
        "stem": shapes["stem.weight"][0],
        "layers": tuple(sum(here == stage for here, _ in places) for stage in stages),
        "widths": tuple(shapes[f"stages.{stage}.0.convolutions.2.weight"][0] for stage in stages),
        "norm": "after" if "stem_norm.weight" in shapes else "before",
        "classes": shapes.get("head.weight", (0,))[0],
    }


def resize(tensors: dict[str, Tensor], old: ResNetV2Config, new: ResNetV2Config) -> tuple[dict[str, Tensor], list[str]]:
    """Tensors of one configuration made ready for another: other channels."""
    tensors = dict(tensors)
    return tensors, resize_channels(tensors, "stem.weight", old.channels, new.channels)


FAMILY = Family(
    name="resnetv2",
    config=ResNetV2Config,
    build=ResNetV2,
    variants=VARIANTS,
    formats=(
        Format(
            library="timm",
            architectures=tuple(FACTORS),
            keymap=TIMM,
            read_config=read,
            write_config=write,
            misfits=misfits,
            defaults={"norm": "before", "border": "even", "eps": 1e-5},
            preprocessing={"interpolation": "bilinear", "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)},
        ),
    ),
    heads=("head.*",),
    identity=("layers", "stem", "widths", "norm"),
    flexible=("classes", "image", "channels", "padding"),
    assumed=("groups", "weight_eps"),
    learns={"classify": "classify"},
    infer=infer,
    resize=resize,
)
