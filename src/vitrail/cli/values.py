"""What was typed after `--set`, where no recipe says of which type it is."""

from collections.abc import Sequence
from typing import Any

from vitrail.errors import UsageError
from vitrail.train.recipe_text import readings


def changes(assignments: Sequence[str]) -> dict[str, Any]:
    """Fields of a model's configuration and their values: `{"image": 384}` for `image=384`.

    Raises:
        UsageError: it has no equals sign.
    """
    for assignment in assignments:
        if "=" not in assignment:
            raise UsageError(f"--set {assignment}: there is no value. Write --set {assignment}=VALUE.")
    pairs = (assignment.split("=", 1) for assignment in assignments)
    return {name: next(readings(text)) for name, text in pairs}
