"""Benchmarks by name: our own score beside those that others have published.

A row that was not computed here says "published", and who published it. What the field measures by is in the TOML
files of this folder; a benchmark whose task is not there yet can be shown and not run.
"""

import json
import math
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from vitrail.core.devices import fastest_device
from vitrail.data.dataset import Dataset
from vitrail.data.loader import Loader
from vitrail.data.open import open_dataset, parts
from vitrail.data.transforms import eval_transform
from vitrail.errors import DataError, UsageError, many, unknown
from vitrail.evaluate.benchmarks.costs import PICTURE, Costs, costs
from vitrail.evaluate.evaluate import evaluate
from vitrail.evaluate.judge import material_for, open_numbered
from vitrail.evaluate.plots import PALE, RIGHT, plain
from vitrail.explain.figures import INK, QUIET, drawable, lacking, new_figure, png
from vitrail.loading import create_model, say
from vitrail.predict import Predictor, predictor
from vitrail.predict_texts import TextPredictor
from vitrail.tasks.scores import UNDEFINED
from vitrail.tasks.task import Task
from vitrail.tasks.translate import Translate
from vitrail.weights.card import classes_of
from vitrail.weights.cards import checkpoints
from vitrail.weights.configs import build
from vitrail.writing import write_whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure

OF_PICTURES = ("classify", "detect")  # tasks
FILES = ("published.toml", "detection.toml")


class Row(NamedTuple):
    """One model's score.

    Attributes:
        model: what it is called.
        score: in the benchmark's unit; `None` where only what it costs was measured.
        source: who says so.
        here: whether it was computed here and now.
        alike: whether on as many samples, of as many classes, as the benchmark has.
        numbers: of a benchmark with columns: all that is known of them, by name.
    """

    model: str
    score: float | None
    source: str
    here: bool = False
    alike: bool = True
    numbers: Mapping[str, float] = MappingProxyType({})


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """What a field compares its models by.

    Attributes:
        title: the data.
        metric: what our own scores call the measure.
        unit: what people call it.
        rows: what was published: `model`, `score` and `source`; or `model`, `numbers` and, if it is ours, `variant`.
        task: our task that it is one of; none where there is no such task yet.
        classes: how many a model must tell apart; any number where it is 0.
        lower: whether a lower score is better.
        languages: of translations, from which to which.
        samples: how many it has; a score on others is computed and called so.
        data: what is typed after `--data`.
        layout: what has to stand there.
        note: what must be known to compare.
        columns: what `numbers` are, for a table of several; `/` puts two into one column.
        source: of all rows that name none.
        costs: whether what our models cost is measured beside what was published, and the rows stay as printed.
        model: whose published weights are scored unless one is named.
    """

    title: str
    metric: str
    unit: str
    rows: tuple[dict[str, Any], ...]
    task: str | None = None
    classes: int = 0
    lower: bool = field(default=False)
    languages: tuple[str, ...] = ()
    samples: int = 0
    data: str = "PATH"
    layout: str = ""
    note: str = ""
    columns: tuple[str, ...] = ()
    source: str = ""
    costs: bool = False
    model: str = ""

    def shown(self, score: float) -> float:
        """A score of ours as people give it: shares in percent, and those of objects from 0 to 100."""
        return 100 * score if self.unit.endswith(("%", "AP")) else score

    @property
    def variants(self) -> tuple[str, ...]:
        """Our models whose costs are compared."""
        return tuple(row["variant"] for row in self.rows if self.costs and "variant" in row)

    @property
    def names(self) -> tuple[str, ...]:
        """What the numbers of a row are."""
        return tuple(name for column in self.columns for name in column.split("/"))

    def published(self, row: Mapping[str, Any]) -> Row:
        """A row of the file."""
        source = row.get("source", self.source)
        if "numbers" not in row:
            return Row(row["model"], float(row["score"]), source)
        numbers = dict(zip(self.names, map(float, row["numbers"]), strict=False))
        return Row(row["model"], numbers[self.metric], source, numbers=numbers)


@lru_cache(maxsize=1)
def benchmarks() -> dict[str, Benchmark]:
    """All benchmarks, by name."""
    return {
        name: build(Benchmark, values, f"{name} in {file}")
        for file in FILES
        for name, values in tomllib.loads((files(__name__) / file).read_text(encoding="utf-8")).items()
    }


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
    about = find_benchmark(name)
    return [about.published(row) for row in about.rows] + [
        Row(model, checkpoint.scores[score], f"{checkpoint.scores_from} ({checkpoint.source})")
        for model, checkpoint in checkpoints().items()
        for score in (f"{name}-top1",)
        if score in checkpoint.scores
    ]


def ranked(rows: list[Row], benchmark: Benchmark) -> list[Row]:
    """Best first; those without a score last. A table of costs stays as it was printed, ours below what it repeats."""
    if benchmark.costs:
        place = {row["model"]: number for number, row in enumerate(benchmark.rows)}
        place |= {row["variant"]: number for number, row in enumerate(benchmark.rows) if "variant" in row}
        return sorted(rows, key=lambda row: (place.get(row.model, len(place)), row.here))
    worst = math.inf if benchmark.lower else -math.inf
    return sorted(rows, key=lambda row: worst if row.score is None else row.score, reverse=not benchmark.lower)


def open_labelled(data: str, ask: Predictor, benchmark: Benchmark) -> Dataset:
    """The pictures, numbered as the model numbers its classes.

    Raises:
        DataError: the classes are others than the model's.
    """
    found = parts(data)
    part = next((name for name in ("val", "test") if name in found), None)
    plain_numbers = open_dataset(data, part)
    names, labels = plain_numbers.classes, ask.card.labels
    if benchmark.classes and len(names) != benchmark.classes:
        raise DataError(
            f"{data} has {len(names)} classes, and {benchmark.title} has {benchmark.classes:,}: a score on others "
            f"cannot stand beside published ones. `vitrail evaluate` scores any data."
        )
    return open_numbered(data, part, labels) if labels and names != labels else plain_numbers


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
    known = set(ask.card.labels) & set(benchmark.languages)  # a model may call them otherwise: deu
    if known and ask.card.labels != benchmark.languages:
        raise DataError(f"This {ask.card.model} goes from {' to '.join(ask.card.labels)}, and not as {title}.")
    if isinstance(task := ask.task, Translate) and ask.card.generation is not None:
        return replace(task, beams=ask.card.generation.beams)
    return task


def run_on_texts(benchmark: Benchmark, data: str, ask: TextPredictor, batch: int) -> Row:
    """Score a model of texts; the source of the row says how it was counted."""
    preprocessing, task = ask.card.preprocessing, as_published(ask, benchmark)
    material = material_for(data, ask.card.task, preprocessing, batch, 0)
    dataset = open_texts_for(data, benchmark)
    batches = material.judging(dataset, preprocessing)
    report = evaluate(ask.model, task, batches, samples=len(dataset))
    signature = report.details.get("signatures", {}).get(benchmark.metric)
    how = f"sacrebleu {signature}" if signature else f"exact match {100 * report.scores['exact']:.2f}"
    other = unlike(dataset, benchmark, material.unit)
    seen = many(report.seen, material.unit)
    source = f"computed here on {seen}, {how}{other}{'; ' * bool(batches.lost)}{batches.lost}"
    score = benchmark.shown(report.scores[benchmark.metric])
    return Row(ask.card.model, score, source, here=True, alike=not other and not batches.lost)


def open_marked(data: str, ask: Predictor, benchmark: Benchmark) -> Dataset:
    """The pictures with marked objects, numbered as the model numbers its classes.

    Raises:
        DataError: nothing is marked in them, or something that the model does not know.
    """
    found = parts(data)
    part = next((name for name in ("val", "test") if name in found), None)
    dataset = open_dataset(data, part, classes_of(ask.model))
    if dataset.task != benchmark.task:
        raise DataError(f"{data} is data to {dataset.task}, and {benchmark.title} is to {benchmark.task}.")
    return dataset


def unlike(dataset: Dataset, benchmark: Benchmark, unit: str = "picture") -> str:
    """By what data is not that of a benchmark; empty where there is as much of it, of as many classes."""
    numbers = getattr(dataset, "class_ids", ()) or dataset.classes
    classes = len(dataset.classes) - sum(number == -1 for number in numbers)  # -1: the model has it and the data not
    here, there = (len(dataset), classes), (benchmark.samples, benchmark.classes or classes)
    if here == there:
        return ""
    said, wanted = many(len(dataset), unit), f"{benchmark.samples:,}"
    if benchmark.classes:
        said, wanted = f"{said} of {many(classes, 'class')}", f"{wanted} of {benchmark.classes:,}"
    return f", which are not {benchmark.title.partition(',')[0]}'s: {said}, not {wanted}"


def run_on_marked(benchmark: Benchmark, data: str, ask: Predictor, batch: int, workers: int) -> Row:
    """Score a detector; the source of the row says where the pictures are others than the benchmark's."""
    if ask.card.task != benchmark.task:
        raise DataError(
            f"This {ask.card.model} has learned to {ask.card.task}, and {benchmark.title} is to {benchmark.task}."
        )
    dataset = open_marked(data, ask, benchmark)
    material = material_for(data, ask.card.task, ask.card.preprocessing, batch, workers)
    report = evaluate(ask.model, ask.task, material.judging(dataset, ask.card.preprocessing))
    numbers = {
        name: benchmark.shown(report.scores[name])
        for name in benchmark.names
        if report.scores.get(name, UNDEFINED) != UNDEFINED
    }
    other = unlike(dataset, benchmark)
    source = f"computed here on {many(report.seen, 'picture')}{other}"
    score = numbers.get(benchmark.metric)
    return Row(ask.card.model, score, source, here=True, alike=not other, numbers=numbers)


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
    of_texts = benchmark.task not in OF_PICTURES
    if isinstance(ask, TextPredictor) != of_texts:
        reads = "texts" if of_texts else "pictures"
        raise DataError(f"{benchmark.title}: a model that reads {reads} is needed, and {ask.card.model} reads others.")
    if isinstance(ask, TextPredictor):
        return run_on_texts(benchmark, data, ask, batch)
    if benchmark.task == "detect":
        return run_on_marked(benchmark, data, ask, batch, workers)
    dataset = open_labelled(data, ask, benchmark)
    report = evaluate(
        ask.model, ask.task, Loader(dataset, eval_transform(ask.card.preprocessing), batch, workers=workers)
    )
    score = benchmark.shown(report.scores[benchmark.metric])
    other = unlike(dataset, benchmark)
    source = f"computed here on {many(report.seen, 'picture')}{other}"
    return Row(ask.card.model, score, source, here=True, alike=not other)


def priced(row: Row, costs: Costs) -> Row:
    """The same with what the model costs."""
    return row._replace(
        numbers={**costs.numbers, **row.numbers}, source="; ".join(filter(None, (row.source, costs.how)))
    )


def typed(name: str) -> str:
    """What somebody types to score a model."""
    about = find_benchmark(name)
    usual = "vit-base-16" if about.task in OF_PICTURES else "RUN"
    example = about.variants[0] if about.costs else about.model or usual
    return f"vitrail benchmark {name} --data {about.data} --model {example}"


def rows_of(
    name: str,
    data: str | None = None,
    model: str | None = None,
    *,
    batch: int = 32,
    workers: int = 1,
    device: str | None = None,
    size: tuple[int, int] = PICTURE,
    announce: Callable[[str], None] = say,
) -> list[Row]:
    """What was published, and beside it what is computed here, as `vitrail benchmark` does it.

    Args:
        name: of the benchmark.
        data: its data; without it no scores are computed.
        model: whose score; where costs are compared and none is named, all of ours are measured, with fresh weights,
            which cost as much as any.
        batch, workers: see `run_benchmark`.
        device: where to compute.
        size: rows and columns of the picture by which costs are measured.
        announce: is told what takes long.

    Raises:
        VitrailError: whatever is wrong, in a sentence.
    """
    about, rows = find_benchmark(name), published(name)
    if data is None and model is None:
        for variant in about.variants:
            announce(f"Measuring {variant} ...")
            fresh = Predictor(create_model(variant), device or fastest_device())
            rows.append(priced(Row(variant, None, "", here=True), costs(fresh, size)))
        return rows
    check_runs(name)
    if (data is None and not about.costs) or (model is None and not about.model):
        raise UsageError(f"Type both: {typed(name)}; or neither, to look.")
    ask = predictor(model or about.model, device=device, announce=announce)
    row = Row(ask.card.model, None, "", here=True)
    if data is not None:
        row = run_benchmark(name, data, ask, batch, workers)
    if about.costs and isinstance(ask, Predictor):
        row = priced(row, costs(ask, size))
    return [*rows, row]


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
    rows = [row for row in ranked(rows, benchmark) if row.score is not None]
    scores = [row.score for row in rows if row.score is not None]
    named, places = [drawable(row.model, 44) for row in rows], range(len(rows))
    height = 1.45 + 0.27 * len(rows)
    figure = new_figure(10, height)
    axes = figure.add_axes((0.32, 0.75 / height, 0.53, (height - 1.35) / height))
    low, high = span(scores)
    axes.hlines(places, low, high, color=PALE, linewidth=0.8, zorder=1)
    colours = [RIGHT if row.here else QUIET for row in rows]
    axes.scatter(scores, places, color=colours, s=34, zorder=2)
    begins = "" if low <= 0 else "; the axis does not begin at 0"
    plain(axes, drawable(benchmark.title, 90), f"{benchmark.unit}{begins}")
    axes.set_yticks(places, named, parse_math=False)
    axes.tick_params(axis="y", length=0, labelcolor=INK)
    axes.grid(visible=False)
    axes.spines["left"].set_visible(False)
    axes.set(xlim=(low, high), ylim=(len(rows) - 0.4, -0.6))
    for place, (row, score) in enumerate(zip(rows, scores, strict=True)):
        where = "published" if not row.here else "computed here" if row.alike else "here, on other data"
        said = f"{score:.2f}  {where}"
        colour = INK if row.here else QUIET
        axes.annotate(said, (1.01, place), xycoords=("axes fraction", "data"), va="center", fontsize=8, color=colour)
    notes = [f"{'Lower' if benchmark.lower else 'Higher'} is better. Sources are in {name}.json beside this chart."]
    notes += lacking(named)
    figure.text(0.02, 0.1 / height, " ".join(notes), fontsize=8, color=QUIET)
    return figure


def as_json(name: str, rows: list[Row]) -> dict[str, Any]:
    """The table as plain values."""
    told = [row._asdict() | {"numbers": dict(row.numbers)} for row in rows]
    return {"benchmark": name, "unit": find_benchmark(name).unit, "rows": told}


def save(name: str, rows: list[Row], folder: Path) -> Path:
    """Write the chart and the table; gives the path of the chart."""
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / f"{name}.json", json.dumps(as_json(name, rows), indent=2) + "\n")
    return write_whole(folder / f"{name}.png", png(chart(name, rows)))
