"""A model without attention goes through the verbs like any other, and says what it has not."""

import json
import re
from pathlib import Path

import pytest
from PIL import Image

from vitrail.cli.main import main

DATA = "scenes:20,size=64x64"
TINY = {
    "resnet-18": ["widths=8,8,16,16", "layers=1,1,1,1", "stem=8"],
    "resnetv2-50": ["widths=32,32,32,32", "layers=1,1,1,1", "stem=8", "groups=8"],
    "vit-small-hybrid-32": [
        "depth=1", "dim=24", "heads=2", "mlp_dim=24", "backbone.widths=32,32,32,32", "backbone.layers=1,1,1,1",
        "backbone.stem=8", "backbone.groups=8",
    ],
}  # fmt: skip


@pytest.fixture(scope="module", params=TINY)
def run(request, tmp_path_factory) -> tuple[str, Path]:
    """A model trained for a moment, and its run."""
    out = tmp_path_factory.mktemp(request.param) / "run"
    settings = [word for one in TINY[request.param] for word in ("--set", f"model.{one}")]
    typed = ["train", request.param, "--data", DATA, "--out", str(out), "--epochs", "1", "--workers", "0", *settings]
    assert main(typed) == 0
    return request.param, out


def test_a_run_knows_what_it_is(run):
    name, out = run
    told = json.loads((out / "config.json").read_text())
    assert told["config"]["image"] == 64
    held = told["config"]["backbone"] if "hybrid" in name else told["config"]
    assert held["layers"] == [1, 1, 1, 1]
    assert main(["info", str(out)]) == 0
    assert main(["resume", str(out)]) == 0


def test_it_is_evaluated_and_predicts(run, tmp_path, capsys):
    _, out = run
    Image.new("RGB", (80, 50), "teal").save(tmp_path / "teal.png")
    assert main(["evaluate", str(out), "--data", DATA, "--workers", "0", "--out", str(tmp_path / "scored")]) == 0
    assert main(["predict", str(out), str(tmp_path / "teal.png")]) == 0
    assert "%" in capsys.readouterr().out


def test_what_it_rests_on_is_drawn_and_attention_only_where_there_is_any(run, tmp_path, capsys):
    name, out = run
    Image.new("RGB", (80, 50), "teal").save(tmp_path / "teal.png")
    asked = ["explain", str(out), str(tmp_path / "teal.png"), "--out", str(tmp_path / "seen.png")]
    assert main([*asked, "--method", "gradient"]) == 0
    if "hybrid" in name:
        assert main(asked) == 0
    else:
        assert main(asked) == 1
        assert re.search(r"has no attention to show.*--method gradient", capsys.readouterr().err)
