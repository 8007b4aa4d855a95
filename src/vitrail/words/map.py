"""A map of words: their vectors seen from where they spread most."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jaxtyping import Float

from vitrail.errors import ConfigError
from vitrail.explain.figures import INK, LETTER, QUIET, drawable, new_figure
from vitrail.words.vectors import WordVectors

if TYPE_CHECKING:
    from matplotlib.figure import Figure

POINT = "#0b7285"
SIDE, EDGE, FOOT = 7.0, 0.25, 0.35  # inches: of the map, around it, and below it
LETTERS = 9.0  # size of the words, points
ROOM = 1.18  # times what the words take that the map is wide
LEAST = 3  # words that make a map
AROUND = ((5, 3), (-5, 3), (5, -10), (-5, -10), (0, 6), (0, -14))  # points from a dot to its word, the best first


class Plane(NamedTuple):
    """Words on a plane.

    Attributes:
        places: one for each word.
        share: of the spread of the words that lies in the plane, from 0 to 1.
    """

    places: Float[np.ndarray, "words 2"]
    share: float


class Box(NamedTuple):
    """A rectangle on the page, points."""

    left: float
    bottom: float
    right: float
    top: float

    def shared(self, other: "Box") -> float:
        """The area that both cover."""
        across = min(self.right, other.right) - max(self.left, other.left)
        return max(0.0, across) * max(0.0, min(self.top, other.top) - max(self.bottom, other.bottom))


def label_box(word: str, dot: Float[np.ndarray, " 2"], shift: tuple[int, int]) -> Box:
    """What a word covers when it stands beside its dot."""
    width = LETTER * LETTERS * len(word)
    left = dot[0] + shift[0] - (0 if shift[0] > 0 else width if shift[0] < 0 else width / 2)
    return Box(left, dot[1] + shift[1], left + width, dot[1] + shift[1] + LETTERS)


def label_shifts(words: Sequence[str], dots: Float[np.ndarray, "words 2"]) -> list[tuple[int, int]]:
    """Where each word stands beside its dot, so that it covers little of what is there already."""
    taken = [Box(x - 3, y - 3, x + 3, y + 3) for x, y in dots.tolist()]
    shifts = []
    for word, dot in zip(words, dots, strict=True):
        covered = [sum(label_box(word, dot, shift).shared(box) for box in taken) for shift in AROUND]
        shifts.append(AROUND[int(np.argmin(covered))])
        taken.append(label_box(word, dot, shifts[-1]))
    return shifts


def place_words(vectors: WordVectors, words: Sequence[str]) -> Plane:
    """Where some words lie on a plane: principal components of their directions, the larger one across.

    The sign of each is such that the word farthest out lies at the right, or at the top: the map is always the same.

    Raises:
        ConfigError: fewer than three words, or one that is not known.
    """
    if len(set(words)) < LEAST:
        raise ConfigError(f"A map needs at least {LEAST} different words, and has {len(set(words))}.")
    chosen = vectors.units[[vectors.row(word) for word in words]].astype(np.float64)
    around = chosen - chosen.mean(axis=0)
    _, sizes, axes = np.linalg.svd(around, full_matrices=False)
    places = np.zeros((len(words), 2))
    places[:, : min(2, len(axes))] = around @ axes[:2].T
    farthest = places[np.abs(places).argmax(axis=0), [0, 1]]
    spread = float((sizes**2).sum())
    return Plane(places * np.where(farthest < 0, -1.0, 1.0), float((sizes[:2] ** 2).sum()) / spread if spread else 1.0)


def draw_map(vectors: WordVectors, words: Sequence[str], arrows: Sequence[tuple[str, str]] = ()) -> "Figure":
    """A map of some words.

    Args:
        vectors: where they come from.
        words: what is shown.
        arrows: pairs of them to be joined, such as (man, king) and (woman, queen).

    Raises:
        ConfigError: fewer than three words, or one that is not known.
    """
    words = list(dict.fromkeys([*words, *(word for pair in arrows for word in pair)]))
    plane = place_words(vectors, words)
    middle = (plane.places.max(axis=0) + plane.places.min(axis=0)) / 2
    half = float(np.ptp(plane.places, axis=0).max()) / 2 * ROOM or 1.0
    tall = max(float(np.ptp(plane.places[:, 1])) / 2 * ROOM / half, 0.3)  # as a share of what it is wide
    figure = new_figure(SIDE + 2 * EDGE, SIDE * tall + FOOT + 2 * EDGE)
    width, height = figure.get_size_inches()
    axes = figure.add_axes((EDGE / width, (FOOT + EDGE) / height, SIDE / width, SIDE * tall / height))
    axes.set(xlim=(middle[0] - half, middle[0] + half), ylim=(middle[1] - half * tall, middle[1] + half * tall))
    axes.set(xticks=[], yticks=[])
    axes.set_frame_on(False)
    places = dict(zip(words, plane.places, strict=True))
    for first, second in arrows:
        style = {"arrowstyle": "-|>", "color": QUIET, "linewidth": 0.8, "shrinkA": 4, "shrinkB": 4}
        axes.annotate("", places[second], places[first], arrowprops=style)
    axes.scatter(*plane.places.T, s=14, color=POINT, zorder=3)
    dots = (plane.places - middle) / half * SIDE * 72 / 2
    for word, shift in zip(words, label_shifts(words, dots), strict=True):
        side = "left" if shift[0] > 0 else "right" if shift[0] < 0 else "center"
        style = {"textcoords": "offset points", "fontsize": LETTERS, "color": INK, "zorder": 4, "ha": side}
        axes.annotate(drawable(word), places[word], shift, **style)
    said = (
        f"Two principal components hold {plane.share:.0%} of how these words differ: some that meet here are far apart."
    )
    figure.text(EDGE / width, EDGE / height, said, fontsize=7, color=QUIET)
    return figure
