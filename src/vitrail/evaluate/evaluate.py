"""How good a model is on data with the truth: one loop for any task."""

import csv
import heapq
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from vitrail.core.devices import to_device
from vitrail.core.packed_convolutions import is_hooked
from vitrail.core.packing import packed
from vitrail.core.precision import fast_float32
from vitrail.errors import DataError
from vitrail.samples import Batch
from vitrail.tasks.scores import telling
from vitrail.tasks.task import Judges, Metrics, Task
from vitrail.writing import write_whole

KEPT = 16  # predictions that are shown, and worst mistakes
GOLDEN = (5**0.5 - 1) / 2


@runtime_checkable
class Batches(Protocol):
    """Where labelled pictures come from."""

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]: ...


@runtime_checkable
class Judged(Protocol):
    """A result that can say how far it is from the truth, by which the worst mistakes are found."""

    def mistake(self, truth: Any) -> float:
        """0 when right; the worse, the larger."""
        ...


class Case(NamedTuple):
    """One sample and what the model said about it.

    Attributes:
        index: of the sample in its data set.
        result: as the task gives it.
        mistake: how wrong it is, 0 when right; `None` where the task's results do not say.
    """

    index: int
    result: Any
    mistake: float | None


class Kept:
    """The few cases that rank highest, of however many are offered."""

    def __init__(self, most: int) -> None:
        self.most, self.offered = most, 0
        self.heap: list[tuple[float, int, Case]] = []  # lowest first; of equals, the earlier stays

    def offer(self, rank: float, case: Case) -> None:
        self.offered += 1
        heapq.heappush(self.heap, (rank, -self.offered, case))
        if len(self.heap) > self.most:
            heapq.heappop(self.heap)

    def highest_first(self) -> tuple[Case, ...]:
        return tuple(case for _, _, case in sorted(self.heap, reverse=True))


def write_table(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """Rows that all have the same columns, as a CSV file; gives its path."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, rows[0])
    writer.writeheader()
    writer.writerows(rows)
    return write_whole(path, text.getvalue())


@dataclass(frozen=True, kw_only=True, eq=False)
class Report:
    """What came out.

    Attributes:
        task: its name.
        seen: how many samples were judged.
        scores: one number for each name.
        best: the name of the one that decides.
        details: what the numbers are made of, ready for JSON.
        shown: some predictions, spread evenly over the data set.
        worst: the worst mistakes, worst first.
        counted: the metrics that were told all results.
    """

    task: str
    seen: int
    scores: dict[str, float]
    best: str
    details: dict[str, Any]
    shown: tuple[Case, ...]
    worst: tuple[Case, ...]
    counted: Metrics

    @property
    def telling(self) -> dict[str, float]:
        """The scores that say something with so few classes."""
        return telling(self.scores, len(self.details.get("classes", ())))

    @property
    def remarks(self) -> Sequence[str]:
        """How the scores were counted, where that has to be known to compare them, as sentences for the person."""
        return self.details.get("remarks", ())

    def to_json(self) -> dict[str, Any]:
        """Scores and details as plain values."""
        return {"task": self.task, "seen": self.seen, "scores": self.scores, "details": self.details}

    def tables(self) -> dict[str, list[dict[str, Any]]]:
        """The details that are tables: rows with the same columns."""
        return {
            name: rows
            for name, rows in self.details.items()
            if isinstance(rows, list) and rows and all(isinstance(row, dict) for row in rows)
        }

    def save(self, folder: Path) -> list[Path]:
        """Write `scores.json`, and a CSV file for each table; gives the paths."""
        folder.mkdir(parents=True, exist_ok=True)
        paths = [folder / "scores.json"]
        write_whole(paths[0], json.dumps(self.to_json(), indent=1) + "\n")
        for name, rows in self.tables().items():
            paths.append(write_table(folder / f"{name}.csv", rows))
        return paths


@contextmanager
def judging(model: nn.Module) -> Iterator[None]:
    """Put a model into eval mode, and each of its parts back into the mode it was in."""
    modes = [(part, part.training) for part in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training


def cases(results: list[Any], batch: Batch) -> Iterator[Case]:
    """The samples of a batch, one by one."""
    truths = batch.target if isinstance(batch.target, Tensor) else batch.references
    for index, result, truth in zip(batch.index.tolist(), results, truths, strict=True):
        yield Case(index, result, result.mistake(truth) if isinstance(result, Judged) else None)


def evaluate(model: nn.Module, task: Task, loader: Batches, *, kept: int = KEPT, samples: int | None = None) -> Report:
    """Judge a model on all that a loader gives.

    Memory does not grow with their number, except where a metric needs every score.

    Args:
        model: runs where its parameters are, in eval mode, and is left in the mode it was in. On a CPU its packed twin,
            which is made for this, answers with the same numbers within float32 rounding; a model with hooks itself.
        task: gives meaning to its answers.
        loader: the samples; its first epoch is taken.
        kept: how many predictions and how many mistakes to keep.
        samples: how many there are, of which a long one may come in several parts, and one that cannot be read in none;
            as many as the loader gives unless said.

    Raises:
        DataError: there are none.
    """
    metrics, shown, worst, seen = task.metrics(), Kept(kept), Kept(kept), 0
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    with judging(model), fast_float32(), torch.inference_mode():
        quick = model if any(map(is_hooked, model.modules())) else packed(model)
        for batch in loader.epoch(0):
            inputs = to_device(batch.inputs, device)
            if isinstance(task, Judges):
                moved = batch._replace(inputs=inputs, target=to_device(batch.target, device))
                results = list(task.judge(quick, moved))
            else:
                results = list(task.predict(quick, inputs))
            metrics.update(results, batch)
            for case in cases(results, batch):
                shown.offer(seen * GOLDEN % 1, case)  # multiples of the golden ratio fall evenly
                if case.mistake:
                    worst.offer(case.mistake, case)
                seen += 1
    if not seen:
        raise DataError("There is nothing to judge the model by. `vitrail check --data PATH` says what is there.")
    return Report(
        task=task.name,
        seen=seen if samples is None else min(seen, samples),
        scores=metrics.compute(),
        best=task.best[0],
        details=metrics.details(),
        shown=tuple(sorted(shown.highest_first(), key=lambda case: case.index)),
        worst=worst.highest_first(),
        counted=metrics,
    )
