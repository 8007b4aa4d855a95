"""Configurations made from what a file or a person says: no field that there is not, no value of another kind."""

import dataclasses
from collections.abc import Mapping
from typing import Any, get_type_hints

from vitrail.errors import ConfigError, unknown
from vitrail.fields import describe, fits


def as_tuples(value: Any) -> Any:
    """Lists, as JSON gives them, made the tuples that configurations hold."""
    return tuple(as_tuples(item) for item in value) if isinstance(value, list) else value


def checked(kind: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """The same values for fields of a dataclass, each of the kind that its field says.

    Raises:
        ConfigError: a field that it does not have, or a value of another kind.
    """
    kinds, known = get_type_hints(kind), [field.name for field in dataclasses.fields(kind) if field.init]
    for name in values:
        if name not in known:
            raise ConfigError(unknown("field", str(name), known))
    same = {name: as_tuples(value) for name, value in values.items()}
    for name, value in same.items():
        if not fits(value, kinds[name]):
            raise ConfigError(f"{name}={value!r:.80} is not {describe(kinds[name])}.")
    return same


def build(kind: type, values: Any, where: str) -> Any:
    """A dataclass from what a file says.

    Args:
        kind: the dataclass.
        values: what the file holds.
        where: how to call the file in an error.

    Raises:
        ConfigError: not an object, a field we do not know, one without a value, or a value of another kind.
    """
    if not isinstance(values, Mapping):
        raise ConfigError(f"{where} should be an object with the fields of {kind.__name__}, and is {values!r:.60}.")
    try:
        values = checked(kind, values)
        absent = [
            field.name
            for field in dataclasses.fields(kind)
            if field.name not in values and field.default is field.default_factory is dataclasses.MISSING
        ]
        if absent:
            raise ConfigError(f"{', '.join(absent)} is missing.")
        return kind(**values)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error
