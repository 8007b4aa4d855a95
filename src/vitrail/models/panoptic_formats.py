"""How others write panoptic DETR down: transformers, on its own ResNet or on timm's, and the published bare files.

Source: facebookresearch/detr at 29901c5 (names); transformers 5.23, `models/detr` (names).
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from vitrail.errors import CheckpointError
from vitrail.models import detr_formats
from vitrail.models.detr_formats import BODIES, IN_TRANSFORMERS, PUBLISHED
from vitrail.models.family import Family, Format, Shapes, Tensors
from vitrail.models.foreign import Fields, refuse_others
from vitrail.models.panoptic import COCO, GROUPS, VARIANTS, Panoptic, PanopticConfig
from vitrail.preprocessing import Fitted
from vitrail.weights.keymap import Alias, KeyMap, Rename, Rule, within

INSIDE = "detr."  # where the detector stands, in our names and in theirs
LAST_THING = 90  # of COCO's categories, by number; stuff comes after
HEADS: tuple[Rule | Alias, ...] = (
    Rename("bbox_attention.q_linear.{p}", "look.query.{p}"),
    Rename("bbox_attention.k_linear.{p}", "look.key.{p}"),
    *(
        Rename(f"mask_head.{old}{number}.{{p}}", f"mask_head.{place}.{new}.{{p}}")
        for number, place in enumerate(("mix", "narrow", "refine.0", "refine.1", "refine.2"), 1)
        for old, new in (("lay", "convolution"), ("gn", "norm"))
    ),
    *(Rename(f"mask_head.adapter{number + 1}.{{p}}", f"mask_head.adapters.{number}.{{p}}") for number in range(3)),
    Rename("mask_head.out_lay.{p}", "mask_head.out.{p}"),
)
IN_MEMORY = (  # as transformers calls them since version 5, but in files
    *(Alias(f"bbox_attention.{one}_proj.{{p}}", f"bbox_attention.{one}_linear.{{p}}") for one in "qk"),
    *(
        Alias(f"mask_head.{new}.{part}.{{p}}", f"mask_head.{old}{number}.{{p}}")
        for number, new in enumerate(("conv1", "conv2", *(f"fpn_stages.{stage}.refine" for stage in range(3))), 1)
        for part, old in (("conv", "lay"), ("norm", "gn"))
    ),
    *(
        Alias(f"mask_head.fpn_stages.{stage}.fpn_adapter.{{p}}", f"mask_head.adapter{stage + 1}.{{p}}")
        for stage in range(3)
    ),
    Alias("mask_head.output_conv.{p}", "mask_head.out_lay.{p}"),
)


def read(config: Fields, shapes: Shapes) -> dict[str, Any]:
    """DetrConfig.

    Raises:
        ConfigError: another activation than ReLU, with which its newer versions also make masks, or masks made from
            other stages of the backbone.
    """
    refuse_others(config, activation_function="relu")
    told = detr_formats.read(config, shapes)
    detr_formats.check_stages(config, masks=True)
    return {"detr": told, "classes": told["classes"]}


def misfits(config: PanopticConfig, body: str) -> list[str]:
    """In what a configuration is not one of transformers."""
    others = ["looks"] * (config.maps != config.detr.heads) + ["even"] * config.even + ["placed"] * config.placed
    return [*(f"detr.{name}" for name in detr_formats.misfits(config.detr, body)), *others]


def transformers(body: str) -> Format:
    """DetrForSegmentation on a ResNet with names of its own or of timm."""
    return Format(
        library="transformers",
        architectures=("DetrForSegmentation",),
        keymap=KeyMap((*within(INSIDE, (*BODIES[body], *IN_TRANSFORMERS), INSIDE), *IN_MEMORY, *HEADS)),
        read_config=read,
        write_config=lambda config: detr_formats.write(config.detr, body) | {"architectures": ["DetrForSegmentation"]},
        misfits=lambda config: misfits(config, body),
    )


FORMATS = (
    transformers("own"),
    transformers("timm"),
    Format(library="facebook", keymap=KeyMap((*within(INSIDE, PUBLISHED, INSIDE), *HEADS))),
)


def part(tensors: Mapping[str, Any]) -> dict[str, Any]:
    """What belongs to the detector, by the names that it has alone."""
    return {name.removeprefix(INSIDE): value for name, value in tensors.items() if name.startswith(INSIDE)}


def infer(shapes: Shapes, guess: Fields) -> dict[str, Any]:
    """What the shapes of our tensors tell.

    Raises:
        CheckpointError: the file has no maps of where queries look.
    """
    if "look.query.weight" not in shapes:
        raise CheckpointError("The file has no maps of where queries look: these are not weights of a panoptic DETR.")
    told = detr_formats.infer(part(shapes), detr_formats.values_of(guess["detr"]))
    maps = shapes["mask_head.mix.norm.weight"][0] - told["dim"]
    told |= {"heads": maps} if guess.get("looks") is None else {}
    return {
        "detr": told,
        "classes": told["classes"],
        "looks": guess.get("looks") and maps,
        "even": guess.get("even", False),
        "placed": guess.get("placed", False),
    }


def resize(tensors: Tensors, old: PanopticConfig, new: PanopticConfig) -> tuple[Tensors, list[str]]:
    """Tensors of one configuration made ready for another: what the detector can change."""
    changed, notes = detr_formats.resize(part(tensors), old.detr, new.detr)
    others = {name: tensor for name, tensor in tensors.items() if not name.startswith(INSIDE)}
    return {f"{INSIDE}{name}": tensor for name, tensor in changed.items()} | others, notes


def change(config: PanopticConfig, changes: Fields) -> PanopticConfig:
    """The same configuration with other values in some fields; how many classes there are is one number.

    A query of another detector looks as often as fits, where nobody says how often.
    """
    detr = changes.get("detr", config.detr)
    classes = changes.get("classes", detr.classes)
    looks = changes.get("looks", config.looks)
    if looks is None and (detr.dim + detr.heads) % GROUPS:
        looks = GROUPS
    even, placed = changes.get("even", config.even), changes.get("placed", config.placed and detr.anchors)
    return PanopticConfig(detr=replace(detr, classes=classes), classes=classes, looks=looks, even=even, placed=placed)


def card(config: PanopticConfig) -> dict[str, Any]:
    """The card of a fresh model: it tells what every pixel is of; of as many classes as COCO has, which are things."""
    things = (
        tuple(number <= LAST_THING for number in range(config.classes)) if config.classes == COCO["classes"] else ()
    )
    return {"task": "panoptic", "things": things, "preprocessing": Fitted().for_channels(config.channels)}


FAMILY = Family(
    name="detr-panoptic",
    config=PanopticConfig,
    build=Panoptic,
    variants=VARIANTS,
    formats=FORMATS,
    reads=Fitted,
    card=card,
    heads=("detr.class_head.*",),
    identity=("detr",),
    flexible=("classes",),
    learns={"panoptic": "detr-panoptic"},
    grows={"detr": "detr"},
    infer=infer,
    resize=resize,
    change=change,
)
