"""The names of classes: their order, their numbers, and how many of them are said."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from vitrail.data.files import shown
from vitrail.errors import DataError


def class_order(names: Iterable[str]) -> tuple[str, ...]:
    """Class names in the order that people expect: 2 before 10, otherwise by the alphabet."""
    names = set(names)
    whole = all(re.fullmatch(r"-?\d+", name, re.ASCII) for name in names)
    return tuple(sorted(names, key=(lambda name: (int(name), name)) if whole else None))


def listing(names: Sequence[str], most: int = 8) -> str:
    """The first few names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def class_numbers(
    classes: Sequence[str], present: Iterable[str], source: Path | str, called: str = "classes"
) -> dict[str, int]:
    """The number of each class, by which all that are present can be numbered.

    Args:
        classes: in the order of their numbers.
        present: what the data is labelled with.
        source: where it was read.
        called: what its labels are called.

    Raises:
        DataError: a label is none of the classes.
    """
    numbers = {name: number for number, name in enumerate(classes)}
    if foreign := [name for name in dict.fromkeys(present) if name not in numbers]:
        raise DataError(
            f"{shown(source)} has {called} that are not among the {len(classes)} expected: {listing(foreign)}. "
            f"Expected: {listing(classes)}."
        )
    return numbers
