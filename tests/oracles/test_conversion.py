"""Marked objects written in another format are the same when they are read again."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from vitrail.cli.main import main
from vitrail.data import conversion
from vitrail.data.check import check
from vitrail.data.conversion import convert_data
from vitrail.data.dataset import class_ids_of
from vitrail.data.files import number_of, numbers_of
from vitrail.data.open import open_dataset, parts
from vitrail.errors import ConfigError, DataError

POLYGON = [[4.5, 5.25, 14, 5.25, 14, 25, 4.5, 25]]
BOXES = ([4.5, 5.25, 9.5, 19.75], [0, 0, 40, 30], [3, 3, 9, 9])


@pytest.fixture
def coco(tmp_path):
    """Two parts; categories 3 and 90; one object is a crowd, and one picture is turned by EXIF."""
    turned = Image.Exif()
    turned[0x0112] = 6
    for number, part in enumerate(("train", "val")):
        folder = tmp_path / "coco" / part
        folder.mkdir(parents=True)
        for place in range(3):
            pixels = np.random.default_rng(10 * number + place).integers(0, 256, (30, 40, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{place}.png", exif=turned if place == 1 else None)
        annotations = [
            {"id": 7 + n, "image_id": 10 * (n == 2), "category_id": (3, 90, 3)[n], "bbox": box, "area": 50 + n,
             "iscrowd": int(n == 1), "segmentation": POLYGON if n == 0 else []} for n, box in enumerate(BOXES)
        ]  # fmt: skip
        images = [{"id": 10 * n, "file_name": f"{n}.png", "width": 40, "height": 30} for n in range(3)]
        categories = [{"id": 3, "name": "cat & <dog>"}, {"id": 90, "name": "日"}]
        content = {"images": images, "annotations": annotations, "categories": categories}
        file = tmp_path / f"coco/annotations/instances_{part}.json"
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps(content))
    return tmp_path / "coco"


def contents(path, part, *, crowds=True):
    """Pictures, and the class and box of every object, in an order that no format decides."""
    data, found = open_dataset(path, part), []
    for sample in (data[index] for index in range(len(data))):
        objects = sample.objects if crowds else sample.objects.only(~sample.objects.crowd)
        rows = zip(objects.labels.tolist(), objects.boxes_xyxy.tolist(), objects.crowd.tolist(), strict=True)
        named = sorted((data.classes[label], crowd, *np.round(box, 2)) for label, box, crowd in rows)
        found.append((data.fingerprint(len(found)), named))
    return found


@pytest.mark.parametrize("to", ["coco", "voc", "yolo"])
def test_boxes_survive_every_format_and_the_way_back(coco, tmp_path, to):
    before = {file: file.read_bytes() for file in coco.rglob("*") if file.is_file()}
    notes = convert_data(str(coco), tmp_path / "there", to)
    convert_data(str(tmp_path / "there"), tmp_path / "back", "coco")
    for place in (tmp_path / "there", tmp_path / "back"):
        assert parts(place) == ("train", "val")
        for part in ("train", "val"):
            assert contents(place, part, crowds=to != "yolo") == contents(coco, part, crowds=to != "yolo")
        assert not [one for one in check(place) if one.severity != "note"]
    assert {file: file.read_bytes() for file in coco.rglob("*") if file.is_file()} == before
    told = " ".join(notes)
    assert ("2 objects without the outline" in told) == (to == "voc")
    assert ("2 objects marked as a crowd (iscrowd) are left out: YOLO cannot say" in told) == (to == "yolo")
    assert ("2 objects marked as a crowd (iscrowd) are difficult now" in told) == (to == "voc")
    assert ("Class numbers are 0 to 1 now, and stay so on the way back; they were 3 to 90: 3, 90." in told) == (
        to == "yolo"
    )
    assert (
        "keeps no class numbers, and classes are read from it sorted by name; they were 3 to 90: 3, 90." in told
    ) == (to == "voc")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["back", "coco", "there"]


def test_what_was_difficult_is_a_crowd_and_it_is_said(coco, tmp_path):
    convert_data(str(coco), tmp_path / "voc", "voc")
    to_coco, to_yolo, to_voc = (
        " ".join(convert_data(str(tmp_path / "voc"), tmp_path / f"out-{to}", to)) for to in ("coco", "yolo", "voc")
    )
    assert "2 objects marked difficult are a crowd (iscrowd) now: neither learned nor judged in either" in to_coco
    assert "2 objects marked difficult are left out: YOLO cannot say" in to_yolo
    assert " now" not in to_voc


def test_coco_to_coco_keeps_ids_areas_crowds_and_outlines(coco, tmp_path):
    convert_data(str(coco), tmp_path / "out", "coco")
    one, other = (open_dataset(place, "train") for place in (coco, tmp_path / "out"))
    assert class_ids_of(other) == (3, 90)
    for index in range(3):
        sample, again = one[index], other[index]
        assert (sample.number, sample.objects.ids) == (again.number, again.objects.ids)
        assert torch.equal(sample.objects.areas, again.objects.areas)
        assert torch.equal(sample.objects.masks, again.objects.masks)
        assert sample.objects.crowd.tolist() == again.objects.crowd.tolist()


def test_yolo_keeps_polygons_where_every_object_has_one(coco, tmp_path):
    for part in ("train", "val"):
        file = coco / f"annotations/instances_{part}.json"
        content = json.loads(file.read_text())
        content["annotations"] = content["annotations"][:1]
        file.write_text(json.dumps(content))
    convert_data(str(coco), tmp_path / "out", "yolo")
    line = (tmp_path / "out/labels/train/0.txt").read_text().split()
    assert [float(value) for value in line] == pytest.approx(
        [0, 0.1125, 0.175, 0.35, 0.175, 0.35, 25 / 30, 0.1125, 25 / 30], abs=1e-7
    )
    one, other = (open_dataset(place, "train")[0].objects for place in (coco, tmp_path / "out"))
    assert torch.equal(one.masks, other.masks)


@pytest.mark.parametrize("to", ["coco", "voc", "yolo"])
def test_generated_scenes_become_files(tmp_path, to):
    spelling = "scenes:5,objects=3,size=48x64"
    convert_data(spelling, tmp_path / "out", to)
    assert parts(tmp_path / "out") == ("train", "val", "test")
    made, read = open_dataset(spelling, "train"), open_dataset(tmp_path / "out", "train")
    for index in range(5):
        one, other = made[index], read[index]
        assert np.array_equal(one.picture.read(), other.picture.read())
        assert torch.allclose(one.objects.boxes_xyxy, other.objects.boxes_xyxy, atol=1e-3)
        if to == "coco":
            assert torch.equal(one.objects.masks, other.objects.masks)
    assert sum("outline" in note for note in convert_data(spelling, tmp_path / "again", to)) == (to != "coco")


def test_nothing_is_half_written_and_nothing_overwritten(coco, tmp_path, monkeypatch):
    (tmp_path / "full").mkdir()
    (tmp_path / "full/a").write_text("")
    with pytest.raises(ConfigError, match="Nothing is overwritten"):
        convert_data(str(coco), tmp_path / "full", "voc")
    copied = []

    def fails(source, target):
        copied.append(target)
        if len(copied) == 4:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(conversion.shutil, "copyfile", fails)
    with pytest.raises(OSError, match="No space"):
        convert_data(str(coco), tmp_path / "out", "yolo")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["coco", "full"]


def test_what_has_no_boxes_is_refused_in_a_sentence(tmp_path):
    with pytest.raises(DataError, match="is for panoptic, and coco is written of boxes"):
        convert_data("scenes:5,panoptic", tmp_path / "out", "coco")
    with pytest.raises(DataError, match="is for classify"):
        convert_data("scenes:5", tmp_path / "out", "voc")
    (tmp_path / "words.txt").write_text("one two three\n")
    with pytest.raises(DataError, match="has no marked objects"):
        convert_data(str(tmp_path / "words.txt"), tmp_path / "out", "voc")


def test_the_command_says_where_it_wrote(coco, tmp_path, capsys):
    assert main(["convert", str(coco), str(tmp_path / "out"), "--to", "yolo"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(tmp_path / "out")
    assert main(["convert", str(coco), str(tmp_path / "out"), "--to", "voc"]) == 1
    assert "not empty" in capsys.readouterr().err


def test_real_boxes_survive_the_way_through_all_three(shared, tmp_path):
    source = shared / "data/detection/bccd_voc"
    for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (tmp_path / "few" / folder).mkdir(parents=True)
    names = (source / "ImageSets/Main/train.txt").read_text().split()[:12]
    for name in names:
        (tmp_path / f"few/Annotations/{name}.xml").write_bytes((source / f"Annotations/{name}.xml").read_bytes())
        (tmp_path / f"few/JPEGImages/{name}.jpg").symlink_to(source / f"JPEGImages/{name}.jpg")
    for part, those in (("train", names[:8]), ("val", names[8:])):
        (tmp_path / f"few/ImageSets/Main/{part}.txt").write_text("\n".join(those))
    before = tmp_path / "few"
    for to in ("yolo", "coco", "voc"):
        convert_data(str(before), tmp_path / to, to)
        before = tmp_path / to
    for part in ("train", "val"):
        assert contents(tmp_path / "voc", part) == contents(tmp_path / "few", part)


@pytest.mark.parametrize("to", ["voc", "yolo"])
def test_pictures_are_called_alike_in_every_format_and_by_predict(coco, tmp_path, to):
    names, file = ("000012.png", "b.png", "7.png"), coco / "annotations/instances_train.json"
    content = json.loads(file.read_text())
    for place, (name, image) in enumerate(zip(names, content["images"], strict=True)):
        (coco / f"train/{place}.png").rename(coco / "train" / name)
        image["file_name"] = name
    file.write_text(json.dumps(content))
    convert_data(str(coco), tmp_path / "there", to)
    convert_data(str(tmp_path / "there"), tmp_path / "back", "coco")
    source, back = (open_dataset(place, "train") for place in (tmp_path / "there", tmp_path / "back"))
    assert {sample.number for sample in map(source.__getitem__, range(3))} == {number_of(name) for name in names}
    told = {sample.picture.path.name: sample.number for sample in map(back.__getitem__, range(3))}
    assert told == {"000012.png": 12, "b.png": 13, "7.png": 7}


def test_classes_that_a_format_cannot_keep_are_told(coco, tmp_path):
    for part in ("train", "val"):
        file = coco / f"annotations/instances_{part}.json"
        content = json.loads(file.read_text())
        content["categories"].append({"id": 91, "name": "emu"})
        file.write_text(json.dumps(content))
    told = {to: " ".join(convert_data(str(coco), tmp_path / f"to-{to}", to)) for to in ("voc", "yolo", "coco")}
    sentence = "1 class without an object is left out, as Pascal VOC lists none: emu."
    assert [to for to in told if sentence in told[to]] == ["voc"]


def test_a_broken_picture_is_copied_and_said(coco, tmp_path):
    cut = coco / "train/0.png"
    cut.write_bytes(cut.read_bytes()[:-40])
    notes = convert_data(str(coco), tmp_path / "voc", "voc")
    assert notes[-1] == "6 pictures written."
    assert notes[-2].startswith(f"{cut}: It is cut short")
    assert notes[-2].endswith("It is copied as it is.")


def test_numbers_that_two_pictures_share_are_told_apart():
    assert numbers_of(["a/1.png", "b/1.png", "b/c.png", "d/c.png", "2.png"]) == [1, "b/1.png", "c.png", "d/c.png", 2]
    assert number_of("1234567890123456.png") == "1234567890123456.png"
    assert numbers_of(["a/1.png"] * 4) == [1, "a/1.png", "a/1.png (2)", "a/1.png (3)"]
    assert numbers_of(["1/a.png", "a.png", "a.png"]) == ["a.png", "a.png (2)", "a.png (3)"]
