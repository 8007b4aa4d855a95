"""Heat maps over pictures, as a paper would print them.

A map has one value for each patch and is drawn as such: nothing is smoothed. It is laid over the picture through
its `Placement`, so that what the model saw as a square crop lies where it lies in the file. matplotlib is imported
when something is drawn, and only its `Figure` is used: no window, no global state, any thread.
"""

import io
import math
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from vitrail.geometry.placement import Box, Placement
from vitrail.pixels import to_channels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = "inferno"  # perceptually uniform, and it still reads when printed in grey
OPACITY = (0.55, 0.85)  # of the faintest and the brightest colour over the grey picture
INK, QUIET = "#1a1a1a", "#6b6b6b"
MARK = "#00c2d1"  # cyan: a colour that the map does not have
MARGIN, GAP = 0.35, 0.18  # inches around the panels and between them
HEAD, FOOT, TITLE = 0.85, 0.8, 0.28  # inches above all panels, below them, and above each
WIDEST, HIGHEST, LARGEST, NARROWEST = 11.0, 7.5, 5.2, 8.6  # inches: all panels, one panel's width, the page's width
LANDSCAPE = 1.6  # width to height that the panels together come near to
SCALE = 2.6  # inches that the colour bar is wide
RESOLUTION = 150  # pixels per inch


class HeatMap(NamedTuple):
    """One value for each patch, and what it shows."""

    title: str
    values: Float[Tensor, "rows columns"]


class Question(NamedTuple):
    """Where in the picture somebody asked, in pixels of the file.

    Attributes:
        at: the point, x then y.
        patch: the corners of the patch that it lies in, going round.
    """

    at: tuple[float, float]
    patch: Float[Tensor, "corners 2"]


class Caption(NamedTuple):
    """What is written on a drawing, so that it can be read without the command that made it.

    Attributes:
        title: what is shown: layer and head.
        question: who asked.
        notes: lines at the foot: how fine the map is, what is not drawn.
        scale: what the colours measure; their values are shares of one.
    """

    title: str
    question: str
    notes: tuple[str, ...]
    scale: str


class Page(NamedTuple):
    """Panels of one size in rows and columns, with room for a caption; inches."""

    rows: int
    columns: int
    panel: tuple[float, float]  # width and height

    @classmethod
    def of(cls, count: int, aspect: float) -> "Page":
        """Arrange panels so that together they come near to a landscape page and few places stay empty.

        Args:
            count: how many.
            aspect: width to height of one.
        """

        def misfit(columns: int) -> float:
            rows = math.ceil(count / columns)
            return abs(math.log(columns * aspect / rows / LANDSCAPE)) + (rows * columns - count) / count

        columns = min(range(1, count + 1), key=misfit)
        rows = math.ceil(count / columns)
        width = min(WIDEST / columns, HIGHEST / rows * aspect, LARGEST)
        return cls(rows, columns, (max(width, 0.1), max(width / aspect, 0.1)))

    @property
    def block(self) -> tuple[float, float]:
        """Width and height of all panels with what is between them."""
        width, height = self.panel
        return (
            self.columns * (width + GAP) - GAP,
            self.rows * (height + TITLE + GAP) - GAP,
        )

    @property
    def size(self) -> tuple[float, float]:
        """Width and height of the page."""
        return max(self.block[0] + 2 * MARGIN, NARROWEST), self.block[1] + HEAD + FOOT

    def place(self, panel: int) -> Box:
        """Left, bottom, width and height of a panel, as parts of the page."""
        row, column = divmod(panel, self.columns)
        width, height = self.panel
        left = (self.size[0] - self.block[0]) / 2 + column * (width + GAP)
        bottom = self.size[1] - HEAD - (row + 1) * (height + TITLE) - row * GAP
        return left / self.size[0], bottom / self.size[1], width / self.size[0], height / self.size[1]


@cache
def glyphs() -> frozenset[int]:
    """The characters that matplotlib's own font has."""
    from matplotlib.font_manager import findfont, get_font

    return frozenset(get_font(findfont("DejaVu Sans")).get_charmap())


def drawable(text: str, most: int = 80) -> str:
    """Text on one line of so many characters, with a box for each that the font lacks."""
    line = "".join(letter if ord(letter) in glyphs() else "\u25a1" for letter in " ".join(text.split()))
    return line if len(line) <= most else f"{line[: most - 1]}\u2026"


def new_figure(width: float, height: float) -> "Figure":
    """An empty white page, inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=RESOLUTION, facecolor="white")


def png(figure: "Figure") -> bytes:
    """A figure as the bytes of a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


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


def show_picture(axes: "Axes", picture: Image.Image, source: tuple[int, int], *, grey: bool = False) -> None:
    """Fill the axes with a picture, in pixels of the file, whatever resolution it was decoded to."""
    rows, columns = source
    how = {"cmap": "gray", "vmin": 0, "vmax": 255} if grey else {}
    axes.imshow(to_channels(picture, 1 if grey else 3), extent=(0, columns, rows, 0), **how)
    axes.set(xlim=(0, columns), ylim=(rows, 0), xticks=[], yticks=[], aspect="auto")
    for spine in axes.spines.values():
        spine.set_visible(False)


def show_region(axes: "Axes", placement: Placement) -> None:
    """Fade what the model did not read, and outline what it did."""
    from matplotlib.patches import PathPatch, Polygon
    from matplotlib.path import Path as Outline

    rows, columns = placement.source
    if all(math.isclose(*sides, abs_tol=0.5) for sides in zip(visible(placement), (0, 0, columns, rows), strict=True)):
        return
    region = corners(placement).tolist()
    everything = [[0, 0], [0, rows], [columns, rows], [columns, 0]]
    rings = [[*ring, ring[0]] for ring in (everything, region)]
    codes = [Outline.MOVETO, *[Outline.LINETO] * 3, Outline.CLOSEPOLY] * 2
    around = Outline([point for ring in rings for point in ring], codes)
    axes.add_patch(PathPatch(around, facecolor="white", alpha=0.62, linewidth=0))
    axes.add_patch(Polygon(region, fill=False, edgecolor="white", linewidth=1.6))
    axes.add_patch(Polygon(region, fill=False, edgecolor=INK, linewidth=0.6))


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
        colormaps[COLOURS](shares, alpha=OPACITY[0] + (OPACITY[1] - OPACITY[0]) * shares),
        extent=(0, columns, rows, 0),
        interpolation="nearest",
        transform=Affine2D.from_values(a, d, b, e, c, f) + axes.transData,
    )
    axes.set(xlim=(0, placement.source[1]), ylim=(placement.source[0], 0), aspect="auto")


def show_question(axes: "Axes", question: Question, *, point: bool) -> None:
    """Outline the patch that was asked about, and mark the point in it where nothing has to be seen beneath."""
    from matplotlib.patches import Polygon

    axes.add_patch(Polygon(question.patch.numpy(), fill=False, edgecolor="white", linewidth=2.0))
    axes.add_patch(Polygon(question.patch.numpy(), fill=False, edgecolor=MARK, linewidth=1.0))
    if point:
        axes.plot(*question.at, marker="o", markersize=4.5, markerfacecolor=MARK, markeredgecolor="white")


def show_scale(figure: "Figure", top: float, title: str, *, exceeded: bool) -> None:
    """A bar with the colours of the map and their values, at the foot on the right.

    Args:
        top: the value of the brightest colour.
        title: what is measured.
        exceeded: whether some patches pass it, which the bar then shows by an arrow.
    """
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    width, height = figure.get_size_inches()
    left = width - MARGIN - SCALE
    axes = figure.add_axes((left / width, 0.36 / height, SCALE / width, 0.13 / height))
    bar = figure.colorbar(
        ScalarMappable(Normalize(0, top), COLOURS),
        cax=axes,
        orientation="horizontal",
        extend="max" if exceeded else "neither",
        ticks=MaxNLocator(4),
        format=FuncFormatter(lambda share, _: f"{share * 100:.3g}%"),
    )
    bar.outline.set_visible(False)
    axes.tick_params(labelsize=8, length=2, color=QUIET, labelcolor=INK)
    figure.text(left / width, 0.56 / height, title, fontsize=8, color=QUIET)


def write_caption(figure: "Figure", caption: Caption) -> None:
    """What is shown and who asked, at the head; the notes at the foot."""
    width, height = figure.get_size_inches()
    left = MARGIN / width
    figure.text(left, 1 - 0.42 / height, caption.title, fontsize=13, fontweight="bold", color=INK)
    question = drawable(caption.question, most=110)
    figure.text(left, 1 - 0.68 / height, question, fontsize=10, color=INK, parse_math=False)
    for line, note in enumerate(caption.notes):
        figure.text(left, (0.56 - 0.18 * line) / height, note, fontsize=8, color=QUIET)


def brightest(maps: Sequence[HeatMap]) -> float:
    """The value of the brightest colour: one patch in two hundred passes it.

    A single patch that attracts everything would otherwise leave the rest black.
    """
    values = torch.cat([heat.values.flatten() for heat in maps]).double()
    return float(values.quantile(0.995)) or float(values.max()) or 1.0


def draw(
    picture: Image.Image,
    placement: Placement,
    maps: Sequence[HeatMap],
    caption: Caption,
    question: Question | None = None,
) -> "Figure":
    """The picture, and beside it each map laid over it, all in the shape of the file.

    Args:
        picture: the file as displayed; it may be decoded to fewer pixels than it has.
        placement: from the file to what the model read.
        maps: one for each panel; they share one scale.
        caption: what is written on it.
        question: what is marked; `None` when no place in the picture was asked about.
    """
    rows, columns = placement.source
    page = Page.of(1 + len(maps), columns / rows)
    figure = new_figure(*page.size)
    top = brightest(maps)
    for place, heat in enumerate([None, *maps]):
        axes = figure.add_axes(page.place(place))
        show_picture(axes, picture, placement.source, grey=heat is not None)
        if heat is not None:
            show_map(axes, heat.values, placement, top)
        show_region(axes, placement)
        if question is not None:
            show_question(axes, question, point=heat is None)
        axes.set_title("picture" if heat is None else heat.title, fontsize=9, color=INK, pad=4)
    write_caption(figure, caption)
    show_scale(figure, top, caption.scale, exceeded=any(float(heat.values.max()) > top for heat in maps))
    return figure


def overlay(picture: Image.Image, placement: Placement, heat: HeatMap) -> Image.Image:
    """One map over a picture, as large as the picture, for a place where words stand beside it."""
    figure = new_figure(picture.width / RESOLUTION, picture.height / RESOLUTION)
    axes = figure.add_axes((0, 0, 1, 1))
    show_picture(axes, picture, placement.source, grey=True)
    show_map(axes, heat.values, placement, brightest([heat]))
    show_region(axes, placement)
    return Image.open(io.BytesIO(png(figure))).convert("RGB")
