"""Checking that the values of a configuration are what its fields say, with a sentence when they are not."""

import dataclasses
import types
from dataclasses import fields
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

from vitrail.errors import ConfigError

LARGEST = 1e9  # above which no number in a configuration makes sense


class Range(NamedTuple):
    """The numbers that make sense.

    Attributes:
        low, high: the ends, which belong to them.
        above, below: unless the lower, or the upper, one does not.
        usual: what people take, in words.
    """

    low: float
    high: float = LARGEST
    above: bool = False
    below: bool = False
    usual: str = ""

    def holds(self, value: float) -> bool:
        """Whether a number is one of them; NaN never is."""
        over = self.low < value if self.above else self.low <= value
        return over and (value < self.high if self.below else value <= self.high)

    def words(self, value: float) -> str:
        """What a number must be that is none of them."""
        ends = f"be {'above' if self.above else 'at least'} {self.low:,g}"
        if self.high < LARGEST or value > self.high:
            ends += f" and {'below' if self.below else 'at most'} {self.high:,.0f}"
        return f"{ends}. Usual: {self.usual}." if self.usual else f"{ends}."


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


def part_types(kind: Any) -> list[type]:
    """The dataclasses in a type such as `Mixing | None` or `Pictures | Texts`."""
    options = get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)
    return [one for one in options if isinstance(one, type) and dataclasses.is_dataclass(one)]


def describe(kind: Any) -> str:
    """A type in words, as a person would type its values."""
    origin, parts = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return " or ".join(describe(part) for part in parts)
    if origin is Literal:
        return ("one of " if len(parts) > 1 else "") + ", ".join(map(repr, parts))
    if origin is tuple:
        if len(parts) == 2 and parts[1] is Ellipsis:
            return f"a list of values, each {describe(parts[0])}"
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


def check_ranges(config: Any, where: str = "", **ranges: Range) -> None:
    """Refuse a dataclass one of whose numbers makes no sense.

    Args:
        config: what to look at; of a tuple every number is looked at, and `None` and words are left alone.
        where: what stands before the names of its fields, as they are typed: `optimiser.`.
        ranges: of the fields, by name.

    Raises:
        ConfigError: names the field, the value and what was expected.
    """
    for name, allowed in ranges.items():
        value = getattr(config, name)
        numbers = [one for one in (value if isinstance(value, tuple) else (value,)) if isinstance(one, (int, float))]
        wrong = next((number for number in numbers if not allowed.holds(number)), None)
        if wrong is not None:
            subject = f": each number in {name}" if isinstance(value, tuple) else ""
            raise ConfigError(f"{where}{name}={typed(value)}{subject} must {allowed.words(wrong)}")


def typed(value: Any) -> str:
    """A value as a person types it: `0.9,0.999`."""
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
