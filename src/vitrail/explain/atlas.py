"""Where each query of a detector puts its boxes over a data set, and which queries have nothing to do.

A query is a slot that answers for at most one object of a picture. Over many pictures each comes to look after some
places and sizes of its own; one that never finds anything, or that repeats another, is paid for and not used.

Source: Carion et al., "End-to-End Object Detection with Transformers", ECCV 2020, section 4.3 and figure 7.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from vitrail.core.devices import to_device
from vitrail.core.packing import packed
from vitrail.core.precision import fast_float32
from vitrail.errors import ExplanationError, many, percent
from vitrail.explain.explanation import Drawn
from vitrail.explain.faithfulness import Pace
from vitrail.explain.figures import GAP, INK, MARGIN, QUIET, high, new_figure, wrapped
from vitrail.explain.objects import ByQuery, by_query, every_query
from vitrail.geometry.boxes import overlap, share, to_cxcywh
from vitrail.samples import Batch
from vitrail.tasks.task import Task

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SQUARES = 20  # slots that are drawn, as in the paper
OVERLAP = 0.5  # intersection over union from which two boxes are at one place
OFTEN = 0.5  # share of the pictures in which two slots are at one place, from which one repeats the other
WIDE = 0.6  # of the picture's area that an image-wide box covers at least
MODE = 0.05  # of the boxes of a slot that make a mode
ROOM = 1.6  # slots for each object of the fullest picture: the paper has 100 for COCO's 63
TENS = 10  # to which a number of slots is rounded up
TOLD = 6  # slots or pairs that are told by number
SQUARE = 1.75  # inches
TITLED = 0.34  # inches above a square
ACROSS = 5  # squares side by side
POINTS = 20_000.0  # square points of ink that the boxes of a slot have together, at most
LARGEST_POINT, SMALLEST_POINT = 9.0, 1.0  # square points
LEGEND = 0.95  # inches: the square of colours
GREEN, RED, BLUE = ((0.05, 0.62, 0.22), (0.86, 0.10, 0.10), (0.12, 0.22, 0.90))
SMALL, LARGE = 0.15, 0.6  # longer side of a box, up to which it is small, and from which large


class Pair(NamedTuple):
    """Two slots that look after the same.

    Attributes:
        first, second: their numbers.
        together: the share of the pictures in which their boxes are at one place.
        twice: in how many of them both answer for one object.
    """

    first: int
    second: int
    together: float
    twice: int


def colours(boxes: Float[np.ndarray, "*boxes 4"]) -> Float[np.ndarray, "*boxes 3"]:
    """Green for small boxes, red for large ones that are wide, blue for those that are tall, purple in between."""
    wide, tall = boxes[..., 2], boxes[..., 3]
    longer = np.maximum(np.maximum(wide, tall), 1e-9)
    lying = np.clip(0.5 + (wide - tall) / longer, 0, 1)[..., None]  # full colours where one side is twice the other
    large = np.clip((longer - SMALL) / (LARGE - SMALL), 0, 1)[..., None]
    green, red, blue = map(np.array, (GREEN, RED, BLUE))
    return (1 - large) * green + large * (lying * red + (1 - lying) * blue)


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Atlas(Drawn):
    """What all slots answer in all pictures of a data set.

    Attributes:
        boxes: centre x and y, width and height of each box; each picture is the unit square.
        scores: how much the model believes in each.
        labels: their classes.
        threshold: score from which a box counts as an object.
        marked: how many objects are marked in each picture; `None` where that is not known.
        called: the name of the model.
        data: what it was shown; empty where nobody has told.
        squares: how many slots are drawn, most used first; `None` for all.
    """

    boxes: Float[Tensor, "pictures queries 4"]
    scores: Float[Tensor, "pictures queries"]
    labels: Int[Tensor, "pictures queries"]
    threshold: float
    marked: Int[Tensor, " pictures"] | None = None
    called: str = "the model"
    data: str = ""
    squares: int | None = SQUARES

    @property
    def pictures(self) -> int:
        """How many."""
        return self.scores.shape[0]

    @property
    def queries(self) -> int:
        """How many slots."""
        return self.scores.shape[1]

    @property
    def answers(self) -> Bool[Tensor, "pictures queries"]:
        """Which boxes count as objects."""
        return self.scores >= self.threshold

    @property
    def uses(self) -> Int[Tensor, " queries"]:
        """In how many pictures each slot finds an object."""
        return self.answers.sum(dim=0)

    @property
    def order(self) -> list[int]:
        """The slots, most used first."""
        return self.uses.argsort(descending=True, stable=True).tolist()

    @property
    def dead(self) -> list[int]:
        """The slots that never find an object."""
        return (self.uses == 0).nonzero().flatten().tolist()

    @property
    def wide(self) -> Float[Tensor, " queries"]:
        """The share of each slot's boxes that cover most of the picture."""
        return (self.boxes[..., 2] * self.boxes[..., 3] >= WIDE).double().mean(dim=0)

    @property
    def image_wide(self) -> list[int]:
        """The slots with a mode of boxes that cover most of the picture."""
        return (self.wide >= MODE).nonzero().flatten().tolist()

    @cached_property
    def duplicates(self) -> list[Pair]:
        """The slots in use that look after the same, closest first.

        Two do whose boxes are at one place (an overlap of a half or more) in at least half of the pictures, whatever
        their scores are.
        """
        used = [slot for slot in range(self.queries) if slot not in set(self.dead)]
        boxes, labels, answers = self.boxes[:, used], self.labels[:, used], self.answers[:, used]
        together = torch.zeros(len(used), len(used))
        twice = torch.zeros(len(used), len(used), dtype=torch.long)
        for box, label, answer in zip(boxes, labels, answers, strict=True):
            near = at_one_place(box)
            together += near
            twice += near & (label[:, None] == label) & answer[:, None] & answer
        together = (together / self.pictures).triu(diagonal=1)
        places = (together >= OFTEN).nonzero().tolist()
        pairs = [Pair(used[one], used[two], float(together[one, two]), int(twice[one, two])) for one, two in places]
        return sorted(pairs, key=lambda pair: -pair.together)

    @property
    def most_found(self) -> int:
        """Objects found in the picture that has most."""
        return int(self.answers.sum(dim=1).max())

    @property
    def suggested(self) -> int | None:
        """How many queries the data asks for; `None` where nothing was found and nothing is marked.

        For each object of the fullest picture there are 1.6 slots, as there are in the paper for COCO.
        """
        fullest = max(self.most_found, 0 if self.marked is None else int(self.marked.max()))
        return math.ceil(ROOM * fullest / TENS) * TENS if fullest else None

    def sentences(self) -> tuple[str, ...]:
        """What there is to say of the slots."""
        said = [self.about_use()]
        if len(self.dead) < self.queries:
            said.append(self.about_duplicates())
        wide = self.image_wide
        said.append(
            f"{share_of(len(wide), self.queries)} have an image-wide mode: {MODE:.0%} or more of their boxes, whatever "
            f"the score, cover {WIDE:.0%} of the picture or more."
        )
        return (*said, self.about_suggestion())

    def about_use(self) -> str:
        """Which slots are dead."""
        dead = self.dead
        if len(dead) == self.queries:
            best = float(self.scores.max())
            return (
                f"None of {self.queries} slots ever reaches {percent(self.threshold)}, the best score is {best:.0%}: "
                f"train longer, or lower --threshold."
            )
        if not dead:
            return f"All {self.queries} slots are used: each reaches {percent(self.threshold)} in some picture."
        return (
            f"{share_of(len(dead), self.queries)} are dead: they never reach {percent(self.threshold)} in "
            f"{many(self.pictures, 'picture')} ({listed(map(str, dead))})."
        )

    def about_duplicates(self) -> str:
        """Which slots repeat others."""
        means = f"their boxes overlap by {OVERLAP:.0%} or more in {OFTEN:.0%} of the pictures or more"
        if not (pairs := self.duplicates):
            return f"No two slots in use repeat each other: of none it holds that {means}."
        named = listed(f"{pair.first} and {pair.second}: {pair.together:.0%}" for pair in pairs)
        twice = sum(pair.twice for pair in pairs)
        objects = f"both answered for one object {many(twice, 'time')}" if twice else "never both for one object"
        return f"{many(len(pairs), 'pair')} of slots repeat each other, that is, {means} ({named}); {objects}."

    def about_suggestion(self) -> str:
        """How many slots would do."""
        if self.suggested is None:
            return "How many queries would do cannot be said where nothing is found and nothing is marked."
        marked = "" if self.marked is None else f"at most {many(int(self.marked.max()), 'object')} marked and "
        change = (
            "enough"
            if self.suggested == self.queries
            else f"{'fewer' if self.suggested < self.queries else 'more'} than the {self.queries} there are"
        )
        return (
            f"A picture has {marked}at most {self.most_found} found: queries={self.suggested} would do, {change} "
            f"({ROOM} for each object of the fullest picture, as the paper has for COCO). To train so, from "
            f"fresh weights: --set model.queries={self.suggested}."
        )

    def arrays(self) -> dict[str, np.ndarray]:
        """All boxes with scores and classes; how often each slot is used, and is image-wide; pairs that repeat."""
        pairs = self.duplicates
        return {
            "boxes": self.boxes.numpy(),
            "scores": self.scores.numpy(),
            "labels": self.labels.numpy(),
            "threshold": np.array(self.threshold),
            "uses": self.uses.numpy(),
            "image_wide": self.wide.numpy(),
            "dead": np.array(self.dead, dtype=np.int64),
            "duplicates": np.array([pair[:2] for pair in pairs], dtype=np.int64).reshape(-1, 2),
            "together": np.array([pair.together for pair in pairs]),
        } | ({} if self.marked is None else {"marked": self.marked.numpy()})

    def figure(self) -> "Figure":
        """The drawing, as a matplotlib figure that belongs to no window."""
        return draw_atlas(self)


def share_of(some: int, whole: int) -> str:
    """Some of the slots, in words."""
    return f"{some} of {many(whole, 'slot')} ({some / whole:.0%})"


def listed(names: Iterable[str]) -> str:
    """The first few of some names."""
    names = list(names)
    return ", ".join(names[:TOLD]) + (f" and {len(names) - TOLD} more" if len(names) > TOLD else "")


def at_one_place(boxes: Float[Tensor, "queries 4"]) -> Bool[Tensor, "queries queries"]:
    """Which boxes, given by centre and size, overlap each other by enough."""
    centre, half = boxes[:, :2], boxes[:, 2:] / 2
    corners = torch.cat([centre - half, centre + half], dim=1)
    return share(*overlap(corners[:, None], corners[None])) >= OVERLAP


def in_order(result: ByQuery) -> tuple[Tensor, Tensor, Tensor]:
    """The boxes (centre and size), scores and classes of one picture, query by query."""
    order = result.queries.argsort()
    return to_cxcywh(result.boxes_xyxy)[order], result.scores[order], result.labels[order]


def marked_in(batch: Batch) -> list[int] | None:
    """How many objects are marked in each picture; `None` where that is not known."""
    if not isinstance(batch.target, tuple | list):
        return None
    return [int(target.labels.shape[0]) for target in batch.target]


def boxes_of(model: nn.Module, task: Task, batches: Iterable[Batch]) -> Iterator[tuple[list[ByQuery], Batch]]:
    """What a model finds in each batch, in eval mode and by the fastest kernels."""
    task, quick, like = every_query(task), packed(model), next(model.parameters())
    with fast_float32(), torch.inference_mode():
        for batch in batches:
            yield by_query(list(task.predict(quick, to_device(batch.inputs, like.device)))), batch


def examine_queries(
    model: nn.Module,
    task: Task,
    batches: Iterable[Batch],
    *,
    total: int = 0,
    say: Callable[[str], None] | None = None,
    **told: Any,
) -> Atlas:
    """Find where each query of a detector puts its boxes.

    Args:
        model: in eval mode; it is not changed.
        task: whose results say which query has found what (`ByQuery`), all of them for each picture.
        batches: pictures prepared for the model, as a loader gives them (`loader.epoch(0)`).
        total: how many pictures there are, where somebody is told how far it is.
        say: is told, now and then.
        told: `called`, `data` and `squares` of the `Atlas`.

    Raises:
        ExplanationError: results do not say which query has found what, or there are no pictures.
    """
    parts: list[tuple[Tensor, Tensor, Tensor]] = []
    marked: list[int] | None = []
    pace, threshold = Pace(say), 0.0
    for results, batch in boxes_of(model, task, batches):
        parts += [in_order(result) for result in results]
        threshold = results[0].threshold
        counts = marked_in(batch)
        marked = None if marked is None or counts is None else marked + counts
        pace.tell(len(parts), total, "pictures")
    if not parts:
        raise ExplanationError("There are no pictures to ask the queries about.")
    boxes, scores, labels = (torch.stack(part) for part in zip(*parts, strict=True))
    return Atlas(
        boxes=boxes,
        scores=scores,
        labels=labels,
        threshold=threshold,
        marked=None if marked is None else torch.tensor(marked),
        **told,
    )


def bare(axes: "Axes") -> None:
    """The unit square, its origin in the upper left corner as in pictures, without numbers."""
    axes.set(xlim=(0, 1), ylim=(1, 0), xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set(color=QUIET, linewidth=0.6)


def show_slot(axes: "Axes", atlas: Atlas, slot: int) -> None:
    """The boxes of one slot as points at their centres, large boxes beneath small ones."""
    boxes = atlas.boxes[:, slot].double().numpy()
    boxes = boxes[np.argsort(-np.maximum(boxes[:, 2], boxes[:, 3]), kind="stable")]
    size = min(max(POINTS / 20 / len(boxes), SMALLEST_POINT), LARGEST_POINT)
    axes.scatter(boxes[:, 0], boxes[:, 1], s=size, c=colours(boxes), alpha=0.7, linewidths=0, rasterized=True)
    bare(axes)
    used = int(atlas.uses[slot])
    title = f"query {slot}: {used / atlas.pictures:.0%}" if used else f"query {slot}: dead"
    axes.set_title(title, loc="left", fontsize=8, color=INK, pad=3)


def show_legend(axes: "Axes") -> None:
    """The colour of each width and height of a box."""
    sides = (np.arange(64) + 0.5) / 64
    wide, tall = np.meshgrid(sides, sides)
    shown = colours(np.stack([wide * 0, tall * 0, wide, tall], axis=-1))
    axes.imshow(shown, extent=(0, 1, 0, 1), origin="lower", interpolation="nearest")
    axes.set(xticks=[0, 1], yticks=[0, 1])
    axes.tick_params(labelsize=7, length=2, color=QUIET, labelcolor=INK, pad=1)
    axes.set_xlabel("width of a box", fontsize=7, color=QUIET, labelpad=-4)
    axes.set_ylabel("height", fontsize=7, color=QUIET, labelpad=-2)
    for spine in axes.spines.values():
        spine.set_visible(False)


def draw_atlas(atlas: Atlas) -> "Figure":
    """A unit square for each of the most used slots, and what the colours mean."""
    slots = atlas.order[: atlas.squares]
    columns = min(ACROSS, max(len(slots), 3))
    rows = math.ceil(len(slots) / columns)
    width = 2 * MARGIN + columns * (SQUARE + GAP) - GAP
    beneath = width - 2 * MARGIN - LEGEND - 0.7
    where = f" of {atlas.data}" if atlas.data else ""
    head = wrapped(
        f"Centres of all boxes, whatever their score, that each query of {atlas.called} answers in "
        f"{many(atlas.pictures, 'picture')}{where}",
        width - 2 * MARGIN,
        10,
    )
    which = "All queries" if len(slots) == atlas.queries else f"The {len(slots)} most used of {atlas.queries} queries"
    notes = (
        f"{which}, counted from 0; beside each the share of the pictures in which its score is "
        f"{percent(atlas.threshold)} or more. Each picture is the unit square.",
        "Green: small boxes. Red: large and wide. Blue: large and tall.",
        *atlas.sentences(),
    )
    foot = [line for note in notes for line in wrapped(note, beneath, 8, most=6)]
    above, below = 0.55 + high(10) * len(head), max(LEGEND + 0.55, 0.35 + high(8) * len(foot))
    height = above + rows * (SQUARE + TITLED) + below
    figure = new_figure(width, height)
    figure.text(MARGIN / width, 1 - 0.4 / height, "Where each query puts its boxes", fontsize=13, fontweight="bold",
                color=INK)  # fmt: skip
    for line, said in enumerate(head, start=1):
        figure.text(MARGIN / width, 1 - (0.4 + high(10) * line) / height, said, fontsize=10, color=INK,
                    parse_math=False)  # fmt: skip
    for place, slot in enumerate(slots):
        row, column = divmod(place, columns)
        left = MARGIN + column * (SQUARE + GAP)
        bottom = height - above - (row + 1) * (SQUARE + TITLED)
        show_slot(figure.add_axes((left / width, bottom / height, SQUARE / width, SQUARE / height)), atlas, slot)
    for line, said in enumerate(foot):
        figure.text(MARGIN / width, (below - 0.3 - high(8) * line) / height, said, fontsize=8, color=QUIET,
                    parse_math=False)  # fmt: skip
    left, bottom = width - MARGIN - LEGEND, below - 0.2 - LEGEND
    show_legend(figure.add_axes((left / width, bottom / height, LEGEND / width, LEGEND / height)))
    return figure
