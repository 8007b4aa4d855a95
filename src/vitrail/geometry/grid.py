"""From a pixel to the patch it lies in, to the token that patch became, and back.

Patches stand row by row; `prefix` tokens without a place (class token, registers) come before them.
"""

from collections.abc import Sequence

from vitrail.errors import ConfigError

Grid = tuple[int, int]  # rows and columns of patches
Patch = tuple[int, int]  # rows and columns of pixels in a patch


def pair(side: int | Sequence[int]) -> tuple[int, int]:
    """Rows and columns, from one number for a square or from two."""
    return (side, side) if isinstance(side, int) else (side[0], side[1])


def token_at(x: int | float, y: int | float, grid: Grid, patch: Patch, prefix: int) -> int:
    """The token of the patch that holds a point.

    Args:
        x, y: the point, in pixels of the model's input.
        grid: rows and columns of patches.
        patch: rows and columns of pixels in one of them.
        prefix: how many tokens come before the first patch.

    Raises:
        ConfigError: the point lies outside the picture.
    """
    rows, columns = grid[0] * patch[0], grid[1] * patch[1]
    if not (0 <= x < columns and 0 <= y < rows):
        raise ConfigError(
            f"The point x={x:g}, y={y:g} lies outside the {columns} pixels across and {rows} down that the model "
            f"reads. Choose x from 0 to {columns - 1} and y from 0 to {rows - 1}."
        )
    return prefix + int(y // patch[0]) * grid[1] + int(x // patch[1])


def patch_box(token: int, grid: Grid, patch: Patch, prefix: int) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of the patch that a token stands for, in pixels of the model's input.

    Raises:
        ConfigError: the token has no place in the picture.
    """
    place = token - prefix
    if not 0 <= place < grid[0] * grid[1]:
        raise ConfigError(
            f"Token {token} has no place in the picture. The patches are tokens {prefix} to "
            f"{prefix + grid[0] * grid[1] - 1}."
        )
    row, column = divmod(place, grid[1])
    top, left = row * patch[0], column * patch[1]
    return left, top, left + patch[1], top + patch[0]
