"""What a foreign file says, read; and what is wrong with it, said in the words of that file.

A reader speaks of our fields (`dim=None`), and who opens the file finds others there (`"hidden_size": null`).
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from vitrail.errors import ConfigError

UNREAD = (ConfigError, TypeError, ValueError, AttributeError, KeyError, IndexError, ArithmeticError)

Said = Mapping[str, Any]
Ours = TypeVar("Ours")


def culprit(read: Callable[[Said], object], said: Said, error: Exception) -> str | None:
    """The field that an error is about: without it there is none, or another one."""
    other = None
    for field in sorted(said, key=lambda field: said[field] is not None):  # what is empty goes first
        try:
            read({name: value for name, value in said.items() if name != field})
            return field
        except UNREAD as changed:
            other = field if other is None and str(changed) != str(error) else other
    return other


def read_as(read: Callable[[Said], Ours], said: Said, where: str) -> Ours:
    """What a reader makes of the fields of a foreign file.

    Args:
        read: the reader.
        said: the fields.
        where: the file.

    Raises:
        ConfigError: a value that cannot be, or is not of the kind that it should be; names the field of the file.
    """
    try:
        return read(said)
    except UNREAD as error:
        field = culprit(read, said, error)
        value = "a value" if field is None else f"{field}={said[field]!r:.60}"
        if not isinstance(error, ConfigError):
            raise ConfigError(f"{where}: {value} is of the wrong kind.") from error
        inside = said[field] if field is not None and isinstance(said[field], Mapping) else {}
        named = {*said, *inside} & set(re.findall(r"(\w+)=", str(error)))
        if field is None or named or str(error)[:1].isupper():  # it says what it means
            raise ConfigError(f"{where}: {error}") from error
        raise ConfigError(f"{where}: {value} cannot be: {error}") from error
