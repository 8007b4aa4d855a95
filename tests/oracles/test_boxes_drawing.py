"""Boxes drawn on pictures: where they are, in which colour, and readable at any size."""

from itertools import combinations, pairwise

import numpy as np
import pytest
import torch
from PIL import Image

from vitrail.cli.main import main
from vitrail.data.open import open_dataset
from vitrail.explain.boxes import (
    FEW,
    HIDDEN,
    Tag,
    colour_of,
    draw_objects,
    grounds,
    ink_on,
    letter_height,
    place_for,
    shared,
)
from vitrail.explain.sheet import CELL, chosen, draw_sheet


def test_a_box_is_drawn_where_it_is_and_the_picture_stays_as_it_was():
    image = Image.new("RGB", (600, 500), (0, 0, 0))
    red = (250, 10, 10)
    drawn = draw_objects(image, torch.tensor([[100.0, 200, 300, 400]]), [""], [red])
    assert drawn.size == image.size
    assert image.getextrema() == ((0, 0),) * 3
    down, across = np.nonzero((np.asarray(drawn) == red).all(-1))
    assert (across.min(), down.min(), across.max(), down.max()) == (100, 200, 299, 399)
    assert drawn.getpixel((200, 300)) == (0, 0, 0)


@pytest.mark.parametrize("size", [(1, 1), (64, 96), (640, 480), (3000, 200), (4000, 3000)])
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_pictures_of_any_size_and_kind_can_be_drawn_on(size, mode):
    boxes = torch.tensor([[0.0, 0, *size], [0.2, 0.1, 0.9, 0.8]])
    masks = torch.zeros(2, size[1], size[0], dtype=torch.bool)
    masks[0, : size[1] // 2 + 1] = True
    drawn = draw_objects(Image.new(mode, size), boxes, ["whole picture", "日 é"], masks=masks, scores=[0.5, 1.0])
    assert max(drawn.size) == max(480, *size)
    assert drawn.mode == "RGB"
    assert letter_height(drawn.size) >= 11


def test_without_objects_nothing_is_drawn():
    image = Image.effect_noise((500, 400), 60).convert("RGB")
    assert np.array_equal(draw_objects(image, torch.zeros(0, 4), []), image)


def test_a_mask_tints_its_pixels_and_no_others():
    image = Image.new("RGB", (500, 480), (100, 100, 100))
    mask = torch.zeros(1, 480, 500, dtype=torch.bool)
    mask[0, 100:200, 150:350] = True
    drawn = np.asarray(draw_objects(image, torch.zeros(1, 4) + 499, [""], [(0, 200, 0)], masks=mask))
    assert drawn[150, 250].tolist() == [55, 145, 55]
    assert drawn[100, 200].tolist() == [0, 200, 0]
    assert drawn[300, 250].tolist() == [100, 100, 100]


def test_labels_stay_in_the_picture_and_avoid_each_other():
    box = (200.0, 0.0, 300.0, 90.0)
    first = place_for(box, 80, 14, (320, 240), [])
    second = place_for(box, 80, 14, (320, 240), [first])
    for left, top, right, bottom in (first, second):
        assert 0 <= left < right <= 320
        assert 0 <= top < bottom <= 240
    assert shared(first, second) == 0


def test_of_many_labels_the_surest_are_written_and_no_box_is_lost():
    drawn, red, white = Image.new("RGB", (640, 480)), (250, 10, 10), (255, 255, 255)
    left, top = torch.rand(2, 80, generator=torch.Generator().manual_seed(0)) * torch.tensor([[500.0], [380.0]])
    boxes = torch.stack([left, top, left + 130, top + 90], dim=1).round()
    scores = torch.linspace(0.02, 0.99, 80)
    tags = [Tag("RBC 50%", red, (x, y, x + 129, y + 89)) for x, y, *_ in boxes.flip(0).tolist()]
    found = grounds(tags, drawn.size, 11)
    labels = [ground for ground in found if ground is not None]
    assert all(ground is not None for ground in found[:FEW])
    assert FEW < len(labels) < 40
    assert sum(shared(one, one) for one in labels) <= HIDDEN * 640 * 480
    assert all(shared(one, other) == 0 for one, other in combinations(labels, 2))
    drawn = np.asarray(draw_objects(drawn, boxes, ["RBC"] * 80, [red] * 80, scores=scores.tolist()))
    for x, y, right, bottom in boxes.int().tolist():
        around = np.concatenate([drawn[y, x:right], drawn[bottom - 1, x:right], drawn[y:bottom, x]])
        assert ((around == red) | (around == white)).all(-1).mean() > 0.6, "a box has lost its lines"


def test_a_sure_box_lies_on_top_whatever_the_order():
    boxes, colours = torch.tensor([[100.0, 100, 200, 200]] * 2), [(250, 10, 10), (10, 10, 250)]
    for scores, top in (([0.2, 0.9], 1), ([0.9, 0.2], 0)):
        drawn = draw_objects(Image.new("RGB", (500, 480)), boxes, ["", ""], colours, scores=scores)
        assert drawn.getpixel((100, 150)) == colours[top]


def test_a_hundred_classes_have_colours_that_can_be_told_apart_and_written_on():
    colours = [colour_of(number) for number in range(100)]
    assert len(set(colours)) == 100
    for before, after in pairwise(colours):
        assert np.abs(np.subtract(before, after)).max() > 60
    light = [0.299 * red + 0.587 * green + 0.114 * blue for red, green, blue in colours]
    assert {ink_on(colour) for colour in colours} == {(0, 0, 0), (255, 255, 255)}
    assert all((ink_on(colour) == (0, 0, 0)) == (level > 140) for colour, level in zip(colours, light, strict=True))


def test_a_sheet_shows_sixteen_pictures_from_all_over_and_the_colours_of_their_classes():
    assert chosen(0) == []
    assert [chosen(count) for count in (1, 3, 16)] == [[0], [0, 1, 2], list(range(16))]
    assert chosen(100)[0] == 0
    assert chosen(100)[-1] == 99
    assert len(chosen(100)) == 16
    data = open_dataset("scenes:18,objects=2,size=32x64", "train")
    sheet = draw_sheet(data, "scenes")
    assert sheet.width > 4 * CELL
    pixels = {tuple(pixel) for pixel in np.asarray(sheet).reshape(-1, 3)}
    drawn = {label for index in chosen(18) for label in data[index].label}
    assert {colour_of(label) for label in drawn} <= pixels


def test_check_draws_what_is_marked_where_it_is_told_and_else_in_this_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["check", "--data", "scenes:6,panoptic"]) == 0
    assert "check-scenes-6,panoptic.png: some of the pictures" in capsys.readouterr().out
    assert Image.open("check-scenes-6,panoptic.png").width > 4 * CELL
    assert main(["check", "--data", "scenes:6,objects=1", "--draw", "a.webp"]) == 0
    assert Image.open("a.webp").format == "WEBP"
    assert main(["check", "--data", "scenes:6,objects=1", "--json"]) == 0
    assert main(["check", "--data", "scenes:6"]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.webp", "check-scenes-6,panoptic.png"]
    assert main(["check", "--data", "scenes:6", "--draw", "b.png"]) == 1
    assert "no marked objects that could be drawn" in capsys.readouterr().err
    assert main(["check", "--data", "scenes:6,objects=1", "--draw", "nowhere/b.png"]) == 1
    assert "nowhere/b.png cannot be written" in capsys.readouterr().err
