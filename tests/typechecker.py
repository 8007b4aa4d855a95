"""How types are checked while tests run: beartype, for which a whole number is also a number (PEP 484).

What jaxtyping does around a function costs more than most functions of ours, and is of use only to one whose
annotations have shapes: it remembers how long each axis is. Every other one is checked by beartype alone, which saves
almost half the time of all tests; but for those of which beartype cannot know what a name in quotes means, and for
generators, which it would put another generator around. A function within a function is made anew at each call of the
outer one, and making its check takes a millisecond: what is handed to it has been checked outside.
"""

import inspect
from collections.abc import Callable
from dataclasses import is_dataclass
from functools import partial
from typing import Any, ForwardRef, Literal, get_args, get_origin

import jaxtyping
from beartype import BeartypeConf, beartype

checked = beartype(conf=BeartypeConf(is_pep484_tower=True))
with_shapes = jaxtyping.jaxtyped


def check(made: Callable[..., Any]) -> Callable[..., Any]:
    """The same function or class, whose types are checked unless it stands within a function."""
    return made if "<locals>" in made.__qualname__ else checked(made)


def has_shapes(annotation: Any) -> bool:
    """Whether an annotation says of an array which axes it has; one in quotes might, and is left to jaxtyping."""
    if isinstance(annotation, str | ForwardRef):
        return True
    if get_origin(annotation) is Literal:
        return False
    if inspect.isclass(annotation) and issubclass(annotation, jaxtyping.AbstractArray):
        return True
    parts = annotation if isinstance(annotation, list) else get_args(annotation)  # a list is what a callable is given
    return any(map(has_shapes, parts))


def jaxtyped(made: Any = None, *, typechecker: Any) -> Any:
    """What jaxtyping's import hook puts around each function and class."""
    if made is None:
        return partial(jaxtyped, typechecker=typechecker)
    if not inspect.isclass(made):
        shaped = inspect.isgeneratorfunction(made) or any(map(has_shapes, made.__annotations__.values()))
        return with_shapes(made, typechecker=typechecker) if shaped else typechecker(made)
    if is_dataclass(made) and "__init__" in vars(made):
        made.__init__ = jaxtyped(made.__init__, typechecker=typechecker)
    return made


def install(package: str) -> None:
    """Check types and shapes of a package that has not been imported yet, wherever it runs in this process."""
    jaxtyping.jaxtyped = jaxtyped
    jaxtyping.install_import_hook(package, "typechecker.check")
