"""The first day of a new user: a folder of pictures, and every command in the order of the README."""

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import vitrail
from vitrail.cli.main import main
from vitrail.data.open import open_dataset

TINY = ("depth=2", "dim=24", "heads=2", "mlp_dim=48", "image=32", "patch=8")


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """A folder with `shapes/train` and `shapes/val`, pictures in folders named as their classes."""
    folder = tmp_path_factory.mktemp("home")
    for part, count in (("train", 40), ("val", 20)):
        scenes = open_dataset(f"scenes:{5 * count if part == 'val' else count},size=48x40", part)
        for index in range(count):
            scene = scenes[index]
            place = folder / "shapes" / part / scenes.classes[scene.label]
            place.mkdir(parents=True, exist_ok=True)
            scene.picture.read().save(place / f"{index}.png")
    return folder


@pytest.fixture(scope="module")
def run(home) -> Path:
    """What `vitrail train` leaves in the default place."""
    settings = [word for one in TINY for word in ("--set", f"model.{one}")]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        words = ["train", "vit-tiny-16", "--data", "shapes/", "--epochs", "1", "--batch", "8", "--workers", "0"]
        assert main([*words, *settings]) == 0
    return home / "runs" / "classify" / "shapes"


@pytest.fixture
def typed(home, run, monkeypatch, capsys):
    """Types a command at home and gives its exit code and what it printed."""
    monkeypatch.chdir(home)

    def type(*words: str) -> tuple[int, str]:
        capsys.readouterr()
        code = main(list(words))
        return code, capsys.readouterr().out

    return type


def test_check_finds_nothing_wrong(typed):
    code, printed = typed("check", "--data", "shapes/")
    assert code == 0
    assert "ready to train on" in printed


def test_check_names_a_file_that_is_no_picture(typed, tmp_path):
    for name, colour in (("a", "red"), ("b", "blue")):
        (tmp_path / name).mkdir()
        Image.new("RGB", (8, 8), colour).save(tmp_path / name / "good.png")
    (tmp_path / "a" / "bad.jpg").write_text("not a picture")
    code, printed = typed("check", "--data", str(tmp_path))
    assert code == 1
    assert f"{tmp_path / 'a' / 'bad.jpg'}: error:" in printed


def test_the_run_folder_holds_everything(run):
    expected = {"config.json", "card.json", "model.safetensors", "manifest.json", "recipe.json", "metrics.jsonl"}
    assert expected | {"metrics.csv", "report.html", "scores.json"} <= {path.name for path in run.iterdir()}


def test_resuming_a_finished_run_changes_nothing(typed, run):
    before = (run / "model.safetensors").read_bytes()
    assert typed("resume", "runs/classify/shapes")[0] == 0
    assert (run / "model.safetensors").read_bytes() == before


def test_evaluate_scores_a_folder(typed, run):
    code, printed = typed("evaluate", str(run), "--data", "shapes/val", "--workers", "0", "--json")
    told = json.loads(printed)
    assert code == 0
    assert told["seen"] == 20
    assert 0 <= told["scores"]["top1"] <= 1
    assert (run / "evaluated-val" / "report.html").exists()


def test_predict_gives_lines_of_json_and_goes_on_after_a_bad_file(typed, run, home):
    (home / "bad.jpg").write_text("not a picture")
    code, printed = typed("predict", str(run), "shapes/val", "bad.jpg", "--json", "--top", "2")
    records = [json.loads(line) for line in printed.splitlines()]
    assert code == 1
    assert len(records) == 21
    assert records[-1]["file"] == "bad.jpg"
    assert "error" in records[-1]
    assert all(len(record["guesses"]) == 2 for record in records[:-1])


def test_predict_gives_a_table_for_a_spreadsheet(typed, run):
    code, printed = typed("predict", str(run), "shapes/val/*/*.png", "--csv", "--top", "1")
    rows = list(csv.DictReader(io.StringIO(printed)))
    assert code == 0
    assert len(rows) == 20
    assert {row["label"] for row in rows} <= set(vitrail.open_dataset("shapes/val").classes)


def test_predict_prints_what_python_says(typed, run, home):
    picture = next((home / "shapes" / "val").rglob("*.png"))
    _, printed = typed("predict", str(run), str(picture), "--json", "--top", "1")
    [result] = vitrail.predictor(run, announce=lambda sentence: None)(picture)
    assert json.loads(printed)["label"] == result.top(1)[0].label


def test_features_have_the_width_of_the_model(typed, run):
    code, printed = typed("predict", str(run), "shapes/val", "--features")
    assert code == 0
    assert {len(json.loads(line)["features"]) for line in printed.splitlines()} == {24}


def test_predict_without_pictures_says_what_to_type(typed, run):
    assert typed("predict", str(run))[0] == 2


def test_explain_draws_the_attention_of_a_pixel(typed, run, home):
    picture = str(next((home / "shapes" / "val").rglob("*.png")))
    code, printed = typed("explain", str(run), picture, "--at", "20", "20", "--layer", "1", "--out", "seen.png")
    assert code == 0
    assert printed.startswith("seen.png: Attention in layer 1 of 2, asked about the patch at x = 20, y = 20.")
    assert "The model's answer: " in printed
    assert "For this drawing 1 row of attention took " in printed
    assert Image.open(home / "seen.png").size > (300, 300)
    with np.load(home / "seen.npz") as numbers:
        assert numbers["maps"].shape[0] == len(numbers["heads"])


@pytest.mark.parametrize("method", ["attention", "rollout", "relevance", "gradient"])
def test_explain_says_how_far_an_explanation_can_be_trusted(typed, run, home, method):
    picture = str(next((home / "shapes" / "val").rglob("*.png")))
    code, printed = typed("explain", str(run), picture, "--method", method, "--faithful", "--out", "why.png")
    assert code == 0
    for said in (
        "Hiding its strongest parts first",
        "Showing them first",
        "models of shuffled weights, over ",
    ):
        assert said in printed
    with np.load(home / "why.npz") as numbers:
        assert numbers["map"].ndim == 2


def test_several_points_and_layers_are_one_sheet(typed, run, home):
    picture = str(next((home / "shapes" / "val").rglob("*.png")))
    points = ("--at", "10", "10", "--at", "30", "20")
    code, printed = typed("explain", str(run), picture, *points, "--layers", "1", "2", "--heads", "all")
    assert code == 0
    assert printed.startswith(
        "attention.png: Attention in layers 1, 2 of 2, asked about the patch at x = 10, y = 10 and"
    )
    with np.load(home / "attention.npz") as numbers:
        assert numbers["layers"].tolist() == [0, 1, 0, 1]
        assert numbers["asked"].tolist() == [[10, 10], [10, 10], [30, 20], [30, 20]]


def test_layers_and_heads_may_be_counted_from_the_end_and_all_layers_are_one_word(typed, run, home):
    picture = str(next((home / "shapes" / "val").rglob("*.png")))
    drawn = {}
    for layer, head in (("2", "2"), ("-1", "-1"), ("all", "-2")):
        assert typed("explain", str(run), picture, "--layers", layer, "--heads", head)[0] == 0
        with np.load(home / "attention.npz") as numbers:
            drawn[layer] = {name: numbers[name] for name in numbers.files}
    np.testing.assert_array_equal(drawn["2"]["maps"], drawn["-1"]["maps"])
    assert drawn["-1"]["heads"].tolist() == [1]
    assert drawn["all"]["layers"].tolist() == [0, 1]
    assert drawn["all"]["heads"].tolist() == [0]


def test_explain_says_what_each_head_does_and_how_places_are_known(typed, run, home):
    code, printed = typed("explain", str(run), "--heads")
    assert code == 0
    assert "Removing head" in printed
    assert Image.open(home / "heads.png").format == "PNG"
    with np.load(home / "heads.npz") as numbers:
        assert numbers["loss"].shape == numbers["distance"].shape
    code, printed = typed("explain", str(run), "--positions")
    assert code == 0
    assert Image.open(home / "positions.png").format == "PNG"
    assert typed("explain", str(run))[0] == 2
    assert typed("explain", str(run), "a.png", "--positions")[0] == 2


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (("--layers", "9"), "--layers 9: this model has layers 1 to 2"),
        (("--layers", "0"), "numbers counted from 1"),
        (("--layers", "-3"), "--layers -3: this model has layers 1 to 2; -1 is the last"),
        (("--layers", "a"), "--layers a: this model has layers 1 to 2; -1 is the last. Type several as 1 2 3, or all"),
        (("--layers", "1-3"), "--layers 1-3: this model has layers 1 to 2; -1 is the last."),
        (("--heads", "-9"), "--heads -9: this model has heads 1 to 2; -1 is the last"),
        (("--heads", "99"), "--heads 99: this model has heads 1 to"),
        (("--method", "rollout", "--target", "circle"), "rollout does not depend on a class"),
        (("--method", "relevance", "--target", "unicorn"), "no class called 'unicorn'"),
        (("--method", "relevance", "--at", "1", "2"), "--at, --layers and --heads ask single tokens"),
    ],
)
def test_what_cannot_be_explained_is_a_sentence(home, run, monkeypatch, capsys, flags, sentence):
    monkeypatch.chdir(home)
    picture = str(next((home / "shapes" / "val").rglob("*.png")))
    assert main(["explain", str(run), picture, *flags, "--out", "never.png"]) in (1, 2)
    assert sentence in capsys.readouterr().err
    assert not (home / "never.png").exists()


def test_convert_to_transformers_and_back_changes_no_number(typed, run, home):
    assert typed("convert", str(run), "--to", "transformers", "for-transformers")[0] == 0
    assert typed("convert", "for-transformers", "--to", "vitrail", "back")[0] == 0
    ours, back = (vitrail.from_pretrained(path, announce=lambda _: None) for path in (run, home / "back"))
    images = torch.rand(2, 3, 32, 32)
    assert torch.equal(ours(images), back(images))
    assert back.card.labels == ours.card.labels


def test_info_tells_of_the_run(typed, run):
    code, printed = typed("info", str(run), "--json")
    told = json.loads(printed)
    assert code == 0
    assert told["tokens"] == 17
    assert told["config"]["dim"] == 24


def test_a_dry_run_leaves_nothing_behind(typed, home):
    before = set(home.rglob("*"))
    words = ("train", "vit-tiny-16", "--data", "shapes/", "--workers", "0", "--dry-run", "--batch", "4")
    code, printed = typed(*words, *(word for one in TINY for word in ("--set", f"model.{one}")))
    assert code == 0
    assert "Parameters" in printed
    assert set(home.rglob("*")) == before


def test_a_second_run_does_not_touch_the_first(typed, run):
    settings = [word for one in TINY for word in ("--set", f"model.{one}")]
    before = (run / "model.safetensors").read_bytes()
    assert typed("train", "vit-tiny-16", "--data", "shapes/", "--epochs", "1", "--workers", "0", *settings)[0] == 0
    assert (run / "model.safetensors").read_bytes() == before
    assert (run.parent / "shapes-2" / "model.safetensors").exists()
