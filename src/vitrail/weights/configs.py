"""Configurations made from what a file or a person says: no field that there is not, no value of another kind.

A configuration may hold another: the backbone of a detector, the stem of a transformer. In a file it is an object of
its own. Where it may be one of several, they are told apart by the name of their family, a class variable of each:
`{"backbone": {"family": "resnet", "layers": [3, 4, 6, 3]}}`. What a person changes names only what is to be otherwise:
`{"backbone": {"padding": "original"}}`.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, get_type_hints

from vitrail.errors import ConfigError, unknown
from vitrail.fields import describe, fits, part_types

FAMILY = "family"  # the word in an object, and the class variable, that says which of several configurations it is


class Difference(NamedTuple):
    """A field in which two configurations differ.

    Attributes:
        path: to it, with dots: `backbone.padding`.
        kind: the configuration that has it.
        before, after: its values.
    """

    path: str
    kind: type
    before: Any
    after: Any

    @property
    def name(self) -> str:
        """Of the field, within its configuration."""
        return self.path.rpartition(".")[2]


def as_tuples(value: Any) -> Any:
    """Lists, as JSON gives them, made the tuples that configurations hold."""
    return tuple(as_tuples(item) for item in value) if isinstance(value, list) else value


def is_part(value: Any) -> bool:
    """Whether a value is a configuration."""
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


def written(config: Any) -> dict[str, Any]:
    """The fields of a configuration as a file holds them."""
    values = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    return {name: written_part(value) if is_part(value) else value for name, value in values.items()}


def written_part(part: Any) -> dict[str, Any]:
    """A configuration within another, with the name of its family where it has one."""
    named = {FAMILY: getattr(part, FAMILY)} if hasattr(part, FAMILY) else {}
    return named | written(part)


def differences(old: Any, new: Any, where: str = "") -> Iterator[Difference]:
    """Where two configurations of one kind differ, also within the configurations that they hold."""
    for field in dataclasses.fields(new):
        before, after, path = getattr(old, field.name), getattr(new, field.name), f"{where}{field.name}"
        if is_part(before) and type(before) is type(after):
            yield from differences(before, after, f"{path}.")
        elif before != after:
            yield Difference(path, type(new), before, after)


def disagreements(config: Any, told: Mapping[str, Any], where: str = "") -> Iterator[Difference]:
    """Where a configuration is not what is told of some of its fields; an object tells of a configuration within."""
    for name, value in told.items():
        before, path = getattr(config, name), f"{where}{name}"
        if (
            isinstance(value, Mapping)
            and is_part(before)
            and value.get(FAMILY) in (None, getattr(before, FAMILY, None))
        ):
            rest = {inner: one for inner, one in value.items() if inner != FAMILY}
            yield from disagreements(before, rest, f"{path}.")
        elif before != value:
            yield Difference(path, type(config), before, value)


def merged(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Both, and of what both say, the other; objects within them are merged too."""
    both = {**one, **other}
    for name, value in other.items():
        if isinstance(value, Mapping) and isinstance(before := one.get(name), Mapping):
            both[name] = merged(before, value)
    return both


def choose(kind: Any, values: Mapping[str, Any], now: Any, name: str) -> type:
    """Which configuration an object is for: of the family it names, or as the present one, or the only one.

    Args:
        kind: the type of the field.
        values: the object.
        now: the present value of the field.
        name: of the field.

    Raises:
        ConfigError: a family that it cannot be, or none where there are several.
    """
    parts = part_types(kind)
    families = {getattr(part, FAMILY): part for part in parts if hasattr(part, FAMILY)}
    if FAMILY in values:
        if values[FAMILY] not in families:
            raise ConfigError(f"{name}: {unknown(FAMILY, str(values[FAMILY]), families)}")
        return families[values[FAMILY]]
    if type(now) in parts:
        return type(now)
    if len(parts) > 1:
        raise ConfigError(f"{name} can be of several families: {', '.join(families)}. Say which: {name}.{FAMILY}=...")
    return parts[0]


def complete(kind: type, values: Mapping[str, Any], where: str) -> Any:
    """A dataclass of values that have been checked.

    Raises:
        ConfigError: one without a value.
    """
    absent = [
        f"{where}{field.name}"
        for field in dataclasses.fields(kind)
        if field.name not in values and field.default is field.default_factory is dataclasses.MISSING
    ]
    if absent:
        raise ConfigError(f"{', '.join(absent)} is missing.")
    return kind(**values)


def part_of(kind: Any, values: Mapping[str, Any], now: Any, where: str) -> Any:
    """A configuration within another, made of an object; what the object leaves out stays as it is now."""
    part = choose(kind, values, now, where.removesuffix("."))
    rest = {name: value for name, value in values.items() if name != FAMILY}
    if type(now) is part:
        return dataclasses.replace(now, **checked(part, rest, now, where))
    return complete(part, checked(part, rest, None, where), where)


def checked(kind: type, values: Mapping[str, Any], now: Any = None, where: str = "") -> dict[str, Any]:
    """The same values for fields of a dataclass, each of the kind that its field says.

    Args:
        kind: the dataclass.
        values: as a file or a person has them: lists for tuples, objects for configurations.
        now: the dataclass as it is, of which some fields are changed.
        where: what stands before the names of its fields in an error: `backbone.`.

    Raises:
        ConfigError: a field that it does not have, or a value of another kind.
    """
    kinds, known = get_type_hints(kind), [field.name for field in dataclasses.fields(kind) if field.init]
    same = {}
    for name, value in values.items():
        if name not in known:
            raise ConfigError(f"{f'{where[:-1]}: ' if where else ''}{unknown('field', str(name), known)}")
        if isinstance(value, Mapping) and part_types(kinds[name]):
            same[name] = part_of(kinds[name], value, getattr(now, name, None), f"{where}{name}.")
        else:
            same[name] = as_tuples(value)
        if not fits(same[name], kinds[name]):
            raise ConfigError(f"{where}{name}={same[name]!r:.80} is not {describe(kinds[name])}.")
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
        return complete(kind, checked(kind, values), "")
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error
