"""How types are checked while tests run: beartype, for which a whole number is also a number (PEP 484).

A function within a function is made anew at each call of the outer one, and making its check takes a millisecond: in
the blocks of a model, a third of the time that tests took. What is handed to it has been checked outside.
"""

from collections.abc import Callable
from typing import Any

from beartype import BeartypeConf, beartype

checked = beartype(conf=BeartypeConf(is_pep484_tower=True))


def check(made: Callable[..., Any]) -> Callable[..., Any]:
    """The same function or class, whose types are checked unless it stands within a function."""
    return made if "<locals>" in made.__qualname__ else checked(made)
