"""What was taken for what: a matrix of all classes, and the pairs that are mistaken most often."""

import math
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from vitrail.errors import many
from vitrail.evaluate.plots import PALE, RIGHT, WRONG, plain
from vitrail.explain.figures import INK, LACKING, QUIET, drawable, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COUNTED, NAMED = 15, 40  # most classes whose counts, and whose names, a matrix has room for
CELLS = 200  # most cells along its side; where there are more classes, several share one
PAIRS = 14  # confusions listed beside it
NAME = 24  # most letters of a class name
LETTER, BAR = 0.068, 0.3  # inches: the width of a letter, the height of a bar with what is around it
MARGIN, TOP = 0.25, 0.45  # inches: around the figure, above the matrix


class Confusion(NamedTuple):
    """One class taken for another, and how often."""

    truth: str
    said: str
    count: int
    of: int  # how often the truth occurred


def printed(classes: Sequence[str]) -> list[str]:
    """Names that can be drawn, with their number where the font lacks a letter or two of them would look alike."""
    names = [drawable(name, NAME) for name in classes]
    unclear = {name for name, often in Counter(names).items() if often > 1 or LACKING in name}
    return [f"{number}: {name}" if name in unclear else name for number, name in enumerate(names)]


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


def show_matrix(axes: "Axes", counts: Int[np.ndarray, "truth said"], names: Sequence[str]) -> None:
    """A confusion matrix, each row as shares of its class; the square root lets rare mistakes be seen."""
    shares = counts / counts.sum(axis=1, keepdims=True).clip(min=1)
    axes.imshow(tinted(np.sqrt(joined(shares))), interpolation="nearest", extent=(0, len(counts), len(counts), 0))
    step = math.ceil(len(names) / NAMED)
    every = f"; one name in {step} is written" if step > 1 else ""
    title = f"Truth in rows, answers in columns{every}"
    axes.set_title(title, loc="left", fontsize=10, fontweight="bold", color=INK)
    axes.tick_params(length=0, labelsize=8 if len(names) <= COUNTED else 6, labelcolor=INK)
    for spine in axes.spines.values():
        spine.set_color(PALE)
    middles = np.arange(len(names))[::step] + 0.5
    axes.set_xticks(middles, names[::step], rotation=45, ha="right", rotation_mode="anchor", parse_math=False)
    axes.set_yticks(middles, names[::step], parse_math=False)
    if len(names) <= COUNTED:
        for (truth, said), count in np.ndenumerate(counts):
            colour = "white" if shares[truth, said] > 0.3 else INK if count else PALE
            axes.text(said + 0.5, truth + 0.5, str(count), ha="center", va="center", fontsize=8, color=colour)


def show_confusions(axes: "Axes", pairs: Sequence[Confusion], note: str) -> None:
    """The most frequent mistakes as bars, most frequent at the top, and a note below them."""
    places = range(len(pairs))
    axes.barh(places, [pair.count for pair in pairs], color=WRONG, height=0.62)
    plain(axes, "Taken for another most often")
    axes.set_yticks(places, [f"{pair.truth} \u2192 {pair.said}" for pair in pairs], parse_math=False)
    axes.tick_params(axis="y", length=0, labelcolor=INK)
    axes.grid(visible=False)
    axes.set_xticks([])
    axes.spines["bottom"].set_visible(False)
    axes.spines["left"].set_visible(bool(pairs))
    axes.set_ylim(max(len(pairs), 1) - 0.4, -0.6)
    for place, pair in enumerate(pairs):
        axes.annotate(f" {pair.count} of {pair.of}", (pair.count, place), va="center", fontsize=8, color=QUIET)
    below = -0.08 / max(len(pairs), 1)
    axes.text(0, below, note, transform=axes.transAxes, va="top", fontsize=8, color=QUIET)


def notes(counts: Int[np.ndarray, "truth said"], pairs: Sequence[Confusion], names: Sequence[str]) -> str:
    """What to know of the mistakes that have no bars, and of names that cannot be drawn; a line for each."""
    wrong = counts - np.diag(np.diag(counts))
    pictures = int(wrong.sum()) - sum(pair.count for pair in pairs)
    lines = [] if pairs else ["Never: none was taken for another class."]
    if pictures:
        others = many(int(np.count_nonzero(wrong)) - len(pairs), "other pair")
        lines.append(f"and {pictures:,} more in {others}")
    if any(LACKING in name for name in names):
        lines += [f"{LACKING} is a letter that this figure's font lacks;", "the numbers count the classes from 0."]
    return "\n".join(lines)


def confusion(counts: Sequence[Sequence[int]], classes: Sequence[str]) -> "Figure":
    """What was taken for what: the matrix, and the pairs that are mistaken most often. As large as they need.

    Args:
        counts: a row for each true class, a column for each answer.
        classes: their names.
    """
    matrix = np.array(counts, dtype=np.int64).reshape(len(classes), len(classes))
    names = printed(classes)
    pairs = confusions(matrix, names)
    note = notes(matrix, pairs, names)

    letter = LETTER if len(names) <= COUNTED else 0.75 * LETTER
    label = letter * max(map(len, names)) + 0.15
    side = min(max(0.5 * len(names) + 1, 2.4), 5.4)
    words = LETTER * max([len(pair.truth) + len(pair.said) + 3 for pair in pairs], default=0) + 0.15
    bars, bar_width = BAR * max(len(pairs), 1), 2.0
    left, pairs_left = MARGIN + label, MARGIN + label + side + 0.5 + words
    width = pairs_left + bar_width + 0.9
    height = TOP + max(side + 0.75 * label, bars + 0.75) + MARGIN

    figure = new_figure(width, height)
    show_matrix(figure.add_axes((left / width, 1 - (TOP + side) / height, side / width, side / height)), matrix, names)
    show_confusions(
        figure.add_axes((pairs_left / width, 1 - (TOP + bars) / height, bar_width / width, bars / height)), pairs, note
    )
    return figure
