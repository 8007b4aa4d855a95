"""A family and a task that `src` has never heard of pass through every verb, by standing in the catalog."""

import json
import re
from pathlib import Path

import pytest

import vitrail
from contracts import toy, toy_data
from vitrail import catalog
from vitrail.catalog import Entry
from vitrail.cli.main import VERBS, main
from vitrail.data import check, open


@pytest.fixture(scope="module")
def registered():
    """The toy in the catalog, for as long as this file runs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(catalog.FAMILIES, "toy", Entry("contracts.toy:FAMILY", "One attention."))
        for name in toy.FAMILY.variants:
            patch.setitem(catalog.MODELS, name, Entry("toy", "One attention."))
        patch.setitem(catalog.TASKS, "brightness", Entry("contracts.toy:Brightness", "How bright a picture is."))
        patch.setitem(catalog.RECIPES, "brightness", Entry("contracts.toy:recipe", "How bright a picture is."))
        patch.setattr(open, "PICTURES", (toy_data, *open.PICTURES))
        patch.setitem(check.CHECKS, toy_data, toy_data.check)
        yield


@pytest.fixture(scope="module")
def trained(registered, tmp_path_factory) -> Path:
    """A folder in which a toy was trained, by the command line."""
    folder = tmp_path_factory.mktemp("toy")
    data = toy_data.write(folder)
    assert main(["train", "toy-4", "--data", str(data), "--out", str(folder / "run"), "--workers", "0"]) == 0
    return folder


def test_check_reads_its_data(trained, capsys):
    assert main(["check", "--data", str(trained / "greys.toy")]) == 0
    assert "ready to train on" in capsys.readouterr().out


def test_train_leaves_a_run_with_its_card(trained):
    card = json.loads((trained / "run" / "card.json").read_text())
    assert (card["task"], card["model"]) == ("brightness", "toy-4")
    assert (trained / "run" / "report.html").exists()
    assert "error" in json.loads((trained / "run" / "scores.json").read_text())["scores"]


def test_resume_finds_nothing_left_to_do(trained):
    before = (trained / "run" / "model.safetensors").read_bytes()
    assert main(["resume", str(trained / "run")]) == 0
    assert (trained / "run" / "model.safetensors").read_bytes() == before


def test_evaluate_scores_it(trained, capsys):
    data, out = str(trained / "greys.toy"), str(trained / "scored")
    assert main(["evaluate", str(trained / "run"), "--data", data, "--out", out, "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)["scores"]) == {"error"}


def test_predict_prints_what_its_results_say(trained, capsys):
    assert main(["predict", str(trained / "run"), str(trained / "255.png"), "--json"]) == 0
    assert "brightness" in json.loads(capsys.readouterr().out)
    assert main(["predict", str(trained / "run"), str(trained / "255.png")]) == 0
    assert "brightness" in capsys.readouterr().out


def test_explain_draws_its_attention(trained):
    out = trained / "seen.png"
    picture = str(trained / "255.png")
    assert main(["explain", str(trained / "run"), picture, "--at", "9", "9", "--layer", "1", "--out", str(out)]) == 0
    assert out.read_bytes().startswith(b"\x89PNG")


def test_models_and_info_know_it(trained, capsys):
    assert main(["models", "toy*"]) == 0
    assert "toy-8" in capsys.readouterr().out
    assert main(["info", "toy-4", "--set", "side=32"]) == 0
    assert "8 x 8 patches" in capsys.readouterr().out


def test_convert_writes_what_reads_back(trained):
    assert main(["convert", str(trained / "run"), str(trained / "copy")]) == 0
    ours, copy = (vitrail.from_pretrained(trained / name, announce=lambda _: None) for name in ("run", "copy"))
    assert all((ours.state_dict()[name] == value).all() for name, value in copy.state_dict().items())


def test_a_format_that_cannot_hold_it_says_so(trained, capsys):
    assert main(["convert", str(trained / "run"), "--to", "timm", str(trained / "timm")]) == 1
    assert "timm" in capsys.readouterr().err


def test_every_verb_was_tried_or_needs_no_model():
    tried = set(re.findall(r'main\(\["([a-z]+)"', Path(__file__).read_text()))
    assert set(VERBS) - tried == {"benchmark", "doctor", "demo"}  # a benchmark has data of its own
