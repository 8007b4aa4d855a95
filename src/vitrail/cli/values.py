"""What was typed, where neither a flag's type nor a recipe says whether it can be."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vitrail.errors import ConfigError, UsageError
from vitrail.train.recipe_text import readings

PREPARED = "preprocessing."


def changes(assignments: Sequence[str]) -> dict[str, Any]:
    """Fields of a model's configuration and their values: `{"image": 384}` for `image=384`.

    Those of its preprocessing have its name in front: `{"preprocessing": {"resize": 248}}` for
    `preprocessing.resize=248`.

    Raises:
        UsageError: it has no equals sign.
    """
    for assignment in assignments:
        if "=" not in assignment:
            raise UsageError(f"--set {assignment}: there is no value. Write --set {assignment}=VALUE.")
    pairs = (assignment.split("=", 1) for assignment in assignments)
    given = {name: next(readings(text)) for name, text in pairs}
    prepared = {name: given.pop(name) for name in [*given] if name.startswith(PREPARED)}
    told = {name.removeprefix(PREPARED): value for name, value in prepared.items()}
    return given | ({"preprocessing": told} if told else {})


def refuse_taken(out: Path) -> None:
    """Refuse to write a folder where there is something already.

    Raises:
        ConfigError: a file, or a folder that is not empty.
    """
    if out.is_dir() and any(out.iterdir()):
        raise ConfigError(f"{out} is there already and is not empty. Nothing is overwritten: name a new folder.")
    if out.exists() and not out.is_dir():
        raise ConfigError(f"{out} is a file. Name a new folder.")
