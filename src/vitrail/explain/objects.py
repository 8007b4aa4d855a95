"""Where a detector looked for its boxes: each of its queries asks the picture, and answers for one object.

What is shown is the cross-attention of a query in the decoder, as the model really computed it, beside the box that it
answers. Source: Carion et al., "End-to-End Object Detection with Transformers", ECCV 2020, figure 6.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from vitrail.core.tokens import Tokens
from vitrail.errors import ExplanationError, many, percent
from vitrail.explain.attention import (
    Asked,
    AsksQueries,
    Head,
    Look,
    Sheet,
    check_head,
    detector_in,
    grid_notes,
    on_cells,
)
from vitrail.explain.drawing import Caption, Panel, Question
from vitrail.explain.evidence import Evidence, evidence
from vitrail.explain.explanation import visible_channels
from vitrail.explain.faithfulness import Say
from vitrail.explain.kinds import kinds
from vitrail.explain.methods import METHODS
from vitrail.explain.recording import Layers, chosen_among, recording
from vitrail.geometry.placement import Placement
from vitrail.preprocessing import Fitted
from vitrail.samples import Picture
from vitrail.tasks.detected import Found
from vitrail.tasks.task import Task

MOST = 8  # objects that are drawn of a picture unless more are asked for


@runtime_checkable
class ByQuery(Protocol):
    """What was found in one picture, best first, and by which query each."""

    @property
    def boxes_xyxy(self) -> Tensor: ...

    @property
    def scores(self) -> Tensor: ...

    @property
    def labels(self) -> Tensor: ...

    @property
    def queries(self) -> Tensor: ...

    @property
    def threshold(self) -> float: ...

    def placed(self, placement: Placement) -> Any:
        """The same in pixels of the file."""
        ...

    def found(self) -> list[Found]:
        """One by one."""
        ...


def by_query(results: Sequence[Any]) -> list[ByQuery]:
    """Results that say which query has found what.

    Raises:
        ExplanationError: they do not.
    """
    for result in results:
        if not isinstance(result, ByQuery):
            raise ExplanationError(
                f"What this model answers, {type(result).__name__}, does not say which query has found what. Ask a "
                f"detector, such as detr-resnet-50."
            )
    return list(results)


def corners_of(box_xyxy: Sequence[float]) -> Float[Tensor, "4 2"]:
    """The corners of a box, going round."""
    left, top, right, bottom = box_xyxy
    return torch.tensor([[left, top], [right, top], [right, bottom], [left, bottom]], dtype=torch.float64)


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class ObjectLook(Look):
    """Where a query looked, in one layer of the decoder.

    Attributes:
        found: what it answers; the box in pixels of the file as displayed.
        threshold: score from which that is shown as an object.
    """

    found: Found
    threshold: float

    @property
    def shown(self) -> bool:
        """Whether what the query answers counts as an object."""
        return self.found.score >= self.threshold

    def caption(self) -> Caption:
        """What is written on the drawing."""
        return (
            super()
            .caption()
            ._replace(
                question=f"Where {self.asked.words} looked, in {Path(self.picture.name).name}",
                notes=(*grid_notes(self.grid, self.placement, self.unit), outlined([self])),
            )
        )

    def arrays(self) -> dict[str, np.ndarray]:
        """The map of each head kept, and what the query answers: its number, box, score and class."""
        return super().arrays() | of_objects([self.found])


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class ObjectSheet(Sheet):
    """Where several queries looked: a line for each, and for each layer.

    Attributes:
        looks: of one picture, by one model.
        best_of: of how many objects these are the best; `None` where these queries were asked for.
    """

    looks: tuple[ObjectLook, ...]
    best_of: int | None = None

    @property
    def columns(self) -> int:
        """The picture and the maps of one line; of two, where there is but one map each."""
        return super().columns * (2 if super().columns == 2 and len(self.looks) > 2 else 1)

    def line(self, look: Look) -> list[Panel]:
        """The panels of one query and layer; the layer is said where there are several."""
        if len({one.layer for one in self.looks}) > 1:
            return super().line(look)
        mark = look.asked.mark
        return [Panel(None, mark, look.asked.title), *(Panel(heat, mark) for heat in look.heat_maps())]

    def caption(self) -> Caption:
        """What is written on the drawing."""
        caption, shown = super().caption(), len({look.found.query for look in self.looks})
        notes = (*caption.notes, outlined(self.looks))
        if self.best_of is None:
            return caption._replace(notes=notes)
        which = many(shown, "object") if shown == self.best_of else f"the {shown} best of {self.best_of} objects"
        asked = f"Where the queries of {which} looked, in {Path(self.picture.name).name}"
        return caption._replace(question=asked, notes=notes)

    def arrays(self) -> dict[str, np.ndarray]:
        """The maps of each line with its layer, and what its query answers: number, box, score and class."""
        return super().arrays() | of_objects([look.found for look in self.looks])


def of_objects(found: Sequence[Found]) -> dict[str, np.ndarray]:
    """What some queries answer, as arrays."""
    return {
        "queries": np.array([one.query for one in found]),
        "boxes_xyxy": np.array([one.box_xyxy for one in found]),
        "scores": np.array([one.score for one in found]),
        "labels": np.array([one.label for one in found], dtype=str),
    }


def outlined(looks: "Sequence[ObjectLook | ObjectEvidence]") -> str:
    """What the outlines on a drawing are, in a sentence."""
    if all(look.shown for look in looks):
        return "Outlined: the box that the query answers. Queries are counted from 0, as in answers."
    return (
        f"Outlined: the box that the query answers; below a score of {percent(looks[0].threshold)} it counts as no "
        f"object. Queries are counted from 0, as in answers."
    )


def detector(model: nn.Module) -> AsksQueries:
    """The part of a model that asks queries.

    Raises:
        ExplanationError: it has none.
    """
    if (found := detector_in(model)) is None:
        raise ExplanationError(
            f"{type(model).__name__} has no object queries: it does not find objects. Queries are asked of a detector, "
            f"such as detr-resnet-50; here leave them out."
        )
    return found


def places_of(answer: ByQuery, queries: Sequence[int]) -> list[int]:
    """Where the answers of some queries stand.

    Raises:
        ExplanationError: there is no such query.
    """
    there = answer.queries.tolist()
    for query in queries:
        if query not in there:
            raise ExplanationError(
                f"There is no query {query}: this model has queries {min(there)} to {max(there)}, counted from 0."
            )
    return [there.index(query) for query in queries]


def places_above(answer: ByQuery, name: str) -> list[int]:
    """Where the answers stand that count as objects, best first.

    Raises:
        ExplanationError: there are none.
    """
    found = (answer.scores >= answer.threshold).nonzero().flatten().tolist()
    if not found:
        best = answer.found()[0]
        raise ExplanationError(
            f"Nothing in {name} has a score of {percent(answer.threshold)} or more; the best is {best.label} with "
            f"{percent(math.floor(1000 * best.score) / 1000)}, by query {best.query}. Ask that one with --query "
            f"{best.query}, or lower --threshold."
        )
    return found


def asked_for(one: Found) -> Asked:
    """The question what a query looked at."""
    words = f"query {one.query} ({one.label}, {one.score:.0%})"
    title = f"query {one.query}: {one.label} {one.score:.0%}"
    return Asked([one.query], words, Question(None, corners_of(one.box_xyxy)), title=title)


def with_threshold(task: Task, threshold: float | None) -> Task:
    """A task that shows objects from another score on; the same where none is given."""
    return task if threshold is None else replace(task, threshold=threshold)  # pyright: ignore


def every_query(task: Task) -> Task:
    """A task whose results have all queries, those too that repeat others."""
    return replace(task, nms=1.0) if getattr(task, "nms", 1.0) < 1 else task  # pyright: ignore


@torch.inference_mode()
def look_for_objects(
    model: nn.Module,
    task: Task,
    preprocessing: Fitted,
    picture: Picture | Tensor,
    *,
    queries: Sequence[int] = (),
    most: int | None = MOST,
    layers: Layers | None = -1,
    head: Head = "mean",
) -> ObjectLook | ObjectSheet:
    """Ask a detector where it looked for some of its boxes.

    The model is not touched: after it has answered, a twin that shares its weights is run, once. Each query costs one
    row of attention in each layer.

    Args:
        model: asks queries; see `attention.AsksQueries`.
        task: whose results say which query has found what.
        preprocessing: how the picture becomes what it reads.
        picture: what is shown to it; uint8 pixels (channels, rows, columns) where it has channels that no file has.
        queries: by number, counted from 0, as results have them; those of the objects above the task's threshold, best
            first, unless given.
        most: of those, how many; `None` for all.
        layers: of the decoder, by number (negative ones count from the end), by name or pattern; `None` for all.
        head: a number, `"mean"`, or `"all"` to see each.

    Returns:
        An `ObjectLook` where one query and layer was asked, else an `ObjectSheet`; its `looks` are those.

    Raises:
        ExplanationError: the model has no queries; there is no such query, layer or head; or nothing was found.
    """
    check_head(head)
    detector(model)
    every = kinds(model)["cross"]
    names = chosen_among(every, layers)
    task = every_query(task) if queries else task
    prepared = preprocessing(picture)
    picture = picture if isinstance(picture, Picture) else visible_channels(picture)
    like = next(model.parameters())
    inputs = preprocessing.together([prepared.pixels]).to(like.device, like.dtype)
    [answer] = by_query([result.placed(prepared.placement) for result in by_query(task.predict(model, inputs))])
    above = [] if queries else places_above(answer, picture.name)
    found = [answer.found()[place] for place in (places_of(answer, queries) if queries else above[:most])]
    rows = sorted({one.query for one in found})
    twin, records = recording(model, names, rows, [head] if isinstance(head, int) else None)
    memory = detector(twin.eval()).encode(*inputs)
    detector(twin).decode(memory)
    placement, unit = on_cells(model, prepared.placement, memory.tokens)

    def looked(one: Found, name: str) -> ObjectLook:
        record = records[name]
        return ObjectLook(
            picture=picture,
            placement=placement,
            grid=memory.tokens.grid,
            prefix=memory.tokens.prefix,
            of="cross",
            unit=unit,
            asked=asked_for(one),
            layer=every.index(name),
            layers=len(every),
            head=head,
            heads=record.heads,
            weights=record.maps[-1][0][:, rows.index(one.query)].cpu().double(),
            found=one,
            threshold=answer.threshold,
        )

    looks = tuple(looked(one, name) for one in found for name in names)
    if len(looks) == 1:
        return looks[0]
    return ObjectSheet(picture=picture, placement=placement, looks=looks, best_of=len(above) or None)


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class ObjectEvidence(Evidence):
    """What the class that a query answers rests on.

    Attributes:
        one: what it answers; the box in pixels of the file as displayed.
        threshold: score from which that is shown as an object.
    """

    one: Found
    threshold: float

    @property
    def shown(self) -> bool:
        """Whether what the query answers counts as an object."""
        return self.one.score >= self.threshold

    def caption(self) -> Caption:
        """What is written on the drawing."""
        caption = super().caption()
        words = f"{caption.question}, for {asked_for(self.one).words}"
        return caption._replace(question=words, notes=(*caption.notes, outlined([self])))

    def arrays(self) -> dict[str, np.ndarray]:
        """The map, and what the query answers: its number, box, score and class."""
        return super().arrays() | of_objects([self.one])


class OneQuery(nn.Module):
    """A detector as a classifier: of one query, the number for each class and for there being nothing."""

    def __init__(self, model: nn.Module, query: int) -> None:
        super().__init__()
        self.model, self.query = model, query

    def read_tokens(self, tokens: Tokens) -> list[slice]:
        """The query alone."""
        return [slice(self.query, self.query + 1)]

    def forward(self, pixels: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch classes"]:
        return self.model(pixels).logits[:, self.query]


def check_method(method: str) -> None:
    """Refuse what is not known of detectors.

    Raises:
        ExplanationError: says what to ask instead.
    """
    if method == "attention":
        raise ExplanationError(
            "attention is that of one layer, and rests on no class: type it without --target and --faithful, or use "
            "--method relevance."
        )
    if method == "attribution":
        raise ExplanationError(
            "attribution was published for one stack of blocks, and a detector has queries that look at a picture. Use "
            "--method relevance, which was published for both."
        )


def evidence_of_query(
    model: nn.Module,
    task: Task,
    preprocessing: Fitted,
    picture: Picture | Tensor,
    *,
    method: str = "relevance",
    target: int | None = None,
    query: int | None = None,
    faithful: bool = False,
    say: Say | None = None,
) -> ObjectEvidence:
    """Explain the class that one query answers; arguments are those of `evidence`.

    The map of `gradient` has a number for each pixel, and is drawn by the cells that the encoder reads: a convolution
    with a stride reads some pixels more often than others, and its gradient shows that as a lattice (Herdt et al.,
    "Smooth Deep Saliency", 2024). Other maps have a number for each cell.

    Raises:
        ExplanationError: `attribution` was asked for, or there is no such query.
    """
    check_method(method)
    task = task if query is None else every_query(task)
    prepared, like = preprocessing(picture), next(model.parameters())
    inputs = preprocessing.together([prepared.pixels]).to(like.device, like.dtype)
    with torch.inference_mode():
        [answer] = by_query([result.placed(prepared.placement) for result in by_query(task.predict(model, inputs))])
    [place] = [0] if query is None else places_of(answer, [query])
    one, classes = answer.found()[place], [*getattr(task, "classes", ())]
    labels = [f"{label} by query {one.query}" for label in classes]
    if METHODS[method].asks:
        target = classes.index(one.label) if target is None else target
    about = {"method": method, "target": target, "labels": labels, "faithful": faithful, "say": say}
    found = evidence(OneQuery(model, one.query), preprocessing, picture, **about)
    told: dict[str, Any] = {field.name: getattr(found, field.name) for field in fields(found)}
    told |= {"mark": Question(None, corners_of(one.box_xyxy)), "one": one, "threshold": answer.threshold}
    if method == "gradient":
        told["cell"] = detector(model).stride
    else:
        with torch.inference_mode():
            tokens = detector(model).encode(*inputs).tokens
        told["placement"], told["unit"] = on_cells(model, prepared.placement, tokens)
    return ObjectEvidence(**told)
