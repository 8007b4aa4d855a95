"""Segments of things and stuff, from pictures whose pixels are named to files that other tools read."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from vitrail.cli.main import main
from vitrail.data.open import open_dataset
from vitrail.loading import from_pretrained
from vitrail.tasks.result_files import read_panoptic

SCENES = "scenes:6,size=48x64,panoptic"
TINY = ["model.encoder_depth=1", "model.decoder_depth=1", "model.queries=9", "model.mlp_dim=32"]


def typed(*words, settings=()):
    """Type a command; it has to go well."""
    assert main([*map(str, words), *(word for one in settings for word in ("--set", one))]) == 0


def write_coco(root):
    """Pictures of two bands, a thing and stuff, with segments and with boxes, as COCO's own folder has both."""
    categories = [{"id": 1, "name": "cat", "isthing": 1}, {"id": 2, "name": "sky", "isthing": 0}]
    segments = [{"id": 5, "category_id": 1}, {"id": 9, "category_id": 2}]
    box = {"id": 1, "image_id": 0, "category_id": 1, "bbox": [0, 0, 64, 24], "area": 64 * 24, "iscrowd": 0}
    bands = np.zeros((48, 64, 3), np.uint8)
    bands[:24, :, 0], bands[24:, :, 0] = 5, 9
    for number, part in enumerate(("train2017", "val2017")):
        for folder in (root / part, root / f"annotations/panoptic_{part}"):
            folder.mkdir(parents=True)
        noise = np.random.default_rng(number).integers(0, 256, bands.shape, dtype=np.uint8)
        Image.fromarray(noise).save(root / part / "0.jpg")
        Image.fromarray(bands).save(root / f"annotations/panoptic_{part}/0.png")
        images = [{"id": 0, "file_name": "0.jpg", "width": 64, "height": 48}]
        marked = [{"image_id": 0, "file_name": "0.png", "segments_info": segments}]
        for stem, rows, names in (("panoptic", marked, categories), ("instances", [box], categories[:1])):
            whole = {"images": images, "annotations": rows, "categories": names}
            (root / f"annotations/{stem}_{part}.json").write_text(json.dumps(whole))


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A detector, a panoptic model on it, and some pictures."""
    folder = tmp_path_factory.mktemp("panoptic")
    common = ["--data", SCENES, "--epochs", "1", "--batch", "3", "--workers", "0"]
    typed("train", "detr-tiny", *common, "--out", folder / "boxes", settings=TINY)
    typed("train", "detr-panoptic", *common, "--init", folder / "boxes", "--out", folder / "run")
    (folder / "pictures").mkdir()
    scenes = open_dataset(SCENES, "val")
    for number in range(2):
        scenes[0 if number == 0 else len(scenes) - 1].picture.read().save(folder / f"pictures/{number:06d}.png")
    return folder


def test_a_detector_stays_as_it_is_and_only_masks_are_learned(place):
    boxes, panoptic = from_pretrained(place / "boxes"), from_pretrained(place / "run")
    for name, tensor in boxes.state_dict().items():
        assert torch.equal(panoptic.state_dict()[f"detr.{name}"], tensor), name
    recipe = json.loads((place / "run/recipe.json").read_text())
    assert recipe["freeze"] == ["detr.*"]
    assert panoptic.card.task == "panoptic"
    assert boxes.card.task == "detect"
    assert sum(panoptic.card.things) == len(panoptic.card.things) - 3  # ground, wall and sky, say, are stuff


def test_of_boxes_and_segments_side_by_side_segments_are_read(place, tmp_path, capsys):
    write_coco(tmp_path / "coco")
    run = tmp_path / "run"
    common = ["--data", tmp_path / "coco", "--epochs", "1", "--batch", "3", "--workers", "0", "--out", run]
    typed("train", "detr-tiny-panoptic", *common, settings=[one.replace("model.", "model.detr.") for one in TINY])
    assert f"The segments of {tmp_path / 'coco'} are read, and nothing beside them" in capsys.readouterr().out
    assert json.loads((run / "recipe.json").read_text())["data"]["path"] == f"{tmp_path / 'coco'}:panoptic"
    typed("evaluate", run, "--data", tmp_path / "coco", "--json", "--out", tmp_path / "judged")
    assert json.loads(capsys.readouterr().out)["task"] == "panoptic"
    typed("resume", run)


def test_a_share_that_was_set_aside_judges_however_the_folder_is_typed(place, tmp_path, monkeypatch, capsys):
    write_coco(tmp_path / "coco")
    root = tmp_path / "coco"
    for stem in ("panoptic", "instances"):
        content = json.loads((root / f"annotations/{stem}_train2017.json").read_text())
        pictures = [{**content["images"][0], "id": number, "file_name": f"{number}.png"} for number in range(10)]
        marked = [{**content["annotations"][0], "id": number, "image_id": number} for number in range(10)]
        whole = {**content, "images": pictures, "annotations": marked}
        (root / f"annotations/{stem}.json").write_text(json.dumps(whole))  # in one piece
    for number in range(10):
        noise = np.random.default_rng(number).integers(0, 256, (48, 64, 3), dtype=np.uint8)
        Image.fromarray(noise).save(root / f"train2017/{number}.png")
    for part in root.glob("annotations/*2017.json"):
        part.unlink()
    shutil.copytree(root / "annotations/panoptic_train2017", root / "annotations/panoptic")
    run = tmp_path / "run"
    common = ["--epochs", "1", "--batch", "3", "--workers", "0", "--out", run]
    tiny = [one.replace("model.", "model.detr.") for one in TINY]
    monkeypatch.chdir(tmp_path)
    typed("train", "detr-tiny-panoptic", "--data", "coco/", *common, settings=tiny)
    (tmp_path / "link").symlink_to(root)
    capsys.readouterr()
    for spelled in ("coco", "coco/", "coco/:panoptic", "link", root):
        typed("evaluate", run, "--data", spelled, "--out", tmp_path / "judged")
        assert "judged by what training sets aside" in capsys.readouterr().err


def test_pictures_are_drawn_and_their_segments_named(place, capsys):
    typed("predict", place / "run", place / "pictures", "--threshold", "0", "--out", place / "drawn")
    printed = capsys.readouterr().out
    assert "000000.png" in printed
    assert len(list((place / "drawn").glob("*.jpg"))) == 2


def test_json_is_coco_panoptic(place, capsys):
    out = place / "coco"
    typed("predict", place / "run", place / "pictures", "--threshold", "0", "--json", "--out", out)
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads((out / "panoptic.json").read_text())
    assert [row["image_id"] for row in printed["annotations"]] == [0, 1]
    for seen in read_panoptic(out / "panoptic.json"):
        numbers = set(np.unique(seen.result.numbers).tolist()) - {0}
        assert numbers == {segment.number for segment in seen.result.segments}
        assert seen.result.size == (48, 64)
        assert Image.open(out / f"panoptic/{seen.name}.png").size == (64, 48)


def test_two_pictures_of_one_name_have_two_numbers(place, capsys, tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        shutil.copy(next((place / "pictures").glob("*.png")), tmp_path / folder / "x.png")
    both = [tmp_path / folder / "x.png" for folder in ("a", "b")]
    typed("predict", place / "run", *both, "--threshold", "0", "--json", "--out", tmp_path / "out")
    rows = json.loads(capsys.readouterr().out)["annotations"]
    assert [(row["image_id"], row["file_name"]) for row in rows] == [("x.png", "x.png"), (str(both[1]), "x-2.png")]


def test_it_is_judged_by_the_part_for_that(place, capsys):
    typed("evaluate", place / "run", "--data", SCENES, "--json", "--out", place / "judged")
    report = json.loads(capsys.readouterr().out)
    assert report["task"] == "panoptic"
    assert {"pq", "sq", "rq", "pq_things", "pq_stuff"} <= report["scores"].keys()
    assert (place / "judged/predictions.png").exists()


def test_queries_are_explained_as_those_of_the_detector(place, capsys):
    picture = place / "pictures/000000.png"
    typed("explain", place / "run", picture, "--query", "3", "--out", place / "looked.png")
    assert (place / "looked.png").exists()


@pytest.mark.parametrize("flag", ["--yolo", "--tile 32"])
def test_what_is_for_boxes_is_refused(place, capsys, flag):
    assert main(["predict", str(place / "run"), str(place / "pictures"), *flag.split()]) == 2
    assert "says it of every pixel" in capsys.readouterr().err
