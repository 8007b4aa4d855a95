"""The tests themselves: types and shapes are checked wherever vitrail runs in them."""

import pytest
import torch
from beartype.roar import BeartypeCallHintParamViolation
from jaxtyping import TypeCheckError

from vitrail.core.blocks import MLP, drop_path
from vitrail.weights.keymap import Rename, some


def test_an_axis_too_few_is_noticed():
    with pytest.raises(TypeCheckError, match="batch tokens dim"):
        MLP(4, 8)(torch.zeros(3, 4))
    assert drop_path(torch.ones(3, 4), 0.0).shape == (3, 4)


@pytest.mark.parametrize(("call", "given"), [(some, (7,)), (Rename, (3, "head"))])
def test_a_value_of_another_type_is_noticed_where_nothing_has_a_shape(call, given):
    with pytest.raises(BeartypeCallHintParamViolation):
        call(*given)
