"""A report as one page that needs nothing else, with its figures as files beside it."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from PIL import Image, ImageOps
from torch import nn

from vitrail import catalog
from vitrail.data.dataset import Dataset, class_ids_of
from vitrail.data.text.dataset import Question, TextSample
from vitrail.errors import ExplanationError, many
from vitrail.evaluate import detection_plots, objects, page, segments
from vitrail.evaluate.background import Background, meaning
from vitrail.evaluate.confusion import confusion
from vitrail.evaluate.evaluate import Case, Report, write_table
from vitrail.evaluate.plots import Tile, curves, reliability, sheet
from vitrail.evaluate.readings import label_in_words, readings
from vitrail.explain.attention import explain
from vitrail.explain.drawing import HeatMap, overlay
from vitrail.explain.figures import png
from vitrail.loading import libraries_for
from vitrail.pixels import to_channels
from vitrail.preprocessing import PicturePreprocessing
from vitrail.samples import Picture, Sample, Truth
from vitrail.tasks.detected import Detected
from vitrail.tasks.detection_scores import DetectionMetrics
from vitrail.tasks.result_files import write_results
from vitrail.tasks.scores import in_words
from vitrail.tasks.segmented import Segmented
from vitrail.tokenizing import TextPreprocessing
from vitrail.writing import write_whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LARGEST = (640, 320)  # columns and rows of a picture on the page, at most
EXAMPLE = 12  # words of a text that stands in a command
STACKED = 2.0  # width to height from which two pictures are put one below the other


class Drawn(NamedTuple):
    """A figure of the details: its title, how to read it, and how it is drawn."""

    title: str
    words: str
    draw: "Callable[[Mapping[str, Any]], Figure]"


# What is drawn of the details, under the names that metrics give them.
FIGURES = {
    "confusion": Drawn(
        "What was taken for what",
        "Each row is a true class, each column an answer. Teal is right and orange wrong; the deeper the colour, the "
        "larger the share of the row.",
        lambda details: confusion(details["confusion"], details["classes"]),
    ),
    "calibration": Drawn(
        "Whether its confidence is deserved",
        "Of the answers given with a score of 80 %, 80 % should be right: the bars should end on the dashed line.",
        lambda details: reliability(details["calibration"]),
    ),
    "precision_recall": Drawn(
        "How sure it must be",
        "At an overlap of one half, for each class: the more objects are to be found, the more wrong answers come with "
        "them. The area is AP50. The point is where precision and recall are best together, and the score from which "
        "on answers are then believed.",
        detection_plots.precision_recall,
    ),
    "errors": Drawn(
        "What goes wrong",
        "Missed: no answer is about the object. Wrong class: the place of an object of another class. Badly placed: "
        "less than half of an object of its class, but a tenth. Both: of another class, and less than half. Duplicate: "
        "of an object that a better answer has found. Background: where nothing is. Left: how often, among answers "
        "from the best threshold of their class on. Right: by how much AP50 would rise if it never happened, by TIDE.",
        detection_plots.errors,
    ),
    "by_size": Drawn(
        "How size matters",
        "AP and AR, from 0 to 100, of objects by their area in pixels of the file.",
        detection_plots.by_size,
    ),
}
# What is said of tables: under their name, and a column that tells them from others of that name.
TABLES = {
    ("per_class", "support"): "Support: how many there are of a class. Precision: of those called so, the share that "
    "are. Recall (the accuracy of the class): of those that are, the share called so. F1: the two as one. In percent.",
    (
        "per_class",
        "objects",
    ): "Objects: how many there are of a class. AP: average precision, the mean over overlaps of "
    "50 to 95 %; AP50: at 50 %. AR: the share that a hundred answers find. Threshold: the score from which on answers "
    "are best believed, and precision, recall and F1 of those, at an overlap of 50 %. All but thresholds in percent.",
    (
        "per_class",
        "pq",
    ): "Found, missed: segments of a class. Wrong: said where there is none. PQ: SQ times RQ. SQ: how "
    "much those that are found share with the true ones. RQ: how many are found, and how few said for nothing. In "
    "percent.",
}
CAPTIONS = (
    "Below each picture: the model's answer with its scores, teal where it is right and orange where it is wrong; then "
    "the truth; then the file."
)
SEVERAL = " A label holds from 50 % on; those in brackets do not."
LOOKED = (
    " Beside or below each picture: where the class token (or the average patch of a model without one) looks in the "
    "last layer, the mean of its heads. Black is nothing and yellow most, in each picture for itself, but nothing that "
    "is below four times an even share is as bright as that: attention that is spread evenly stays dark. Faded parts "
    "were not read."
)


def small(picture: Picture) -> Image.Image:
    """A picture that fits on the page; one of few pixels is enlarged as it is."""
    columns, rows = LARGEST
    image = to_channels(picture.read(least=(rows, columns)), 3)
    enlarged = image.width < columns and image.height < rows
    return ImageOps.contain(image, LARGEST, Image.Resampling.NEAREST if enlarged else Image.Resampling.LANCZOS)


def beside(first: Image.Image, second: Image.Image) -> Image.Image:
    """Two pictures of one size as one: side by side or, where they are wide, one below the other."""
    gap = 8
    across, down = (0, first.height + gap) if first.width >= STACKED * first.height else (first.width + gap, 0)
    both = Image.new("RGB", (across + second.width, down + second.height), "white")
    both.paste(first, (0, 0))
    both.paste(second, (across, down))
    return both


def table_words(name: str, columns: Iterable[str]) -> str:
    """What is said of a table."""
    return next((words for (table, column), words in TABLES.items() if table == name and column in columns), "")


def shown(case: Case, dataset: Dataset) -> Tile:
    """A picture, what was said about it, and the truth."""
    sample = dataset[case.index]
    truth = label_in_words(sample.label, dataset.classes)
    right = None if case.mistake is None else not case.mistake
    name = "/".join(Path(sample.picture.name).parts[-2:])
    return Tile(small(sample.picture), (f"answer: {case.result.summary()}", f"truth: {truth}", name), right)


def looked_at(case: Case, dataset: Dataset, model: nn.Module, preprocessing: PicturePreprocessing) -> Tile:
    """The same, and beside the picture where the model looked.

    Raises:
        ExplanationError: the model has nothing to show.
    """
    tile = shown(case, dataset)
    seen = explain(model, preprocessing, dataset[case.index].picture)
    heat = HeatMap("", seen.map)
    said = f"the patch looked at most gets {heat.strongest:.1f} times an even share"
    return tile._replace(image=beside(tile.image, overlay(tile.image, seen.placement, heat)), lines=(*tile.lines, said))


def drawn(folder: Path, name: str, title: str, words: str, figure: "Figure") -> str:
    """A figure as a file of the folder, and as a section of the page."""
    data = png(figure)
    write_whole(folder / f"{name}.png", data)
    return page.section(title, page.drawing(data, figure.get_figwidth(), title), words)


def beside_truth(case: Case, dataset: Dataset, draw: "Callable[[Image.Image, Sample], objects.Pair]") -> Tile:
    """A picture with what was found, beside the same with what is there, as `draw` makes them."""
    sample = dataset[case.index]
    pair = draw(small(sample.picture), sample)
    name = "/".join(Path(sample.picture.name).parts[-2:])
    return Tile(beside(pair.answer, pair.truth), (pair.words, name), pair.right)


def found_beside(case: Case, dataset: Dataset, details: Mapping[str, Any]) -> Tile:
    """A picture with the objects that were found, beside the same with those that are there."""

    def draw(image: Image.Image, sample: Sample) -> objects.Pair:
        assert sample.objects is not None, "a detector is judged by objects"
        return objects.side_by_side(image, case.result, sample.objects, details)

    return beside_truth(case, dataset, draw)


def segmented_beside(case: Case, dataset: Dataset) -> Tile:
    """A picture with the segments that were found, beside the same with the true ones."""

    def draw(image: Image.Image, sample: Sample) -> objects.Pair:
        assert sample.objects is not None, "a panoptic model is judged by segments"
        return segments.side_by_side(image, case.result, Truth(sample.objects, case.result.size, case.index))

    return beside_truth(case, dataset, draw)


def pictured(
    folder: Path,
    name: str,
    title: str,
    words: str,
    tiles: Sequence[Tile],
    *,
    width: Literal["narrow", "wide", "whole"] = "narrow",
) -> str:
    """Pictures as a file of the folder, and as a section of the page."""
    write_whole(folder / f"{name}.png", png(sheet(tiles, title, words, wide=width != "narrow")))
    return page.section(title, page.tiles((page.tile(*tile) for tile in tiles), width=width), words)


def mistakes(
    report: Report, folder: Path, dataset: Dataset, model: nn.Module, preprocessing: PicturePreprocessing
) -> str:
    """The worst mistakes, with what the model looked at where it can tell."""
    title = f"The {len(report.worst)} worst mistakes" if len(report.worst) > 1 else "The only mistake"
    captions = CAPTIONS + SEVERAL * dataset.multi_label
    if not report.worst:
        return pictured(folder, "mistakes", "No mistakes", "Every answer that can be right or wrong is right.", [])
    try:
        tiles = [looked_at(case, dataset, model, preprocessing) for case in report.worst]
    except ExplanationError as error:
        tiles = [shown(case, dataset) for case in report.worst]
        return pictured(folder, "mistakes", title, f"{captions} {error}", tiles)
    return pictured(folder, "mistakes", title, captions + LOOKED, tiles, width="wide")


def in_pictures(
    report: Report, folder: Path, dataset: Dataset, model: nn.Module, preprocessing: PicturePreprocessing
) -> list[str]:
    """Some predictions, and the worst mistakes."""
    tiles = [shown(case, dataset) for case in report.shown]
    words = f"Spread evenly over the data. {CAPTIONS}{SEVERAL * dataset.multi_label}"
    return [
        pictured(folder, "predictions", f"{len(tiles)} predictions", words, tiles),
        mistakes(report, folder, dataset, model, preprocessing),
    ]


def found_and_missed(
    report: Report, folder: Path, words: str, perfect: str, beside_it: "Callable[[Case], Tile]"
) -> list[str]:
    """Some predictions, and the pictures in which most is wrong.

    Args:
        report: what came out.
        folder: where pictures go.
        words: how they are read.
        perfect: what is said where nothing is wrong.
        beside_it: draws a case beside the truth.
    """
    tiles, told = [beside_it(case) for case in report.shown], f"Spread evenly over the data. {words}"
    content = [pictured(folder, "predictions", many(len(tiles), "prediction"), told, tiles, width="whole")]
    worst = [tile for tile in map(beside_it, report.worst) if not tile.right]
    if not worst:
        return [*content, pictured(folder, "mistakes", "No mistakes", perfect, [])]
    title = f"The {len(worst)} worst pictures" if len(worst) > 1 else "The worst picture"
    told = f"Where most is wrong, or lacking. {words}"
    return [*content, pictured(folder, "mistakes", title, told, worst, width="whole")]


def in_objects(report: Report, folder: Path, dataset: Dataset) -> list[str]:
    """Some predictions of a detector, and the pictures in which most is wrong."""
    perfect = "Every object is found, and nothing else is said."
    return found_and_missed(
        report, folder, objects.WORDS, perfect, lambda case: found_beside(case, dataset, report.details)
    )


def in_segments(report: Report, folder: Path, dataset: Dataset) -> list[str]:
    """Some predictions of a panoptic model, and the pictures in which most is wrong."""
    perfect = "Every segment is found, and nothing else is said."
    return found_and_missed(report, folder, segments.WORDS, perfect, lambda case: segmented_beside(case, dataset))


def in_texts(report: Report, folder: Path, dataset: Dataset, model: nn.Module) -> list[str]:
    """Some texts with what the model says of them, as a file of the folder and as a section of the page."""
    rows = readings(report, dataset, model)
    if rows:
        write_table(folder / "examples.csv", rows)
    title = f"{many(len(rows), 'text')} and what the model says"
    return [page.section(title, page.table(rows), "Spread evenly over the data.")] if rows else []


def typed(sample: TextSample, preprocessing: TextPreprocessing, task: Any) -> list[str]:
    """A text, or its beginning, as one types it after a command.

    Behind a question stands the text that answers it, and where hidden words are guessed, one is hidden.
    """
    if isinstance(sample, Question):
        return [sample.question, "--context", " ".join(sample.context.split())]
    words = sample.texts[0].split()[:EXAMPLE]
    if getattr(task, "hides", False) and preprocessing.mask_token is not None:
        words[len(words) // 2] = preprocessing.mask_token
    return [" ".join(words)]


def headline(report: Report) -> str:
    """The scores, each with what it means, and how they were counted."""
    boxes = page.scores(
        page.Score(in_words(name, value), *meaning(name, report.task), name == report.best)
        for name, value in report.telling.items()
    )
    return boxes + page.remarks(report.remarks)


def write_report(
    report: Report,
    folder: Path,
    *,
    title: str,
    dataset: Dataset,
    model: nn.Module,
    preprocessing: Any,
    source: str | Path | None = None,
    data: str | None = None,
    part: str = "",
    learned: int | None = None,
) -> Path:
    """Write `report.html` and, as files beside it, its figures (PNG), scores (JSON) and tables (CSV).

    Of a detector also `results.json`: all that it found, as COCO's tools read it.

    Args:
        report: from `evaluate`.
        folder: where to; the curves of a `metrics.jsonl` in it are shown too.
        title: what was judged.
        dataset: where the pictures of the report are.
        model: is asked what it looked at in its worst mistakes.
        preprocessing: how it reads pictures.
        source: the run, folder or hub id of the model, as one types it; `folder` unless given.
        data: what it was judged by, as one types it; what the run was trained on unless given.
        part: which of its pictures, in words; all unless given.
        learned: how many pictures the model has learned from, if that is known.
    """
    report.save(folder)
    if isinstance(report.counted, DetectionMetrics):
        numbers = class_ids_of(dataset)
        write_results(folder / "results.json", (row for one in report.counted.pictures for row in one.results(numbers)))
    background = Background(folder if source is None else source, folder, data, part)
    content = [
        page.facts(background.facts(dataset, report.seen, model, preprocessing, learned)),
        headline(report),
    ]
    if source is None and background.records:
        words = f"Judged on what was set aside, by {meaning(report.best, report.task).name}."
        content.append(
            drawn(folder, "curves", "How training went", words, curves(background.records, report.best, report.task))
        )
    for name, figure in FIGURES.items():
        if name in report.details:
            content.append(drawn(folder, name, figure.title, figure.words, figure.draw(report.details)))
    for name, rows in report.tables().items():
        if name in FIGURES:
            continue
        content.append(page.section(name.replace("_", " ").capitalize(), page.table(rows), table_words(name, rows[0])))
    task = catalog.load(catalog.TASKS[report.task]) if report.task in catalog.TASKS else None
    if isinstance(preprocessing, PicturePreprocessing):
        if all(isinstance(case.result, Detected) for case in report.shown):
            content += in_objects(report, folder, dataset)
        elif all(isinstance(case.result, Segmented) for case in report.shown):
            content += in_segments(report, folder, dataset)
        else:
            content += in_pictures(report, folder, dataset, model, preprocessing)
        names = [dataset[case.index].name for case in report.shown]
        example = [next((name for name in names if Path(name).is_file()), "PICTURE")]
    else:
        content += in_texts(report, folder, dataset, model)
        example = typed(dataset[0], preprocessing, task)
    foreign = next(iter(libraries_for(model)), "")
    commands = background.commands(example, foreign, prompt=getattr(task, "goes_on", False))
    content.append(page.section("What to type next", page.commands(commands)))
    path = folder / "report.html"
    write_whole(path, page.page(title, content))
    return path
