"""`vitrail models`: which models there are."""

from typing import Annotated

from tyro.conf import Positional

from vitrail.cli.flags import Switch, shown


def models(pattern: Annotated[Positional[str], shown()] = "*", *, json: Switch = False) -> None:
    """List the models by name.

    Args:
        pattern: which of them: part of a name, such as base, or with * for anything, in quotes: 'vit*'.
        json: print one JSON object for each model.
    """
    from fnmatch import filter as matching

    from vitrail import catalog
    from vitrail.cli.screen import print_json_lines, table
    from vitrail.errors import ConfigError
    from vitrail.loading import list_models

    wanted = pattern if set(pattern) & set("*?[") else f"*{pattern}*"
    rows = [(name, catalog.MODELS[name].sentence) for name in list_models(wanted)]
    if not rows:
        recipes = matching(catalog.RECIPES, wanted)
        known = f" `vitrail train {recipes[0]}` is a recipe." if recipes else ""
        raise ConfigError(f"No model matches {pattern!r}.{known} `vitrail models` lists them all.")
    if json:
        print_json_lines({"model": name, "about": sentence} for name, sentence in rows)
    else:
        table(("model", "about"), rows)
