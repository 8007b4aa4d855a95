"""Scores of detectors: as pycocotools counts them, and where the answer is constructed."""

import contextlib
import io
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from vitrail.evaluate.background import meaning
from vitrail.samples import Batch, Objects, Truth
from vitrail.tasks.detected import Detected
from vitrail.tasks.detection_errors import ERRORS, mean_precision
from vitrail.tasks.detection_scores import DetectionMetrics
from vitrail.tasks.result_files import write_results
from vitrail.tasks.scores import DETECTION, UNDEFINED, in_words, telling
from vitrail.tasks.task import Metrics

coco = pytest.importorskip("pycocotools.coco")
cocoeval = pytest.importorskip("pycocotools.cocoeval")
cocomask = pytest.importorskip("pycocotools.mask")


def decoded(segmentation, size):
    """A mask of COCO, whichever way it is written, as pixels."""
    if isinstance(segmentation, list):
        segmentation = cocomask.merge(cocomask.frPyObjects(segmentation, *size))
    elif isinstance(segmentation["counts"], list):
        segmentation = cocomask.frPyObjects(segmentation, *size)
    return torch.from_numpy(cocomask.decode(segmentation)).bool()


def in_ours(truth, found, *, masks=False):
    """Annotations and results of COCO as what `DetectionMetrics` is given, in batches of two."""
    numbers = {category["id"]: place for place, category in enumerate(truth["categories"])}
    classes = tuple(category["name"] for category in truth["categories"])
    results, truths = [], []
    for image in truth["images"]:
        size = image["height"], image["width"]

        def columns(rows, number=image["id"], size=size):
            rows = [row for row in rows if row["image_id"] == number]
            xywh = torch.tensor([row["bbox"] for row in rows], dtype=torch.float64).reshape(-1, 4)
            layers = [decoded(row["segmentation"], size) for row in rows] if masks else []
            return rows, SimpleNamespace(
                boxes_xyxy=torch.cat([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], dim=1),
                labels=torch.tensor([numbers[row["category_id"]] for row in rows], dtype=torch.int64),
                masks=torch.stack(layers) if layers else torch.zeros(0, *size, dtype=torch.bool) if masks else None,
            )

        rows, marked = columns(truth["annotations"])
        crowd = torch.tensor([bool(row["iscrowd"]) for row in rows], dtype=torch.bool)
        areas = torch.tensor([row["area"] for row in rows], dtype=torch.float64)
        objects = Objects(marked.boxes_xyxy, marked.labels, crowd, areas, marked.masks)
        truths.append(Truth(objects, size, image["id"]))
        rows, said = columns(found)
        scores = torch.tensor([row["score"] for row in rows], dtype=torch.float64)
        queries = torch.arange(len(rows))
        results.append(
            Detected(said.boxes_xyxy, scores, said.labels, queries, classes, tuple(numbers), size, said.masks)
        )
    metrics = DetectionMetrics(classes, masks=masks)
    for first in range(0, len(truths), 2):
        some = slice(first, first + 2)
        metrics.update(results[some], Batch(None, None, torch.arange(len(truths))[some], truths[some]))
    return metrics


def by_pycocotools(truth, found, kind):
    """The twelve numbers, and the engine that has them."""
    with contextlib.redirect_stdout(io.StringIO()):
        true = coco.COCO()
        true.dataset = json.loads(json.dumps(truth))
        true.createIndex()
        keys = ("image_id", "category_id", "score", "bbox" if kind == "bbox" else "segmentation")
        results = [{key: row[key] for key in keys} for row in found]
        evaluation = cocoeval.COCOeval(true, true.loadRes(results) if results else coco.COCO(), kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats


def random_annotations(seed, *, pictures=12, classes=4, masks=False):
    """Objects at random, and answers near some of them, with scores that tie, crowds and pictures without anything."""
    chance = np.random.default_rng(seed)
    images = [{"id": 7 + 3 * place, "height": 200, "width": 260} for place in range(pictures)]
    truth, found = [], []
    for image in images:
        for _ in range(chance.integers(1, 7) if chance.random() > 0.2 else 0):
            left, top = chance.uniform(0, 160, 2)
            wide, high = chance.uniform(2, 190, 2) * chance.choice([0.2, 1])
            box = [left, top, min(wide, 260 - left), min(high, 200 - top)]
            label = int(chance.integers(classes)) * 10 + 1
            crowd = int(chance.random() < 0.15)
            row = {"image_id": image["id"], "category_id": label, "bbox": box, "iscrowd": crowd}
            truth.append({**row, "id": len(truth) + 1, "area": box[2] * box[3] * chance.uniform(0.5, 1)})
            for _ in range(chance.integers(0, 4)):
                moved = chance.normal(0, 0.1, 4) * np.array([*box[2:], *box[2:]])
                near = np.maximum(np.array(box) + moved, 1).tolist()
                said = label if chance.random() < 0.8 else int(chance.integers(classes)) * 10 + 1
                score = round(float(chance.random()), 1)
                found.append({"image_id": image["id"], "category_id": said, "bbox": near, "score": score})
    found = [found[place] for place in chance.permutation(len(found))]
    if masks:
        for row in (*truth, *found):
            left, top, wide, high = row["bbox"]
            corners = [left, top, left + wide, top, left + wide / 2, top + high]
            rle = cocomask.merge(cocomask.frPyObjects([corners], 200, 260))
            row["segmentation"] = {"size": rle["size"], "counts": rle["counts"].decode()}
    categories = [{"id": place * 10 + 1, "name": f"class {place}"} for place in range(classes)]
    return {"info": {}, "images": images, "categories": categories, "annotations": truth}, found


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_the_twelve_numbers_are_those_of_pycocotools(seed, kind):
    truth, found = random_annotations(seed, masks=kind == "segm")
    ours = in_ours(truth, found, masks=kind == "segm").compute()
    assert tuple(ours) == DETECTION
    np.testing.assert_allclose(list(ours.values()), by_pycocotools(truth, found, kind), rtol=0, atol=1e-12)
    assert 0.05 < ours["ap"] < 0.95  # there is something to be counted otherwise


@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_what_was_found_is_written_as_pycocotools_scores_it(kind, tmp_path):
    truth, found = random_annotations(3, masks=kind == "segm")
    metrics = in_ours(truth, found, masks=kind == "segm")
    numbers = [category["id"] for category in truth["categories"]]
    path = write_results(tmp_path / "r.json", (row for one in metrics.pictures for row in one.results(numbers)))
    written = json.loads(path.read_text())
    assert len(written) == len(found)
    scores = by_pycocotools(truth, written, kind)
    np.testing.assert_allclose(list(metrics.compute().values()), scores, rtol=0, atol=1e-12)
    assert {row["category_id"] for one in metrics.pictures for row in one.results([1, -1, 21, 31])} == {1, 21, 31}


def test_more_than_a_hundred_answers_count_as_pycocotools_has_it():
    truth, found = random_annotations(4, pictures=4, classes=1)
    found = [{**row, "score": row["score"] / (1 + again % 7)} for again in range(60) for row in found]
    assert len(found) > 300
    ours = in_ours(truth, found).compute()
    np.testing.assert_allclose(list(ours.values()), by_pycocotools(truth, found, "bbox"), rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", ["bbox", "segm"])
@pytest.mark.parametrize("name", ["detection_small", "detection_medium"])
def test_the_recorded_numbers_of_pycocotools(shared, name, kind):
    case = json.loads((shared / "golden/coco" / f"{name}.json").read_text())
    metrics = in_ours(case["ground_truth"], case["detections"], masks=kind == "segm")
    expected = case["expected"][kind]
    np.testing.assert_allclose(list(metrics.compute().values()), expected["stats"], rtol=0, atol=1e-12)
    of_classes = [UNDEFINED if row["ap"] is None else row["ap"] for row in metrics.details()["per_class"]]
    np.testing.assert_allclose(of_classes, list(expected["per_category_AP"].values()), rtol=0, atol=1e-12)


def test_pictures_may_come_in_any_order():
    truth, found = random_annotations(1)
    shuffled = {**truth, "images": truth["images"][::-1]}
    assert in_ours(shuffled, found).compute() == in_ours(truth, found).compute()


# where the answer is constructed

SIZE = (100, 200)


def truth_of(*objects, crowd=(), number=1, areas=None):
    """Boxes with their classes, in one picture."""
    boxes = torch.tensor([box for box, _ in objects], dtype=torch.float32).reshape(-1, 4)
    sides = boxes[:, 2:] - boxes[:, :2]
    areas = sides[:, 0] * sides[:, 1] if areas is None else torch.tensor(areas)
    labels = torch.tensor([label for _, label in objects], dtype=torch.int64)
    crowds = torch.tensor([place in crowd for place in range(len(objects))], dtype=torch.bool)
    return Truth(Objects(boxes, labels, crowds, areas), SIZE, number)


def found_of(*objects, classes=("cat", "dog")):
    """Boxes with their classes and scores, in one picture."""
    boxes = torch.tensor([box for box, _, _ in objects], dtype=torch.float32).reshape(-1, 4)
    labels = torch.tensor([label for _, label, _ in objects], dtype=torch.int64)
    scores = torch.tensor([score for _, _, score in objects], dtype=torch.float32)
    return Detected(boxes, scores, labels, torch.arange(len(objects)), classes, size=SIZE)


def judged(*pairs, classes=("cat", "dog")):
    """Metrics that have seen pictures, each with what was found in it and the truth."""
    metrics = DetectionMetrics(classes)
    found, true = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    metrics.update(found, Batch(None, None, torch.arange(len(pairs)), true))
    return metrics


BOX, OTHER = (10.0, 10.0, 50.0, 60.0), (100.0, 20.0, 180.0, 90.0)  # 2000 and 5600 pixels: medium


def test_one_perfect_box_has_all_that_can_be_had():
    scores = judged((found_of((BOX, 0, 0.9)), truth_of((BOX, 0)))).compute()
    assert {name for name, value in scores.items() if value == 1} == {
        *("ap", "ap50", "ap75", "ap_medium", "ar1", "ar10", "ar100", "ar_medium")
    }
    assert {name for name, value in scores.items() if value == -1} == {"ap_small", "ap_large", "ar_small", "ar_large"}


@pytest.mark.parametrize(
    ("found", "ap50"),
    [
        ((), 0),
        (((OTHER, 0, 0.9),), 0),  # elsewhere
        (((BOX, 1, 0.9),), 0),  # of the wrong class
        (((BOX, 0, 0.9), (BOX, 0, 0.8)), 1),  # twice, the second after all is found
        (((OTHER, 0, 0.9), (BOX, 0, 0.8)), 0.5),  # a wrong one is believed more
        (((OTHER, 0, 0.9), (OTHER, 0, 0.85), (BOX, 0, 0.8)), 1 / 3),
        ((((10.0, 10.0, 50.0, 36.0), 0, 0.9),), 1),  # 52 % of it
        ((((10.0, 10.0, 50.0, 34.0), 0, 0.9),), 0),  # 48 % of it
    ],
)
def test_average_precision_of_one_object_is_known(found, ap50):
    assert judged((found_of(*found), truth_of((BOX, 0)))).compute()["ap50"] == pytest.approx(ap50, abs=1e-12)


def test_half_the_objects_are_half_of_101_recalls():
    scores = judged((found_of((BOX, 0, 0.9)), truth_of((BOX, 0), (OTHER, 0)))).compute()
    assert scores["ap"] == pytest.approx(51 / 101, abs=1e-12)  # recalls 0, 0.01 ... 0.5
    assert scores["ar100"] == 0.5


def test_what_lies_on_a_crowd_is_neither_right_nor_wrong():
    inside = [((100.0 + 5 * place, 30.0, 130.0, 80.0), 0, 0.95) for place in range(4)]
    metrics = judged((found_of(*inside, (BOX, 0, 0.9)), truth_of((BOX, 0), (OTHER, 0), crowd={1})))
    assert metrics.compute()["ap"] == 1
    assert metrics.details()["per_class"][0]["objects"] == 1


def test_the_data_set_says_what_is_small():
    scores = judged((found_of((BOX, 0, 0.9)), truth_of((BOX, 0), areas=[900.0]))).compute()
    assert (scores["ap_small"], scores["ap_medium"]) == (1, -1)


def test_pictures_without_objects_count_what_is_seen_in_them():
    empty, busy = (found_of(), truth_of(number=1)), (found_of((BOX, 0, 0.9)), truth_of((BOX, 0), number=2))
    assert judged(empty, busy).compute()["ap"] == 1
    ghost = (found_of((OTHER, 0, 0.95)), truth_of(number=1))
    assert judged(ghost, busy).compute()["ap"] == pytest.approx(0.5)


@pytest.mark.parametrize("pairs", [(), ((found_of(), truth_of()),), ((found_of((BOX, 1, 0.5)), truth_of()),)])
def test_where_there_is_nothing_to_find_nothing_is_defined(pairs):
    metrics = judged(*pairs)
    scores = metrics.compute()
    assert scores == dict.fromkeys(DETECTION, UNDEFINED)
    assert telling(scores, 2) == {}
    assert [row["ap"] for row in metrics.details()["per_class"]] == [None, None]
    json.dumps([scores, metrics.details()], allow_nan=False)


def test_scores_can_be_asked_for_in_between():
    metrics = judged((found_of((BOX, 0, 0.9)), truth_of((BOX, 0), number=1)))
    assert metrics.compute()["ap"] == 1
    metrics.update([found_of()], Batch(None, None, torch.arange(1), [truth_of((BOX, 0), number=2)]))
    assert metrics.compute()["ap"] == pytest.approx(51 / 101)
    assert isinstance(metrics, Metrics)


def test_scores_of_detectors_are_read_as_in_the_papers():
    assert in_words("ap", 0.4204) == "42.0"
    assert in_words("ap_small", UNDEFINED) == "undefined"
    assert telling({"ap": 0.4, "ap_small": UNDEFINED, "loss": -1.0}, 80) == {"ap": 0.4, "loss": -1.0}


# what is wrong


def errors_of(*pairs):
    """How often each error is made, by name, where it is."""
    return {row["error"]: row["count"] for row in judged(*pairs).details()["errors"] if row["count"]}


NEARLY = (10.0, 10.0, 50.0, 30.0)  # two fifths of BOX


@pytest.mark.parametrize(
    ("found", "errors"),
    [
        ((), {"missed": 2}),
        (((BOX, 0, 0.9), (OTHER, 1, 0.9)), {}),
        (((BOX, 0, 0.9), (OTHER, 0, 0.9)), {"wrong class": 1}),
        (((BOX, 0, 0.9), (BOX, 0, 0.9), (OTHER, 1, 0.9)), {"duplicate": 1}),
        (((NEARLY, 0, 0.95), (BOX, 0, 0.9), (OTHER, 1, 0.9)), {"badly placed": 1}),
        (((NEARLY, 0, 0.95), (OTHER, 0, 0.95), (OTHER, 1, 0.9)), {"missed": 1}),  # no cat is right: none is believed
        (((NEARLY, 1, 0.95), (OTHER, 1, 0.9)), {"both": 1, "missed": 1}),
        ((((0.0, 70.0, 40.0, 99.0), 1, 0.95), (OTHER, 1, 0.9)), {"background": 1, "missed": 1}),
        ((((0.0, 70.0, 40.0, 99.0), 1, 0.8), (OTHER, 1, 0.9)), {"missed": 1}),  # below the best threshold of dogs
    ],
)
def test_what_is_wrong_is_told_apart(found, errors):
    assert errors_of((found_of(*found), truth_of((BOX, 0), (OTHER, 1)))) == errors


def test_an_answer_on_a_crowd_is_no_error():
    truth = truth_of((BOX, 0), (OTHER, 0), crowd={1})
    assert errors_of((found_of((OTHER, 0, 0.95), (BOX, 0, 0.9)), truth)) == {}
    first = truth_of((OTHER, 0), (BOX, 0), crowd={0})  # objects keep their places beside a crowd
    assert errors_of((found_of((OTHER, 0, 0.95), (BOX, 1, 0.9), (BOX, 0, 0.8)), first)) == {}


def test_what_each_error_costs_is_known():
    truth = truth_of((BOX, 0), (OTHER, 0))
    rows = judged((found_of(((0.0, 70.0, 40.0, 99.0), 0, 0.95), (BOX, 0, 0.9)), truth)).details()["errors"]
    lost = {row["error"]: row["ap50_lost"] for row in rows if row["ap50_lost"]}
    reached = 51 / 101 / 2  # half of the objects, at a precision of one half
    assert lost == {"background": pytest.approx(51 / 101 - reached), "missed": pytest.approx(0.5 - reached)}
    nothing = judged((found_of(), truth)).details()["errors"]
    assert [row["ap50_lost"] for row in nothing] == [1, 0, 0, 0, 0, 0]


@pytest.mark.parametrize(
    ("seed", "counts", "lost"),
    [
        (1, (8, 9, 2, 2, 15, 2), (16.57964011, 8.67751061, 2.79840484, 1.05041479, 4.97485463, 0.94756797)),
        (4, (15, 14, 5, 1, 18, 9), (17.94667448, 11.82158133, 3.33747048, 0.07504322, 2.24335293, 6.99043716)),
        (5, (7, 8, 2, 0, 15, 10), (12.46945230, 13.88013939, 0.60415382, 0, 4.82355378, 6.35111725)),
    ],
)
def test_errors_are_counted_and_weighed_as_by_tide(seed, counts, lost):
    """The numbers are those of tidecv 1.0.1, which does not always agree with COCO on crowds and rounds recalls."""
    truth, found = random_annotations(seed)
    truth["annotations"] = [row for row in truth["annotations"] if not row["iscrowd"]]
    chance = np.random.default_rng(seed)
    metrics = in_ours(truth, [{**row, "score": float(chance.random())} for row in found])
    assert tuple(metrics.judged().counts()) == counts
    rows = metrics.details()["errors"]
    assert tuple(row["error"] for row in rows) == ERRORS
    np.testing.assert_allclose([100 * row["ap50_lost"] for row in rows], lost, rtol=0, atol=1e-7)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_right_and_wrong_make_the_ap50_of_the_engine(seed, kind):
    truth, found = random_annotations(seed, masks=kind == "segm")
    metrics = in_ours(truth, found, masks=kind == "segm")
    labels = np.unique(metrics.judged().true_labels)
    assert mean_precision(metrics.judged(), labels) == pytest.approx(metrics.compute()["ap50"], abs=1e-12)


def test_more_than_a_hundred_answers_are_judged_as_they_are_counted():
    truth, found = random_annotations(4, pictures=4, classes=1)
    found = [{**row, "score": row["score"] / (1 + again % 7)} for again in range(60) for row in found]
    metrics = in_ours(truth, found)
    assert mean_precision(metrics.judged(), np.array([0])) == pytest.approx(metrics.compute()["ap50"], abs=1e-12)


def test_the_best_threshold_is_where_f1_is_highest():
    others = [((float(place), 70.0, place + 20.0, 99.0), 0, 0.3) for place in range(0, 150, 30)]
    row = judged((found_of((BOX, 0, 0.9), (OTHER, 0, 0.5), *others), truth_of((BOX, 0), (OTHER, 0)))).details()
    row = row["per_class"][0]
    assert row["threshold"] == pytest.approx(0.5)
    assert (row["precision"], row["recall"], row["f1"]) == (1, 1, 1)
    row = judged((found_of((BOX, 0, 0.9), ((0.0, 70.0, 40.0, 99.0), 0, 0.9)), truth_of((BOX, 0)))).details()
    row = row["per_class"][0]  # equal scores are believed together
    assert (row["precision"], row["recall"]) == (0.5, 1)
    assert row["f1"] == pytest.approx(2 / 3)


def test_curves_and_sizes_are_those_of_the_scores():
    truth, found = random_annotations(2)
    metrics = in_ours(truth, found)
    scores, details = metrics.compute(), metrics.details()
    assert UNDEFINED not in scores.values()
    assert [row["ap"] for row in details["by_size"]] == [scores["ap_small"], scores["ap_medium"], scores["ap_large"]]
    assert [row["ar"] for row in details["by_size"]] == [scores["ar_small"], scores["ar_medium"], scores["ar_large"]]
    counted = sum(not row["iscrowd"] for row in truth["annotations"])
    assert sum(row["objects"] for row in details["by_size"]) == counted
    assert sum(row["objects"] for row in details["per_class"]) == counted
    curves = details["precision_recall"]
    assert curves["recall"] == pytest.approx(np.linspace(0, 1, 51))
    for curve, row in zip(curves["precision"], details["per_class"], strict=True):
        assert curve == sorted(curve, reverse=True)
        assert abs(np.mean(curve) - row["ap50"]) < 0.05
        reached = round(row["recall"] * 50 - 0.5) / 50  # the curve lies on or above every point that is reached
        assert curve[curves["recall"].index(pytest.approx(reached))] >= row["precision"] - 1e-12
    json.dumps(details, allow_nan=False)


def test_a_mistake_is_belief_that_is_lacking_or_wrong():
    truth = truth_of((BOX, 0), (OTHER, 1))
    assert found_of((BOX, 0, 1.0), (OTHER, 1, 1.0)).mistake(truth) == 0
    assert found_of().mistake(truth) == 2
    assert found_of((BOX, 0, 0.75), (OTHER, 0, 0.5)).mistake(truth) == pytest.approx(0.25 + 1 + 0.5)
    crowded = truth_of((BOX, 0), (OTHER, 0), crowd={1})
    assert found_of((BOX, 0, 1.0), (OTHER, 0, 0.9), (OTHER, 0, 0.8)).mistake(crowded) == 0


@pytest.mark.parametrize("score", DETECTION)
def test_every_score_of_a_detector_says_what_it_means(score):
    assert meaning(score, "detect").name != score
    assert meaning(score, "detect").words
