"""Files of what was found say the same to other tools, and when they are read back."""

import contextlib
import io
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from vitrail.errors import DataError
from vitrail.tasks.detected import Detected
from vitrail.tasks.result_files import Seen, coco_results, read_panoptic, write_panoptic, write_yolo
from vitrail.tasks.segmented import Segment, Segmented

CLASSES = ("cat", "dog", "bird")


def some(*, masks=False, class_ids=(3, 17, 90), objects=3):
    """A few objects of one picture of 40 rows and 60 columns."""
    boxes = torch.tensor([[1.5, 2, 11.5, 22], [0, 0, 60, 40], [30, 10, 50.25, 20]])[:objects]
    layers = torch.zeros(objects, 40, 60, dtype=torch.bool)
    for layer, (left, top, right, bottom) in zip(layers, boxes.int().tolist(), strict=True):
        layer[top:bottom, left:right] = True
    return Detected(
        boxes,
        torch.tensor([0.875, 0.5, 0.25])[:objects],
        torch.tensor([2, 0, 1])[:objects],
        torch.arange(objects),
        CLASSES,
        class_ids,
        (40, 60),
        layers if masks else None,
    )


def test_results_are_what_coco_reads_with_the_numbers_of_the_users_file():
    rows = [*coco_results(some(), 7), *coco_results(some(objects=0), 9)]
    assert rows[0] == {"image_id": 7, "category_id": 90, "bbox": [1.5, 2, 10, 20], "score": 0.875}
    assert [row["category_id"] for row in rows] == [90, 3, 17]
    assert [row["image_id"] for row in rows] == [7, 7, 7]


def test_pycocotools_reads_results_with_masks(tmp_path):
    coco = pytest.importorskip("pycocotools.coco")
    path = tmp_path / "results.json"
    path.write_text(json.dumps(coco_results(some(masks=True), 7)))
    truth = coco.COCO()
    truth.dataset = {
        "images": [{"id": 7, "height": 40, "width": 60}],
        "categories": [{"id": number, "name": str(number)} for number in (3, 17, 90)],
        "annotations": [],
    }
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        found = truth.loadRes(str(path))
    masks = np.stack([truth.annToMask(row) for row in found.loadAnns(found.getAnnIds())])
    assert np.array_equal(masks.astype(bool), some(masks=True).masks.numpy())


def test_yolo_counts_in_parts_of_the_picture(tmp_path):
    paths = write_yolo(tmp_path, [Seen(7, "a", some()), Seen(9, "b", some(objects=0))])
    first, second = (path.read_text() for path in paths)
    assert first.splitlines()[0].split() == ["2", "0.108333", "0.300000", "0.166667", "0.500000"]
    assert first.splitlines()[1].split() == ["0", "0.500000", "0.500000", "1.000000", "1.000000"]
    assert second == ""
    assert (tmp_path / "classes.txt").read_text().split() == ["cat", "dog", "bird"]


def test_labels_are_not_overwritten(tmp_path):
    (tmp_path / "a.txt").write_text("0 0.5 0.5 0.1 0.1\n")
    with pytest.raises(DataError, match=r"a.txt is there already, and labels are not overwritten. Name a new folder"):
        write_yolo(tmp_path, [Seen(1, "b", some()), Seen(2, "a", some())])
    assert (tmp_path / "a.txt").read_text() == "0 0.5 0.5 0.1 0.1\n"
    assert not (tmp_path / "b.txt").exists()
    (tmp_path / "a.txt").rename(tmp_path / "classes.txt")
    with pytest.raises(DataError, match=r"classes.txt is there already"):
        write_yolo(tmp_path, [Seen(2, "a", some())])


def test_a_label_has_an_area(tmp_path):
    flat = some()
    flat = replace(flat, boxes_xyxy=flat.boxes_xyxy.clone().index_fill_(0, torch.tensor([0]), 5.0))
    (path,) = write_yolo(tmp_path, [Seen(1, "a", flat)])
    assert len(path.read_text().splitlines()) == len(flat) - 1


def test_yolo_keeps_numbers_that_count_from_0(tmp_path):
    (path,) = write_yolo(tmp_path, [Seen(1, "a", some(class_ids=(0, 1, 4)))])
    assert [line.split()[0] for line in path.read_text().splitlines()] == ["4", "0", "1"]
    assert (tmp_path / "classes.txt").read_text().splitlines() == ["cat", "dog", "class 2", "class 3", "bird"]
    (path,) = write_yolo(tmp_path / "again", [Seen(1, "a", some(class_ids=()))])
    assert path.read_text().startswith("2 ")


def test_two_pictures_of_one_name_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"a\.txt"):
        write_yolo(tmp_path, [Seen(1, "a", some()), Seen(2, "a", some())])


def segmented():
    numbers = torch.zeros(4, 5, dtype=torch.int64)
    numbers[0], numbers[1] = 1, 70000
    segments = (Segment(1, 0, 0.9), Segment(70000, 2, 0.8))
    return Segmented(numbers, segments, ("cat", "dog", "sky"), (True, True, False), (3, 17, 190))


def test_segments_come_back_as_they_were_written(tmp_path):
    path = write_panoptic(tmp_path / "predictions.json", [Seen(5, "x", segmented())])
    with Image.open(tmp_path / "predictions" / "x.png") as image:
        assert image.mode == "RGB"
        assert image.getpixel((2, 1)) == (70000 % 256, 70000 // 256 % 256, 1)
    told = json.loads(path.read_text())["annotations"][0]
    assert told["file_name"] == "x.png"
    assert [(one["id"], one["category_id"], one["area"]) for one in told["segments_info"]] == [
        (1, 3, 5),
        (70000, 190, 5),
    ]
    (seen,) = read_panoptic(path)
    assert (seen.number, seen.name) == (5, "x")
    assert torch.equal(seen.result.numbers, segmented().numbers)
    assert seen.result.segments == segmented().segments
    assert (seen.result.classes, seen.result.things) == (segmented().classes, segmented().things)


@pytest.mark.parametrize("content", ["[]", "{", '{"annotations": [{}], "categories": []}'])
def test_what_holds_no_segments_is_said(tmp_path, content):
    path = tmp_path / "predictions.json"
    path.write_text(content)
    with pytest.raises(DataError, match="does not hold segments"):
        read_panoptic(path)
