"""Truths about training that hold whatever the recipe."""

import csv
import json
import math
import re
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

import vitrail
from reliability.tiny import CLASSES, everything_random, sha256, tiny_recipe, write_pictures
from vitrail.data import transforms
from vitrail.data.open import open_splits
from vitrail.errors import ConfigError, TrainingError
from vitrail.loading import create_model, from_pretrained
from vitrail.samples import Batch
from vitrail.tasks.classify import Classify
from vitrail.tasks.distill import Distil
from vitrail.tasks.task import Loss
from vitrail.train import memory
from vitrail.train.building import prepare
from vitrail.train.ema import refuse_counting
from vitrail.train.fit import fit
from vitrail.train.guards import memory_in_words
from vitrail.train.memory import bytes_of_step
from vitrail.train.observers import Log, Observer, Screen, Taken
from vitrail.train.recipe import ModelChoice, Recipe
from vitrail.train.signals import Interrupted


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("pictures"))


class Notes(Observer):
    """Keeps everything that it is told."""

    def __init__(self) -> None:
        self.taken: list[Taken] = []
        self.scores: list[dict[str, float]] = []
        self.events: list[str] = []

    def begin(self, run) -> None:
        self.events.append("begin")
        self.names = [name for name, parameter in run.model.named_parameters() if parameter.requires_grad]

    def stepped(self, run, taken: Taken) -> None:
        self.events.append("step")
        self.taken.append(taken)

    def judged(self, run) -> None:
        self.events.append("judged")
        self.scores.append(run.scores)
        self.best = run.best.step

    def end(self, run) -> None:
        self.events.append("end")

    def close(self) -> None:
        self.events.append("close")


def trained(recipe: Recipe, out: Path, **more) -> Notes:
    notes = Notes()
    fit(recipe, out, observers=[notes], say=lambda sentence: None, **more)
    return notes


# what a run is


def test_a_run_learns_and_its_folder_is_a_model(pictures, tmp_path):
    notes = trained(tiny_recipe(pictures, epochs=6), tmp_path / "run")
    assert notes.scores[-1]["top1"] == 1
    assert notes.taken[-1].loss < notes.taken[0].loss
    model = vitrail.from_pretrained(tmp_path / "run", announce=lambda sentence: None)
    assert model.card.labels == CLASSES
    assert model.card.task == "classify"
    assert model.card.scores["top1"] == 1
    names = {path.name for path in (tmp_path / "run").iterdir()}
    told = json.loads((tmp_path / "run" / "run.json").read_text())
    assert (told["step"], told["steps"], told["seed"]) == (notes.best, 30, 0)
    assert set(told["environment"]) >= {"vitrail", "torch", "threads", "instructions", "device"}
    assert names >= {"recipe.json", "config.json", "card.json", "model.safetensors", "manifest.json", "checkpoints"}


def test_observers_hear_everything_in_order(pictures, tmp_path):
    notes = trained(tiny_recipe(pictures, epochs=2), tmp_path / "run")
    assert notes.events == ["begin", *["step"] * 5, "judged", *["step"] * 5, "judged", "end", "close"]


def test_watching_saving_and_reading_ahead_change_no_byte(pictures, tmp_path):
    class Meddler(Notes):
        def stepped(self, run, taken: Taken) -> None:
            torch.rand(7)  # draws from the global generator, as a careless observer might
            torch.manual_seed(0)

    recipe = replace(everything_random(pictures), epochs=3)
    fit(recipe, tmp_path / "plain", say=lambda sentence: None)
    hurried = replace(recipe, save_every=0.0, data=replace(recipe.data, workers=2))
    fit(hurried, tmp_path / "watched", observers=[Meddler()], say=lambda sentence: None)
    assert sha256(tmp_path / "plain" / "model.safetensors") == sha256(tmp_path / "watched" / "model.safetensors")


def test_the_log_has_every_judgement_and_the_mean_of_all_losses(pictures, tmp_path, monkeypatch):
    monkeypatch.setattr(Log, "POINTS", 1)  # a line every ten steps, as in a long run
    notes = trained(tiny_recipe(pictures, epochs=3), tmp_path / "run")
    records = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    judged = [record for record in records if "val_top1" in record]
    assert [record["step"] for record in judged] == [5, 10, 15]
    assert [record["val_top1"] for record in judged] == [scores["top1"] for scores in notes.scores]
    losses = [record["loss"] for record in records if "loss" in record]
    assert losses == pytest.approx([sum(t.loss for t in notes.taken[a:b]) / (b - a) for a, b in ((0, 10), (10, 15))])
    with open(tmp_path / "run" / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == [str(record["step"]) for record in records]


def test_a_run_of_few_steps_has_a_line_for_each(pictures, tmp_path):
    notes = trained(tiny_recipe(pictures, epochs=2), tmp_path / "run")
    records = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    losses = [record["loss"] for record in records if "loss" in record]
    assert losses == pytest.approx([taken.loss for taken in notes.taken])


def test_the_global_generator_and_the_threads_are_left_as_they_were(pictures, tmp_path):
    torch.manual_seed(5)
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    trained(tiny_recipe(pictures, epochs=1, threads=2), tmp_path / "run")
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.get_num_threads() == threads


# what a step is


def test_accumulating_is_the_same_as_a_larger_batch_also_at_an_uneven_end(pictures, tmp_path):
    recipe = tiny_recipe(pictures, epochs=2)
    large = replace(recipe, data=replace(recipe.data, batch=6))
    small = replace(recipe, data=replace(recipe.data, batch=3), accumulate=2)  # 20 pictures: 6, 6, 6 and 2
    ours, theirs = trained(small, tmp_path / "small"), trained(large, tmp_path / "large")
    assert [taken.samples for taken in ours.taken] == [6, 6, 6, 2] * 2
    assert [t.loss for t in ours.taken] == pytest.approx([t.loss for t in theirs.taken], rel=1e-5)
    assert [t.norm for t in ours.taken] == pytest.approx([t.norm for t in theirs.taken], rel=1e-4)


def test_bfloat16_learns_what_float32_does_within_its_rounding(pictures, tmp_path):
    ours = trained(tiny_recipe(pictures, epochs=4, precision="bfloat16"), tmp_path / "half")
    theirs = trained(tiny_recipe(pictures, epochs=4), tmp_path / "full")
    assert [t.loss for t in ours.taken] == pytest.approx([t.loss for t in theirs.taken], rel=0.02)
    assert [t.loss for t in ours.taken] != [t.loss for t in theirs.taken]


def counting(recipe: Recipe) -> Recipe:
    """The same for a network with batch norms, which count what they see."""
    sizes = {"stem": 4, "layers": (1, 1), "widths": (4, 6), "image": 16, "classes": 2}
    return replace(recipe, model=ModelChoice(name="resnet-18", changes=sizes))


@pytest.mark.parametrize("counts", [False, True])
def test_checkpointing_activations_changes_no_byte(counts, pictures, tmp_path):
    recipe = replace(everything_random(pictures), epochs=2)
    recipe = counting(recipe) if counts else recipe
    trained(recipe, tmp_path / "kept")
    trained(replace(recipe, checkpointing=True), tmp_path / "twice")
    assert sha256(tmp_path / "kept" / "model.safetensors") == sha256(tmp_path / "twice" / "model.safetensors")


@pytest.mark.parametrize("name", ["gpt-mini", "transformer-tiny", "bert-mini", "vit-tiny-16", "resnet-18"])
def test_with_checkpointing_less_is_kept_for_the_way_back(name):
    model, pictures, words = create_model(name), torch.rand(1, 3, 224, 224), torch.zeros(1, 20, dtype=torch.long)
    given = {"vit-tiny-16": [pictures], "resnet-18": [pictures], "transformer-tiny": [words, words]}.get(name, [words])
    kept = []
    for checkpointing in (False, True):
        prepare(model, replace(tiny_recipe(Path("nowhere")), checkpointing=checkpointing))
        kept.append(0)

        def keep(one: torch.Tensor) -> torch.Tensor:
            kept[-1] += one.numel()
            return one

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda one: one):
            model(*given)
    assert kept[1] < 0.7 * kept[0]


def test_the_rate_follows_the_schedule_to_the_number_of_steps(pictures, tmp_path):
    recipe = tiny_recipe(pictures, epochs=4, steps=7)
    notes = trained(recipe, tmp_path / "run")
    assert [t.rate for t in notes.taken] == [3e-3 * recipe.schedule.factor(step, 7) for step in range(7)]
    assert notes.events.count("judged") == 2  # after the epoch, and at the end


def test_a_probe_learns_only_the_head(pictures, tmp_path):
    first = vitrail.create_model("vit-tiny-16", **tiny_recipe(pictures).model.changes)
    vitrail.save_pretrained(first, tmp_path / "first", announce=lambda sentence: None)
    choice = ModelChoice(name="vit-tiny-16", init=str(tmp_path / "first"))
    notes = trained(tiny_recipe(pictures, probe=True, model=choice), tmp_path / "run")
    assert notes.names == ["head.weight", "head.bias"]
    after = vitrail.from_pretrained(tmp_path / "run", announce=lambda sentence: None).state_dict()
    changed = [name for name, tensor in first.state_dict().items() if not torch.equal(tensor, after[name])]
    assert changed == ["head.weight", "head.bias"]


def test_a_student_learns_from_a_teacher_that_is_a_run(pictures, tmp_path):
    trained(tiny_recipe(pictures, epochs=4), tmp_path / "teacher")
    recipe = tiny_recipe(pictures, task=Distil(classes=CLASSES, teacher=str(tmp_path / "teacher")))
    changes = recipe.model.changes | {"distillation_token": True, "distillation_head": True}
    notes = trained(replace(recipe, model=ModelChoice(name="vit-tiny-16", changes=changes)), tmp_path / "student")
    assert set(notes.taken[0].parts) == {"labels", "teacher"}
    assert vitrail.from_pretrained(tmp_path / "student", announce=lambda sentence: None).card.task == "classify"


# what is kept


class Scripted(Classify):
    """A classifier whose validation scores are given, one for each judgement."""

    def metrics(self):
        told = SCRIPT.pop(0)

        class Told:
            def update(self, results, batch) -> None: ...

            def compute(self) -> dict[str, float]:
                return {"top1": told}

            def details(self) -> dict:
                return {}

        return Told()


SCRIPT: list[float] = []


def scripted(pictures: Path, scores: list[float], **changes) -> Recipe:
    SCRIPT[:] = scores
    return tiny_recipe(pictures, task=Scripted(classes=CLASSES), epochs=len(scores), **changes)


@pytest.mark.parametrize(("keep", "epochs"), [("best", 3), ("last", 4)])
def test_the_best_weights_are_kept_and_of_equals_the_latest_or_the_last(keep, epochs, pictures, tmp_path):
    reference = scripted(pictures, [0.1] * epochs, keep="last", steps=epochs * 5)
    constant = replace(reference.schedule, warmup=0.0, floor=1.0)  # so that a shorter run takes the same steps
    trained(replace(reference, schedule=constant), tmp_path / "reference")
    SCRIPT[:] = [0.1, 0.9, 0.9, 0.2]
    trained(replace(scripted(pictures, [0.1, 0.9, 0.9, 0.2], keep=keep), schedule=constant), tmp_path / "again")
    assert sha256(tmp_path / "again" / "model.safetensors") == sha256(tmp_path / "reference" / "model.safetensors")


def test_a_score_that_is_no_number_is_never_the_best(pictures, tmp_path):
    notes = trained(scripted(pictures, [math.nan, 0.2, math.nan]), tmp_path / "run")
    assert notes.best == 10


def test_patience_ends_a_run_that_does_not_get_better(pictures, tmp_path):
    notes, said = Notes(), list[str]()
    fit(scripted(pictures, [0.5, 0.7, 0.6, 0.7, 0.9], patience=2), tmp_path / "run", observers=[notes], say=said.append)
    assert any("has not become better for 2 epochs" in sentence for sentence in said)
    assert len(notes.scores) == 4
    assert notes.best == 20  # as good as at 10, and it has learned longer


@pytest.mark.parametrize(
    ("every", "scores", "judged"), [(2, [0.5, 0.7, 0.6, 0.9], [0.5, 0.7, 0.6]), (3, [0.5] * 4, [0.5] * 2)]
)
def test_patience_lasts_from_one_judgement_to_the_next(every, scores, judged, pictures, tmp_path):
    recipe = scripted(pictures, scores, patience=1, judge_every=every, keep="last")
    notes = trained(replace(recipe, epochs=every * len(scores)), tmp_path / "run")
    assert [one["top1"] for one in notes.scores] == judged
    assert len(notes.taken) == 5 * every * len(judged)  # it ends as it was judged


def test_a_run_that_is_resumed_knows_since_when_it_is_no_better(pictures, tmp_path):
    class Interrupting(Observer):
        def judged(self, run) -> None:
            if run.step == 20:
                run.stopping.asked = signal.SIGINT

    recipe = scripted(pictures, [0.5, 0.7, 0.6, 0.7, 0.6, 0.9], patience=3)
    with pytest.raises(Interrupted, match="Stopped after step 20"):
        fit(recipe, tmp_path / "run", observers=[Interrupting()], say=lambda sentence: None)
    notes = trained(recipe, tmp_path / "run", resume=True)
    assert len(notes.scores) == 1  # the fifth judgement is the third without getting better
    assert (notes.best, SCRIPT) == (20, [0.9])


@pytest.mark.parametrize(("scores", "said"), [([0.5, 0.5], " (as good as the best so far)"), ([0.5, 0.4], "")])
def test_the_screen_says_how_each_epoch_stands_and_what_the_loss_is(scores, said, pictures, tmp_path):
    lines: list[str] = []
    fit(scripted(pictures, scores), tmp_path / "run", observers=[Screen(lines.append)], say=lambda sentence: None)
    first, second = (line for line in lines if "judged" in line)
    assert re.fullmatch(r"epoch 1/2 judged: top1 50\.0%, loss in training \d\.\d+ \(best so far\)", first)
    assert re.fullmatch(r"epoch 2/2 judged: top1 [45]0\.0%, loss in training \d\.\d+" + re.escape(said), second)


def test_with_an_average_it_is_the_average_that_is_judged_and_kept(pictures, tmp_path):
    recipe = tiny_recipe(pictures, epochs=1, keep="last")
    trained(recipe, tmp_path / "plain")
    trained(replace(recipe, ema=0.9), tmp_path / "average")
    assert sha256(tmp_path / "plain" / "model.safetensors") != sha256(tmp_path / "average" / "model.safetensors")


def test_the_mean_of_the_last_epochs_is_judged_and_kept_and_changes_nothing_else(pictures, tmp_path):
    after: dict[str, list] = {}

    class Collector(Notes):
        def judged(self, run) -> None:
            after.setdefault(run.folder.name, []).append({k: v.clone() for k, v in run.model.state_dict().items()})

    recipe = tiny_recipe(pictures, epochs=4, keep="last")
    for name, changes in (("plain", {}), ("mean", {"average_last": 3})):
        fit(replace(recipe, **changes), tmp_path / name, observers=[Collector()], say=lambda sentence: None)
    assert all(one[k].equal(other[k]) for one, other in zip(*after.values(), strict=True) for k in one)
    kept = from_pretrained(tmp_path / "mean", announce=lambda sentence: None)
    for name, parameter in kept.named_parameters():
        expected = sum(weights[name].double() for weights in after["mean"][1:]) / 3
        torch.testing.assert_close(parameter.double(), expected, rtol=1e-6, atol=1e-8)


def test_the_mean_of_the_last_epochs_is_of_all_that_come_between_two_judgements(pictures, tmp_path):
    recipe = tiny_recipe(pictures, epochs=4, keep="last", average_last=3)
    for every in (1, 4):
        trained(replace(recipe, judge_every=every), tmp_path / str(every))
    assert sha256(tmp_path / "1" / "model.safetensors") == sha256(tmp_path / "4" / "model.safetensors")


def test_the_end_of_a_run_within_an_epoch_counts_among_the_last(pictures, tmp_path):
    after: list[dict] = []

    class Collector(Notes):
        def stepped(self, run, taken: Taken) -> None:
            if run.step in (5, 7):  # the end of the first epoch, and of the run
                after.append({name: tensor.clone() for name, tensor in run.model.state_dict().items()})

    recipe = tiny_recipe(pictures, steps=7, keep="last", average_last=2)
    fit(recipe, tmp_path / "run", observers=[Collector()], say=lambda sentence: None)
    kept = from_pretrained(tmp_path / "run", announce=lambda sentence: None)
    for name, parameter in kept.named_parameters():
        torch.testing.assert_close(parameter, (after[0][name] + after[1][name]) / 2, rtol=1e-6, atol=1e-8)


def test_batch_norms_have_no_mean_of_the_last_epochs(pictures, tmp_path):
    recipe = counting(tiny_recipe(pictures, average_last=2))
    with pytest.raises(ConfigError, match="batch norms of this model have counted"):
        trained(recipe, tmp_path / "run")
    trained(replace(recipe, probe=True, epochs=1), tmp_path / "probe")  # where they do not count
    refuse_counting(create_model("detr-resnet-50").train(), 2)  # whose norms are frozen


def test_the_parts_of_a_loss_are_logged_as_means_like_the_loss(pictures, tmp_path, monkeypatch):
    monkeypatch.setattr(Log, "POINTS", 1)
    recipe = tiny_recipe(pictures, epochs=2, accumulate=4)
    recipe = replace(recipe, data=replace(recipe.data, batch=3))  # 3 + 3 + 3 + 3 and 3 + 3 + 2 pictures a step
    trained(replace(recipe, keep="last"), tmp_path / "teacher")
    task = Distil(classes=CLASSES, teacher=str(tmp_path / "teacher"), trust=0.25)
    student = replace(recipe, task=task, model=replace(recipe.model, name="deit-tiny-distilled-16"))
    trained(student, tmp_path / "student")
    lines = [json.loads(line) for line in (tmp_path / "student" / "metrics.jsonl").read_text().splitlines()]
    told = [line for line in lines if "loss" in line]
    assert told
    for line in told:
        assert line["loss"] == pytest.approx(0.75 * line["loss_labels"] + 0.25 * line["loss_teacher"], rel=1e-6)


# what goes wrong


def poison(monkeypatch: pytest.MonkeyPatch, value: float, index: int = 3) -> None:
    """Let one training picture be read as numbers that are none."""
    normal = transforms.TrainTransform.__call__

    def read(self, sample, seed):
        pixels = normal(self, sample, seed)
        return pixels * value if seed[-1] == index else pixels

    monkeypatch.setattr(transforms.TrainTransform, "__call__", read)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_pixels_that_are_no_numbers_stop_the_run_and_are_named(value, pictures, tmp_path, monkeypatch):
    poison(monkeypatch, value)
    with pytest.raises(TrainingError, match=r"the loss is nan. The pixels themselves are not finite. The batch: .*png"):
        trained(tiny_recipe(pictures), tmp_path / "run")
    listed = json.loads((tmp_path / "run" / "bad-batch.json").read_text())
    guilty = open_splits(pictures).train[3].picture.name
    assert guilty in listed["files"]
    assert len(listed["files"]) == 4


class Breaking(Classify):
    """A classifier whose loss, or its gradient, is no number at one step."""

    def loss(self, model, batch: Batch, generator=None) -> Loss:
        loss = super().loss(model, batch, generator).total
        BREAKING["steps"] += 1
        if BREAKING["steps"] == 7:
            loss = loss / 0 if BREAKING["what"] == "loss" else (loss - loss.detach()).sqrt() + loss.detach()
        return Loss(loss, {})


BREAKING = {"steps": 0, "what": "loss"}


@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_a_loss_or_gradient_that_is_no_number_stops_before_it_reaches_the_weights(what, pictures, tmp_path):
    BREAKING.update(steps=0, what=what)
    notes = Notes()
    recipe = tiny_recipe(pictures, task=Breaking(classes=CLASSES), save_every=0.0)
    with pytest.raises(TrainingError, match=f"At step 7 the {what} .*last checkpoint is kept"):
        fit(recipe, tmp_path / "run", observers=[notes], say=lambda sentence: None)
    assert len(notes.taken) == 6
    assert notes.events[-1] == "close"  # and no "end": nothing was finished
    recovered = trained(replace(recipe, task=Classify(classes=CLASSES)), tmp_path / "run", resume=True)
    assert all(math.isfinite(taken.loss) for taken in recovered.taken)


def test_too_little_memory_is_a_sentence_with_what_to_lower(pictures):
    recipe = tiny_recipe(pictures)
    messages = (
        "[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes",
        "CUDA out of memory. Tried to allocate 2.00 GiB",
    )
    for message in messages:
        advice = r"not enough memory on cpu .*--batch 2 --set accumulate=2"
        with pytest.raises(TrainingError, match=advice), memory_in_words(recipe):
            raise RuntimeError(message)
    with pytest.raises(RuntimeError, match="something else"), memory_in_words(recipe):
        raise RuntimeError("something else")


def test_a_real_lack_of_memory_is_caught(pictures, tmp_path):
    class Greedy(Notes):
        def stepped(self, run, taken: Taken) -> None:
            torch.empty(1 << 50)

    with pytest.raises(TrainingError, match="not enough memory"):
        fit(tiny_recipe(pictures), tmp_path / "run", observers=[Greedy()], say=lambda sentence: None)


def test_a_step_that_is_too_large_is_refused_before_it_is_taken(pictures, tmp_path, monkeypatch):
    recipe = tiny_recipe(pictures)
    model = create_model("vit-tiny-16", **recipe.model.changes)
    little = bytes_of_step(model, recipe)
    more = bytes_of_step(model, replace(recipe, data=replace(recipe.data, batch=8)))
    told = 16 * sum(parameter.numel() for parameter in model.parameters())
    assert more - told == 2 * (little - told) > 0
    assert bytes_of_step(model, replace(recipe, checkpointing=True)) == told
    monkeypatch.setattr(memory, "physical_memory", lambda: little - 1)
    with pytest.raises(TrainingError, match=r"There is not enough memory .* and this machine has .* --batch 2"):
        trained(recipe, tmp_path / "run")
    assert not list((tmp_path / "run").glob("*.safetensors"))


def test_other_classes_on_resume_are_refused(pictures, tmp_path):
    recipe = tiny_recipe(pictures, epochs=2)
    trained(replace(recipe, steps=3), tmp_path / "run")
    other = write_pictures(tmp_path / "other")
    (other / "train" / "dark").rename(other / "train" / "grim")
    (other / "val" / "dark").rename(other / "val" / "grim")
    with pytest.raises(TrainingError, match="no longer those that this run learns: bright, dark"):
        trained(recipe, tmp_path / "run", resume=True, splits=open_splits(other))


def test_other_pictures_on_resume_are_noticed(pictures, tmp_path):
    recipe, said = tiny_recipe(pictures, epochs=2), list[str]()
    trained(replace(recipe, steps=3), tmp_path / "run")
    other = write_pictures(tmp_path / "other")
    name = other / "train" / "dark" / "00.png"
    Image.new("RGB", (16, 16)).save(name)
    fit(replace(recipe, steps=4), tmp_path / "run", resume=True, splits=open_splits(other), say=said.append)
    assert any("some pictures to learn from are others" in sentence for sentence in said)


def test_a_model_with_another_number_of_classes_is_refused(pictures, tmp_path):
    recipe = tiny_recipe(pictures)
    choice = replace(recipe.model, changes=recipe.model.changes | {"classes": 3})
    with pytest.raises(ConfigError, match="3 classes"):
        trained(replace(recipe, model=choice), tmp_path / "run")
