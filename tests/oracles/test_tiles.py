"""Tiles of large pictures: every pixel is looked at, and objects that were planted come back as they were."""

from itertools import pairwise

import pytest
import torch

from vitrail.errors import ConfigError
from vitrail.geometry.boxes import area
from vitrail.geometry.placement import Placement
from vitrail.geometry.tiles import starts, tiles_of
from vitrail.tasks.detected import Detected
from vitrail.tasks.tiled import completed, joined

CLASSES = ("cat", "dog")


@pytest.mark.parametrize("size", [(1, 1), (800, 800), (799, 2000), (801, 801), (1000, 3001), (50, 5000)])
@pytest.mark.parametrize(("tile", "overlap"), [(800, 0.2), (100, 0.0), (64, 0.9), (333, 0.5)])
def test_every_pixel_lies_in_a_tile_and_neighbours_share_what_is_asked(size, tile, overlap):
    seen = torch.zeros(size, dtype=torch.bool)
    found = tiles_of(size, tile, overlap)
    for left, top, right, bottom in found:
        assert (right - left, bottom - top) == (min(tile, size[1]), min(tile, size[0]))
        seen[top:bottom, left:right] = True
    assert seen.all()
    assert len(set(found)) == len(found)
    for side in size:
        begins = starts(side, tile, overlap)
        assert all(first < second <= first + max(tile * (1 - overlap), 1) for first, second in pairwise(begins))
        assert begins[-1] == max(side - tile, 0)


def test_a_small_picture_is_its_own_tile():
    assert tiles_of((480, 640), 800) == [(0, 0, 640, 480)]
    assert tiles_of((480, 900), 800) == [(0, 0, 800, 480), (100, 0, 900, 480)]


@pytest.mark.parametrize(("tile", "overlap"), [(0, 0.2), (-1, 0.2), (800, 1.0), (800, -0.1)])
def test_tiles_that_never_get_on_are_refused(tile, overlap):
    with pytest.raises(ConfigError, match="make no tiles"):
        tiles_of((1000, 1000), tile, overlap)


def seen_by(tile, objects, size, *, least=4.0):
    """What a perfect detector says of a tile: the part of each object that lies in it, if there is enough of it."""
    corners = torch.tensor(tile, dtype=torch.float32)
    boxes = torch.tensor([box for box, _, _ in objects], dtype=torch.float32).reshape(-1, 4)
    cut = torch.cat([torch.maximum(boxes[:, :2], corners[:2]), torch.minimum(boxes[:, 2:], corners[2:])], dim=1)
    seen = ((cut[:, 2:] - cut[:, :2]) >= least).all(dim=1)
    scores = torch.tensor([score for _, _, score in objects]).reshape(-1)[seen]
    whole = area(cut[seen]) / area(boxes[seen]).clamp(min=1e-6)
    labels = torch.tensor([label for _, label, _ in objects], dtype=torch.int64).reshape(-1)[seen]
    queries = torch.arange(len(objects))[seen]
    return Detected(cut[seen], scores * (0.5 + 0.5 * whole), labels, queries, CLASSES, size=size)


def through_tiles(objects, size, tile, overlap=0.2):
    """The boxes that come back, by the query that has found them."""
    tiles = tiles_of(size, tile, overlap)
    found = joined([seen_by(one, objects, size) for one in tiles], tiles)
    assert found.scores.tolist() == sorted(found.scores.tolist(), reverse=True)
    return sorted(zip(found.queries.tolist(), found.labels.tolist(), found.boxes_xyxy.tolist(), strict=True))


def planted(seed, size, *, count, largest):
    """Objects that do not touch, so that each has one right answer."""
    chance = torch.Generator().manual_seed(seed)
    objects = []
    while len(objects) < count:
        wide, high = (torch.rand(2, generator=chance) * (largest - 12) + 12).round().tolist()
        left = float((torch.rand(1, generator=chance) * (size[1] - wide)).round())
        top = float((torch.rand(1, generator=chance) * (size[0] - high)).round())
        box = [left, top, left + wide, top + high]
        apart = all(
            box[2] + 3 < other[0] or other[2] + 3 < box[0] or box[3] + 3 < other[1] or other[3] + 3 < box[1]
            for other, _, _ in objects
        )
        if apart:
            label = int(torch.randint(2, (1,), generator=chance))
            objects.append((box, label, 0.5 + 0.5 * float(torch.rand(1, generator=chance))))
    return objects


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("largest", [60, 400])  # smaller than the overlap, and longer than a tile
def test_objects_come_back_as_they_were_planted(seed, largest):
    size = (700, 900)
    objects = planted(seed, size, count=60 if largest == 60 else 8, largest=largest)
    expected = [(number, label, box) for number, (box, label, _) in enumerate(objects)]
    assert through_tiles(objects, size, 320, 0.25) == expected


def test_a_small_object_on_a_large_one_of_its_class_stays():
    objects = [([100.0, 100.0, 700.0, 500.0], 0, 0.9), ([300.0, 200.0, 340.0, 240.0], 0, 0.8)]
    assert [box for _, _, box in through_tiles(objects, (600, 800), 320)] == [box for box, _, _ in objects]


def test_objects_that_overlap_in_one_tile_stay_apart():
    objects = [([250.0, 100.0, 300.0, 200.0], 0, 0.9), ([260.0, 100.0, 310.0, 200.0], 0, 0.8)]  # two thirds shared
    assert [box for _, _, box in through_tiles(objects, (400, 560), 320)] == [box for box, _, _ in objects]


def test_a_piece_is_dropped_where_another_tile_sees_all_of_it():
    tiles = tiles_of((320, 560), 320)  # 0 to 320 and 240 to 560
    piece = Detected(
        torch.tensor([[290.0, 50, 320, 90]]), torch.tensor([0.9]), torch.tensor([0]), torch.tensor([7]), CLASSES,
        size=(320, 560),
    )  # fmt: skip
    whole = seen_by(tiles[1], [([290.0, 50.0, 400.0, 90.0], 1, 0.8)], (320, 560))
    found = joined([piece, whole], tiles)
    assert (found.labels.tolist(), found.boxes_xyxy.tolist()) == ([1], [[290, 50, 400, 90]])
    nothing = whole.only(torch.zeros(0, dtype=torch.int64))
    assert len(joined([piece, nothing], tiles)) == 0
    long = piece.boxes_xyxy.new_tensor([[200.0, 50, 320, 90]])  # reaches beyond the other tile: nobody sees all of it
    assert (
        len(
            joined(
                [Detected(long, *(piece.scores, piece.labels, piece.queries), CLASSES, size=(320, 560)), nothing], tiles
            )
        )
        == 1
    )


def test_what_ends_at_the_edge_of_the_picture_is_whole():
    objects = [([0.0, 0.0, 30.0, 30.0], 0, 0.9), ([520.0, 290.0, 560.0, 320.0], 1, 0.8)]
    assert [box for _, _, box in through_tiles(objects, (320, 560), 320)] == [box for box, _, _ in objects]


def test_the_best_score_and_all_of_the_masks_are_kept():
    tiles = tiles_of((320, 560), 320)
    results = []
    for tile, score in zip(tiles, (0.6, 0.9), strict=True):
        mask = torch.zeros(1, 320, 560, dtype=torch.bool)
        left, right = max(100, tile[0]), min(460, tile[2])
        mask[0, 50:90, left:right] = True
        box = torch.tensor([[left, 50.0, right, 90.0]])
        one = torch.tensor([0])
        results.append(Detected(box, torch.tensor([score]), one, one, CLASSES, size=(320, 560), masks=mask))
    found = joined(results, tiles)
    assert found.boxes_xyxy.tolist() == [[100, 50, 460, 90]]
    assert found.scores.tolist() == pytest.approx([0.9])
    assert int(found.masks.sum()) == 360 * 40
    assert joined([result.above(0.95) for result in results], tiles).masks.shape == (0, 320, 560)


def test_one_tile_changes_nothing():
    objects = planted(0, (300, 300), count=10, largest=60)
    alone = seen_by((0, 0, 300, 300), objects, (300, 300))
    found = joined([alone], tiles_of((300, 300), 800))
    order = alone.scores.argsort(descending=True, stable=True)
    assert torch.equal(found.boxes_xyxy, alone.boxes_xyxy[order])
    assert torch.equal(found.scores, alone.scores[order])


def test_boxes_of_a_tile_are_placed_in_the_whole_picture_by_its_window():
    tile = tiles_of((1000, 2000), 800)[1]
    placement = Placement.window((1000, 2000), tile, (400, 400))
    unit = torch.tensor([[0.25, 0.5, 0.5, 1.0]])
    one = torch.zeros(1, dtype=torch.int64)
    placed = Detected(unit, torch.ones(1), one, one, CLASSES).placed(placement)
    assert placed.size == (1000, 2000)
    assert placed.boxes_xyxy.tolist() == [[tile[0] + 200, 400, tile[0] + 400, 800]]


def answers(*objects):
    """Boxes with labels and scores as an answer for a picture of 400 rows and 1000 columns."""
    boxes, labels, scores = (torch.tensor(column) for column in zip(*objects, strict=True))
    return Detected(boxes.float(), scores.float(), labels, torch.arange(len(objects)), CLASSES, size=(400, 1000))


def left_of(pieces, whole):
    """What stands after the whole picture was asked, by box and score."""
    found = completed(pieces, whole, tiles_of((400, 1000), 400, 0.2))
    assert found.scores.tolist() == sorted(found.scores.tolist(), reverse=True)
    return [(box, round(score, 3)) for box, score in zip(found.boxes_xyxy.tolist(), found.scores.tolist(), strict=True)]


TRAIN = ([50.0, 100, 950, 300], 0, 0.6)  # too long for a tile
ENDS = (
    ([50.0, 100, 400, 300], 0, 0.9),
    ([600.0, 110, 950, 290], 0, 0.5),
)  # its pieces, which know nothing of each other
MOUSE = ([500.0, 180, 540, 220], 0, 0.8)  # on the train, of its class, and seen whole


def test_what_no_tile_sees_whole_is_told_by_the_whole_picture():
    assert left_of(answers(*ENDS, MOUSE), answers(TRAIN)) == [(TRAIN[0], 0.9), (MOUSE[0], 0.8)]


def test_of_several_long_objects_one_takes_the_pieces():
    doubled = ([55.0, 105, 945, 295], 0, 0.55)
    assert left_of(answers(*ENDS), answers(TRAIN, doubled)) == [(TRAIN[0], 0.9), (doubled[0], 0.55)]
    assert left_of(answers(MOUSE), answers(MOUSE)) == [(MOUSE[0], 0.8)], "nothing is longer than a tile"


def test_what_a_tile_sees_whole_is_told_by_that():
    assert left_of(answers(MOUSE), answers(([498.0, 178, 541, 221], 0, 0.95))) == [(MOUSE[0], 0.8)]


def test_pieces_of_another_class_and_much_surer_ones_stay():
    other = (ENDS[0][0], 1, 0.9)
    assert left_of(answers(other), answers(TRAIN)) == [(other[0], 0.9), (TRAIN[0], 0.6)]
    doubted, believed = (TRAIN[0], 0, 0.4), (TRAIN[0], 0, 0.46)
    assert left_of(answers(*ENDS), answers(doubted)) == [(ENDS[0][0], 0.9), (ENDS[1][0], 0.5)]
    assert left_of(answers(*ENDS), answers(believed)) == [(TRAIN[0], 0.9)], "as sure as its surest piece"
