"""Figures of a detector's report: precision over recall, what goes wrong, and how size matters."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from vitrail.errors import many
from vitrail.evaluate.confusion import LETTER, printed
from vitrail.evaluate.plots import LIGHT, PALE, RIGHT, WRONG, plain
from vitrail.explain.figures import INK, QUIET, high, new_figure, wrapped

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ACROSS = 4  # curves side by side
SIDE = 2.66  # inches of each, with what is around it
MOST = 16  # curves in all; of more classes the best half and the worst half are drawn
BAR = 0.34  # inches: a bar with what is around it

Row = Mapping[str, Any]


def hundredths(score: float | None) -> str:
    """A score as it is said of detectors."""
    return "-" if score is None else f"{100 * score:.1f}"


def drawn_classes(rows: Sequence[Row]) -> list[int]:
    """The classes whose curves are drawn, as places: all that have objects, or of many the best and the worst."""
    places = sorted((place for place, row in enumerate(rows) if row["objects"]), key=lambda place: -rows[place]["ap50"])
    return places if len(places) <= MOST else [*places[: MOST // 2], *places[-MOST // 2 :]]


def show_curve(axes: "Axes", recall: Sequence[float], precision: Sequence[float], row: Row, name: str) -> None:
    """Precision over recall of one class, and the point that its best threshold reaches."""
    plain(axes, "")
    said = f"AP50 {hundredths(row['ap50'])}, {many(row['objects'], 'object')}"
    axes.text(0, 1.15, name, transform=axes.transAxes, fontsize=9, fontweight="bold", color=INK, parse_math=False)
    axes.text(0, 1.04, said, transform=axes.transAxes, fontsize=8, color=QUIET)
    axes.fill_between(recall, precision, color=LIGHT, linewidth=0)
    axes.plot(recall, precision, color=RIGHT, linewidth=1.4)
    axes.set(xlim=(0, 1.02), ylim=(0, 1.04), xticks=(0, 0.5, 1), yticks=(0, 0.5, 1))
    if row["threshold"] is None:
        return
    left = row["recall"] > 0.6
    lift = 6 if row["precision"] < 0.2 else -12 if left else -4 if row["precision"] > 0.9 else 2
    axes.plot([row["recall"]], [row["precision"]], "o", color=WRONG, markersize=5, clip_on=False)
    axes.annotate(
        f"from {row['threshold']:.2f}",
        (row["recall"], row["precision"]),
        xytext=(-7 if left else 7, lift),
        textcoords="offset points",
        ha="right" if left else "left",
        fontsize=8,
        color=WRONG,
    )


def precision_recall(details: Mapping[str, Any]) -> "Figure":
    """Precision over recall at an overlap of one half, a small picture for each class, best first.

    Args:
        details: of `DetectionMetrics`.
    """
    rows, curves = details["per_class"], details["precision_recall"]
    names, places = printed([row["label"] for row in rows]), drawn_classes(rows)
    across = min(max(len(places), 2), ACROSS)
    down = max(math.ceil(len(places) / across), 1)
    width, height = SIDE * across + 0.35, SIDE * 0.87 * down + 0.5
    figure = new_figure(width, height)
    for number, place in enumerate(places, start=1):
        axes = figure.add_subplot(down, across, number)
        show_curve(axes, curves["recall"], curves["precision"][place], rows[place], names[place])
    figure.subplots_adjust(
        left=0.45 / width, right=1 - 0.15 / width, bottom=0.65 / height, top=1 - 0.5 / height, wspace=0.2, hspace=0.55
    )
    occurring = sum(row["objects"] > 0 for row in rows)
    few = "" if len(places) == occurring else f"The {MOST // 2} best and the {MOST // 2} worst of {occurring} classes."
    said = "Across: recall, the share of the objects that are found. Up: precision, of the answers that are right."
    lines = [line for text in (said, few) if text for line in wrapped(text, width - 0.6, 8)]
    for number, line in enumerate(reversed(lines)):
        figure.text(0.45 / width, (0.1 + number * high(8)) / height, line, fontsize=8, color=QUIET)
    return figure


def show_bars(axes: "Axes", title: str, names: Sequence[str], values: Sequence[float], said: Sequence[str]) -> None:
    """Bars, each with its value behind it; the first at the top."""
    plain(axes, title)
    places = range(len(values))
    axes.barh(places, values, color=WRONG, height=0.62)
    axes.set_yticks(places, names, parse_math=False)
    axes.tick_params(axis="y", length=0, labelcolor=INK, labelsize=9)
    axes.grid(visible=False)
    axes.set_xticks([])
    axes.spines["bottom"].set_visible(False)
    axes.set_ylim(len(values) - 0.4, -0.6)
    axes.set_xlim(0, max(*values, 1e-9) * 1.18)
    for place, (value, words) in enumerate(zip(values, said, strict=True)):
        axes.annotate(f" {words}", (value, place), va="center", fontsize=9, color=QUIET)


def errors(details: Mapping[str, Any]) -> "Figure":
    """What goes wrong: how often, and how much of AP50 it costs.

    Args:
        details: of `DetectionMetrics`.
    """
    rows = details["errors"]
    names = [row["error"] for row in rows]
    label = LETTER * max(map(len, names)) * 1.2 + 0.2
    width, height = 9.5, 0.6 + BAR * len(rows)
    figure = new_figure(width, height)
    bottom, tall, wide = 0.12 / height, BAR * len(rows) / height, (width - label - 1.0) / 2
    counts, lost = [row["count"] for row in rows], [row["ap50_lost"] for row in rows]
    objects = sum(row["objects"] for row in details["per_class"])
    axes = figure.add_axes((label / width, bottom, wide / width, tall))
    title = f"How often, among {many(objects, 'object')}"
    show_bars(axes, title, names, counts, [f"{count:,}" for count in counts])
    axes = figure.add_axes(((label + wide + 0.7) / width, bottom, wide / width, tall))
    show_bars(axes, "What it costs of AP50", [""] * len(rows), lost, [hundredths(one) for one in lost])
    return figure


def by_size(details: Mapping[str, Any]) -> "Figure":
    """AP and AR of small, medium and large objects, side by side.

    Args:
        details: of `DetectionMetrics`.
    """
    rows = details["by_size"]
    figure = new_figure(7.2, 3.4)
    axes = figure.add_subplot()
    figure.subplots_adjust(left=0.08, right=0.98, bottom=0.22, top=0.88)
    plain(axes, "AP and AR by the size of the objects")
    for offset, name, colour, said in (
        (-0.2, "ap", RIGHT, "AP: well placed"),
        (0.2, "ar", LIGHT, "AR: found at all"),
    ):
        values = [100 * (row[name] or 0.0) for row in rows]
        axes.bar([place + offset for place in range(len(rows))], values, width=0.36, color=colour, label=said)
        for place, (row, value) in enumerate(zip(rows, values, strict=True)):
            if row["objects"]:
                words = hundredths(row[name])
                axes.text(place + offset, value + 1.5, words, ha="center", va="bottom", fontsize=9, color=INK)
            elif name == "ap":
                axes.text(place, 2, "none", ha="center", va="bottom", fontsize=9, color=QUIET)
    places = [f"{row['size']}\n{row['pixels']} pixels\n{many(row['objects'], 'object')}" for row in rows]
    axes.set_xticks(range(len(rows)), places)
    axes.tick_params(axis="x", length=0, labelcolor=INK, labelsize=9)
    axes.grid(visible=False, axis="x")
    axes.set(xlim=(-0.6, len(rows) - 0.4), ylim=(0, 110))
    axes.set_yticks((0, 25, 50, 75, 100))
    axes.spines["bottom"].set_color(PALE)
    axes.legend(frameon=False, fontsize=8, labelcolor=INK, loc="lower right", bbox_to_anchor=(1, 0.99), ncols=2)
    return figure
