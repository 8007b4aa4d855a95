"""What the shapes of our tensors tell about a configuration."""

import math
from typing import Any

from vitrail.errors import CheckpointError
from vitrail.geometry.grid import pair
from vitrail.models import resnetv2_formats
from vitrail.models.family import Shapes
from vitrail.models.foreign import Fields
from vitrail.models.resnetv2 import STEM_STRIDE

BACKBONE = "patch_embed.backbone."


def square(places: int) -> int | None:
    """The side of a square of so many places, if it is one."""
    side = math.isqrt(max(places, 0))
    return side if side > 0 and side * side == places else None


def as_guessed(size: tuple[int, int], guess: int | tuple[int, int]) -> int | tuple[int, int]:
    """Rows and columns as the guess writes them where it agrees; else one number for a square."""
    if size == pair(guess):
        return guess
    return size[0] if size[0] == size[1] else size


def infer_hybrid(shapes: Shapes) -> dict[str, Any]:
    """Channels, patch and the backbone whose map is cut into patches."""
    inside = {name.removeprefix(BACKBONE): shape for name, shape in shapes.items() if name.startswith(BACKBONE)}
    told = resnetv2_formats.infer(inside, {})
    cell = STEM_STRIDE * 2 ** max(len(told["layers"]) - 1, 0)
    rows, columns = shapes["patch_embed.project.weight"][2:]
    return {
        "channels": told.pop("channels"),
        "stem": (),
        "patch": (cell * rows, cell * columns),
        "backbone": {name: told[name] for name in told if name != "classes"},
    }


def infer_stem(shapes: Shapes) -> dict[str, Any]:
    """Channels, patch and convolutions."""
    if f"{BACKBONE}stem.weight" in shapes:
        return infer_hybrid(shapes)
    stem = []
    while (name := f"patch_embed.convolutions.{len(stem)}.weight") in shapes:
        stem.append(shapes[name][0])
    first = shapes.get("patch_embed.convolutions.0.weight" if stem else "patch_embed.project.weight")
    if first is None or len(first) != 4:
        return {}
    told: dict[str, Any] = {"channels": first[1], "stem": tuple(stem), "backbone": None}
    told["patch"] = (2 ** len(stem),) * 2 if stem else tuple(first[2:])
    if stem:
        told["stem_last"] = "bias" if f"patch_embed.convolutions.{len(stem) - 1}.bias" in shapes else "norm"
    return told


def infer_relative(shapes: Shapes, grid: tuple[int, int], prefix: int) -> dict[str, Any]:
    """Relative positions, and the side of their square where it is not that of the guess; sides are in patches."""
    if "blocks.0.bias.expand.weight" in shapes:
        return {"position": "relative-log", "relative_hidden": shapes["blocks.0.bias.expand.weight"][0]}
    displacements = shapes["blocks.0.bias.table"][0] - (3 if prefix else 0)
    side = square(displacements)
    if side is None or displacements == (2 * grid[0] - 1) * (2 * grid[1] - 1):
        return {"position": "relative"}
    return {"position": "relative", "side": (side + 1) // 2}


def infer_table(shapes: Shapes, guess: Fields, grid: tuple[int, int], prefix: int, registers: int) -> dict[str, Any]:
    """Learned positions, which tokens have one, and the side of their square where it is not that of the guess.

    A table says how many positions there are, not how many rows: what the guess says is kept where it agrees.

    Raises:
        CheckpointError: the positions of a picture that is not square, and nothing says how many rows it has.
    """
    total = shapes["positions.table"][1]
    placed = {"all": prefix, "class": prefix - registers, "patches": 0}
    for tokens in sorted(placed, key=lambda tokens: tokens != guess["positions_for"]):
        if total - placed[tokens] == grid[0] * grid[1]:
            return {"position": "learned"} | ({} if tokens == guess["positions_for"] else {"positions_for": tokens})
    squares = {places: side for places in set(placed.values()) if (side := square(total - places)) is not None}
    if squares.keys() == {placed[guess["positions_for"]]}:
        return {"position": "learned", "side": squares[placed[guess["positions_for"]]]}
    raise CheckpointError(
        f"Nothing tells of how many rows and columns of patches the {total} positions of this file are, and which "
        f"other tokens have one. Say the size it was trained at: from_pretrained(..., image=(rows, columns)), or --set "
        f"image=ROWS,COLUMNS."
    )


def infer_places(shapes: Shapes, guess: Fields, patch: tuple[int, int], prefix: int, registers: int) -> dict[str, Any]:
    """The kind of positions, and the size of the picture where they tell it."""
    rows, columns = pair(guess["image"])
    grid = rows // patch[0], columns // patch[1]
    told: dict[str, Any] = {}
    if "positions.table" in shapes:
        told = infer_table(shapes, guess, grid, prefix, registers)
    elif any(name.startswith("blocks.0.bias.") for name in shapes):
        told = infer_relative(shapes, grid, prefix)
    elif "positions.rows" in shapes:
        rows, columns = shapes["positions.rows"][1], shapes["positions.columns"][1]
        return {"position": "axes", "image": (rows * patch[0], columns * patch[1])}
    side = told.pop("side", None)
    return told if side is None else told | {"image": (side * patch[0], side * patch[1])}


def infer(shapes: Shapes, guess: Fields) -> dict[str, Any]:
    """What the shapes of our tensors tell about a configuration, given a guess at its fields."""
    told: dict[str, Any] = infer_stem(shapes)
    query, expand = shapes.get("blocks.0.attention.query.weight"), shapes.get("blocks.0.mlp.expand.weight")
    if query is None or expand is None or "patch" not in told:
        raise CheckpointError("The file has no patch embedding or no first block: these are not the weights of a ViT.")
    told |= {"dim": query[0], "mlp_dim": expand[0]}
    told["depth"] = len({name.split(".")[1] for name in shapes if name.startswith("blocks.")})
    told["bias"] = "blocks.0.attention.query.bias" in shapes
    told["gated"] = "blocks.0.mlp.gate.weight" in shapes
    for token in ("class_token", "distillation_token", "mask_token"):
        told[token] = token in shapes
    told["registers"] = shapes["registers"][1] if "registers" in shapes else 0
    scaled = "blocks.0.around_attention.layer_scale" in shapes
    told["layer_scale"] = (1.0 if guess["layer_scale"] is None else guess["layer_scale"]) if scaled else None
    told["representation"] = shapes["representation.weight"][0] if "representation.weight" in shapes else None
    told["distillation_head"] = "distillation_head.weight" in shapes
    told["classes"], width = shapes.get("head.weight", (0, None))[:2]
    if width == 2 * told["dim"] and told["representation"] is None:
        told["pool"] = "class+mean"
    elif not told["class_token"]:
        told["pool"] = "mean"
    prefix = told["class_token"] + told["distillation_token"] + told["registers"]
    told |= infer_places(shapes, guess, pair(told["patch"]), prefix, told["registers"])
    return told | {name: as_guessed(told[name], guess[name]) for name in ("patch", "image") if name in told}
