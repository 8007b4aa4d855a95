"""Which recipe is meant by a name, and whether it learns from the data that was given."""

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from vitrail import catalog
from vitrail.data.dataset import PURPOSES, Splits
from vitrail.data.open import for_purpose
from vitrail.errors import ConfigError, many
from vitrail.models.family import Family
from vitrail.train.recipe import Recipe
from vitrail.train.recipe_text import recipe_from_json
from vitrail.weights.files import read_json

Say = Callable[[str], None]
SHOWN_CLASSES = 8


def in_short(classes: Sequence[str]) -> str:
    """The first names of many."""
    return ", ".join(classes[:SHOWN_CLASSES]) + (" ..." if len(classes) > SHOWN_CLASSES else "")


def recipe_for(model: str, task: str, data: str) -> str:
    """The recipe by which a model learns what data is for.

    Raises:
        ConfigError: no recipe does that; names models that can learn it.
    """
    found = learned_by(catalog.family_of_model(model), task)
    if found is None:
        families = {name for name, entry in catalog.FAMILIES.items() if learned_by(catalog.load(entry), task)}
        able = [name for name, entry in catalog.MODELS.items() if entry.target in families]
        others = f"Models that can: {', '.join(able[:3])}." if able else "No model here can yet."
        raise ConfigError(f"{data} is data to {PURPOSES.get(task, task)}, which {model} cannot learn. {others}")
    return found


def purposes_of(model: str) -> tuple[str, ...]:
    """For what data can be, as its reader says, that a model or a recipe learns from; nothing of others."""
    if model in catalog.RECIPES:
        return catalog.RECIPES[model].data
    if model not in catalog.MODELS:
        return ()
    family = catalog.family_of_model(model)
    return tuple(task for task in PURPOSES if learned_by(family, task))


def read_for(model: str, data: str, say: Say) -> str:
    """The data set, spelled so that what is read of it is what a model learns from."""
    spelled = for_purpose(data, purposes_of(model))
    if spelled != data:
        say(f"The segments of {data} are read, and nothing beside them: {spelled}.")
    return spelled


def refuse_other_data(recipe: str, task: str, data: str) -> None:
    """Compare what a recipe learns from with what there is.

    Raises:
        ConfigError: it is for other data; names a recipe that is for this.
    """
    known = catalog.RECIPES[recipe].data
    if known and task not in known:
        fitting = next((name for name, entry in catalog.RECIPES.items() if task in entry.data), None)
        other = "" if fitting is None else f" `vitrail train {fitting} --data {shlex.quote(data)}` learns from it."
        needed, given = (PURPOSES.get(one, one) for one in (known[0], task))
        raise ConfigError(f"{recipe} needs data to {needed}, and {data} is data to {given}.{other}")


def learned_by(family: Family, task: str) -> str | None:
    """The name of the recipe by which a family learns what data is for, if there is one."""
    if family.learns is not None:
        return family.learns.get(task)
    return task if task in catalog.RECIPES else None


def choose_recipe(
    name: str, data: str, splits: Splits, init: str | None, changes: Mapping[str, Any], say: Say
) -> Recipe:
    """The recipe in a file, of that name, or for that model and the task that the data shows.

    Args:
        changes: fields of the model's configuration that the person has set, which need no guess.

    Raises:
        ConfigError: the recipe in the file is for other classes.
    """
    if name.endswith(".json"):
        recipe = recipe_from_json(read_json(Path(name)))
        recipe_for(recipe.model.name, splits.train.task, data)  # which refuses data that the model cannot learn
        learned = getattr(recipe.task, "classes", splits.train.classes)
        if learned != splits.train.classes:
            raise ConfigError(
                f"{name} is for the {many(len(learned), 'class')} {in_short(learned)}, and {data} has "
                f"{len(splits.train.classes)}: {in_short(splits.train.classes)}. Type "
                f"`vitrail train {recipe.model.name} --data {shlex.quote(data)}` for a recipe that fits this data."
            )
        model = recipe.model if init is None else replace(recipe.model, init=init)
        return replace(recipe, model=model, data=replace(recipe.data, path=data))
    if name in catalog.MODELS:
        recipe = catalog.load(catalog.RECIPES[recipe_for(name, splits.train.task, data)])
        return recipe(data, splits, model=name, init=init, changes=changes, say=say)
    refuse_other_data(name, splits.train.task, data)
    return catalog.load(catalog.RECIPES[name])(data, splits, init=init, say=say)
