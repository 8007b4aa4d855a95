"""Scores of poses: as pycocotools counts them, and where the answer is constructed."""

import contextlib
import io
import json
import math

import numpy as np
import pytest

from vitrail.tasks.keypoint_scores import COCO_SIGMAS, NAMES, FoundPoses, TruePoses, keypoint_scores, similarity

coco = pytest.importorskip("pycocotools.coco")
cocoeval = pytest.importorskip("pycocotools.cocoeval")


def in_ours(truth, found):
    """Annotations and results of COCO as `keypoint_scores` takes them, a pair for each picture."""
    pairs = []
    for image in truth["images"]:
        marked = [row for row in truth["annotations"] if row["image_id"] == image["id"]]
        said = [row for row in found if row["image_id"] == image["id"]]
        keypoints = np.array([row["keypoints"] for row in said], float).reshape(len(said), 17, 3)
        pairs.append(
            (
                FoundPoses(keypoints[:, :, :2], np.array([row["score"] for row in said], float)),
                TruePoses(
                    np.array([row["keypoints"] for row in marked], float).reshape(len(marked), 17, 3),
                    np.array([row["bbox"] for row in marked], float).reshape(-1, 4),
                    np.array([row["area"] for row in marked], float),
                    np.array([bool(row["iscrowd"]) for row in marked], bool),
                    (image["height"], image["width"]),
                ),
            )
        )
    return pairs


def by_pycocotools(truth, found):
    """The ten numbers, and the similarities of each picture."""
    with contextlib.redirect_stdout(io.StringIO()):
        marked = coco.COCO()
        marked.dataset = truth
        marked.createIndex()
        engine = cocoeval.COCOeval(marked, marked.loadRes(found), "keypoints")
        engine.evaluate()
        engine.accumulate()
        engine.summarize()
    return engine.stats, engine.ious


def random_poses(seed):
    """Pictures with people, some of them crowds, some without a marked keypoint, and answers near and far."""
    draw = np.random.default_rng(seed)
    truth = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "person"}], "info": {}}
    found = []
    for picture in range(1, 9):
        truth["images"].append({"id": picture, "height": 300, "width": 400, "file_name": f"{picture}.jpg"})
        for _ in range(draw.integers(0, 5)):
            place, side = draw.uniform(20, 200, 2), draw.uniform(20, 160)
            keypoints = np.concatenate([place + draw.uniform(0, side, (17, 2)), draw.integers(0, 3, (17, 1))], axis=1)
            if draw.random() < 0.2:
                keypoints[:, 2] = 0
            row = {
                "id": len(truth["annotations"]) + 1,
                "image_id": picture,
                "category_id": 1,
                "bbox": [*place, side, side],
                "area": 0.6 * side * side,
                "iscrowd": int(draw.random() < 0.15),
                "keypoints": keypoints.ravel().tolist(),
                "num_keypoints": int((keypoints[:, 2] > 0).sum()),
            }
            truth["annotations"].append(row)
            for _ in range(draw.integers(0, 9)):
                near = keypoints[:, :2] + draw.normal(0, draw.choice([1, 8, 60]), (17, 2))
                triples = np.concatenate([near, np.ones((17, 1))], axis=1)
                found.append(
                    {
                        "image_id": picture,
                        "category_id": 1,
                        "keypoints": triples.ravel().tolist(),
                        "score": float(draw.random()),
                    }
                )
    return truth, found


@pytest.mark.parametrize("seed", range(6))
def test_the_ten_numbers_are_those_of_pycocotools(seed):
    truth, found = random_poses(seed)
    expected, _ = by_pycocotools(truth, found)
    ours = keypoint_scores(in_ours(truth, found))
    assert tuple(ours) == NAMES
    np.testing.assert_allclose(list(ours.values()), expected, rtol=0, atol=1e-12)
    assert 0.02 < ours["ap"] < 0.98  # there is something to be counted otherwise


@pytest.mark.parametrize("seed", range(6))
def test_similarities_are_those_of_pycocotools(seed):
    truth, found = random_poses(seed)
    _, expected = by_pycocotools(truth, found)
    compared = 0
    for image, (said, marked) in zip(truth["images"], in_ours(truth, found), strict=True):
        theirs = np.asarray(expected[image["id"], 1])
        order = np.argsort(-said.scores, kind="mergesort")[:20]
        if theirs.size:
            ours = similarity(said, marked, COCO_SIGMAS)[order]
            np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-300)
            compared += theirs.size
    assert compared > 20


def test_the_recorded_numbers_of_pycocotools(shared):
    case = json.loads((shared / "golden/coco/keypoints.json").read_text())
    pairs, sigmas = in_ours(case["ground_truth"], case["detections"]), case["config"]["sigmas"]
    np.testing.assert_allclose(COCO_SIGMAS, sigmas, rtol=1e-12)
    np.testing.assert_allclose(
        list(keypoint_scores(pairs, sigmas).values()), case["expected"]["stats"], rtol=0, atol=1e-12
    )
    for image, (said, marked) in zip(case["ground_truth"]["images"], pairs, strict=True):
        expected = np.asarray(case["expected"]["oks"][str(image["id"])])
        order = np.argsort(-said.scores, kind="mergesort")
        np.testing.assert_allclose(similarity(said, marked, sigmas)[order], expected, rtol=1e-9, atol=1e-300)


def person(keypoints, area=100.0):
    """One marked person, in a box of 10 x 10 pixels at (50, 50)."""
    box, alone = np.array([[50, 50, 10, 10]], float), np.zeros(1, bool)
    return TruePoses(np.array([keypoints], float), box, np.array([area]), alone, (200, 200))


def test_a_keypoint_counts_by_its_distance_in_sizes_of_the_person():
    true = person([[60, 60, 2], [0, 0, 0]])
    found = FoundPoses(np.array([[[63, 64], [150, 150]]], float), np.ones(1))
    expected = math.exp(-25 / (2 * 100 * (2 * 0.1) ** 2))  # five pixels apart; what is not marked does not count
    assert similarity(found, true, (0.1, 0.1)).item() == pytest.approx(expected, rel=1e-12)


def test_of_a_person_without_keypoints_what_lies_near_the_box_is_right():
    true = person([[0, 0, 0], [0, 0, 0]])
    found = FoundPoses(np.array([[[41, 69], [55, 55]], [[40, 73], [55, 55]]], float), np.ones(2))
    near, far = similarity(found, true, (0.1, 0.1))[:, 0]
    assert near == pytest.approx(1)  # within ten pixels of the box, which are its sides
    assert far == pytest.approx((1 + math.exp(-9 / (2 * 100 * 0.04))) / 2, rel=1e-12)


def test_nobody_marked_gives_no_score_and_nobody_found_gives_zero():
    none = FoundPoses(np.zeros((0, 17, 2)), np.zeros(0))
    nobody = TruePoses(np.zeros((0, 17, 3)), np.zeros((0, 4)), np.zeros(0), np.zeros(0, bool), (100, 100))
    assert keypoint_scores([(none, nobody)])["ap"] == -1
    truth, _ = random_poses(0)
    missed = [(none, marked) for _, marked in in_ours(truth, [])]
    assert keypoint_scores(missed)["ap"] == 0
