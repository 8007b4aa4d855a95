"""Attention over a text, as a paper would print it: matrices of who looks at whom, and arcs from one word.

A cell has one flat colour, white where nothing is looked at; all panels of a drawing share one scale.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vitrail.explain.curves import CURVE, Plot, high_plots, show_plots
from vitrail.explain.drawing import LANDSCAPE, PLAINLY, SCALE, WIDEST, Caption, Words
from vitrail.explain.figures import BESIDE, GAP, INK, LETTER, MARGIN, QUIET, drawable, lacking, new_figure, on_pixels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

SHADES = ("white", "#efb4cd", CURVE, "#3a0d47")  # darker all along, so that it still reads when printed in grey
LEAST_PAGE = 6.6  # inches of a page at least, so that titles are whole
CELL, READABLE = 0.34, 0.08  # inches: of a cell at most, and of one beside which its word can be read
TINY = 0.72  # inches of a matrix at least
LETTERS = (5.0, 9.0)  # points of the words beside a matrix
LONG, LONGEST = 14, 20  # letters of a word that are drawn beside a matrix, and by an arc
HIGHEST = 24.0  # inches that matrices take together, down, where they have their words beside them
BROADEST = 16.0  # inches that a row of matrices takes where that is needed to write words beside them
NEARLY = 1.2  # times what few cells pass, up to which the colours reach the largest
LINES = 80  # rows, and columns, of a matrix that are drawn
STEP, FAN = 0.165, 0.8  # inches from one word to the next by an arc, and across which arcs run
ROWS = 45  # words by an arc that are drawn
TINT, TINTED = 10.0, 0.28  # points of a word on its colour, and inches from one line of them to the next
LINE_WIDTH = (0.4, 3.6)  # points of the faintest and the strongest arc
FAINT = 0.01  # of the strongest: what is less is not drawn as an arc


class TextPanel(NamedTuple):
    """One matrix, or the arcs of one word, with what stands above.

    Attributes:
        title: lines.
        values: how much each row looks at each column; one row for arcs.
    """

    title: str
    values: Float[Tensor, "rows columns"]


def shades() -> "Colormap":
    """The colours of shares, from none to the most."""
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("shares", SHADES)


def darkest(panels: Sequence[TextPanel], even: float) -> float:
    """The share of the darkest colour: one cell in two hundred passes it, and even attention does not come near.

    Args:
        panels: of one drawing.
        even: the most that a cell would have if all were looked at alike.
    """
    values = torch.cat([panel.values.flatten() for panel in panels]).double()
    strong = values.sort().values[math.ceil(0.995 * (len(values) - 1))]
    shown = float(values.max() if values.max() <= NEARLY * strong else strong)
    return max(shown, min(PLAINLY * even, 1.0))


def titled(panels: Sequence[TextPanel]) -> float:
    """Inches above each panel for what stands there."""
    lines = max(len(panel.title.splitlines()) for panel in panels)
    return 0.14 + 1.25 * lines * 8 / 72


def wide(words: Sequence[str], size: float, weight: str = "normal") -> float:
    """Inches that the widest of some words takes as it is drawn; size in points."""
    return max(measured(words, size, weight), default=0.0)


def marks(top: float) -> list[float]:
    """The shares that are written below the bar: round ones, and its end."""
    from matplotlib.ticker import MaxNLocator

    return [share for share in map(float, MaxNLocator(4).tick_values(0, top)) if 0 <= share <= 0.85 * top] + [top]


def show_bar(figure: "Figure", top: float, title: str, *, exceeded: bool) -> None:
    """A bar with the colours and their shares, at the foot: on the right where there is room, or else on the left.

    Args:
        figure: the page.
        top: the share of the darkest colour.
        title: what is measured.
        exceeded: whether some pass `top`, which the bar then shows by an arrow.
    """
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.ticker import FuncFormatter

    width, height = figure.get_size_inches()
    left = width - MARGIN - SCALE if width >= BESIDE else MARGIN
    axes = figure.add_axes((left / width, 0.36 / height, SCALE / width, 0.13 / height))
    bar = figure.colorbar(
        ScalarMappable(Normalize(0, top), shades()),
        cax=axes,
        orientation="horizontal",
        extend="max" if exceeded else "neither",
        ticks=marks(top),
        format=FuncFormatter(lambda share, _: f"{share * 100:.3g}%"),
    )
    bar.outline.set(edgecolor=QUIET, linewidth=0.4)
    axes.tick_params(labelsize=8, length=2, color=QUIET, labelcolor=INK)
    letters = int((width - MARGIN / 2 - left) * 72 / (LETTER * 7))
    figure.text(left / width, 0.56 / height, drawable(title, letters), fontsize=7, color=QUIET, parse_math=False)


class Layout(NamedTuple):
    """Where matrices of one shape stand on a page; inches.

    Attributes:
        columns: how many stand side by side.
        cell: side of one cell; `letters`: points of the words beside it, 0 where they are not written.
        left, top: room for the words beside the first of a line, and above the first line.
        shape: rows and columns of a matrix.
    """

    columns: int
    cell: float
    letters: float
    left: float
    top: float
    shape: tuple[int, int]

    @classmethod
    def of(cls, count: int, columns: int | None, asks: Sequence[str], seen: Sequence[str]) -> "Layout":
        """Arrange matrices so that together they are a landscape page, unless it is told how many are side by side."""
        rows, across = len(asks), len(seen)

        def misfit(columns: int) -> float:
            lines = math.ceil(count / columns)
            return abs(math.log(columns * across / (lines * rows) / LANDSCAPE)) + (lines * columns - count) / count

        left = wide(asks, LETTERS[1]) + 0.08

        broad = left + (columns or 0) * (across * READABLE + GAP)  # in which words could just be read
        width = max(WIDEST, broad) if broad <= BROADEST else WIDEST

        def cell_of(columns: int) -> float:
            return min(((width - left) / columns - GAP) / across, CELL)

        def readable(columns: int) -> bool:
            cell = cell_of(columns)
            return cell >= READABLE and math.ceil(count / columns) * rows * cell <= HIGHEST

        if columns is None:
            columns = min(range(1, count + 1), key=misfit)
            columns = next((fewer for fewer in range(columns, 0, -1) if readable(fewer)), columns)
        cell = cell_of(columns)
        if cell < READABLE - 1e-6:
            cell = max(min((WIDEST / columns - GAP) / across, CELL), TINY / max(rows, across))
            return cls(columns, cell, 0.0, 0.0, 0.0, (rows, across))
        letters = min(max(cell * 72 / 1.15, LETTERS[0]), LETTERS[1])
        left, top = (wide(words, letters) + 0.08 for words in (asks, seen))
        return cls(columns, cell, letters, left, top, (rows, across))

    @property
    def matrix(self) -> tuple[float, float]:
        """Width and height of one."""
        return self.shape[1] * self.cell, self.shape[0] * self.cell


def show_matrix(axes: "Axes", values: Float[Tensor, "rows columns"], top: float, cell: float) -> None:
    """Flat cells, with thin lines between them where they are large."""
    rows, columns = values.shape
    axes.imshow(values.numpy(), cmap=shades(), vmin=0, vmax=top, aspect="auto", interpolation="nearest")
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set(edgecolor=QUIET, linewidth=0.5)
    if cell >= 2 * READABLE:
        axes.set_xticks(np.arange(columns - 1) + 0.5, minor=True)
        axes.set_yticks(np.arange(rows - 1) + 0.5, minor=True)
        axes.grid(which="minor", color="#e4e4e4", linewidth=0.4)
    axes.tick_params(which="both", length=0)


def write_words(axes: "Axes", layout: Layout, asks: Sequence[str] | None, seen: Sequence[str] | None) -> None:
    """The words of the rows on the left, and those of the columns above."""
    if asks is not None:
        axes.set_yticks(range(len(asks)), [drawable(word, LONG) for word in asks])
    if seen is not None:
        axes.xaxis.tick_top()
        axes.set_xticks(range(len(seen)), [drawable(word, LONG) for word in seen], rotation=90)
    axes.tick_params(which="both", length=0, labelsize=layout.letters, labelcolor=INK, pad=2)
    for label in (*axes.get_xticklabels(), *axes.get_yticklabels()):
        label.set_parse_math(False)


def draw_matrices(
    panels: Sequence[TextPanel],
    asks: Sequence[str],
    seen: Sequence[str],
    caption: Caption,
    even: float,
    columns: int | None = None,
) -> "Figure":
    """Matrices of who looks at whom, side by side.

    Args:
        panels: of one shape; of a large one, the first rows and columns are drawn, and that is said.
        asks, seen: the words of the rows and of the columns.
        caption: what is written on it.
        even: the most that a cell would have if all were looked at alike.
        columns: how many stand side by side; as looks well unless given.
    """
    notes = [*caption.notes]
    for words, name in ((asks, "rows"), (seen, "columns")):
        if len(words) > LINES:
            notes.append(f"Of {len(words)} {name} the first {LINES} are drawn; the .npz has all.")
    asks, seen = asks[:LINES], seen[:LINES]
    panels = [TextPanel(panel.title, panel.values[:LINES, :LINES]) for panel in panels]
    layout = Layout.of(len(panels), columns, [drawable(w, LONG) for w in asks], [drawable(w, LONG) for w in seen])
    if not layout.letters:
        notes.append("Rows and columns are in the order of the text. One layer or head alone is drawn with its words.")
    notes += lacking([caption.question, caption.answer, *asks, *seen])
    lines = math.ceil(len(panels) / layout.columns)
    above = titled(panels)
    across, down = layout.matrix
    step = max(across, 0.55) + GAP
    width = max(2 * MARGIN + layout.left + layout.columns * step - GAP, LEAST_PAGE)
    said = Words.of(caption._replace(notes=tuple(notes)), width)
    head, foot = said.room()
    height = head + layout.top + lines * (above + down + GAP) - GAP + foot + 0.1
    figure, top = new_figure(width, height), darkest(panels, even)
    for place, panel in enumerate(panels):
        row, column = divmod(place, layout.columns)
        left = MARGIN + layout.left + column * step
        low = height - head - layout.top - (row + 1) * (above + down) - row * GAP
        axes = figure.add_axes(on_pixels(figure, (left / width, low / height, across / width, down / height)))
        show_matrix(axes, panel.values, top, layout.cell)
        if layout.letters:
            write_words(axes, layout, asks if column == 0 else None, seen if row == 0 else None)
        title = (low + down + (layout.top if row == 0 else 0) + 0.08) / height
        figure.text(left / width, title, panel.title, fontsize=8, color=INK, linespacing=1.2, va="baseline")
    said.write(figure, caption.title)
    show_bar(figure, top, caption.scale, exceeded=any(float(panel.values.max()) > top for panel in panels))
    return figure


def measured(words: Sequence[str], size: float, weight: str = "normal") -> list[float]:
    """Inches that each word takes as it is drawn, 0 where there is nothing to see of it; size in points."""
    from matplotlib.font_manager import FontProperties, findfont, get_font

    font, found = get_font(findfont(FontProperties(weight=weight))), []
    font.set_size(size, 72)
    for word in words:
        font.set_text(word)
        found.append(font.get_width_height()[0] / 64 / 72)
    return found


def flowing(widths: Sequence[float], room: float) -> list[tuple[int, float]]:
    """The line and the left edge of each word of a text that flows; inches.

    Args:
        widths: of the words with their colour.
        room: the width of a line.
    """
    found, line, left = [], 0, 0.0
    for width in widths:
        if left and left + width > room:
            line, left = line + 1, 0.0
        found.append((line, left))
        left += width
    return found


def ink_on(share: float) -> str:
    """The colour of letters on a colour for a share of the darkest."""
    return "white" if share > 0.55 else INK


def draw_tinted(
    words: Sequence[str],
    shares: Float[Tensor, " words"],
    caption: Caption,
    even: float,
    plots: Sequence[Plot] = (),
) -> "Figure":
    """A text whose words stand on the colour of their shares.

    Args:
        words: of the text, in its order.
        shares: of each of them.
        caption: what is written on it.
        even: the share of each if all were alike.
        plots: what is drawn below.
    """
    from matplotlib.patches import Rectangle

    drawn, width = [drawable(word, LONG * 2) for word in words], WIDEST
    widths = [wide + 0.12 for wide in measured(drawn, TINT)]
    places = flowing(widths, width - 2 * MARGIN)
    notes = (*caption.notes, *lacking([caption.question, caption.answer, *words]))
    said = Words.of(caption._replace(notes=notes), width)
    (head, foot), down = said.room(), (places[-1][0] + 1) * TINTED
    below = high_plots(plots, width)
    height = head + 0.2 + down + GAP + below + foot + 0.1
    figure, colours = new_figure(width, height), shades()
    panel = TextPanel("", shares[None])
    top = darkest([panel], even)
    low = height - head - 0.2 - down
    axes = figure.add_axes((MARGIN / width, low / height, 1 - 2 * MARGIN / width, down / height))
    axes.set(xlim=(0, width - 2 * MARGIN), ylim=(down, 0))
    axes.axis("off")
    for word, wide, (line, left), value in zip(drawn, widths, places, shares.tolist(), strict=True):
        share = min(value / top, 1.0)
        corner = (left + 0.01, line * TINTED + 0.02)
        axes.add_patch(Rectangle(corner, wide - 0.02, TINTED - 0.04, facecolor=colours(share), linewidth=0))
        middle = (line + 0.5) * TINTED
        style = {"fontsize": TINT, "color": ink_on(share), "parse_math": False}
        axes.text(left + wide / 2, middle, word, ha="center", va="center_baseline", **style)
    if plots:
        show_plots(figure, plots, foot)
    said.write(figure, caption.title)
    show_bar(figure, top, caption.scale, exceeded=float(shares.max()) > top)
    return figure


class Window(NamedTuple):
    """The words that are drawn of a text, and how much each of them is looked at.

    Attributes:
        words: from top to bottom; the first and the last stand for all that are left out there.
        values: of each panel.
        at: the place of the word that looks, from the first word.
        many: the places that stand for many words.
    """

    words: list[str]
    values: list[Float[Tensor, " words"]]
    at: float
    many: tuple[int, ...]

    @classmethod
    def of(cls, words: Sequence[str], panels: Sequence[TextPanel], at: float) -> "Window":
        """The words around the one that looks, with what is left out at either end as one more."""
        start = max(min(round(at) - ROWS // 2, len(words) - ROWS), 0)
        stop = min(start + ROWS, len(words))
        after, rows = len(words) - stop, [panel.values[0] for panel in panels]
        drawn = [f"... {start} before"] * (start > 0) + list(words[start:stop]) + [f"... {after} after"] * (after > 0)
        values = [
            torch.cat([row[:start].sum()[None][: start > 0], row[start:stop], row[stop:].sum()[None][: after > 0]])
            for row in rows
        ]
        together = (*((0,) if start else ()), *((len(drawn) - 1,) if after else ()))
        return cls(drawn, values, at - start + (start > 0), together)


def show_arcs(axes: "Axes", word: str, window: Window, row: Float[Tensor, " words"], top: float, asks: float) -> None:
    """Arcs from a word on the left to those that it looks at, which stand below each other on the right.

    Args:
        axes: in inches, from the upper left corner.
        word: that looks.
        window: the words that may be looked at.
        row: how much each of them is.
        top: the share of the strongest arc.
        asks: inches that the word takes.
    """
    from matplotlib.patches import PathPatch, Rectangle
    from matplotlib.path import Path as Outline

    colours, y = shades(), (window.at + 0.5) * STEP
    begin, end = asks + 0.05, asks + FAN
    across = axes.get_xlim()[1]
    said = {"fontsize": 8, "fontweight": "bold", "color": INK, "parse_math": False}
    axes.text(asks, y, word, ha="right", va="center_baseline", **said)
    for place, (name, value) in enumerate(zip(window.words, row.tolist(), strict=True)):
        middle, share = (place + 0.5) * STEP, min(value / top, 1.0)
        if share >= FAINT:
            curve = [(begin, y), ((begin + end) / 2, y), ((begin + end) / 2, middle), (end, middle)]
            weight = LINE_WIDTH[0] + (LINE_WIDTH[1] - LINE_WIDTH[0]) * share
            path = Outline(curve, [Outline.MOVETO, *[Outline.CURVE4] * 3])
            axes.add_patch(PathPatch(path, fill=False, edgecolor=CURVE, alpha=0.15 + 0.85 * share, linewidth=weight))
        box = (end + 0.02, place * STEP + 0.008)
        if place in window.many:
            name, share = f"{name}: {value:.0%}", 0.0  # a number, as the colours are for one word
        axes.add_patch(Rectangle(box, across - end - 0.02, STEP - 0.016, facecolor=colours(share), linewidth=0))
        ink = ink_on(share) if share >= 0.1 else QUIET
        bold = "bold" if place == window.at and name == word else "normal"
        said = {"fontsize": 8, "fontweight": bold, "color": ink, "parse_math": False}
        axes.text(end + 0.06, middle, drawable(name, LONGEST), va="center_baseline", **said)


def draw_arcs(
    panels: Sequence[TextPanel],
    word: str,
    words: Sequence[str],
    at: float,
    caption: Caption,
    even: float,
    columns: int | None = None,
) -> "Figure":
    """What one word looks at, a panel for each layer and head.

    Args:
        panels: with one row each.
        word: that looks.
        words: that may be looked at.
        at: beside which of them it stands.
        caption: what is written on it.
        even: the most that a word would have if all pieces were looked at alike.
        columns: how many panels stand side by side; as many as fit unless given.
    """
    window, word = Window.of(words, panels, at), drawable(word, LONG)
    asks = wide([word], 8, "bold") + 0.02
    named = [
        drawable(f"{name}: 99%" if place in window.many else name, LONGEST) for place, name in enumerate(window.words)
    ]
    right = max(wide(named, 8), asks) + 0.12  # the word itself is bold
    across, down = asks + FAN + right, len(window.words) * STEP
    if columns is None:
        columns = max(min(int((WIDEST + GAP) / (across + GAP)), len(panels)), 1)
        columns = math.ceil(len(panels) / math.ceil(len(panels) / columns))
    lines = math.ceil(len(panels) / columns)
    above = titled(panels)
    width = max(2 * MARGIN + columns * (across + GAP) - GAP, LEAST_PAGE)
    notes = (*caption.notes, *lacking([caption.question, caption.answer, *window.words]))
    if len(words) > ROWS:
        notes = (*notes, f"Of {len(words)} words the {ROWS} around are drawn one by one, and those beyond as one.")
    said = Words.of(caption._replace(notes=notes), width)
    head, foot = said.room()
    height = head + lines * (above + down + GAP) - GAP + foot + 0.1
    figure, top = new_figure(width, height), darkest(panels, even)
    for place, (panel, row) in enumerate(zip(panels, window.values, strict=True)):
        line, column = divmod(place, columns)
        left = MARGIN + column * (across + GAP)
        low = height - head - (line + 1) * (above + down) - line * GAP
        axes = figure.add_axes((left / width, low / height, across / width, down / height))
        axes.set(xlim=(0, across), ylim=(down, 0))
        axes.axis("off")
        show_arcs(axes, word, window, row, top, asks)
        title = (low + down + 0.08) / height
        figure.text(left / width, title, panel.title, fontsize=8, color=INK, linespacing=1.2, va="baseline")
    said.write(figure, caption.title)
    show_bar(figure, top, caption.scale, exceeded=any(float(panel.values.max()) > top for panel in panels))
    return figure
