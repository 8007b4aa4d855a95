"""What was typed, where neither a flag's type nor a recipe says whether it can be."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vitrail.errors import ConfigError, UsageError
from vitrail.train.recipe_text import readings
from vitrail.weights.configs import merged


def changes(assignments: Sequence[str]) -> dict[str, Any]:
    """Fields of a model's configuration and their values: `{"image": 384}` for `image=384`.

    Those of what it holds, and of its preprocessing, have its name in front: `{"preprocessing": {"resize": 248}}` for
    `preprocessing.resize=248`.

    Raises:
        UsageError: it has no equals sign.
    """
    found: dict[str, Any] = {}
    for assignment in assignments:
        if "=" not in assignment:
            raise UsageError(f"--set {assignment}: there is no value. Write --set {assignment}=VALUE.")
        path, text = assignment.split("=", 1)
        value = next(readings(text))
        for name in reversed(path.split(".")):
            value = {name: value}
        found = merged(found, value)
    return found


def refuse_overwriting(out: Path) -> None:
    """Refuse to write a folder where there is something already.

    Raises:
        ConfigError: a file, or a folder that is not empty.
    """
    if out.is_dir() and any(out.iterdir()):
        raise ConfigError(f"{out} is there already and is not empty. Nothing is overwritten: name a new folder.")
    if out.exists() and not out.is_dir():
        raise ConfigError(f"{out} is a file. Name a new folder.")
