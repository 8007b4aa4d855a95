"""A recipe made real: the model, what moves it, what it reads, and how far it has come."""

import copy
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from vitrail.core.devices import to_device
from vitrail.data.balance import class_weights
from vitrail.data.dataset import Splits, identity
from vitrail.data.datasets import scenes
from vitrail.data.material import Batches
from vitrail.errors import TrainingError
from vitrail.evaluate.evaluate import evaluate
from vitrail.loading import from_pretrained, save_pretrained
from vitrail.samples import Batch
from vitrail.tasks.task import NeedsModels, NeedsWeights, Remarks, Task
from vitrail.train.building import build_model, card_of, prepare, rebuild_model, tell_model
from vitrail.train.checkpoint import Checkpoint, below, prefixed
from vitrail.train.distributed import Team
from vitrail.train.ema import averaging, refuse_counting
from vitrail.train.memory import refuse_too_little
from vitrail.train.optim import build_optimiser, set_rate
from vitrail.train.overfit import splits_of
from vitrail.train.recipe import Recipe
from vitrail.train.sameness import environment, seed_of, settings
from vitrail.train.signals import Stopped, Stopping, Until
from vitrail.weights.card import GENERATED
from vitrail.writing import write_whole

Say = Callable[[str], None]


class Best(NamedTuple):
    """The weights that validation liked most so far; of those it liked equally, the ones that learned longest.

    Attributes:
        step: after which they were judged.
        since: the step after which a score was first as good as this one.
        score: the one that decides.
        scores: all of them.
        tensors: the weights.
    """

    step: int
    since: int
    score: float
    scores: dict[str, float]
    tensors: dict[str, Tensor]


def better(score: float, than: float, end: Literal["max", "min"]) -> bool:
    """Whether a score beats another; any number beats one that is none."""
    if math.isnan(than):
        return not math.isnan(score)
    return score > than if end == "max" else score < than


class Run:
    """One training under way.

    Where it stands is one number, `step`. Its place in the data, its rate and its chance are functions of it, so a
    run that goes on from a checkpoint is the run that was never stopped.

    Args:
        recipe: what to do.
        folder: of the run.
        team: the processes that share the work.
        stopping: knows whether somebody has asked to stop.
        saved: where to go on from; `None` begins.
        splits: the data; opened from the recipe unless given.
        say: told what was guessed or noticed.
    """

    def __init__(
        self,
        recipe: Recipe,
        folder: Path,
        team: Team,
        stopping: Stopping,
        *,
        saved: Checkpoint | None = None,
        splits: Splits | None = None,
        say: Say = print,
    ) -> None:
        self.recipe, self.folder, self.team, self.stopping, self.say = recipe, folder, team, stopping, say
        self.splits = splits or splits_of(recipe)
        if saved is None:
            self.model = build_model(recipe, self.splits.train, say)
        else:
            self.model = rebuild_model(saved.progress["model"])
        self.model.to(team.device)
        prepare(self.model, recipe)
        refuse_too_little(self.model, recipe, team.world)
        self.task = self.bind(recipe.task)
        if saved is None and isinstance(self.task, Remarks):
            for remark in self.task.remarks(self.model):
                say(remark)
        self.optimiser = build_optimiser(self.model, recipe.optimiser)
        if saved is None:
            refuse_counting(self.model, recipe.average_last)
        self.average = averaging(self.model, recipe.ema, recipe.average_last)
        self.generator = torch.Generator(team.device)
        self.accumulate = self.batches_for_each()
        self.loader, self.validation = self.build_loaders()
        self.stream = self.read()
        self.step, self.judged = 0, 0  # steps taken; and after which of them it was judged last
        self.scores: dict[str, float] = {}
        self.best: Best | None = None
        self.stopped = 0  # the signal that ended it early
        self.began, self.seconds_before = time.monotonic(), 0.0
        self.resumed = saved is not None
        if saved is not None:
            self.restore(saved)
        team.share(self.model)

    # what it is made of

    def bind(self, task: Task) -> Task:
        """The task, with the weights of classes and the models that it needs."""
        if isinstance(task, NeedsWeights):
            task = task.weighed(lambda: class_weights(self.splits.train).tolist())
        if not isinstance(task, NeedsModels):
            return task

        def load(source: str) -> nn.Module:
            return from_pretrained(source, announce=self.say).to(self.team.device)

        return task.bind(load, self.model)

    def batches_for_each(self) -> int:
        """How many batches each process takes in a step, so that all take what the recipe says together."""
        together = self.recipe.accumulate * self.recipe.processes
        if together % self.team.world:
            raise TrainingError(
                f"A step of this run has {together} batches, which {self.team.world} processes cannot share evenly. "
                f"Use {self.recipe.processes} processes, as it began, or 1."
            )
        return together // self.team.world

    def build_loaders(self) -> tuple[Batches, Batches]:
        """What to learn from, and what to be judged by."""
        data, preprocessing, team = self.recipe.data, card_of(self.model).preprocessing, self.team
        return (
            data.learning(self.splits.train, preprocessing, seed=self.recipe.seed, rank=team.rank, world=team.world),
            data.judging(self.splits.val, preprocessing),
        )

    # where it stands

    @property
    def steps_per_epoch(self) -> int:
        return -(-len(self.loader) // self.accumulate)

    @property
    def steps(self) -> int:
        """How many steps the whole run has, unless it stops early."""
        return self.recipe.steps or self.recipe.epochs * self.steps_per_epoch

    @property
    def epochs(self) -> int:
        return -(-self.steps // self.steps_per_epoch)

    @property
    def epoch(self) -> int:
        """How many epochs are complete."""
        return self.step // self.steps_per_epoch

    @property
    def seconds(self) -> float:
        """How long it has been at work, in this sitting and those before."""
        return self.seconds_before + time.monotonic() - self.began

    @property
    def due(self) -> bool:
        """Whether the model is to be judged before the next step."""
        at_end = self.step == self.steps or self.step % (self.recipe.judge_every * self.steps_per_epoch) == 0
        return at_end and self.step > self.judged

    @property
    def finished(self) -> bool:
        """Whether nothing is left to do."""
        return not self.due and (self.step >= self.steps or self.hopeless)

    @property
    def hopeless(self) -> bool:
        """Whether it has not become better for as long as patience lasts."""
        return self.recipe.patience is not None and self.fruitless >= self.recipe.patience

    @property
    def fruitless(self) -> int:
        """How many epochs the last judgement is behind the one after which it has not become better."""
        return 0 if self.best is None else (self.judged - self.best.since) // self.steps_per_epoch

    def goes_on(self) -> bool:
        """Whether there is more to do, and nobody in any process has asked to stop."""
        if self.finished:
            return False
        self.stopped = int(self.team.largest(self.stopping.asked or 0))
        return not self.stopped

    # what a step needs

    def read(self) -> Iterator[list[Batch]]:
        """The batches of each step, from where the run stands, without end."""
        while True:
            epoch, place = divmod(self.step, self.steps_per_epoch)
            batches = self.loader.epoch(epoch, start=place * self.accumulate)
            for _ in range(place, self.steps_per_epoch):
                yield [to_device(batch, self.team.device) for batch in islice(batches, self.accumulate)]
            next(batches, None)  # lets the loader see the end of its epoch, and keep its processes for the next

    def fetch(self) -> list[Batch]:
        """This process's batches of the next step. With the rate and all chance they are functions of the step."""
        torch.manual_seed(seed_of(self.recipe.seed, "step", self.step, self.team.rank))
        self.generator.manual_seed(seed_of(self.recipe.seed, "task", self.step, self.team.rank))
        set_rate(self.optimiser, self.rate)
        return next(self.stream)

    @property
    def rate(self) -> float:
        """The learning rate of the next step, for the top layer."""
        return self.recipe.optimiser.rate * self.recipe.schedule.factor(self.step, self.steps)

    def autocast(self) -> torch.autocast:
        """The precision of the recipe."""
        return torch.autocast(self.team.device.type, torch.bfloat16, enabled=self.recipe.precision == "bfloat16")

    def advance(self) -> None:
        """One more step has been taken."""
        self.step += 1
        if self.average is not None:
            self.average.update(self.model, self.step)
            self.gather()

    def gather(self) -> None:
        """Let the average know of the end of an epoch, or of the run."""
        ended = self.step % self.steps_per_epoch == 0 or self.step == self.steps
        if self.average is not None and self.step and ended:
            self.average.gather(self.model, self.step)

    # how good it is

    @property
    def candidate(self) -> nn.Module:
        """The weights that are judged and may be kept: the average where there is one."""
        return self.model if self.average is None else self.average.model

    def judge(self) -> bool:
        """Score the model on the validation data, and remember its weights if none before them were better.

        The leader judges and the others are told. False when somebody asked to stop before it was done.
        """
        name, end = self.task.best
        complete, score = 1.0, math.nan
        self.team.share(self.candidate)
        if self.team.leads:
            try:
                report = evaluate(self.candidate, self.task, Until(self.validation, self.stopping))
                self.scores = dict(report.scores)
                score = self.scores[name]
            except Stopped:
                complete = 0.0
        complete, score = self.team.told([complete, score])
        if not complete:
            return False
        self.judged = self.step
        best = self.best
        if best is None or not better(best.score, score, end):
            since = self.step if best is None or better(score, best.score, end) else best.since
            weights = self.candidate.state_dict() if self.recipe.keep == "best" else {}
            copies = {name: tensor.detach().cpu().clone() for name, tensor in weights.items()}
            self.best = Best(self.step, since, score, self.scores, copies)
        return True

    # how it is kept

    def tensors(self) -> dict[str, Tensor]:
        """Everything that has been learned."""
        held = prefixed("model", self.model.state_dict())
        for name, parameter in self.model.named_parameters():
            held |= prefixed(f"optimiser/{name}", self.optimiser.state.get(parameter, {}))
        if self.average is not None:
            held |= prefixed("average", self.average.tensors())
        if self.best is not None:
            held |= prefixed("best", self.best.tensors)
        return held

    def progress(self) -> dict[str, Any]:
        """Everything else that a run has to know to go on."""
        best = self.best
        return {
            "model": tell_model(self.model),
            "judged": self.judged,
            "best": None
            if best is None
            else {name: value for name, value in best._asdict().items() if name != "tensors"},
            "scores": self.scores,
            "seconds": self.seconds,
            "pictures": len(self.splits.train),
            "data": self.data,
            "judged_by": self.judged_by,
            "recipe": settings(self.recipe),
            "environment": environment(self.recipe),
        }

    @cached_property
    def data(self) -> str:
        """What it learns from, in a word that tells it from other data."""
        return identity(self.splits.train)

    @cached_property
    def judged_by(self) -> str:
        """The same of what it is judged by."""
        return identity(self.splits.val)

    def restore(self, saved: Checkpoint) -> None:
        """Stand where a checkpoint stood."""
        progress, tensors = saved.progress, saved.tensors
        self.notice_changes(progress)
        self.step, self.judged = saved.step, progress["judged"]
        self.scores, self.seconds_before = progress["scores"], progress["seconds"]
        self.model.load_state_dict(below("model", tensors))
        for name, parameter in self.model.named_parameters():
            state = below(f"optimiser/{name}", tensors)
            if state:
                copies = {key: value.to(parameter.device, copy=True) for key, value in state.items()}
                self.optimiser.state[parameter] = copies
        if self.average is not None:
            self.average.restore(below("average", tensors))
            self.gather()  # which older checkpoints left to the judgement
        if progress["best"] is not None:
            weights = {name: tensor.clone() for name, tensor in below("best", tensors).items()}
            told = {"since": progress["best"]["step"], **progress["best"]}  # which older checkpoints do not say
            self.best = Best(**told, tensors=weights)

    def notice_changes(self, progress: Mapping[str, Any]) -> None:
        """Say what is no longer as it was, since the bytes will then differ.

        Raises:
            TrainingError: the data has other classes now, or the recipe another model.
        """
        if self.splits.train.classes != card_of(self.model).labels:
            raise TrainingError(
                f"The classes of {self.recipe.data.path} are no longer those that this run learns: "
                f"{', '.join(card_of(self.model).labels)}. Put the data back as it was, or train anew."
            )
        before = progress.get("recipe", settings(self.recipe))  # which older checkpoints do not say
        then, now = before | progress["environment"], settings(self.recipe) | environment(self.recipe)
        changed = [name for name in (*before, *environment(self.recipe)) if then.get(name) != now.get(name)]
        changes = [f"{name} was {then.get(name, 'not said')} and is {now.get(name, 'not said')}" for name in changed]
        if any(name.startswith(("model.", "ema", "average_last")) for name in changed):
            raise TrainingError(
                f"{self.folder / 'recipe.json'} was changed: {'; '.join(changes)}. A run keeps its model and how it is "
                "averaged: put them back, or train anew."
            )
        were, are, unit = progress["pictures"], len(self.splits.train), self.recipe.data.unit
        if were != are:
            changes.append(f"there were {were} {unit}s to learn from and are {are}")
        elif "data" in progress and progress["data"] != self.data:
            changes.append(f"some {unit}s to learn from are others, stand in another order or have another label")
        if progress.get("judged_by", self.judged_by) != self.judged_by:
            changes.append(f"some {unit}s to be judged by are others, so that scores do not compare with those before")
        if changes:
            self.say(f"Not as it was: {'; '.join(changes)}. The run goes on, but not to the same bytes.")

    @property
    def kept_best(self) -> Best | None:
        """The weights to keep, where they are not the present ones."""
        return self.best if self.recipe.keep == "best" else None

    @property
    def kept_step(self) -> int:
        """The step after which the weights to keep were there."""
        return self.step if self.kept_best is None else self.kept_best.step

    @property
    def kept_scores(self) -> dict[str, float]:
        """What the weights to keep scored."""
        return self.scores if self.kept_best is None else self.kept_best.scores

    def export(self) -> None:
        """Put the weights to keep into the run folder as a model, and beside it how they came about."""
        model: Any = copy.deepcopy(self.candidate)
        if self.kept_best is not None:
            model.load_state_dict(self.kept_best.tensors)
        seen = GENERATED if scenes.recognises(self.recipe.data.path) and not self.recipe.model.init else ""
        origin = f"trained by vitrail {version('vitrail')}{seen}"
        model.card = replace(model.card, scores=self.kept_scores, origin=origin)
        save_pretrained(model, self.folder, announce=lambda sentence: None)
        told = {
            "kept": self.recipe.keep,
            "average": self.average is not None,
            "average_last": self.recipe.average_last,
            "step": self.kept_step,
            "steps": self.steps,
            "scores": self.kept_scores,
            "seconds": round(self.seconds, 1),
            "seed": self.recipe.seed,
            "environment": environment(self.recipe),
        }
        write_whole(self.folder / "run.json", json.dumps(told, indent=2) + "\n", durable=True)
