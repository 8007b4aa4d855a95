"""What people mistype is a sentence that says what to type instead."""

import shlex
import shutil
from pathlib import Path

import pytest
import torch

import vitrail
from reliability.tiny import tiny_recipe, write_pictures
from vitrail.cli.main import main
from vitrail.data.headers import files_of, unreadable
from vitrail.data.open import open_splits
from vitrail.train import start
from vitrail.train.recipe_text import recipe_to_json

TRAIN = ["train", "vit-tiny-16", "--data", "things"]
UNREAD = ["train", "vit-tiny-16", "--data", "nowhere"]  # whoever opens this data finds nothing there
SMALL = [word for one in ("dim=16", "depth=1", "heads=1", "mlp_dim=16") for word in ("--set", f"model.{one}")]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with pictures in `things`, a file `note.txt`, and `notes` with such a file in it."""
    write_pictures(tmp_path / "things")
    (tmp_path / "notes").mkdir()
    (tmp_path / "empty").mkdir()
    for place in (tmp_path, tmp_path / "notes"):
        (place / "note.txt").write_text("remember")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ([*TRAIN, "--set", "model.classes=5"], 1, "Type --set model.classes=2, or leave it out."),
        ([*TRAIN, "--set", "model.channels=6"], 1, "Type --set model.channels=3."),
        ([*TRAIN, "--set", "model.image=17"], 1, "The nearest sizes that do"),
        ([*TRAIN, "--set", "task=distill"], 1, "There is no task called 'distill'. Did you mean distil?"),
        ([*TRAIN, "--set", "task.weights=1,-1"], 1, "each number in weights must be at least 0"),
        ([*TRAIN, "--set", "data.balanced=true", "task.weights=balanced"], 1, "make a rare class count twice"),
        ([*TRAIN, "--set", "task.smoothing=1"], 1, "smoothing=1 must be at least 0 and below 1"),
        (["models", "zzz"], 1, "No model matches 'zzz'."),
        (["info", "bert-mini-mlm"], 1, "is a recipe, and no model yet: `vitrail train bert-mini-mlm --data PATH`"),
        (
            ["resume", "run", "--epochs", "3"],
            2,
            "There is no option --epochs. A run goes on as it began.",
        ),
        (["resume", "run", "--lr", "3"], 2, "There is no option --lr. A run goes on as it began."),
        (["predict", "run", "x", "--lr", "3"], 2, "Did you mean --set optimiser.rate=1e-4 of `vitrail train`?"),
        (["evaluate", "run", "--data", "x", "--top-p", "1"], 2, "There is no option --top-p. It is for predict."),
        (["predict", "run", "picture", "--top", "0"], 2, "Type --top 1 or more."),
        (["predict", "run", "picture", "--json", "--csv"], 2, "Type one of them."),
        (["predict", "rose.jpg"], 2, "Type: vitrail predict RUN PICTURE|TEXT ... Only rose.jpg was given."),
    ],
)
def test_a_mistake_is_a_sentence(arguments, code, words, home, capsys):
    assert main(arguments) == code
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([*UNREAD, "--epochs", "1.5"], "--epochs takes a whole number, such as 20, not '1.5'."),
        ([*UNREAD, "--batch", "x"], "--batch takes a whole number, such as 32, not 'x'."),
        ([*UNREAD, "--seed", "chance"], "--seed takes a whole number, such as 0, not 'chance'."),
        ([*UNREAD, "--workers", "two"], "--workers takes a whole number, such as 1, 2 or 8, not 'two'."),
        (["resume", "run", "--workers", "0.5"], "--workers takes a whole number, such as 1, 2 or 8, not '0.5'."),
        (["evaluate", "run", "--data", "x", "--workers", "a"], "--workers takes a whole number, such as 1, 2 or 8"),
        (["evaluate", "run", "--data", "x", "--batch", "a"], "--batch takes a whole number, such as 32, not 'a'."),
        (["predict", "run", "picture", "--top", "all"], "--top takes a whole number, such as 3, not 'all'."),
    ],
)
def test_an_option_that_takes_a_number_says_so(arguments, words, capsys):
    assert main(arguments) == 2
    assert capsys.readouterr().err.startswith(f"vitrail: {words}")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["train", "vit-tny-16", "--data", "nowhere"], 1, "Did you mean vit-tiny-16"),
        ([*UNREAD, "--epochs", "0"], 1, "epochs=0 must be at least 1"),
        ([*UNREAD, "--batch", "0"], 1, "batch=0 must be at least 1"),
        ([*UNREAD, "--workers", "-1"], 1, "workers=-1 must be at least 0 and at most 256"),
        ([*UNREAD, "--device", "gpu"], 1, "no device called 'gpu'"),
        ([*UNREAD, "--set", "steps=0"], 1, "steps=0 must be at least 1"),
        ([*UNREAD, "--set", "clip=-1"], 1, "clip=-1 must be above 0"),
        ([*UNREAD, "--set", "patience=-1"], 1, "patience=-1 must be at least 1"),
        ([*UNREAD, "--set", "save_every=-1"], 1, "save_every=-1 must be at least 0"),
        ([*UNREAD, "--set", "optimiser.betas=2,3"], 1, "optimiser.betas=2,3: each number in betas must be at least 0"),
        ([*UNREAD, "--set", "optimiser.eps=-1"], 1, "optimiser.eps=-1 must be above 0"),
        ([*UNREAD, "--set", "threads=99999"], 1, "threads=99999 must be at least 1 and at most 1,024"),
        ([*UNREAD, "--set", "optimizer.rate=1"], 1, "Did you mean optimiser"),
        ([*UNREAD, "--set", "optimiser.rate=-1"], 1, "optimiser.rate=-1 must be above 0"),
        ([*UNREAD, "--set", "optimiser.rate=fast"], 1, "optimiser.rate=fast is not a number"),
        ([*UNREAD, "--set", "model.depht=3"], 1, "Did you mean depth"),
        ([*UNREAD, "--set", "model.image=big"], 1, "is not a whole number or two whole numbers, such as 64,96"),
        ([*UNREAD, "--set", "model.image"], 2, "--set model.image has no '='"),
        ([*UNREAD, "--set", "data.path=others"], 2, "Type --data others."),
        ([*UNREAD, "--init", "no/such/weights"], 1, "There are no weights at no/such/weights."),
        (["train", "vit-tiny-conv", "--data", "nowhere", "--init", "default"], 1, "No weights are published for"),
        ([*UNREAD, "--out", "notes"], 1, "notes holds something else already (note.txt)"),
        ([*UNREAD, "--out", "notes", "--dry-run"], 1, "notes holds something else already (note.txt)"),
        ([*UNREAD, "--out", "note.txt"], 1, "note.txt is a file, and a run needs a folder."),
        ([*UNREAD, "--out", "note.txt", "--dry-run"], 1, "note.txt is a file, and a run needs a folder."),
        ([*UNREAD, "--out", "empty"], 1, "There is no data set at nowhere:"),
        (["train", "demo", "--data", "nowhere", "--set", "epoch=1"], 1, "Did you mean epochs"),
        (["train", "recipe.json", "--data", "nowhere", "--epochs", "0"], 1, "epochs=0 must be at least 1"),
    ],
)
def test_what_needs_no_pictures_is_refused_before_any_is_read(arguments, code, words, home, capsys):
    (home / "recipe.json").write_text(recipe_to_json(tiny_recipe(home / "things")))
    assert main(arguments) == code
    assert words in capsys.readouterr().err
    assert [file.name for file in (home / "notes").iterdir()] == ["note.txt"]


@pytest.mark.parametrize("out", ["notes", "note.txt"])
def test_convert_overwrites_nothing(out, home, capsys):
    model = vitrail.create_model("vit-tiny-16", image=16, patch=8, dim=16, depth=1, heads=1, mlp_dim=16)
    vitrail.save_pretrained(model, "weights", announce=lambda sentence: None)
    assert main(["convert", "weights", out]) == 1
    assert "ame a new folder." in capsys.readouterr().err
    assert (home / "notes" / "note.txt").read_text() == (home / "note.txt").read_text() == "remember"
    assert main(["convert", "weights", "empty"]) == 0
    assert main(["convert", "weights", "empty"]) == 1
    assert torch.equal(vitrail.from_pretrained("empty").head.weight, model.head.weight)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("begun", "begun is a run that was stopped before it had weights to keep. `vitrail resume begun` goes on"),
        ("things", "things is a folder of pictures. A model is expected here: a run that `vitrail train` has left"),
        ("bare", "Say what model.safetensors is: vitrail convert bare/model.safetensors --from timm --model"),
        ("notes", "notes holds no model: no config.json. A model is expected here"),
        ("things/val/dark/00.png", "things/val/dark/00.png is a picture. A model is expected here"),
    ],
)
@pytest.mark.parametrize(
    "command",
    [
        "predict {} things",
        "evaluate {} --data things",
        "explain {} things/val/dark/00.png",
        "info {}",
        "convert {} empty",
        "train vit-tiny-16 --data nowhere --init {}",
    ],
)
def test_what_is_no_model_is_called_what_it_is(source, words, command, home, capsys):
    (home / "begun").mkdir()
    (home / "bare").mkdir()
    (home / "bare" / "model.safetensors").write_bytes(b"")
    (home / "begun" / "recipe.json").write_text(recipe_to_json(tiny_recipe(home / "things")))
    assert main(command.format(source).split()) == 1
    said = capsys.readouterr().err
    assert words in said
    assert "from_pretrained" not in said


def test_one_class_is_nothing_to_learn(home, capsys):
    for part in ("train", "val"):
        shutil.rmtree(home / "things" / part / "dark")
    assert main(TRAIN) == 1
    assert "There is only one class, bright: nothing to tell apart." in capsys.readouterr().err
    assert not Path("runs").exists()


@pytest.mark.parametrize("mode", [[], ["--dry-run"]])
@pytest.mark.parametrize("part", ["train", "val"])
def test_a_picture_that_cannot_be_opened_is_found_before_the_first_step(mode, part, home, capsys):
    (home / "things" / part / "dark" / "00.png").write_bytes(b"nonsense")
    (home / "things" / part / "dark" / "01.png").write_bytes(b"")
    assert main([*TRAIN, *mode]) == 1
    said = capsys.readouterr()
    assert "2 pictures cannot be read. The first: " in said.err
    assert "`vitrail check --data things` lists all such files." in said.err
    assert "model " not in said.out
    assert not Path("runs").exists()


def test_of_very_many_pictures_only_some_are_opened_and_this_is_said(home, monkeypatch):
    monkeypatch.setattr(start, "MOST_OPENED", 5)
    (home / "things" / "train" / "dark" / "09.png").write_bytes(b"nonsense")
    said: list[str] = []
    splits = open_splits("things")
    start.look_at_pictures(splits, "things", said.append)
    [note] = said
    assert note.startswith("Only 5 of the 30 pictures are opened before the first step. `vitrail check --data things`")
    assert len(list(unreadable(files_of(splits.train)))) == 1


@pytest.mark.parametrize("workers", ["0", "1"])
def test_a_picture_that_breaks_off_in_a_run_says_how_to_find_the_others(workers, home, capsys):
    damaged = home / "things" / "train" / "dark" / "00.png"
    damaged.write_bytes(damaged.read_bytes()[:-200] + damaged.read_bytes()[-8:])
    assert main([*TRAIN, "--workers", workers, *SMALL]) == 1
    said = capsys.readouterr().err
    assert "00.png" in said
    assert "`vitrail check --data" in said
    assert "Traceback" not in said


def test_a_picture_that_is_cut_short_is_met_before_the_first_step(home, capsys):
    cut = home / "things" / "train" / "dark" / "00.png"
    cut.write_bytes(cut.read_bytes()[:-200])
    assert main([*TRAIN, *SMALL, "--out", "run"]) == 1
    said = capsys.readouterr()
    assert "1 picture cannot be read. The first: " in said.err
    assert "It is cut short" in said.err
    assert "epoch" not in said.out
    assert not (home / "run").exists()


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        ("train vit-tiny-16 --data x --set image=64", "Did you mean --set model.image=64?"),
        ("train vit-tiny-16 --data x --set rate=1", "Did you mean --set optimiser.rate=1?"),
        ("train vit-tiny-16 --data x --set lr=1", "Did you mean --set optimiser.rate=1?"),
        ("train vit-tiny-16 --data x --set optimiser.lr=1", "Did you mean --set optimiser.rate=1?"),
        ("train vit-tiny-16 --data x --set data.batch_size=8", "Did you mean --set data.batch=8?"),
        ("check --data ''", "No data set was named: the path is empty."),
        ("predict RUN ''", "'' names nothing."),
    ],
)
def test_what_is_nearly_right_or_empty_says_what_was_meant(command, sentence, capsys):
    assert main(shlex.split(command)) in (1, 2)
    assert sentence in capsys.readouterr().err


def test_a_report_does_not_take_the_place_of_that_of_a_training(tmp_path, capsys):
    (tmp_path / "recipe.json").write_text("{}")
    assert main(["evaluate", "anything", "--data", "scenes:", "--out", str(tmp_path)]) == 2
    assert "is a run with a report of its own" in capsys.readouterr().err
    assert [file.name for file in tmp_path.iterdir()] == ["recipe.json"]
