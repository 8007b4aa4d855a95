"""The whole way with pictures that are grey, transparent or not square, and with several labels."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import vitrail
from vitrail.cli.main import main

SMALL = ("model.dim=16", "model.depth=2", "model.heads=2", "model.mlp_dim=32")
TRAIN = ["train", "vit-tiny-16", "--epochs", "1", "--batch", "8", "--workers", "0"]


def settings(*assignments: str) -> list[str]:
    return [word for one in (*SMALL, *assignments) for word in ("--set", one)]


def write_folder(folder: Path, mode: str) -> Path:
    """Bright and dark pictures, 32 wide and 24 high, with as many channels as the mode has."""
    random = np.random.default_rng(0)
    shape = (24, 32) if mode == "L" else (24, 32, len(mode))
    for part, count in (("train", 10), ("val", 5)):
        for label, low in (("bright", 120), ("dark", 0)):
            place = folder / part / label
            place.mkdir(parents=True)
            for number in range(count):
                pixels = random.integers(low, low + 136, shape, dtype=np.uint8)
                Image.fromarray(pixels).save(place / f"{number}.png")
    return folder


def write_table(folder: Path) -> Path:
    """Pictures with any of three colours in them, and a table that lists those colours."""
    random = np.random.default_rng(0)
    folder.mkdir()
    with open(folder / "labels.csv", "w", newline="") as file:
        table = csv.writer(file)
        table.writerow(("path", "labels", "split"))
        for number in range(30):
            held = random.random(3) < 0.5
            pixels = random.integers(1, 40, (32, 32, 3), dtype=np.uint8) + (held * 180).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{number}.png")
            colours = [name for name, there in zip(("red", "green", "blue"), held, strict=True) if there]
            table.writerow((f"{number}.png", ";".join(colours), "train" if number < 20 else "val"))
    return folder / "labels.csv"


def walk(data: str, judged: str, picture: str, assignments: list[str], capsys) -> dict:
    """Check, train, evaluate, predict, explain; gives what `predict --json` said of the picture."""
    assert main(["check", "--data", data]) == 0
    assert main([*TRAIN, "--data", data, "--out", "run", *assignments]) == 0
    assert main(["evaluate", "run", "--data", judged]) == 0
    assert main(["explain", "run", picture, "--at", "9", "9", "--layer", "1", "--out", "looked.png"]) == 0
    with Image.open("looked.png") as drawn:
        assert min(drawn.size) > 100
    capsys.readouterr()
    assert main(["predict", "run", picture, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize(
    ("mode", "channels", "assignments"),
    [
        ("L", 1, ["model.channels=1"]),
        pytest.param("RGBA", 4, ["model.channels=4"], marks=pytest.mark.slow),
        pytest.param("RGBA", 3, [], marks=pytest.mark.slow),
        ("RGB", 3, ["model.image=16,32", "model.patch=8,16"]),
        pytest.param("RGB", 1, ["model.channels=1", "model.image=24,32", "model.patch=4"], marks=pytest.mark.slow),
    ],
)
def test_pictures_with_other_channels_and_sides_go_all_the_way(
    mode, channels, assignments, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    write_folder(tmp_path / "things", mode)
    answer = walk("things", "things/val", "things/val/dark/0.png", settings(*assignments), capsys)
    assert {guess["label"] for guess in answer["guesses"]} == {"bright", "dark"}
    model = vitrail.from_pretrained("run", announce=lambda sentence: None)
    assert model.config.channels == channels


def write_bands(folder: Path, channels: int, side: int = 24) -> Path:
    """Bright and dark pictures with so many channels, as idx files."""
    random = np.random.default_rng(0)
    folder.mkdir()
    for part, count in (("train", 20), ("val", 10)):
        labels = np.arange(count, dtype=np.uint8) % 2
        low = 120 * labels[:, None, None, None]
        pictures = (low + random.integers(0, 136, (count, side, side, channels))).astype(np.uint8)
        for kind, values in (("images", pictures), ("labels", labels)):
            header = bytes([0, 0, 8, values.ndim]) + b"".join(size.to_bytes(4, "big") for size in values.shape)
            (folder / f"{part}-{kind}-idx{values.ndim}-ubyte").write_bytes(header + values.tobytes())
    return folder


@pytest.mark.parametrize(("data", "channels", "workers"), [("bands", 6, 0), ("scenes:20,size=16x16,channels=6", 6, 2)])
def test_any_number_of_channels_is_checked_trained_on_and_judged(
    data, channels, workers, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    write_bands(tmp_path / "bands", channels)
    assert main(["check", "--data", data]) == 0
    varied = settings("data.augment.erase=0.5", "data.augment.vertical_flip=0.5")
    assert main([*TRAIN[:-1], str(workers), "--data", data, "--out", "run", *varied]) == 0
    said = capsys.readouterr().out
    assert f"The pictures have {channels} channels; so does the model's stem." in said
    assert "RandAugment is left out" in said
    assert vitrail.from_pretrained("run", announce=lambda sentence: None).config.channels == channels
    assert main(["evaluate", "run", "--data", data]) == 0
    scores = capsys.readouterr().out
    assert "top1" in scores
    assert ("top5" in scores) == data.startswith("scenes:"), "two classes are always among five guesses"
    wrong = ["--data", data, "--out", "wrong"]
    assert main([*TRAIN, *wrong, *settings("model.channels=3")]) == 1
    assert f"these have {channels}. Type --set model.channels={channels}." in capsys.readouterr().err
    assert main([*TRAIN, *wrong, *settings("data.augment.jitter=0.2,0.2,0.2,0")]) == 1
    assert "Type --set data.augment.jitter=0,0,0,0." in capsys.readouterr().err


def test_several_labels_go_all_the_way(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    table = write_table(tmp_path / "colours")
    answer = walk(str(table), str(table), "colours/0.png", settings(), capsys)
    scores = {guess["label"]: guess["score"] for guess in answer["guesses"]}
    assert scores.keys() == {"red", "green", "blue"}
    assert answer["labels"] == [label for label, score in scores.items() if score > 0.5]
    assert json.loads(Path("run/scores.json").read_text())["scores"].keys() >= {"map", "map_micro"}


def test_grey_pictures_fine_tune_a_model_in_colour(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_folder(tmp_path / "colour", "RGB")
    write_folder(tmp_path / "grey", "L")
    assert main([*TRAIN, "--data", "colour", "--out", "first", *settings()]) == 0
    capsys.readouterr()
    again = ["--data", "grey", "--init", "first", "--out", "second", "--set", "model.channels=1"]
    assert main([*TRAIN, *again, "--set", "optimiser.rate=1e-12"]) == 0
    assert "now reads 1 channel: the sum over the 3 it had" in capsys.readouterr().out
    first, second = (vitrail.from_pretrained(run, announce=lambda sentence: None) for run in ("first", "second"))
    assert second.config.channels == 1
    grey = torch.rand(2, 1, *first.config.size)
    torch.testing.assert_close(second(grey), first(grey.expand(-1, 3, -1, -1)), rtol=1e-4, atol=1e-5)


def test_what_weights_lack_can_be_named_after_train_too(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_folder(tmp_path / "things", "RGB")
    assert main([*TRAIN, "--data", "things", "--out", "plain", *settings()]) == 0
    more = ["--data", "things", "--init", "plain", "--out", "more", "--set", "model.registers=2"]
    capsys.readouterr()
    assert main([*TRAIN, *more]) == 1
    assert "'model.missing=registers' for a training" in capsys.readouterr().err
    assert not Path("more").exists()
    assert main([*TRAIN, *more, "--set", "model.missing=registers"]) == 0
    assert vitrail.from_pretrained("more", announce=lambda sentence: None).config.registers == 2
