"""A detector from marked pictures to files that other tools read, as a new user would type it."""

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from vitrail.cli import seen
from vitrail.cli.main import main
from vitrail.evaluate import judge
from vitrail.loading import create_model, save_pretrained


def write_voc(folder, count=8):
    """Pictures with a bright square or a dark disc, in Pascal VOC's layout."""
    random = np.random.default_rng(0)
    for name in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (folder / name).mkdir(parents=True)
    names = [f"{number:06d}" for number in range(count)]
    for name in names:
        pixels = np.full((64, 80, 3), 90, np.uint8)
        left, top = int(random.integers(2, 40)), int(random.integers(2, 30))
        pixels[top : top + 24, left : left + 30] = (250, 240, 230)
        Image.fromarray(pixels).save(folder / "JPEGImages" / f"{name}.jpg", quality=95)
        (folder / "Annotations" / f"{name}.xml").write_text(
            f"<annotation><filename>{name}.jpg</filename><size><width>80</width><height>64</height><depth>3</depth>"
            f"</size><object><name>square</name><difficult>0</difficult><bndbox><xmin>{left + 1}</xmin>"
            f"<ymin>{top + 1}</ymin><xmax>{left + 30}</xmax><ymax>{top + 24}</ymax></bndbox></object></annotation>"
        )
    for part, members in (("train", names[:-2]), ("val", names[-2:])):
        (folder / f"ImageSets/Main/{part}.txt").write_text("\n".join(members) + "\n")
    return folder


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Marked pictures, and a detector that has seen them for a few steps."""
    folder = tmp_path_factory.mktemp("detection")
    data = write_voc(folder / "squares")
    small = ["data.shorter=48", "data.longer=80", "model.encoder_depth=1", "model.decoder_depth=1", "model.queries=9"]
    small += ["task.nms=1"]  # all that the nine say
    typed = ["train", "detr-tiny", "--data", str(data), "--out", str(folder / "run"), "--epochs", "2", "--batch", "3"]
    assert main([*typed, "--workers", "0", *(word for one in small for word in ("--set", one))]) == 0
    return folder


def test_a_run_keeps_what_it_was_shown_and_how_it_scored(place):
    assert Image.open(place / "run/targets.png").size[0] > 400
    scores = json.loads((place / "run/scores.json").read_text())["scores"]
    assert {"ap", "ap50", "ap75", "ar100"} <= scores.keys()
    card = json.loads((place / "run/card.json").read_text())
    assert card["task"] == "detect"
    assert card["labels"] == ["square"]
    assert card["preprocessing"]["shorter"] == 48


def test_pictures_are_drawn_and_what_is_in_them_is_said(place, capsys):
    pictures = str(place / "squares/JPEGImages")
    assert main(["predict", str(place / "run"), pictures, "--threshold", "0", "--out", str(place / "drawn")]) == 0
    assert "9 square" in capsys.readouterr().out
    assert len(list((place / "drawn").glob("*.jpg"))) == 8


def test_json_is_what_coco_tools_read(place, capsys):
    assert main(["predict", str(place / "run"), str(place / "squares/JPEGImages"), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert len(rows) == 8 * 9
    assert {row["image_id"] for row in rows} == set(range(8))
    assert all(len(row["bbox"]) == 4 and 0 <= row["score"] <= 1 for row in rows)


def test_top_is_refused_and_threshold_named(place, capsys):
    assert main(["predict", str(place / "run"), str(place / "squares/JPEGImages"), "--top", "3"]) == 2
    assert "this one finds objects, each with one label" in (told := capsys.readouterr().err)
    assert "type --threshold 0.5" in told


def test_repeats_are_left_out_on_demand(place, capsys):
    picture, typed = str(place / "squares/JPEGImages/000003.jpg"), ["--csv", "--threshold", "0", "--nms"]
    assert main(["predict", str(place / "run"), picture, *typed, "0"]) == 0
    [_, *apart] = capsys.readouterr().out.splitlines()
    assert main(["predict", str(place / "run"), picture, *typed, "1"]) == 0
    [_, *every] = capsys.readouterr().out.splitlines()
    assert 1 <= len(apart) < len(every) == 9
    assert set(apart) < set(every)


def test_csv_and_yolo_say_the_same(place, capsys):
    picture = str(place / "squares/JPEGImages/000003.jpg")
    assert main(["predict", str(place / "run"), picture, "--csv", "--threshold", "0"]) == 0
    head, *rows = capsys.readouterr().out.splitlines()
    assert head == "file,label,score,left,top,right,bottom,query"
    assert main(["predict", str(place / "run"), picture, "--yolo", "--threshold", "0", "--out", str(place / "y")]) == 0
    assert "1 text file in" in (said := capsys.readouterr().out)
    assert "with classes.txt: 9 objects." in said
    lines = (place / "y/000003.txt").read_text().splitlines()
    assert len(lines) == len(rows) == 9
    assert {len(line.split()) for line in lines} == {5}, "labels, to be learned from"
    left, right = (float(rows[0].split(",")[column]) for column in (3, 5))
    assert float(lines[0].split()[1]) * 80 == pytest.approx((left + right) / 2, abs=0.01)


def test_labels_without_objects_are_counted(place, capsys, tmp_path):
    folder = str(place / "squares/JPEGImages")
    assert (
        main(["predict", str(place / "run"), folder, "--yolo", "--threshold", "1", "--out", str(tmp_path / "y")]) == 0
    )
    said = capsys.readouterr().out
    count = len(list((place / "squares/JPEGImages").iterdir()))
    assert f"{count} text files in {tmp_path / 'y'}, with classes.txt: 0 objects, {count} of them without any." in said


def test_large_pictures_are_looked_at_in_tiles(place, capsys):
    picture = str(place / "squares/JPEGImages/000001.jpg")
    typed = ["predict", str(place / "run"), picture, "--tile", "40", "--overlap", "0.25", "--csv", "--threshold", "0"]
    assert main(typed) == 0
    rows = [line.split(",") for line in capsys.readouterr().out.splitlines()[1:]]
    assert rows
    assert all(-0.01 <= float(row[3]) <= float(row[5]) <= 80.01 for row in rows)


def test_its_report_offers_no_conversion_that_there_is_not(place):
    page = (place / "run/report.html").read_text()
    assert "vitrail evaluate" in page
    assert "vitrail convert" not in page


def test_it_is_judged_by_the_part_for_that(place, capsys):
    assert main(["evaluate", str(place / "run"), "--data", str(place / "squares"), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["seen"] == 2
    assert report["task"] == "detect"


def test_a_long_judgement_says_how_far_it_is(place, capsys, monkeypatch):
    times = iter(range(0, 1000, 30))
    monkeypatch.setattr(judge, "time", SimpleNamespace(monotonic=lambda: float(next(times))))
    typed = ["evaluate", str(place / "run"), "--data", str(place / "squares"), "--batch", "1", "--workers", "0"]
    assert main(typed) == 0
    assert "50% judged, about 60 s left." in capsys.readouterr().err


def test_many_pictures_say_how_many_there_have_been(place, capsys, monkeypatch):
    times = iter(range(0, 1000, 30))
    monkeypatch.setattr(seen, "time", SimpleNamespace(monotonic=lambda: float(next(times))))
    folder = str(place / "squares/JPEGImages")
    assert main(["predict", str(place / "run"), folder, "--csv", "--batch", "2", "--threshold", "0.999"]) == 0
    assert "2 pictures so far, 0.0667 a second." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("--threshold 7", "--threshold 7 is no share"),
        ("--nms 7", "--nms 7 is no share"),
        ("--overlap 0.2", "Type --tile 800 as well"),
        ("--tile 4", "--tile 4 shows hardly anything"),
        ("--json --csv", "Type one of them"),
        ("--csv --out found.csv", "--csv prints, and --out is for drawings and text files: type > found.csv"),
        ("--beam 4", "models of texts"),
    ],
)
def test_what_makes_no_sense_is_said_in_a_sentence(place, capsys, typed, said):
    picture = str(place / "squares/JPEGImages/000001.jpg")
    assert main(["predict", str(place / "run"), picture, *typed.split()]) in (1, 2)
    assert said in capsys.readouterr().err


def test_a_few_pictures_are_learned_by_heart_as_a_trial(place, tmp_path, capsys):
    typed = ["train", "detr-tiny", "--data", str(place / "squares"), "--out", str(tmp_path / "run"), "--overfit", "2"]
    small = ["data.shorter=48", "data.longer=80", "model.encoder_depth=1", "model.decoder_depth=1", "steps=3"]
    assert main([*typed, "--batch", "2", *(word for one in small for word in ("--set", one))]) == 0
    printed = capsys.readouterr().out
    assert "Only 2 pictures are learned from, by heart" in printed
    assert "Not known by heart: ap50" in printed


def test_two_pictures_of_one_name_are_not_taken_for_one(place, tmp_path, capsys):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        shutil.copy(place / "squares/JPEGImages/000003.jpg", tmp_path / folder)
    both = [str(tmp_path / folder) for folder in ("a", "b")]
    assert main(["predict", str(place / "run"), *both, "--json"]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "would both be image_id 3. Predict one folder at a time" in printed.err
    assert main(["predict", str(place / "run"), *both, "--yolo", "--out", str(tmp_path / "y")]) == 0
    assert sorted(path.name for path in (tmp_path / "y").iterdir()) == ["000003-2.txt", "000003.txt", "classes.txt"]


def test_more_objects_than_queries_is_said_before_training(tmp_path, capsys):
    typed = ["train", "detr-tiny", "--data", "scenes:8,size=48x64,objects=5", "--out", str(tmp_path / "run")]
    assert main([*typed, "--set", "model.queries=4", "--set", "steps=1", "--batch", "2", "--workers", "0"]) == 0
    assert "The fullest picture has 5 objects, and the model 4 queries" in capsys.readouterr().out


def test_a_classifier_cannot_learn_from_boxes(place, capsys):
    assert main(["train", "vit-tiny-16", "--data", str(place / "squares")]) == 1
    assert "vit-tiny-16 cannot learn. Models that can: detr-" in capsys.readouterr().err


def test_a_detector_says_what_it_costs_and_how_it_reads(capsys):
    assert main(["info", "detr-tiny"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "shorter side to 800, longer to 1333 at most" in printed
    assert "50 x 67 patches" in printed


def test_weights_of_another_family_are_refused_in_a_sentence(place, tmp_path, capsys):
    other = create_model("resnet-18", stem=4, widths=(4, 4, 4, 4), layers=(1, 1, 1, 1))
    save_pretrained(other, tmp_path / "other", announce=lambda words: None)
    typed = ["train", "detr-tiny", "--data", str(place / "squares"), "--init", str(tmp_path / "other")]
    assert main([*typed, "--out", str(tmp_path / "run")]) == 1
    said = capsys.readouterr().err
    assert "our mistake" not in said
    assert "detr" in said
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_weights_from_generated_scenes_learn_photographs_as_fresh_ones_do(place, tmp_path, capsys):
    small = ["--set", "model.encoder_depth=1", "--set", "model.decoder_depth=1", "--set", "model.queries=9"]
    run, scenes = str(tmp_path / "scenes"), "scenes:8,size=48x64,objects=2"
    assert main(["train", "detr-tiny", "--data", scenes, "--out", run, "--epochs", "1", "--workers", "0", *small]) == 0
    assert json.loads((tmp_path / "scenes/card.json").read_text())["origin"].endswith(" on generated scenes")

    def recipe(init, data):
        typed = ["train", "detr-tiny", "--data", data, "--init", init, "--out", str(tmp_path / "none"), "--dry-run"]
        assert main(typed) == 0
        return capsys.readouterr().out

    photographs, said = str(place / "squares"), f"{run} has seen generated scenes and no photograph: all of it learns"
    capsys.readouterr()
    assert said in recipe(run, photographs)
    assert said not in recipe(run, scenes)
    assert said not in recipe(str(place / "run"), photographs)  # that has seen some
