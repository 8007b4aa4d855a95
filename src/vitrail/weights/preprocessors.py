"""Preprocessing as transformers (`preprocessor_config.json`) and timm (`pretrained_cfg`) write it down, both ways."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from vitrail.errors import ConfigError, unknown
from vitrail.geometry.placement import Size
from vitrail.preprocessing import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    INTERPOLATIONS,
    Fitted,
    PicturePreprocessing,
    Preprocessing,
    covering,
)

FILTERS = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")  # by the number that Pillow gives them
HALF, CLIP_MEAN, CLIP_STD = [0.5] * 3, [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]

# what the processors of transformers do where their file says nothing
SQUASHED = {"resample": 2, "size": {"height": 224, "width": 224}, "image_mean": HALF, "image_std": HALF}
CROPPED = {"resample": 3, "crop_size": 224, "do_center_crop": True}
FITTING = {  # DETR, YOLOS and their kin
    "resample": 2,
    "size": {"shortest_edge": 800, "longest_edge": 1333},
    "image_mean": IMAGENET_MEAN,
    "image_std": IMAGENET_STD,
    "do_pad": True,
}
PROCESSORS: dict[str, dict[str, Any]] = {
    "ViT": SQUASHED,
    "Siglip": SQUASHED | {"resample": 3},
    "DeiT": SQUASHED | CROPPED | {"size": {"height": 256, "width": 256}},
    "Bit": CROPPED | {"size": {"shortest_edge": 224}, "image_mean": CLIP_MEAN, "image_std": CLIP_STD},
    "CLIP": CROPPED | {"size": {"shortest_edge": 224}, "image_mean": CLIP_MEAN, "image_std": CLIP_STD},
    "Detr": FITTING,
}
UNKNOWN_STEPS = ("do_flip_channel_order", "do_thumbnail", "do_align_long_axis")

PLAINLY = {"margin": " (where an odd number of pixels is cut away, the picture may be cut one pixel further on)"}


def processor_name(config: Mapping[str, Any]) -> tuple[str, bool]:
    """Which processor of transformers a file is for, and whether it works on tensors ("fast")."""
    name = str(config.get("image_processor_type") or config.get("feature_extractor_type") or "ViTImageProcessor")
    fast = name.endswith("Fast")
    name = name.removesuffix("Fast").removesuffix("Pil").removesuffix("ImageProcessor").removesuffix("FeatureExtractor")
    if name not in PROCESSORS:
        raise ConfigError(f"{unknown('image processor', name, PROCESSORS)} Or say preprocessing=Preprocessing(...).")
    return name, fast


def whole(side: Any) -> int:
    """A number of pixels, and nothing else."""
    if type(side) is not int:
        raise ConfigError(f"{side!r:.40} is not a number of pixels.")
    return side


def number_of_filter(resample: Any) -> int:
    """What Pillow counts its filters by."""
    if isinstance(resample, bool) or not isinstance(resample, int) or not 0 <= resample < len(FILTERS):
        raise ConfigError(f"resample={resample!r:.40}, and Pillow numbers its filters from 0 to {len(FILTERS) - 1}.")
    return resample


def read_size(size: Any, *, shorter_side: bool) -> int | Size:
    """Rows and columns, or the shorter side, from any spelling that transformers has had for a size.

    Args:
        size: a number, a pair, or an object with `height` and `width` or with `shortest_edge`.
        shorter_side: whether a bare number is the shorter side; otherwise it is the side of a square.
    """
    if isinstance(size, int):
        return whole(size) if shorter_side else (whole(size), whole(size))
    if isinstance(size, list | tuple) and len(size) == 2:
        return whole(size[0]), whole(size[1])
    if isinstance(size, Mapping) and set(size) == {"height", "width"}:
        return whole(size["height"]), whole(size["width"])
    if isinstance(size, Mapping) and set(size) == {"shortest_edge"}:
        return whole(size["shortest_edge"])
    raise ConfigError(f"The image processor's size {size!r} is neither a height and a width nor a shortest edge.")


def white_of(said: Mapping[str, Any]) -> float:
    """What white is in the terms in which mean and deviation are said."""
    factor = said.get("rescale_factor", 1 / 255) if said.get("do_rescale", True) else 1
    return 1.0 if math.isclose(255 * factor, 1) else 255 * factor


def two_bounds(said: Mapping[str, Any]) -> tuple[int, int]:
    """The shorter side and the most that the longer one may have, from any spelling that they have had."""
    size = said["size"]
    if isinstance(size, int):
        return whole(size), whole(said.get("max_size", 1333))
    if isinstance(size, Mapping) and set(size) == {"shortest_edge", "longest_edge"}:
        return whole(size["shortest_edge"]), whole(size["longest_edge"])
    raise ConfigError(f"The image processor's size {size!r} is not a shortest and a longest edge.")


def fitting(said: Mapping[str, Any], *, fast: bool) -> Fitted:
    """What the processor of a detector says."""
    for step in ("do_resize", "do_pad", "do_rescale", "do_normalize"):
        if not said.get(step, True):
            raise ConfigError(f"The image processor of a detector is told {step}=false, which is not known here.")
    if said.get("pad_size") is not None:
        raise ConfigError("The image processor pads to a fixed pad_size, which is not known here.")
    shorter, longer = two_bounds(said)
    interpolation = FILTERS[number_of_filter(said["resample"])]
    white = white_of(said)
    return Fitted(
        shorter=shorter,
        longer=longer,
        interpolation=interpolation,
        resampler="tensor" if fast and interpolation in INTERPOLATIONS["tensor"] else "pillow",
        mean=tuple(value / white for value in said["image_mean"]),
        std=tuple(value / white for value in said["image_std"]),
    )


def from_transformers(config: Mapping[str, Any]) -> PicturePreprocessing:
    """What `preprocessor_config.json` says.

    A processor named `...Fast` resizes tensors; any other is taken to use Pillow, as it did when published, although
    transformers 5 runs it on tensors too where torchvision is installed.

    Raises:
        ConfigError: a processor, or a step of it, that is not known here, or pictures of no certain size. A value of
            another kind raises whatever Python has for it; `blame.read_as` makes a sentence of that.
    """
    name, fast = processor_name(config)
    said = PROCESSORS[name] | {key: value for key, value in config.items() if value is not None}
    for step, wanted in said.items():
        if step.startswith("do_") and not isinstance(wanted, bool):
            raise ConfigError(f"{step}={wanted!r:.40} is neither true nor false.")
        if wanted and (step in UNKNOWN_STEPS or (step == "do_pad" and name != "Detr")):
            raise ConfigError(f"The image processor wants {step}, which is not known here.")
    if name == "Detr":
        return fitting(said, fast=fast)

    resize = read_size(said["size"], shorter_side=name in ("Bit", "CLIP")) if said.get("do_resize", True) else None
    size = read_size(said["crop_size"], shorter_side=False) if said.get("do_center_crop") else resize
    if not isinstance(size, tuple):
        raise ConfigError(f"The image processor resizes to {said['size']!r} and does not crop: no size is certain.")

    interpolation = FILTERS[number_of_filter(said["resample"])]
    white = white_of(said)
    mean, std = (said["image_mean"], said["image_std"]) if said.get("do_normalize", True) else ([0] * 3, [1] * 3)
    return Preprocessing(
        size=size,
        resize=resize,
        interpolation=interpolation,
        resampler="tensor" if fast and interpolation in INTERPOLATIONS["tensor"] else "pillow",
        margin="zero" if fast else "floor",
        mean=tuple(value / white for value in mean),
        std=tuple(value / white for value in std),
    )


def to_transformers(preprocessing: PicturePreprocessing) -> dict[str, Any]:
    """What to write into `preprocessor_config.json`: the nearest that transformers can say; see `lost`."""
    if isinstance(preprocessing, Fitted):
        return {
            "image_processor_type": f"DetrImageProcessor{'Fast' if preprocessing.resampler == 'tensor' else ''}",
            "format": "coco_detection",
            "do_resize": True,
            "size": {"shortest_edge": preprocessing.shorter, "longest_edge": preprocessing.longer},
            "resample": FILTERS.index(preprocessing.interpolation),
            "do_rescale": True,
            "rescale_factor": 1 / 255,
            "do_normalize": True,
            "image_mean": list(preprocessing.mean),
            "image_std": list(preprocessing.std),
            "do_pad": True,
        }
    assert isinstance(preprocessing, Preprocessing)
    name = "ViT" if preprocessing.resize == preprocessing.size else "DeiT"
    if isinstance(preprocessing.resize, tuple):
        size = {"height": preprocessing.resize[0], "width": preprocessing.resize[1]}
    else:
        name, size = "Bit", {"shortest_edge": preprocessing.resize or min(preprocessing.size)}
    return {
        "image_processor_type": f"{name}ImageProcessor{'Fast' if preprocessing.resampler == 'tensor' else ''}",
        "do_resize": preprocessing.resize is not None,
        "size": size,
        "resample": FILTERS.index(preprocessing.interpolation),
        "do_center_crop": preprocessing.resize != preprocessing.size,
        "crop_size": {"height": preprocessing.size[0], "width": preprocessing.size[1]},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(preprocessing.mean),
        "image_std": list(preprocessing.std),
        "do_convert_rgb": preprocessing.channels == 3,
    }


def from_timm(config: Mapping[str, Any]) -> Preprocessing:
    """What `pretrained_cfg` says; what is missing or empty in it is timm's default.

    Raises:
        ConfigError: a crop mode or an interpolation that is not known here. Of other kinds of values, see
            `from_transformers`.
    """
    said = {key: value for key, value in config.items() if value}
    channels, rows, columns = map(whole, said.get("input_size", (3, 224, 224)))
    share = said.get("crop_pct", 0.875)
    before = (math.floor(rows / share), math.floor(columns / share))
    mean, std = (tuple(map(float, said.get(*name))) for name in (("mean", IMAGENET_MEAN), ("std", IMAGENET_STD)))
    modes: dict[str, dict[str, Any]] = {
        "center": covering(before),
        "squash": {"resize": before},
        "border": {"resize": before, "fit": "contain", "fill": tuple(round(255 * value) for value in mean)},
    }
    mode = said.get("crop_mode", "center")
    if mode not in modes:
        raise ConfigError(unknown("crop mode of timm", mode, modes))
    preprocessing = Preprocessing(
        size=(rows, columns), interpolation=said.get("interpolation", "bicubic"), mean=mean, std=std, **modes[mode]
    )
    return preprocessing.for_channels(channels)


def crop_share(size: Size, before: Size) -> float:
    """The `crop_pct` with which timm arrives at the size before the crop, as short as it can be written."""
    most = min(side / wanted for side, wanted in zip(size, before, strict=True))
    for digits in range(1, 17):
        units = math.floor(most * 10**digits)
        for share in (units / 10**digits, (units - 1) / 10**digits):
            if share > 0 and (math.floor(size[0] / share), math.floor(size[1] / share)) == before:
                return share
    return most


def to_timm(preprocessing: Preprocessing) -> dict[str, Any]:
    """What to write into `pretrained_cfg`: the nearest that timm can say; see `lost`."""
    size, before = preprocessing.size, preprocessing.resize or preprocessing.size
    modes = {"squash": "squash", "cover": "center", "contain": "border"}
    return {
        "input_size": [preprocessing.channels, *size],
        "interpolation": preprocessing.interpolation,
        "crop_pct": crop_share(size, before if isinstance(before, tuple) else (before, before)),
        "crop_mode": modes[preprocessing.fit] if isinstance(before, tuple) else "center",
        "mean": list(preprocessing.mean),
        "std": list(preprocessing.std),
    }


def lost(ours: PicturePreprocessing, written: PicturePreprocessing) -> list[str]:
    """What another library could not be told: each field that reads back as something else, in words."""
    fields = [field.name for field in dataclasses.fields(ours)]
    return [
        f"{name} is {getattr(ours, name)} and was written as {getattr(written, name)}{PLAINLY.get(name, '')}"
        for name in fields
        if getattr(ours, name) != getattr(written, name)
    ]
