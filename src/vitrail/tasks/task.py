"""What an answer means: the loss that teaches it, the result that a person reads, and the score it earns.

A task is frozen and keeps nothing: whatever is learned or counted lives in modules and in `Metrics`. It is handed
the model, so that teachers, masking and generation all fit behind the same four methods.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vitrail.samples import Batch


class Loss(NamedTuple):
    """What training makes smaller.

    Attributes:
        total: the mean over the samples of the batch, or over what `Weighs` counts. It must be a plain mean, so that
            a batch which is split over steps or processes teaches the same thing.
        parts: what it is made of, by name, to be shown; without gradients.
    """

    total: Float[Tensor, ""]
    parts: dict[str, Tensor]


@runtime_checkable
class Result(Protocol):
    """What a model says about one picture, as a person reads it."""

    def record(self, top: int = 5) -> dict[str, Any]:
        """Ready for JSON; where there are several guesses, so many of them."""
        ...

    def summary(self, top: int = 3) -> str:
        """One line; where there are several guesses, so many of them."""
        ...


@runtime_checkable
class Metrics(Protocol):
    """Scores that are counted batch by batch."""

    def update(self, results: Sequence[Any], batch: Batch) -> None:
        """Count the results of one batch, one for each of its pictures."""
        ...

    def compute(self) -> dict[str, float]:
        """The scores so far, one number for each name."""
        ...

    def details(self) -> dict[str, Any]:
        """What the numbers are made of (confusion, classes, calibration), ready for JSON."""
        ...


@runtime_checkable
class Task(Protocol):
    """A meaning for the answers of a model."""

    @property
    def name(self) -> str:
        """As the catalog has it."""
        ...

    @property
    def best(self) -> tuple[str, Literal["max", "min"]]:
        """The score by which one model is better than another, and which end of it is good."""
        ...

    def loss(self, model: nn.Module, batch: Batch, generator: torch.Generator | None = None) -> Loss:
        """What one batch teaches; chance, where there is any, comes from the generator."""
        ...

    def predict(self, model: nn.Module, inputs: Any) -> Sequence[Result]:
        """One result for each sample."""
        ...

    def metrics(self) -> Metrics:
        """Fresh counters."""
        ...

    def after_step(self, model: nn.Module, step: int) -> None:
        """Whatever must follow each step of the optimiser, such as moving a teacher."""
        ...


@runtime_checkable
class Judges(Protocol):
    """A task whose model is not judged by what it would answer a person: the truth is asked for, or time is saved."""

    def judge(self, model: nn.Module, batch: Batch) -> Sequence[Result]:
        """One result for each sample, given the truth."""
        ...


@runtime_checkable
class Weighs(Protocol):
    """A task whose loss is not a mean over the samples, but over the words in them."""

    def weight(self, batch: Batch) -> int:
        """How many there are in a batch."""
        ...


def weight_of(task: Task, batch: Batch) -> int:
    """How much the loss of a batch counts beside that of others."""
    return task.weight(batch) if isinstance(task, Weighs) else batch.index.shape[0]


def ask(model: nn.Module, inputs: Any) -> Any:
    """What a model answers to pictures, which are one tensor, or to `Words`, which are several."""
    return model(*inputs) if isinstance(inputs, tuple) else model(inputs)


@runtime_checkable
class NeedsModels(Protocol):
    """A task that asks other models, which somebody above it has to find and to load."""

    def located(self, locate: Callable[[str], str]) -> Task:
        """The same task with each source of a model as `locate` gives it: one that can be found from anywhere."""
        ...

    def bind(self, load: Callable[[str], nn.Module], student: nn.Module) -> Task:
        """The same task with its models at hand; `load` gives the model of a source, in eval mode."""
        ...


@runtime_checkable
class NeedsWeights(Protocol):
    """A task that makes up for rare classes, which somebody who sees the pictures has to count."""

    def weighed(self, weigh: Callable[[], Sequence[float]]) -> Task:
        """The same task with what each class counts, where it wants that; `weigh` gives a number for each class."""
        ...


@runtime_checkable
class GoesOn(Protocol):
    """A task whose answer is one text with what it is given, and which so is given a prompt."""

    @property
    def goes_on(self) -> bool: ...


@runtime_checkable
class Remarks(Protocol):
    """A task with something to say about the model that is about to learn it."""

    def remarks(self, model: nn.Module) -> Sequence[str]:
        """Sentences for the person; none where everything is as one would expect."""
        ...
