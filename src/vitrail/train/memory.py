"""Whether a step fits into the memory of this machine, foretold from shapes before the first one is taken.

Linux lends more memory than it has, and kills who uses it: nothing is left then that could say a sentence.
"""

import torch
from torch import nn

from vitrail.core.init import Undrawn
from vitrail.core.memory import physical_memory
from vitrail.description import count_kept
from vitrail.loading import family_of
from vitrail.train.building import card_of
from vitrail.train.recipe import Recipe

ASKED = 64  # times as much as its inputs a step may take, and a part of all memory that needs no second thought


def worth_a_thought(model: nn.Module, recipe: Recipe, there: int) -> bool:
    """Whether a step could be too large: counting takes seconds the first time, as torch loads its compiler."""
    inputs = family_of(model).example(card_of(model).preprocessing)
    at_once = recipe.data.batch * sum(one.numel() * one.element_size() for one in inputs)
    weights = 16 * sum(parameter.numel() for parameter in model.parameters())
    return weights + ASKED * at_once > there / ASKED


def bytes_of_step(model: nn.Module, recipe: Recipe) -> int:
    """About how much a step takes at least: weights, gradients, AdamW's two means, and what the backward pass needs.

    Nothing of the last where a part of the model stays as it is, where activations are computed twice, or where
    inputs differ in size.
    """
    parameters = list(model.parameters())
    learning = sum(parameter.numel() for parameter in parameters if parameter.requires_grad)
    told = 4 * sum(parameter.numel() for parameter in parameters) + 12 * learning
    if recipe.probe or recipe.freeze or recipe.checkpointing or not recipe.data.even:
        return told
    family = family_of(model)
    with torch.device("meta"), Undrawn():
        shapes = family.build(model.config)
    kept = count_kept(shapes, *family.example(card_of(model).preprocessing))
    return told + recipe.data.batch * kept // (2 if recipe.precision == "bfloat16" else 1)


def refuse_too_little(model: nn.Module, recipe: Recipe, processes: int) -> None:
    """Stop before a step that this machine cannot take.

    Raises:
        MemoryError: says how much it would need.
    """
    there = physical_memory()
    if there is None or recipe.device != "cpu" or not worth_a_thought(model, recipe, there):
        return
    needed = processes * bytes_of_step(model, recipe)
    if needed > there:
        raise MemoryError(f"A step takes about {needed / 1e9:.0f} GB, and this machine has {there / 1e9:.0f} GB.")
