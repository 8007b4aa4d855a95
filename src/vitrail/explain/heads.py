"""What each head does: how far it looks, how widely, how much at itself, and what is lost without it.

The first three are those of `looks`; what a head is worth is Michel, Levy and Neubig, "Are Sixteen Heads Really Better
than One?", NeurIPS 2019, section 3.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from vitrail.core.attention import Attention
from vitrail.core.kernels import Kernel
from vitrail.core.precision import fast_float32
from vitrail.errors import ExplanationError, many
from vitrail.explain.attention import encode
from vitrail.explain.drawing import COLOURS
from vitrail.explain.explanation import Drawn
from vitrail.explain.figures import INK, MARGIN, QUIET, high, new_figure, wrapped
from vitrail.explain.kinds import NAMES, Of, kinds
from vitrail.explain.looks import Ground, Looks, Patches, Pieces, looking
from vitrail.explain.seam import Around, attentions, check_within, own_twin, with_kernels
from vitrail.samples import Batch, Words
from vitrail.tasks.task import Task, weight_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DIVERGING = "RdBu_r"  # white at 0, so that what changes nothing is not seen
CELL = 0.24  # inches, down: of one head in a heat map
LEAST_PANEL, WIDEST_PANEL = 2.1, 2.9  # inches
ABOVE, BELOW, NAMED = 0.62, 0.62, 0.3  # inches around the maps of a stack, and above them for its name
TELLING = 0.4  # inches that a cell is wide at least in which its number is written
FEW = 16  # heads or layers that are all numbered
SPARED = 0.01  # share of the loss: a head whose removal raises it by less can go
TELLS = 0.1  # share of the loss that the deepest colours mean at least, so that what changes nothing stays pale

WHOSE: dict[Of, str] = {
    "self": "the model",
    "encoder": "the encoder",
    "decoder": "the decoder",
    "cross": "the cross-attention",
}
ELSEWHERE = "Another text is looked at than that which looks, so nothing in it is near, far or itself."
LOSSES = {
    "translate": "each piece of the true translation, from the text and the true pieces before it",
    "translate-parallel": "hidden pieces of the true translation, and a tenth of that at its length",
    "causal-lm": "each piece, from those before it",
    "masked-lm": "each hidden piece",
    "classify": "the label of each text",
    "tag": "the tag of each word",
    "answer": "where each answer begins and ends",
}  # what the loss of a task is the mean of


class AblatingKernel(Around):
    """Answers with the kernel it is given, and silences some heads: whatever they say is zero.

    With no head to silence, it is the same answer to the last bit.
    """

    def __init__(self, kernel: Kernel, removed: Sequence[int]) -> None:
        super().__init__(kernel)
        self.removed = tuple(removed)

    def after(
        self, answer: Tensor, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scale: float
    ) -> Float[Tensor, "batch heads query value_width"]:
        return answer.index_fill(1, torch.tensor(self.removed, dtype=torch.long, device=answer.device), 0.0)


def without_heads(model: nn.Module, removed: Iterable[tuple[int, int]]) -> nn.Module:
    """A twin of a model in which some heads say nothing; it shares the model's parameters, and the model stays.

    Args:
        model: a plain module.
        removed: layer and head of each, both counted from 0.

    Raises:
        ExplanationError: nothing here attends, or there is no such layer or head.
    """
    names, removed = list(attentions(model)), list(removed)
    check_within("layer", (layer for layer, _ in removed), len(names), type(model).__name__)

    def silenced(name: str, attention: Attention) -> AblatingKernel:
        silent = sorted({head for layer, head in removed if names[layer] == name})
        check_within("head", silent, attention.heads, name)
        return AblatingKernel(attention.kernel, silent)

    return with_kernels(model, silenced, [names[layer] for layer in sorted({layer for layer, _ in removed})])


class HeadMap(NamedTuple):
    """One measure of all heads, and how it is drawn.

    Attributes:
        title: what is measured; `unit`: in what.
        values: a row for each layer.
        colours: a colour map.
        limits: the values of its first and its last colour.
        even: what attention that is spread evenly has, to be marked; `None` where that says nothing.
        written: how a number is written.
    """

    title: str
    unit: str
    values: Float[np.ndarray, "layers heads"]
    colours: str
    limits: tuple[float, float]
    even: float | None
    written: str


class HeadPlace(NamedTuple):
    """A head: of which stack, of which of its layers, and which of theirs; all counted from 0."""

    stack: int
    layer: int
    head: int


@dataclass(frozen=True, kw_only=True, eq=False)
class StackHeads:
    """What each head does of the layers that look at the same. Layers and heads are counted from 0.

    Attributes:
        of: whose attention: `self`, or of a model that translates `encoder`, `decoder` or `cross`.
        distance: how far tokens look on average; attention to those without a place is left out, and the rest taken
            as all. NaN in `cross`, where a text is looked at from another.
        entropy: how widely a token looks, as a share of the largest entropy there can be: 1 is evenly, 0 is at one
            token alone.
        diagonal: how much a token looks at itself; NaN in `cross`.
        loss: how much the loss of the task rises when the head says nothing.
        even_distance, even_diagonal: what both are where attention is spread evenly over all that may be looked at.
    """

    of: Of = "self"
    distance: Float[np.ndarray, "layers heads"]
    entropy: Float[np.ndarray, "layers heads"]
    diagonal: Float[np.ndarray, "layers heads"]
    loss: Float[np.ndarray, "layers heads"]
    even_distance: float
    even_diagonal: float

    @property
    def placed(self) -> bool:
        """Whether those who look stand among those that are looked at."""
        return bool(np.isfinite(self.distance).any())

    def arrays(self) -> dict[str, np.ndarray]:
        """The measures that there are."""
        measures = {"entropy": self.entropy, "loss": self.loss}
        return {"distance": self.distance, "diagonal": self.diagonal, **measures} if self.placed else measures


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Heads(Drawn):
    """What each head of a model does, on average over some pictures or texts.

    Attributes:
        stacks: the heads, by what they look at.
        base_loss: the loss of the task with all heads.
        count: how many pictures or texts were shown.
        ground: what they are, and what distance is counted in.
        measured: what the loss is the mean of, in a sentence; empty where it need not be said.
    """

    stacks: tuple[StackHeads, ...]
    base_loss: float
    count: int
    ground: Ground
    measured: str = ""

    @property
    def losses(self) -> Float[np.ndarray, " heads"]:
        """How much the loss rises without each head, stack by stack."""
        return np.concatenate([stack.loss.flatten() for stack in self.stacks])

    @property
    def spared(self) -> int:
        """How many heads can go, one at a time, without the loss rising by a hundredth of it."""
        return int((self.losses < SPARED * self.base_loss).sum())

    @property
    def samples(self) -> str:
        """How many pictures or texts were shown, in words."""
        return many(self.count, self.ground.sample)

    def arrays(self) -> dict[str, np.ndarray]:
        """The four measures (layers x heads), the loss with all heads, and how many pictures or texts were shown.

        Of a model that translates the measures are those of each stack, such as `cross_loss`; the cross-attention has
        no distance and no diagonal.
        """
        measures = {
            name if stack.of == "self" else f"{stack.of}_{name}": values
            for stack in self.stacks
            for name, values in stack.arrays().items()
        }
        return {
            **measures,
            "base_loss": np.array(self.base_loss),
            f"{self.ground.sample}s": np.array(self.count),
        }

    def table(self) -> list[dict[str, Any]]:
        """A row for each head, layers and heads counted from 1; `of` is empty where there is but one stack."""
        return [
            {
                "of": "" if stack.of == "self" else stack.of,
                "layer": layer + 1,
                "head": head + 1,
                "distance": float(stack.distance[layer, head]),
                "entropy": float(stack.entropy[layer, head]),
                "diagonal": float(stack.diagonal[layer, head]),
                "loss": float(stack.loss[layer, head]),
            }
            for stack in self.stacks
            for layer, head in np.ndindex(*stack.loss.shape)
        ]

    def extreme(self, which: Callable) -> HeadPlace:
        """The head whose loss one of numpy's `argmin`, `argmax` finds."""
        place = int(which(self.losses))
        for number, stack in enumerate(self.stacks):
            if place < stack.loss.size:
                layer, head = np.unravel_index(place, stack.loss.shape)
                return HeadPlace(number, int(layer), int(head))
            place -= stack.loss.size
        raise AssertionError("no such head")

    def rise(self, place: HeadPlace) -> float:
        """How much the loss rises without a head."""
        return float(self.stacks[place.stack].loss[place.layer, place.head])

    def called(self, place: HeadPlace) -> str:
        """A head by its number, and its stack where there are several."""
        named = f"head {place.head + 1} of layer {place.layer + 1}"
        return f"{named} of {WHOSE[self.stacks[place.stack].of]}" if len(self.stacks) > 1 else named

    def local(self, number: int) -> str:
        """Which heads of a stack look nearest and furthest, in a sentence."""
        stack = self.stacks[number]
        among = f" in {WHOSE[stack.of]}" if len(self.stacks) > 1 else ""
        near, far = place_of(stack.distance, np.nanargmin), place_of(stack.distance, np.nanargmax)
        ground = self.ground
        return (
            f"Most local{among}: {called(near)}, whose {ground.tokens} look {stack.distance[near]:.3g} {ground.unit}s "
            f"away on average; most global: {called(far)}, with {stack.distance[far]:.3g} (evenly spread: "
            f"{stack.even_distance:.3g})."
        )

    def sentences(self) -> tuple[str, ...]:
        """What stands out, layers and heads counted from 1."""
        most, least = self.extreme(np.nanargmax), self.extreme(np.nanargmin)
        after = self.base_loss + self.rise(most)
        return (
            *(self.local(number) for number, stack in enumerate(self.stacks) if stack.placed),
            f"Removing {self.called(most)} {'helps least' if self.rise(most) < 0 else 'costs most'}: "
            f"{changed(self.rise(most))}, {both(self.base_loss, after)}over {self.samples}.",
            f"Removing {self.called(least)} {'helps most' if self.rise(least) < 0 else 'costs least'}: "
            f"{changed(self.rise(least))}.",
            f"{self.spared} of {many(self.losses.size, 'head')} can go, one at a time, without the loss rising by "
            f"{SPARED:.0%} of it.",
            *([f"The loss is the mean surprise at {self.measured}, in nats."] if self.measured else []),
        )

    def maps(self, stack: StackHeads) -> list[HeadMap | None]:
        """What is drawn of a stack, from left to right; `None` for what it does not have."""
        change = max(float(np.nanmax(np.abs(self.losses))), TELLS * self.base_loss, 1e-12)
        widely = HeadMap(
            "How widely it looks", "entropy, share of the largest", stack.entropy, COLOURS, (0.0, 1.0), None, ".2f"
        )
        lost = HeadMap(
            "What is lost without it",
            f"rise from {self.base_loss:.3g}; deepest: {change / (self.base_loss or 1):.0%} of it",
            stack.loss,
            DIVERGING,
            (-change, change),
            None,
            f"+.{digits_of(self.losses)}f",
        )
        if not stack.placed:
            return [None, widely, None, lost]
        furthest = max(float(np.nanmax(stack.distance)), 1.1 * stack.even_distance)
        itself = max(float(stack.diagonal.max()), min(4 * stack.even_diagonal, 1.0))
        far = HeadMap(
            "How far it looks",
            f"{self.ground.unit}s; line: evenly spread",
            stack.distance,
            COLOURS,
            (0.0, furthest),
            stack.even_distance,
            ".0f" if furthest >= 100 else ".1f",
        )
        own = HeadMap(
            "How much at itself",
            "attention to itself; line: evenly",
            stack.diagonal,
            COLOURS,
            (0.0, itself),
            stack.even_diagonal,
            ".1%",
        )
        return [far, widely, own, lost]

    @property
    def about(self) -> str:
        """How large the model is, and what it was shown."""
        heads, layers = self.losses.size, sum(len(stack.loss) for stack in self.stacks)
        size = f"{many(heads, 'head')} in {many(layers, 'attention')}"  # a layer of a decoder has two
        if len(self.stacks) == 1:
            size = f"{many(layers, 'layer')} of {many(heads // layers, 'head')}"
        return f"{size}, mean over {self.samples} {self.ground.size}".rstrip()

    def figure(self) -> "Figure":
        """Four heat maps side by side, for each stack: a row for each layer, a column for each head."""
        several = len(self.stacks) > 1
        most = max(stack.loss.shape[1] for stack in self.stacks)
        wide = min(max(CELL * 1.1 * most, LEAST_PANEL), WIDEST_PANEL)
        high_panels = [max(CELL * stack.loss.shape[0], 0.9) for stack in self.stacks]
        left, gap, above, below = MARGIN + 0.3, 0.35, ABOVE + NAMED * several, BELOW
        width = left + 4 * (wide + gap) - gap + MARGIN
        top = 0.4 + high(10)
        notes = [line for said in self.sentences() for line in wrapped(said, width - 2 * MARGIN, 8)]
        foot = 0.3 + high(8) * len(notes)
        height = top + sum(high_panels) + (above + below) * len(self.stacks) + foot
        figure = new_figure(width, height)
        figure.text(MARGIN / width, 1 - 0.4 / height, "What each head does", fontsize=13, fontweight="bold", color=INK)
        figure.text(MARGIN / width, 1 - top / height, self.about, fontsize=10, color=INK)
        bottom = height - top
        for stack, tall in zip(self.stacks, high_panels, strict=True):
            if several:
                name = NAMES[stack.of]
                up = (bottom - 0.3) / height
                figure.text(MARGIN / width, up, name, fontsize=11, fontweight="bold", color=INK)
            bottom -= above + tall
            maps = self.maps(stack)
            labelled = next(number for number, map in enumerate(maps) if map is not None)
            for number, map in enumerate(maps):
                across = (left + number * (wide + gap)) / width
                if map is not None:
                    axes = figure.add_axes((across, bottom / height, wide / width, tall / height))
                    bar = figure.add_axes((across, (bottom - 0.42) / height, wide / width, 0.1 / height))
                    show_heads(axes, bar, map, first=number == labelled)
            if not stack.placed:
                for line, words in enumerate(wrapped(ELSEWHERE, wide, 8)):
                    up = (bottom + tall - 0.12 - high(8) * line) / height
                    figure.text(left / width, up, words, fontsize=8, color=QUIET)
            bottom -= below
        for line, note in enumerate(notes):
            down = (0.22 + high(8) * (len(notes) - 1 - line)) / height
            figure.text(MARGIN / width, down, note, fontsize=8, color=QUIET, parse_math=False)
        return figure


def place_of(values: Float[np.ndarray, "layers heads"], which: Callable) -> tuple[int, int]:
    """Layer and head that one of numpy's `argmin`, `argmax` finds."""
    layer, head = np.unravel_index(int(which(values)), values.shape)
    return int(layer), int(head)


def digits_of(values: Float[np.ndarray, "..."] | float) -> int:
    """How many digits after the point show the largest of some numbers with two that tell; at most four."""
    largest = float(np.nanmax(np.abs(values)))
    return min(max(1 - math.floor(math.log10(largest)), 0), 4) if largest > 0 else 0


def written(value: float, form: str) -> str:
    """A number in a form; without a sign where nothing but zeros would be left of it."""
    said = format(value, form)
    return said if any(digit in said for digit in "123456789") else "0"


def both(before: float, after: float) -> str:
    """Two numbers with so many digits that they differ, if they do."""
    for digits in range(3, 8):
        one, other = f"{before:.{digits}g}", f"{after:.{digits}g}"
        if one != other:
            return f"from {one} to {other} "
    return ""


def called(place: tuple[int, int]) -> str:
    """A head by its number."""
    return f"head {place[1] + 1} of layer {place[0] + 1}"


def changed(loss: float) -> str:
    """What happens to the loss."""
    if loss == 0:
        return "the loss stays"
    return f"the loss {'rises' if loss > 0 else 'falls'} by {abs(loss):.3g}"


def show_heads(axes: "Axes", bar: "Axes", map: HeadMap, *, first: bool) -> None:
    """One measure as a heat map with its colour bar below it."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    layers, heads = map.values.shape
    drawn = axes.imshow(map.values, cmap=map.colours, vmin=map.limits[0], vmax=map.limits[1], aspect="auto")
    axes.set_xticks(range(0, heads, -(-heads // FEW)), [str(head + 1) for head in range(0, heads, -(-heads // FEW))])
    axes.set_yticks(range(0, layers, -(-layers // FEW)), [str(row + 1) for row in range(0, layers, -(-layers // FEW))])
    axes.tick_params(length=0, labelsize=7, labelcolor=INK, labelleft=first)
    axes.xaxis.tick_top()
    axes.xaxis.set_label_position("top")
    axes.set_xlabel("head", fontsize=7, color=QUIET, labelpad=2)
    axes.set_title(map.title, loc="left", fontsize=9, fontweight="bold", color=INK, pad=10)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set_xticks(np.arange(heads - 1) + 0.5, minor=True)
    axes.set_yticks(np.arange(layers - 1) + 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=0.8)
    axes.tick_params(which="minor", length=0)
    if first:
        axes.set_ylabel("layer", fontsize=7, color=QUIET, labelpad=2)
    if axes.bbox.width / axes.figure.dpi / heads >= TELLING:
        for (layer, head), value in np.ndenumerate(map.values):
            red, green, blue, _ = drawn.to_rgba(value)
            ink = INK if 0.3 * red + 0.59 * green + 0.11 * blue > 0.55 else "white"
            axes.text(head, layer, written(value, map.written), ha="center", va="center", fontsize=6.5, color=ink)
    shares = FuncFormatter(lambda value, _: f"{100 * value:.3g}%" if map.written.endswith("%") else f"{value:.3g}")
    scale = axes.figure.colorbar(drawn, cax=bar, orientation="horizontal", ticks=MaxNLocator(4), format=shares)
    scale.outline.set_visible(False)
    bar.tick_params(labelsize=7, length=2, color=QUIET, labelcolor=INK)
    bar.set_title(map.unit, loc="left", fontsize=7, color=QUIET, pad=3)
    if map.even is not None:
        bar.axvline(map.even, color="white", linewidth=2.5)
        bar.axvline(map.even, color=INK, linewidth=0.8)


def moved(batch: Batch, device: torch.device) -> Batch:
    """A batch where the model is."""
    return batch._replace(inputs=batch.inputs.to(device), target=batch.target.to(device))


def cut(words: Words, row: int, stop: int) -> Words:
    """One text of several, without what stands behind so many of its pieces."""
    some = slice(row, row + 1), slice(stop)
    return Words(words.ids[some], words.valid[some], None if words.segments is None else words.segments[some])


def stop_of(words: Words, row: int) -> int:
    """Behind which of its pieces a text has padding only."""
    return max([1, *(words.valid[row].nonzero()[:, 0] + 1).tolist()])


def one_by_one(batch: Batch) -> Iterator[Batch]:
    """The texts of a batch without the padding behind them; pictures, which need none, stay together.

    So nobody writes who has ended: where texts are of different lengths, a shorter one is handed its end too.
    """
    inputs, target = batch.inputs, batch.target
    if not isinstance(inputs, Words):
        yield batch
        return
    for row in range(inputs.ids.shape[0]):
        stop = stop_of(inputs, row)
        if isinstance(target, Words):
            wanted = cut(target, row, stop_of(target, row))
        else:
            piece_by_piece = target.shape == inputs.ids.shape and not target.is_floating_point()  # which labels are
            wanted = target[row : row + 1, :stop] if piece_by_piece else target[row : row + 1]
        yield batch._replace(inputs=cut(inputs, row, stop), target=wanted, index=batch.index[row : row + 1])


def unsmoothed(task: Task) -> Task:
    """The task without label smoothing, so that its loss says how likely the truth is."""
    if is_dataclass(task) and any(field.name == "smoothing" for field in fields(task)):
        return replace(task, smoothing=0.0)  # pyright: ignore
    return task


def check_one_size(model: nn.Module, batch: Batch) -> None:
    """Refuse pictures that are read each at its own size.

    Raises:
        ExplanationError: says what to ask instead.
    """
    if not isinstance(batch.inputs, Tensor | Words):
        raise ExplanationError(
            f"Heads are compared over pictures of one size, and this {type(model).__name__} reads each at its own. See "
            f"what each does in one picture: leave --heads alone out, and type the picture with --heads all."
        )


def ground_of(model: nn.Module, batch: Batch) -> Ground:
    """What a model is shown: texts, or pictures of the size of the first."""
    if isinstance(batch.inputs, Words):
        return Pieces()
    rows, columns = batch.inputs.shape[2:]
    return Patches.of(encode(own_twin(model).eval(), batch.inputs[:1]), (rows, columns))


def stacked(model: nn.Module) -> dict[Of, list[str]]:
    """The names of a model's attention layers by what looks at what; those that look at themselves come first.

    Raises:
        ExplanationError: nothing here attends, or the layers of one kind have different numbers of heads.
    """
    layers, there = attentions(model), kinds(model)
    found: dict[Of, list[str]] = {of: there[of] for of in WHOSE if there.get(of)}
    for names in found.values():
        if len(numbers := {layers[name].heads for name in names}) > 1:
            raise ExplanationError(
                f"The layers of this model have different numbers of heads ({', '.join(map(str, sorted(numbers)))}), "
                f"so they do not fit into one table."
            )
    return found


@torch.inference_mode()
def examine_heads(
    model: nn.Module, task: Task, batches: Iterable[Batch], say: Callable[[str], None] | None = None
) -> Heads:
    """Measure what each head of a model does.

    The model is not touched: twins that share its weights are run, in eval mode, once to measure attention (texts one
    by one), once as they are, and once for each head to do without it.

    Args:
        model: reads texts; or turns images into `Tokens` by `encode(images)`, and all of its attention is over them.
        task: whose loss is asked, without label smoothing.
        batches: labelled pictures, all of one size, or texts, as a `Loader` or a `TextLoader` gives them
            (`loader.epoch(0)`), prepared for the model.
        say: is told after each batch how far it is.

    Raises:
        ExplanationError: nothing here attends; not all layers over the same tokens, or of one kind not with the same
            number of heads; or there are no pictures or texts.

    Sources: Dosovitskiy et al., ICLR 2021, figure 7 (distance); Michel et al., NeurIPS 2019, section 3.2 (loss).
    """
    model = getattr(model, "_orig_mod", model)  # torch.compile wraps the module that it compiles
    layers, stacks, task = attentions(model), stacked(model), unsmoothed(task)
    device = next(model.parameters()).device
    looks = {name: Looks(attention.heads) for name, attention in layers.items()}
    heads = [(layer, head) for layer, attention in enumerate(layers.values()) for head in range(attention.heads)]
    lost = dict.fromkeys(heads, 0.0)
    base, weight, count, ground = 0.0, 0, 0, None

    def loss(twin: nn.Module, batch: Batch) -> float:
        chance = torch.Generator(device).manual_seed(0)  # the same for each head, in whatever task draws any
        return float(task.loss(twin.eval(), batch, chance).total) * weight_of(task, batch)

    with fast_float32():
        for batch in batches:
            check_one_size(model, batch)
            batch = moved(batch, device)
            ground = ground_of(model, batch) if ground is None else ground
            twin = looking(model, ground, list(looks.values()), stacks.get("cross", ()))
            for part in one_by_one(batch):
                loss(twin, part)
            base += loss(own_twin(model), batch)
            for place in heads:
                lost[place] += loss(without_heads(model, [place]), batch)
            weight, count = weight + weight_of(task, batch), count + batch.index.shape[0]
            if say is not None:
                say(f"{many(count, ground.sample)} shown to the model, and to it without each of {len(heads)} heads.")
    if ground is None:
        raise ExplanationError("There are no pictures and no texts to examine the heads by.")
    numbers = {name: number for number, name in enumerate(layers)}

    def measured(of: Of, names: list[str]) -> StackHeads:
        distance, entropy, diagonal = (
            torch.stack(values).numpy() for values in zip(*(looks[name].means() for name in names), strict=True)
        )
        rise = [[lost[numbers[name], head] - base for head in range(layers[name].heads)] for name in names]
        return StackHeads(
            of=of,
            distance=distance[:, :-1],
            entropy=entropy[:, :-1],
            diagonal=diagonal[:, :-1],
            loss=np.array(rise) / weight,
            even_distance=float(distance[:, -1].mean()),
            even_diagonal=float(diagonal[:, -1].mean()),
        )

    return Heads(
        stacks=tuple(measured(of, names) for of, names in stacks.items()),
        base_loss=base / weight,
        count=count,
        ground=ground,
        measured=LOSSES.get(task.name, "") if isinstance(ground, Pieces) else "",
    )
