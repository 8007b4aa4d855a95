"""What people mistype is a sentence that says what to type instead."""

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
