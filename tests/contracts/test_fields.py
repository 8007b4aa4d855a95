"""A configuration that is not what its fields say is refused with a sentence."""

from dataclasses import dataclass, replace
from typing import Literal

import pytest

from vitrail.errors import ConfigError
from vitrail.fields import check_fields


@dataclass(frozen=True)
class Config:
    side: int | tuple[int, int] = 3
    rate: float = 0.5
    gate: bool = False
    place: Literal["before", "after"] = "before"
    widths: tuple[int, ...] = ()
    scale: float | None = None


@pytest.mark.parametrize(
    "changes", [{}, {"side": (1, 2)}, {"rate": 1}, {"place": "after"}, {"widths": (1, 2, 3)}, {"scale": 0.1}], ids=str
)
def test_values_that_fit_pass(changes):
    check_fields(replace(Config(), **changes))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"side": 1.5}, "side=1.5 is not a whole number or two whole numbers, such as 64,96"),
        ({"side": (1, 2, 3)}, r"side=\(1, 2, 3\) is not"),
        ({"side": True}, "side=True is not"),
        ({"rate": "fast"}, "rate='fast' is not a number"),
        ({"gate": 1}, "gate=1 is not True or False"),
        ({"place": "middle"}, "place='middle' is not one of 'before', 'after'"),
        ({"widths": (1, "2")}, "widths=.* is not a list of values, each a whole number"),
        ({"scale": "none"}, "scale='none' is not a number or None"),
    ],
    ids=str,
)
def test_values_that_do_not_fit_are_named(changes, sentence):
    with pytest.raises(ConfigError, match=sentence):
        check_fields(replace(Config(), **changes))
