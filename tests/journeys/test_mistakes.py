"""What people mistype is a sentence that says what to type instead."""

import shutil
from pathlib import Path

import pytest

from reliability.tiny import write_pictures
from vitrail.cli.main import main

TRAIN = ["train", "vit-tiny-16", "--data", "things"]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ([*TRAIN, "--set", "data.path=others"], 2, "Type --data others."),
        ([*TRAIN, "--set", "model.classes=5"], 1, "Type --set model.classes=2, or leave it out."),
        ([*TRAIN, "--set", "model.channels=6"], 1, "Type --set model.channels=3."),
        ([*TRAIN, "--set", "task=distill"], 1, "task has fields of its own: classes, smoothing"),
        ([*TRAIN, "--workers", "-1"], 1, "workers=-1 must be at least 0"),
        ([*TRAIN, "--epochs", "0"], 1, "epochs=0 must be at least 1"),
        ([*TRAIN, "--batch", "0"], 1, "batch=0 must be at least 1"),
        ([*TRAIN, "--epochs", "many"], 2, "many"),
        ([*TRAIN, "--set", "steps=0"], 1, "steps=0 must be at least 1"),
        (["models", "zzz"], 1, "No model matches 'zzz'."),
        (["predict", "run", "picture", "--top", "0"], 2, "Type --top 1 or more."),
        (["predict", "run", "picture", "--json", "--csv"], 2, "Type one of them."),
    ],
)
def test_a_mistake_is_a_sentence(arguments, code, words, tmp_path, monkeypatch, capsys):
    write_pictures(tmp_path / "things")
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == code
    assert words in capsys.readouterr().err


def test_one_class_is_nothing_to_learn(tmp_path, monkeypatch, capsys):
    write_pictures(tmp_path / "things")
    for part in ("train", "val"):
        shutil.rmtree(tmp_path / "things" / part / "dark")
    monkeypatch.chdir(tmp_path)
    assert main(TRAIN) == 1
    assert "There is only one class, bright: nothing to tell apart." in capsys.readouterr().err
    assert not Path("runs").exists()


@pytest.mark.parametrize("workers", ["0", "1"])
def test_a_broken_picture_in_a_run_says_how_to_find_the_others(workers, tmp_path, monkeypatch, capsys):
    write_pictures(tmp_path / "things")
    (tmp_path / "things" / "train" / "dark" / "00.png").write_bytes(b"nonsense")
    monkeypatch.chdir(tmp_path)
    small = ("model.dim=16", "model.depth=1", "model.heads=1", "model.mlp_dim=16")
    assert main([*TRAIN, "--workers", workers, *(word for one in small for word in ("--set", one))]) == 1
    said = capsys.readouterr().err
    assert "00.png" in said
    assert "`vitrail check --data" in said
    assert "Traceback" not in said
