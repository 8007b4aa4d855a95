"""The shapes of the generated world, and the patterns they wear.

A shape is a function of x, to the right, and y, upwards, that is negative inside, positive outside, and near the edge
about as large as the distance to it. Only operations that every processor rounds alike are used on arrays (no sine, no
exponential), so that a scene has the same bytes everywhere.
"""

import functools
import math
from collections.abc import Callable

import numpy as np
from jaxtyping import Float

Field = Float[np.ndarray, "*#places"]
Shape = Callable[[Field, Field], Field]


def exact(number: float) -> float:
    """Cut off the digits in which the mathematics libraries of two machines may differ."""
    return round(number, 6)


def half_planes(x: Field, y: Field, sides: int, offset: float) -> list[Field]:
    """How far a point lies beyond each side of a regular polygon; one side is at the bottom."""
    angles = [2 * math.pi * side / sides - math.pi / 2 for side in range(sides)]
    return [exact(math.cos(angle)) * x + exact(math.sin(angle)) * y - offset for angle in angles]


def box(x: Field, y: Field, width: float, height: float) -> Field:
    return np.maximum(np.abs(x) - width, np.abs(y) - height)


def circle(x: Field, y: Field) -> Field:
    return np.sqrt(x * x + y * y) - 1


def square(x: Field, y: Field) -> Field:
    return box(x, y, 0.9, 0.9)


def triangle(x: Field, y: Field) -> Field:
    return functools.reduce(np.maximum, half_planes(x, y, 3, 0.6))


def star(x: Field, y: Field) -> Field:
    """Five points: inside all but at most one of the lines that they are drawn with."""
    return np.partition(half_planes(x, y, 5, 0.45), -2, axis=0)[-2]


def cross(x: Field, y: Field) -> Field:
    return np.minimum(box(x, y, 1.1, 0.38), box(x, y, 0.38, 1.1))


def ring(x: Field, y: Field) -> Field:
    return np.abs(np.sqrt(x * x + y * y) - 0.85) - 0.27


def crescent(x: Field, y: Field) -> Field:
    return np.maximum(circle(x, y), -circle((x - 0.5) / 0.85, y / 0.85) * 0.85)


def heart(x: Field, y: Field) -> Field:
    """A square on its corner, and a disc on each of its upper sides."""
    y = y + 0.15
    diamond = (np.abs(x) + np.abs(y) - 1) * exact(math.sqrt(0.5))
    side = np.abs(x) - 0.5
    return np.minimum(diamond, np.sqrt(side * side + (y - 0.5) * (y - 0.5)) - exact(math.sqrt(0.5)))


def hourglass(x: Field, y: Field) -> Field:
    return np.maximum((np.abs(x) - np.abs(y) - 0.1) * exact(math.sqrt(0.5)), np.abs(y) - 1)


def arrow(x: Field, y: Field) -> Field:
    head = functools.reduce(np.maximum, half_planes(x, y - 0.35, 3, 0.4))
    return np.minimum(head, box(x, y + 0.55, 0.25, 0.55))


def bar(x: Field, y: Field) -> Field:
    """No class: what clutter is made of."""
    return box(x, y, 1.0, 1.0)


SHAPES: dict[str, Shape] = {
    shape.__name__: shape for shape in (arrow, circle, crescent, cross, heart, hourglass, ring, square, star, triangle)
}


@functools.cache
def unit_area(name: str) -> float:
    """The area of a shape, in its own units, so that all can be drawn equally large."""
    ticks = (np.arange(400, dtype=np.float32) + 0.5) / 100 - 2
    return float((SHAPES[name](ticks[None, :], ticks[:, None]) < 0).sum()) / 100**2


def wave(phase: Field) -> Field:
    """A triangle wave between 0 and 1, one period for each whole number."""
    return np.abs(2 * (phase - np.floor(phase)) - 1)


def plain(u: Field, v: Field) -> Field:
    return np.clip(0.5 + 0.2 * (u + v), 0, 1)


def stripes(u: Field, v: Field) -> Field:
    return np.clip(4 * wave(u) - 1.5, 0, 1) + 0 * v


def checks(u: Field, v: Field) -> Field:
    return np.clip(8 * (wave(u) - 0.5) * (wave(v) - 0.5) + 0.5, 0, 1)


def dots(u: Field, v: Field) -> Field:
    u, v = u - np.floor(u) - 0.5, v - np.floor(v) - 0.5
    return np.clip((0.33 - np.sqrt(u * u + v * v)) * 8 + 0.5, 0, 1)


def zigzag(u: Field, v: Field) -> Field:
    return np.clip(4 * wave(u + wave(v)) - 1.5, 0, 1)


PATTERNS = (plain, stripes, checks, dots, zigzag)  # each between 0, the first colour, and 1, the second
