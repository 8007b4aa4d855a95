"""Trying a run out: a few steps of everything, and what the whole would cost."""

import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from vitrail.data.dataset import Dataset, Splits, Subset
from vitrail.errors import UsageError, span
from vitrail.train.fit import fit
from vitrail.train.observers import Observer, Taken
from vitrail.train.recipe import Recipe
from vitrail.train.run import Run

STEPS = 3  # the first warms up


class Stopwatch(Observer):
    """Notes how large a model is and how long its steps and its judging take."""

    def __init__(self) -> None:
        self.parameters = self.learning = self.steps_per_epoch = 0
        self.steps: list[float] = []
        self.judging = 0.0

    def begin(self, run: Run) -> None:
        parameters = list(run.model.parameters())
        self.parameters = sum(parameter.numel() for parameter in parameters)
        self.learning = sum(parameter.numel() for parameter in parameters if parameter.requires_grad)
        self.steps_per_epoch = run.steps_per_epoch
        self.last = time.monotonic()

    def stepped(self, run: Run, taken: Taken) -> None:
        self.steps.append(time.monotonic() - self.last)
        self.last = time.monotonic()

    def judged(self, run: Run) -> None:
        self.judging = time.monotonic() - self.last
        self.last = time.monotonic()


def first(dataset: Dataset, count: int) -> Dataset:
    """The first samples of a data set."""
    return Subset(dataset, range(min(count, len(dataset))))


def most_memory(device: str) -> int | None:
    """Bytes that this process has held at most, on a GPU or else in all; Windows does not say."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated()
    if sys.platform == "win32":
        return None
    import resource  # which Windows has not

    unit = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes, Linux kilobytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def dry_run(recipe: Recipe, splits: Splits, say: Callable[[str], None]) -> None:
    """Train a few steps, judge a batch, save and load, in a folder that is thrown away, and say what it showed.

    Raises:
        UsageError: there are several processes.
    """
    if recipe.processes > 1:
        raise UsageError("--dry-run tries one process. Leave out torchrun; each process will need as much memory.")
    together = recipe.data.batch * recipe.accumulate * recipe.processes
    little = Splits(first(splits.train, STEPS * together), first(splits.val, recipe.data.batch), [])
    trial = replace(recipe, steps=STEPS)
    watch = Stopwatch()
    with tempfile.TemporaryDirectory(prefix="vitrail-dry-run-") as folder:
        fit(trial, Path(folder) / "run", observers=[watch], splits=little, say=say)
        written = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
        fit(trial, Path(folder) / "run", resume=True, splits=little, say=say)
    epoch_steps = max(round(watch.steps_per_epoch * len(splits.train) / len(little.train)), 1)
    steps = recipe.steps or recipe.epochs * epoch_steps
    judging = watch.judging * len(splits.val) / len(little.val)
    step = min(watch.steps[1:])
    say(f"Parameters: {watch.parameters / 1e6:.2f} million, of which {watch.learning / 1e6:.2f} million learn.")
    held, counted = most_memory(recipe.device), 4 * watch.parameters + 12 * watch.learning
    most = "" if held is None else f"{held / 1e9:.2f} GB at most so far, of which "
    say(f"Memory: {most}weights, gradients and AdamW {counted / 1e9:.2f} GB. Disk: {written / 1e9:.2f} GB.")
    say(
        f"Time: {step:.2f} s a step, {span(epoch_steps * step + judging)} an epoch, "
        f"{span(steps * step + steps / epoch_steps * judging)} for all {steps} steps."
    )
    say("A few steps, judging, saving and loading all worked; nothing is left behind.")
