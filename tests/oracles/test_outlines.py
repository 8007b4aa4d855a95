"""Outlines as COCO writes them: against what its tools have recorded of runs and polygons."""

import json

import numpy as np
import pytest

from vitrail.data.datasets.outlines import Runs, extent, filled, pack, packed_runs, surface, unpacked


@pytest.fixture(scope="module")
def case(shared):
    return json.loads((shared / "golden/coco/mask_utils.json").read_text())


def recorded(case):
    """Each mask with the text of its runs, its area and its box."""
    expected = case["expected"]
    masks = [np.array(mask, bool) for mask in case["masks"]]
    return zip(masks, expected["counts"], expected["area"], expected["bbox"], strict=True)


def test_packed_runs_are_read_as_the_masks_that_they_were_made_of(case):
    size = tuple(case["size"])
    for mask, text, area, (left, top, wide, high) in recorded(case):
        runs = Runs(size, text)
        np.testing.assert_array_equal(filled(runs, size), mask)
        assert surface(runs) == area
        assert extent(runs) == (left, top, left + wide, top + high)


def test_masks_are_written_as_the_same_runs(case):
    for mask, text, *_ in recorded(case):
        assert list(packed_runs(mask).counts) == unpacked(text).tolist()


def test_a_polygon_is_filled_as_recorded(case):
    expected = np.array(case["expected"]["polygon_mask"], bool)
    np.testing.assert_array_equal(filled(pack(case["expected"]["polygon"]), expected.shape), expected)


def test_overlaps_are_those_that_are_recorded(case):
    from faster_coco_eval import mask

    expected = case["expected"]
    masks = [mask.encode(np.asfortranarray(np.array(one, np.uint8))) for one in case["masks"]]
    for name, crowd in (("iou_no_crowd", 0), ("iou_all_crowd", 1)):
        np.testing.assert_allclose(mask.iou(masks, masks, [crowd] * len(masks)), expected[name], rtol=0, atol=1e-12)
    boxes = [np.array(expected[name]) for name in ("boxes_dt", "boxes_gt")]
    second_is_a_crowd = [0, 1]
    np.testing.assert_allclose(mask.iou(*boxes, second_is_a_crowd), expected["box_iou"], rtol=0, atol=1e-12)
