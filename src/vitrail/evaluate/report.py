"""A report as one page that needs nothing else, with its figures as files beside it."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image, ImageOps
from torch import nn

from vitrail.data.dataset import Dataset, Label
from vitrail.errors import ExplanationError
from vitrail.evaluate import page
from vitrail.evaluate.evaluate import Case, Report
from vitrail.evaluate.plots import Records, Tile, confusion, curves, reliability, sheet
from vitrail.explain.attention import explain
from vitrail.explain.drawing import HeatMap, overlay, png
from vitrail.pixels import to_channels
from vitrail.preprocessing import Preprocessing
from vitrail.samples import Picture

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SIDE = 320  # pixels of the longer side of a picture on the page

# What is drawn of the details, under the names that metrics give them.
FIGURES: dict[str, tuple[str, Callable[[Mapping[str, Any]], "Figure"]]] = {
    "confusion": ("What was taken for what", lambda details: confusion(details["confusion"], details["classes"])),
    "calibration": ("Whether its confidence is deserved", lambda details: reliability(details["calibration"])),
}


def read_records(path: Path) -> Records:
    """The lines of a `metrics.jsonl`; none where there is no such file, and without a last one that was cut off."""
    records = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            records.append(json.loads(line))
        except ValueError:
            continue
    return records


def label_in_words(label: Label | None, classes: Sequence[str]) -> str:
    """The truth about a picture, as a person would say it."""
    if label is None:
        return "unknown"
    if isinstance(label, int):
        return classes[label] if classes else str(label)
    return ", ".join(classes[one] for one in label) or "none"


def small(picture: Picture) -> Image.Image:
    """A picture that fits on the page; one of few pixels is enlarged as it is."""
    image = to_channels(picture.read(least=(SIDE, SIDE)), 3)
    method = Image.Resampling.NEAREST if max(image.size) < SIDE else Image.Resampling.LANCZOS
    return ImageOps.contain(image, (SIDE, SIDE), method)


def beside(left: Image.Image, right: Image.Image) -> Image.Image:
    """Two pictures of one size as one."""
    gap = 8
    both = Image.new("RGB", (left.width + gap + right.width, left.height), "white")
    both.paste(left, (0, 0))
    both.paste(right, (left.width + gap, 0))
    return both


def shown(case: Case, dataset: Dataset) -> Tile:
    """A picture, what was said about it, and the truth."""
    sample = dataset[case.index]
    truth = label_in_words(sample.label, dataset.classes)
    right = None if case.mistake is None else not case.mistake
    name = "/".join(Path(sample.picture.name).parts[-2:])
    return Tile(small(sample.picture), (case.result.summary(), f"truth: {truth}", name), right)


def looked_at(case: Case, dataset: Dataset, model: nn.Module, preprocessing: Preprocessing) -> Tile:
    """The same, and beside the picture where the model looked.

    Raises:
        ExplanationError: the model has nothing to show.
    """
    tile = shown(case, dataset)
    seen = explain(model, preprocessing, dataset[case.index].picture)
    return tile._replace(image=beside(tile.image, overlay(tile.image, seen.placement, HeatMap("", seen.map))))


def drawn(folder: Path, name: str, title: str, figure: "Figure") -> str:
    """A figure as a file of the folder, and as a section of the page."""
    data = png(figure)
    (folder / f"{name}.png").write_bytes(data)
    return page.section(title, page.drawing(data, figure.get_figwidth(), title))


def pictured(folder: Path, name: str, title: str, words: str, tiles: Sequence[Tile], *, wide: bool = False) -> str:
    """Pictures as a file of the folder, and as a section of the page."""
    (folder / f"{name}.png").write_bytes(png(sheet(tiles, title, wide=wide)))
    return page.section(title, page.tiles((page.tile(*tile) for tile in tiles), wide=wide), words)


def mistakes(report: Report, folder: Path, dataset: Dataset, model: nn.Module, preprocessing: Preprocessing) -> str:
    """The worst mistakes, with what the model looked at where it can tell."""
    title = f"The {len(report.worst)} worst mistakes" if report.worst else "No mistakes"
    if not report.worst:
        return pictured(folder, "mistakes", title, "Every answer that can be right or wrong is right.", [])
    try:
        tiles = [looked_at(case, dataset, model, preprocessing) for case in report.worst]
    except ExplanationError as error:
        return pictured(folder, "mistakes", title, str(error), [shown(case, dataset) for case in report.worst])
    words = (
        "Beside each picture, where the class token (or the average patch of a model without one) looks in the last "
        "layer, the mean of its heads. The brighter a patch the more; each picture has its own scale. Faded parts "
        "were not read."
    )
    return pictured(folder, "mistakes", title, words, tiles, wide=True)


def write_report(
    report: Report, folder: Path, *, title: str, dataset: Dataset, model: nn.Module, preprocessing: Preprocessing
) -> Path:
    """Write `report.html` and, as files beside it, its figures (PNG), scores (JSON) and tables (CSV).

    Args:
        report: from `evaluate`.
        folder: where to; the curves of a `metrics.jsonl` in it are shown too.
        title: what was judged.
        dataset: where the pictures of the report are.
        model: is asked what it looked at in its worst mistakes.
        preprocessing: how it reads pictures.
    """
    report.save(folder)
    records = read_records(folder / "metrics.jsonl")
    words = f"Pictures judged: {report.seen:,}. Classes: {len(dataset.classes):,}."
    content = [page.scores(report.scores, report.best)]
    if records:
        content.append(drawn(folder, "curves", "How training went", curves(records, report.best)))
    for name, (heading, draw) in FIGURES.items():
        if name in report.details:
            content.append(drawn(folder, name, heading, draw(report.details)))
    for name, rows in report.tables().items():
        content.append(page.section(name.replace("_", " ").capitalize(), page.table(rows)))
    tiles = [shown(case, dataset) for case in report.shown]
    content.append(pictured(folder, "predictions", f"{len(tiles)} predictions", "Spread evenly over the data.", tiles))
    content.append(mistakes(report, folder, dataset, model, preprocessing))
    path = folder / "report.html"
    path.write_text(page.page(title, words, content), encoding="utf-8")
    return path
