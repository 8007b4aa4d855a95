"""Whether a map is true of the model: what happens to the answer when the parts it points at go, or come first.

A map can look convincing and say nothing. Three questions are asked of it: does the answer fall faster when its
strongest parts are hidden than when any parts are; does it depend on what the model has learned; and, where the object
is known, does it point there.

Sources: deletion and insertion, Petsiuk, Das and Saenko, "RISE", BMVC 2018; sanity check, Adebayo et al., NeurIPS 2018;
pointing game, Zhang et al., "Top-down Neural Attention by Excitation Backprop", ECCV 2016.
"""

import copy
import math
import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from vitrail.core.packing import packed
from vitrail.core.precision import fast_float32
from vitrail.explain.methods import METHODS, Maps
from vitrail.geometry.placement import Placement

STEPS = 20  # at which the answer is asked, from nothing changed to everything
ORDERS = 8  # random maps that a map is compared with
BLUR = 5  # cells, across, that hide what is in a picture and keep its light
CELLS = (14, 14)  # to which a finer map is brought: hiding single pixels makes pictures that no model knows
TWINS = 5  # models of shuffled weights
TOGETHER = 8  # changed pictures that a model is asked about at once
LITTLE = 0.1  # by which a score must change for its curves to say anything
ALIKE = 0.5  # mean rank correlation from which maps are much alike
SILENT = 10.0  # seconds after which somebody who waits is told how far it is

Say = Callable[[str], None]


class Pace:
    """Tells how far something is, now and then.

    Args:
        say: is told; nobody where it is none.
    """

    def __init__(self, say: Say | None) -> None:
        self.say, self.began = say, time.monotonic()
        self.told = self.began

    def tell(self, done: int, total: int, what: str) -> None:
        """Say it, unless something was said a moment ago or it is over."""
        now = time.monotonic()
        if self.say is None or done >= total or now - self.told < SILENT:
            return
        left = (now - self.began) / done * (total - done)
        self.say(f"{done} of {total} {what}, about {math.ceil(left)} s more.")
        self.told = now


class Curve(NamedTuple):
    """The probability of an answer while a picture is hidden or shown part by part.

    Attributes:
        shares: of the picture that is changed, from 0 to 1.
        chosen: the probability, when the map says which parts are next.
        orders: the same for each of some random orders.
    """

    shares: Float[Tensor, " steps"]
    chosen: Float[Tensor, " steps"]
    orders: Float[Tensor, "orders steps"]

    @property
    def random(self) -> Float[Tensor, " steps"]:
        """The mean over the random orders."""
        return self.orders.mean(dim=0)

    @property
    def area(self) -> float:
        """Under the curve of the map, between 0 and 1."""
        return float(torch.trapezoid(self.chosen, self.shares))

    @property
    def random_areas(self) -> list[float]:
        """Under that of each random order."""
        return torch.trapezoid(self.orders, self.shares).tolist()

    @property
    def random_area(self) -> float:
        """Their mean."""
        return sum(self.random_areas) / len(self.random_areas)

    def sentence(self) -> str:
        """The two beside each other."""
        areas = self.random_areas
        return (
            f"{self.area:.1%} on average (random parts: {self.random_area:.1%}, "
            f"from {min(areas):.1%} to {max(areas):.1%} in {len(areas)} orders"
        )


class Trust(NamedTuple):
    """How far a map is true of the model.

    Attributes:
        deletion: the strongest parts are hidden first; the lower the area, the better.
        insertion: the strongest parts are shown first; the higher the area, the better.
        correlations: rank correlations with the maps of the same model with its weights shuffled, each in another way;
            0 is right.
        cells: how many are ranked.
    """

    deletion: Curve
    insertion: Curve
    correlations: tuple[float, ...]
    cells: int

    @property
    def unlearned(self) -> float:
        """The mean of the correlations."""
        return sum(self.correlations) / len(self.correlations)

    @property
    def chance(self) -> float:
        """How far each correlation strays from 0 (standard deviation) where two maps of so many cells share nothing.

        Of maps whose neighbouring cells are alike it strays further.
        """
        return 1 / math.sqrt(max(self.cells - 1, 1))

    def verdict(self, name: str) -> str:
        """What all that comes to, in a sentence."""
        whole, gone = float(self.deletion.chosen[0]), float(self.deletion.chosen[-1])
        if abs(whole - gone) < LITTLE:
            return (
                f"In short: this says little, as the score of {name} is {whole:.1%} when all is there and {gone:.1%} "
                f"when nothing is."
            )
        falls, rises = (self.deletion, 1), (self.insertion, -1)
        won = [all(side * curve.area < side * area for area in curve.random_areas) for curve, side in (falls, rises)]
        said = {2: "better than chance, both ways", 1: "better than chance one way only", 0: "no better than chance"}
        learned = self.unlearned <= ALIKE
        also = "" if learned else ", and models that have learned nothing have maps much like it"
        return f"In short: {said[sum(won)]}{also}."

    def sentences(
        self, name: str, cells: str = "cells", changes: tuple[str, str] = ("Hiding", "Showing")
    ) -> tuple[str, ...]:
        """What stands on a drawing.

        Args:
            name: of the answer whose score was asked.
            cells: how the parts are called that are ranked.
            changes: what is done to them.
        """
        low, high = min(self.correlations), max(self.correlations)
        return (
            self.verdict(name),
            f"{changes[0]} its strongest parts first leaves the score of {name} at {self.deletion.sentence()}; "
            f"lower is better).",
            f"{changes[1]} them first brings it to {self.insertion.sentence()}; higher is better).",
            f"Rank correlation with the maps of {len(self.correlations)} models of shuffled weights, over {self.cells} "
            f"{cells}: {self.unlearned:+.2f}, from {low:+.2f} to {high:+.2f} (0 is right; chance alone strays from it "
            f"by {self.chance:.2f} or more).",
        )


def hidden(
    pixels: Float[Tensor, "channels height width"], cells: tuple[int, int]
) -> Float[Tensor, "channels height width"]:
    """The picture so blurred that nothing in it can be told; its light and colours stay."""
    small = F.adaptive_avg_pool2d(pixels[None], (max(cells[0] // BLUR, 1), max(cells[1] // BLUR, 1)))
    return F.interpolate(small, pixels.shape[1:], mode="bilinear", align_corners=False)[0]


def ordered(map: Float[Tensor, "*cells"]) -> Int[Tensor, "*cells"]:
    """The rank of each cell, 0 for the strongest."""
    return map.flatten().argsort(descending=True, stable=True).argsort().reshape(map.shape)


def stops(cells: int) -> Int[Tensor, " steps"]:
    """How many cells are changed when the answer is asked: from none to all, and as many as are left each time."""
    counts = torch.linspace(0, cells, STEPS + 1).round().long()
    return torch.cat([counts, cells - counts]).unique()


@torch.inference_mode()
def scores(
    model: nn.Module,
    pictures: tuple[Tensor, Tensor],
    hides: Bool[Tensor, "changed rows columns"],
    target: int,
    *,
    several: bool = False,
    say: Say | None = None,
) -> Float[Tensor, " changed"]:
    """The probability of a class for one picture of which cells are hidden.

    Args:
        model: gives logits.
        pictures: as it is, and hidden (channels, height, width).
        hides: the cells that are hidden, for each time that the model is asked.
        target: the class.
        several: whether a picture can have several labels.
        say: is told how far it is, where it takes long.
    """
    shown, hidden = pictures
    quick, found, pace = packed(model), list[Tensor](), Pace(say)
    for some in hides.split(TOGETHER):
        masks = F.interpolate(some[:, None].to(shown), shown.shape[1:], mode="nearest")
        outputs = quick(shown + masks * (hidden - shown))
        found.append((outputs.sigmoid() if several else outputs.softmax(dim=1))[:, target].float().cpu())
        pace.tell(sum(map(len, found)), len(hides), "changed pictures asked about")
    return torch.cat(found)


def curves(
    model: nn.Module,
    shown: Float[Tensor, "channels height width"],
    hidden: Float[Tensor, "channels height width"],
    map: Float[Tensor, "rows columns"],
    target: int,
    seed: int = 0,
    *,
    several: bool = False,
    say: Say | None = None,
) -> tuple[Curve, Curve]:
    """The probability of a class while a picture is hidden, and while it is shown, by a map and in random orders."""
    return curves_of(lambda hides: scores(model, (shown, hidden), hides, target, several=several, say=say), map, seed)


def curves_of(
    ask: Callable[[Bool[Tensor, "changed *cells"]], Float[Tensor, " changed"]],
    map: Float[Tensor, "*cells"],
    seed: int = 0,
) -> tuple[Curve, Curve]:
    """The probability of an answer while parts are hidden, and while they are shown, by a map and in random orders.

    To show parts in a random order is to hide them in the reverse one, seen from the end: so the model is asked once
    for both.

    Args:
        ask: tells the probabilities where some parts are hidden.
        map: says which matter more.
        seed: of the random orders.
    """
    chance = torch.Generator().manual_seed(seed)
    places = stops(map.numel())
    inner = places[1:-1].reshape(-1, *[1] * map.ndim).to(map.device)
    ranks = ordered(map)
    orders = [ordered(torch.rand(map.shape, generator=chance)).to(map.device) for _ in range(ORDERS)]
    none = torch.zeros(1, *map.shape, dtype=torch.bool, device=map.device)
    hides = torch.cat([none, ~none, ranks < inner, ranks >= inner, *(order < inner for order in orders)])
    found = ask(hides)
    whole, gone, between = found[:1], found[1:2], found[2:].unflatten(0, (2 + ORDERS, -1))
    ends = whole.expand(ORDERS, 1), gone.expand(ORDERS, 1)
    shares, random = places / map.numel(), torch.cat([ends[0], between[2:], ends[1]], dim=1)
    return (
        Curve(shares, torch.cat([whole, between[0], gone]), random),
        Curve(shares, torch.cat([gone, between[1], whole]), random.flip(1)),
    )


@torch.no_grad()
def shuffled(model: nn.Module, seed: int) -> nn.Module:
    """The same model with the numbers of each weight in another order: it has learned nothing, and is as large."""
    chance = torch.Generator().manual_seed(seed)
    other = copy.deepcopy(model).requires_grad_(False)
    for weight in other.parameters():
        flat = weight.flatten()
        weight.copy_(flat[torch.randperm(flat.numel(), generator=chance).to(flat.device)].reshape(weight.shape))
    return other


def rank_correlation(one: Float[Tensor, "*cells"], other: Float[Tensor, "*cells"]) -> float:
    """Spearman's: 1 where two maps order their cells alike, 0 where one tells nothing of the other.

    Cells that are equal share their ranks; a map whose cells are all equal orders nothing.
    """
    ranks = torch.stack([shared_ranks(map.flatten()) for map in (one, other)])
    return 0.0 if (ranks.amin(dim=1) == ranks.amax(dim=1)).any() else float(torch.corrcoef(ranks)[0, 1])


def shared_ranks(values: Float[Tensor, " cells"]) -> Float[Tensor, " cells"]:
    """The rank of each value, from the least; equal ones get the mean of theirs."""
    _, places, counts = values.cpu().double().unique(return_inverse=True, return_counts=True)
    return (counts.cumsum(0) - (counts + 1) / 2)[places].double()


def coarse(maps: Maps) -> Float[Tensor, "batch cells_down cells_across"]:
    """Maps of pixels brought to cells; those of patches as they are."""
    if maps.shape[1] * maps.shape[2] <= 4 * math.prod(CELLS):
        return maps
    return F.adaptive_avg_pool2d(maps, CELLS)


def trust(
    model: nn.Module,
    pixels: Float[Tensor, "channels height width"],
    method: str,
    target: int,
    seed: int = 0,
    *,
    several: bool = False,
    say: Say | None = None,
) -> Trust:
    """Ask whether a method's map of one picture is true of a model.

    Args:
        model: in eval mode; gives logits.
        pixels: the picture as the model reads it.
        method: a name out of `METHODS`.
        target: the class that is explained.
        seed: of the random orders and the shuffled weights.
        several: whether a picture can have several labels.
        say: is told how far it is, where it takes long.
    """
    targets = torch.tensor([target], device=pixels.device)
    maps, others = METHODS[method].maps, list[Tensor]()
    with fast_float32():
        [map] = coarse(maps(model, pixels[None], targets).detach())
        blurred = hidden(pixels, (map.shape[0], map.shape[1]))
        deletion, insertion = curves(model, pixels, blurred, map, target, seed, several=several, say=say)
        pace = Pace(say)
        for twin in range(TWINS):
            others += coarse(maps(shuffled(model, seed + twin), pixels[None], targets).detach())
            pace.tell(twin + 1, TWINS, "models of shuffled weights asked")
    return Trust(deletion, insertion, tuple(rank_correlation(map, other) for other in others), map.numel())


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

    def sentence(self, *, asks: bool = True) -> str:
        """What stands on a drawing.

        Args:
            asks: whether the maps were of a class each.
        """
        each = ", each explained for its own class," if asks else ""
        share = self.hits / max(self.pictures, 1)
        return (
            f"In other scenes{each} the strongest cell touches the object in {self.hits} of {self.pictures} "
            f"({share:.0%}; blindly {self.blind:.0%}), and its middle lies on it in {self.centres}."
        )


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
