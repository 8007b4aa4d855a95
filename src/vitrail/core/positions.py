"""Telling attention where things stand: it sees a set, so a place has to be written into each token.

Sinusoids are computed, tables are learned, and a relative bias adds to the scores how much two places that far
apart should look at each other. Learned tables can be stretched to another grid, in the dialect of the library
that they come from.
"""

import math
from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from vitrail.core.tokens import Feature, extent
from vitrail.errors import CheckpointError, ConfigError, unknown

# How each library stretches its tables. They differ by 0.05 to 0.17 on unit noise (14 x 14 to 24 x 24).
DIALECTS: dict[str, dict] = {
    "transformers": {"mode": "bicubic", "align_corners": False},
    "timm": {"mode": "bicubic", "align_corners": False, "antialias": True, "float32": True},
    "dino": {"mode": "bicubic", "align_corners": False, "offset": 0.1},
    "dinov2": {"mode": "bicubic", "align_corners": False, "float32": True},
    "dinov2-registers": {"mode": "bicubic", "align_corners": False, "antialias": True, "float32": True},
    "torchvision": {"mode": "bicubic", "align_corners": True},
    "dpt": {"mode": "bilinear", "align_corners": False},
    "jax": {"mode": "bilinear", "align_corners": True},  # scipy.ndimage.zoom of order 1
}


def sinusoidal(
    length: int,
    dim: int,
    *,
    layout: Literal["interleaved", "halves"] = "interleaved",
    base: float = 10_000.0,
    dtype: torch.dtype = torch.float32,
) -> Float[Tensor, "length dim"]:
    """PE(place, 2i) = sin(place / base^(2i / dim)) and PE(place, 2i + 1) = cos of the same.

    Args:
        length: how many places, counted from 0.
        dim: width of one position; an odd width leaves out the last cosine.
        layout: `interleaved` is sin, cos, sin, cos ... as in the 2017 paper; `halves` is all sines, then all
            cosines, with the same frequencies, as in Marian.
        base: of the formula. The tables of tensor2tensor and fairseq are `halves` with 10,000 to the power of
            `half / (half - 1)`.

    Source: Vaswani et al. 2017, section 3.5.
    """
    half = math.ceil(dim / 2)
    frequencies = base ** (-torch.arange(half, dtype=torch.float64) * 2 / dim)
    angles = torch.arange(length, dtype=torch.float64)[:, None] * frequencies
    sines, cosines = angles.sin(), angles.cos()[:, : dim // 2]
    if layout == "halves":
        return torch.cat([sines, cosines], dim=1).to(dtype)
    table = torch.empty(length, dim, dtype=torch.float64)
    table[:, 0::2], table[:, 1::2] = sines, cosines
    return table.to(dtype)


def sinusoidal_2d(
    rows: int,
    columns: int,
    dim: int,
    *,
    first: Literal["rows", "columns"] = "columns",
    base: float = 10_000.0,
    dtype: torch.dtype = torch.float32,
) -> Float[Tensor, "places dim"]:
    """Half of the width tells the column, half the row; each half is all sines, then all cosines.

    Args:
        first: which coordinate the first half tells. Columns first is what MAE and MoCo v3 do.

    Raises:
        ConfigError: the width does not divide by four.

    Source: Chen et al., "An Empirical Study of Training Self-Supervised Vision Transformers", ICCV 2021.
    """
    if dim % 4:
        raise ConfigError(
            f"A 2-D sinusoid needs a width that divides by 4, and dim={dim} does not. "
            f"The nearest that do: {dim // 4 * 4} and {dim // 4 * 4 + 4}."
        )
    by_row = sinusoidal(rows, dim // 2, layout="halves", base=base, dtype=dtype)
    by_column = sinusoidal(columns, dim // 2, layout="halves", base=base, dtype=dtype)
    by_row = by_row[:, None].expand(rows, columns, -1)
    by_column = by_column[None].expand(rows, columns, -1)
    halves = [by_row, by_column] if first == "rows" else [by_column, by_row]
    return rearrange(torch.cat(halves, dim=-1), "rows columns dim -> (rows columns) dim")


def resize_positions(
    table: Float[Tensor, "1 tokens dim"],
    old: tuple[int, int],
    new: tuple[int, int],
    *,
    prefix: int,
    dialect: str = "timm",
) -> Float[Tensor, "1 resized dim"]:
    """Stretch learned positions to a new patch grid, so that a model can read images of another size.

    The table is taken as a picture of vectors and resampled. Leading tokens that have no place in the picture
    stay as they are. When the grid does not change, the same tensor comes back.

    Args:
        table: positions learned on the old grid, row by row, after the prefix.
        old, new: rows and columns, in patches, not pixels.
        prefix: how many leading positions (class token, registers) have no place.
        dialect: whose resampling; a key of `DIALECTS`.

    Raises:
        CheckpointError: the table does not hold `prefix + rows * columns` positions.
        ConfigError: there is no such dialect.

    Source: Dosovitskiy et al., ICLR 2021, section 3.2.
    """
    if dialect not in DIALECTS:
        raise ConfigError(unknown("dialect of resizing positions", dialect, DIALECTS))
    rows, columns = old
    if table.shape[1] != prefix + rows * columns:
        raise CheckpointError(
            f"{table.shape[1]} positions do not fit a grid of {rows} x {columns} patches after {prefix} tokens "
            f"without a place. If the checkpoint has register tokens, say whether they have positions."
        )
    if old == new:
        return table
    how = dict(DIALECTS[dialect])
    offset, float32 = how.pop("offset", None), how.pop("float32", False)
    picture = rearrange(table[:, prefix:], "1 (rows columns) dim -> 1 dim rows columns", rows=rows)
    if float32:  # the reference resamples in float32 even when the model is float64
        picture = picture.float()
    if offset is None:
        picture = F.interpolate(picture, size=new, **how)
    else:  # DINO asks for a scale a little too large, and torch samples with that scale
        scale = ((new[0] + offset) / rows, (new[1] + offset) / columns)
        picture = F.interpolate(picture, scale_factor=scale, **how)
    places = rearrange(picture, "1 dim rows columns -> 1 (rows columns) dim").to(table.dtype)
    return torch.cat([table[:, :prefix], places], dim=1)


class LearnedPositions(nn.Module):
    """One learned vector for each place, and for each leading token that is given one.

    Args:
        grid: rows and columns of patches.
        dim: width of a token.
        prefix: how many leading tokens have a position of their own.
        dialect: how the table is stretched when a picture of another size comes.
    """

    def __init__(self, grid: tuple[int, int], dim: int, *, prefix: int = 0, dialect: str = "timm") -> None:
        super().__init__()
        self.grid, self.prefix, self.dialect = grid, prefix, dialect
        self.table = nn.Parameter(torch.zeros(1, prefix + grid[0] * grid[1], dim))
        nn.init.normal_(self.table, std=0.02)

    def forward(self, grid: tuple[int, int]) -> Float[Tensor, "1 places dim"]:
        return resize_positions(self.table, self.grid, grid, prefix=self.prefix, dialect=self.dialect)


class LearnedAxes(nn.Module):
    """Two short tables, one for the rows and one for the columns, each half as wide as a token.

    A grid of `rows x columns` needs `rows + columns` half vectors instead of `rows * columns` whole ones.

    Source: Dosovitskiy et al., ICLR 2021, appendix D.4 ("2-dimensional positional embedding").
    """

    def __init__(self, grid: tuple[int, int], dim: int, *, prefix: int = 0, dialect: str = "timm") -> None:
        super().__init__()
        self.grid, self.prefix, self.dialect = grid, prefix, dialect
        rows, columns = grid
        self.rows = nn.Parameter(torch.zeros(1, rows, dim // 2))
        self.columns = nn.Parameter(torch.zeros(1, columns, dim - dim // 2))
        self.leading = nn.Parameter(torch.zeros(1, prefix, dim))
        for table in (self.rows, self.columns, self.leading):
            nn.init.normal_(table, std=0.02)

    def forward(self, grid: tuple[int, int]) -> Float[Tensor, "1 places dim"]:
        rows, columns = grid
        by_row = resize_positions(self.rows, (self.grid[0], 1), (rows, 1), prefix=0, dialect=self.dialect)
        by_column = resize_positions(self.columns, (1, self.grid[1]), (1, columns), prefix=0, dialect=self.dialect)
        by_row = by_row[:, :, None].expand(-1, -1, columns, -1)
        by_column = by_column[:, None].expand(-1, rows, -1, -1)
        places = rearrange(torch.cat([by_row, by_column], dim=-1), "1 rows columns dim -> 1 (rows columns) dim")
        return torch.cat([self.leading, places], dim=1)


def positions_of_pictures(
    positions: Callable[[tuple[int, int]], Tensor], shown: Bool[Tensor, "batch rows columns"], prefix: int
) -> Float[Tensor, "batch places dim"]:
    """Positions of pictures of several sizes side by side: each has those of its own grid, as if it were alone.

    Args:
        positions: gives those of a grid, row by row, after those of leading tokens.
        shown: which cells of the frame show a picture: a rectangle in the upper left corner of each.
        prefix: how many leading tokens have a position.
    """
    rows, columns = shown.shape[1:]
    tables = []
    for picture in shown:
        high, wide = extent(picture)
        own = positions((high, wide))
        places = rearrange(own[0, prefix:], "(rows columns) dim -> dim rows columns", rows=high)
        framed = F.pad(places, (0, columns - wide, 0, rows - high)).flatten(1).T
        tables.append(torch.cat([own[0, :prefix], framed]))
    return torch.stack(tables)


class SinusoidalPositions(nn.Module):
    """Fixed 2-D sinusoids, computed for whatever grid comes; leading tokens get zeros."""

    table: Tensor

    def __init__(self, grid: tuple[int, int], dim: int, *, prefix: int = 0) -> None:
        super().__init__()
        self.grid, self.dim, self.prefix = grid, dim, prefix
        self.register_buffer("table", sinusoidal_2d(*grid, dim)[None], persistent=False)

    def forward(self, grid: tuple[int, int]) -> Float[Tensor, "1 places dim"]:
        table = self.table if grid == self.grid else sinusoidal_2d(*grid, self.dim).to(self.table)[None]
        return F.pad(table, (0, 0, self.prefix, 0))


class CountedSinusoids(nn.Module):
    """Fixed sinusoids of how many rows and columns of a picture there are up to each cell; padding is not counted.

    One half of the width tells the row, the other the column; in each, sines and cosines alternate.

    Args:
        dim: width of a position.
        length: of the whole picture on the way down and across, whatever its cells; `None` counts cells, from 1.
        base: as in `sinusoidal`.

    Raises:
        ConfigError: the width does not divide by four.

    Source: Parmar et al., "Image Transformer", ICML 2018; counted as in Carion et al., ECCV 2020, appendix A.4.
    """

    def __init__(self, dim: int, *, length: float | None = 2 * math.pi, base: float = 10_000.0) -> None:
        super().__init__()
        if dim % 4:
            raise ConfigError(
                f"Sinusoids for rows and columns need a width that divides by 4, and dim={dim} does not. "
                f"The nearest that do: {dim // 4 * 4} and {dim // 4 * 4 + 4}."
            )
        self.dim, self.length, self.base = dim, length, base

    def forward(self, feature: Feature) -> Float[Tensor, "#batch places dim"]:
        """A position for each cell, row by row; where there is no padding, one table serves the whole batch."""
        detailed = feature.map if feature.map.dtype == torch.float64 else feature.map.float()
        shown = torch.ones_like(detailed[:1, 0]) if feature.valid is None else feature.valid.to(detailed)
        halves = [self.waves(shown.cumsum(dim=1), last=-2), self.waves(shown.cumsum(dim=2), last=-1)]
        return torch.cat(halves, dim=-1).flatten(1, 2).to(feature.map.dtype)

    def at(self, points_xy: Float[Tensor, "*points 2"]) -> Float[Tensor, "*points dim"]:
        """The positions of points of the picture, which is the unit square."""
        detailed = points_xy if points_xy.dtype == torch.float64 else points_xy.float()
        places = detailed * (2 * math.pi if self.length is None else self.length)
        return torch.cat([self.angles(places[..., 1]), self.angles(places[..., 0])], dim=-1).to(points_xy.dtype)

    def waves(self, count: Float[Tensor, "batch rows columns"], last: int) -> Float[Tensor, "batch rows columns dim"]:
        """Sines and cosines of a count, which is greatest at the end of the axis `last`."""
        if self.length is not None:
            count = count / (count.narrow(last, count.shape[last] - 1, 1) + 1e-6) * self.length  # as published
        return self.angles(count)

    def angles(self, count: Float[Tensor, "*places"]) -> Float[Tensor, "*places dim"]:
        """Sines and cosines of a way, in turns."""
        pairs = torch.arange(self.dim // 4, dtype=count.dtype, device=count.device)
        angles = count[..., None] / self.base ** (2 * pairs / (self.dim // 2))
        return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(-2)


class CountedAxes(nn.Module):
    """A learned vector for each row and for each column, counted from the upper left corner and never stretched.

    The first half of the width tells the column, the second the row.

    Args:
        most: how many rows, and how many columns, have one.
        dim: width of a position.

    Source: Carion et al., ECCV 2020, appendix A.4; first values as in the published code.
    """

    def __init__(self, most: int, dim: int) -> None:
        super().__init__()
        if dim % 2:
            raise ConfigError(f"A row and a column share the width of a position, and dim={dim} does not halve.")
        self.rows, self.columns = (nn.Parameter(torch.empty(most, dim // 2)) for _ in range(2))
        for table in (self.rows, self.columns):
            nn.init.uniform_(table)

    def forward(self, feature: Feature) -> Float[Tensor, "1 places dim"]:
        """A position for each cell, row by row.

        Raises:
            ConfigError: the map has more rows or columns than there are vectors.
        """
        rows, columns = feature.map.shape[2:]
        if max(rows, columns) > (most := self.rows.shape[0]):
            raise ConfigError(
                f"The map has {rows} x {columns} cells, and there are learned positions for {most} rows and {most} "
                f"columns. Use smaller pictures, or a model with position='sine'."
            )
        by_column = self.columns[:columns].expand(rows, -1, -1)
        by_row = self.rows[:rows, None].expand(-1, columns, -1)
        return torch.cat([by_column, by_row], dim=-1).flatten(0, 1)[None]


def relative_places(rows: int, columns: int, device: torch.device | None = None) -> Int[Tensor, "query key"]:
    """Which of the `(2 rows - 1) * (2 columns - 1)` displacements leads from each key to each query.

    Two rows of two patches have nine displacements, numbered row by row; a patch has displacement 4 to itself:

        up-left  up  up-right      0 1 2
        left     -   right         3 4 5
        down-..  ..  ..            6 7 8
    """
    places = torch.stack(
        torch.meshgrid(torch.arange(rows, device=device), torch.arange(columns, device=device), indexing="ij")
    )
    places = rearrange(places, "direction rows columns -> direction (rows columns)")
    down, right = places[:, :, None] - places[:, None, :]
    return (down + rows - 1) * (2 * columns - 1) + right + columns - 1


class RelativeBias(nn.Module):
    """A learned number for each head and each displacement, added to the scores.

    Tokens without a place share three numbers of their own: prefix to patch, patch to prefix, prefix to prefix.

    Args:
        grid: rows and columns of patches; this part reads no other grid.
        heads: of the attention whose scores it is added to.
        prefix: how many leading tokens have no place.

    Source: Liu et al., "Swin Transformer", ICCV 2021, eq. 4; prefix numbers as in Bao et al., "BEiT", ICLR 2022.
    """

    places: Tensor

    def __init__(self, grid: tuple[int, int], heads: int, *, prefix: int = 0) -> None:
        super().__init__()
        rows, columns = self.grid = grid
        displacements = (2 * rows - 1) * (2 * columns - 1)
        self.table = nn.Parameter(torch.zeros(displacements + (3 if prefix else 0), heads))
        nn.init.normal_(self.table, std=0.02)
        places = relative_places(rows, columns)
        if prefix:
            places = F.pad(places, (prefix, 0, prefix, 0))
            places[:prefix], places[:, :prefix] = displacements, displacements + 1
            places[:prefix, :prefix] = displacements + 2
        self.register_buffer("places", places, persistent=False)

    def forward(self) -> Float[Tensor, "1 heads query key"]:
        return rearrange(self.table[self.places], "query key heads -> 1 heads query key")

    def by_displacement(self) -> Float[Tensor, "heads down right"]:
        """The number of each displacement from a key to the query, from `1 - rows` and `1 - columns` patches on."""
        rows, columns = self.grid
        patches = self.table[: (2 * rows - 1) * (2 * columns - 1)]
        return rearrange(patches, "(down right) heads -> heads down right", down=2 * rows - 1)


class LogRelativeBias(nn.Module):
    """A small MLP that reads a displacement, on a logarithmic scale, and says how much to look.

    It has no table: its numbers serve any grid that it is made for. Tokens without a place get no bias.

    Args:
        grid: rows and columns of patches.
        heads: of the attention whose scores it is added to.
        hidden: width inside the MLP.
        prefix: how many leading tokens have no place.

    Source: Liu et al., "Swin Transformer V2", CVPR 2022, section 3.3; without its normalisation, as in timm's
    `vit_relpos`.
    """

    displacements: Tensor
    places: Tensor

    def __init__(self, grid: tuple[int, int], heads: int, *, hidden: int = 128, prefix: int = 0) -> None:
        super().__init__()
        rows, columns = self.grid = grid
        self.prefix = prefix
        self.expand = nn.Linear(2, hidden)
        self.contract = nn.Linear(hidden, heads)
        down = torch.arange(1 - rows, rows, dtype=torch.float32)
        right = torch.arange(1 - columns, columns, dtype=torch.float32)
        displacements = torch.stack(torch.meshgrid(down, right, indexing="ij"), dim=-1).flatten(0, 1)
        self.register_buffer("displacements", displacements.sign() * displacements.abs().log1p(), persistent=False)
        self.register_buffer("places", relative_places(rows, columns), persistent=False)

    def forward(self) -> Float[Tensor, "1 heads query key"]:
        bias = self.contract(F.relu(self.expand(self.displacements)))[self.places]
        bias = rearrange(bias, "query key heads -> 1 heads query key")
        return F.pad(bias, (self.prefix, 0, self.prefix, 0))

    def by_displacement(self) -> Float[Tensor, "heads down right"]:
        """The number of each displacement from a key to the query, from `1 - rows` and `1 - columns` patches on."""
        bias = self.contract(F.relu(self.expand(self.displacements)))
        return rearrange(bias, "(down right) heads -> heads down right", down=2 * self.grid[0] - 1)
