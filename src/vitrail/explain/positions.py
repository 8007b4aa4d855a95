"""How a model knows where things stand: its table of positions, or its bias by displacement, drawn.

Source: Dosovitskiy et al., "An Image is Worth 16x16 Words", ICLR 2021, figure 7 (centre), for the similarity of learned
positions; Vaswani et al., "Attention Is All You Need", NeurIPS 2017, section 3.5, for the sinusoid beside them.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from vitrail.core.attention import Attention
from vitrail.core.positions import (
    CountedAxes,
    CountedSinusoids,
    LearnedAxes,
    LearnedPositions,
    LogRelativeBias,
    RelativeBias,
    SinusoidalPositions,
    sinusoidal,
)
from vitrail.errors import ExplanationError, many
from vitrail.explain.explanation import Drawn
from vitrail.explain.figures import INK, MARGIN, QUIET, high, new_figure, wrapped

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SIMILAR, SIGNED = "viridis", "RdBu_r"  # the colours of the paper's figure; and white at 0, for what has a sign
LEAST, MOST = 6, 14  # rows or columns of small maps; 14 is all of them for a ViT/16 at 224 pixels
PLACES = 256  # of a text, whose similarities are drawn
LAYERS, HEADS = 6, 12  # most that are drawn of a bias
SIDE = 5.4  # inches that all small maps take together, the longer way
TABLE = 2.3  # inches that the heat map of a table is wide
EVERY = 2**24  # numbers of a table that are drawn; a longer one is thinned
KINDS = {
    LearnedPositions: "a learned table",
    LearnedAxes: "two learned tables, each half as wide, one for the rows and one for the columns",
    SinusoidalPositions: "a fixed sinusoid in two directions",
    RelativeBias: "a learned bias for each displacement",
    LogRelativeBias: "a bias that an MLP reads from the logarithm of the displacement",
}


def some(count: int, most: int) -> list[int]:
    """At most so many of `count` places, evenly spread, with the first and the last among them."""
    return sorted({round(place) for place in np.linspace(0, count - 1, min(count, most))})


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class PositionTable(Drawn):
    """Vectors that are added to the tokens, so that each knows its place.

    Attributes:
        kind: where they come from, in words.
        grid: rows and columns of patches.
        prefix: how many leading tokens have a position of their own.
        table: one vector for each of them, and then for each patch, row by row.
    """

    kind: str
    grid: tuple[int, int]
    prefix: int
    table: Float[Tensor, "places dim"]

    @property
    def drawn(self) -> tuple[list[int], list[int]]:
        """The rows and the columns of the patches whose maps are drawn: as many of each, where there are."""
        most = min(max(min(self.grid), LEAST), MOST)
        return some(self.grid[0], most), some(self.grid[1], most)

    @property
    def similarity(self) -> Float[Tensor, "query_rows query_columns rows columns"]:
        """Cosine between the position of each patch that is drawn and those of all patches; a zero has 0 with all."""
        patches = F.normalize(self.table[self.prefix :], dim=1).unflatten(0, self.grid)
        down, across = self.drawn
        asked = patches[down][:, across]
        return torch.einsum("ijd,rcd->ijrc", asked, patches)

    @property
    def line(self) -> int:
        """How wide a white line is between small maps, in their cells."""
        return max(min(self.grid) // 10, 1)

    def canvas(self) -> Float[np.ndarray, "height width"]:
        """All small maps in one, with NaN between them."""
        maps = F.pad(self.similarity, (0, self.line, 0, self.line), value=math.nan)
        whole = rearrange(maps, "down across rows columns -> (down rows) (across columns)")
        return whole[: -self.line, : -self.line].numpy()

    @property
    def sinusoid(self) -> Float[Tensor, "places dim"]:
        """The sinusoid of the same size, as the 2017 paper has it."""
        return sinusoidal(*self.table.shape)

    def arrays(self) -> dict[str, np.ndarray]:
        """The table, the sinusoid of its size, and the similarities drawn, with the places of their patches."""
        down, across = self.drawn
        return {
            "table": self.table.numpy(),
            "sinusoid": self.sinusoid.numpy(),
            "similarity": self.similarity.numpy(),
            "rows": np.array(down),
            "columns": np.array(across),
        }

    def notes(self) -> tuple[str, ...]:
        """What a person should know who reads it."""
        (rows, columns), (down, across) = self.grid, self.drawn
        all_drawn = (len(down), len(across)) == self.grid
        which = "each patch" if all_drawn else f"{len(down)} of {rows} rows and {len(across)} of {columns} columns"
        before = f"the first {self.prefix} are of tokens" if self.prefix > 1 else "the first is of a token"
        first = f"; {before} without a place in the picture" if self.prefix else ""
        return (
            f"Left: the cosine between the position of one patch and those of all {rows} x {columns}, for {which}; "
            f"each small map stands where its patch does.",
            f"Right: the vectors themselves, a line for each, counted from 0{first}. Beside them what a sequence of "
            f"that length would get (Vaswani et al. 2017), whose positions count from 0 too.",
        )

    def show(self, axes: "Axes", bar: "Axes") -> None:
        """Draw the similarities, and the bar of their colours."""
        show_similarities(axes, bar, self)

    def figure(self) -> "Figure":
        """The similarities, and beside them the table and the sinusoid of its size."""
        canvas = self.canvas()
        aspect = canvas.shape[1] / canvas.shape[0]
        block = max(SIDE * min(aspect, 1), 2.2), max(SIDE / max(aspect, 1), 2.2)
        left, bar, apart = MARGIN + 0.35, 0.55, 0.75
        width = left + block[0] + bar + 2 * (apart + TABLE) + 0.55
        notes = [line for said in self.notes() for line in wrapped(said, width - 2 * MARGIN, 8)]
        foot, top = 1.15 + high(8) * len(notes), 1.15
        height = foot + block[1] + top
        figure = new_figure(width, height)
        headline(
            figure, "Positions", f"{self.kind}: {many(self.table.shape[0], 'vector')} of {self.table.shape[1]} numbers"
        )

        def place(across: float, wide: float, *, up: float = 0.0, tall: float = block[1]) -> "Axes":
            return figure.add_axes((across / width, (foot + up) / height, wide / width, tall / height))

        self.show(place(left, block[0]), place(left + block[0] + 0.12, 0.1))
        first = left + block[0] + bar + apart
        limit = float(self.table.abs().quantile(0.999)) if self.table.numel() < EVERY else float(self.table.abs().max())
        tables = (("vectors added to the tokens", self.table, limit), ("sinusoid of the same size", self.sinusoid, 1.0))
        for number, (title, table, most) in enumerate(tables):
            where = first + number * (TABLE + apart)
            show_table(place(where, TABLE), place(where, TABLE, up=-0.6, tall=0.1), title, table, most or 1.0)
        footnotes(figure, notes)
        return figure


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class PlaceTable(PositionTable):
    """Vectors for the places of a text, one after the other; its grid is one row."""

    @property
    def drawn(self) -> tuple[list[int], list[int]]:
        """The places whose similarities are drawn."""
        return [0], some(self.grid[1], PLACES)

    def canvas(self) -> Float[np.ndarray, "height width"]:
        """How alike two places are."""
        return self.similarity[0, :, 0][:, self.drawn[1]].numpy()

    def notes(self) -> tuple[str, ...]:
        """What a person should know who reads it."""
        places, drawn = self.grid[1], len(self.drawn[1])
        which = f"all {places} places" if drawn == places else f"{drawn} of {places} places, evenly chosen,"
        return (
            f"Left: the cosine between the positions of {which} of a text.",
            "Right: the vectors themselves, a line for each, counted from 0, and what a sequence of that length would "
            "get from the sinusoid of Vaswani et al. 2017.",
        )

    def show(self, axes: "Axes", bar: "Axes") -> None:
        """Draw the similarities, and the bar of their colours."""
        last = self.grid[1] - 0.5
        axes.imshow(
            self.canvas(),
            cmap=SIMILAR,
            vmin=-1,
            vmax=1,
            aspect="auto",
            extent=(-0.5, last, last, -0.5),
            interpolation="nearest",
        )
        bare(axes)
        name_similarities(axes, bar, "position, from 0", "position, from 0")


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class PositionBias(Drawn):
    """Numbers that are added to the scores, by how far a key stands from the query.

    Attributes:
        kind: where they come from, in words.
        biases: for each layer and head, as seen from the query, which stands in the middle: further right is a key
            further right in the picture. `2 rows - 1` by `2 columns - 1` displacements, in patches.
    """

    kind: str
    biases: tuple[Float[Tensor, "heads down right"], ...]

    @property
    def drawn(self) -> list[int]:
        """The layers that are drawn, counted from 0."""
        return some(len(self.biases), LAYERS)

    def arrays(self) -> dict[str, np.ndarray]:
        """The bias of each layer (heads, down, right): `layer_0`, `layer_1` and so on."""
        return {f"layer_{number}": bias.numpy() for number, bias in enumerate(self.biases)}

    def notes(self) -> tuple[str, ...]:
        """What a person should know who reads it."""
        drawn, all_layers = self.drawn, len(self.biases)
        most = max(len(bias) for bias in self.biases)
        return (
            "What is added to the score of a key, by where it stands as seen from the query in the middle (dot); "
            "displacements in patches, red is looked at more.",
            f"{len(drawn)} of {many(all_layers, 'layer')} and {min(most, HEADS)} of {many(most, 'head')} are drawn; "
            f"all have one scale.",
        )

    def figure(self) -> "Figure":
        """A map by displacement for each head (columns) of some layers (rows)."""
        shown = [self.biases[layer][:HEADS] for layer in self.drawn]
        heads, (down, right) = max(map(len, shown)), shown[0].shape[1:]
        wide = min(max(8.5 / heads, 0.75), 1.7)
        tall = wide * down / right
        left, gap, top, bar = MARGIN + 0.45, 0.08, 1.1, 0.5
        width = max(left + heads * (wide + gap) + bar + 0.35, 6.0)
        notes = [line for said in self.notes() for line in wrapped(said, width - 2 * MARGIN, 8)]
        foot = 0.5 + high(8) * len(notes)
        height = top + len(shown) * (tall + gap) + foot
        figure = new_figure(width, height)
        headline(figure, "Positions", self.kind)
        limit = max(float(bias.abs().max()) for bias in shown) or 1.0
        for row, (layer, bias) in enumerate(zip(self.drawn, shown, strict=True)):
            for head, values in enumerate(bias):
                across, up = left + head * (wide + gap), height - top - tall - row * (tall + gap)
                axes = figure.add_axes((across / width, up / height, wide / width, tall / height))
                show_bias(axes, values, limit, numbered=head == 0 and row == len(shown) - 1)
                if row == 0:
                    axes.set_title(f"head {head + 1}", fontsize=8, color=INK, pad=3)
                if head == 0:
                    axes.text(
                        -0.28 / wide, 0.5, f"layer {layer + 1}", transform=axes.transAxes, rotation=90, va="center",
                        ha="center", fontsize=8, color=INK,
                    )  # fmt: skip
        beside = left + heads * (wide + gap) + 0.08
        axes = figure.add_axes((beside / width, (height - top - tall) / height, 0.1 / width, tall / height))
        show_bar(axes, SIGNED, (-limit, limit), vertical=True)
        footnotes(figure, notes)
        return figure


def headline(figure: "Figure", title: str, about: str) -> None:
    """What is shown, at the head."""
    width, height = figure.get_size_inches()
    figure.text(MARGIN / width, 1 - 0.4 / height, title, fontsize=13, fontweight="bold", color=INK)
    figure.text(MARGIN / width, 1 - (0.4 + high(10)) / height, about, fontsize=10, color=INK)


def footnotes(figure: "Figure", lines: list[str]) -> None:
    """Lines at the foot."""
    width, height = figure.get_size_inches()
    for number, line in enumerate(reversed(lines)):
        figure.text(MARGIN / width, (0.2 + high(8) * number) / height, line, fontsize=8, color=QUIET, parse_math=False)


def bare(axes: "Axes") -> None:
    """Axes without a box, with small quiet numbers."""
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.tick_params(length=0, labelsize=7, labelcolor=INK)


def show_bar(axes: "Axes", colours: str, limits: tuple[float, float], *, vertical: bool, title: str = "") -> None:
    """A bar with colours and their values."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    bar = axes.figure.colorbar(
        ScalarMappable(Normalize(*limits), colours),
        cax=axes,
        orientation="vertical" if vertical else "horizontal",
        ticks=MaxNLocator(4),
        format=FuncFormatter(lambda value, _: f"{value:.3g}"),
    )
    bar.outline.set_visible(False)
    axes.tick_params(labelsize=7, length=2, color=QUIET, labelcolor=INK)
    axes.set_title(title, loc="left", fontsize=7, color=QUIET, pad=5)


def show_similarities(axes: "Axes", bar: "Axes", positions: PositionTable) -> None:
    """A small map for each patch that is drawn, each where its patch stands."""
    (down, across), canvas = positions.drawn, positions.canvas()
    axes.imshow(canvas, cmap=SIMILAR, vmin=-1, vmax=1, aspect="auto", interpolation="nearest")
    bare(axes)
    for places, length, axis in ((down, canvas.shape[0], axes.yaxis), (across, canvas.shape[1], axes.xaxis)):
        step = (length + positions.line) / len(places)
        axis.set_ticks([(number + 0.5) * step - (positions.line + 1) / 2 for number in range(len(places))])
        axis.set_ticklabels([str(place + 1) for place in places])
    name_similarities(axes, bar, "column of the patch", "row of the patch")


def name_similarities(axes: "Axes", bar: "Axes", below: str, beside: str) -> None:
    """What stands around similarities, and the bar of their colours."""
    axes.set_xlabel(below, fontsize=8, color=QUIET)
    axes.set_ylabel(beside, fontsize=8, color=QUIET)
    axes.set_title("similarity of positions", loc="left", fontsize=9, fontweight="bold", color=INK, pad=5)
    show_bar(bar, SIMILAR, (-1, 1), vertical=True, title="cosine")


def show_table(axes: "Axes", bar: "Axes", title: str, table: Float[Tensor, "places dim"], limit: float) -> None:
    """Vectors as lines of a heat map."""
    thin = table[:: math.ceil(table.numel() / EVERY)]
    places, dim = table.shape
    axes.imshow(
        thin.numpy(),
        cmap=SIGNED,
        vmin=-limit,
        vmax=limit,
        aspect="auto",
        extent=(-0.5, dim - 0.5, places - 0.5, -0.5),
        interpolation="nearest" if places * dim < 2**16 else "antialiased",
    )
    bare(axes)
    axes.set_xlabel("dimension, from 0", fontsize=8, color=QUIET)
    axes.set_ylabel("position, from 0", fontsize=8, color=QUIET)
    axes.set_title(title, loc="left", fontsize=9, fontweight="bold", color=INK, pad=5)
    show_bar(bar, SIGNED, (-limit, limit), vertical=False)


def show_bias(axes: "Axes", values: Float[Tensor, "down right"], limit: float, *, numbered: bool) -> None:
    """What one head adds, by displacement."""
    down, right = values.shape[0] // 2, values.shape[1] // 2
    axes.imshow(
        values.numpy(),
        cmap=SIGNED,
        vmin=-limit,
        vmax=limit,
        aspect="auto",
        extent=(-right - 0.5, right + 0.5, down + 0.5, -down - 0.5),
        interpolation="nearest",
    )
    axes.plot(0, 0, marker="o", markersize=2.5, markerfacecolor=INK, markeredgecolor="white", markeredgewidth=0.5)
    bare(axes)
    axes.set_xticks(sorted({-right, 0, right}) if numbered else [])
    axes.set_yticks(sorted({-down, 0, down}) if numbered else [])


def own(numbers: Tensor) -> Tensor:
    """Numbers that no further training changes."""
    return numbers.detach().float().cpu().clone()


def seen_from_query(part: RelativeBias | LogRelativeBias) -> Float[Tensor, "heads down right"]:
    """The bias of each head by where the key is; a model counts from the key to the query."""
    return own(part.by_displacement().flip(1, 2))


@runtime_checkable
class KnowsPlaces(Protocol):
    """A model of texts, with a vector for each place of one."""

    @property
    def place_table(self) -> Tensor: ...


@torch.no_grad()
def positions_of(model: nn.Module) -> PositionTable | PositionBias:
    """Find how a model knows where its tokens stand, to be drawn.

    Args:
        model: a plain module; a table that is added to the tokens goes before a bias that is added to the scores.

    Raises:
        ExplanationError: it has neither.
    """
    for part in model.modules():
        if isinstance(part, LearnedPositions | LearnedAxes | SinusoidalPositions):
            [table] = part(part.grid)
            return PositionTable(kind=KINDS[type(part)], grid=part.grid, prefix=part.prefix, table=own(table))
    if isinstance(model, KnowsPlaces):
        table, learned = model.place_table, isinstance(model.place_table, nn.Parameter)
        kind = KINDS[LearnedPositions] if learned else "a fixed sinusoid"
        return PlaceTable(kind=kind, grid=(1, len(table)), prefix=0, table=own(table))
    biases = [part for part in model.modules() if isinstance(part, RelativeBias | LogRelativeBias)]
    if not biases and any(isinstance(part, CountedSinusoids | CountedAxes) for part in model.modules()):
        raise ExplanationError(
            f"{type(model).__name__} counts the cells of each picture and tells every layer where they stand: it has "
            f"no table of one size to draw. Where it looks: vitrail explain RUN PICTURE."
        )
    if not biases:
        attends = any(isinstance(part, Attention) for part in model.modules())
        raise ExplanationError(
            f"{type(model).__name__} has no positions to draw: nothing in it is a table that is added to the tokens, "
            f"or a bias that is added to the scores.{' It sees its patches as a set.' * attends}"
        )
    return PositionBias(kind=KINDS[type(biases[0])], biases=tuple(map(seen_from_query, biases)))
