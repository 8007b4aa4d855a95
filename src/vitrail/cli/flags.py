"""Flags that several verbs share: one name, one type and one meaning everywhere."""

from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, UseAppendAction, arg


def shown(metavar: str | None = None, name: str | None = None) -> object:
    """How an optional flag is shown; what happens without it is said by its help, not by its default."""
    return arg(name=name, metavar=metavar, help_behavior_hint="")


Source = Positional[str]
Data = Annotated[str, arg(metavar="PATH")]
Word = Annotated[str | None, shown("NAME")]
Device = Annotated[str | None, shown("DEVICE")]
Number = Annotated[int, arg(metavar="N")]
Count = Annotated[int | None, shown("N")]
Out = Annotated[Path | None, shown("PATH")]
Set = Annotated[tuple[str, ...], UseAppendAction, shown("NAME=VALUE")]
Switch = Annotated[bool, shown()]
