"""Small data sets of marked objects with one thing wrong each, and all that `check` must say about them."""

import json
import random
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vitrail.cli.main import main
from vitrail.data.check import check
from vitrail.data.checks.faults import MARKED_ERRORS, MARKED_NOTES, MARKED_WARNINGS, SEVERITIES
from vitrail.data.open import open_dataset, open_splits
from vitrail.data.views import ObjectAugment, ObjectTransform
from vitrail.errors import VitrailError
from vitrail.preprocessing import Fitted

SMALL = Fitted(shorter=24, longer=40)

PARTS = ("train", "val")
TURNED = Image.Exif()
TURNED[0x0112] = 6


def save(path, seed, size=(40, 30), **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, **options)


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text(content if isinstance(content, str) else json.dumps(content))


def pictures(root, form):
    for number, part in enumerate(PARTS):
        for place in range(3):
            save(root / form.format(part=part, place=place), 10 * number + place)


@pytest.fixture
def coco(tmp_path):
    """Two parts with three pictures of 40 x 30 each; a cat and a dog in the first two, nothing in the third."""
    for part in PARTS:
        images = [{"id": n, "file_name": f"{n}.png", "width": 40, "height": 30} for n in range(3)]
        boxes = ((11, 0, 1, [4, 5, 10, 20]), (12, 0, 2, [0, 0, 40, 30]), (13, 1, 1, [3, 3, 9, 9]))
        annotations = [
            {"id": n, "image_id": i, "category_id": c, "bbox": b, "area": b[2] * b[3], "iscrowd": 0}
            for n, i, c, b in boxes
        ]
        categories = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
        content = {"images": images, "annotations": annotations, "categories": categories}
        write(tmp_path / f"set/annotations/instances_{part}.json", content)
    pictures(tmp_path / "set", "{part}/{place}.png")
    return tmp_path / "set"


TRAIN = "annotations/instances_train.json"


def change(spoil, file=TRAIN):
    """Do something to what a JSON file holds."""

    def at(root):
        content = json.loads((root / file).read_text())
        spoil(content)
        write(root / file, content)

    return at


def record(table, place, file=TRAIN, **fields):
    """Set fields of one record; those that are `...` are taken away."""

    def spoil(content):
        one = content[table][place]
        one.update(fields)
        for name in [name for name, value in fields.items() if value is ...]:
            del one[name]

    return change(spoil, file)


def box(*sides, **more):
    return record("annotations", 0, bbox=list(sides), **more)


def add(table, **fields):
    return change(lambda content: content[table].append(fields))


def content(data, file=TRAIN):
    return lambda root: write(root / file, data)


def both(*spoils):
    return lambda root: [spoil(root) for spoil in spoils]


def crossed(content):
    """All boxes as two corners."""
    content["annotations"] = [
        {"id": n, "image_id": 0, "category_id": n % 2 + 1, "bbox": [20 + n, 12, 38 - n, 28], "area": 200, "iscrowd": 0}
        for n in range(4)
    ]


def endless(content):
    """Boxes with NaN and Infinity."""
    content["annotations"][0]["bbox"][0] = float("nan")
    content["annotations"][1]["bbox"][2] = float("inf")
    content["annotations"].append({**content["annotations"][2], "id": 14, "category_id": 2, "bbox": [20, 9, 9, 9]})


def in_both(spoil, **more):
    return both(*(change(spoil, f"annotations/instances_{part}.json") for part in PARTS))


def rename_dog(content):
    content["categories"][1]["name"] = "Cat"


def all_cats(content):
    for one in content["annotations"]:
        one["category_id"] = 1
    del content["categories"][1:]


def shift_ids(step):
    def spoil(content):
        for one in content["categories"]:
            one["id"] = step(one["id"])
        for one in content["annotations"]:
            one["category_id"] = step(one["category_id"])

    return spoil


def reencode(encoding):
    return lambda root: write(root / TRAIN, (root / TRAIN).read_text().encode(encoding))


def cut_json(root):
    text = (root / TRAIN).read_text()
    write(root / TRAIN, text[: len(text) // 2])


A11 = f"{TRAIN}:annotation 11"
POLYGON = [[4, 5, 14, 5, 14, 25, 4, 25]]
COCO = [  # what is done, and all faults: code, place and words of the reason
    (box(4, 5, -3, 20, area=1), [("negative-box", A11, "-3 wide and 20 high")]),
    (box(4, 5, 0, 20), [("zero-box", A11, "0 wide and 20 high")]),
    (box(30, 5, 20, 20, area=400), [("outside-box", A11, "10 pixels beyond")]),
    (box(-30, 5, 35, 20, area=700), [("outside-box", A11, "30 pixels beyond")]),
    (box(50, 5, 10, 20), [("box-elsewhere", A11, "from 50, 5 to 60, 25, lies wholly outside the picture of 40 x 30")]),
    (change(crossed), [("corners-for-sizes", TRAIN, "4 of 4 boxes reach beyond")]),
    (change(endless),
     [("infinite-box", f"{TRAIN}:annotation 12", "has Infinity"), ("nan-box", A11, "has NaN")]),
    (box(4, 5, "10", 20), [("text-box", A11, "'10', which is no number")]),
    (box(4, 5, True, 20), [("text-box", A11, "True, which is no number")]),
    (box(4, 5, 1e308, 20), [("huge-box", A11, "1e.308")]),
    (box(4, 5, 10), [("box-length", A11, r"\[4, 5, 10\], and should be")]),
    (record("annotations", 0, bbox=...), [("missing-box", A11, "no bbox")]),
    (record("annotations", 0, id=11.0), [("wrong-id", f"{TRAIN}:annotations[0]", "id is 11.0")]),
    (record("annotations", 0, id=True), [("wrong-id", f"{TRAIN}:annotations[0]", "id is True")]),
    (record("images", 2, id=2.5), [("wrong-id", f"{TRAIN}:images[2]", "id is 2.5"),
                                   ("unlisted-picture", "train", "1 picture in this folder is not listed: 2.png")]),
    (record("images", 2, id=0), [("duplicate-picture-id", f"{TRAIN}:image 0", "0.png has this id too"),
                                 ("unlisted-picture", "train", "2.png")]),
    (record("annotations", 1, id=11), [("duplicate-object-id", A11, "Another annotation")]),
    (add("categories", id=2, name="emu"), [("duplicate-category-id", f"{TRAIN}:category 2", "'dog' and 'emu'")]),
    (record("categories", 1, name="cat"), [
        ("duplicate-category-name", f"{TRAIN}:category 2", "Category 1 is called 'cat' too"),
        ("class-not-in-train", "", "class dog is in val")]),
    (record("annotations", 0, category_id=9), [("unknown-category", A11, "category_id is 9")]),
    (record("annotations", 0, image_id=77), [("unknown-picture", A11, "image_id is 77")]),
    (in_both(shift_ids(lambda number: number - 1)), [
        ("category-zero", "annotations/instances_train.json", "cat has the id 0"),
        ("category-zero", "annotations/instances_val.json", "cat has the id 0")]),
    (in_both(shift_ids(lambda number: 5 * number)), [
        ("category-gaps", "annotations/instances_train.json", "from 5 to 10"),
        ("category-gaps", "annotations/instances_val.json", "from 5 to 10")]),
    (record("images", 0, width=...), [("missing-size", TRAIN, "1 of 3 pictures say no width")]),
    (record("images", 0, width=0), [("missing-size", TRAIN, "1 of 3 pictures say no width"),
                                    ("missing-size", f"{TRAIN}:image 0", "are 30 and 0")]),
    (record("annotations", 0, area=...), [("missing-area", TRAIN, "1 of 3 objects say no area")]),
    (record("annotations", 0, iscrowd=...), [("missing-crowd", TRAIN, "1 of 3 objects say no iscrowd")]),
    (record("annotations", 0, iscrowd=2), [("wrong-crowd", A11, "iscrowd is 2")]),
    (record("annotations", 0, area=1200), [("wrong-area", A11, "area is 1200, and its box has 200")]),
    (record("annotations", 0, segmentation=[[1, 2, 3, 4]]), [("wrong-outline", A11, "4 numbers, and three corners")]),
    (record("annotations", 0, segmentation=[[1, 2, 3, 4, 5, 6, 7]]), [("wrong-outline", A11, "an x without its y")]),
    (record("annotations", 0, segmentation=[[1, 2, 3, 4, 5, "6"]]), [("wrong-outline", A11, "neither polygons nor")]),
    (record("annotations", 0, segmentation={"size": [40, 30], "counts": [1200]}), [
        ("rle-size", A11, "mask is 40 x 30, rows x columns, in a picture of 30 x 40")]),
    (record("annotations", 0, segmentation={"size": [30, 40], "counts": [100]}), [
        ("bad-rle", A11, "cover 100 pixels of 30 x 40")]),
    (record("annotations", 0, segmentation={"size": [30, 40], "counts": "~~"}), [("bad-rle", A11, "packed runs")]),
    (both(record("categories", 0, keypoints=["eye", "tail"]), record("annotations", 0, keypoints=[1, 2, 2] * 3)), [
        ("keypoints-length", A11, "9 numbers for 2 keypoints")]),
    (lambda root: (root / "train/2.png").unlink(), [("missing-file", "train/2.png", "no such picture")]),
    (lambda root: write(root / "train/2.png", b"<html>"), [("format", "train/2.png", "web page")]),
    (lambda root: save(root / "train/2.png", 7, (80, 60)), [
        ("size-disagrees", "train/2.png", "80 x 60 pixels as displayed, and .* says 40 x 30. Its objects are marked")]),
    (lambda root: save(root / "train/2.png", 7, (30, 40)), [("sides-exchanged", "train/2.png", "30 x 40 .* 40 x 30")]),
    (lambda root: save(root / "train/2.png", 7, exif=TURNED), [
        ("rotated", "train/2.png", "1 picture is turned"), ("turned-objects", "train/2.png", "turned with it")]),
    (record("images", 2, file_name="1.png"), [
        ("listed-twice", f"{TRAIN}:image 2", "train/1.png, as image 1 is"), ("unlisted-picture", "train", "2.png")]),
    (record("images", 2, file_name="../train/2.png"), [
        ("outside-root", f"{TRAIN}:image 2", "leads out")]),
    (lambda root: shutil.copy(root / "train/0.png", root / "val/0.png"), [
        ("duplicate-across-parts", "val/0.png", "same picture as .*train/0.png")]),
    (add("annotations", id=14, image_id=0, category_id=1, bbox=[4, 5, 10, 20.1], area=200, iscrowd=0), [
        ("duplicate-object", f"{TRAIN}:annotation 14", "box of .*annotation 11")]),
    (add("categories", id=3, name="emu"), [("class-without-objects", "", "1 class without an object: emu")]),
    (record("annotations", 1, category_id=1), [("class-not-in-train", "", "class dog is in val")]),
    (record("annotations", 1, category_id=1, file="annotations/instances_val.json"), [
        ("class-only-in-train", "", "class dog is in train, and not in val")]),
    (change(lambda content: content["annotations"].clear()), [
        ("no-objects", TRAIN, "in any of the 3 pictures of the part train"),
        ("class-not-in-train", "", "class cat"), ("class-not-in-train", "", "class dog")]),
    (change(lambda content: [content[name].clear() for name in ("images", "annotations")]), [
        ("no-pictures", TRAIN, "lists no picture"),
        ("class-not-in-train", "", "cat"), ("class-not-in-train", "", "dog")]),
    (in_both(all_cats), [("single-class", "", "only one class, cat")]),
    (in_both(lambda content: content["categories"].extend({"id": n, "name": f"c{n}"} for n in range(3, 1500))), [
        ("class-without-objects", "", "1,497 classes without an object: c3, c4, c5, c6, c7 and 1492 more"),
        ("many-classes", "", "1,499 classes")]),
    (in_both(rename_dog), [("class-case-clash", "", "classes Cat and cat")]),
    (change(lambda content: content["categories"].clear()), [
        ("class-not-in-train", "", "cat"), ("class-not-in-train", "", "dog"), ("no-classes", TRAIN, "no category"),
        ("no-objects", TRAIN, "Nothing"),
        *(("unknown-category", f"{TRAIN}:annotation {n}", "") for n in (11, 12, 13))]),
    (record("categories", 1, name=""), [
        ("class-not-in-train", "", "class dog"), ("unknown-category", f"{TRAIN}:annotation 12", "category_id is 2"),
        ("unnamed-class", f"{TRAIN}:category 2", "name is ''")]),
    (change(lambda content: content["annotations"].append(7)), [("bad-record", f"{TRAIN}:annotations[3]", "It is 7")]),
    (reencode("utf-8-sig"), [("bom", TRAIN, "byte order mark")]),
    (reencode("utf-16"), [("encoding", TRAIN, "UTF-16")]),
    (cut_json, [("truncated", TRAIN, "ends in the middle")]),
    (content("[" * 100000), [("too-deep", TRAIN, "nested")]),
    (content('{"images": [1 2]}'), [("bad-json", TRAIN, "not JSON")]),
    (content('{"images": [], "images": []}'), [("duplicate-key", TRAIN, "'images' stands twice")]),
    (content('{"images": []}'), [("not-coco", TRAIN, "no list called")]),
    (content("[]"), [("not-coco", TRAIN, "no JSON object")]),
    (lambda root: shutil.copy(root / TRAIN, root / "annotations/more_train.json"), [
        ("other-annotations", TRAIN, "more_train.json, beside it, is not")]),
    (content(""), [("empty", TRAIN, "empty")]),
]  # fmt: skip


@pytest.fixture
def voc(tmp_path):
    """The same pictures and objects as Pascal VOC has them."""
    root = tmp_path / "set"
    for number, part in enumerate(PARTS):
        for place in range(3):
            save(root / f"JPEGImages/{part}{place}.png", 10 * number + place)
            things = [("cat", 5, 6, 14, 25), ("dog", 1, 1, 40, 30)][: 2 - place]
            write(root / f"Annotations/{part}{place}.xml", page(f"{part}{place}.png", *things))
        write(root / f"ImageSets/Main/{part}.txt", "".join(f"{part}{place}\n" for place in range(3)))
    return root


def page(filename, *things, size="<size><width>40</width><height>30</height><depth>3</depth></size>"):
    objects = "".join(
        f"<object><name>{name}</name><bndbox><xmin>{left}</xmin><ymin>{top}</ymin><xmax>{right}</xmax>"
        f"<ymax>{bottom}</ymax></bndbox></object>" for name, left, top, right, bottom in things
    )  # fmt: skip
    return f"<annotation><filename>{filename}</filename>{size}{objects}</annotation>"


THIRD = "Annotations/train2.xml"


def voc_page(*things, filename="train2.png", **more):
    return lambda root: write(root / THIRD, page(filename, *things, **more))


O1 = f"{THIRD}:object 1"
VOC = [
    (voc_page(("cat", 9, 9, 9, 20)), [("zero-box", O1, "0 wide and 11 high")]),
    (voc_page(("cat", 19, 9, 9, 20)), [("negative-box", O1, "wide")]),
    (voc_page(("cat", 30, 9, 50, 20)), [("outside-box", O1, "10 pixels beyond")]),
    (voc_page(("cat", "x", 9, 50, 20)), [("text-box", O1, "xmin is 'x'")]),
    (voc_page(("cat", "nan", 9, 50, 20)), [("nan-box", O1, "xmin is NaN")]),
    (voc_page(("cat", 1, 9, "inf", 20)), [("infinite-box", O1, "xmax is infinite")]),
    (voc_page(("cat", 1, 9, "1e308", 20)), [("huge-box", O1, "1e")]),
    (voc_page(("cat", 1, "", 5, 20)), [("box-length", O1, "no ymin")]),
    (voc_page(("", 1, 2, 5, 20)), [("unnamed-class", O1, "no name")]),
    (lambda root: write(root / THIRD, "<annotation><object><name>cat</name></object></annotation>"), [
        ("missing-box", O1, "no bndbox"), ("missing-size", THIRD, "1 file does not say")]),
    (voc_page(("emu", 1, 2, 5, 20)), [("class-only-in-train", "", "class emu")]),
    (voc_page(("Dog", 1, 2, 5, 20)), [("class-case-clash", "", "Dog and dog"), ("class-only-in-train", "", "Dog")]),
    (voc_page(size="<size><width>0</width><height>0</height></size>"), [("missing-size", THIRD, "1 file does not")]),
    (voc_page(size="<size><width>60</width><height>30</height></size>"), [
        ("size-disagrees", "JPEGImages/train2.png", "40 x 30 .* says 60 x 30")]),
    (voc_page(filename="other.png"), [("filename-disagrees", THIRD, "other.png; train2.png is read")]),
    (lambda root: write(root / THIRD, "<annotation><object></annotation>"), [
        ("bad-xml", THIRD, "mismatched tag"), ("unlisted-picture", "JPEGImages", "1 picture .*train2.png")]),
    (lambda root: write(root / THIRD, '<!DOCTYPE a [<!ENTITY b "c">]><annotation/>'), [
        ("bad-xml", THIRD, "document type"), ("unlisted-picture", "JPEGImages", "train2.png")]),
    (lambda root: write(root / THIRD, "<html/>"), [
        ("not-voc", THIRD, "begins with <html>"), ("unlisted-picture", "JPEGImages", "train2.png")]),
    (lambda root: write(root / "ImageSets/Main/train.txt", "train0\ntrain1\ntrain9\n"), [
        ("missing-picture", "ImageSets/Main/train.txt", "names train9"), ("unlisted-picture", "JPEGImages", "train2")]),
    (lambda root: (root / "JPEGImages/train2.png").unlink(), [("missing-picture", THIRD, "No picture called train2")]),
    (lambda root: shutil.copy(root / "JPEGImages/train0.png", root / "JPEGImages/val0.png"), [
        ("duplicate-across-parts", "JPEGImages/val0.png", "same picture")]),
    (voc_page(("cat", 5, 6, 14, 25), ("cat", 5, 6, 14, 25)), [("duplicate-object", f"{THIRD}:object 2", "object 1")]),
    (voc_page(("cat", 0, 6, 14, 25)), [("from-zero", "ImageSets/Main/train.txt", "1 box begins at 0, and VOC counts")]),
    (lambda root: write(root / THIRD, page("train2.png", ("cat", 5, 6, 14, 25)).replace(
        "</name>", "</name><difficult>1</difficult>")), [
        ("difficult-object", "ImageSets/Main/train.txt", "1 object marked difficult")]),
]  # fmt: skip


@pytest.fixture
def yolo(tmp_path):
    """The same pictures and objects as YOLO has them."""
    root = tmp_path / "set"
    pictures(root, "images/{part}/{place}.png")
    for part in PARTS:
        for place in range(3):
            write(
                root / f"labels/{part}/{place}.txt",
                ("0 0.3 0.5 0.25 0.6\n1 0.5 0.5 1 1\n", "0 0.2 0.2 0.2 0.2\n", "")[place],
            )
    write(root / "data.yaml", SETTINGS + "names: [cat, dog]\n")
    return root


SETTINGS = "train: images/train\nval: images/val\n"
LINE = "labels/train/2.txt:1"


def line(text):
    return lambda root: write(root / "labels/train/2.txt", text + "\n")


def settings(text):
    return lambda root: write(root / "data.yaml", SETTINGS + text)


YOLO = [
    (line("0 0.5 0.5 0.2"), [("wrong-columns", LINE, "4 columns")]),
    (line("0 0.5 0.5 0.6 0.5 0.6 0.6"), [("missing-outline", "", "1 of 4 objects has an outline")]),
    (lambda root: (root / "data.yaml").unlink(), [("nameless-classes", "", "they are called 0 to 1")]),
    (lambda root: write(root / "labels/train/all.txt", "a.jpg\nb.jpg\n"), []),
    (line("0 0.5 0.5 0.2 0.2 0.9"), [("wrong-columns", LINE, "6 columns")]),
    (line("0 120 80 20 20"), [("not-normalised", LINE, "120 is no share")]),
    (line("7 0.5 0.5 0.2 0.2"), [("wrong-class", LINE, "names 0 to 1")]),
    (line("-1 0.5 0.5 0.2 0.2"), [("wrong-class", LINE, "'-1', and should be")]),
    (line("cat 0.5 0.5 0.2 0.2"), [("text-box", LINE, "'cat' is no number")]),
    (line("0 nan 0.5 0.2 0.2"), [("nan-box", LINE, "not finite")]),
    (line("0 inf 0.5 0.2 0.2"), [("infinite-box", LINE, "not finite")]),
    (line("0 0.5 0.5 0 0.2"), [("zero-box", LINE, "0 wide")]),
    (line("0 0.5 0.5 -0.1 0.2"), [("negative-box", LINE, "-0.1 wide")]),
    (line("0 0.95 0.5 0.2 0.2"), [("outside-box", LINE, "0.05 of a side")]),
    (line("0 0.5 0.5 0.2 0.2\n0 0.5 0.5 0.2 0.2"), [("duplicate-object", "labels/train/2.txt:2", "2.txt:1")]),
    (lambda root: write(root / "labels/train/9.txt", ""), [("label-without-picture", "labels/train/9.txt", "No pic")]),
    (lambda root: (root / "labels/train/2.txt").unlink(), [("unmarked-picture", "images/train", "1 of 3 pictures")]),
    (lambda root: [write(root / "train.txt", "images/train/0.png\nimages/train/9.png\n"),
                   write(root / "data.yaml", "train: train.txt\nval: images/val\nnames: [cat, dog]\n")], [
        ("missing-file", "images/train/9.png", "no such picture"), ("unlisted-picture", "images/train", "2 pictures")]),
    (settings("names: {0: cat, 1: dog}\n"), []),
    (settings("names: {0: cat, 1: {a: b}}\n"), [
        ("unnamed-class", "data.yaml", "1: {'a': 'b'}"),
        *[("wrong-class", f"labels/{part}/0.txt:2", "class is 1") for part in PARTS], ("single-class", "", "cat")]),
    (settings("nc: 3\nnames: [cat, dog]\n"), [("names-count", "data.yaml", "nc is 3, and names has 2")]),
    (settings("names: [cat, cat]\n"), [
        ("duplicate-category-name", "data.yaml", "Classes 0 and 1"), ("single-class", "", "cat")]),
    (settings("names:\n"), [("not-yolo", "data.yaml", "Its names are None")]),
    (settings("names: [a, b\n"), [("bad-yaml", "data.yaml", "not YAML")]),
    (settings("names: [cat, dog]\nnames: [cat, dog]\n"), [("bad-yaml", "data.yaml", "'names' stands twice")]),
    (settings("names: !!python/object/apply:os.system [ls]\n"), [("bad-yaml", "data.yaml", "could not determine")]),
    (lambda root: write(root / "labels/train/2.txt", b"0 0.5 0.5 0.2 0.2 \xff"), [
        ("encoding", "labels/train/2.txt", "not UTF-8")]),
    (lambda root: shutil.copy(root / "images/train/0.png", root / "images/val/0.png"), [
        ("duplicate-across-parts", "images/val/0.png", "same picture")]),
]  # fmt: skip


@pytest.fixture
def panoptic(tmp_path):
    """Pictures of two bands, a thing and stuff, with COCO's maps of them."""
    root = tmp_path / "set"
    for number, part in enumerate(PARTS):
        images, annotations = [], []
        for place in range(2):
            save(root / f"{part}/{place}.jpg", 10 * number + place)
            band(root / f"annotations/panoptic_{part}/{place}.png", 5, 9)
            images.append({"id": place, "file_name": f"{place}.jpg", "width": 40, "height": 30})
            segments = [{"id": 5, "category_id": 1}, {"id": 9, "category_id": 2}]
            annotations.append({"image_id": place, "file_name": f"{place}.png", "segments_info": segments})
        categories = [{"id": 1, "name": "cat", "isthing": 1}, {"id": 2, "name": "sky", "isthing": 0}]
        whole = {"images": images, "annotations": annotations, "categories": categories}
        write(root / f"annotations/panoptic_{part}.json", whole)
    return root


def band(path, first, second, size=(40, 30)):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new("RGB", size, (first, 0, 0))
    image.paste((second, 0, 0), (0, size[1] // 2, *size))
    image.save(path)


MAPS = "annotations/panoptic_train.json"
MAP = "annotations/panoptic_train/0.png"


def segment(place, **fields):
    return change(lambda content: content["annotations"][0]["segments_info"][place].update(fields), MAPS)


PANOPTIC = [
    (lambda root: band(root / MAP, 5, 7), [
        ("segment-without-pixels", f"{MAPS}:image 0, segment 9", "No pixel"),
        ("unlisted-segment", MAP, "600 pixels are of segment 7")]),
    (lambda root: (root / MAP).unlink(), [("missing-file", MAP, "no such map")]),
    (lambda root: band(root / MAP, 5, 9, (20, 30)), [("size-disagrees", "train/0.jpg", "40 x 30 .* says 20 x 30")]),
    (lambda root: Image.new("L", (40, 30), 5).save(root / MAP), [("map-mode", MAP, "mode L")]),
    (lambda root: write(root / MAP, b""), [("empty", MAP, "empty")]),
    (segment(0, category_id=77), [
        ("unknown-category", f"{MAPS}:image 0, segment 5", "77"), ("unlisted-segment", MAP, "600 pixels")]),
    (segment(0, id=-5), [
        ("unlisted-segment", MAP, "segment 5"), ("wrong-id", f"{MAPS}:image 0, segment [0]", "id is -5")]),
    (segment(1, id=5), [
        ("duplicate-object-id", f"{MAPS}:image 0, segment 5", "Another"), ("unlisted-segment", MAP, "segment 9")]),
    (change(lambda content: content["annotations"].pop(), MAPS), [
        ("no-segments", f"{MAPS}:image 1", "left out"), ("unlisted-picture", "train", "1.jpg")]),
    (change(lambda content: content["annotations"][0].update(segments_info=3), MAPS), [
        ("bad-record", f"{MAPS}:image 0", "segments_info"),
        *(("unlisted-segment", MAP, f"segment {n}") for n in (5, 9))]),
]  # fmt: skip


def test_a_list_leaves_pictures_out_and_their_text_files_are_no_orphans(tmp_path):
    for name in "abcd":
        save(tmp_path / f"{name}.jpg", seed=ord(name))
        write(tmp_path / f"{name}.txt", "0 0.5 0.5 0.2 0.2\n")
    write(tmp_path / "obj.names", "cat\ndog\n")
    write(tmp_path / "train.txt", "a.jpg\n")
    write(tmp_path / "test.txt", "b.jpg\n")
    write(tmp_path / "lost.txt", "0 0.5 0.5 0.2 0.2\n")
    faults = check(tmp_path)
    assert [fault.path for fault in faults if fault.code == "label-without-picture"] == [str(tmp_path / "lost.txt")]
    assert [fault.path for fault in faults if fault.code == "unlisted-picture"]


TABLES = {"coco": COCO, "voc": VOC, "yolo": YOLO, "panoptic": PANOPTIC}
CASES = [
    pytest.param(kind, spoil, wanted, id=f"{kind}-{number}-{wanted[0][0] if wanted else 'sound'}")
    for kind, table in TABLES.items()
    for number, (spoil, wanted) in enumerate(table)
]


@pytest.mark.parametrize("kind", TABLES)
def test_a_sound_data_set_has_no_fault(request, kind):
    root = request.getfixturevalue(kind)
    assert check(root) == []
    assert open_splits(root).notes == []


def read_all(root):
    return [part[index] for part in open_splits(root)[:2] for index in range(len(part))]


@pytest.mark.parametrize(("kind", "spoil", "wanted"), CASES)
def test_a_damaged_data_set_has_exactly_the_faults_it_has(request, kind, spoil, wanted):
    root = request.getfixturevalue(kind)
    spoil(root)
    found = check(root)
    told = sorted((one.code, str(Path(one.path).relative_to(root)).removeprefix(".")) for one in found)
    assert told == sorted((code, place) for code, place, _ in wanted), found
    for code, place, words in wanted:
        alike = [one for one in found if one.code == code and one.path == str(root / place if place else root)]
        assert any(re.search(words, one.reason) for one in alike), alike
    assert all(one.severity == SEVERITIES[one.code] for one in found)
    if any(one.code in MARKED_ERRORS and one.code != "no-objects" for one in found):
        with pytest.raises(VitrailError):  # what a check calls an error, nothing is learned from
            read_all(root)
    elif not any(one.severity == "error" for one in found):
        assert all(sample.objects is not None for sample in read_all(root))


def test_every_code_is_tried_and_there_are_forty_kinds():
    tried = {code for table in TABLES.values() for _, wanted in table for code, _, _ in wanted}
    assert {*MARKED_ERRORS, *MARKED_WARNINGS, *MARKED_NOTES} <= tried
    assert len(tried) >= 60


@pytest.mark.parametrize("kind", TABLES)
def test_anything_at_all_in_the_files_is_reported_and_never_a_traceback(request, kind):
    """Letters of the annotation files are changed at random; checking says what it finds, opening refuses or reads."""
    root, dice = request.getfixturevalue(kind), random.Random(0)
    files = sorted(file for file in root.rglob("*") if file.suffix in (".json", ".xml", ".txt", ".yaml"))
    sound = {file: file.read_bytes() for file in files}
    for _ in range(60):
        for file in dice.sample(files, 2):
            text = bytearray(sound[file])
            for _ in range(dice.randint(1, 4)):
                if text:
                    text[dice.randrange(len(text))] = dice.choice(b'0-9.,:"{}[]<>e \xff\x00null')
            file.write_bytes(bytes(text))
        check(root)
        try:
            data = open_dataset(root, "train")
            [ObjectTransform(SMALL, ObjectAugment())(data[index], (0, 0, index)) for index in range(len(data))]
        except VitrailError:
            pass
        for file in files:
            file.write_bytes(sound[file])


def test_the_command_names_every_fault_and_exits_with_one(coco, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where it draws what is marked
    box(4, 5, -3, 20, area=1)(coco)
    assert main(["check", "--data", str(coco)]) == 1
    told = capsys.readouterr()
    assert f"{coco}/{A11}: error: Its box is -3 wide and 20 high. [negative-box]" in told.out
    assert "must be put right before training" in told.err


def test_real_data_have_the_faults_that_are_known(shared):
    found = {one.code: one for one in check(shared / "data/panoptic/panopticapi_samples/panoptic_examples.json")}
    assert "unlisted-segment" not in found
    assert not any(one.severity == "error" for one in found.values())


def test_a_name_with_half_a_character_is_shown_and_not_tripped_over(coco, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = coco / TRAIN
    content = json.loads(file.read_text())
    content["images"][0]["file_name"] = "half\ud800.png"
    content["images"].append({**content["images"][1], "id": content["images"][0]["id"]})
    file.write_text(json.dumps(content))
    assert main(["check", "--data", str(coco)]) == 1
    told = capsys.readouterr().out
    assert "half\\ud800.png: error: There is no such picture" in told
    assert "half\\ud800.png has this id too" in told
