"""Say of every pixel of a picture of which thing, or of which stuff, it is."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vitrail.core.tokens import extent
from vitrail.errors import ConfigError
from vitrail.fields import Range, check_fields, check_ranges
from vitrail.geometry.placement import Placement, Size
from vitrail.outputs import Segmentations
from vitrail.samples import Batch
from vitrail.tasks.detect import Answers, Detect
from vitrail.tasks.panoptic_merge import THRESHOLD, merge, uncovered
from vitrail.tasks.panoptic_scores import PanopticMetrics
from vitrail.tasks.segmented import Segmented
from vitrail.tasks.set_loss import SetWeights
from vitrail.tasks.task import Loss, ask


@dataclass(frozen=True, slots=True, eq=False)
class Claims:
    """What queries claim of one picture; which pixels of the file are whose is told once its size is known.

    Attributes:
        belief: of each query that is sure, in each class and in there being nothing.
        masks: logits of their pixels, of the frame.
        frame: rows and columns to which the pictures of the batch were padded.
        size: rows and columns of this picture as the model reads it.
        bleeding: see `panoptic_merge.uncovered`.
        task: names the classes.
    """

    belief: Float[Tensor, "queries classes_and_none"]
    masks: Float[Tensor, "queries rows columns"]
    frame: Size
    size: Size
    bleeding: bool
    task: "Panoptic"

    def shared(self, target: Size) -> Segmented:
        """The segments, of a file of so many rows and columns."""
        return merge(
            self.belief,
            uncovered(self.masks, self.frame, self.size, bleeding=self.bleeding),
            target,
            classes=self.task.classes,
            things=self.task.countable,
            class_ids=self.task.class_ids,
            threshold=self.task.threshold,
        )

    def placed(self, placement: Placement) -> Segmented:
        """The segments of the file."""
        return self.shared(placement.source)

    def record(self, top: int | None = None) -> dict[str, Any]:
        """Ready for JSON: the segments of the picture as the model reads it."""
        return self.shared(self.size).record(top)

    def summary(self, top: int | None = None) -> str:
        """One line: how many there are of each thing, and what stuff."""
        return self.shared(self.size).summary(top)


@dataclass(frozen=True, kw_only=True)
class Panoptic:
    """The task of naming every pixel.

    Attributes:
        classes: their names, in the order of the model's logits; there being nothing comes after them.
        class_ids: by what numbers the data calls them.
        things: which of them are countable things, the others being stuff; all where nobody says it.
        weights: of the parts of the loss.
        auxiliary: whether every layer of the decoder learns to answer, and not only the last.
        threshold: score from which a query may have pixels.
    """

    classes: tuple[str, ...]
    class_ids: tuple[int, ...] = ()
    things: tuple[bool, ...] = ()
    weights: SetWeights = field(default_factory=SetWeights)
    auxiliary: bool = True
    threshold: float = THRESHOLD

    name = "panoptic"
    answering = ("threshold",)
    by_heart = "rq"  # of a few pictures: where the segments end exactly comes last

    def __post_init__(self) -> None:
        check_fields(self)
        check_ranges(self, threshold=Range(0, 1, usual="0.5 to 0.9"))
        if self.things and len(self.things) != len(self.classes):
            raise ConfigError(
                f"things says of {len(self.things)} classes what they are, and there are {len(self.classes)}."
            )
        assert self.detector  # which refuses what else is wrong

    @property
    def best(self) -> tuple[str, Literal["max", "min"]]:
        return "pq", "max"

    @property
    def detector(self) -> Detect:
        """The same queries as finders of boxes."""
        return Detect(
            classes=self.classes,
            class_ids=self.class_ids,
            weights=self.weights,
            auxiliary=self.auxiliary,
            threshold=self.threshold,
        )

    @property
    def countable(self) -> tuple[bool, ...]:
        """Which classes are things, of each."""
        return self.things or (True,) * len(self.classes)

    def loss(self, model: nn.Module, batch: Batch, generator: torch.Generator | None = None) -> Loss:
        """What one batch teaches: the loss of a detector, whose last layer also answers for masks."""
        return self.detector.loss(model, batch, generator)

    def weight(self, batch: Batch) -> int:
        """How many segments there are in a batch, and at least one, by which its loss is divided."""
        return self.detector.weight(batch)

    def predict(self, model: nn.Module, inputs: Any) -> list[Claims]:
        """What the queries claim that are sure of a class.

        Raises:
            ConfigError: the model has other classes, or finds boxes alone.
        """
        found = model.layers(*inputs)[-1] if isinstance(model, Answers) else ask(model, inputs)
        if not isinstance(found, Segmentations):
            raise ConfigError(f"{type(model).__name__} paints no masks. `vitrail models` names panoptic models.")
        self.detector.refuse_others(found)
        beliefs = found.logits.float().softmax(dim=-1)
        scores, labels = beliefs.max(dim=-1)
        sure = (labels < len(self.classes)) & (scores > self.threshold)
        pictures, queries = sure.nonzero(as_tuple=True)
        masks = found.masks[pictures, queries].float().cpu()
        rows, columns = inputs.pixels.shape[2:]
        return [
            Claims(
                beliefs[place, sure[place]].cpu(),
                painted,
                (rows, columns),
                extent(valid),
                getattr(model, "bleeds", False),
                self,
            )
            for place, (painted, valid) in enumerate(
                zip(masks.split(sure.sum(dim=1).tolist()), inputs.valid, strict=True)
            )
        ]

    def judge(self, model: nn.Module, batch: Batch) -> Sequence[Segmented]:
        """The segments of the files, whose sizes stand beside the truth."""
        claims = self.predict(model, batch.inputs)
        return [one.shared(truth.size) for one, truth in zip(claims, batch.references, strict=True)]

    def metrics(self) -> PanopticMetrics:
        return PanopticMetrics(self.classes, self.countable)

    def after_step(self, model: nn.Module, step: int) -> None:
        """Nothing has to follow."""
