"""Find the objects in a picture: which class each is of, and the box around it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from vitrail.errors import ConfigError
from vitrail.fields import Range, check_fields, check_ranges
from vitrail.geometry.boxes import to_xyxy
from vitrail.geometry.placement import Placement
from vitrail.outputs import Detections, Segmentations
from vitrail.samples import AskedPoints, Batch
from vitrail.tasks.denoising import denoising_loss, noised
from vitrail.tasks.detected import THRESHOLD, Detected
from vitrail.tasks.detection_scores import DetectionMetrics
from vitrail.tasks.set_loss import SetWeights, check_labels, set_loss
from vitrail.tasks.task import Loss, ask


@runtime_checkable
class Answers(Protocol):
    """A detector that can say what each of its decoder's layers answers."""

    def layers(self, pixels: Tensor, valid: Tensor | None = None) -> Sequence[Detections | Segmentations]: ...


@runtime_checkable
class AnswersPoints(Protocol):
    """A detector that can be asked from other points than those of its queries."""

    config: Any

    def layers_asked(
        self, pixels: Tensor, valid: Tensor | None = None, asked: AskedPoints | None = None
    ) -> tuple[Sequence[Detections], Sequence[Detections]]: ...


@dataclass(frozen=True, kw_only=True)
class Detect:
    """The task of finding objects.

    Attributes:
        classes: their names, in the order of the model's logits; there being no object comes after them.
        class_ids: by what numbers the data calls them.
        weights: of the parts of the loss.
        auxiliary: whether every layer of the decoder learns to answer, and not only the last.
        denoising: from how many points near each object training asks besides, where queries are points; 0 for none.
        threshold: score from which an object is shown to a person; scores count all.
        nms: what a box may share with a better one of its class; above this it repeats it and is left out. 1, as
            published, leaves all: a set has no repeats where enough was learned.
    """

    classes: tuple[str, ...]
    class_ids: tuple[int, ...] = ()
    weights: SetWeights = field(default_factory=SetWeights)
    auxiliary: bool = True
    denoising: int = 0
    threshold: float = THRESHOLD
    nms: float = 1.0

    name = "detect"
    answering = ("threshold", "nms")
    by_heart = "ap50"  # of a few pictures: where the boxes end exactly comes last

    def __post_init__(self) -> None:
        if not self.classes:
            raise ConfigError("A detector needs at least one class, and classes is empty.")
        check_fields(self)
        share = Range(0, 1, usual="0.5 to 0.9")
        check_ranges(self, threshold=share, nms=share, denoising=Range(0, 100, usual="0 or 5"))
        if self.class_ids and len(self.class_ids) != len(self.classes):
            raise ConfigError(
                f"class_ids has {len(self.class_ids)} numbers for {len(self.classes)} classes. Give one for each."
            )
        numbers = [number for number in self.class_ids if number >= 0]
        if len(set(numbers)) < len(numbers):
            twice = next(number for number in numbers if numbers.count(number) > 1)
            raise ConfigError(f"class_ids has {twice} more than once. Every class has a number of its own.")

    @property
    def best(self) -> tuple[str, Literal["max", "min"]]:
        return "ap", "max"

    def loss(self, model: nn.Module, batch: Batch, generator: torch.Generator | None = None) -> Loss:
        """What one batch teaches: see `tasks.set_loss`, which divides by the objects that it has."""
        frame = tuple(batch.inputs.pixels.shape[2:])
        if not self.denoising:
            found = set_loss(self.layers(model, batch.inputs), batch.target, self.weights, frame=frame)
            return Loss(found.total, found.parts)
        if not isinstance(model, AnswersPoints):
            raise ConfigError(f"{type(model).__name__} is asked from no points. Train it with --set task.denoising=0.")
        check_labels(batch.target, model.config.classes)
        near = noised(batch.target, model.config.classes, self.denoising, generator)
        pixels, valid = batch.inputs
        layers, besides = model.layers_asked(pixels, valid, near.asked)
        if not self.auxiliary:
            layers, besides = layers[-1:], besides[-1:]
        found = set_loss(layers, batch.target, self.weights, frame=frame)
        more = denoising_loss(besides, near.matches, batch.target, self.weights)
        return Loss(found.total + more, found.parts | {"denoising": more.detach()})

    def layers(self, model: nn.Module, inputs: Any) -> Sequence[Detections | Segmentations]:
        """The answers that learn."""
        if not self.auxiliary or not isinstance(model, Answers):
            return [ask(model, inputs)]
        return model.layers(*inputs)

    def weight(self, batch: Batch) -> int:
        """How many objects there are in a batch, and at least one, by which its loss is divided.

        The loss of the classes has a divisor of its own; where a batch is split over steps or processes, it is weighed
        by objects all the same. In the published code each process counts alike.
        """
        return max(sum(target.labels.shape[0] for target in batch.target), 1)

    def predict(self, model: nn.Module, inputs: Any) -> list[Detected]:
        """The class that each query finds likeliest but for there being none, best first; boxes in the unit square."""
        found = ask(model, inputs)
        self.refuse_others(found)
        beliefs, boxes = found.logits.float().softmax(dim=-1)[..., :-1].cpu(), to_xyxy(found.boxes.float()).cpu()
        return [self.result(*one) for one in zip(beliefs, boxes, strict=True)]

    def refuse_others(self, found: Any) -> None:
        """Compare the classes of the model and of the task.

        Raises:
            ConfigError: they are not as many.
        """
        if found.logits.shape[-1] != len(self.classes) + 1:
            raise ConfigError(
                f"The model tells {found.logits.shape[-1] - 1} classes apart and the task has {len(self.classes)}. "
                f"`create_model(..., classes={len(self.classes)})` makes one that fits."
            )

    def result(self, belief: Tensor, boxes: Tensor) -> Detected:
        """What the queries say of one picture, best first, without repeats."""
        scores, labels = belief.max(dim=-1)
        scores, order = scores.sort(descending=True, stable=True)
        every = Detected(
            boxes_xyxy=boxes[order],
            scores=scores,
            labels=labels[order],
            queries=order,
            classes=self.classes,
            class_ids=self.class_ids,
            threshold=self.threshold,
        )
        return every.unrepeated(self.nms)

    def judge(self, model: nn.Module, batch: Batch) -> list[Detected]:
        """The same in pixels of the files, whose sizes stand beside the truth."""
        results = self.predict(model, batch.inputs)
        unit = [Placement.resize(truth.size, (1, 1)) for truth in batch.references]
        return [result.placed(placement) for result, placement in zip(results, unit, strict=True)]

    def metrics(self) -> DetectionMetrics:
        return DetectionMetrics(self.classes, nms=self.nms)

    def after_step(self, model: nn.Module, step: int) -> None:
        """Nothing has to follow."""
