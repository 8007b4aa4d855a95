"""How far heads look, how widely, and how much at themselves: measured while a model answers, and never kept whole.

Distance is Dosovitskiy et al., "An Image is Worth 16x16 Words", ICLR 2021, figure 7 and appendix D.7; among the pieces
of a text it is the number of places between two.
"""

from collections.abc import Container, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from vitrail.core.attention import Attention
from vitrail.core.kernels import Kernel
from vitrail.core.tokens import Tokens
from vitrail.errors import ExplanationError, many
from vitrail.explain.recording import choose
from vitrail.explain.seam import Around, attentions, exact_weights, with_kernels

WEIGHED = 2**24  # attention weights that are looked at together: 64 MiB in float32


@runtime_checkable
class Place(Protocol):
    """Where tokens stand that look at each other; the first `prefix` of them stand nowhere."""

    @property
    def prefix(self) -> int: ...

    def apart(self, first: int, stop: int) -> Float[Tensor, "query places"]:
        """How far some of those that have a place are from each."""
        ...


@runtime_checkable
class Ground(Protocol):
    """What a model is shown, and where its tokens stand in it.

    `sample` is what one of these is called, `tokens` what looks, and `unit` what distance is counted in.
    """

    @property
    def sample(self) -> str: ...

    @property
    def tokens(self) -> str: ...

    @property
    def unit(self) -> str: ...

    @property
    def size(self) -> str:
        """What all samples have in common, in words; empty where that is nothing."""
        ...

    def place(self, name: str, tokens: int, seen: int, device: torch.device) -> Place:
        """Of the tokens of the layer `name`, which looks from so many to so many.

        Raises:
            ExplanationError: that is not known.
        """
        ...


@dataclass(frozen=True, kw_only=True, eq=False)
class Patches:
    """The ground and the place of the patches of pictures that have one size.

    Attributes:
        prefix: how many tokens have no place in the picture.
        centres: of the patches, in pixels of the model's input; row, then column.
        grid: rows and columns of patches.
        pixels: rows and columns of the model's input.
    """

    prefix: int
    centres: Float[Tensor, "places 2"]
    grid: tuple[int, int]
    pixels: tuple[int, int]

    sample, tokens, unit = "picture", "patches", "pixel"

    @classmethod
    def of(cls, tokens: Tokens, pixels: tuple[int, int]) -> "Patches":
        """Of the tokens that a picture of so many rows and columns has become."""
        (rows, columns), device = tokens.grid, tokens.x.device
        down = (torch.arange(rows, device=device) + 0.5) * (pixels[0] / rows)
        across = (torch.arange(columns, device=device) + 0.5) * (pixels[1] / columns)
        return cls(prefix=tokens.prefix, centres=torch.cartesian_prod(down, across), grid=tokens.grid, pixels=pixels)

    @property
    def count(self) -> int:
        """How many tokens there are."""
        return self.prefix + self.centres.shape[0]

    @property
    def size(self) -> str:
        (high, wide), (rows, columns) = self.pixels, self.grid
        return f"of {high} x {wide} pixels in {rows} x {columns} patches"

    def place(self, name: str, tokens: int, seen: int, device: torch.device) -> "Patches":
        if (tokens, seen) != (self.count, self.count):
            raise ExplanationError(
                f"{name} attends from {many(tokens, 'token')} to {seen}, and the picture becomes "
                f"{many(self.count, 'token')}: heads can only be compared where all layers attend over the same."
            )
        return self

    def apart(self, first: int, stop: int) -> Float[Tensor, "query places"]:
        """Pixels between the centres of some patches and those of all."""
        return torch.cdist(self.centres[first:stop], self.centres, compute_mode="donot_use_mm_for_euclid_dist")


class Line(NamedTuple):
    """Pieces one behind the other.

    Attributes:
        places: the number of each.
    """

    places: Float[Tensor, " places"]

    @property
    def prefix(self) -> int:
        return 0

    def apart(self, first: int, stop: int) -> Float[Tensor, "query places"]:
        """How many places lie between some pieces and each."""
        return (self.places[first:stop, None] - self.places).abs()


@dataclass(frozen=True)
class Pieces:
    """The ground of texts, each of its own length. The pieces put around a text count as all others do."""

    sample, tokens, unit, size = "text", "pieces", "piece", ""

    def place(self, name: str, tokens: int, seen: int, device: torch.device) -> Line:
        return Line(torch.arange(seen, device=device, dtype=torch.float32))


def may_look(mask: Tensor | None, batch: int, queries: int, keys: int) -> Bool[Tensor, "batch query key"]:
    """Who may look at whom by a mask, in any of the heads; a view as far as that goes."""
    if mask is None:
        return torch.ones((), dtype=torch.bool).expand(batch, queries, keys)
    allowed = mask if mask.dtype == torch.bool else mask > -torch.inf
    return (allowed if allowed.ndim < 3 else allowed.any(dim=-3)).expand(batch, queries, keys)


class Means(NamedTuple):
    """What each head of a layer does on average; behind them what a head would do that looks evenly.

    Attributes:
        distance: how far it looks; NaN where nothing has a place.
        entropy: how widely, as a share of the largest entropy there can be.
        diagonal: how much a token looks at itself; NaN among others.
    """

    distance: Float[Tensor, " heads"]
    entropy: Float[Tensor, " heads"]
    diagonal: Float[Tensor, " heads"]


class Looks:
    """What the heads of one layer do, summed over all queries so far, and behind them one that looks evenly."""

    def __init__(self, heads: int) -> None:
        self.sums = torch.zeros(6, heads + 1, dtype=torch.float64)  # each measure, and the queries that have one

    def add(
        self,
        weights: Float[Tensor, "batch heads rows key"],
        allowed: Bool[Tensor, "batch rows key"],
        real: Bool[Tensor, "batch rows"],
        first: int,
        place: Place | None,
    ) -> None:
        """Count the attention of the queries from `first` on.

        Args:
            weights: how much they look at each.
            allowed: at which they may look.
            real: which of them are not padding.
            first: the number of the first.
            place: where they stand; `None` where others are looked at.
        """
        choice = allowed.sum(dim=-1)[:, None]
        even = allowed[:, None] / choice.clamp(min=1)[..., None]
        weights = torch.cat([weights, even.to(weights)], dim=1)
        real = real[:, None].to(weights.device).expand(weights.shape[:3])
        choice = choice.to(weights.device)
        share = torch.special.entr(weights).sum(dim=-1) / choice.log().clamp(min=1e-9)
        found = [*self.distances(weights, real, first, place), share.where(chosen := real & (choice > 1), 0), chosen]
        if place is None:
            found += [torch.zeros_like(share), torch.zeros_like(real)]
        else:
            found += [weights.diagonal(first, dim1=-2, dim2=-1).where(real, 0), real]
        self.sums = self.sums + torch.stack([each.sum(dim=(0, 2)).cpu().double() for each in found])

    def distances(
        self, weights: Tensor, real: Bool[Tensor, "batch heads rows"], first: int, place: Place | None
    ) -> tuple[Tensor, Tensor]:
        """How far each query looks that has a place, and which those are; attention to what has none is left out."""
        if place is None:
            return torch.zeros_like(weights[..., 0]), torch.zeros_like(real)
        count = weights.shape[2]
        start = min(max(place.prefix - first, 0), count)  # of those with a place among them
        apart = place.apart(first + start - place.prefix, first + count - place.prefix)
        among = weights[:, :, start:, place.prefix :]
        placed = among.sum(dim=-1)
        far = torch.einsum("bhqk,qk->bhq", among, apart.to(among.dtype)) / placed
        seen = (placed > 0) & real[:, :, start:]  # all of the attention of a query may go to tokens without a place
        return far.where(seen, 0), seen

    def means(self) -> Means:
        """The mean over the queries that have one."""
        distance, near, entropy, chosen, diagonal, queries = self.sums
        return Means(distance / near, entropy / chosen.clamp(min=1), diagonal / queries)


class LookingKernel(Around):
    """Answers with the kernel it is given, and measures the attention beside it, some queries at a time.

    Args:
        name: of the layer.
        kernel: that answers.
        looks: where it is counted.
        ground: where tokens stand that look at each other; what may not look at itself is padding. `None` where others
            are looked at, and nobody who looks is padding.
    """

    def __init__(self, name: str, kernel: Kernel, looks: Looks, ground: Ground | None) -> None:
        super().__init__(kernel)
        self.name, self.looks, self.ground = name, looks, ground

    def after(
        self, answer: Tensor, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scale: float
    ) -> Float[Tensor, "batch heads query value_width"]:
        batch, heads, tokens, seen = *query.shape[:3], key.shape[2]
        allowed = may_look(mask, batch, tokens, seen)
        place: Place | None = None
        real = torch.ones((), dtype=torch.bool).expand(batch, tokens)
        if self.ground is not None:
            place, real = self.ground.place(self.name, tokens, seen, query.device), allowed.diagonal(dim1=-2, dim2=-1)
        together = max(WEIGHED // (batch * heads * seen), 1)
        for first in range(0, tokens, together):
            stop = min(first + together, tokens)
            rows = range(first, stop)
            shown = None if mask is None else choose(mask, -2, rows)
            weights = exact_weights(choose(query, -2, rows), key, shown, scale)
            self.looks.add(weights, allowed[:, first:stop], real[:, first:stop], first, place)
        return answer


def looking(model: nn.Module, ground: Ground, looks: Sequence[Looks], across: Container[str] = ()) -> nn.Module:
    """A twin that measures its attention as it answers.

    Args:
        model: a plain module.
        ground: what it is shown.
        looks: where the attention of each of its layers is counted, in their order.
        across: the layers in which others are looked at.
    """
    layers = attentions(model)
    found = dict(zip(layers, looks, strict=True))

    def measured(name: str, attention: Attention) -> LookingKernel:
        return LookingKernel(name, attention.kernel, found[name], None if name in across else ground)

    return with_kernels(model, measured, layers)
