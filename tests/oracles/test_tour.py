"""How much of the attention is on the thing, where both are known because they were put there."""

import numpy as np
import pytest
import torch

from vitrail.data.images import PictureArray
from vitrail.explain.attention import Asked, Look
from vitrail.geometry.placement import Placement
from vitrail.recipes.tour import focus, free


def looking(weights: list[float]) -> Look:
    """One head over a class token and four patches of an 8 x 8 picture."""
    return Look(
        picture=PictureArray(np.zeros((8, 8, 3), np.uint8)),
        placement=Placement.identity((8, 8)),
        grid=(2, 2),
        prefix=1,
        asked=Asked([0], "the class token"),
        layer=0,
        layers=1,
        head="mean",
        heads=(0,),
        weights=torch.tensor([weights], dtype=torch.float64),
    )


@pytest.mark.parametrize(
    ("weights", "attention"),
    [
        ([0.0, 0.0, 1.0, 0.0, 0.0], 1.0),  # all of it on the patch at the top right
        ([0.5, 0.0, 0.5, 0.0, 0.0], 1.0),  # the class token has no place and does not count
        ([0.2, 0.2, 0.2, 0.2, 0.2], 0.25),  # anywhere
        ([0.0, 0.0, 0.0, 1.0, 0.0], 0.0),  # at the bottom left
    ],
)
def test_focus_is_the_share_that_falls_on_the_thing(weights, attention):
    mask = torch.zeros(8, 8, dtype=torch.bool)
    mask[:4, 4:] = True
    found = focus(looking(weights), mask)
    assert found.attention == pytest.approx(attention)
    assert found.area == pytest.approx(0.25)


@pytest.mark.slow
def test_the_tour_never_writes_over_an_earlier_one(tmp_path):
    assert free(tmp_path / "run") == tmp_path / "run"
    (tmp_path / "run").mkdir()
    (tmp_path / "run-2").mkdir()
    assert free(tmp_path / "run") == tmp_path / "run-3"
