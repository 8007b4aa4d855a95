"""Who watches a run. An observer touches neither weights nor order, so it cannot change what a run ends with."""

import csv
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from vitrail.errors import span
from vitrail.samples import Batch
from vitrail.tasks.scores import in_words
from vitrail.tasks.task import Loss, weight_of
from vitrail.train.checkpoint import Checkpoints
from vitrail.train.forecast import EARLY, ENOUGH, in_a_sentence, is_foretold, most_of, outlook
from vitrail.train.run import Run
from vitrail.writing import write_whole


class Taken(NamedTuple):
    """One step that has been taken.

    Attributes:
        loss: mean over its samples, in all processes.
        parts: what the loss is made of, mean over its samples in this process.
        norm: of the gradient, before it was clipped.
        rate: the learning rate of the top layer.
        samples: how many pictures it saw, in all processes.
    """

    loss: float
    parts: dict[str, float]
    norm: float
    rate: float
    samples: int


def taken_step(
    run: Run, batches: Sequence[Batch], losses: Sequence[Loss], norm: float, samples: float, whole: float
) -> Taken:
    """What there is to tell about a step: the loss that all processes have stepped by, `whole` being their weight."""
    shares = [weight_of(run.task, batch) / whole for batch in batches]
    totals = [float(loss.total.detach()) for loss in losses]
    mean = run.team.sum(sum(total * share for total, share in zip(totals, shares, strict=True)))
    parts: dict[str, float] = {}
    for loss, share in zip(losses, shares, strict=True):
        for name, value in loss.parts.items():
            parts[name] = parts.get(name, 0.0) + float(value) * share / sum(shares)
    return Taken(mean, parts, norm, run.rate, round(samples))


class Observer:
    """Is told what happens; the default is not to care."""

    def begin(self, run: Run) -> None:
        """Training is about to start, or to go on."""

    def stepped(self, run: Run, taken: Taken) -> None:
        """A step was taken."""

    def judged(self, run: Run) -> None:
        """The model was judged on the validation data; see `run.scores`."""

    def end(self, run: Run) -> None:
        """Training is over, or was asked to stop."""

    def close(self) -> None:
        """Nothing more will come, also after an error."""


class Watch(Observer):
    """Several observers as one."""

    def __init__(self, observers: Sequence[Observer]) -> None:
        self.observers = observers

    def begin(self, run: Run) -> None:
        for observer in self.observers:
            observer.begin(run)

    def stepped(self, run: Run, taken: Taken) -> None:
        for observer in self.observers:
            observer.stepped(run, taken)

    def judged(self, run: Run) -> None:
        for observer in self.observers:
            observer.judged(run)

    def end(self, run: Run) -> None:
        for observer in self.observers:
            observer.end(run)

    def close(self) -> None:
        for observer in self.observers:
            observer.close()


@contextmanager
def watching(run: Run, observers: Sequence[Observer]) -> Iterator[Watch]:
    """Tell observers when a run begins and, if nothing went wrong, when it ends."""
    watch = Watch(observers if run.team.leads else [])
    try:
        watch.begin(run)
        yield watch
        watch.end(run)
    finally:
        watch.close()


class Saving(Observer):
    """Saves the run every so many seconds, and when it ends.

    A save may not take more than a fiftieth of the time: where it is slow, it comes less often.

    Args:
        checkpoints: where to.
        every: seconds between two.
    """

    SHARE = 50

    def __init__(self, checkpoints: Checkpoints, every: float) -> None:
        self.checkpoints, self.every = checkpoints, every
        self.saved: tuple[int, int] | None = None  # step and judgement that the newest checkpoint holds
        self.next = 0.0

    def begin(self, run: Run) -> None:
        self.next = time.monotonic() + self.every
        if run.resumed:
            self.saved = (run.step, run.judged)
        else:
            self.save(run)

    def stepped(self, run: Run, taken: Taken) -> None:
        if time.monotonic() >= self.next:
            self.save(run)

    def end(self, run: Run) -> None:
        if self.saved != (run.step, run.judged):
            self.save(run)

    def save(self, run: Run) -> None:
        started = time.monotonic()
        self.checkpoints.save(run.step, run.tensors(), run.progress())
        finished = time.monotonic()
        self.saved = (run.step, run.judged)
        self.next = finished + max(self.every, self.SHARE * (finished - started))


class Keeping(Observer):
    """Puts the weights that are kept into the run folder, so that it can be used like any model."""

    def __init__(self) -> None:
        self.written: int | None = None  # the step whose weights stand there since this sitting

    def judged(self, run: Run) -> None:
        if run.kept_step == run.step:
            self.write(run)

    def end(self, run: Run) -> None:
        if run.kept_step != self.written:
            self.write(run)

    def write(self, run: Run) -> None:
        run.export()
        self.written = run.kept_step


class Log(Observer):
    """Writes `metrics.jsonl` as the run goes and `metrics.csv` when it ends.

    Args:
        folder: where to.
        every: steps between two lines; fewer in a run of so few steps that its curves would have hardly a point. Each
            judgement has a line of its own.
    """

    POINTS = 50  # in a curve, if it has so many steps

    def __init__(self, folder: Path, every: int = 10) -> None:
        self.lines, self.table, self.every = folder / "metrics.jsonl", folder / "metrics.csv", every
        self.losses: list[float] = []
        self.parts: list[Mapping[str, float]] = []

    def begin(self, run: Run) -> None:
        """Forget what was logged after the step from which the run goes on."""

        def reached(record: dict[str, Any]) -> bool:
            judgement = any(name.startswith("val_") for name in record)
            return record["step"] <= (run.judged if judgement else run.step)

        kept = [record for record in self.records() if reached(record)]
        write_whole(self.lines, "".join(json.dumps(record) + "\n" for record in kept), durable=True)
        self.file = open(self.lines, "a", encoding="utf-8", buffering=1)  # noqa: SIM115, one line at a time reaches it

    def records(self) -> list[dict[str, Any]]:
        """All lines so far; one that a dying process left half written is skipped."""
        records = []
        for line in self.lines.read_text(encoding="utf-8").splitlines() if self.lines.exists() else []:
            try:
                records.append(json.loads(line))
            except ValueError:
                continue
        return records

    def stepped(self, run: Run, taken: Taken) -> None:
        self.losses.append(taken.loss)
        self.parts.append(taken.parts)
        every = min(self.every, max(run.steps // self.POINTS, 1))
        if run.step % every == 0 or run.step == run.steps:
            names = dict.fromkeys(name for parts in self.parts for name in parts)
            told = {name: [parts[name] for parts in self.parts if name in parts] for name in names}
            parts = {f"loss_{name}": fmean(values) for name, values in told.items()}
            self.write(run, loss=fmean(self.losses), **parts, rate=taken.rate, gradient=taken.norm)
            self.losses.clear()
            self.parts.clear()

    def judged(self, run: Run) -> None:
        self.write(run, **{f"val_{name}": score for name, score in run.scores.items()})

    def write(self, run: Run, **values: float) -> None:
        record = {"step": run.step, "epoch": round(run.step / run.steps_per_epoch, 4), "seconds": round(run.seconds, 1)}
        self.file.write(json.dumps(record | values) + "\n")

    def close(self) -> None:
        if hasattr(self, "file"):
            self.file.close()
            records = self.records()
            names = list(dict.fromkeys(name for record in records for name in record))
            with open(self.table, "w", encoding="utf-8", newline="") as file:
                writer = csv.DictWriter(file, names)
                writer.writeheader()
                writer.writerows(records)


class Pace:
    """How fast a run goes, from the steps of this sitting; the first ones, which warm up, do not count."""

    WARM = 2
    ENOUGH, LONG_ENOUGH = 10, 5.0  # steps, or seconds, after which it can be believed
    JUDGING = 1 / 3  # of a step's work falls to each picture when it is only looked at: nothing goes backward

    def __init__(self) -> None:
        self.steps, self.samples, self.spent, self.judging = -self.WARM, 0, 0.0, 0.0
        self.last = time.monotonic()

    def lap(self) -> float:
        """Seconds since it was last asked."""
        before, self.last = self.last, time.monotonic()
        return self.last - before

    def stepped(self, samples: int) -> None:
        took = self.lap()
        self.steps += 1
        if self.steps > 0:
            self.samples += samples
            self.spent += took

    def judged(self) -> None:
        self.judging = self.lap()

    @property
    def known(self) -> bool:
        return self.steps > 0 and (self.steps >= self.ENOUGH or self.spent >= self.LONG_ENOUGH)

    @property
    def per_second(self) -> float:
        """Pictures to learn from in a second."""
        return self.samples / max(self.spent, 1e-9)

    def left(self, steps: int, judgements: int, judged_by: int) -> float:
        """Seconds until the end.

        Args:
            steps, judgements: that are still to come.
            judged_by: pictures that the model is judged by each time.
        """
        judging = self.judging or self.JUDGING * judged_by / self.per_second
        return steps * self.spent / self.steps + judgements * judging


HALF_AN_HOUR = 1800.0  # seconds


def epoch_of(run: Run) -> int:
    """The epoch, counted from 1, that the last step of a run belongs to."""
    return max(-(-run.step // run.steps_per_epoch), 1)


class Screen(Observer):
    """Shows how a run goes: a line that moves on a terminal, a line now and then elsewhere.

    Args:
        say: prints a sentence.
        every: seconds between lines where nothing can move.
    """

    def __init__(self, say: Callable[[str], None], every: float = 10.0) -> None:
        self.say, self.every = say, every
        self.pace, self.loss, self.announced, self.next = Pace(), None, False, 0.0
        self.curve: list[tuple[int, float]] = []  # steps and scores of this sitting's judgements
        self.bar = None

    def begin(self, run: Run) -> None:
        for what, batches in (("learn from", run.loader), ("be judged by", run.validation)):
            if batches.lost:
                self.say(f"To {what}: {batches.lost}")
        if not sys.stdout.isatty():
            return
        from rich.progress import BarColumn, Progress, TextColumn

        shown = "[bold]{task.fields[epoch]}[/] {task.fields[state]}"
        self.bar = Progress(TextColumn(shown), BarColumn(), TextColumn("{task.fields[left]}"), transient=True)
        self.line = self.bar.add_task("", total=run.steps, completed=run.step, epoch="", state="", left="")
        self.bar.start()

    def stepped(self, run: Run, taken: Taken) -> None:
        self.pace.stepped(taken.samples)
        self.loss = taken.loss if self.loss is None else 0.95 * self.loss + 0.05 * taken.loss
        known = self.pace.known
        if known and not self.announced:
            self.announce(run)
        left = f"{span(self.left(run))} left" if known else ""
        if self.bar is not None:
            self.bar.update(self.line, completed=run.step, epoch=self.epoch(run), state=self.state(run), left=left)
        elif known and time.monotonic() >= self.next:
            self.say(f"{self.epoch(run)}, {self.state(run)}, {left}")
            self.next = time.monotonic() + self.every

    def announce(self, run: Run) -> None:
        """Say how long it will take, once that is known."""
        self.announced = True
        left = self.left(run)
        seconds = left + run.seconds
        how_long = (
            f"The rest will take about {span(left)}"
            if run.resumed
            else f"The whole run will take about {span(seconds)}"
        )
        self.say(f"{how_long}. Ctrl-C saves it, and `vitrail resume` goes on.")
        epochs = round(run.epochs * HALF_AN_HOUR / seconds)
        if run.step < run.steps_per_epoch and 0 < epochs < run.epochs:
            self.say(f"For a first look: --epochs {epochs} takes about half an hour.")

    def left(self, run: Run) -> float:
        """Seconds until the end."""
        judgements = -(-(run.steps - run.judged) // (run.steps_per_epoch * run.recipe.judge_every))
        return self.pace.left(run.steps - run.step, judgements, len(run.splits.val))

    def epoch(self, run: Run) -> str:
        """The epoch that the last step belongs to."""
        return f"epoch {epoch_of(run)}/{run.epochs}"

    def state(self, run: Run) -> str:
        speed = f", {self.pace.per_second:.0f} {run.recipe.data.unit}s/s" if self.pace.samples else ""
        return f"step {run.step}/{run.steps}, loss {self.loss:.3f}{speed}"

    def judged(self, run: Run) -> None:
        self.pace.judged()
        names = dict.fromkeys((run.task.best[0], "loss"))  # the rest is in the log
        scores = [f"{name} {in_words(name, run.scores[name])}" for name in names if name in run.scores]
        if "loss" not in run.scores and self.loss is not None:
            scores.append(f"loss in training {self.loss:.4g}")  # what is written by itself is not judged by a loss
        self.say(f"{self.epoch(run)} judged: {', '.join(scores)}{self.rank(run)}{self.forecast(run)}")

    def forecast(self, run: Run) -> str:
        """What the judgements so far say of the end; nothing while they are few, or when it is there."""
        name, end = run.task.best
        self.curve.append((run.step, run.scores[name]))
        early = len(self.curve) < ENOUGH or run.step < EARLY * run.steps
        if early or run.step >= run.steps or not is_foretold(name):
            return ""
        steps, scores = zip(*self.curve, strict=True)
        return f"; {in_a_sentence(name, *outlook(steps, scores, run.steps, end, most_of(name)))}"

    def rank(self, run: Run) -> str:
        """How the weights that were just judged stand beside those before."""
        if run.best is None or run.best.step != run.step:
            return ""
        return " (best so far)" if run.best.since == run.step else " (as good as the best so far)"

    def close(self) -> None:
        if self.bar is not None:
            self.bar.stop()
