"""What `vitrail train` and `vitrail resume` say and leave behind, for somebody who has read no manual."""

import json
import os
import re
import shutil
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest

import vitrail
from reliability.tiny import sha256, tiny_recipe, write_pictures
from vitrail import catalog
from vitrail.data.dataset import PictureFiles
from vitrail.data.headers import files_of, in_both
from vitrail.data.open import name_of, open_splits
from vitrail.errors import ConfigError, TrainingError, UsageError, span
from vitrail.recipes.vit import classify, size_for
from vitrail.train import start
from vitrail.train.building import in_words
from vitrail.train.fit import fit
from vitrail.train.observers import Pace, Screen, Taken
from vitrail.train.recipe import ModelChoice
from vitrail.train.signals import Interrupted
from vitrail.train.start import free_folder, hint_at_imbalance, resume, train

SMALL = ("model.dim=16", "model.depth=2", "model.heads=2", "model.mlp_dim=32", "data.mixing=none", "epochs=2")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with pictures of 16 pixels in `things`."""
    write_pictures(tmp_path / "things")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def begin(**more) -> tuple[Path | None, str]:
    """Train on `things`; gives the run and everything that was said."""
    said: list[str] = []
    run = train("vit-tiny-16", "things", set=(*SMALL, *more.pop("set", ())), workers=0, say=said.append, **more)
    return run, "\n".join(said)


def test_every_guess_is_said_and_the_run_is_named_after_the_data(home):
    run, said = begin()
    assert run == Path("runs/classify/things")
    assert "20 pictures to learn from, 10 to be judged by" in said
    assert "2: bright, dark" in said
    assert "reads 16 x 16 in patches of 2. Published: 224 in patches of 16" in said
    assert "vit-tiny-16, 16 x 16 pixels in patches of 2, fresh weights; other than published: dim 16 (192)" in said
    assert re.search(r"epoch 2/2 judged: top1 \d+\.\d%, loss \d\.\d+", said)
    assert "top5" not in said, "two classes are always among five guesses"
    assert '"top5"' in (run / "scores.json").read_text()
    assert "vitrail predict runs/classify/things" in said
    assert vitrail.predictor(run, announce=lambda sentence: None)


@pytest.mark.parametrize(
    ("changes", "model", "guess"),
    [
        ((), "16 x 16 pixels in patches of 2,", "side of the pictures is about 16 pixels, so the model reads 16 x 16"),
        (("model.image=8", "model.patch=4"), "8 x 8 pixels in patches of 4,", None),
        (("model.image=24",), "24 x 24 pixels in patches of 2,", "they are of 2 (--set model.patch=16 keeps them)"),
        (("model.image=224",), "224 x 224 pixels in patches of 16,", None),
        (("model.patch=4",), "16 x 16 pixels in patches of 4,", "reads 16 x 16 in patches of 4. Published: 224"),
        (("model.image=16x32", "model.patch=8"), "16 x 32 pixels in patches of 8,", None),
        (("model.image=16,32", "model.patch=8x16"), "16 x 32 pixels in patches of 8 x 16,", None),
    ],
)
def test_only_guesses_that_are_used_are_said(home, monkeypatch, changes, model, guess):
    monkeypatch.setattr(start, "try_out", lambda *_: None)
    _, said = begin(dry_run=True, set=changes)
    assert model in said
    assert guess in said if guess else "patches of" not in said.replace("pixels in patches of", "")


def test_a_guess_leaves_alone_what_a_person_has_decided(home):
    config = catalog.family_of_model("vit-tiny-16").variants["vit-tiny-16"]
    assert size_for(config, 32, {"patch": 8}) == {"image": 32}
    assert size_for(config, 32, {"image": 32}) == {"patch": 4}
    assert size_for(config, 32, {"image": 32, "patch": 8}) == {}


def test_nothing_is_overwritten(home):
    first, _ = begin()
    before = sha256(first / "model.safetensors")
    second, said = begin(seed=1)
    assert second == Path("runs/classify/things-2")
    assert "runs/classify/things holds an earlier run (`vitrail resume runs/classify/things`" in said
    assert sha256(first / "model.safetensors") == before
    with pytest.raises(TrainingError, match="already holds a run"):
        begin(out=first)


def test_fine_tuning_keeps_the_size_and_shows_the_receipt_of_the_head(home):
    model = vitrail.create_model("vit-tiny-16", image=32, patch=8, dim=16, depth=2, heads=2, mlp_dim=32, classes=5)
    vitrail.save_pretrained(model, "weights", announce=lambda sentence: None)
    said: list[str] = []
    run = train("vit-tiny-16", "things", init="weights", epochs=1, workers=0, say=said.append)
    receipt = next(sentence for sentence in said if sentence.startswith("kept"))
    assert "new: head.weight (2, 16), head.bias (2,)" in receipt
    everything = "\n".join(said)
    assert "weights is not vit-tiny-16 as published: image is 32 (224), patch is 8 (16), dim is 16 (192)" in everything
    assert f"weights from {home / 'weights'}" in everything
    assert vitrail.from_pretrained(run, announce=lambda sentence: None).config.image in (32, (32, 32))


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        (ModelChoice(name="vit-tiny-16"), "vit-tiny-16, 224 x 224 pixels in patches of 16, fresh weights"),
        (
            ModelChoice(name="vit-tiny-16", init="default", changes={"classes": 5, "image": 384, "dim": 96}),
            "vit-tiny-16, 384 x 384 pixels in patches of 16, published weights; other than published: dim 96 (192)",
        ),
        (
            ModelChoice(name="vit-tiny-16", init="run", changes={"image": 24, "drop_path": 0.1}),  # 24 = 3 x 8 there
            "vit-tiny-16, weights from run; with image 24",
        ),
    ],
)
def test_a_model_is_described_before_it_is_made(choice, words):
    assert in_words(choice) == words


def test_a_dry_run_tells_the_cost_and_leaves_nothing(home):
    before = sorted(home.rglob("*"))
    run, said = begin(dry_run=True, set=("epochs=100",))
    assert run is None
    assert sorted(home.rglob("*")) == before
    for word in ("Parameters: 0.0", "Memory: ", "Time: ", "for all 500 steps", "saving and loading all worked"):
        assert word in said
    with pytest.raises(UsageError, match="tries one process"):
        start.try_out(replace(tiny_recipe(Path("things")), processes=2), open_splits("things"), print)


def test_a_stopped_run_says_how_to_go_on_and_does(home, monkeypatch):
    class Stop(Screen):
        def stepped(self, run, taken: Taken) -> None:
            if run.step == 3:
                os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(start, "Screen", Stop)
    sentence = "Stopped after step 3 of 10, and saved. `vitrail resume runs/classify/things` goes on."
    with pytest.raises(Interrupted, match=sentence) as stopped:
        begin()
    assert stopped.value.exit_code == 130
    monkeypatch.setattr(start, "Screen", Screen)
    said: list[str] = []
    assert resume("runs/classify/things", workers=2, say=said.append) == Path("runs/classify/things")
    assert "Going on with runs/classify/things." in said
    whole, _ = begin(out="whole")
    assert sha256(whole / "model.safetensors") == sha256(Path("runs/classify/things/model.safetensors"))
    assert not any("is finished" in words or "Not as it was" in words for words in said)
    resume("runs/classify/things", workers=0, say=said.append)
    assert "runs/classify/things is finished: only its report is written again." in said


def test_what_is_no_longer_as_it_was_is_said_when_a_run_goes_on(home, monkeypatch):
    class Stop(Screen):
        def stepped(self, run, taken: Taken) -> None:
            if run.step == 3:
                os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patched:
        patched.setattr(start, "Screen", Stop)
        with pytest.raises(Interrupted):
            begin()
    path = Path("runs/classify/things/recipe.json")
    written = json.loads(path.read_text())
    model = written["model"]
    for change in (
        {"model": model | {"changes": {"dim": 32}}},
        {"model": model | {"changes": model["changes"] | {"registers": 4}}},
        {"ema": 0.9},
    ):
        path.write_text(json.dumps(written | change))
        with pytest.raises(TrainingError, match=r"recipe\.json was changed: .*A run keeps its model and how it"):
            resume("runs/classify/things", say=lambda words: None)
    mixed = written["data"] | {"mixing": {"mixup": 0.5, "cutmix": 0.0}}
    path.write_text(json.dumps(written | {"seed": 7, "clip": 0.5, "save_every": 99, "data": mixed}))
    next(Path("things/val").glob("*/*")).unlink()
    said: list[str] = []
    resume("runs/classify/things", say=said.append)
    [words] = [words for words in said if "Not as it was" in words]
    assert "data.mixing was None and is {'mixup': 0.5" in words
    assert "seed was 0 and is 7; clip was 1.0 and is 0.5" in words
    assert "some pictures to be judged by are others" in words
    assert "save_every" not in words


def test_a_picture_that_is_learned_from_is_no_proof_when_it_judges(home):
    _, said = begin(dry_run=True)
    assert "learned from as well" not in said
    learned = min(Path("things/train").glob("*/*"))
    judging = Path("things/val") / learned.parent.name
    shutil.copy(learned, judging / "copy.png")
    as_long = bytearray(learned.read_bytes())
    as_long[-16] ^= 1
    (judging / "other.png").write_bytes(as_long)
    splits = open_splits("things")
    pictures = [list(files_of(part)) for part in (splits.train, splits.val)]
    assert in_both(*pictures) == [(str(judging / "copy.png"), str(learned))]
    (judging / "other.png").unlink()
    _, said = begin(dry_run=True)
    assert f"1 picture to be judged by is learned from as well ({judging / 'copy.png'} is {learned}): the" in said


def test_mistakes_are_sentences(home):
    with pytest.raises(TrainingError, match=r"There is no run in nowhere.*`vitrail train` begins one"):
        resume("nowhere")
    with pytest.raises(ConfigError, match=r"no model called 'vit-tny-16'. Did you mean vit-tiny-16"):
        train("vit-tny-16", "things")
    with pytest.raises(UsageError, match=r"--set optimiser.rate has no '='"):
        train("vit-tiny-16", "things", set=("optimiser.rate",))
    with pytest.raises(ConfigError, match="no device called 'gpu'"):
        train("vit-tiny-16", "things", device="gpu")


def test_a_recipe_file_can_be_trained_again_on_the_same_kind_of_data(home):
    run, _ = begin()
    again = train(str(run / "recipe.json"), "things", workers=0, say=lambda sentence: None)
    assert sha256(again / "model.safetensors") == sha256(run / "model.safetensors")


@pytest.mark.parametrize(
    ("model", "side", "expected"),
    [
        ("vit-small-16", 500, {}),
        ("vit-small-16", 224, {}),
        ("vit-small-16", 200, {"image": 192, "patch": 16}),
        ("vit-small-16", 128, {"image": 128, "patch": 16}),
        ("vit-small-16", 96, {"image": 96, "patch": 8}),
        ("vit-small-16", 64, {"image": 64, "patch": 8}),
        ("vit-base-32", 128, {"image": 128, "patch": 16}),
        ("vit-small-16", 32, {"image": 32, "patch": 4}),
        ("vit-small-16", 28, {"image": 28, "patch": 4}),
        ("vit-tiny-conv", 100, {"image": 96}),
        ("vit-tiny-conv", 10, {"image": 16}),
    ],
)
def test_small_pictures_are_not_read_enlarged(model, side, expected):
    assert size_for(catalog.family_of_model(model).variants[model], side) == expected
    assert vitrail.create_model(model, **expected)


def test_imbalance_gets_a_hint_unless_something_is_done_about_it(home):
    paths = open_splits("things").train.paths
    rare = PictureFiles(paths=paths, targets=[0] * 17 + [1] * 3, classes=("common", "rare"))
    recipe = classify("things", open_splits("things")._replace(train=rare), model="vit-tiny-16", say=lambda said: None)
    said: list[str] = []
    hint_at_imbalance(recipe, rare, said.append)
    assert said.pop() == (
        "'common' has 17 pictures and 'rare' 3. --set data.balanced=true shows all equally often, and "
        "--set task.weights=balanced lets a rare class count as much as a frequent one."
    )
    several = replace(rare, targets=[(0,)] * 17 + [(0, 1)] * 2 + [()], multi_label=True)
    hint_at_imbalance(recipe, several, said.append)
    assert said.pop().startswith("'common' has 19 pictures and 'rare' 2. --set task.weights=balanced"), "no order then"
    for done in (
        replace(recipe, data=replace(recipe.data, balanced=True)),
        replace(recipe, task=replace(recipe.task, weights="balanced")),
    ):
        hint_at_imbalance(done, rare, said.append)
    hint_at_imbalance(recipe, replace(rare, targets=[0] * 15 + [1] * 3), said.append)
    hint_at_imbalance(recipe, replace(several, targets=[()] * 20), said.append)
    assert not said


def test_the_hint_comes_when_a_model_is_trained_on_texts_too(home):
    rows = [
        f"{word} {number},{label}"
        for word, label, count in (("fine", "yes", 30), ("bad", "no", 4))
        for number in range(count)
    ]
    (home / "uneven.csv").write_text("text,label\n" + "\n".join(rows) + "\n")
    said: list[str] = []
    tiny = [f"model.{one}" for one in ("dim=16", "depth=1", "heads=2", "mlp_dim=16", "max_tokens=16")]
    train("bert-tiny", "uneven.csv", dry_run=True, workers=0, say=said.append, set=(*tiny, "data.vocabulary=300"))
    [hint] = [sentence for sentence in said if sentence.startswith("'yes' has")]
    assert re.fullmatch(r"'yes' has \d+ texts and 'no' \d\. --set task\.weights=balanced lets a rare class .*", hint)


def test_balanced_weights_are_counted_from_the_pictures(home):
    for number in range(8):
        (home / f"things/train/dark/{number:02d}.png").unlink()
    folder, splits = home / "run", open_splits("things")
    recipe = tiny_recipe(home / "things", steps=1)
    balanced = replace(recipe, task=replace(recipe.task, weights="balanced"))
    numbers = replace(recipe, task=replace(recipe.task, weights=(12 / 20, 12 / 4)))
    runs = [fit(one, folder / str(place), splits=splits, say=print) for place, one in enumerate((balanced, numbers))]
    kept = [sha256(run.folder / "model.safetensors") for run in runs]
    assert kept[0] == kept[1]
    assert kept[0] != sha256(fit(recipe, folder / "plain", splits=splits, say=print).folder / "model.safetensors")
    assert '"weights": "balanced"' in (folder / "0/recipe.json").read_text()


def test_runs_are_named_as_people_would(home):
    names = {"things/": "things", "scenes:": "scenes", "scenes:100,size=48": "scenes-100,size=48", "a/b.csv": "b"}
    assert {data: name_of(data) for data in names} == names
    assert name_of(".") == home.name
    (home / "flowers.v2").mkdir()
    assert name_of("flowers.v2/") == "flowers.v2"
    assert free_folder("classify", "things", print) == Path("runs/classify/things")


def test_the_time_that_is_left_counts_the_judging_and_waits_for_enough_steps(monkeypatch):
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    pace = Pace()
    for took in (9.0, 3.0, *[0.1] * 10):  # the first two warm up
        assert not pace.known
        now += took
        pace.stepped(20)
    assert pace.known
    assert pace.left(50, 2, 120) == pytest.approx(50 * 0.1 + 2 * 120 / 200 / 3)
    now += 7.0
    pace.judged()
    assert pace.left(50, 1, 120) == pytest.approx(50 * 0.1 + 7)


def test_one_slow_step_is_enough_to_tell_the_time(monkeypatch):
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    pace = Pace()
    for _ in range(3):
        now += 6.0
        pace.stepped(20)
    assert pace.known


@pytest.mark.parametrize(("seconds", "words"), [(5, "5 s"), (89, "89 s"), (600, "10 min"), (7500, "2 h 05 min")])
def test_times_are_said_as_people_would(seconds, words):
    assert span(seconds) == words
