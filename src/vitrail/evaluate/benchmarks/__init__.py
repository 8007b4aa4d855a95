"""Benchmarks by name: our own score beside those that others have published.

A row that was not computed here says "published", and who published it. What the field measures by is in
`published.toml`; a benchmark whose task is not there yet can be shown and not run.
"""

import json
import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from vitrail.data.dataset import Dataset
from vitrail.data.loader import Loader
from vitrail.data.open import open_dataset, parts
from vitrail.data.transforms import eval_transform
from vitrail.errors import DataError, UsageError, unknown
from vitrail.evaluate.evaluate import evaluate
from vitrail.evaluate.judge import material_for
from vitrail.evaluate.plots import PALE, RIGHT, plain
from vitrail.explain.drawing import INK, QUIET, drawable, lacking, new_figure
from vitrail.predict import Predictor
from vitrail.predict_texts import TextPredictor
from vitrail.tasks.task import Task
from vitrail.tasks.translate import Translate
from vitrail.weights.cards import checkpoints
from vitrail.weights.configs import build

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WORDNET = re.compile(r"n\d{8}")  # how ImageNet's folders are called; in this order its classes are numbered


class Row(NamedTuple):
    """One model's score.

    Attributes:
        model: what it is called.
        score: in the benchmark's unit.
        source: who says so.
        here: whether it was computed here and now.
    """

    model: str
    score: float
    source: str
    here: bool = False


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """What a field compares its models by.

    Attributes:
        title: the data.
        metric: what our own scores call the measure.
        unit: what people call it.
        rows: what was published: `model`, `score` and `source`.
        task: our task that it is one of; none where there is no such task yet.
        classes: how many a model must tell apart; any number where it is 0.
        lower: whether a lower score is better.
        languages: of translations, from which to which.
    """

    title: str
    metric: str
    unit: str
    rows: tuple[dict[str, Any], ...]
    task: str | None = None
    classes: int = 0
    lower: bool = field(default=False)
    languages: tuple[str, ...] = ()

    def shown(self, score: float) -> float:
        """A score of ours as people give it: shares in percent."""
        return 100 * score if self.unit.endswith("%") else score


@lru_cache(maxsize=1)
def benchmarks() -> dict[str, Benchmark]:
    """All benchmarks, by name."""
    text = (files(__name__) / "published.toml").read_text(encoding="utf-8")
    return {name: build(Benchmark, values, f"{name} in published.toml") for name, values in tomllib.loads(text).items()}


def find_benchmark(name: str) -> Benchmark:
    """The benchmark of a name.

    Raises:
        UsageError: there is none.
    """
    if name not in benchmarks():
        raise UsageError(unknown("benchmark", name, benchmarks()))
    return benchmarks()[name]


def check_runs(name: str) -> Benchmark:
    """The benchmark of a name, refused where its task is not there yet.

    Raises:
        UsageError: there is none of this name, or it cannot be run.
    """
    benchmark = find_benchmark(name)
    if benchmark.task is None:
        raise UsageError(f"{name} cannot be run here yet. vitrail benchmark {name} shows what was published.")
    return benchmark


def published(name: str) -> list[Row]:
    """What was published for a benchmark, in papers and for the checkpoints that our cards name."""
    found = [Row(row["model"], float(row["score"]), row["source"]) for row in find_benchmark(name).rows]
    return found + [
        Row(model, checkpoint.scores[score], f"{checkpoint.scores_from} ({checkpoint.source})")
        for model, checkpoint in checkpoints().items()
        for score in (f"{name}-top1",)
        if score in checkpoint.scores
    ]


def ranked(rows: list[Row], benchmark: Benchmark) -> list[Row]:
    """Best first."""
    return sorted(rows, key=lambda row: row.score, reverse=not benchmark.lower)


def open_labelled(data: str, ask: Predictor, benchmark: Benchmark) -> Dataset:
    """The pictures, numbered as the model numbers its classes.

    Folders that are called as ImageNet calls them are numbered in their order, whatever the model calls its classes.

    Raises:
        DataError: the classes are others than the model's.
    """
    found = parts(data)
    part = next((name for name in ("val", "test") if name in found), None)
    plain_numbers = open_dataset(data, part)
    names, labels = plain_numbers.classes, ask.card.labels
    wordnet = all(WORDNET.fullmatch(name) for name in names)
    if benchmark.classes and len(names) != benchmark.classes:
        raise DataError(
            f"{data} has {len(names)} classes, and {benchmark.title} has {benchmark.classes:,}: a score on others "
            f"cannot stand beside published ones. `vitrail evaluate` scores any data."
        )
    if wordnet or not labels or names == labels:
        return plain_numbers
    return open_dataset(data, part, labels)


def open_texts_for(data: str, benchmark: Benchmark) -> Dataset:
    """The texts of a benchmark: the part called test, or val, or all that there are.

    Raises:
        DataError: they are no texts, or in other languages.
    """
    found = parts(data)
    dataset = open_dataset(data, next((part for part in ("test", "val") if part in found), None))
    if dataset.task != benchmark.task:
        raise DataError(f"{data} is data to {dataset.task}, and {benchmark.title} is to {benchmark.task}.")
    if benchmark.languages and dataset.classes != benchmark.languages:
        way = "-".join(benchmark.languages)
        raise DataError(f"{data} goes from {' to '.join(dataset.classes)}. Type {data.partition(':')[0]}:{way}.")
    return dataset


def as_published(ask: TextPredictor, benchmark: Benchmark) -> Task:
    """The task of a model, as published scores of it were reached: translations with the beams of its card.

    Raises:
        DataError: the model is for another task, or for other languages.
    """
    learned, title = ask.card.task, benchmark.title
    if learned.removesuffix("-parallel") != benchmark.task:
        raise DataError(f"This {ask.card.model} has learned to {learned}, and {title} is to {benchmark.task}.")
    if benchmark.languages and ask.card.labels not in ((), benchmark.languages):
        raise DataError(f"This {ask.card.model} goes from {' to '.join(ask.card.labels)}, and not as {title}.")
    if isinstance(task := ask.task, Translate) and ask.card.generation is not None:
        return replace(task, beams=ask.card.generation.beams)
    return task


def run_on_texts(benchmark: Benchmark, data: str, ask: TextPredictor, batch: int) -> Row:
    """Score a model of texts; the source of the row says how it was counted."""
    preprocessing, task = ask.card.preprocessing, as_published(ask, benchmark)
    material = material_for(data, ask.card.task, preprocessing, batch, 0)
    batches = material.judging(open_texts_for(data, benchmark), preprocessing)
    report = evaluate(ask.model, task, batches)
    signature = report.details.get("signatures", {}).get(benchmark.metric)
    seen = report.details.get("questions", report.seen)
    how = f"sacrebleu {signature}" if signature else f"exact match {100 * report.scores['exact']:.2f}"
    source = f"computed here on {seen:,} texts, {how}{'; ' * bool(batches.lost)}{batches.lost}"
    return Row(ask.card.model, benchmark.shown(report.scores[benchmark.metric]), source, here=True)


def run_benchmark(name: str, data: str, ask: Predictor | TextPredictor, batch: int = 32, workers: int = 1) -> Row:
    """Score a model as its field does, on the data of a benchmark, with the model's published preprocessing.

    Args:
        name: of the benchmark.
        data: where its labelled pictures, or its texts, are, as `open_dataset` reads them.
        ask: the model.
        batch: pictures, or rows of text, at once.
        workers: processes that read pictures.

    Raises:
        UsageError: no such benchmark, or one whose task is not there yet.
        DataError: other classes, languages or another task than the benchmark or the model has.
    """
    benchmark = check_runs(name)
    of_texts = benchmark.task != "classify"
    if isinstance(ask, TextPredictor) != of_texts:
        reads = "texts" if of_texts else "pictures"
        raise DataError(f"{benchmark.title}: a model that reads {reads} is needed, and {ask.card.model} reads others.")
    if isinstance(ask, TextPredictor):
        return run_on_texts(benchmark, data, ask, batch)
    dataset = open_labelled(data, ask, benchmark)
    report = evaluate(
        ask.model, ask.task, Loader(dataset, eval_transform(ask.card.preprocessing), batch, workers=workers)
    )
    score = benchmark.shown(report.scores[benchmark.metric])
    return Row(ask.card.model, score, f"computed here on {report.seen:,} pictures", here=True)


def span(scores: Sequence[float]) -> tuple[float, float]:
    """Where an axis begins and ends on which scores lie close together, with room on either side."""
    low, high = min(scores), max(scores)
    room = 0.12 * (high - low) or 1.0
    return max(low - room, min(low, 0.0)), high + room


def chart(name: str, rows: list[Row]) -> "Figure":
    """All scores as dots, best first; what was computed here stands out.

    Bars would have to begin at zero, and next to each other nobody could tell them apart.
    """
    benchmark = find_benchmark(name)
    rows = ranked(rows, benchmark)
    named, places = [drawable(row.model, 44) for row in rows], range(len(rows))
    height = 1.45 + 0.27 * len(rows)
    figure = new_figure(10, height)
    axes = figure.add_axes((0.32, 0.75 / height, 0.53, (height - 1.35) / height))
    low, high = span([row.score for row in rows])
    axes.hlines(places, low, high, color=PALE, linewidth=0.8, zorder=1)
    colours = [RIGHT if row.here else QUIET for row in rows]
    axes.scatter([row.score for row in rows], places, color=colours, s=34, zorder=2)
    begins = "" if low <= 0 else "; the axis does not begin at 0"
    plain(axes, drawable(benchmark.title, 90), f"{benchmark.unit}{begins}")
    axes.set_yticks(places, named, parse_math=False)
    axes.tick_params(axis="y", length=0, labelcolor=INK)
    axes.grid(visible=False)
    axes.spines["left"].set_visible(False)
    axes.set(xlim=(low, high), ylim=(len(rows) - 0.4, -0.6))
    for place, row in enumerate(rows):
        said = f"{row.score:.2f}  {'computed here' if row.here else 'published'}"
        colour = INK if row.here else QUIET
        axes.annotate(said, (1.01, place), xycoords=("axes fraction", "data"), va="center", fontsize=8, color=colour)
    notes = [f"{'Lower' if benchmark.lower else 'Higher'} is better. Sources are in {name}.json beside this chart."]
    notes += lacking(named)
    figure.text(0.02, 0.1 / height, " ".join(notes), fontsize=8, color=QUIET)
    return figure


def save(name: str, rows: list[Row], folder: Path) -> Path:
    """Write the chart and the table; gives the path of the chart."""
    folder.mkdir(parents=True, exist_ok=True)
    told = {"benchmark": name, "unit": find_benchmark(name).unit, "rows": [row._asdict() for row in rows]}
    (folder / f"{name}.json").write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
    path = folder / f"{name}.png"
    chart(name, rows).savefig(path, format="png")
    return path
