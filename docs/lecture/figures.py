"""How the figures of the lecture look. What they show is computed on its pages, by the modules that vitrail ships.

As in `vitrail.explain.figures`, only matplotlib's `Figure` is used: no window, no global state.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from torch import Tensor

from vitrail.evaluate.plots import LIGHT, MODEST, PALE, RIGHT, WRONG, plain
from vitrail.explain.figures import INK, QUIET, png

WIDTH, RESOLUTION = 7.6, 200  # inches, so that letters are equally large in all figures; pixels per inch
TEAL, ORANGE, PURPLE = RIGHT, WRONG, MODEST
SERIES = ((TEAL, "-"), (ORANGE, "-"), (PURPLE, "-"), (INK, ":"), (TEAL, "--"))  # how curves look, in their order
CLASSES_LOOK = (  # how points of several classes look, in their order
    (TEAL, "o"), (TEAL, "^"), (ORANGE, "o"), (ORANGE, "^"), (PURPLE, "s"), (INK, "D"), ("#7a7a7a", "o"),
)  # fmt: skip
SHARES = LinearSegmentedColormap.from_list("shares", ["#ffffff", LIGHT, TEAL, "#06363f"])  # from nothing upwards
SIGNED = LinearSegmentedColormap.from_list("signed", ["#8f2c06", ORANGE, "#ffffff", TEAL, "#06363f"])  # around zero
BROKEN = "#f6d9cd"  # of a cell that holds no number
FEW, MANY = 12, 48  # most rows and most columns of a table whose cells are told apart by lines
HUGE = 1e6  # a score of such a size is a mask and not a score
DARK = 0.45  # luminance below which a cell carries white letters


class Sheet(Figure):
    """A figure that shows itself where it is the last line of a cell."""

    def _repr_png_(self) -> bytes:
        return png(self)


def blank(height: float) -> Sheet:
    """A white page of the lecture's width; inches."""
    figure = Sheet(figsize=(WIDTH, height), dpi=RESOLUTION, facecolor="white", layout="constrained")
    figure.get_layout_engine().set(w_pad=0.08, h_pad=0.08)
    return figure


def sheet(height: float, rows: int = 1, columns: int = 1, **layout: Any) -> tuple[Sheet, Any]:
    """A page and its panels, as `Figure.subplots` gives them."""
    figure = blank(height)
    return figure, figure.subplots(rows, columns, **layout)


def storeys(height: float, *plan: Sequence[float], heights: Sequence[float]) -> tuple[Sheet, list[Any]]:
    """A page of several rows, each with its own number of panels.

    Args:
        height: of the page.
        plan: for each row, how wide its panels are beside one another.
        heights: of the rows, beside one another.
    """
    figure = blank(height)
    floors = figure.subfigures(len(plan), 1, height_ratios=heights)
    return figure, [
        floor.subplots(1, len(widths), width_ratios=widths, squeeze=False)[0]
        for floor, widths in zip(floors, plan, strict=True)
    ]


def spread(count: int, table: Sequence[int], cell: float, *, deep: int = 1) -> tuple[Sheet, Any]:
    """A page for tables whose cells have room for letters, and their panels.

    Args:
        count: of the tables; at most four stand beside one another, and fewer if they are wide.
        table: how many rows and columns each has.
        cell: its side, inches.
        deep: how many panels each has, one below the other; then the panels of a table are one row of what is given.
    """
    rows, columns = table
    down = -(-count // max(1, min(count, 4, int(WIDTH / (columns * cell)))))
    across = -(-count // down)
    figure, axes = sheet(deep * down * (rows * cell + 0.5), deep * down, across, squeeze=False)
    panels = axes.reshape(down, deep, across).swapaxes(1, 2).reshape(-1, deep)
    for unused in panels[count:].flat:
        unused.remove()
    return figure, panels[:count] if deep > 1 else panels[:count, 0]


def title(axes: Axes, text: str) -> None:
    axes.set_title(text, loc="left", fontsize=9.5, fontweight="bold", color=INK)


def heat(
    axes: Axes,
    values: Tensor,
    text: str,
    *,
    top: float | None = None,
    signed: bool = False,
    form: str = "",
    down: Sequence[str] = (),
    right: Sequence[str] = (),
    beside: str = "",
    below: str = "",
    size: float = 8,
) -> Any:
    """A table as colours, and as numbers where `form` says how they are written.

    Args:
        values: rows x columns; what is not a number, or infinite or as good as, is marked as such.
        text: the title.
        top: the value of the strongest colour; the largest finite one unless given.
        signed: whether zero is white and both directions have a colour.
        down, right: names of the rows and of the columns.
        beside, below: what rows and columns are.
        size: of the letters in the cells, points.
    """
    rows = torch.as_tensor(values).detach().tolist()
    shown = [[value if abs(value) < HUGE else math.nan for value in row] for row in rows]
    top = top or max((abs(value) for row in shown for value in row if value == value), default=0.0) or 1.0
    colours = (SIGNED if signed else SHARES).with_extremes(bad=BROKEN)
    image = axes.imshow(shown, cmap=colours, vmin=-top if signed else 0, vmax=top, interpolation="nearest")
    title(axes, text)
    axes.set(xticks=[], yticks=[])
    if right:
        axes.set_xticks(range(len(right)), right)
    if down:
        axes.set_yticks(range(len(down)), down)
    axes.tick_params(length=0, labelsize=8, labelcolor=QUIET)
    axes.set_ylabel(beside, fontsize=8, color=QUIET)
    axes.set_xlabel(below, fontsize=8, color=QUIET)
    for spine in axes.spines.values():
        spine.set_color(PALE)
    if form:
        for row, line in enumerate(rows):
            for column, value in enumerate(line):
                red, green, blue, _ = image.to_rgba(shown[row][column])
                colour = "white" if 0.3 * red + 0.6 * green + 0.1 * blue < DARK else INK
                axes.text(column, row, spoken(value, form), ha="center", va="center", fontsize=size, color=colour)
    if form or (len(rows) <= FEW and len(rows[0]) <= MANY):
        rule(axes, len(rows), len(rows[0]))
    return image


def spoken(value: float, form: str) -> str:
    """A number for a cell: infinities by their sign, what stands for one by its size, and 0 for nothing but zero."""
    if value == 0:
        return "0"
    if math.isinf(value):
        return "\u2212\u221e" if value < 0 else "+\u221e"
    if abs(value) >= HUGE:
        return f"{value:.0e}".replace("e+0", "e").replace("-", "\u2212")
    if math.isnan(value):
        return "NaN"
    text = format(value, form)
    return text.lstrip("-") if float(text) == 0 else text.replace("-", "\u2212")


def rule(axes: Axes, rows: int, columns: int) -> None:
    """Thin white lines between the cells of a table."""
    axes.hlines([row + 0.5 for row in range(rows - 1)], -0.5, columns - 0.5, color=PALE, linewidth=0.6)
    axes.vlines([column + 0.5 for column in range(columns - 1)], -0.5, rows - 0.5, color=PALE, linewidth=0.6)


def scale(figure: Figure, image: Any, panels: Any, text: str) -> None:
    """A bar with the colours of an image and what they measure, on the right of the panels."""
    bar = figure.colorbar(image, ax=panels, fraction=0.05, pad=0.02, aspect=24)
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=8, length=2, color=QUIET, labelcolor=QUIET)
    bar.set_label(text, fontsize=8, color=QUIET)


def lines(
    axes: Axes,
    x: Sequence[float],
    curves: Mapping[str, Sequence[float]],
    text: str,
    below: str,
    *,
    beside: str = "",
    names: bool = True,
    dots: bool = True,
) -> None:
    """Curves over one axis.

    Args:
        x: where each value stands.
        curves: by name; they look as `SERIES` says, in turn.
        text, below, beside: the title, and what the two axes measure.
        names: whether a legend says which is which.
        dots: whether each value is marked.
    """
    plain(axes, "", below)
    title(axes, text)
    axes.tick_params(which="minor", length=0)
    axes.set_ylabel(beside, fontsize=8, color=QUIET)
    for (name, y), (colour, style) in zip(curves.items(), SERIES, strict=False):
        marker = "o" if dots else None
        axes.plot(x, y, color=colour, linestyle=style, linewidth=1.6, label=name, marker=marker, markersize=3.2)
    if names:
        axes.legend(frameon=False, fontsize=8, labelcolor=INK, handlelength=1.4)


def mark(axes: Axes, place: float, text: str) -> None:
    """A quiet upright line at a place worth knowing, named at its head."""
    axes.axvline(place, color=QUIET, linewidth=0.8, linestyle=(0, (4, 2)), zorder=1.5)
    how = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points"}
    axes.annotate(text, (place, 0.98), (3, 0), fontsize=7.5, color=QUIET, va="top", rotation=90, **how)


def show_wheel(axes: Axes, keys: Tensor, query: Tensor, colours: Tensor, text: str) -> None:
    """Points on a circle, each in its colour, and an arrow to where the query points."""
    axes.scatter(*keys.T.tolist(), c=colours.tolist(), s=190)
    arrow = {"arrowstyle": "-|>", "color": INK, "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", query.tolist(), (0, 0), arrowprops=arrow)
    axes.set(xlim=(-1.35, 1.35), ylim=(-1.35, 1.35), aspect="equal")
    axes.axis("off")
    title(axes, text)


def dot(axes: Axes, row: float, column: float) -> None:
    """A mark on the cell of a table that is asked for."""
    axes.plot(column, row, "o", color=ORANGE, markersize=4, markeredgecolor="white", markeredgewidth=0.8)


def show_mixture(axes: Axes, weights: Tensor, colours: Tensor, mixture: Tensor, text: str) -> None:
    """How much of each colour is taken, as bars, and in a free corner the colour that comes of it."""
    plain(axes, "", "key")
    title(axes, text)
    axes.grid(visible=False, axis="x")
    axes.bar(range(len(weights)), weights.tolist(), color=colours.tolist(), width=0.72)
    axes.set(ylim=(0, 1), xticks=[], yticks=[0, 0.5, 1])
    right = weights[-2:].max() <= weights[:2].max()
    corner = axes.inset_axes((0.7 if right else 0.02, 0.62, 0.28, 0.36))
    corner.set(xticks=[], yticks=[], facecolor=mixture.tolist())
    for spine in corner.spines.values():
        spine.set_color(INK)


def show_draws(axes: Axes, draws: Mapping[str, Tensor], text: str) -> None:
    """Every draw as a faint dot above its name, and the mean of each as a line."""
    plain(axes, "")
    title(axes, text)
    for place, (values, (colour, _)) in enumerate(zip(draws.values(), SERIES, strict=False)):
        across = place + torch.linspace(-0.18, 0.18, len(values))
        axes.plot(across, values, "o", color=colour, markersize=4, alpha=0.4, markeredgewidth=0)
        axes.hlines(float(values.mean()), place - 0.3, place + 0.3, color=colour, linewidth=1.6)
    axes.set_xticks(range(len(draws)), draws)
    axes.set(xlim=(-0.6, len(draws) - 0.4), ylim=(0, None))


def show_table(axes: Axes, flags: Tensor, text: str, words: Sequence[Sequence[str]] | None = None) -> None:
    """A table of True and False, in which True has a colour; or of words, coloured by their flags."""
    heat(axes, flags.float(), text, top=3)
    for row, line in enumerate(flags.tolist()):
        for column, flag in enumerate(line):
            said = str(flag) if words is None else words[row][column]
            axes.text(column, row, said, ha="center", va="center", fontsize=6.5, color=INK if flag else QUIET)
    rule(axes, *flags.shape)


def groups(axes: Axes, chosen: Tensor, here: tuple[int, int], every: int, text: str, names: Sequence[str] = ()) -> None:
    """A table in which the cells that belong together are coloured, and the one they are asked for is marked.

    Args:
        chosen: rows x columns, 1 where a cell belongs to the group.
        here: row and column of the cell that is asked for.
        every: after how many rows a rule is drawn.
        text: the title.
        names: of the rows.
    """
    heat(axes, chosen, text, top=2, down=names, below="channel")
    rule(axes, *chosen.shape)
    axes.hlines(torch.arange(every, len(chosen), every) - 0.5, -0.5, chosen.shape[1] - 0.5, color=QUIET, linewidth=1.0)
    axes.plot(here[1], here[0], "o", color=TEAL, markersize=4)
    axes.tick_params(axis="y", labelsize=6.5)
    axes.set_aspect("auto")


def band(
    axes: Axes, x: Sequence[float], draws: Mapping[str, Tensor], text: str, below: str, *, dots: bool = True
) -> None:
    """The means of several runs as curves and their ranges as shades; draws are runs x values, by name."""
    means = {name: runs.mean(dim=0).tolist() for name, runs in draws.items()}
    lines(axes, x, means, text, below, names=False, dots=dots)
    for runs, (colour, _) in zip(draws.values(), SERIES, strict=False):
        low, high = runs.amin(dim=0).tolist(), runs.amax(dim=0).tolist()
        axes.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)


def show_pictures(axes: Axes, pixels: Tensor, text: str, *, columns: int = 1, said: Sequence[str] = ()) -> None:
    """Pictures side by side, with a gap between them.

    Args:
        pixels: batch x channels x rows x columns, -1 to 1.
        text: the title.
        columns: how many stand in a row.
        said: what is written below each.
    """
    axes.set_anchor("N")
    count, _, rows, width = pixels.shape
    gap = max(1, width // 12)
    across, pitch = width + gap, rows + (rows // 2 if said else gap)
    for place, picture in enumerate(pixels):
        left, top = place % columns * across, place // columns * pitch
        shown = (picture.permute(1, 2, 0) / 2 + 0.5).clamp(0, 1).tolist()
        axes.imshow(shown, extent=(left, left + width, top + rows, top), interpolation="nearest")
        if said:
            axes.text(left + width / 2, top + rows + gap, said[place], ha="center", va="top", fontsize=7.5, color=INK)
    axes.set(xlim=(0, columns * across - gap), ylim=(-(-count // columns) * pitch, 0))
    axes.axis("off")
    title(axes, text)


def slanted(axes: Axes, names: Sequence[str]) -> None:
    """Names of the columns of a table, above it and slanted, so that long words fit."""
    axes.set_xticks(range(len(names)), names, rotation=50, ha="left", rotation_mode="anchor")
    axes.tick_params(axis="x", top=False, labeltop=True, bottom=False, labelbottom=False, pad=1)


def leaves(tree: Mapping[str, Any]) -> int:
    """At how many ends one may arrive."""
    return sum(leaves(after) or 1 for _, after in tree.values())


def show_tree(axes: Axes, tree: Mapping[str, Any], found: Mapping[tuple[str, ...], str], start: str) -> None:
    """Sentences that grow from left to right, with the share of each word on the line that leads to it.

    Args:
        tree: by word, its share and the tree of what may follow it.
        found: the name of each marked sentence, which is given as its words.
        start: what stands at the root.
    """
    colours = {path: colour for path, (colour, _) in zip(found, SERIES, strict=False)}

    def grow(tree: Mapping[str, Any], path: tuple[str, ...], top: float, at: tuple[float, float]) -> None:
        for word, (share, after) in tree.items():
            longer, high = (*path, word), leaves(after) or 1
            place = (len(longer), top + high / 2)
            marked = [colour for sentence, colour in colours.items() if sentence[: len(longer)] == longer]
            for shift, colour in enumerate(marked or [PALE]):
                across, down = [at[0] + 0.3, place[0] - 0.3], [at[1] + 0.07 * shift, place[1] + 0.07 * shift]
                axes.plot(across, down, color=colour, linewidth=0.8 + 4 * share, solid_capstyle="round", zorder=1)
            axes.text(*place, word, ha="center", va="center", fontsize=9, color=INK)
            middle = (at[0] + place[0]) / 2, (at[1] + place[1]) / 2
            box = {"facecolor": "white", "edgecolor": "none", "pad": 0.8}
            axes.text(*middle, f"{share:.2g}", ha="center", va="center", fontsize=7, color=QUIET, bbox=box)
            if longer in found:
                axes.text(place[0] + 0.3, place[1], found[longer], va="center", fontsize=8, color=colours[longer])
            grow(after, longer, top, place)
            top += high

    axes.text(0, leaves(tree) / 2, start, ha="center", va="center", fontsize=9, color=INK)
    grow(tree, (), 0.0, (0.0, leaves(tree) / 2))
    axes.set(xlim=(-0.3, max(map(len, found)) + 1.6), ylim=(leaves(tree), 0))
    axes.axis("off")


def show_words(axes: Axes, words: Mapping[str, Sequence[str]], places: Tensor, text: str, below: str) -> None:
    """A map of words: a dot for each, and the words of each class together, above the class or below it.

    Args:
        words: of each class.
        places: one point for each word, class after class.
        text, below: the title, and what the plane is.
    """
    plain(axes, "", below)
    title(axes, text)
    axes.grid(visible=False)
    axes.set(xticks=[], yticks=[])
    rows = iter(places.tolist())
    for (name, those), (colour, marker) in zip(words.items(), CLASSES_LOOK, strict=False):
        x, y = zip(*(next(rows) for _ in those), strict=True)
        axes.plot(x, y, marker, color=colour, markersize=4.5, label=name, markeredgewidth=0, alpha=0.8)
        said = "\n".join(" ".join(those[first : first + 5]) for first in range(0, len(those), 5))
        up = marker == "o"
        how = {"textcoords": "offset points", "ha": "center", "va": "bottom" if up else "top", "fontsize": 7}
        axes.annotate(said, (sum(x) / len(x), max(y) if up else min(y)), (0, 5 if up else -5), color=colour, **how)
    axes.margins(0.24, 0.16)


def show_guesses(axes: Axes, words: Sequence[str], shares: Mapping[str, Tensor], text: str) -> None:
    """How likely each word is, by each of several judges, as bars beside one another."""
    plain(axes, "", "chance of the word")
    title(axes, text)
    axes.grid(visible=False, axis="y")
    thick = 0.8 / len(shares)
    for place, ((name, values), colour) in enumerate(zip(shares.items(), ("#b0b0b0", TEAL, ORANGE), strict=False)):
        down = [row + (place - (len(shares) - 1) / 2) * thick for row in range(len(words))]
        axes.barh(down, values.tolist(), height=0.9 * thick, color=colour, label=name)
    axes.legend(loc="lower right", frameon=False, fontsize=8)
    axes.set_yticks(range(len(words)), words)
    axes.set(ylim=(len(words) - 0.5, -0.5), xlim=(0, None))


def show_boxes(axes: Axes, boxes: Tensor, colour: str, names: Sequence[str] = (), *, dashed: bool = False) -> None:
    """Boxes over a picture, each with its name at a corner.

    Args:
        boxes: centre x and y, width and height, in pixels of the picture.
        colour: of all of them.
        names: of each.
        dashed: whether their lines are, and the names at the other corner.
    """
    for place, (x, y, width, height) in enumerate(boxes.tolist()):
        left, top, right, bottom = x - width / 2, y - height / 2, x + width / 2, y + height / 2
        across, down = [left, right, right, left, left], [top, top, bottom, bottom, top]
        axes.plot(across, down, color="white", linewidth=2.2, clip_on=False)
        axes.plot(across, down, color=colour, linewidth=1.4, linestyle="--" if dashed else "-", clip_on=False)
        if names:
            corner = (right, bottom, "right", "bottom") if dashed else (left, top, "left", "top")
            box = {"facecolor": colour, "edgecolor": "none", "pad": 1.2}
            axes.text(*corner[:2], names[place], ha=corner[2], va=corner[3], fontsize=6.5, color="white", bbox=box)
