"""The tests themselves: types and shapes are checked wherever vitrail runs in them; and protocols that say what is."""

import ast
from pathlib import Path

import pytest
import torch
from beartype.roar import BeartypeCallHintParamViolation
from jaxtyping import TypeCheckError

import vitrail
from vitrail.core.blocks import MLP, drop_path
from vitrail.weights.keymap import Rename, some

PACKAGE = Path(vitrail.__file__).parent
OF_A_MODULE = {"Tensor", "Float", "Int", "Bool", "nn", "Module", "Parameter"}


def test_an_axis_too_few_is_noticed():
    with pytest.raises(TypeCheckError, match="batch tokens dim"):
        MLP(4, 8)(torch.zeros(3, 4))
    assert drop_path(torch.ones(3, 4), 0.0).shape == (3, 4)


@pytest.mark.parametrize(("call", "given"), [(some, (7,)), (Rename, (3, "head"))])
def test_a_value_of_another_type_is_noticed_where_nothing_has_a_shape(call, given):
    with pytest.raises(BeartypeCallHintParamViolation):
        call(*given)


def members_to_look_for(source: str) -> set[str]:
    """Fields of protocols that are checked while a program runs and may be parameters or parts of a module."""
    return {
        f"{found.name}.{ast.unparse(field.target)}"
        for found in ast.walk(ast.parse(source))
        if isinstance(found, ast.ClassDef) and "runtime_checkable" in map(ast.unparse, found.decorator_list)
        for field in found.body
        if isinstance(field, ast.AnnAssign)
        and OF_A_MODULE & {getattr(node, "id", "") for node in ast.walk(field.annotation)}
    }


def test_a_protocol_asks_for_no_parameter_and_no_part():
    """From Python 3.12 on, isinstance does not see what a module finds by `__getattr__`."""
    wrong = "@runtime_checkable\nclass Listens(Protocol):\n    head: nn.Module | None\n    name: str"
    assert members_to_look_for(wrong) == {"Listens.head"}
    assert not set().union(*(members_to_look_for(file.read_text("utf-8")) for file in PACKAGE.rglob("*.py")))
