"""Panoptic quality as panopticapi counts it, and where the answer is constructed."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from vitrail.evaluate.background import meaning
from vitrail.geometry.panoptic import LARGEST, from_colours, in_colours, numbered
from vitrail.samples import Batch, Objects, Truth
from vitrail.tasks.panoptic_quality import Marked
from vitrail.tasks.panoptic_scores import PanopticMetrics
from vitrail.tasks.scores import PANOPTIC, UNDEFINED, in_words, telling
from vitrail.tasks.segmented import Segment, Segmented
from vitrail.tasks.task import Metrics, Result

CLASSES, THINGS = ("cat", "dog", "grass"), (True, True, False)


def test_the_recorded_numbers_of_panopticapi(shared):
    case = json.loads((shared / "golden/coco/panoptic_quality.json").read_text())
    maps = load_file(shared / "golden/coco/panoptic_quality.safetensors")
    categories = case["config"]["categories"]
    place = {category["id"]: number for number, category in enumerate(categories)}
    things = tuple(bool(category["isthing"]) for category in categories)
    metrics = PanopticMetrics(tuple(category["name"] for category in categories), things)
    for number, (truth, said) in enumerate(case["annotations"]):
        found = torch.as_tensor(maps[f"input.pred{number}"], dtype=torch.int64)
        segments = tuple(Segment(one["id"], place[one["category_id"]]) for one in said["segments_info"])
        info = truth["segments_info"]
        marked = Marked(
            maps[f"input.gt{number}"].numpy().astype(np.int64),
            np.array([one["id"] for one in info]),
            np.array([place[one["category_id"]] for one in info]),
            np.array([one["area"] for one in info], float),
            np.array([bool(one["iscrowd"]) for one in info]),
        )
        metrics.count(marked, Segmented(found, segments, metrics.classes, things).marked)
    expected, scores = case["expected"]["results"], metrics.compute()
    for name, part in (("All", ""), ("Things", "_things"), ("Stuff", "_stuff")):
        for score in ("pq", "sq", "rq"):
            assert scores[f"{score}{part}"] == pytest.approx(expected[name][score], abs=1e-12)
    for category, row in zip(categories, metrics.details()["per_class"], strict=True):
        theirs, counts = expected["per_class"][str(category["id"])], case["expected"]["counts"][str(category["id"])]
        assert [row["pq"], row["sq"], row["rq"]] == pytest.approx(
            [theirs[key] for key in ("pq", "sq", "rq")], abs=1e-12
        )
        assert (row["found"], row["wrong"], row["missed"]) == (counts["tp"], counts["fp"], counts["fn"])


def picture(*rows):
    """A map of numbers, written as digits."""
    return torch.tensor([[int(digit) for digit in row] for row in rows])


def judged(truth, said, labels, said_labels, crowd=()):
    """Metrics that have seen one picture; labels are those of the segments 1, 2, 3 ..."""
    masks = torch.stack([truth == number for number in range(1, len(labels) + 1)])
    crowds = torch.tensor([number in crowd for number in range(1, len(labels) + 1)])
    areas = masks.sum(dim=(1, 2)).float()
    objects = Objects(torch.zeros(len(labels), 4), torch.tensor(labels), crowds, areas, masks)
    segments = tuple(Segment(number, label) for number, label in enumerate(said_labels, start=1))
    result = Segmented(said, segments, CLASSES, THINGS)
    metrics = PanopticMetrics(CLASSES, THINGS)
    size = (truth.shape[0], truth.shape[1])
    metrics.update([result], Batch(None, None, torch.arange(1), [Truth(objects, size, 1)]))
    return metrics


def counts(metrics):
    """Found, wrong and missed of each class that occurs."""
    rows = metrics.details()["per_class"]
    return {row["label"]: (row["found"], row["wrong"], row["missed"]) for row in rows if row["pq"] is not None}


def test_what_is_told_exactly_has_all_that_can_be_had():
    scores = judged(picture("1122", "3333"), picture("1122", "3333"), (0, 0, 2), (0, 0, 2)).compute()
    assert scores == dict.fromkeys(PANOPTIC, 1.0)


def test_quality_is_known_of_half_a_picture():
    metrics = judged(picture("1111", "2222"), picture("1110", "0022"), (0, 2), (0, 2))
    assert counts(metrics) == {"cat": (1, 0, 0), "grass": (0, 1, 1)}  # three quarters, and a half, which is too little
    scores = metrics.compute()
    assert (scores["pq_things"], scores["sq_things"], scores["rq_things"]) == (0.75, 0.75, 1)
    assert (scores["pq_stuff"], scores["sq_stuff"], scores["rq_stuff"]) == (0, 0, 0)
    assert scores["pq"] == 0.375


def test_a_segment_of_the_wrong_class_is_wrong_and_the_true_one_missed():
    assert counts(judged(picture("1111"), picture("1111"), (0,), (1,))) == {"cat": (0, 0, 1), "dog": (0, 1, 0)}


def test_pixels_that_nobody_has_marked_count_against_nothing():
    assert counts(judged(picture("1000"), picture("1111"), (0,), (0,))) == {"cat": (1, 0, 0)}
    assert counts(judged(picture("1000"), picture("2111"), (0,), (1, 0))) == {"cat": (1, 0, 0)}
    assert counts(judged(picture("1100"), picture("2111"), (0,), (1, 0))) == {"cat": (0, 1, 1)}  # two thirds of a dog
    assert counts(judged(picture("1110"), picture("2211"), (0,), (1, 0))) == {
        "cat": (1, 0, 0),
        "dog": (0, 1, 0),
    }  # half


def test_a_crowd_need_not_be_found_and_excuses_what_lies_on_it():
    truth, said = picture("1111", "2222"), picture("1133", "2222")
    assert counts(judged(truth, said, (0, 2), (0, 2, 0), crowd={1})) == {"grass": (1, 0, 0)}
    dogs = judged(truth, said, (0, 2), (0, 2, 1), crowd={1})
    assert counts(dogs) == {"dog": (0, 1, 0), "grass": (1, 0, 0)}  # a crowd of cats excuses no dog


def test_where_no_class_occurs_nothing_is_defined():
    metrics = PanopticMetrics(CLASSES, THINGS)
    assert metrics.compute() == dict.fromkeys(PANOPTIC, UNDEFINED)
    assert telling(metrics.compute(), 3) == {}
    json.dumps(metrics.details(), allow_nan=False)
    scores = judged(picture("11"), picture("11"), (2,), (2,)).compute()
    assert (scores["pq"], scores["pq_stuff"], scores["pq_things"]) == (1, 1, UNDEFINED)
    assert isinstance(metrics, Metrics)


def test_scores_are_read_as_in_the_papers():
    assert in_words("pq", 0.4344) == "43.4"
    assert all(meaning(name, "panoptic").name != name for name in PANOPTIC)


def test_a_picture_of_segments_is_told_in_a_line():
    numbers = picture("112", "333")
    result = Segmented(numbers, (Segment(1, 0, 0.9), Segment(2, 0, 0.8), Segment(3, 2, 0.7)), CLASSES, THINGS)
    assert isinstance(result, Result)
    assert result.summary() == "2 cat, grass"
    assert [row["area"] for row in result.record()["segments"]] == [3, 2, 1]
    json.dumps(result.record(), allow_nan=False)
    assert Segmented(numbers * 0, (), CLASSES, THINGS).summary() == "no segments"


def test_numbers_are_colours_as_coco_writes_them():
    numbers = np.array([[0, 1, 255], [256, 65536, LARGEST]])
    colours = in_colours(numbers)
    assert colours.tolist() == [[[0, 0, 0], [1, 0, 0], [255, 0, 0]], [[0, 1, 0], [0, 0, 1], [255, 255, 255]]]
    assert np.array_equal(from_colours(colours), numbers)
    with pytest.raises(AssertionError):
        in_colours(np.array([[LARGEST + 1]]))


def test_masks_become_one_map():
    masks = np.zeros((2, 2, 2), bool)
    masks[0, 0], masks[1, 0, 1] = True, True
    assert numbered(masks).tolist() == [[1, 2], [0, 0]]
    assert numbered(masks[:0]).tolist() == [[0, 0], [0, 0]]
