"""Whether a map is true of the model: what happens to the answer when the parts it points at go, or come first.

A map can look convincing and say nothing. Three questions are asked of it: does the answer fall faster when its
strongest parts are hidden than when any parts are; does it depend on what the model has learned; and, where the object
is known, does it point there.

Sources: deletion and insertion, Petsiuk, Das and Saenko, "RISE", BMVC 2018; sanity check, Adebayo et al., NeurIPS 2018;
pointing game, Zhang et al., "Top-down Neural Attention by Excitation Backprop", ECCV 2016.
"""

import copy
import math
from collections.abc import Iterable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from vitrail.explain.methods import METHODS, Maps
from vitrail.geometry.placement import Placement

STEPS = 20  # at which the answer is asked, from nothing changed to everything
ORDERS = 8  # random maps that a map is compared with
BLUR = 5  # cells, across, that hide what is in a picture and keep its light
CELLS = (14, 14)  # to which a finer map is brought: hiding single pixels makes pictures that no model knows
TWINS = 3  # models of shuffled weights


class Curve(NamedTuple):
    """The probability of an answer while a picture is hidden or shown part by part.

    Attributes:
        shares: of the picture that is changed, from 0 to 1.
        chosen: the probability, when the map says which parts are next.
        random: the mean of it over random orders.
    """

    shares: Float[Tensor, " steps"]
    chosen: Float[Tensor, " steps"]
    random: Float[Tensor, " steps"]

    @property
    def area(self) -> float:
        """Under the curve of the map, between 0 and 1."""
        return float(torch.trapezoid(self.chosen, self.shares))

    @property
    def random_area(self) -> float:
        """Under that of random orders."""
        return float(torch.trapezoid(self.random, self.shares))


class Trust(NamedTuple):
    """How far a map is true of the model.

    Attributes:
        deletion: the strongest parts are hidden first; the lower the area, the better.
        insertion: the strongest parts are shown first; the higher the area, the better.
        unlearned: rank correlation with the map of the same model with its weights shuffled; near 0 is right.
    """

    deletion: Curve
    insertion: Curve
    unlearned: float

    def sentences(self) -> tuple[str, ...]:
        """What stands on a drawing."""
        deletion, insertion = self.deletion, self.insertion
        return (
            f"Hiding its strongest parts first leaves {deletion.area:.1%} of the answer on average "
            f"(random parts: {deletion.random_area:.1%}; lower is better).",
            f"Showing them first gives {insertion.area:.1%} "
            f"(random parts: {insertion.random_area:.1%}; higher is better).",
            f"Rank correlation with the map of shuffled weights: {self.unlearned:+.2f} (near 0 is right).",
        )


def hidden(
    pixels: Float[Tensor, "channels height width"], cells: tuple[int, int]
) -> Float[Tensor, "channels height width"]:
    """The picture so blurred that nothing in it can be told; its light and colours stay."""
    small = F.adaptive_avg_pool2d(pixels[None], (max(cells[0] // BLUR, 1), max(cells[1] // BLUR, 1)))
    return F.interpolate(small, pixels.shape[1:], mode="bilinear", align_corners=False)[0]


def ordered(map: Float[Tensor, "rows columns"]) -> Int[Tensor, "rows columns"]:
    """The rank of each cell, 0 for the strongest."""
    return map.flatten().argsort(descending=True, stable=True).argsort().reshape(map.shape)


@torch.inference_mode()
def probabilities(
    model: nn.Module, below: Tensor, above: Tensor, order: Int[Tensor, "rows columns"], target: int
) -> Float[Tensor, " steps"]:
    """The probability of a class while cells of one picture take the place of those of another, in an order.

    Args:
        model: gives logits.
        below: what is there at first (channels, height, width).
        above: what comes.
        order: the rank of each cell.
        target: the class.
    """
    counts = torch.linspace(0, order.numel(), STEPS + 1).round().long()
    reached = order[None] < counts[:, None, None].to(order.device)
    masks = F.interpolate(reached[:, None].to(below.dtype), below.shape[1:], mode="nearest")
    outputs = torch.cat([model(batch) for batch in (below + masks * (above - below)).split(8)])
    return outputs.softmax(dim=1)[:, target].float().cpu()


def curve(
    model: nn.Module, below: Tensor, above: Tensor, map: Float[Tensor, "rows columns"], target: int, seed: int = 0
) -> Curve:
    """The probability of a class while a picture changes, in the order of a map and in random ones."""
    chance = torch.Generator().manual_seed(seed)
    chosen = probabilities(model, below, above, ordered(map), target)
    others = [
        probabilities(model, below, above, ordered(torch.rand(map.shape, generator=chance)).to(map.device), target)
        for _ in range(ORDERS)
    ]
    return Curve(torch.linspace(0, 1, STEPS + 1), chosen, torch.stack(others).mean(dim=0))


@torch.no_grad()
def shuffled(model: nn.Module, seed: int) -> nn.Module:
    """The same model with the numbers of each weight in another order: it has learned nothing, and is as large."""
    chance = torch.Generator().manual_seed(seed)
    other = copy.deepcopy(model).requires_grad_(False)
    for weight in other.parameters():
        flat = weight.flatten()
        weight.copy_(flat[torch.randperm(flat.numel(), generator=chance).to(flat.device)].reshape(weight.shape))
    return other


def rank_correlation(one: Float[Tensor, "rows columns"], other: Float[Tensor, "rows columns"]) -> float:
    """Spearman's: 1 where two maps order their cells alike, 0 where one tells nothing of the other."""
    ranks = torch.stack([ordered(map).flatten().double() for map in (one, other)])
    return 0.0 if ranks.shape[1] < 2 else float(torch.corrcoef(ranks)[0, 1])


def coarse(maps: Maps) -> Float[Tensor, "batch cells_down cells_across"]:
    """Maps of pixels brought to cells; those of patches as they are."""
    if maps.shape[1] * maps.shape[2] <= 4 * math.prod(CELLS):
        return maps
    return F.adaptive_avg_pool2d(maps, CELLS)


def trust(
    model: nn.Module, pixels: Float[Tensor, "channels height width"], method: str, target: int, seed: int = 0
) -> Trust:
    """Ask whether a method's map of one picture is true of a model.

    Args:
        model: in eval mode; gives logits.
        pixels: the picture as the model reads it.
        method: a name out of `METHODS`.
        target: the class that is explained.
        seed: of the random orders and the shuffled weights.
    """
    targets = torch.tensor([target], device=pixels.device)
    maps = METHODS[method].maps
    [map] = coarse(maps(model, pixels[None], targets).detach())
    blurred = hidden(pixels, (map.shape[0], map.shape[1]))
    others = [coarse(maps(shuffled(model, seed + twin), pixels[None], targets).detach())[0] for twin in range(TWINS)]
    return Trust(
        curve(model, pixels, blurred, map, target, seed),
        curve(model, blurred, pixels, map, target, seed),
        sum(rank_correlation(map, other) for other in others) / TWINS,
    )


def as_read(mask: Bool[Tensor, "rows columns"], placement: Placement) -> Bool[Tensor, "height width"]:
    """A mask of the file's pixels, for those that the model reads."""
    rows, columns = placement.size
    y, x = torch.meshgrid(torch.arange(rows) + 0.5, torch.arange(columns) + 0.5, indexing="ij")
    points = placement.back(torch.stack([x, y], dim=-1).double()).floor().long()
    return mask[points[..., 1].clamp(0, mask.shape[0] - 1), points[..., 0].clamp(0, mask.shape[1] - 1)]


class Pointing(NamedTuple):
    """The pointing game.

    Attributes:
        hits: pictures in which the strongest cell touches the object.
        centres: those in which the middle of that cell is on it.
        pictures: how many were asked.
        blind: the mean share of cells that touch the object: the hits of pointing blindly.
    """

    hits: int
    centres: int
    pictures: int
    blind: float

    def sentence(self) -> str:
        """What stands on a drawing."""
        said = f"It points at the object in {self.hits} of {self.pictures} scenes"
        share = self.hits / max(self.pictures, 1)
        return f"{said} ({share:.0%}; blindly {self.blind:.0%}), with the middle of a cell in {self.centres}."


def pointing(
    model: nn.Module,
    scenes: Iterable[tuple[Float[Tensor, "channels height width"], int, Bool[Tensor, "height width"]]],
    method: str,
) -> Pointing:
    """Count how often the strongest cell of a map is on the object.

    A cell touches it when any of its pixels does: a cell is the finest that a map can say, as the tolerance of the
    published game is.

    Args:
        model: in eval mode.
        scenes: pictures as the model reads them, the class in each, and where it is.
        method: a name out of `METHODS`.
    """
    hits, centres, pictures, covered = 0, 0, 0, 0.0
    for pixels, label, mask in scenes:
        [map] = METHODS[method].maps(model, pixels[None], torch.tensor([label], device=pixels.device)).detach()
        on_object = F.adaptive_max_pool2d(mask[None, None].float(), (map.shape[0], map.shape[1]))[0, 0]
        row, column = divmod(int(map.argmax()), map.shape[1])
        hits += bool(on_object[row, column])
        (rows, columns), (height, width) = map.shape, mask.shape
        centres += bool(mask[(2 * row + 1) * height // (2 * rows), (2 * column + 1) * width // (2 * columns)])
        covered += float(on_object.mean())
        pictures += 1
    return Pointing(hits, centres, pictures, covered / max(pictures, 1))
