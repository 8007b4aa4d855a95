"""What a model looked at, asked of its attention: one question, one layer, drawn over the picture.

The question is a token: the class token, which has read the picture to name it, or the patch that holds a chosen
pixel. The answer is how much that token looks at every other one, as the model really computed it: same mask, same
bias, same heads. It is evidence of what was mixed in one layer, and not yet of what decided the answer.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from vitrail.core.tokens import Tokens
from vitrail.errors import ExplanationError, many
from vitrail.explain.drawing import Caption, HeatMap, Panel, Question, visible
from vitrail.explain.explanation import Explanation, visible_channels
from vitrail.explain.kinds import NAMES, kinds
from vitrail.explain.recording import Layers, chosen_among, recording
from vitrail.geometry.grid import patch_box, token_at
from vitrail.geometry.placement import Placement
from vitrail.preprocessing import PicturePreprocessing
from vitrail.samples import Picture

Head = int | Literal["mean", "all"]
Point = tuple[int | float, int | float]  # x, then y
Pixel = tuple[int, int]  # x, then y, counted from 0


@runtime_checkable
class Encoder(Protocol):
    """A model whose tokens can be had."""

    def encode(self, images: Tensor) -> Tokens: ...


@runtime_checkable
class Understood(Protocol):
    """What an encoder hands to a decoder, with the tokens in it."""

    @property
    def tokens(self) -> Tokens: ...


@runtime_checkable
class AsksQueries(Protocol):
    """A model that finds objects by asking what its encoder has understood, each with a query of its own."""

    @property
    def stride(self) -> tuple[int, int]:
        """Pixels between neighbouring cells of the map that it reads, rows then columns."""
        ...

    def encode(self, pixels: Tensor, valid: Tensor | None = None) -> Understood: ...

    def decode(self, memory: Any) -> Sequence[Tensor]: ...


class Asked(NamedTuple):
    """A question in terms of tokens.

    Attributes:
        rows: the tokens that are asked; their answers are averaged.
        words: how to say it.
        title: the same above a panel; the words, without what stands in brackets, unless given.
        mark: where it is in the picture, if it is there.
        wanted: the pixel that somebody named, if one was named.
        used: the pixel that was asked: `wanted`, or the nearest that the model sees.
    """

    rows: list[int]
    words: str
    mark: Question | None = None
    wanted: Pixel | None = None
    used: Pixel | None = None
    title: str = ""


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Look(Explanation):
    """Where a token looked, in one layer.

    Attributes:
        grid: rows and columns of patches.
        prefix: how many tokens stand before the patches and have no place in the picture.
        of: which attention it is: `self` where there is but one stack, or else `encoder` or `cross`.
        unit: what that is called which has a place.
        asked: the question.
        layer: which of the layers, counted from 0.
        layers: how many there are.
        head: what is drawn: the `"mean"` of the heads kept, `"all"` of them, or the number of the only one.
        heads: the numbers of the heads kept.
        weights: how much was looked at each token; a row for each head kept.
    """

    grid: tuple[int, int]
    prefix: int
    of: str = "self"
    unit: str = "patch"
    asked: Asked
    layer: int
    layers: int
    head: Head
    heads: tuple[int, ...]
    weights: Float[Tensor, "heads tokens"]

    @property
    def map(self) -> Float[Tensor, "rows columns"]:
        """How much each patch is looked at; the mean over the heads kept. Together with `unplaced` it sums to one."""
        return self.maps.mean(dim=0)

    @property
    def maps(self) -> Float[Tensor, "heads rows columns"]:
        """The same for each head."""
        return self.weights[:, self.prefix :].unflatten(1, self.grid)

    @property
    def unplaced(self) -> float:
        """The share of the attention that goes to tokens without a place in the picture; the mean over the heads."""
        return float(self.weights[:, : self.prefix].sum(dim=1).mean())

    def heat_maps(self) -> list[HeatMap]:
        """What is drawn over the picture: one map, or the mean and then every head."""
        if isinstance(self.head, int):
            return [HeatMap(f"head {self.head + 1}", self.map)]
        mean = HeatMap(f"mean of {len(self.heads)} heads", self.map)
        if self.head == "mean":
            return [mean]
        return [mean, *(HeatMap(f"head {head + 1}", map) for head, map in zip(self.heads, self.maps, strict=True))]

    def panels(self) -> list[Panel]:
        """The picture, and beside it each map."""
        return [Panel(None, self.asked.mark), *(Panel(heat, self.asked.mark) for heat in self.heat_maps())]

    def caption(self) -> Caption:
        """What is written on the drawing."""
        notes = grid_notes(self.grid, self.placement, self.unit)
        if self.prefix:
            which = "the token" if self.prefix == 1 else f"the {self.prefix} tokens"
            which = f"{which} without a place in the picture (class token, registers)"
            notes = (*notes, f"{self.unplaced:.1%} goes to {which}.")
        return Caption(
            title=f"{self.kind} layer {self.layer + 1} of {self.layers}",
            question=f"Where {self.asked.words} looks, in {Path(self.picture.name).name}",
            notes=notes,
            scale=f"share of the attention, per {self.unit}",
            answer=self.answer,
        )

    @property
    def kind(self) -> str:
        """Which attention, as a title begins with it."""
        return "Attention in" if self.of == "self" else f"{NAMES[self.of]} in"

    def arrays(self) -> dict[str, np.ndarray]:
        """The map of each head kept, with the number of its layer and its head, counted from 0."""
        return {
            "maps": self.maps.numpy(),
            "weights": self.weights.numpy(),
            "heads": np.array(self.heads),
            "layer": np.array(self.layer),
            **self.placed,
        }


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Sheet(Explanation):
    """Where several tokens looked in several layers: a line for each, all with one scale.

    Attributes:
        looks: of one picture, by one model.
    """

    looks: tuple[Look, ...]

    @property
    def columns(self) -> int:
        """The picture and the maps of one line."""
        return 1 + len(self.looks[0].heat_maps())

    def panels(self) -> list[Panel]:
        """For each question and layer the picture, and beside it each map."""
        return [panel for look in self.looks for panel in self.line(look)]

    def line(self, look: Look) -> list[Panel]:
        """The panels of one question and layer; the picture says which, for all of the line."""
        mark, used = look.asked.mark, look.asked.used
        asked = f"x = {used[0]}, y = {used[1]}" if used else look.asked.title or look.asked.words.split(" (")[0]
        asking = f"layer {look.layer + 1}, asked about\n{asked}"
        return [Panel(None, mark, asking), *(Panel(heat, mark) for heat in look.heat_maps())]

    def caption(self) -> Caption:
        """What is written on the drawing."""
        first = self.looks[0]
        layers = ", ".join(dict.fromkeys(str(look.layer + 1) for look in self.looks))
        asked = " and ".join(dict.fromkeys(look.asked.words for look in self.looks))
        return first.caption()._replace(
            title=f"{first.kind} layer{'s' if ',' in layers else ''} {layers} of {first.layers}",
            question=f"Where {asked} looked, in {Path(self.picture.name).name}",
            notes=grid_notes(first.grid, self.placement, first.unit),
            answer=self.answer,
        )

    def arrays(self) -> dict[str, np.ndarray]:
        """The maps of each line, with its layer (counted from 0) and the pixel asked about (-1, -1 where none was)."""
        return {
            "maps": np.stack([look.maps.numpy() for look in self.looks]),
            "heads": np.array(self.looks[0].heads),
            "layers": np.array([look.layer for look in self.looks]),
            "asked": np.array([look.asked.used or (-1, -1) for look in self.looks]),
            **self.placed,
        }


def grid_notes(grid: tuple[int, int], placement: Placement, unit: str = "patch") -> tuple[str, ...]:
    """How fine a map is, and what even means on it."""
    rows, columns = grid
    down, across, several = placement.size[0] // rows, placement.size[1] // columns, plural(unit)
    return (
        f"{rows} by {columns} {several} of {down} by {across} pixels of the model's input; nothing is smoothed.",
        f"Even: if the {several}, and nothing else, were looked at alike, each would get 1/{rows * columns}.",
    )


def plural(unit: str) -> str:
    """Several of what has a place in the picture."""
    return f"{unit}es" if unit == "patch" else f"{unit}s"


def detector_in(model: nn.Module) -> AsksQueries | None:
    """A model that asks queries, or the one that a model is built on; none where there is none."""
    return next((part for part in model.modules() if isinstance(part, AsksQueries)), None)


def encode(model: nn.Module, images: Float[Tensor, "batch channels height width"]) -> Tokens:
    """The tokens of a model, which know where they lie in the picture.

    Raises:
        ExplanationError: this model does not say.
    """
    if (detector := detector_in(model)) is not None:
        return detector.encode(images).tokens
    if not isinstance(model, Encoder):
        raise ExplanationError(
            f"{type(model).__name__} does not say where its tokens lie in the picture: it has no encode(images)."
        )
    return model.encode(images)


def first_token(model: nn.Module, tokens: Tokens) -> Asked:
    """Who is asked when nobody says: the class token where the head reads it, or else all patches.

    A model may say by `reads_class_token` whether its head does; unless it says, a model with a class token reads it.
    """
    has = getattr(model, "class_token", None) is not None
    if getattr(model, "reads_class_token", has):
        return Asked([0], "the class token")
    why = "the head of this model does not read its class token" if has else "this model has no class token"
    return Asked(list(range(tokens.prefix, tokens.x.shape[1])), f"the average patch ({why})")


def own_layers(model: nn.Module) -> tuple[str, list[str]]:
    """The attention of a picture's tokens to each other: of an encoder, or of the only stack; and its layers by name.

    Raises:
        ExplanationError: nothing here attends.
    """
    there = kinds(model)
    of = "encoder" if "encoder" in there else next(iter(there))
    return of, there[of]


def check_head(head: Any) -> None:
    """Refuse what is neither the number of a head nor a word for several."""
    number = isinstance(head, int) and not isinstance(head, bool)
    if not number and not (isinstance(head, str) and head in ("mean", "all")):
        raise ExplanationError(f"head={head!r} names no head. Give 'mean', 'all' or a whole number such as 0.")


def pixel_at(at: Any) -> Pixel:
    """The pixel that holds a point.

    Raises:
        ExplanationError: it is not two finite numbers.
    """
    numbers = tuple(at) if isinstance(at, Sequence) else ()
    real = [number for number in numbers if isinstance(number, Real) and not isinstance(number, bool)]
    if len(numbers) != 2 or len(real) != 2 or not all(map(math.isfinite, real)):
        raise ExplanationError(f"at={at!r} is no point. Give two finite numbers, x then y, such as (410, 37).")
    return math.floor(float(real[0])), math.floor(float(real[1]))


def nearest_seen(pixel: Pixel, placement: Placement) -> Pixel:
    """The pixel of the file nearest to one, of those whose centres the model reads."""
    left, top, right, bottom = (math.ceil(side - 0.5) for side in visible(placement))
    x, y = pixel
    return max(left, min(x, right - 1)), max(top, min(y, bottom - 1))


def on_cells(model: nn.Module, placement: Placement, tokens: Tokens) -> tuple[Placement, str]:
    """The way to all that the tokens of a picture cover, and what each of them is called.

    The cells of a map reach beyond the picture at the right and at the bottom, where its sides do not divide by them.
    """
    if (detector := detector_in(model)) is None:
        return placement, "patch"
    rows, columns = (cells * step for cells, step in zip(tokens.grid, detector.stride, strict=True))
    return placement.then(Placement.crop(placement.size, 0, 0, (rows, columns))), "cell"


def patch_under(at: Point, picture: Picture, placement: Placement, tokens: Tokens, unit: str = "patch") -> Asked:
    """The patch that holds a pixel of the file, or the nearest pixel of it that the model reads.

    Raises:
        ExplanationError: the pixel is not in the picture.
    """
    wanted = pixel_at(at)
    rows, columns = placement.source
    if not (0 <= wanted[0] < columns and 0 <= wanted[1] < rows):
        raise ExplanationError(
            f"There is no pixel x={wanted[0]}, y={wanted[1]} in {picture.name}, which has {columns} x {rows} pixels: "
            f"x runs from 0 to {columns - 1} and y from 0 to {rows - 1}."
        )
    x, y = used = nearest_seen(wanted, placement)
    patch = placement.size[0] // tokens.grid[0], placement.size[1] // tokens.grid[1]
    inside = placement.forward(torch.tensor([x + 0.5, y + 0.5], dtype=torch.float64)).tolist()
    # where less than a pixel is read, no centre is inside; its edge then is
    across, down = (min(max(place, 0), side - 0.5) for place, side in zip(inside, placement.size[::-1], strict=True))
    token = token_at(across, down, tokens.grid, patch, tokens.prefix)
    left, top, right, bottom = patch_box(token, tokens.grid, patch, tokens.prefix)
    corners = torch.tensor([[left, top], [right, top], [right, bottom], [left, bottom]], dtype=torch.float64)
    moved = "" if used == wanted else f" (the nearest point that the model sees to {wanted[0]}, {wanted[1]})"
    words = f"the {unit} at x = {x}, y = {y}{moved}"
    return Asked([token], words, Question((x + 0.5, y + 0.5), placement.back(corners)), wanted, used)


@torch.inference_mode()
def look(
    model: nn.Module,
    preprocessing: PicturePreprocessing,
    picture: Picture | Tensor,
    *,
    at: Sequence[Point | None] = (None,),
    layers: Layers | None = None,
    head: Head = "mean",
) -> list[Look]:
    """Ask a model where it looked in a picture, several things at once.

    The model is not touched: a twin that shares its weights is run, once. Each question costs one row of attention in
    each layer.

    Args:
        model: anything made of `vitrail` attention that turns images into `Tokens` by `encode(images)`; of a detector
            the encoder is asked.
        preprocessing: how the picture becomes what it reads.
        picture: what is shown to it; uint8 pixels (channels, rows, columns) where it has channels that no file has.
        at: the pixels to ask about, x then y, in the file as displayed, counted from 0; `None` asks the class token,
            or the average patch where the head does not read a class token. A pixel that the model does not see,
            because it was cropped away, is replaced by the nearest one that it does; `asked` says so.
        layers: by number (negative ones count from the end), by name or pattern; all unless given.
        head: a number, `"mean"`, or `"all"` to see each.

    Returns:
        For each question, in their order, one answer for each layer, in the model's order.

    Raises:
        ExplanationError: nothing here attends; or there is no such layer, head or pixel.
    """
    check_head(head)
    of, every = own_layers(model)
    names = chosen_among(every, layers)
    prepared = preprocessing(picture)
    picture = picture if isinstance(picture, Picture) else visible_channels(picture)
    images = prepared.pixels[None].to(next(model.parameters()))
    tokens = encode(model, images)
    placement, unit = on_cells(model, prepared.placement, tokens)
    questions = [
        first_token(model, tokens) if pixel is None else patch_under(pixel, picture, placement, tokens, unit)
        for pixel in at
    ]
    rows = sorted({row for asked in questions for row in asked.rows})
    twin, records = recording(model, names, rows, [head] if isinstance(head, int) else None)
    encode(twin.eval(), images)

    def answered(asked: Asked, name: str) -> Look:
        record = records[name]
        kept = record.maps[-1][0][:, [rows.index(row) for row in asked.rows]]
        return Look(
            picture=picture,
            placement=placement,
            grid=tokens.grid,
            prefix=tokens.prefix,
            of=of,
            unit=unit,
            asked=asked,
            layer=every.index(name),
            layers=len(every),
            head=head,
            heads=record.heads,
            weights=kept.mean(dim=1).cpu().double(),
        )

    return [answered(asked, name) for asked in questions for name in names]


def explain(
    model: nn.Module,
    preprocessing: PicturePreprocessing,
    picture: Picture | Tensor,
    *,
    at: Point | None = None,
    layer: int | str = -1,
    head: Head = "mean",
) -> Look:
    """Ask a model where it looked in a picture: one question, one layer; arguments and errors are those of `look`."""
    names = chosen_among(own_layers(model)[1], layer)
    if len(names) > 1:
        raise ExplanationError(f"{layer!r} means {len(names)} layers. Ask one of them: {', '.join(names)}.")
    [found] = look(model, preprocessing, picture, at=[at], layers=layer, head=head)
    return found


def cost(looks: Sequence[Look]) -> str:
    """What the answers to some questions took to keep, beside what all of the attention would have taken."""
    first = looks[0]
    heads, tokens = first.weights.shape
    rows = len({(one.layer, row) for one in looks for row in one.asked.rows})
    layers = len({one.layer for one in looks})
    kept, everything = (f"{4 * heads * tokens * count / 1000:,.1f} kB" for count in (rows, layers * tokens))
    return (
        f"For this drawing {many(rows, 'row')} of attention took {kept} of memory; all rows of {many(layers, 'layer')} "
        f"would take {everything}."
    )


def sheet(looks: Sequence[Look]) -> Explanation:
    """Several answers about one picture as one drawing; a single one is drawn as it is."""
    first = looks[0]
    if len(looks) == 1:
        return first
    return Sheet(picture=first.picture, placement=first.placement, answer=first.answer, looks=tuple(looks))
