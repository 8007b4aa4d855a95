"""Points come back to where they left, and every pixel belongs to exactly one token."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vitrail.errors import ConfigError
from vitrail.geometry.grid import patch_box, token_at
from vitrail.geometry.placement import Placement

sides = st.integers(1, 4000)
sizes = st.tuples(sides, sides)
offsets = st.integers(-500, 500)


@st.composite
def journeys(draw: st.DrawFn) -> Placement:
    """A resize, a crop and a flip, as a picture meets them."""
    source, resized, cropped = draw(sizes), draw(sizes), draw(sizes)
    placement = Placement.resize(source, resized)
    placement = placement.then(Placement.crop(resized, draw(offsets), draw(offsets), cropped))
    return placement.then(Placement.flip(cropped, horizontal=draw(st.booleans()), vertical=draw(st.booleans())))


@settings(max_examples=100, deadline=None)
@given(journeys())
def test_points_come_back_to_where_they_left(placement):
    points = torch.rand(7, 2, dtype=torch.float64) * 4000
    torch.testing.assert_close(placement.back(placement.forward(points)), points, rtol=0, atol=1e-6)


@settings(max_examples=50, deadline=None)
@given(journeys(), sizes)
def test_two_placements_after_each_other_are_one(first, size):
    second = Placement.resize(first.size, size)
    points = torch.rand(7, 2, dtype=torch.float64) * 100
    both = first.then(second)
    torch.testing.assert_close(both.forward(points), second.forward(first.forward(points)))
    assert (both.source, both.size) == (first.source, size)


def test_placements_that_do_not_meet_are_not_joined():
    with pytest.raises(AssertionError):
        Placement.identity((3, 4)).then(Placement.identity((4, 3)))


def test_a_crop_begins_at_its_own_corner():
    placement = Placement.crop((30, 40), top=5, left=7, size=(10, 20))
    corner_and_centre = torch.tensor([[7.0, 5.0], [17.0, 10.0]])
    assert placement.forward(corner_and_centre).tolist() == [[0.0, 0.0], [10.0, 5.0]]


def test_a_window_fills_the_result():
    placement = Placement.window((100, 200), (50, 10, 150, 60), (25, 25))
    corners = torch.tensor([[50.0, 10.0], [150.0, 60.0]])
    assert placement.forward(corners).tolist() == [[0.0, 0.0], [25.0, 25.0]]


def test_a_flip_keeps_the_centre_of_a_pixel_a_centre():
    first_pixel = torch.tensor([0.5, 0.5])
    assert Placement.flip((6, 9), horizontal=True).forward(first_pixel).tolist() == [8.5, 0.5]
    assert Placement.flip((6, 9), vertical=True).forward(first_pixel).tolist() == [0.5, 5.5]


def test_resizing_moves_pixels_as_an_interpolation_does():
    ramp = torch.arange(12.0)[None, None, None] + 0.5  # each pixel knows where its centre is
    seen = torch.nn.functional.interpolate(ramp, size=(1, 30), mode="bilinear", align_corners=False)[0, 0, 0]
    placement = Placement.resize((1, 12), (1, 30))
    centres = torch.stack([torch.arange(30) + 0.5, torch.full((30,), 0.5)], dim=1)
    inside = slice(2, -2)  # at the edges an interpolation has nothing to go by
    torch.testing.assert_close(placement.back(centres)[inside, 0], seen[inside])


@pytest.mark.parametrize(("grid", "patch", "prefix"), [((3, 5), (4, 2), 1), ((1, 1), (16, 16), 0), ((2, 7), (1, 3), 5)])
def test_every_pixel_belongs_to_the_token_whose_patch_holds_it(grid, patch, prefix):
    counts = dict.fromkeys(range(prefix, prefix + grid[0] * grid[1]), 0)
    for row in range(grid[0] * patch[0]):
        for column in range(grid[1] * patch[1]):
            token = token_at(column + 0.5, row + 0.5, grid, patch, prefix)
            left, top, right, bottom = patch_box(token, grid, patch, prefix)
            assert left <= column < right
            assert top <= row < bottom
            counts[token] += 1
    assert set(counts.values()) == {patch[0] * patch[1]}


def test_tokens_stand_row_by_row_as_the_model_flattens_them():
    numbers = torch.arange(6).reshape(1, 1, 2, 3).flatten(2)[0, 0].tolist()  # what `flatten` makes of rows and columns
    assert [token_at(8 * column, 8 * row, (2, 3), (8, 8), 0) for row in range(2) for column in range(3)] == numbers


@pytest.mark.parametrize(("x", "y"), [(-0.1, 0), (0, -1), (48, 0), (0, 32), (float("nan"), 0)])
def test_a_point_outside_the_picture_belongs_to_no_token(x, y):
    with pytest.raises(ConfigError, match="48 pixels across and 32 down"):
        token_at(x, y, (2, 3), (16, 16), 1)


@pytest.mark.parametrize("token", [-1, 0, 7])
def test_a_token_without_a_place_has_no_patch(token):
    with pytest.raises(ConfigError, match="tokens 1 to 6"):
        patch_box(token, (2, 3), (16, 16), 1)
