"""Pictures with marked objects, in the layouts that people have, with answers that are known by construction."""

import json
import os
import pickle
import shutil
from contextlib import suppress
from itertools import pairwise

import numpy as np
import pytest
import torch
from faster_coco_eval import mask as reference
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vitrail.data.check import check
from vitrail.data.dataset import Dataset, class_ids_of
from vitrail.data.datasets.marked import displayed_boxes, displayed_masks, without_masks
from vitrail.data.datasets.outlines import OutlineError, Runs, filled, lengths, packed_runs
from vitrail.data.images import TURNS
from vitrail.data.open import for_purpose, format_of, name_of, open_dataset, open_splits, parts
from vitrail.errors import DataError


def save(path, seed=0, size=(40, 30), **options):
    """A picture of noise, columns x rows."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, **options)


def annotation(number, image=1, category=7, bbox=(4, 5, 10, 20), **more):
    record = {"id": number, "image_id": image, "category_id": category, "bbox": list(bbox)}
    return {**record, "area": bbox[2] * bbox[3], "iscrowd": 0, **more}


def coco(**changes):
    """Three pictures of 40 x 30, of which the last has no objects; categories out of order, with gaps."""
    images = [{"id": n, "file_name": f"{n}.png", "width": 40, "height": 30} for n in (1, 2, 5)]
    categories = [{"id": 7, "name": "cat"}, {"id": 3, "name": "bird"}, {"id": 90, "name": "dog"}]
    annotations = [
        annotation(11),
        annotation(12, category=90, bbox=(0, 0, 40, 30)),
        annotation(13, image=2, category=3),
    ]
    return {"images": images, "annotations": annotations, "categories": categories, **changes}


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))


def layout(root, annotations, pictures, content=None):
    write(root / annotations, content or coco())
    for number in (1, 2, 5):
        save(root / pictures / f"{number}.png", seed=number)


@pytest.mark.parametrize(
    ("annotations", "pictures"),
    [
        ("annotations/instances_{}2017.json", "{}2017"),
        ("annotations/instances_{}2017.json", "images/{}2017"),
        ("annotations/{}.json", "images/{}"),
        ("{}/_annotations.coco.json", "{}"),
        ("{}.json", "images"),
        ("annotations/instances_{}.json", "images"),
    ],
)
def test_every_layout_of_coco_is_found_with_its_parts(tmp_path, annotations, pictures):
    for part in ("train", "val"):
        layout(tmp_path, annotations.format(part), pictures.format(part))
    assert parts(tmp_path) == ("train", "val")
    splits = open_splits(tmp_path)
    for data in splits[:2]:
        assert isinstance(data, Dataset)
        assert (data.task, data.classes, data.class_ids) == ("detect", ("bird", "cat", "dog"), (3, 7, 90))
        assert data.labels() == [(1, 2), (0,), ()]
        first, second, empty = (data[index] for index in range(3))
        assert first.objects.boxes_xyxy.tolist() == [[4, 5, 14, 25], [0, 0, 40, 30]]
        assert (first.number, second.number, empty.number) == (1, 2, 5)
        assert (first.objects.ids, second.objects.labels.tolist()) == ((11, 12), [0])
        assert first.objects.areas.tolist() == [200, 1200]
        assert len(empty.objects) == 0
        assert empty.objects.boxes_xyxy.shape == (0, 4)
        assert empty.picture.size == (30, 40)
    assert splits.notes == []


@pytest.mark.parametrize(
    ("annotations", "pictures", "prefix", "found"),
    [
        ("result.json", "images", "images/", ()),
        ("result.json", "images", "/data/upload/1/", ()),
        ("result.json", "images", r"images\\", ()),
        ("annotations.json", "images/batch 1", "batch 1/", ()),
        ("labels.json", "data", "", ()),
        ("annotation/instances_default.json", "images", "", ()),
        ("coco/annotations.json", "images", "", ()),
        ("job_1/annotations/instances_default.json", "job_1/images/default", "", ()),
        ("{}.json", "images", "", ("train", "val")),
        ("set/{}.json", "set/images", "", ("train", "val")),
        ("a/set/{}/_annotations.coco.json", "a/set/{}", "", ("train", "val")),
        ("annotations/{}/instances.json", "images/{}", "", ("train", "val")),
        ("{}/annotations/instances.json", "{}/images", "", ("train", "val")),
        ("Annotations/{}.json", "Images/{}", "", ("train", "val")),
        ("labels/{}.json", "images/{}", "/home/somebody/images/{}/", ("train", "val")),
        ("annotations_trainval2017/annotations/instances_{}2017.json", "{0}2017/{0}2017", "", ("train", "val")),
        ("coco/annotations/annotations/instances_{}2017.json", "coco/images/{}2017", "", ("train", "val")),
    ],
)
def test_coco_is_found_in_the_folders_that_people_have(tmp_path, annotations, pictures, prefix, found):
    for part in found or ("train",):
        content = coco()
        for row in content["images"]:
            row["file_name"] = prefix.format(part) + row["file_name"]
        layout(tmp_path, annotations.format(part), pictures.format(part), content)
    write(tmp_path / "README.md", "About cats")
    (tmp_path / "doc").mkdir()
    assert parts(tmp_path) == found
    for part in found or (None,):
        data = open_dataset(tmp_path, part)
        assert data[0].objects.boxes_xyxy.tolist() == [[4, 5, 14, 25], [0, 0, 40, 30]]
        assert (data.classes, len(data)) == (("bird", "cat", "dog"), 3)


@pytest.mark.parametrize(
    ("annotations", "pictures", "named"),
    [("annotations.json", "", ""), ("a.json", "pictures", "a.json"), ("labels/a.json", "", "labels/a.json")],
)
def test_one_file_is_one_piece_and_a_part_is_set_aside_that_has_every_class(tmp_path, annotations, pictures, named):
    layout(tmp_path, annotations, pictures)
    assert parts(tmp_path / named) == ()
    assert len(open_dataset(tmp_path / named)) == 3
    content = coco(images=[{"id": n, "file_name": f"{n}.png", "width": 40, "height": 30} for n in range(8)])
    content["annotations"] = [annotation(n, image=n, category=(3, 7)[n % 2]) for n in range(8)]
    write(tmp_path / annotations, content)
    for number in range(8):
        save(tmp_path / pictures / f"{number}.png", seed=number)
    train, val, notes = open_splits(tmp_path / named)
    assert {label for labels in val.labels() for label in labels} == {0, 1}
    assert (class_ids_of(train), train.things) == ((3, 7, 90), (True,) * 3)
    assert "set aside" in notes[0]


def test_classes_of_a_model_number_the_objects_by_name(tmp_path):
    layout(tmp_path, "a.json", "")
    data = open_dataset(tmp_path / "a.json", classes=("dog", "emu", "bird", "cat"))
    assert data.labels() == [(0, 3), (2,), ()]
    assert data.class_ids == (90, -1, 3, 7)
    with pytest.raises(DataError, match=r"not among the 2 expected: bird\. Expected: dog, cat"):
        open_dataset(tmp_path / "a.json", classes=("dog", "cat"))


def test_what_can_be_put_right_is_and_is_said(tmp_path):
    annotations = [
        annotation(1, bbox=(4, 5, 0, 20)),  # no area
        annotation(2, bbox=(30, 20, 20, 20)),  # reaches beyond
        annotation(3, bbox=(35.5, 0, 5, 30)),  # half a pixel beyond: rounding
        annotation(3, iscrowd=1, bbox=(1, 1, 5, 5), segmentation={"size": [30, 40], "counts": [31, 4, 1165]}),
        annotation(5, image=77),
        {key: value for key, value in annotation(6).items() if key not in ("area", "iscrowd")},
    ]
    layout(tmp_path, "a.json", "", coco(annotations=annotations))
    data = open_dataset(tmp_path / "a.json")
    objects = data[0].objects
    assert objects.boxes_xyxy.tolist() == [[30, 20, 40, 30], [35.5, 0, 40, 30], [1, 1, 6, 6], [4, 5, 14, 25]]
    assert objects.crowd.tolist() == [False, False, True, False]
    assert objects.ids == (2, 3, 7, 6)
    assert objects.areas.tolist() == [400, 150, 25, 200]
    assert objects.masks.sum((1, 2)).tolist() == [100, 120, 4, 200]  # a column of 4; boxes stand for the others
    said = " ".join(data.notes)
    for words in ("1 object without area is left out", "annotation 1", "cut at the edge", "given a new one",
                  "not listed is left out", "1 of 6 objects say no area", "no iscrowd"):  # fmt: skip
        assert words in said


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"annotations": [annotation(918, bbox=(1, 2, -3, 4))]}, "annotation 918: Its box is -3 wide"),
        ({"annotations": [annotation(1, bbox=(100, 2, 3, 4))]}, "wholly outside"),
        ({"annotations": [annotation(1, category=8)]}, "category_id is 8, which no category has"),
        ({"annotations": [annotation(1) | {"bbox": [1, 2, "3", 4]}]}, "'3', which is no number"),
        ({"categories": [{"id": 7, "name": "a"}, {"id": 7, "name": "b"}]}, "have this id"),
        ({"annotations": [annotation(n, bbox=(20 + n, 12, 34 + n, 28)) for n in range(5)]}, "left, top, width, height"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_a_sentence(tmp_path, change, words):
    layout(tmp_path, "a.json", "", coco(**change))
    with pytest.raises(DataError, match=words):
        open_dataset(tmp_path / "a.json")


def test_a_picture_of_another_size_is_refused_when_it_is_read(tmp_path):
    layout(tmp_path, "a.json", "")
    save(tmp_path / "1.png", size=(80, 60))
    with pytest.raises(DataError, match="is 80 x 60 pixels, and its objects are marked for 40 x 30"):
        open_dataset(tmp_path / "a.json")[0]


@pytest.mark.parametrize("turn", TURNS)
def test_objects_of_a_turned_picture_are_where_one_sees_them(turn):
    stored = np.zeros((6, 9), np.uint8)
    stored[1:4, 2:7] = 1
    seen = np.asarray(Image.fromarray(stored).transpose(TURNS[turn]))
    down, across = np.nonzero(seen)
    (box,) = displayed_boxes(np.array([[2, 1, 7, 4]]), seen.shape, turn)
    assert box.tolist() == [across.min(), down.min(), across.max() + 1, down.max() + 1]
    assert np.array_equal(displayed_masks(stored[None].astype(bool), turn)[0], seen.astype(bool))


@pytest.mark.parametrize(("said", "box"), [((40, 30), [15, 4, 25, 14]), ((30, 40), [4, 5, 14, 15])])
def test_boxes_for_the_stored_picture_are_turned_and_those_for_the_displayed_one_are_not(tmp_path, said, box):
    exif = Image.Exif()
    exif[0x0112] = 6
    save(tmp_path / "1.png", exif=exif)  # stored 40 x 30, seen 30 x 40
    image = {"id": 1, "file_name": "1.png", "width": said[0], "height": said[1]}
    outline = [[4, 5, 14, 5, 14, 15, 4, 15]]
    write(
        tmp_path / "a.json",
        coco(images=[image], annotations=[annotation(1, bbox=(4, 5, 10, 10), segmentation=outline)]),
    )
    objects = open_dataset(tmp_path / "a.json")[0].objects
    assert objects.boxes_xyxy.tolist() == [box]
    left, top, right, bottom = box
    assert objects.masks.shape == (1, 40, 30)
    assert objects.masks[0, top:bottom, left:right].all()
    assert objects.masks.sum() == 100


def test_masks_are_those_that_coco_draws(tmp_path):
    random = np.random.default_rng(0)
    blob = np.asfortranarray(random.random((30, 40)) < 0.5, np.uint8)
    packed = reference.encode(blob)
    text = packed["counts"].decode()
    spiky = [(random.random(14) * 30).round(2).tolist(), (random.random(8) * 30).round(2).tolist()]
    given = [{"size": [30, 40], "counts": text}, spiky]
    annotations = [annotation(n, segmentation=given[n], bbox=(0, 0, 40, 30)) for n in range(2)]
    layout(tmp_path, "a.json", "", coco(annotations=annotations))
    data = open_dataset(tmp_path / "a.json")
    masks = data[0].objects.masks
    assert np.array_equal(masks[0], blob)
    drawn = reference.decode(reference.merge(reference.frPyObjects(spiky, 30, 40)))
    assert np.array_equal(masks[1], drawn)
    assert without_masks(data)[0].objects.masks is None
    assert torch.equal(pickle.loads(pickle.dumps(data))[0].objects.masks, masks)


@given(st.integers(1, 40), st.integers(1, 40), st.floats(0, 1), st.integers(0, 2**32))
@settings(max_examples=60, deadline=None)
def test_runs_read_what_the_reference_has_packed_and_come_back(rows, columns, share, seed):
    mask = np.random.default_rng(seed).random((rows, columns)) < share
    text = reference.encode(np.asfortranarray(mask, np.uint8))["counts"].decode()
    assert np.array_equal(filled(Runs((rows, columns), text), (rows, columns)), mask)
    runs = packed_runs(mask)
    assert lengths(runs).tolist() == lengths(Runs((rows, columns), text)).tolist()
    assert np.array_equal(filled(runs, (rows, columns)), mask)


@given(st.text(st.characters(min_codepoint=32, max_codepoint=130), max_size=30))
@settings(max_examples=300, deadline=None)
def test_damaged_runs_are_an_outline_error_and_nothing_else(text):
    with suppress(OutlineError):
        assert lengths(Runs((5, 7), text)).sum() == 35


def voc_page(*objects, size=(40, 30), filename="1.png"):
    def thing(name, box, difficult=0):
        corners = "".join(
            f"<{key}>{side}</{key}>" for key, side in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
        )
        return f"<object><name>{name}</name><difficult>{difficult}</difficult><bndbox>{corners}</bndbox></object>"

    sides = f"<size><width>{size[0]}</width><height>{size[1]}</height><depth>3</depth></size>"
    return f"<annotation><filename>{filename}</filename>{sides}{''.join(thing(*one) for one in objects)}</annotation>"


def test_voc_counts_from_one_and_what_is_difficult_does_not_count(tmp_path):
    for name, part in zip("abcd", ("train", "train", "val", "test"), strict=True):
        save(tmp_path / f"JPEGImages/{name}.jpg", seed=ord(name))
        things = [("dog", (1, 1, 40, 30)), ("cat", (5, 6, 14, 25), 1), ("cat", (9, 9, 9, 12))]
        write(tmp_path / f"Annotations/{name}.xml", voc_page(*things, filename=f"{name}.jpg"))
        with open(tmp_path / "list", "a") as file:
            file.write(f"{part} {name}\n")
    lines = [line.split() for line in (tmp_path / "list").read_text().splitlines()]
    for part in ("train", "val", "test"):
        write(tmp_path / f"ImageSets/Main/{part}.txt", "".join(f"{name}\n" for kind, name in lines if kind == part))
    assert parts(tmp_path) == ("train", "val", "test")
    train, val, notes = open_splits(tmp_path)
    assert (len(train), len(val), train.classes, train.class_ids) == (2, 1, ("cat", "dog"), (0, 1))
    objects = train[1].objects
    assert objects.boxes_xyxy.tolist() == [[0, 0, 40, 30], [4, 5, 14, 25]]
    assert (objects.crowd.tolist(), objects.areas.tolist()) == ([False, True], [1200, 200])
    assert train[1].number == "b.jpg"
    assert any("2 objects marked difficult are neither learned nor judged" in note for note in notes)
    assert any("2 objects without area are left out" in note for note in notes)


@pytest.mark.parametrize(
    ("pages", "pictures", "found"),
    [
        ("Annotations", "JPEGImages", ()),
        ("annots", "images", ()),
        ("annotations/xmls", "images", ()),
        ("labels", "photographs of animals", ()),
        ("", "", ()),
        ("xml", "", ()),
        ("VOCdevkit/VOC2012/Annotations", "VOCdevkit/VOC2012/JPEGImages", ()),
        ("{part}", "{part}", ("train", "val")),
        ("{part}/annots", "{part}/images", ("train", "val")),
        ("images/{part}", "images/{part}", ("train", "val")),
        ("a/set/{part}/annots", "a/set/{part}/images", ("train", "val")),
        ("annotations/{part}", "images/{part}", ("train", "val")),
    ],
)
def test_voc_is_found_in_the_folders_that_people_have(tmp_path, pages, pictures, found):
    for number, part in enumerate(("train", "train", "valid")):
        name = f"clip.mp4#t={number}"
        save(tmp_path / pictures.format(part=part) / f"{name}.jpg", seed=number)
        place = tmp_path / pages.format(part=part) / f"{name}.xml"
        write(place, voc_page(("cat", (1, 3, 10, 12 + number)), filename=f"{name}.jpg"))
    write(tmp_path / "README.md", "About cats")
    (tmp_path / "doc").mkdir()
    assert parts(tmp_path) == found
    whole = open_dataset(tmp_path, "train" if found else None)
    assert [whole[index].objects.boxes_xyxy.tolist() for index in range(len(whole))] == [
        [[0, 2, 10, 12 + number]] for number in range(2 if found else 3)
    ]


def test_voc_says_how_many_pictures_have_no_file(tmp_path):
    for name in ("a", "b", "c"):
        save(tmp_path / f"images/{name}.png", seed=ord(name))
    write(tmp_path / "annotations/a.xml", voc_page(("cat", (1, 3, 10, 12)), filename="a.png"))
    apart = open_dataset(tmp_path)  # nobody knows what is in the others
    assert [len(one.objects) for one in (apart[index] for index in range(len(apart)))] == [1]
    assert any("2 pictures have no XML file, and are left out" in note for note in apart.notes)
    (tmp_path / "annotations/a.xml").rename(tmp_path / "images/a.xml")
    beside = open_dataset(tmp_path / "images")
    assert [len(beside[index].objects) for index in range(3)] == [1, 0, 0]
    assert any("2 pictures have no XML file, and so no objects" in note for note in beside.notes)


@pytest.mark.parametrize(
    ("photographs", "masks"), [("images", "annotations/trimaps"), ("shots", "masks"), ("z", "Mask")]
)
def test_voc_takes_no_masks_for_pictures(tmp_path, photographs, masks):
    for number in range(3):
        save(tmp_path / photographs / f"{number}.jpg", seed=number)
        save(tmp_path / masks / f"{number}.png", seed=9)
        write(tmp_path / f"annotations/xmls/{number}.xml", voc_page(("cat", (1, 3, 10, 12)), filename=f"{number}.jpg"))
    assert [*open_dataset(tmp_path).paths] == [str(tmp_path / photographs / f"{number}.jpg") for number in range(3)]


def test_what_another_program_left_in_a_folder_of_its_own_is_not_preferred(tmp_path):
    voc_in_folders(tmp_path)
    images = [{"id": 1, "file_name": "1.png", "width": 40, "height": 30}]
    table = {"images": images, "annotations": [], "categories": [{"id": 1, "name": "cat"}]}
    write(tmp_path / "coco/instances.json", json.dumps(table))
    assert format_of(tmp_path)[0].__name__.endswith(".voc")


def voc_in_folders(root):
    save(root / "JPEGImages/a.png")
    write(root / "Annotations/a.xml", voc_page(("cat", (1, 3, 10, 12)), filename="a.png"))


def test_two_voc_data_sets_in_a_folder_are_told_apart(tmp_path):
    for year in ("VOC2007", "VOC2012"):
        voc_in_folders(tmp_path / year)
    with pytest.raises(
        DataError, match=r"holds 2 data sets: VOC2007 \(Pascal VOC\), VOC2012 \(Pascal VOC\)\. Name one"
    ):
        parts(tmp_path)


def test_data_sets_of_several_formats_in_a_folder_are_told_apart(tmp_path):
    voc_in_folders(tmp_path / "b/cells")
    layout(tmp_path / "a", "annotations.json", "images")
    yolo(tmp_path / "c")
    told = r"holds 3 data sets: a \(COCO\), b/cells \(Pascal VOC\), c \(YOLO\)\. Name one of them, such as \S+/a\.$"
    for ask in (parts, check):
        with pytest.raises(DataError, match=told):
            ask(tmp_path)
    assert parts(tmp_path / "b") == ()


def test_a_data_set_beside_folders_of_classes_is_told_apart_from_them(tmp_path):
    voc_in_folders(tmp_path / "cells")
    assert parts(tmp_path) == ()
    for kind in ("daisy", "rose"):
        save(tmp_path / "flowers" / kind / "1.png")
    with pytest.raises(DataError, match=r"holds 2 data sets: cells \(Pascal VOC\), flowers \(class folders\)"):
        parts(tmp_path)


def test_voc_is_read_from_folders_of_parts_and_pictures_without_a_page_have_no_objects(tmp_path):
    for part in ("train", "valid"):
        for name in "xyz":
            save(tmp_path / part / f"{name}.png", seed=ord(name) + len(part))
        write(tmp_path / part / "x.xml", voc_page(("cat", (0, 3, 10, 12)), filename="x.png"))
    train, val, notes = open_splits(tmp_path)
    assert [len(train), len(val)] == [3, 3]
    assert train[0].objects.boxes_xyxy.tolist() == [[0, 2, 10, 12]]
    assert train.labels() == [(0,), (), ()]
    assert any("1 box begins at 0" in note for note in notes)


def test_bccd_has_the_boxes_that_its_page_counts(shared):
    train, val, notes = open_splits(shared / "data/detection/bccd_voc")
    assert (len(train), len(val), train.classes) == (205, 87, ("Platelets", "RBC", "WBC"))
    counts = sum(np.bincount(data.marks.labels, minlength=3) for data in (train, val))
    assert counts.sum() == 3943 - 2
    assert sum("without area is left out" in note for note in notes) == 2
    assert all("Image_00343" in note or "Image_00338" in note for note in notes)


def test_objects_of_coco_are_those_that_its_own_tools_read(shared):
    file = shared / "data/pose/coco_keypoints_mini/annotations/instances_train2017.json"
    data, content = open_dataset(file), json.loads(file.read_text())
    assert len(content["annotations"]) == 351 == len(data.marks.owners)
    theirs = {one["id"]: one for one in content["annotations"]}
    sizes = {one["id"]: (one["height"], one["width"]) for one in content["images"]}
    seen = 0
    for sample in (data[index] for index in range(len(data))):
        for number, box, label, crowd, mask in zip(
            sample.objects.ids, sample.objects.boxes_xyxy, sample.objects.labels, sample.objects.crowd,
            sample.objects.masks, strict=True,
        ):  # fmt: skip
            one = theirs[number]
            left, top, width, height = one["bbox"]
            assert box.tolist() == pytest.approx([left, top, left + width, top + height], abs=1e-3)
            assert data.class_ids[label] == one["category_id"]
            assert bool(crowd) == one["iscrowd"]
            runs = reference.frPyObjects(one["segmentation"], *sizes[sample.number])
            drawn = reference.decode(reference.merge(runs) if isinstance(runs, list) else runs)
            assert np.array_equal(mask, drawn.squeeze())
            seen += 1
    assert seen == 351
    assert all(first <= second for first, second in pairwise(data.marks.owners))


def yolo(root, images="images/{}", labels="labels/{}", settings="path: .\ntrain: images/train\nval: images/val\n"):
    for part in ("train", "val"):
        for number in range(3):
            save(root / images.format(part) / f"{number}.jpg", seed=10 * number + len(part))
        write(root / labels.format(part) / "0.txt", "2 0.5 0.5 0.25 0.5\n0 0 0 0.5 0 0.5 0.5 0 0.5\n")
        write(root / labels.format(part) / "1.txt", "0 0.5 0.5 1 1\n")
    if settings:
        write(root / "data.yaml", settings + "names:\n  0: cat\n  2: dog\n")


@pytest.mark.parametrize(
    ("places", "settings"),
    [
        ({}, "path: .\ntrain: images/train\nval: images/val\n"),
        ({}, "path: /home/somebody/elsewhere\ntrain: [images/train]\nval: images/val\nnc: 2\n"),
        ({"images": "{}/images", "labels": "{}/labels"}, "train: ../train/images\nval: ../val/images\n"),
        ({"images": "pictures/{}", "labels": "pictures/{}"}, "train: pictures/train\nval: pictures/val\n"),
    ],
)
def test_every_layout_of_yolo_is_found_with_its_parts(tmp_path, places, settings):
    yolo(tmp_path, settings=settings, **places)
    assert parts(tmp_path) == ("train", "val") == parts(tmp_path / "data.yaml")
    for data in open_splits(tmp_path)[:2]:
        assert isinstance(data, Dataset)
        assert (data.task, data.classes, data.class_ids) == ("detect", ("cat", "dog"), (0, 2))
        assert data.labels() == [(0, 1), (0,), ()]
        objects = data[0].objects
        assert objects.boxes_xyxy.tolist() == [[15, 7.5, 25, 22.5], [0, 0, 20, 15]]
        assert objects.areas.tolist() == [150, 300]
        assert objects.masks.sum((1, 2)).tolist() == [10 * 14, 300]  # the box, rounded to whole pixels
        assert data[1].objects.boxes_xyxy.tolist() == [[0, 0, 40, 30]]
        assert (data[2].objects.labels.shape, data[1].number) == ((0,), 1)


def test_yolo_without_settings_is_two_folders_and_its_classes_have_their_numbers_for_names(tmp_path):
    yolo(tmp_path, settings=None)
    train, _, notes = open_splits(tmp_path)
    assert (train.classes, train.labels()) == (("0", "1", "2"), [(0, 2), (0,), ()])
    assert any("It names no classes: they are called 0 to 2" in note for note in notes)
    write(tmp_path / "classes.txt", "cat\nbird\ndog\n")
    assert open_dataset(tmp_path, "train").classes == ("cat", "bird", "dog")


def test_a_yolo_list_names_pictures_from_the_root(tmp_path):
    yolo(tmp_path, settings="train: train.txt\nval: images/val\n")
    write(tmp_path / "train.txt", "./images/train/1.jpg\nimages/train/0.jpg\n")
    assert open_dataset(tmp_path, "train").labels() == [(0,), (0, 1)]


NAMED = "names: [cat, dog]\n"
NAMES = "cat\ndog\n"


@pytest.mark.parametrize(
    ("pictures", "labels", "more", "found"),
    [
        ("", "", {"classes.txt": NAMES}, ()),
        ("images", "images", {"images/classes.txt": NAMES}, ()),
        ("Images", "Labels", {"classes.txt": NAMES}, ()),
        ("JPEGImages", "labels", {"classes.txt": NAMES}, ()),
        ("images", "labels", {"classes.txt": NAMES, "notes.json": '{"categories": [{"id": 0, "name": "cat"}]}'}, ()),
        ("a/set", "a/set", {"a/set/obj.names": NAMES}, ()),
        ("{part}", "{part}", {"{part}/_darknet.labels": NAMES}, ("train", "val")),
        ("images/{part}", "images/{part}", {"classes.txt": NAMES}, ("train", "val")),
        ("Images/{part}", "Labels/{part}", {"Labels/classes.txt": NAMES}, ("train", "val")),
        ("images/{part}2017", "labels/{part}2017", {"classes.txt": NAMES}, ("train", "val")),
        ("set/{part}/images", "set/{part}/labels", {"set/classes.txt": NAMES}, ("train", "val")),
        (
            "a/set/{part}/images",
            "a/set/{part}/labels",
            {"a/set/data.yaml": NAMED + "train: ../train/images\nval: ../valid/images\n"},
            ("train", "val"),
        ),
        (
            "set/images/{part}",
            "set/labels/{part}",
            {"data.yaml": NAMED + "train: images/train\nval: images/valid\n"},
            ("train", "val"),
        ),
        (
            "photos/{part}",
            "photos/{part}",
            {
                "data.yaml": NAMED
                + "path: /home/somebody\ntrain: /home/somebody/photos/train\nval: C:\\a\\photos\\valid"
            },
            ("train", "val"),
        ),
        (
            "obj_train_data",
            "obj_train_data",
            {
                "obj.names": NAMES,
                "obj.data": "classes = 2\ntrain = data/train.txt\nvalid = data/test.txt\nnames = data/obj.names\n",
                "train.txt": "data/obj_train_data/0.jpg\ndata/obj_train_data/1.jpg\n",
                "test.txt": "data/obj_train_data/2.jpg\n",
            },
            ("train", "val"),
        ),
        (
            "images",
            "labels",
            {"classes.txt": NAMES, "train.txt": "/content/images/0.jpg\n/content/images/1.jpg\n", "valid.txt": "2.jpg"},
            ("train", "val"),
        ),
    ],
)
def test_yolo_is_found_in_the_folders_that_people_have(tmp_path, pictures, labels, more, found):
    for number, part in enumerate(("train", "train", "valid")):
        save(tmp_path / pictures.format(part=part) / f"{number}.jpg", seed=number)
        write(tmp_path / labels.format(part=part) / f"{number}.txt", f"{number % 2} 0.5 0.5 0.5 0.{number + 2}\n")
        for name, content in more.items():
            write(tmp_path / name.format(part=part), content)
    write(tmp_path / "README.md", "About cats")
    (tmp_path / "doc").mkdir()
    assert parts(tmp_path) == found
    for part in found or (None,):
        data = open_splits(tmp_path)[found.index(part)] if found else open_dataset(tmp_path)
        numbers = {"train": [0, 1], "val": [2], None: [0, 1, 2]}[part]
        assert (data.task, data.classes) == ("detect", ("cat", "dog"))
        boxes = [data[index].objects.boxes_xyxy.round(decimals=3).tolist() for index in range(len(data))]
        assert boxes == [[[10, 12 - 1.5 * number, 30, 18 + 1.5 * number]] for number in numbers]
        assert not getattr(data, "notes", ())


PAGE = voc_page(("cat", (1, 3, 10, 12)), filename="0.png")
BESIDE = {
    "0.xml": PAGE,
    "0.txt": "0 0.5 0.5 0.2 0.2\n",
    "features.txt": "1 0.2 0.5 0.1 0.9 0.3\n",
    "a.json": '{"images": [{"file_name": "0.png", "id": 1, "width": 40, "height": 30}], "annotations": []}',
}


@pytest.mark.parametrize("above", ["", "train"])
@pytest.mark.parametrize("marked", [("cat",), ("cat", "dog", "bird")])
@pytest.mark.parametrize("name", BESIDE)
def test_class_folders_in_which_something_is_marked_stay_classes(tmp_path, name, marked, above):
    for kind in ("cat", "dog", "bird"):
        for number in range(3):
            save(tmp_path / above / kind / f"{number}.png", seed=number)
    for kind in marked:
        write(tmp_path / above / kind / name, BESIDE[name])
    data = open_dataset(tmp_path, above or None)
    assert (data.task, data.classes) == ("classify", ("bird", "cat", "dog"))


def test_what_nobody_may_read_beside_a_data_set_hides_nothing(tmp_path, monkeypatch):
    voc_in_folders(tmp_path / "cells")
    (tmp_path / "lost+found").mkdir()
    usual = os.listdir

    def listdir(path):
        if str(path).endswith("lost+found"):
            raise PermissionError
        return usual(path)

    monkeypatch.setattr(os, "listdir", listdir)
    assert format_of(tmp_path)[0].__name__.endswith(".voc")


def test_yolo_reads_no_neighbour_and_no_other_picture_of_the_name(tmp_path):
    yolo(tmp_path / "set")
    save(tmp_path / "train/1.png")
    settings = "train: /home/somebody/old/train\nval: /home/somebody/old/val\nnames: [cat, dog, bird]\n"
    write(tmp_path / "set/data.yaml", settings)
    (tmp_path / "set/cache.data").write_bytes(b"\xff\xfe\x00\x9f")
    assert all(str(tmp_path / "set") in path for path in open_dataset(tmp_path / "set", "train").paths)
    for name in ("images/train/a.jpg", "images/b.jpg"):
        save(tmp_path / "lists" / name)
        write(tmp_path / "lists" / name.replace("images", "labels").replace("jpg", "txt"), "0 0.5 0.5 0.2 0.2\n")
    write(tmp_path / "lists/train.txt", "./images/train/a.jpg\n./images/train/b.jpg\n")
    write(tmp_path / "lists/classes.txt", "cat\n")
    missing = [fault.path for fault in check(tmp_path / "lists") if fault.code == "missing-file"]
    assert missing == [str(tmp_path / "lists/images/train/b.jpg")]


def test_yolo_side_by_side_is_read_in_the_folders_there_too(tmp_path):
    for name in ("a", "b", "more/c", "more/d"):
        save(tmp_path / f"{name}.jpg", seed=len(name))
        write(tmp_path / f"{name}.txt", "0 0.5 0.5 0.2 0.2\n")
    save(tmp_path / "unmarked/e.jpg")
    write(tmp_path / "classes.txt", "cat\n")
    data = open_dataset(tmp_path)
    assert [len(data[index].objects) for index in range(len(data))] == [1, 1, 1, 1]


def test_class_folders_with_texts_and_json_in_them_stay_classes(tmp_path):
    for kind in ("cat", "dog"):
        for number in range(3):
            save(tmp_path / kind / f"{number}.png", seed=number)
            write(tmp_path / kind / f"{number}.txt", f"a {kind}, 5 years old, 40 cm\n")
        write(tmp_path / kind / "README.txt", "1 2 3 4 5\n")
        write(tmp_path / kind / "about.json", '{"images": ["0.png"], "annotations": []}')
    write(tmp_path / "train.txt", "0.png is the first\n")
    data = open_dataset(tmp_path)
    assert (data.task, data.classes, len(data)) == ("classify", ("cat", "dog"), 6)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("0 0.5 0.5 0.2", "4 columns"),
        ("0 0.5 0.5 0.2 0.2 0.9", "how sure somebody was"),
        ("1 0.5 0.5 0.2 0.2", r"The class is 1, and .*data\.yaml names 2 classes from 0 to 2"),
        ("0 100 50 20 20", "100 is no share of a picture"),
        ("cat 0.5 0.5 0.2 0.2", "'cat' is no number"),
        ("0 0.5 nan 0.2 0.2", "not finite"),
        ("0 0.5 0.5 -0.2 0.2", "-0.2 wide"),
    ],
)
def test_a_line_that_cannot_be_meant_is_refused_with_its_number(tmp_path, line, words):
    yolo(tmp_path)
    write(tmp_path / "labels/train/1.txt", f"0 0.5 0.5 1 1\n\n{line}\n")
    with pytest.raises(DataError, match=r"labels/train/1\.txt:3: .*" + words):
        open_dataset(tmp_path, "train")


def panoptic(root, ids=(7, 300, 70000)):
    """A picture of three bands of 10 rows: a thing, another of its class, and stuff; one segment has no pixels."""
    numbers = np.repeat(np.array(ids), 10)[:, None].repeat(40, 1)
    pixels = np.stack([numbers % 256, numbers // 256 % 256, numbers // 65536], -1).astype(np.uint8)
    save(root / "train2017/1.png")
    (root / "annotations/panoptic_train2017").mkdir(parents=True)
    Image.fromarray(pixels).save(root / "annotations/panoptic_train2017/1.png")
    categories = [{"id": 9, "name": "sky", "isthing": 0}, {"id": 4, "name": "cat", "isthing": 1}]
    segments = [{"id": n, "category_id": c, "iscrowd": 0} for n, c in ((7, 4), (300, 4), (70000, 9), (8, 4))]
    annotations = [{"image_id": 1, "file_name": "1.png", "segments_info": segments}]
    images = [{"id": 1, "file_name": "1.png", "width": 40, "height": 30}]
    write(
        root / "annotations/panoptic_train2017.json",
        coco(images=images, annotations=annotations, categories=categories),
    )


def test_panoptic_segments_are_objects_with_masks_and_stuff_is_told_from_things(tmp_path):
    panoptic(tmp_path)
    data = open_dataset(tmp_path / "annotations/panoptic_train2017.json", classes=("sky", "cat"))
    assert parts(tmp_path) == ("train",)
    assert isinstance(data, Dataset)
    assert (data.task, data.classes, data.class_ids, data.things) == ("panoptic", ("sky", "cat"), (9, 4), (False, True))
    straight = splits_of_one(tmp_path)
    assert (straight.classes, straight.class_ids, straight.things) == (("cat", "sky"), (4, 9), (True, False))
    objects = data[0].objects
    assert objects.ids == (7, 300, 70000)
    assert objects.labels.tolist() == [1, 1, 0]
    assert objects.boxes_xyxy.tolist() == [[0, 0, 40, 10], [0, 10, 40, 20], [0, 20, 40, 30]]
    assert objects.areas.tolist() == [400, 400, 400]
    assert torch.equal(pickle.loads(pickle.dumps(data))[0].objects.masks, objects.masks)


def with_boxes(root):
    """The same with boxes beside it, as COCO's own folder has both, and with a part for judging."""
    panoptic(root)
    content = json.loads((root / "annotations/panoptic_train2017.json").read_text())
    boxes = [{"id": 1, "image_id": 1, "category_id": 4, "bbox": [0, 0, 40, 10], "area": 400, "iscrowd": 0}]
    things = [one for one in content["categories"] if one["isthing"]]
    write(root / "annotations/instances_train2017.json", {**content, "annotations": boxes, "categories": things})
    for stem in ("instances", "panoptic"):
        shutil.copy(root / f"annotations/{stem}_train2017.json", root / f"annotations/{stem}_val2017.json")
    shutil.copytree(root / "annotations/panoptic_train2017", root / "annotations/panoptic_val2017")
    shutil.copytree(root / "train2017", root / "val2017")


def test_segments_are_read_where_they_are_asked_for_and_boxes_beside_them_otherwise(tmp_path):
    root = tmp_path / "coco"
    with_boxes(root)
    plain, asked = open_splits(root), open_splits(f"{root}:panoptic")
    assert (plain.train.task, plain.train.classes) == ("detect", ("cat",))
    assert f"Name {root}:panoptic to read it." in plain.notes[0]
    assert (asked.train.task, asked.val.classes, asked.notes) == ("panoptic", ("cat", "sky"), [])
    assert parts(f"{root}:panoptic") == ("train", "val")
    assert name_of(f"{root}:panoptic") == "coco-panoptic"
    assert for_purpose(str(root), ("panoptic",)) == f"{root}:panoptic"
    assert for_purpose(str(root), ("detect", "panoptic")) == str(root)
    assert for_purpose(str(root), ("classify",)) == str(root)
    assert for_purpose(f"{root}:panoptic", ("panoptic",)) == f"{root}:panoptic"
    told = {one.code for one in check(f"{root}:panoptic")}
    assert "other-annotations" not in told
    assert "duplicate-across-parts" in told


def test_boxes_alone_have_no_segments(tmp_path):
    with_boxes(tmp_path)
    for file in (tmp_path / "annotations").glob("panoptic_*.json"):
        file.unlink()
    assert for_purpose(str(tmp_path), ("panoptic",)) == str(tmp_path)
    with pytest.raises(DataError, match=r"holds no segments as COCO has them \(annotations/panoptic_train.json\)"):
        open_splits(f"{tmp_path}:panoptic")
    with pytest.raises(DataError, match="There is no data set at nowhere"):
        open_splits("nowhere:panoptic")


def test_a_damaged_file_of_segments_is_not_passed_over(tmp_path):
    with_boxes(tmp_path)
    (tmp_path / "annotations/panoptic_val2017.json").write_bytes(b"")
    with pytest.raises(DataError, match=r"panoptic_val2017\.json: it is empty"):
        open_splits(f"{tmp_path}:panoptic")


def test_of_several_data_sets_none_is_chosen_for_its_segments(tmp_path):
    for name in ("a", "b"):
        with_boxes(tmp_path / name)
    with pytest.raises(DataError, match=r"holds 2 data sets: a \(COCO panoptic\), b \(COCO panoptic\)"):
        open_splits(f"{tmp_path}:panoptic")
    with pytest.raises(DataError, match="There is no data set at :panoptic"):
        open_splits(":panoptic")


def splits_of_one(root):
    """The training part, of a data set too small to set anything aside."""
    return open_dataset(root / "annotations/panoptic_train2017.json")


def test_a_panoptic_map_of_another_size_is_refused(tmp_path):
    panoptic(tmp_path, ids=(7, 300))
    with pytest.raises(DataError, match=r"1\.png is 40 x 20 pixels, and .* is 40 x 30"):
        splits_of_one(tmp_path)[0]


def test_panoptic_masks_of_real_pictures_hold_as_many_pixels_as_their_file_says(shared):
    file = shared / "data/panoptic/panopticapi_samples/panoptic_examples.json"
    data = open_dataset(file)
    rows = json.loads(file.read_text())["annotations"]
    said = {(row["image_id"], one["id"]): one for row in rows for one in row["segments_info"]}
    for sample in (data[index] for index in range(2)):
        for number, area, box in zip(
            sample.objects.ids, sample.objects.areas.tolist(), sample.objects.boxes_xyxy.tolist(), strict=True
        ):
            left, top, right, bottom = box
            assert said[sample.number, number]["area"] == area
            assert said[sample.number, number]["bbox"] == [left, top, right - left, bottom - top]
    assert len(said) == sum(len(data[index].objects) for index in range(2))


def test_the_five_tasks_of_coco128_are_recognised(shared):
    boxes = open_dataset(shared / "data/coco128/object_detection", "train")
    whole = open_dataset(shared / "data/coco128/object_detection/config.yaml", "train")
    assert len(boxes) + len(open_dataset(shared / "data/coco128/object_detection", "val")) == 128
    assert whole.classes == boxes.classes
    polygons = open_dataset(shared / "data/coco128/instance_segmentation", "train").whole
    assert (polygons.class_ids[:3], polygons.class_ids[-1], len(polygons.marks.owners)) == ((1, 2, 3), 90, 746)
    assert len(boxes.whole.marks.owners) == 929
    segments = open_dataset(shared / "data/coco128/panoptic_segmentation", "train").whole
    assert (len(segments), len(segments.targets), len(segments.classes)) == (100, 1111, 133)
