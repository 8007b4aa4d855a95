"""Plots of how an answer changes as more and more of what it rests on is hidden, or shown."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from jaxtyping import Float
from torch import Tensor

from vitrail.explain.figures import BESIDE, GAP, INK, MARGIN, QUIET, drawable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CURVE = "#b5367a"  # a colour out of the middle of the map's
WIDEST_PLOT, HIGH_PLOT = 5.4, 1.35  # inches: of a plot with what is written beside it, and of its axes
BESIDE_PLOT, BELOW_PLOT, ABOVE_PLOT = 0.38, 0.42, 0.36  # inches for what is written around the axes


class Plot(NamedTuple):
    """A curve beside those that chance gives; all run from 0 to 1 across, and lie between 0 and 1.

    Attributes:
        title: what is shown; `across`: along which axis.
        shares: where the values stand.
        chosen: the values by the map.
        orders: those of each random order.
    """

    title: str
    across: str
    shares: Float[Tensor, " steps"]
    chosen: Float[Tensor, " steps"]
    orders: Float[Tensor, "orders steps"]


def show_plot(axes: "Axes", plot: Plot, highest: float) -> None:
    """The curve of a map over those of random orders: their mean, and from the least to the most of them.

    Args:
        axes: where.
        plot: what.
        highest: value of all plots that are compared.
    """
    shares, chosen, orders = (values.double().numpy() for values in (plot.shares, plot.chosen, plot.orders))
    low, high = orders.min(axis=0), orders.max(axis=0)
    axes.fill_between(shares, low, high, color=QUIET, alpha=0.18, linewidth=0)
    axes.plot(shares, orders.mean(axis=0), color=QUIET, linewidth=1.2, linestyle=(0, (3, 2)), label="random parts")
    axes.plot(shares, chosen, color=CURVE, linewidth=1.8, label="by the map")
    axes.set(xlim=(0, 1), ylim=(0, max(highest, 0.05) * 1.08))
    axes.set_title(drawable(plot.title, 60), loc="left", fontsize=8, color=INK, pad=4, parse_math=False)
    axes.set_xlabel(plot.across, fontsize=7, color=QUIET, labelpad=2)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(lambda share, _: f"{share * 100:.3g}%")
    axes.tick_params(labelsize=7, length=2, color=QUIET, labelcolor=INK)
    axes.locator_params(nbins=5)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(QUIET)
    axes.legend(fontsize=7, frameon=False, labelcolor=INK, handlelength=1.8, loc="best")


def beside(plots: Sequence[Plot], width: float) -> int:
    """How many plots stand side by side on a page so wide; the others below."""
    return len(plots) if width >= BESIDE else 1


def high_plots(plots: Sequence[Plot], width: float) -> float:
    """Inches that plots take, down a page so wide."""
    return -(-len(plots) // beside(plots, width)) * (BELOW_PLOT + HIGH_PLOT + ABOVE_PLOT) if plots else 0.0


def show_plots(figure: "Figure", plots: Sequence[Plot], bottom: float) -> None:
    """Plots in a block, so many inches above the lower edge of the page."""
    width, height = figure.get_size_inches()
    columns = beside(plots, width)
    step = min((width - 2 * MARGIN) / columns, WIDEST_PLOT)
    top = bottom + high_plots(plots, width)
    highest = max(float(values.max()) for plot in plots for values in (plot.chosen, plot.orders)) if plots else 0.0
    for number, plot in enumerate(plots):
        row, column = divmod(number, columns)
        left = MARGIN + BESIDE_PLOT + column * step
        low = top - (row + 1) * (BELOW_PLOT + HIGH_PLOT + ABOVE_PLOT) + BELOW_PLOT
        place = left / width, low / height, (step - BESIDE_PLOT - GAP) / width, HIGH_PLOT / height
        show_plot(figure.add_axes(place), plot, highest)
