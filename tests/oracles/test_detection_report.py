"""The report of a detector: figures of what is known beforehand, and pictures of what is said beside what is true."""

import json

import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb
from PIL import Image
from torch import nn

from vitrail.data.open import open_dataset
from vitrail.evaluate.detection_plots import by_size, drawn_classes, errors, precision_recall
from vitrail.evaluate.evaluate import Case, Report
from vitrail.evaluate.objects import side_by_side
from vitrail.evaluate.plots import RIGHT, WRONG
from vitrail.evaluate.report import write_report
from vitrail.explain.figures import png
from vitrail.preprocessing import Fitted
from vitrail.samples import Batch, Objects, Truth
from vitrail.tasks.detected import Detected
from vitrail.tasks.detection_scores import DetectionMetrics

BOX, OTHER = [10.0, 10.0, 50.0, 60.0], [100.0, 20.0, 180.0, 90.0]


def objects_of(boxes, labels, crowd=()):
    boxes = torch.tensor(boxes).reshape(-1, 4)
    crowds = torch.tensor([place in crowd for place in range(len(labels))], dtype=torch.bool)
    return Objects(boxes, torch.tensor(labels, dtype=torch.int64), crowds, torch.full((len(labels),), 2000.0))


def found_of(boxes, labels, scores, classes=("cat", "dog")):
    labels, scores = torch.tensor(labels, dtype=torch.int64), torch.tensor(scores)
    return Detected(torch.tensor(boxes).reshape(-1, 4), scores, labels, labels, classes, size=(100, 200))


def details_of(found, objects):
    metrics = DetectionMetrics(found.classes)
    metrics.update([found], Batch(None, None, torch.arange(1), [Truth(objects, (100, 200), 1)]))
    return metrics.details()


def has(image, colour):
    """Whether a picture has pixels of a colour, as a figure names it."""
    wanted = np.round(np.array(to_rgb(colour)) * 255)
    return bool((np.abs(np.asarray(image).astype(float) - wanted).max(axis=-1) < 2).any())


@pytest.mark.parametrize(
    ("boxes", "labels", "words", "in_answer", "in_truth"),
    [
        ([BOX, OTHER], [0, 1], "2 of 2 objects found", (True, False), (True, False)),
        ([BOX], [0], "1 of 2 objects found", (True, False), (True, True)),
        ([BOX, OTHER], [0, 0], "1 of 2 objects found; wrong answers: 1 wrong class", (True, True), (True, True)),
    ],
)
def test_right_and_wrong_are_drawn_and_said(boxes, labels, words, in_answer, in_truth):
    objects, found = objects_of([BOX, OTHER], [0, 1]), found_of(boxes, labels, [0.9] * len(labels))
    details = details_of(found, objects)
    pair = side_by_side(Image.new("RGB", (200, 100)), found, objects, details)
    assert pair.words == words
    assert pair.right == (words == "2 of 2 objects found")
    assert (has(pair.answer, RIGHT), has(pair.answer, WRONG)) == in_answer
    assert (has(pair.truth, RIGHT), has(pair.truth, WRONG)) == in_truth
    assert pair.answer.size == pair.truth.size


def test_what_is_below_the_best_threshold_is_not_drawn():
    objects = objects_of([BOX], [0])
    found = found_of([BOX, OTHER], [0, 0], [0.9, 0.3])
    pair = side_by_side(Image.new("RGB", (400, 200)), found, objects, details_of(found, objects))
    assert (pair.words, pair.right) == ("1 of 1 object found", True)


def test_a_picture_without_objects_is_right_when_nothing_is_said():
    objects, nothing = objects_of([], []), found_of([], [], [])
    pair = side_by_side(Image.new("RGB", (200, 100)), nothing, objects, details_of(nothing, objects))
    assert (pair.words, pair.right) == ("0 of 0 objects found", True)


@pytest.mark.parametrize(
    ("found", "objects"),
    [
        (found_of([], [], []), objects_of([], [])),
        (found_of([], [], []), objects_of([BOX], [0])),
        (found_of([BOX], [0], [0.9]), objects_of([BOX], [0])),
        (found_of([OTHER], [1], [0.5]), objects_of([BOX], [0], crowd={0})),
        (found_of([BOX], [1], [0.9], ("$x_1$", "\u732b" * 40)), objects_of([BOX], [1])),
    ],
)
def test_figures_are_drawn_of_anything(found, objects):
    details = details_of(found, objects)
    for draw in (precision_recall, errors, by_size):
        assert len(png(draw(details))) > 1000


def test_of_many_classes_the_best_and_the_worst_are_drawn():
    rows = [{"objects": place != 5, "ap50": None if place == 5 else place / 40} for place in range(40)]
    assert drawn_classes(rows) == [39, 38, 37, 36, 35, 34, 33, 32, 8, 7, 6, 4, 3, 2, 1, 0]


def test_the_report_shows_what_was_found_beside_the_truth(tmp_path):
    dataset = open_dataset("scenes:30,size=60x80,objects=3", "val")
    metrics, cases = DetectionMetrics(dataset.classes), []
    for index in range(len(dataset)):
        sample = dataset[index]
        objects, seen = sample.objects, sample.objects.only(torch.arange(len(sample.objects)) > index - 2)
        scores = torch.full((len(seen),), 0.9)
        places = torch.arange(len(seen))
        found = Detected(seen.boxes_xyxy, scores, seen.labels, places, dataset.classes, size=sample.picture.size)
        truth = Truth(objects, sample.picture.size, index)
        metrics.update([found], Batch(None, None, torch.tensor([index]), [truth]))
        cases.append(Case(index, found, found.mistake(truth)))
    report = Report(
        task="detect", seen=len(cases), scores=metrics.compute(), best="ap", details=metrics.details(),
        shown=tuple(cases), worst=tuple(cases), counted=metrics,
    )  # fmt: skip
    page = write_report(
        report, tmp_path, title="A detector", dataset=dataset, model=nn.Identity(), preprocessing=Fitted()
    ).read_text()
    written = {path.name for path in tmp_path.iterdir()}
    assert {"precision_recall.png", "errors.png", "by_size.png", "predictions.png", "mistakes.png"} <= written
    assert {"per_class.csv", "errors.csv", "by_size.csv"} <= written
    assert page.count('class="tiles whole"') == 2
    assert "AP (COCO)" in page
    assert "Threshold: the score" in page
    assert "Support:" not in page
    rows = json.loads((tmp_path / "results.json").read_text())
    assert len(rows) == sum(len(one.labels) for one in metrics.pictures)
    assert {row["image_id"] for row in rows} == {one.number for one in metrics.pictures if one.labels.size}
    json.loads((tmp_path / "scores.json").read_text(), parse_constant=lambda name: pytest.fail(name))
