"""Heat maps over pictures, as a paper would print them.

A map has one value for each patch and is drawn as such: nothing is smoothed. It is laid over the picture through
its `Placement`, so that what the model saw as a square crop lies where it lies in the file.
"""

import io
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from vitrail.explain.curves import Plot, high_plots, show_plots
from vitrail.explain.figures import (
    BESIDE,
    BOLD,
    GAP,
    INK,
    MARGIN,
    QUIET,
    RESOLUTION,
    drawable,
    high,
    lacking,
    new_figure,
    on_pixels,
    png,
    wrapped,
)
from vitrail.geometry.placement import Box, Placement
from vitrail.pixels import to_channels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

COLOURS = "inferno"  # perceptually uniform, and it still reads when printed in grey
OPACITY = (0.5, 0.9)  # of the faintest and the brightest colour over the grey picture
BENEATH = (0.02, 0.45)  # black and white of that picture: so dark that its light is not taken for attention
MARK = "#00c2d1"  # cyan: a colour that the map does not have
HEAD, FOOT, TITLE = 0.85, 0.8, 0.42  # inches above all panels, below them, and above each
WIDEST, HIGHEST = 11.0, 7.5  # inches that all panels take at most
LARGEST, NARROWEST = 5.2, 4.4  # inches: the width of a square panel at most, and that of the page at least
TITLED = 1.37  # inches that the title of a panel may take at least: 21 letters
LONGEST, LOWEST = 60.0, 1.0  # inches: of the panels of a sheet together, down; and of one of very many
LANDSCAPE = 1.6  # width to height that the panels together come near to
SCALE = 3.0  # inches that the colour bar is wide
SMALL = 10.0  # points of a title that is long; a longer one is cut
APART = 3.0  # times what is read of a picture, from which it is not drawn whole
BESIDE_READ = 0.5  # of what is read, which is then drawn on either side of it
PLAINLY = 4.0  # times an even share that the brightest colour means at least, so that flat attention looks flat


class HeatMap(NamedTuple):
    """One value for each patch, and what it shows."""

    title: str
    values: Float[Tensor, "rows columns"]

    @property
    def even(self) -> float:
        """What each patch would get if all were looked at alike."""
        return 1 / self.values.numel()

    @property
    def strongest(self) -> float:
        """What the patch gets that is looked at most, in even shares."""
        return float(self.values.max()) / self.even


class Question(NamedTuple):
    """Where in the picture somebody asked, in pixels of the file.

    Attributes:
        at: the point, x then y; none where a whole box was asked about.
        patch: the corners of the patch that it lies in, or of the box, going round.
    """

    at: tuple[float, float] | None
    patch: Float[Tensor, "corners 2"]


class Panel(NamedTuple):
    """One place of a drawing: the picture, or a map laid over it.

    Attributes:
        heat: the map; none for the picture alone.
        question: what is marked; none where no place in the picture was asked about.
        title: above the picture alone.
    """

    heat: HeatMap | None = None
    question: Question | None = None
    title: str = "picture"

    @property
    def words(self) -> str:
        """What stands above it."""
        return self.title if self.heat is None else f"{self.heat.title}\nup to {self.heat.strongest:.1f} times even"

    def lines(self, width: float) -> list[str]:
        """The same in lines that fit into so many inches."""
        return [line for said in self.words.split("\n") for line in wrapped(said, width, 8)]


class Caption(NamedTuple):
    """What is written on a drawing, so that it can be read without the command that made it.

    Attributes:
        title: what is shown: layer and head.
        question: who asked.
        notes: sentences at the foot: how fine the map is, what is not drawn.
        scale: what the colours measure; their values are shares of one.
        answer: what the model says of the picture; empty where that is not known.
    """

    title: str
    question: str
    notes: tuple[str, ...]
    scale: str
    answer: str = ""


class Page(NamedTuple):
    """Panels of one size in rows and columns, with room for a caption; inches."""

    rows: int
    columns: int
    panel: tuple[float, float]  # width and height
    head: float = HEAD  # above all panels
    foot: float = FOOT  # below them
    title: float = TITLE  # above each

    @classmethod
    def of(cls, count: int, aspect: float, columns: int | None = None) -> "Page":
        """Arrange panels so that together they come near to a landscape page and few places stay empty.

        Args:
            count: how many.
            aspect: width to height of one.
            columns: how many stand side by side, where that is decided; the page then is as large as it must be.
        """
        if columns is not None:
            rows = math.ceil(count / columns)
            height = min(max(WIDEST / columns, TITLED) / aspect, HIGHEST, max(LONGEST / rows, LOWEST))
            return cls(rows, columns, (max(height * aspect, 0.1), max(height, 0.1)))

        def misfit(columns: int) -> float:
            rows = math.ceil(count / columns)
            return abs(math.log(columns * aspect / rows / LANDSCAPE)) + (rows * columns - count) / count

        columns = min(range(1, count + 1), key=misfit)
        rows = math.ceil(count / columns)
        width = min(WIDEST / columns, HIGHEST / rows * aspect, LARGEST * max(math.sqrt(aspect), 1))
        return cls(rows, columns, (max(width, 0.1), max(width / aspect, 0.1)))

    @property
    def step(self) -> float:
        """From one panel to the next; a narrow one leaves room for its title."""
        return max(self.panel[0], TITLED) + GAP

    @property
    def block(self) -> tuple[float, float]:
        """Width and height of all panels with what is between them."""
        return self.columns * self.step - GAP, self.rows * (self.panel[1] + self.title + GAP) - GAP

    @property
    def width(self) -> float:
        """Of the page."""
        return max(self.block[0] + 2 * MARGIN, NARROWEST)

    @property
    def size(self) -> tuple[float, float]:
        """Width and height of the page."""
        return self.width, self.block[1] + self.head + self.foot

    def place(self, panel: int) -> Box:
        """Left, bottom, width and height of a panel, as parts of the page."""
        row, column = divmod(panel, self.columns)
        width, height = self.panel
        left = MARGIN + column * self.step
        bottom = self.size[1] - self.head - (row + 1) * (height + self.title) - row * GAP
        return left / self.size[0], bottom / self.size[1], width / self.size[0], height / self.size[1]


def corners(placement: Placement) -> Float[Tensor, "corners 2"]:
    """Where the corners of what the model reads lie in the file, going round."""
    rows, columns = placement.size
    return placement.back(torch.tensor([[0, 0], [columns, 0], [columns, rows], [0, rows]], dtype=torch.float64))


def visible(placement: Placement) -> Box:
    """Left, top, right and bottom of the part of the file that the model reads, pixels."""
    rows, columns = placement.source
    seen = corners(placement)
    (left, top), (right, bottom) = seen.amin(dim=0).tolist(), seen.amax(dim=0).tolist()
    return max(left, 0.0), max(top, 0.0), min(right, float(columns)), min(bottom, float(rows))


def view(placement: Placement) -> Box:
    """Left, top, right and bottom of the part of the file that is drawn, pixels.

    That is all of it or, of one that is far longer than what the model reads, that part with a margin.
    """
    left, top, right, bottom = visible(placement)
    rows, columns = placement.source
    (left, right), (top, bottom) = around(left, right, columns), around(top, bottom, rows)
    return left, top, right, bottom


def around(first: float, last: float, whole: int) -> tuple[float, float]:
    """Where to begin and end along one side of a picture, of which one part is read."""
    length = last - first
    if whole <= APART * length:
        return 0.0, float(whole)
    margin = BESIDE_READ * length
    return float(max(math.floor(first - margin), 0)), float(min(math.ceil(last + margin), whole))


def part_drawn(placement: Placement) -> tuple[str, ...]:
    """What to say where not all of the file is drawn."""
    (left, top, right, bottom), (rows, columns) = view(placement), placement.source
    if (left, top, right, bottom) == (0, 0, columns, rows):
        return ()
    return (
        f"Of the picture, {columns} x {rows} pixels, only the part around what the model reads is drawn: x from "
        f"{left:.0f} to {right - 1:.0f}, y from {top:.0f} to {bottom - 1:.0f}.",
    )


def frame(axes: "Axes", box: Box) -> None:
    """Show one part of a picture, and nothing around it."""
    left, top, right, bottom = box
    axes.set(xlim=(left, right), ylim=(bottom, top), xticks=[], yticks=[], aspect="auto")
    for spine in axes.spines.values():
        spine.set_visible(False)


def show_picture(axes: "Axes", picture: Image.Image, source: tuple[int, int], *, grey: bool = False) -> None:
    """Fill the axes with a picture, in pixels of the file, whatever resolution it was decoded to."""
    rows, columns = source
    if grey:
        black, white = BENEATH
        levels = np.asarray(to_channels(picture, 1)) / 255 * (white - black) + black
        axes.imshow(levels, extent=(0, columns, rows, 0), cmap="gray", vmin=0, vmax=1)
    else:
        axes.imshow(to_channels(picture, 3), extent=(0, columns, rows, 0))


def show_region(axes: "Axes", placement: Placement) -> None:
    """Fade what the model did not read, and outline what it did."""
    from matplotlib.patches import PathPatch, Polygon
    from matplotlib.path import Path as Outline

    rows, columns = placement.source
    near = min(0.5, columns / 100, rows / 100)  # pixels: what rounding may leave over
    if all(math.isclose(*sides, abs_tol=near) for sides in zip(visible(placement), (0, 0, columns, rows), strict=True)):
        return
    region = corners(placement).tolist()
    everything = [[-1, -1], [-1, rows + 1], [columns + 1, rows + 1], [columns + 1, -1]]  # no edge stays
    rings = [[*ring, ring[0]] for ring in (everything, region)]
    codes = [Outline.MOVETO, *[Outline.LINETO] * 3, Outline.CLOSEPOLY] * 2
    around = Outline([point for ring in rings for point in ring], codes)
    axes.add_patch(PathPatch(around, facecolor="white", alpha=0.7, linewidth=0))
    axes.add_patch(Polygon(region, fill=False, edgecolor="white", linewidth=1.6))
    axes.add_patch(Polygon(region, fill=False, edgecolor=INK, linewidth=0.6))


def opacity(shares: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """How opaque the colours of a map are, for shares of the brightest."""
    return OPACITY[0] + (OPACITY[1] - OPACITY[0]) * shares


def as_seen() -> "Colormap":
    """The colours of a map as they look over the middle grey of the picture beneath."""
    from matplotlib import colormaps
    from matplotlib.colors import ListedColormap

    shares = np.linspace(0, 1, 256)
    alpha = opacity(shares)[:, None]
    return ListedColormap(alpha * colormaps[COLOURS](shares)[:, :3] + (1 - alpha) * sum(BENEATH) / 2)


def show_map(axes: "Axes", values: Float[Tensor, "rows columns"], placement: Placement, top: float) -> None:
    """Lay a map over the picture: one flat cell for each patch.

    Args:
        top: the value that gets the brightest colour.
    """
    from matplotlib import colormaps
    from matplotlib.transforms import Affine2D

    a, b, c, d, e, f = placement.inverse().matrix
    rows, columns = placement.size
    shares = (values.double() / top).clamp(0, 1).numpy()
    axes.imshow(
        colormaps[COLOURS](shares, alpha=opacity(shares)),
        extent=(0, columns, rows, 0),
        interpolation="nearest",
        transform=Affine2D.from_values(a, d, b, e, c, f) + axes.transData,
    )


def show_question(axes: "Axes", question: Question, *, point: bool) -> None:
    """Outline the patch that was asked about, and mark the point in it where nothing has to be seen beneath."""
    from matplotlib.patches import Polygon

    axes.add_patch(Polygon(question.patch.numpy(), fill=False, edgecolor="white", linewidth=2.0))
    axes.add_patch(Polygon(question.patch.numpy(), fill=False, edgecolor=MARK, linewidth=1.0))
    if point and question.at is not None:
        axes.plot(*question.at, marker="o", markersize=4.5, markerfacecolor=MARK, markeredgecolor="white")


def show_scale(figure: "Figure", top: float, even: float, title: str, *, exceeded: bool) -> None:
    """A bar with the colours of the map and their values, at the foot on the right.

    Args:
        top: the value of the brightest colour.
        even: the value that each patch would have if all were looked at alike, which is marked.
        title: what is measured.
        exceeded: whether some patches pass `top`, which the bar then shows by an arrow.
    """
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    width, height = figure.get_size_inches()
    left = width - MARGIN - SCALE if width >= BESIDE else MARGIN
    axes = figure.add_axes((left / width, 0.36 / height, SCALE / width, 0.13 / height))
    bar = figure.colorbar(
        ScalarMappable(Normalize(0, top), as_seen()),
        cax=axes,
        orientation="horizontal",
        extend="max" if exceeded else "neither",
        ticks=MaxNLocator(4),
        format=FuncFormatter(lambda share, _: f"{share * 100:.3g}%"),
    )
    bar.outline.set_visible(False)
    axes.axvline(even, color="white", linewidth=1.5)
    axes.tick_params(labelsize=8, length=2, color=QUIET, labelcolor=INK)
    figure.text(left / width, 0.56 / height, f"{title}; white line: even, {even:.2%}", fontsize=7, color=QUIET)


class Words(NamedTuple):
    """A caption as lines that fit on a page, and how much room they take."""

    head: list[str]
    foot: list[str]
    beside: bool  # whether the colour bar is beside the foot; else it is below

    @classmethod
    def of(cls, caption: Caption, width: float) -> "Words":
        said = [caption.question, *([caption.answer] if caption.answer else [])]
        head = [line for text in said for line in wrapped(text, width - 2 * MARGIN, 10)]
        free = width - 2 * MARGIN - (SCALE + MARGIN if width >= BESIDE else 0)
        foot = [line for text in caption.notes for line in wrapped(text, free, 8)]
        return cls(head, foot, width >= BESIDE)

    def room(self) -> tuple[float, float]:
        """Inches that they take above the panels and, with the colour bar, below them."""
        notes = 0.35 + high(8) * len(self.foot)
        return 0.5 + high(10) * len(self.head), max(FOOT, notes) if self.beside else FOOT + notes

    def write(self, figure: "Figure", title: str) -> None:
        """What is shown, who asked and what was answered, at the head; the notes at the foot."""
        width, height = figure.get_size_inches()
        left = MARGIN / width
        room = (width - 2 * MARGIN) * 72 / BOLD  # for letters of one point
        size = min(max(room / len(title), SMALL), 13.0)
        shown = drawable(title, max(int(room / size + 1e-6), 12))
        figure.text(left, 1 - 0.4 / height, shown, fontsize=size, fontweight="bold", color=INK, parse_math=False)
        for line, said in enumerate(self.head, start=1):
            top = 1 - (0.4 + high(10) * line) / height
            figure.text(left, top, said, fontsize=10, color=INK, parse_math=False)
        for line, note in enumerate(self.foot):
            bottom = (self.room()[1] - 0.25 - high(8) * line) / height
            figure.text(left, bottom, note, fontsize=8, color=QUIET, parse_math=False)


def brightest(maps: Sequence[HeatMap]) -> float:
    """The value of the brightest colour: one patch in two hundred passes it, and flat attention does not come near.

    A single patch that attracts everything would otherwise leave the rest black, and attention that is spread evenly
    would look as hot as attention to one thing.
    """
    values = torch.cat([heat.values.flatten() for heat in maps]).double()
    return max(float(values.quantile(0.995)), min(PLAINLY * maps[0].even, 1.0))


def draw(
    picture: Image.Image,
    placement: Placement,
    panels: Sequence[Panel],
    caption: Caption,
    columns: int | None = None,
    plots: Sequence[Plot] = (),
) -> "Figure":
    """The picture, and maps laid over it, all in the shape of the file.

    Args:
        picture: the file as displayed; it may be decoded to fewer pixels than it has.
        placement: from the file to what the model read.
        panels: in their order, line by line; their maps share one scale.
        caption: what is written on it.
        columns: how many stand side by side; as looks well unless given.
        plots: stand between the panels and the notes.
    """
    maps = [panel.heat for panel in panels if panel.heat is not None]
    left, upper, right, lower = box = view(placement)
    page = Page.of(len(panels), (right - left) / (lower - upper), columns)
    titles = [panel.lines(page.step - GAP) for panel in panels]
    said = [caption.title, caption.question, caption.answer, *(plot.title for plot in plots)]
    notes = (*caption.notes, *part_drawn(placement), *lacking([*said, *(panel.words for panel in panels)]))
    words = Words.of(caption._replace(notes=notes), page.width)
    head, foot = words.room()
    above = 0.16 + 1.2 * 8 / 72 * max(2, *map(len, titles))  # inches
    page = page._replace(head=head, foot=foot + high_plots(plots, page.width), title=above)
    shares = (right - left) / placement.source[1], (lower - upper) / placement.source[0]
    needed = [round(side * RESOLUTION / share) for side, share in zip(page.panel, shares, strict=True)]
    picture = picture.reduce(max(min(picture.width // needed[0], picture.height // needed[1]), 1))
    figure = new_figure(*page.size)
    top = brightest(maps)
    for place, (panel, lines) in enumerate(zip(panels, titles, strict=True)):
        axes = figure.add_axes(on_pixels(figure, page.place(place)))
        show_picture(axes, picture, placement.source, grey=panel.heat is not None)
        if panel.heat is not None:
            show_map(axes, panel.heat.values, placement, top)
        show_region(axes, placement)
        if panel.question is not None:
            show_question(axes, panel.question, point=panel.heat is None)
        frame(axes, box)
        axes.set_title("\n".join(lines), loc="left", fontsize=8, color=INK, pad=4, parse_math=False)
    words.write(figure, caption.title)
    if plots:
        show_plots(figure, plots, foot)
    exceeded = any(float(heat.values.max()) > top for heat in maps)
    show_scale(figure, top, maps[0].even, caption.scale, exceeded=exceeded)
    return figure


def overlay(picture: Image.Image, placement: Placement, heat: HeatMap) -> Image.Image:
    """One map over a picture, as large as the picture, for a place where words stand beside it."""
    figure = new_figure(picture.width / RESOLUTION, picture.height / RESOLUTION)
    axes = figure.add_axes((0, 0, 1, 1))
    show_picture(axes, picture, placement.source, grey=True)
    show_map(axes, heat.values, placement, brightest([heat]))
    show_region(axes, placement)
    frame(axes, (0, 0, placement.source[1], placement.source[0]))
    return Image.open(io.BytesIO(png(figure))).convert("RGB")
