"""Sizes and costs of models whose papers, or whose arithmetic, give the answer."""

import pytest
import torch

import vitrail
from vitrail.description import count_kept


@pytest.mark.parametrize(
    ("name", "parameters"), [("vit-base-16", 86_567_656), ("deit-tiny-16", 5_717_416), ("vit-large-16", 304_326_632)]
)
def test_parameters_are_those_that_timm_counts(name, parameters):
    assert vitrail.describe(name).parameters == parameters


def test_operations_are_the_products_of_the_paper():
    dim, depth, tokens, mlp, patches = 768, 12, 197, 3072, 196
    block = tokens * (4 * dim * dim + 2 * dim * mlp) + 2 * tokens * tokens * dim
    multiply_adds = depth * block + patches * 3 * 16 * 16 * dim + dim * 1000
    assert vitrail.describe("vit-base-16").operations == 2 * multiply_adds


def test_a_larger_picture_has_more_tokens():
    found = vitrail.describe("vit-base-16", image=384)
    assert (found.grid, found.tokens) == ((24, 24), 577)


def test_what_a_linear_layer_keeps_is_its_input():
    layer, images = torch.nn.Linear(10, 7, device="meta"), torch.empty(5, 10, device="meta")
    assert count_kept(layer, images) == 5 * 10 * 4


def test_a_name_is_never_fetched():
    assert vitrail.describe("vit-huge-14").card.licence == ""
