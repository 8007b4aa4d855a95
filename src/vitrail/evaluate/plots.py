"""Figures of a report: curves, confusion, reliability, and sheets of pictures.

As in `explain.drawing`, only matplotlib's `Figure` is used: no window, no global state.
"""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int
from PIL import Image

from vitrail.explain.drawing import INK, QUIET, drawable, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

RIGHT, WRONG = "#0b7285", "#d9480f"  # teal and orange, which most colour-blind eyes tell apart too
WIDTH = 11.0  # of a figure, inches
PALE = "#e4e4e4"
COUNTED, NAMED = 15, 40  # most classes whose counts, and whose names, a confusion matrix has room for
CELLS = 200  # most cells along its side; where there are more classes, several share one
PAIRS = 14  # confusions listed beside it
NAME = 22  # most letters of a class name on an axis

Records = Sequence[Mapping[str, Any]]


class Confusion(NamedTuple):
    """One class taken for another, and how often."""

    truth: str
    said: str
    count: int
    of: int  # how often the truth occurred


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
    found = [(record["epoch"], record[name]) for record in records if record.get(name) is not None]
    return [epoch for epoch, _ in found], [value for _, value in found]


def curves(records: Records, best: str) -> "Figure":
    """How a run went: the loss, the score that decides, and the learning rate.

    Args:
        records: the lines of `metrics.jsonl`.
        best: the name of the score.
    """
    figure = new_figure(WIDTH, 3.2)
    loss, score, rate = figure.subplots(1, 3)
    figure.subplots_adjust(left=0.05, right=0.985, bottom=0.17, top=0.88, wspace=0.2)
    plain(loss, "Loss", "epoch")
    loss.plot(*series(records, "loss"), color=RIGHT, linewidth=1.2, label="training")
    loss.plot(*series(records, "val_loss"), color=WRONG, linewidth=1.5, marker="o", markersize=3, label="validation")
    loss.legend(frameon=False, fontsize=8, labelcolor=INK)
    plain(score, f"{best}, validation", "epoch")
    score.plot(*series(records, f"val_{best}"), color=WRONG, linewidth=1.5, marker="o", markersize=3)
    plain(rate, "Learning rate", "epoch")
    rate.plot(*series(records, "rate"), color=QUIET, linewidth=1.2)
    rate.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    return figure


def confusions(counts: Int[np.ndarray, "truth said"], classes: Sequence[str], most: int = PAIRS) -> list[Confusion]:
    """The pairs of classes that are mistaken most often, most often first."""
    wrong = counts - np.diag(np.diag(counts))
    places = np.argsort(-wrong, axis=None, kind="stable")[:most]
    pairs = [divmod(int(place), len(classes)) for place in places]
    return [
        Confusion(classes[truth], classes[said], int(wrong[truth, said]), int(counts[truth].sum()))
        for truth, said in pairs
        if wrong[truth, said]
    ]


def joined(shares: Float[np.ndarray, "truth said"]) -> Float[np.ndarray, "cells cells"]:
    """A matrix with at most `CELLS` cells along a side; where several classes share one, the largest value shows."""
    step = math.ceil(len(shares) / CELLS)
    margin = -len(shares) % step
    padded = np.pad(shares, (0, margin))
    cells = len(padded) // step
    return padded.reshape(cells, step, cells, step).max(axis=(1, 3))


def tinted(shares: Float[np.ndarray, "truth said"]) -> Float[np.ndarray, "truth said colour"]:
    """Teal where truth and answer agree, orange where they do not, the deeper the larger the share."""
    from matplotlib.colors import to_rgb

    full = np.where(np.eye(len(shares), dtype=bool)[..., None], to_rgb(RIGHT), to_rgb(WRONG))
    return 1 - shares[..., None] * (1 - full)


def show_matrix(axes: "Axes", counts: Int[np.ndarray, "truth said"], classes: Sequence[str]) -> None:
    """A confusion matrix, each row as shares of its class; the square root lets rare mistakes be seen."""
    shares = counts / counts.sum(axis=1, keepdims=True).clip(min=1)
    axes.imshow(tinted(np.sqrt(joined(shares))), interpolation="nearest", extent=(0, len(counts), len(counts), 0))
    axes.set_title("Truth in rows, answers in columns", loc="left", fontsize=10, fontweight="bold", color=INK)
    axes.tick_params(length=0, labelsize=8 if len(classes) <= COUNTED else 6, labelcolor=INK)
    for spine in axes.spines.values():
        spine.set_color(PALE)
    if len(classes) <= NAMED:
        names, middles = [drawable(name, NAME) for name in classes], np.arange(len(classes)) + 0.5
        axes.set_xticks(middles, names, rotation=45, ha="right", rotation_mode="anchor", parse_math=False)
        axes.set_yticks(middles, names, parse_math=False)
    if len(classes) <= COUNTED:
        for (truth, said), count in np.ndenumerate(counts):
            colour = "white" if shares[truth, said] > 0.3 else INK if count else PALE
            axes.text(said + 0.5, truth + 0.5, str(count), ha="center", va="center", fontsize=8, color=colour)


def show_confusions(axes: "Axes", pairs: Sequence[Confusion]) -> None:
    """The most frequent mistakes as bars, most frequent at the top."""
    places = range(len(pairs))
    names = [f"{drawable(pair.truth, NAME)} \u2192 {drawable(pair.said, NAME)}" for pair in pairs]
    axes.barh(places, [pair.count for pair in pairs], color=WRONG, height=0.62)
    plain(axes, "Taken for another most often", "pictures" if pairs else "")
    axes.set_yticks(places, names, parse_math=False)
    axes.tick_params(axis="y", length=0, labelcolor=INK)
    axes.grid(visible=False)
    axes.set_xticks([])
    axes.spines["bottom"].set_visible(False)
    axes.set_ylim(PAIRS - 0.4, -0.6)
    for place, pair in enumerate(pairs):
        axes.annotate(f" {pair.count} of {pair.of}", (pair.count, place), va="center", fontsize=8, color=QUIET)
    if not pairs:
        axes.text(0.0, 0.95, "never", transform=axes.transAxes, va="top", fontsize=9, color=QUIET)


def confusion(counts: Sequence[Sequence[int]], classes: Sequence[str]) -> "Figure":
    """What was taken for what: the matrix, and the pairs that are mistaken most often.

    Args:
        counts: a row for each true class, a column for each answer.
        classes: their names.
    """
    matrix = np.array(counts, dtype=np.int64).reshape(len(classes), len(classes))
    figure = new_figure(WIDTH, 5.4)
    show_matrix(figure.add_axes((0.13, 0.2, 0.36, 0.36 * WIDTH / 5.4)), matrix, classes)
    show_confusions(figure.add_axes((0.74, 0.2, 0.2, 0.36 * WIDTH / 5.4)), confusions(matrix, classes))
    return figure


def reliability(bins: Mapping[str, Sequence[float]]) -> "Figure":
    """Whether confidence is deserved: accuracy against confidence, and how often each confidence occurs.

    Args:
        bins: `edges` (upper), `count`, `confidence` and `accuracy` of each, as `tasks.scores.Calibration` gives them.

    Source: Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, figure 1.
    """
    edges, count = np.array(bins["edges"]), np.array(bins["count"], dtype=float)
    shares = count / max(count.sum(), 1)
    confidence, accuracy = np.array(bins["confidence"]), np.array(bins["accuracy"])
    error = float((np.abs(accuracy - confidence) * shares).sum())
    width, used = edges[0], count > 0
    bars = {"x": (edges - width)[used], "width": width, "align": "edge"}
    gap = {"facecolor": f"{WRONG}55", "edgecolor": WRONG, "linewidth": 0.6, "label": "gap to confidence"}

    figure = new_figure(WIDTH, 4.4)
    deserved, occurring = figure.subplots(1, 2)
    figure.subplots_adjust(left=0.05, right=0.985, bottom=0.12, top=0.91, wspace=0.14)
    plain(deserved, f"Accuracy at each confidence (expected calibration error {error:.3f})", "confidence")
    deserved.bar(height=accuracy[used], color=RIGHT, edgecolor="white", label="accuracy", **bars)
    deserved.bar(height=(confidence - accuracy)[used], bottom=accuracy[used], **gap, **bars)
    deserved.plot([0, 1], [0, 1], color=QUIET, linewidth=1, linestyle=(0, (4, 3)))
    deserved.set(xlim=(0, 1), ylim=(0, 1))
    deserved.legend(frameon=False, fontsize=8, labelcolor=INK, loc="upper left")
    plain(occurring, "Share of the answers at each confidence", "confidence")
    occurring.bar(height=shares[used], color=RIGHT, edgecolor="white", **bars)
    occurring.set_xlim(0, 1)
    return figure


def sheet(tiles: Sequence[Tile], title: str, *, wide: bool = False) -> "Figure":
    """Pictures in rows, each with a few words beneath.

    Args:
        tiles: what is shown; with none, the title stands alone.
        title: at the head.
        wide: whether each tile is two pictures side by side, which leaves room for half as many in a row.
    """
    columns, side = (2, 5.2) if wide else (4, 2.5)
    high, words, gap, head = 2.5, 0.75, 0.2, 0.65  # inches
    rows = math.ceil(len(tiles) / columns)
    width, height = columns * (side + gap) + gap, rows * (high + words) + head
    figure = new_figure(width, height)
    figure.text(gap / width, 1 - 0.4 / height, title, fontsize=13, fontweight="bold", color=INK)
    for place, tile in enumerate(tiles):
        row, column = divmod(place, columns)
        left, bottom = gap + column * (side + gap), height - head - row * (high + words) - high
        axes = figure.add_axes((left / width, bottom / height, side / width, high / height))
        axes.imshow(tile.image)
        axes.axis("off")
        axes.set_anchor("SW")
        verdict = {True: RIGHT, False: WRONG, None: INK}[tile.right]
        for number, line in enumerate(tile.lines):
            figure.text(
                left / width,
                (bottom - 0.17 * (number + 1)) / height,
                drawable(line, 80 if wide else 38),
                fontsize=8,
                color=QUIET if number else verdict,
                parse_math=False,
            )
    return figure
