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
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from vitrail.core.tokens import Tokens
from vitrail.data.images import PictureArray
from vitrail.errors import ExplanationError
from vitrail.explain.drawing import KINDS, Caption, HeatMap, Question, check_place, draw, visible
from vitrail.explain.recording import attentions, chosen_layers, recording
from vitrail.geometry.grid import patch_box, token_at
from vitrail.geometry.placement import Placement
from vitrail.preprocessing import Preprocessing
from vitrail.samples import Picture

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Head = int | Literal["mean", "all"]
Point = tuple[int | float, int | float]  # x, then y
Pixel = tuple[int, int]  # x, then y, counted from 0
LEAST = (1200, 1200)  # rows and columns to which a picture is decoded for drawing; a page shows no more


@runtime_checkable
class Encoder(Protocol):
    """A model whose tokens can be had."""

    def encode(self, images: Tensor) -> Tokens: ...


class Asked(NamedTuple):
    """A question in terms of tokens.

    Attributes:
        rows: the tokens that are asked; their answers are averaged.
        words: how to say it.
        mark: where it is in the picture, if it is there.
        wanted: the pixel that somebody named, if one was named.
        used: the pixel that was asked: `wanted`, or the nearest that the model sees.
    """

    rows: list[int]
    words: str
    mark: Question | None = None
    wanted: Pixel | None = None
    used: Pixel | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Explanation:
    """Where a token looked.

    Attributes:
        picture: what was shown.
        placement: from its pixels, as displayed, to those that the model read.
        grid: rows and columns of patches.
        prefix: how many tokens stand before the patches and have no place in the picture.
        asked: the question.
        layer: which of the layers, counted from 0.
        layers: how many there are.
        head: what is drawn: the `"mean"` of the heads kept, `"all"` of them, or the number of the only one.
        heads: the numbers of the heads kept.
        weights: how much was looked at each token; a row for each head kept.
        answer: what the model says of the picture, to be written on the drawing; empty where nobody has told.
    """

    picture: Picture
    placement: Placement
    grid: tuple[int, int]
    prefix: int
    asked: Asked
    layer: int
    layers: int
    head: Head
    heads: tuple[int, ...]
    weights: Float[Tensor, "heads tokens"]
    answer: str = ""

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

    def panels(self) -> list[HeatMap]:
        """What is drawn: one map, or the mean and then every head."""
        if isinstance(self.head, int):
            return [HeatMap(f"head {self.head}", self.map)]
        mean = HeatMap(f"mean of {len(self.heads)} heads", self.map)
        if self.head == "mean":
            return [mean]
        return [mean, *(HeatMap(f"head {head}", map) for head, map in zip(self.heads, self.maps, strict=True))]

    def caption(self) -> Caption:
        """What is written on the drawing."""
        rows, columns = self.grid
        down, across = self.placement.size[0] // rows, self.placement.size[1] // columns
        notes = [
            f"{rows} by {columns} patches of {down} by {across} pixels of the model's input; nothing is smoothed.",
            f"Even: every patch is looked at alike and gets 1/{rows * columns} of the attention.",
        ]
        if self.prefix:
            which = "the token" if self.prefix == 1 else f"the {self.prefix} tokens"
            which = f"{which} without a place in the picture (class token, registers)"
            notes.append(f"{self.unplaced:.1%} goes to {which}.")
        return Caption(
            title=f"Attention in layer {self.layer} (of 0 to {self.layers - 1})",
            question=f"Where {self.asked.words} looks, in {Path(self.picture.name).name}",
            notes=tuple(notes),
            scale="share of the attention, per patch",
            answer=self.answer,
        )

    def figure(self) -> "Figure":
        """The drawing, as a matplotlib figure that belongs to no window."""
        picture = self.picture.read(least=LEAST)
        shrink = min(picture.height // LEAST[0], picture.width // LEAST[1])
        return draw(picture.reduce(max(shrink, 1)), self.placement, self.panels(), self.caption(), self.asked.mark)

    def save(self, path: str | Path) -> Path:
        """Draw it into a picture file, making its folder where there is none, and give the path.

        Raises:
            ExplanationError: the path does not end like a picture (.png, .jpg, .webp, .pdf, .svg), or is a folder.
        """
        path = Path(path)
        check_place(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        self.figure().savefig(path, format=KINDS[path.suffix.lower()])
        return path


def visible_channels(pixels: UInt8[Tensor, "channels rows columns"]) -> Picture:
    """The first three channels as colours, or the first as grey: what can be drawn of a picture with any channels."""
    return PictureArray(pixels[: 3 if pixels.shape[0] >= 3 else 1])


def encode(model: nn.Module, images: Float[Tensor, "batch channels height width"]) -> Tokens:
    """The tokens of a model, which know where they lie in the picture.

    Raises:
        ExplanationError: this model does not say.
    """
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


def patch_under(at: Point, picture: Picture, placement: Placement, tokens: Tokens) -> Asked:
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
    words = f"the patch at x = {x}, y = {y}{moved}"
    return Asked([token], words, Question((x + 0.5, y + 0.5), placement.back(corners)), wanted, used)


@torch.inference_mode()
def explain(
    model: nn.Module,
    preprocessing: Preprocessing,
    picture: Picture | Tensor,
    *,
    at: Point | None = None,
    layer: int | str = -1,
    head: Head = "mean",
) -> Explanation:
    """Ask a model where it looked in a picture.

    The model is not touched: a twin that shares its weights is run. One question costs one row of attention.

    Args:
        model: anything made of `vitrail` attention that turns images into `Tokens` by `encode(images)`.
        preprocessing: how the picture becomes what it reads.
        picture: what is shown to it; uint8 pixels (channels, rows, columns) where it has channels that no file has.
        at: the pixel to ask about, x then y, in the file as displayed, counted from 0. One that the model does not
            see, because it was cropped away, is replaced by the nearest one that it does; `asked` says so. Without
            it the class token is asked, or the average patch where the head does not read a class token.
        layer: by number (negative ones count from the end) or by name.
        head: a number, `"mean"`, or `"all"` to see each.

    Raises:
        ExplanationError: nothing here attends; or there is no such layer, head or pixel.
    """
    check_head(head)
    names = list(attentions(model))
    [name, *more] = chosen_layers(model, layer)
    if more:
        raise ExplanationError(f"{layer!r} means {1 + len(more)} layers. Ask one of them: {name}, {', '.join(more)}.")
    prepared = preprocessing(picture)
    picture = picture if isinstance(picture, Picture) else visible_channels(picture)
    images = prepared.pixels[None].to(next(model.parameters()))
    tokens = encode(model, images)
    asked = first_token(model, tokens) if at is None else patch_under(at, picture, prepared.placement, tokens)

    twin, records = recording(model, name, asked.rows, [head] if isinstance(head, int) else None)
    encode(twin.eval(), images)

    weights = records[name].maps[-1][0].mean(dim=1)
    return Explanation(
        picture=picture,
        placement=prepared.placement,
        grid=tokens.grid,
        prefix=tokens.prefix,
        asked=asked,
        layer=names.index(name),
        layers=len(names),
        head=head,
        heads=records[name].heads,
        weights=weights.double().cpu(),
    )
