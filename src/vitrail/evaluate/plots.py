"""Figures of a report: curves, reliability, and sheets of pictures.

As in `explain.figures`, only matplotlib's `Figure` is used: no window, no global state.
"""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from PIL import Image

from vitrail.evaluate.background import meaning
from vitrail.explain.figures import INK, QUIET, high, lacking, new_figure, wrapped
from vitrail.tasks.scores import in_words

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

RIGHT, WRONG = "#0b7285", "#d9480f"  # teal and orange, which most colour-blind eyes tell apart too
MODEST = "#7048a8"  # of what is better than it believes: a colour that neither of the two is taken for
LIGHT = "#b5d6dc"  # teal in the background
PALE = "#e4e4e4"
WIDTH = 11.0  # of a figure, inches
FEW = 30  # most values of a curve that are marked one by one

Records = Sequence[Mapping[str, Any]]


class Tile(NamedTuple):
    """One picture of a sheet.

    Attributes:
        image: what is shown.
        lines: what is written beneath.
        right: whether the answer was, where that is known.
    """

    image: Image.Image
    lines: tuple[str, ...]
    right: bool | None


def plain(axes: "Axes", title: str, below: str = "") -> None:
    """Axes without a box, with a quiet grid."""
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(PALE)
    axes.tick_params(color=PALE, labelcolor=QUIET, labelsize=8)
    axes.grid(color=PALE, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.set_title(title, loc="left", fontsize=10, fontweight="bold", color=INK)
    axes.set_xlabel(below, fontsize=8, color=QUIET)


def series(records: Records, name: str) -> tuple[list[float], list[float]]:
    """The epochs at which a quantity was written down, and its values."""
    told = [(record["epoch"], record[name]) for record in records if record.get(name) is not None]
    found = [(epoch, value) for epoch, value in told if math.isfinite(value)]
    return [epoch for epoch, _ in found], [value for _, value in found]


class Line(NamedTuple):
    """One quantity of a run.

    Attributes:
        name: in the records.
        label: how it is called; empty where it is alone.
    """

    name: str
    label: str
    colour: str


def show_lines(axes: "Axes", records: Records, lines: Sequence[Line], title: str) -> None:
    """Quantities over the epochs; each begins at 0, and what is a share of one goes up to one."""
    from matplotlib.ticker import MaxNLocator

    plain(axes, title, "epoch")
    last, lowest, highest = 1.0, 0.0, 0.0
    for line in lines:
        epochs, values = series(records, line.name)
        marker = "o" if len(values) <= FEW else ""
        axes.plot(epochs, values, color=line.colour, linewidth=1.4, marker=marker, markersize=3, label=line.label)
        last, lowest, highest = max(last, *epochs), min(lowest, *values), max(highest, *values)
    axes.set_xlim(0, last * 1.02)
    axes.set_ylim(lowest, highest * 1.06 or 1.0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=6))
    if any(line.label for line in lines):
        axes.legend(frameon=False, fontsize=8, labelcolor=INK)


def curves(records: Records, best: str, task: str) -> "Figure":
    """How a run went: the loss, the score that decides, and the learning rate, of which those are drawn that are known.

    Args:
        records: the lines of `metrics.jsonl`.
        best: the name of the score.
        task: whose score it is.
    """
    panels = {
        "Loss": (Line("loss", "training", RIGHT), Line("val_loss", "validation", WRONG)),
        f"{meaning(best, task).name}, validation": (Line(f"val_{best}", "", WRONG),),
        "Learning rate": (Line("rate", "", QUIET),),
    }
    known = {title: [line for line in lines if series(records, line.name)[0]] for title, lines in panels.items()}
    drawn = {title: lines for title, lines in known.items() if lines}
    figure = new_figure(WIDTH, 3.2)
    for place, (title, lines) in enumerate(drawn.items(), start=1):
        axes = figure.add_subplot(1, len(panels), place)
        show_lines(axes, records, lines, title)
        if lines[0].name == f"val_{best}" and axes.get_ylim()[1] <= 1.06:
            axes.set_ylim(0, 1.03)
            axes.yaxis.set_major_formatter(lambda value, _: in_words(best, value).replace(".0", ""))
        if lines[0].name == "rate":
            axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    figure.subplots_adjust(left=0.05, right=0.985, bottom=0.17, top=0.88, wspace=0.25)
    return figure


class Gap(NamedTuple):
    """The answers of one confidence, and how often they are right."""

    confidence: float
    accuracy: float


def show_gaps(axes: "Axes", gaps: Sequence[Gap], colour: str, label: str) -> None:
    """From how often answers are right to how often they should be, which lies on the diagonal."""
    for place, gap in enumerate(gaps):
        axes.plot(
            [gap.confidence, gap.confidence],
            [gap.accuracy, gap.confidence],
            color=colour,
            linewidth=3,
            solid_capstyle="butt",
            label="" if place else label,
        )


def reliability(bins: Mapping[str, Sequence[float]]) -> "Figure":
    """Whether confidence is deserved: accuracy against confidence, and how often each confidence occurs.

    Args:
        bins: `edges` (upper), `count`, `confidence` and `accuracy` of each, as `tasks.scores.Calibration` gives them.

    Source: Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, figure 1.
    """
    edges, count = np.array(bins["edges"]), np.array(bins["count"], dtype=int)
    confidence, accuracy = np.array(bins["confidence"]), np.array(bins["accuracy"])
    error = float((np.abs(accuracy - confidence) * count).sum() / max(count.sum(), 1))
    width, used = edges[0], count > 0
    bars = {"x": (edges - width)[used], "width": width, "align": "edge", "edgecolor": "white"}
    gaps = [Gap(*pair) for pair in zip(confidence[used], accuracy[used], strict=True)]

    figure = new_figure(7.2, 6.4)
    deserved, occurring = figure.subplots(2, 1, height_ratios=(4, 1))
    figure.subplots_adjust(left=0.09, right=0.97, bottom=0.08, top=0.94, hspace=0.36)
    plain(deserved, f"Right as often as it believes? Off by {error:.1%} on average (expected calibration error)")
    deserved.bar(height=accuracy[used], color=LIGHT, label="how often it is right", **bars)
    deserved.plot([0, 1], [0, 1], color=QUIET, linewidth=1, linestyle=(0, (4, 3)), label="as often as it believes")
    show_gaps(deserved, [gap for gap in gaps if gap.accuracy < gap.confidence], WRONG, "too sure of itself")
    show_gaps(deserved, [gap for gap in gaps if gap.accuracy > gap.confidence], MODEST, "better than it believes")
    deserved.set(xlim=(0, 1), ylim=(0, 1))
    deserved.set_ylabel("share of answers that are right", fontsize=8, color=QUIET)
    told = {"loc": "upper left", "bbox_to_anchor": (-0.01, -0.06), "ncols": 4, "borderaxespad": 0}  # below the axes
    deserved.legend(frameon=False, fontsize=8, labelcolor=INK, **told)
    plain(occurring, "How many answers it gives with each confidence", "confidence: the score of the answer")
    occurring.bar(height=count[used], color=PALE, **bars)
    for left, number in zip((edges - width)[used], count[used], strict=True):
        occurring.text(left + width / 2, number, f"{number}", ha="center", va="bottom", fontsize=7, color=QUIET)
    occurring.set(xlim=(0, 1), ylim=(0, max(count.max(), 1) * 1.25), yticks=[])
    occurring.grid(visible=False)
    occurring.spines["left"].set_visible(False)
    return figure


class Placed(NamedTuple):
    """A picture of a sheet, as large as it is printed, and the words beneath it as lines.

    Attributes:
        size: width and height, inches.
        lines: each with whether it belongs to the first thing that is said, which is coloured.
    """

    tile: Tile
    size: tuple[float, float]
    lines: list[tuple[str, bool]]

    @classmethod
    def of(cls, tile: Tile, side: float, highest: float) -> "Placed":
        """As large as fits."""
        scale = min(side / tile.image.width, highest / tile.image.height)
        lines = [(line, not number) for number, said in enumerate(tile.lines) for line in wrapped(said, side, 8)]
        return cls(tile, (tile.image.width * scale, tile.image.height * scale), lines)

    @property
    def height(self) -> float:
        """Of the picture and its words, inches."""
        return self.size[1] + high(8) * len(self.lines)

    def draw(self, figure: "Figure", left: float, top: float) -> None:
        """Put it on the page, with its upper left corner so many inches from the left and from below."""
        width, height = figure.get_size_inches()
        across, down = self.size
        axes = figure.add_axes((left / width, (top - down) / height, across / width, down / height))
        axes.imshow(self.tile.image, aspect="auto")
        axes.axis("off")
        verdict = {True: RIGHT, False: WRONG, None: INK}[self.tile.right]
        for number, (line, first) in enumerate(self.lines, start=1):
            bottom = (top - down - high(8) * number) / height
            figure.text(left / width, bottom, line, fontsize=8, color=verdict if first else QUIET, parse_math=False)


def sheet(tiles: Sequence[Tile], title: str, words: str = "", *, wide: bool = False) -> "Figure":
    """Pictures in rows, each with a few words beneath. A row is as high as its pictures need.

    Args:
        tiles: what is shown; with none, the title stands alone.
        title: at the head.
        words: how to read it, below the title.
        wide: whether each tile is two pictures, which leaves room for half as many in a row.
    """
    columns, side = (2, 5.2) if wide else (4, 2.5)
    highest, gap, below = 2.5, 0.2, 0.25  # inches
    width = columns * (side + gap) + gap
    unread = lacking(line for tile in tiles for line in tile.lines)
    said = [line for text in (words, *unread) for line in wrapped(text, width - 2 * gap, 9)]
    placed = [Placed.of(tile, side, highest) for tile in tiles]
    rows = [placed[first : first + columns] for first in range(0, len(placed), columns)]
    heights = [max(one.height for one in row) + below for row in rows]
    head = 0.65 + high(9) * len(said)
    height = head + sum(heights)
    figure = new_figure(width, height)
    figure.text(gap / width, 1 - 0.4 / height, title, fontsize=13, fontweight="bold", color=INK)
    for number, line in enumerate(said, start=1):
        figure.text(gap / width, 1 - (0.4 + high(9) * number) / height, line, fontsize=9, color=QUIET, parse_math=False)
    top = height - head
    for row, needed in zip(rows, heights, strict=True):
        for column, one in enumerate(row):
            one.draw(figure, gap + column * (side + gap), top)
        top -= needed
    return figure
