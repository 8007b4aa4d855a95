"""Say which class, or which classes, a picture belongs to."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple, Protocol, TypeGuard, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from vitrail.errors import ConfigError, many
from vitrail.fields import Range, check_fields, check_ranges
from vitrail.outputs import DistilledLogits
from vitrail.samples import Batch
from vitrail.tasks.scores import Calibration, ClassScores, average_precision, class_scores
from vitrail.tasks.task import Loss, ask

SHOWN = 5  # classes in a record, and how many guesses `top5` grants
THRESHOLD = 0.5  # score from which one of several labels is taken to hold


class Guess(NamedTuple):
    """One class and how much the model believes in it, 0 to 1."""

    label: str
    score: float


def in_words(guesses: Sequence[Guess]) -> str:
    """Each with its score in percent."""
    return ", ".join(f"{guess.label} {guess.score:.1%}" for guess in guesses)


@dataclass(frozen=True, slots=True, eq=False)
class Classification:
    """What a classifier says about one picture.

    Attributes:
        scores: belief in each class, 0 to 1; they sum to one unless several labels can hold.
        classes: their names, in the same order.
        multi_label: whether several can hold at once.
    """

    scores: Float[Tensor, " classes"]
    classes: tuple[str, ...]
    multi_label: bool = False

    def __repr__(self) -> str:
        return f"<Classification: {self.summary()}; of {many(len(self.classes), 'class')}>"

    def top(self, k: int = SHOWN) -> list[Guess]:
        """The k classes believed in most, best first; equal beliefs stay in the order of the classes."""
        scores, order = self.scores.sort(descending=True, stable=True)
        return [Guess(self.classes[place], float(score)) for score, place in zip(scores[:k], order[:k], strict=True)]

    def record(self, top: int = SHOWN) -> dict[str, Any]:
        """Ready for JSON, with so many guesses."""
        record: dict[str, Any] = {"guesses": [guess._asdict() for guess in self.top(top)]}
        if self.multi_label:
            record["labels"] = [guess.label for guess in self.holding()]
        else:
            record["label"] = self.top(1)[0].label
        return record

    def summary(self, top: int = 3) -> str:
        """One line, with so many guesses; where several labels can hold, those that do not are in brackets."""
        guesses = self.top(top)
        if not self.multi_label:
            return in_words(guesses)
        hold = [guess for guess in guesses if guess.score >= THRESHOLD]
        more = len(self.holding()) - len(hold)
        said = (in_words(hold) or "none") + (f" and {more} more" if more else "")
        return said + (f" ({in_words(guesses[len(hold) :])})" if len(guesses) > len(hold) else "")

    def holding(self) -> list[Guess]:
        """The labels that are believed more than not."""
        return [guess for guess in self.top(len(self.classes)) if guess.score >= THRESHOLD]

    def mistake(self, truth: Tensor) -> float:
        """How wrong it is: 0 when right, else how far belief must move before it is right.

        Args:
            truth: the number of the class, or its share in every class.
        """
        if self.multi_label:
            [shares] = class_shares(truth.cpu()[None], len(self.classes))
            wrong = (self.scores >= THRESHOLD) != (shares > THRESHOLD)
            return float((self.scores - THRESHOLD).abs()[wrong].sum())
        place = truth if truth.ndim == 0 else truth.argmax()
        return float(self.scores.max() - self.scores[place])


def class_shares(target: Tensor, classes: int) -> Float[Tensor, "batch classes"]:
    """How much of each class every sample is: whole for class numbers, as given for mixed or many labels."""
    return F.one_hot(target, classes).float() if target.ndim == 1 else target.float()


def cross_entropy(
    logits: Float[Tensor, "batch classes"],
    target: Tensor,
    *,
    smoothing: float = 0.0,
    weights: Sequence[float] | None = None,
) -> Float[Tensor, ""]:
    """Softmax cross-entropy with class numbers or shares, as a plain mean over the samples.

    Args:
        logits: one row for each sample.
        target: `(batch,)` class numbers or `(batch, classes)` shares (mixup).
        smoothing: share of belief that is spread over all classes (Szegedy et al., CVPR 2016, section 7).
        weights: how much each class counts. torch divides by the sum of the weights in a batch; here it is
            divided by the number of samples, so that splitting a batch changes nothing.
    """
    shares = class_shares(target, logits.shape[1])
    shares = shares * (1 - smoothing) + smoothing / logits.shape[1]
    if weights is not None:
        shares = shares * shares.new_tensor(weights)
    return -(shares * logits.float().log_softmax(dim=1)).sum(dim=1).mean()


def binary_cross_entropy(
    logits: Float[Tensor, "batch classes"],
    target: Tensor,
    *,
    smoothing: float = 0.0,
    weights: Sequence[float] | None = None,
) -> Float[Tensor, ""]:
    """Each class by itself, yes or no; the mean over classes and samples.

    Args:
        target: `(batch, classes)`, 1 where a label holds, or `(batch,)` class numbers where one holds.
        smoothing: moves every answer that much of the way to one half.
        weights: how much a label counts where it holds.
    """
    target = class_shares(target, logits.shape[1]) * (1 - smoothing) + smoothing / 2
    positive = None if weights is None else logits.new_tensor(weights, dtype=torch.float32)
    return F.binary_cross_entropy_with_logits(logits.float(), target, pos_weight=positive)


@runtime_checkable
class Listens(Protocol):
    """A model that can have two heads: one for the labels, and a `distillation_head` for a teacher."""

    def opinions(self, images: Tensor) -> DistilledLogits: ...


def has_teachers_head(model: nn.Module) -> TypeGuard[Listens]:
    """Whether a model has a head that listens to a teacher."""
    return isinstance(model, Listens) and getattr(model, "distillation_head", None) is not None


@dataclass(frozen=True, kw_only=True)
class Classify:
    """The task of telling classes apart.

    Attributes:
        classes: their names, in the order of the model's logits.
        smoothing: label smoothing in training, 0 to 1.
        multi_label: several classes can hold at once: sigmoids instead of a softmax.
        weights: how much each class counts in training, against imbalance: a number for each, or `balanced` for
            numbers that make all classes count the same; one for all unless given.
    """

    classes: tuple[str, ...]
    smoothing: float = 0.0
    multi_label: bool = False
    weights: tuple[float, ...] | Literal["balanced"] | None = None

    name = "classify"

    def __post_init__(self) -> None:
        if not self.classes:
            raise ConfigError("A classifier needs at least one class, and classes is empty.")
        check_fields(self)
        check_ranges(self, smoothing=Range(0, 1, below=True, usual="0.1"), weights=Range(0, usual="1 on average"))
        if isinstance(self.weights, tuple):
            if len(self.weights) != len(self.classes):
                raise ConfigError(
                    f"weights has {len(self.weights)} numbers for {len(self.classes)} classes. Give one for each, or "
                    f"type --set task.weights=balanced to have them counted."
                )
            if not any(self.weights):
                raise ConfigError("With all weights 0 there is nothing to learn. Give at least one class more than 0.")

    @property
    def best(self) -> tuple[str, Literal["max", "min"]]:
        return ("map", "max") if self.multi_label else ("top1", "max")

    def loss(self, model: nn.Module, batch: Batch, generator: torch.Generator | None = None) -> Loss:
        total = self.compare(ask(model, batch.inputs), batch.target)
        return Loss(total, {})

    def compare(self, logits: Float[Tensor, "batch classes"], target: Tensor) -> Float[Tensor, ""]:
        """How far logits are from the truth.

        Raises:
            ConfigError: the weights are still to be counted.
        """
        if self.weights == "balanced":
            raise ConfigError("weights=balanced is not counted yet: training calls `weighed` first, and so must you.")
        compare = binary_cross_entropy if self.multi_label else cross_entropy
        return compare(logits, target, smoothing=self.smoothing, weights=self.weights)

    def predict(self, model: nn.Module, inputs: Any) -> list[Classification]:
        logits = ask(model, inputs).float()
        if logits.shape[1] != len(self.classes):
            raise ConfigError(
                f"The model tells {logits.shape[1]} classes apart and the task has {len(self.classes)}. "
                f"`create_model(..., classes={len(self.classes)})` makes one that fits."
            )
        scores = logits.sigmoid() if self.multi_label else logits.softmax(dim=1)
        return [Classification(row, self.classes, self.multi_label) for row in scores.cpu()]

    def metrics(self) -> "LabelMetrics | MultiLabelMetrics":
        return MultiLabelMetrics(self.classes) if self.multi_label else LabelMetrics(self.classes)

    def after_step(self, model: nn.Module, step: int) -> None:
        """Nothing has to follow."""

    def weighed(self, weigh: Callable[[], Sequence[float]]) -> "Classify":
        """The same task with numbers where `weights` is `balanced`."""
        return replace(self, weights=tuple(weigh())) if self.weights == "balanced" else self

    def remarks(self, model: nn.Module) -> list[str]:
        """That a head which could listen to a teacher has none."""
        if not has_teachers_head(model):
            return []
        return [
            "This model has a head that listens to a teacher, and there is none: both of its heads learn the labels. "
            "For a teacher type --set task.teacher=RUN, with a run or a folder that knows the same classes."
        ]


class LabelMetrics:
    """Scores where each picture has one class.

    `top1`, `top5`: share of pictures whose class is the first, or among the first five, guesses. `precision`,
    `recall`, `f1`: means over the classes that occur. `ece`: expected calibration error in 15 bins. `loss`: mean
    cross-entropy, without smoothing.
    """

    def __init__(self, classes: tuple[str, ...]) -> None:
        self.classes = classes
        self.confusion = torch.zeros(len(classes), len(classes), dtype=torch.int64)  # truth, then what was said
        self.calibration = Calibration()
        self.among_five = 0
        self.surprise = 0.0

    def update(self, results: Sequence[Classification], batch: Batch) -> None:
        scores = torch.stack([result.scores for result in results])
        truth = self.truth(batch)
        order = scores.argsort(dim=1, descending=True, stable=True)
        said = order[:, 0]
        place = truth * len(self.classes) + said
        self.confusion += torch.bincount(place, minlength=self.confusion.numel()).view_as(self.confusion)
        self.calibration.update(scores.amax(dim=1), said == truth)
        self.among_five += int((order[:, :SHOWN] == truth[:, None]).sum())
        believed = scores.gather(1, truth[:, None]).double()
        self.surprise -= float(believed.clamp(min=torch.finfo(scores.dtype).tiny).log().sum())

    def truth(self, batch: Batch) -> Int[Tensor, " batch"]:
        target = batch.target.cpu()
        return target if target.ndim == 1 else target.argmax(dim=1)

    def per_class(self) -> ClassScores:
        return class_scores(self.confusion.diagonal(), self.confusion.sum(dim=0), self.confusion.sum(dim=1))

    def compute(self) -> dict[str, float]:
        seen = max(int(self.confusion.sum()), 1)
        return {
            "top1": int(self.confusion.diagonal().sum()) / seen,
            "top5": self.among_five / seen,
            **self.per_class().macro(),
            "ece": self.calibration.error(),
            "loss": self.surprise / seen,
        }

    def details(self) -> dict[str, Any]:
        return {
            "classes": list(self.classes),
            "per_class": class_table(self.classes, self.per_class()),
            "confusion": self.confusion.tolist(),
            "calibration": self.calibration.details(),
        }


class MultiLabelMetrics:
    """Scores where each picture has any number of labels.

    `map`: mean over the labels that occur of average precision (macro); `map_micro`: average precision of all
    decisions thrown together. `precision`, `recall`, `f1`: at a score of one half, means over the labels that
    occur. `loss`: mean binary cross-entropy, without smoothing.
    """

    def __init__(self, classes: tuple[str, ...]) -> None:
        self.classes = classes
        self.scores: list[Tensor] = []
        self.truths: list[Tensor] = []

    def update(self, results: Sequence[Classification], batch: Batch) -> None:
        self.scores.append(torch.stack([result.scores for result in results]))
        self.truths.append(class_shares(batch.target.cpu(), len(self.classes)) > THRESHOLD)

    def gathered(self) -> tuple[Tensor, Tensor]:
        """All scores and all truths, one row for each picture."""
        if not self.scores:
            return torch.zeros(0, len(self.classes)), torch.zeros(0, len(self.classes), dtype=torch.bool)
        return torch.cat(self.scores), torch.cat(self.truths)

    def per_class(self) -> ClassScores:
        scores, truths = self.gathered()
        called = scores >= THRESHOLD
        return class_scores((called & truths).sum(dim=0), called.sum(dim=0), truths.sum(dim=0))

    def precisions(self) -> list[float]:
        """Average precision of each label; NaN for those that never occur."""
        scores, truths = self.gathered()
        return [average_precision(scores[:, place], truths[:, place]) for place in range(len(self.classes))]

    def compute(self) -> dict[str, float]:
        scores, truths = self.gathered()
        occurring = [value for value in self.precisions() if not math.isnan(value)]
        return {
            "map": sum(occurring) / max(len(occurring), 1),
            "map_micro": average_precision(scores.flatten(), truths.flatten()) if occurring else 0.0,
            **self.per_class().macro(),
            "loss": float(F.binary_cross_entropy(scores, truths.float())) if len(scores) else 0.0,
        }

    def details(self) -> dict[str, Any]:
        table = class_table(self.classes, self.per_class())
        for row, precision in zip(table, self.precisions(), strict=True):
            row["average_precision"] = None if math.isnan(precision) else precision
        return {"classes": list(self.classes), "per_class": table}


def class_table(classes: Sequence[str], scores: ClassScores) -> list[dict[str, Any]]:
    """One row for each class, ready for JSON."""
    columns = (scores.support.tolist(), scores.precision.tolist(), scores.recall.tolist(), scores.f1.tolist())
    return [
        {"label": label, "support": support, "precision": precision, "recall": recall, "f1": f1}
        for label, support, precision, recall, f1 in zip(classes, *columns, strict=True)
    ]
