"""A student that listens to a teacher, from the command line to the numbers."""

import json
from pathlib import Path

import pytest

import vitrail
from reliability.tiny import write_pictures
from vitrail.cli.main import main

SMALL = [word for one in ("dim=16", "depth=1", "heads=1", "mlp_dim=16") for word in ("--set", f"model.{one}")]
BRIEF = ["--epochs", "1", "--batch", "8", "--workers", "0", "--seed", "3", *SMALL]
STUDENT = ["train", "deit-tiny-distilled-16", "--data", "things", *BRIEF]


def sets(*assignments: str) -> list[str]:
    return [word for one in assignments for word in ("--set", one)]


@pytest.fixture(scope="module")
def taught(tmp_path_factory) -> Path:
    """A folder with pictures in `things` and a run `teacher`; and one `stranger` that knows other classes."""
    home = tmp_path_factory.mktemp("school")
    write_pictures(home / "things")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        assert main(["train", "vit-tiny-16", "--data", "things", "--out", "teacher", *BRIEF]) == 0
        others = vitrail.create_model("vit-tiny-16", image=16, patch=8, dim=16, depth=1, heads=1, mlp_dim=16, classes=3)
        vitrail.save_pretrained(others, "stranger", announce=lambda sentence: None)
    return home


@pytest.fixture
def school(taught, tmp_path, monkeypatch) -> Path:
    """The same in a folder of its own."""
    for name in ("things", "teacher", "stranger"):
        (tmp_path / name).symlink_to(taught / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def logged(run: str) -> dict[str, float]:
    """The first line of the log of a run."""
    return json.loads(Path(run, "metrics.jsonl").read_text().splitlines()[0])


@pytest.mark.parametrize(
    "assignments",
    [
        ["task.teacher=teacher"],
        [
            "task.trust=0.3",
            "task.temperature=2",
            "task.how=soft",
            "task=distil",
            "task.teacher=teacher",
            "task.smoothing=0",
        ],
    ],
    ids=" ".join,
)
def test_a_student_learns_from_labels_and_from_a_teacher(assignments, school, capsys):
    assert main([*STUDENT, "--out", "student", *sets(*assignments)]) == 0
    assert "there is none" not in capsys.readouterr().out
    log, task = logged("student"), json.loads(Path("student/recipe.json").read_text())["task"]
    assert log["loss"] == pytest.approx(
        (1 - task["trust"]) * log["loss_labels"] + task["trust"] * log["loss_teacher"], rel=1e-5
    )
    asked = dict(one.removeprefix("task.").split("=") for one in assignments)
    assert task["name"] == "distil"
    assert task["classes"] == ["bright", "dark"]
    assert (task["how"], task["temperature"]) == (asked.get("how", "hard"), float(asked.get("temperature", 1)))
    assert task["smoothing"] == float(asked.get("smoothing", 0.1)), "what the recipe had is kept"
    assert task["teacher"] == str((school / "teacher").resolve()), "it is found from any folder"
    assert main(["predict", "student", "things/val/dark/00.png"]) == 0


def test_a_head_that_listens_to_nobody_is_said_aloud(school, capsys):
    assert main([*STUDENT, "--out", "student"]) == 0
    said = capsys.readouterr().out
    assert "has a head that listens to a teacher, and there is none: both of its heads learn the labels" in said
    assert "--set task.teacher=RUN" in said
    assert main(["resume", "student"]) == 0
    assert "listens to a teacher" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("model", "assignments", "words"),
    [
        ("deit-tiny-distilled-16", ["task=distil"], "needs a teacher. Type --set task.teacher=VALUE as well."),
        ("deit-tiny-distilled-16", ["task.how=soft"], "needs a teacher. Type --set task.teacher=VALUE as well."),
        ("deit-tiny-distilled-16", ["task.teacher=nobody"], "asks the model nobody, and there is none."),
        ("deit-tiny-distilled-16", ["task.teacher="], "teacher is empty"),
        ("deit-tiny-distilled-16", ["task.teacher=things"], "things is a folder of pictures. A model is expected"),
        ("deit-tiny-distilled-16", ["task.teacher=stranger"], "does not know the class 'bright'"),
        ("deit-tiny-distilled-16", ["task.teacher=teacher", "task.how=kind"], "is not one of 'hard', 'soft'"),
        ("deit-tiny-distilled-16", ["task.teecher=teacher"], "Did you mean teacher?"),
        ("deit-tiny-distilled-16", ["task=classify", "task.teacher=teacher"], "no field called 'teacher'"),
        ("deit-tiny-distilled-16", ["task.teacher=teacher", "model.channels=1"], "reads 3 channels and the student 1"),
        (
            "vit-tiny-16",
            ["task.teacher=teacher"],
            "nothing that listens to a teacher. Train one that has, such as deit",
        ),
    ],
    ids=str,
)
def test_a_lesson_that_cannot_be_is_refused_in_words(model, assignments, words, school, capsys):
    assert main(["train", model, "--data", "things", "--out", "student", *BRIEF, *sets(*assignments)]) == 1
    assert words in capsys.readouterr().err
    assert not Path("student").exists()
