"""What a detector says about one picture, as a person reads it."""

import math
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vitrail.errors import many, percent
from vitrail.geometry.boxes import area, not_repeated, overlap, share
from vitrail.geometry.placement import Placement
from vitrail.samples import Objects, Truth
from vitrail.tasks.detection_errors import CROWDED, RIGHT, Verdicts, tell_apart

THRESHOLD = 0.7  # score from which an object is shown, as in the paper's figures


class Found(NamedTuple):
    """One object.

    Attributes:
        label: its class.
        score: how much the model believes in it, 0 to 1.
        box_xyxy: left, top, right, bottom.
        query: which object query has found it.
    """

    label: str
    score: float
    box_xyxy: tuple[float, float, float, float]
    query: int


@dataclass(frozen=True, slots=True, eq=False)
class Detected:
    """The objects that a detector has found in one picture, best first.

    Attributes:
        boxes_xyxy: left, top, right, bottom of each; pixels of the file as displayed once it is `placed`, and before
            that parts of the picture, which is the unit square.
        scores: how much the model believes in each, 0 to 1.
        labels: their classes, as places in `classes`.
        queries: which object query has found each.
        classes: all that there are, by name.
        class_ids: by what numbers the data set calls them; their places where it has none.
        size: rows and columns of the file; `None` before it is placed.
        masks: where each is, of the file's rows and columns; `None` from a model that tells only boxes.
    """

    boxes_xyxy: Float[Tensor, "objects 4"]
    scores: Float[Tensor, " objects"]
    labels: Int[Tensor, " objects"]
    queries: Int[Tensor, " objects"]
    classes: tuple[str, ...]
    class_ids: tuple[int, ...] = ()
    size: tuple[int, int] | None = None
    masks: Bool[Tensor, "objects rows columns"] | None = None
    threshold: float = THRESHOLD

    def __repr__(self) -> str:
        return f"<Detected: {self.summary()}; of {many(len(self), 'answer')}>"

    def __len__(self) -> int:
        return self.scores.shape[0]

    def only(self, chosen: Tensor) -> "Detected":
        """Some of them: a boolean for each, or places."""
        masks = None if self.masks is None else self.masks[chosen]
        return replace(
            self,
            boxes_xyxy=self.boxes_xyxy[chosen],
            scores=self.scores[chosen],
            labels=self.labels[chosen],
            queries=self.queries[chosen],
            masks=masks,
        )

    def unrepeated(self, most: float) -> "Detected":
        """Those that share at most so much with each better one of their class that is left; all for 1."""
        return self if most == 1 else self.only(not_repeated(self.boxes_xyxy, self.labels, most))

    def above(self, threshold: float) -> "Detected":
        """Those that are believed in at least so much; what is shown of them follows."""
        return replace(self.only(self.scores >= threshold), threshold=threshold)

    def placed(self, placement: Placement) -> "Detected":
        """The same in pixels of the file, for boxes in parts of what the model reads of it."""
        rows, columns = placement.size
        corners = self.boxes_xyxy.reshape(-1, 2) * self.boxes_xyxy.new_tensor([columns, rows])
        boxes = placement.back(corners).reshape(-1, 4)
        high, wide = placement.source
        boxes = torch.minimum(boxes.clamp(min=0), boxes.new_tensor([wide, high, wide, high]))
        return replace(self, boxes_xyxy=boxes, size=placement.source)

    def found(self) -> list[Found]:
        """One by one."""
        rows = zip(
            self.labels.tolist(),
            self.scores.tolist(),
            self.boxes_xyxy.tolist(),
            self.queries.tolist(),
            strict=True,
        )
        return [Found(self.classes[label], score, tuple(box), query) for label, score, box, query in rows]

    def record(self, top: int | None = None) -> dict[str, Any]:
        """Ready for JSON: those above the threshold, each with its box as left, top, width and height."""
        objects = []
        for one in self.above(self.threshold).found()[:top]:
            left, top_edge, right, bottom = (round(side, 2) for side in one.box_xyxy)
            box = [left, top_edge, round(right - left, 2), round(bottom - top_edge, 2)]
            objects.append({"label": one.label, "score": one.score, "box_xywh": box, "query": one.query})
        return {"size": self.size, "threshold": self.threshold, "objects": objects}

    def summary(self, top: int | None = None) -> str:
        """One line: how many there are of each class, above the threshold."""
        held = self.above(self.threshold)
        if not len(held):
            best = f" (the best is {percent(math.floor(1000 * self.scores.max()) / 1000)})" if len(self) else ""
            return f"nothing above {percent(self.threshold)}{best}"
        counts: dict[str, int] = {}
        for one in held.found():
            counts[one.label] = counts.get(one.label, 0) + 1
        return ", ".join(f"{count} {label}" for label, count in sorted(counts.items(), key=lambda item: -item[1]))

    @property
    def areas(self) -> Float[Tensor, " objects"]:
        """Of the boxes."""
        return area(self.boxes_xyxy)

    def compared(self, objects: Objects) -> Verdicts:
        """What is right and wrong, by the overlap of boxes, where the best stand first."""
        common, both = overlap(self.boxes_xyxy.double()[:, None], objects.boxes_xyxy.double()[None])
        whole = torch.where(objects.crowd[None], self.areas.double()[:, None], both)
        shares = share(common, whole).numpy()
        return tell_apart(shares, self.labels.numpy(), objects.labels.numpy(), objects.crowd.numpy())

    def mistake(self, truth: Truth) -> float:
        """How far beliefs are from the truth: what they lack in each object, and all of them in what is not there.

        Of answers that are sure, that is how many objects are missed and how many answers are wrong.
        """
        kinds = self.compared(truth.objects).kinds
        scores = self.scores.double().numpy()
        lacking = int((~truth.objects.crowd).sum()) - scores[kinds == RIGHT].sum()
        return float(lacking + scores[(kinds != RIGHT) & (kinds != CROWDED)].sum())
