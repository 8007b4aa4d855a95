"""`vitrail models`: which models there are, and which recipes train some of them."""

from typing import Annotated

from tyro.conf import Positional

from vitrail.cli.flags import Switch, shown


def models(pattern: Annotated[Positional[str], shown()] = "*", *, json: Switch = False) -> None:
    """List the models by name, and the recipes that `vitrail train` knows beside them.

    Args:
        pattern: which of them: part of a name, such as base, or with * for anything, in quotes: 'vit*'.
        json: print one JSON object for each model and each recipe.
    """
    from fnmatch import filter as matching

    from vitrail import catalog
    from vitrail.cli.screen import print_json_lines, table
    from vitrail.data.dataset import PURPOSES
    from vitrail.errors import ConfigError
    from vitrail.loading import list_models

    wanted = pattern if set(pattern) & set("*?[") else f"*{pattern}*"
    found = [(name, catalog.MODELS[name].sentence) for name in list_models(wanted)]
    recipes = [(name, catalog.RECIPES[name]) for name in matching(catalog.RECIPES, wanted)]
    if not found and not recipes:
        raise ConfigError(f"No model matches {pattern!r}. `vitrail models` lists them all.")
    if json:
        print_json_lines({"model": name, "about": sentence} for name, sentence in found)
        print_json_lines({"recipe": name, "about": entry.sentence, "data": entry.data} for name, entry in recipes)
        return
    if found:
        table(("model", "about"), found)
    if found and recipes:
        print()
    if recipes:
        rows = [(name, PURPOSES[entry.data[0]] if entry.data else "", entry.sentence) for name, entry in recipes]
        table(("recipe for `vitrail train`", "data to", "about"), rows)
