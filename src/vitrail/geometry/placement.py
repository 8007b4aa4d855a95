"""Where a picture's pixels went on their way to the model, and how to come back.

Points are x then y, sizes are rows then columns. The corner of the first pixel is (0, 0) and its centre (0.5, 0.5),
so that halving a picture halves every coordinate.
"""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

Size = tuple[int, int]  # rows, columns
Number = int | float
Box = tuple[Number, Number, Number, Number]  # left, top, right, bottom


@dataclass(frozen=True, slots=True)
class Placement:
    """An affine map from the pixels of the file, as displayed, to the pixels a model reads.

    Attributes:
        matrix: a, b, c, d, e, f of `x' = a x + b y + c` and `y' = d x + e y + f`.
        source: rows and columns of the file.
        size: rows and columns of what the model reads.
    """

    matrix: tuple[float, float, float, float, float, float]
    source: Size
    size: Size

    @classmethod
    def identity(cls, size: Size) -> "Placement":
        """Nothing moves."""
        return cls((1.0, 0.0, 0.0, 0.0, 1.0, 0.0), size, size)

    @classmethod
    def window(cls, source: Size, box: Box, size: Size) -> "Placement":
        """One part of the source fills the whole result.

        Args:
            source: rows and columns of the source.
            box: left, top, right, bottom of the part, in its pixels; it may reach beyond the edge.
            size: rows and columns of the result.
        """
        left, top, right, bottom = map(float, box)
        across, down = size[1] / (right - left), size[0] / (bottom - top)
        return cls((across, 0.0, -left * across, 0.0, down, -top * down), source, size)

    @classmethod
    def resize(cls, source: Size, size: Size) -> "Placement":
        """The whole source fills the whole result."""
        return cls.window(source, (0, 0, source[1], source[0]), size)

    @classmethod
    def crop(cls, source: Size, top: int, left: int, size: Size) -> "Placement":
        """A part as large as the result; negative `top` and `left` are a border around the source."""
        return cls.window(source, (left, top, left + size[1], top + size[0]), size)

    @classmethod
    def flip(cls, size: Size, *, horizontal: bool = False, vertical: bool = False) -> "Placement":
        """Left and right change places, or top and bottom, or both."""
        rows, columns = size
        across = (-1.0, 0.0, float(columns)) if horizontal else (1.0, 0.0, 0.0)
        down = (0.0, -1.0, float(rows)) if vertical else (0.0, 1.0, 0.0)
        return cls(across + down, size, size)

    def then(self, other: "Placement") -> "Placement":
        """This one first, then the other, which must begin where this one ends."""
        assert self.size == other.source, f"{self.size} is not where {other.source} begins"
        a, b, c, d, e, f = self.matrix
        p, q, r, s, t, u = other.matrix
        matrix = (p * a + q * d, p * b + q * e, p * c + q * f + r, s * a + t * d, s * b + t * e, s * c + t * f + u)
        return Placement(matrix, self.source, other.size)

    def forward(self, points_xy: Float[Tensor, "*points 2"]) -> Float[Tensor, "*points 2"]:
        """Points of the file to points of the model's input."""
        a, b, c, d, e, f = self.matrix
        linear, offset = points_xy.new_tensor([[a, d], [b, e]]), points_xy.new_tensor([c, f])
        return points_xy @ linear + offset

    def back(self, points_xy: Float[Tensor, "*points 2"]) -> Float[Tensor, "*points 2"]:
        """Points of the model's input to points of the file."""
        return self.inverse().forward(points_xy)

    def inverse(self) -> "Placement":
        """The way back."""
        a, b, c, d, e, f = self.matrix
        area = a * e - b * d
        matrix = (e / area, -b / area, (b * f - e * c) / area, -d / area, a / area, (d * c - a * f) / area)
        return Placement(matrix, self.size, self.source)
