"""What embedders give and encoders take (`Tokens`), and what dense heads take (`Feature`)."""

from typing import NamedTuple

from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor


class Tokens(NamedTuple):
    """A sequence of vectors that remembers where it stood in the picture. A text is a grid of one row without prefix.

    Attributes:
        x: the vectors; the first `prefix` of them (class token, registers) have no place in the picture.
        grid: rows and columns of patches; `rows * columns` tokens follow the prefix, row by row.
        prefix: how many leading tokens have no place.
        valid: `True` where a token is real and not padding; `None` when all are.
    """

    x: Float[Tensor, "batch tokens dim"]
    grid: tuple[int, int]
    prefix: int
    valid: Bool[Tensor, "batch tokens"] | None = None


class Feature(NamedTuple):
    """A map of vectors over the picture, as detection and dense heads take it.

    Attributes:
        map: one vector for each cell.
        stride: pixels between neighbouring cells, rows then columns.
        valid: `True` where a cell shows the picture and not padding; `None` when all do.
    """

    map: Float[Tensor, "batch dim rows columns"]
    stride: tuple[int, int]
    valid: Bool[Tensor, "batch rows columns"] | None = None


def extent(shown: Bool[Tensor, "rows columns"]) -> tuple[int, int]:
    """Rows and columns of a picture that stands in the upper left corner of a frame; one at least."""
    return max(int(shown.any(dim=1).sum()), 1), max(int(shown.any(dim=0).sum()), 1)


def feature(tokens: Tokens, stride: tuple[int, int]) -> Feature:
    """Lay the patch tokens back on their grid; the prefix is left out."""
    rows, columns = tokens.grid
    patches = tokens.x[:, tokens.prefix :]
    valid = None if tokens.valid is None else tokens.valid[:, tokens.prefix :].unflatten(1, (rows, columns))
    return Feature(patches.transpose(1, 2).unflatten(2, (rows, columns)), stride, valid)


def tokens_of(feature: Feature) -> Tokens:
    """The cells of a map as tokens, row by row."""
    grid = (feature.map.shape[2], feature.map.shape[3])
    cells = rearrange(feature.map, "batch dim rows columns -> batch (rows columns) dim")
    return Tokens(cells, grid, 0, None if feature.valid is None else feature.valid.flatten(1))


def mean_of_patches(tokens: Tokens) -> Float[Tensor, "batch dim"]:
    """The average of the patch tokens; padding does not count."""
    patches = tokens.x[:, tokens.prefix :]
    if tokens.valid is None:
        return patches.mean(dim=1)
    valid = tokens.valid[:, tokens.prefix :, None]
    return patches.masked_fill(~valid, 0.0).sum(dim=1) / valid.sum(dim=1).clamp(min=1)
