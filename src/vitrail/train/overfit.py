"""Learning a few samples by heart: a trial that any sound recipe passes, before hours are spent on all of them.

What fails here is not the amount of data: the classes, the boxes, the rate, or the reading of the files is wrong.
"""

from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from typing import Any, Protocol, runtime_checkable

from vitrail.data.dataset import Dataset, Splits, Subset, classes_of
from vitrail.data.open import open_splits
from vitrail.errors import many
from vitrail.tasks.scores import in_words
from vitrail.tasks.task import Task
from vitrail.train.recipe import Recipe

STEPS, JUDGED = 1200, 12  # steps of a trial, and how often it is judged on the way
LEARNED = 0.9  # score from which a few samples are known by heart

Say = Callable[[str], None]


@runtime_checkable
class Learnable(Protocol):
    """A task that says by which score a few samples are known by heart, where it is not the one that decides."""

    by_heart: str


def few(data: Dataset, count: int) -> list[int]:
    """The places of so many samples, spread evenly, of those that have something to learn."""
    telling = [place for place, label in enumerate(data.labels()) if label is not None and classes_of(label)]
    telling = telling or list(range(len(data)))
    count = min(count, len(telling))
    return [telling[number * len(telling) // count] for number in range(count)]


def splits_of(recipe: Recipe) -> Splits:
    """The data of a recipe: all of it, or the few samples that are to be learned by heart.

    The few are learned from many times in what is called an epoch, and are what the model is judged by.
    """
    whole = open_splits(recipe.data.path)
    return whole if recipe.overfit is None else only_few(whole, recipe)


def only_few(whole: Splits, recipe: Recipe) -> Splits:
    """The few samples of a recipe out of its data."""
    assert recipe.overfit is not None
    chosen = few(whole.train, recipe.overfit)
    often = max(recipe.data.batch * STEPS // (JUDGED * len(chosen)), 1)
    note = (
        f"Only {many(len(chosen), recipe.data.unit)} are learned from, by heart, and judged by: a trial, and no proof "
        f"of anything on others."
    )
    return Splits(Subset(whole.train, chosen * often), Subset(whole.train, chosen), [*whole.notes, note])


def unvaried(part: Any) -> Any:
    """A part of a recipe in which nothing is varied, mixed or drawn."""
    known = {one.name for one in fields(part)}
    changes: dict[str, Any] = {}
    if "augment" in known:
        changes["augment"] = type(part.augment).none()
    if "mixing" in known:
        changes["mixing"] = None
    return replace(part, **changes)


def by_heart(recipe: Recipe, count: int) -> Recipe:
    """The recipe of the trial: nothing is varied, no weights are averaged, and as many steps as it takes."""
    judged = {"epochs": JUDGED, "judge_every": 1}
    return replace(recipe, overfit=count, data=unvaried(recipe.data), ema=None, average_last=None, **judged)


def verdict(task: Task, scores: Mapping[str, float], losses: tuple[float, float], parts: Mapping[str, float]) -> str:
    """Whether it was passed, and what to look at if it was not.

    Args:
        task: whose score decides.
        scores: of the weights that were kept.
        losses: at the beginning and at the end.
        parts: of the loss at the end, by name.
    """
    name = task.by_heart if isinstance(task, Learnable) else task.best[0]
    score, (first, last) = scores[name], losses
    said = f"{name} {in_words(name, score)}"
    if score > LEARNED:
        return f"Known by heart: {said}. Data, classes and recipe fit together; leave out --overfit to learn from all."
    if parts.get("unmatched", 0) > 0:
        why = "A picture has more objects than the model has queries: --set model.queries=N, with a larger N."
    elif not last < 0.7 * first:
        why = (
            f"The loss hardly fell ({first:.3g} to {last:.3g}). Try another rate: --set optimiser.rate=1e-4 or 5e-4; "
            f"and look at what the model is shown, in targets.png of the run."
        )
    elif parts.get("class_error", 0) > 0.1:
        why = (
            f"The loss fell, and {parts['class_error']:.0%} of the objects are called by another class: look at the "
            f"classes in targets.png of the run."
        )
    else:
        why = f"The loss is still falling ({first:.3g} to {last:.3g}): more steps, --epochs {2 * JUDGED}, may do."
    return f"Not known by heart: {said}, and {in_words(name, LEARNED)} is expected. {why}"
