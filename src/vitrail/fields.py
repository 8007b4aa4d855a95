"""Checking that the values of a configuration are what its fields say, with a sentence when they are not."""

import types
from dataclasses import fields
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from vitrail.errors import ConfigError


def fits(value: Any, kind: Any) -> bool:
    """Whether a value is of a type as configurations use them: numbers, words, choices, tuples, unions."""
    origin, parts = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return any(fits(value, part) for part in parts)
    if origin is Literal:
        return any(value == part and type(value) is type(part) for part in parts)
    if origin is tuple:
        if not isinstance(value, tuple):
            return False
        if len(parts) == 2 and parts[1] is Ellipsis:
            return all(fits(item, parts[0]) for item in value)
        return len(value) == len(parts) and all(fits(item, part) for item, part in zip(value, parts, strict=True))
    if origin is not None or kind is Any:
        return True  # other containers are the business of whoever reads them
    if kind is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, types.NoneType if kind is None else kind)


def describe(kind: Any) -> str:
    """A type in words, as a person would type its values."""
    origin, parts = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return " or ".join(describe(part) for part in parts)
    if origin is Literal:
        return "one of " + ", ".join(map(repr, parts))
    if origin is tuple:
        if len(parts) == 2 and parts[1] is Ellipsis:
            return f"several of: {describe(parts[0])}"
        if parts == (int, int):
            return "two whole numbers, such as 64,96"
        return " and ".join(describe(part) for part in parts)
    names = {int: "a whole number", float: "a number", bool: "True or False", str: "a word", types.NoneType: "None"}
    return names.get(kind, getattr(kind, "__name__", str(kind)))


def check_fields(config: Any) -> None:
    """Refuse a dataclass one of whose values is not what its field says.

    Raises:
        ConfigError: names the field, the value and what was expected.
    """
    kinds = get_type_hints(type(config))
    for field in fields(config):
        value = getattr(config, field.name)
        if not fits(value, kinds[field.name]):
            raise ConfigError(f"{field.name}={value!r} is not {describe(kinds[field.name])}.")
