"""What a detector does wrong, and from which score on its answers are best believed.

An answer is right if it shares at least half with an object of its class that no better answer has taken. What is wrong
is told apart as TIDE does, by its nearest objects: `missed` is an object that no answer is about; of answers,
`wrong class` shares half with an object of another class, `badly placed` shares a tenth with one of its class, `both`
shares a tenth with one of another class, `duplicate` is about an object that a better answer has taken, and
`background` shares less than a tenth with anything. What lies on a crowd is neither right nor wrong.

Source: Bolya et al., "TIDE: A General Toolbox for Identifying Object Detection Errors", ECCV 2020, section 2.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

SAME, NEAR = 0.5, 0.1  # shares of overlap from which two are about the same thing, and from which they are near
CROWDED, NOTHING = -2, -1  # instead of an object: the answer lies on a crowd, or is about nothing
RECALLS = np.linspace(0, 1, 101)
ERRORS = ("missed", "wrong class", "badly placed", "both", "duplicate", "background")
MISSED, WRONG_CLASS, BADLY_PLACED, BOTH, DUPLICATE, BACKGROUND = range(len(ERRORS))
RIGHT = len(ERRORS)  # no error


def average_precision(right: Bool[np.ndarray, " found"], objects: int) -> float:
    """Mean over 101 recalls of the best precision reached with at least that recall, as COCO counts it.

    Args:
        right: whether each answer is, best answers first.
        objects: how many there are to be found; more than none.
    """
    hits = np.cumsum(right)
    precision = hits / np.arange(1, len(right) + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    places = np.searchsorted(hits / objects, RECALLS, side="left")
    return float(np.append(envelope, 0.0)[places].mean())


class Cut(NamedTuple):
    """A score from which on answers are believed, and what that gives; `None` where nothing ever is right."""

    threshold: float | None
    precision: float | None
    recall: float | None
    f1: float | None


def best_cut(scores: Float[np.ndarray, " found"], right: Bool[np.ndarray, " found"], objects: int) -> Cut:
    """Where precision and recall are best together, by F1; of equals, the highest score.

    Args:
        scores: of the answers, highest first.
        right: whether each of them is.
        objects: how many there are to be found.
    """
    if not right.any():
        return Cut(None, None, None, None)
    hits = np.cumsum(right)
    called = np.arange(1, len(right) + 1)
    f1 = np.where(np.append(scores[1:] != scores[:-1], True), 2 * hits / (called + objects), 0)  # equals stand together
    best = int(f1.argmax())
    return Cut(float(scores[best]), float(hits[best] / called[best]), float(hits[best] / objects), float(f1[best]))


def taken(
    shares: Float[np.ndarray, "found objects"],
    same: Bool[np.ndarray, "found objects"],
    crowd: Bool[np.ndarray, " objects"],
) -> Int[np.ndarray, " found"]:
    """Which object each answer takes, as COCO gives them away: the best answer chooses first.

    Args:
        shares: overlap of answers, best first, with objects.
        same: whether they are of one class.
        crowd: which objects are crowds; of these any number of answers may take one.

    Returns:
        The place of an object, `CROWDED` or `NOTHING`.
    """
    found = np.full(len(shares), NOTHING)
    free = ~crowd
    near = same & (shares >= SAME)
    for answer in np.flatnonzero(near.any(axis=1)):
        candidates = np.flatnonzero(near[answer] & free)
        if candidates.size:
            nearest = shares[answer, candidates]
            found[answer] = candidates[np.flatnonzero(nearest == nearest.max())[-1]]  # of equals, COCO takes the last
            free[found[answer]] = False
        elif (near[answer] & crowd).any():
            found[answer] = CROWDED
    return found


class Judged(NamedTuple):
    """Answers compared with objects, in one picture or in many.

    Attributes:
        labels, scores: of the answers, best first in each picture.
        verdicts: what is wrong with each: its place in `ERRORS`, or `RIGHT`.
        about: the object that each is right about, or would be: its place among the objects; else `NOTHING`.
        true_labels: of the objects; crowds are not among them.
    """

    labels: Int[np.ndarray, " found"]
    scores: Float[np.ndarray, " found"]
    verdicts: Int[np.ndarray, " found"]
    about: Int[np.ndarray, " found"]
    true_labels: Int[np.ndarray, " objects"]

    def only(self, chosen: np.ndarray) -> "Judged":
        """Some of the answers, with all of the objects."""
        said = self.labels[chosen], self.scores[chosen], self.verdicts[chosen], self.about[chosen]
        return Judged(*said, self.true_labels)

    def missed(self) -> Bool[np.ndarray, " objects"]:
        """The objects that no answer is about, not even one of the wrong class or badly placed."""
        said = np.isin(self.verdicts, (RIGHT, WRONG_CLASS, BADLY_PLACED))
        alone = np.ones(len(self.true_labels), dtype=bool)
        alone[self.about[said]] = False
        return alone

    def counts(self) -> list[int]:
        """How many there are of each error."""
        return [int(self.missed().sum()), *np.bincount(self.verdicts, minlength=RIGHT)[1:RIGHT].tolist()]


class Verdicts(NamedTuple):
    """What each answer of one picture is.

    Attributes:
        kinds: what is wrong with it: a place in `ERRORS`, `RIGHT`, or `CROWDED`.
        about: the object that it is right about, or would be: its place among the objects; else `NOTHING`.
    """

    kinds: Int[np.ndarray, " found"]
    about: Int[np.ndarray, " found"]


def tell_apart(
    shares: Float[np.ndarray, "found objects"],
    labels: Int[np.ndarray, " found"],
    true_labels: Int[np.ndarray, " objects"],
    crowd: Bool[np.ndarray, " objects"],
) -> Verdicts:
    """Tell right from wrong in one picture, and one error from another.

    Args:
        shares: overlap of each answer, best first, with each object; of a crowd, the part of the answer on it.
        labels: of the answers.
        true_labels, crowd: of the objects.
    """
    same = labels[:, None] == true_labels[None]
    found = taken(shares, same, crowd)
    of_class, of_others = np.where(same & ~crowd, shares, 0), np.where(same | crowd, 0, shares)
    nearest, nearest_other = of_class.max(axis=1, initial=0), of_others.max(axis=1, initial=0)
    kinds = np.select(
        [
            found == CROWDED,
            found >= 0,
            (nearest >= NEAR) & (nearest < SAME),
            nearest_other >= SAME,
            nearest >= SAME,
            nearest_other >= NEAR,
        ],
        [CROWDED, RIGHT, BADLY_PLACED, WRONG_CLASS, DUPLICATE, BOTH],
        BACKGROUND,
    )
    about = np.where(kinds == RIGHT, found, NOTHING)
    if crowd.size:
        about = np.where(kinds == BADLY_PLACED, of_class.argmax(axis=1), about)
        about = np.where(kinds == WRONG_CLASS, of_others.argmax(axis=1), about)
    return Verdicts(kinds, about)


def judge(
    shares: Float[np.ndarray, "found objects"],
    labels: Int[np.ndarray, " found"],
    scores: Float[np.ndarray, " found"],
    true_labels: Int[np.ndarray, " objects"],
    crowd: Bool[np.ndarray, " objects"],
) -> Judged:
    """The same without crowds, and without the answers that lie on one."""
    kinds, about = tell_apart(shares, labels, true_labels, crowd)
    stays, place = kinds != CROWDED, np.append(np.cumsum(~crowd) - 1, NOTHING)
    return Judged(labels[stays], scores[stays], kinds[stays], place[about[stays]], true_labels[~crowd])


def together(pictures: Sequence[Judged]) -> Judged:
    """Many pictures as one; answers stay in the order of the pictures."""
    before = np.cumsum([0, *(len(one.true_labels) for one in pictures)])
    moved = [
        np.where(one.about >= 0, one.about + first, one.about) for one, first in zip(pictures, before, strict=False)
    ]
    nothing = Judged(np.zeros(0, int), np.zeros(0), np.zeros(0, int), np.zeros(0, int), np.zeros(0, int))
    parts = [nothing, *(one._replace(about=about) for one, about in zip(pictures, moved, strict=True))]
    return Judged(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def ranked(judged: Judged, label: int) -> Judged:
    """The answers of one class, best first; of equals, those of earlier pictures."""
    of_class = judged.only(judged.labels == label)
    return of_class.only(np.argsort(-of_class.scores, kind="stable"))


def mean_precision(judged: Judged, classes: Int[np.ndarray, " classes"]) -> float:
    """AP50: the mean of `average_precision` over classes; of one of which nothing is asked for, 1. 0 of no classes."""
    objects = np.bincount(judged.true_labels, minlength=classes.max(initial=-1) + 1).tolist()
    of_classes = [
        average_precision(ranked(judged, label).verdicts == RIGHT, objects[label]) if objects[label] else 1.0
        for label in classes.tolist()
    ]
    return float(np.mean(of_classes)) if of_classes else 0.0


def mended(judged: Judged, error: int) -> Judged:
    """As if one kind of error were not made.

    An object that is missed is not asked for. An answer of the wrong class, or badly placed, is put right if it is the
    best of those about its object and nothing else has found that; whatever else is wrong is not said.
    """
    if error == MISSED:
        return judged._replace(true_labels=judged.true_labels[~judged.missed()])
    wrong = judged.verdicts == error
    found = np.isin(np.arange(len(judged.true_labels)), judged.about[judged.verdicts == RIGHT])
    nearly = np.flatnonzero(np.isin(judged.verdicts, (WRONG_CLASS, BADLY_PLACED)))
    nearly = nearly[np.argsort(-judged.scores[nearly], kind="stable")]
    objects, first = np.unique(judged.about[nearly], return_index=True)
    best = np.zeros(len(wrong), dtype=bool)
    best[nearly[first[~found[objects]]]] = True
    right = wrong & best
    return judged._replace(
        labels=np.where(right, np.append(judged.true_labels, NOTHING)[judged.about], judged.labels),
        verdicts=np.where(right, RIGHT, judged.verdicts),
    ).only(right | ~wrong)


def breakdown(judged: Judged, cuts: Sequence[Cut]) -> list[dict[str, Any]]:
    """One row for each kind of error, ready for JSON.

    `count`: how often it is made by the answers that reach the cut of their class. `ap50_lost`: by how much AP50 would
    rise if it were never made, which depends on no cut.

    Args:
        judged: all pictures.
        cuts: one for each class.
    """
    least = np.array([np.inf if cut.threshold is None else cut.threshold for cut in cuts])
    believed = judged.only(judged.scores >= least[judged.labels])
    occurring = np.unique(judged.true_labels)
    reached = mean_precision(judged, occurring)
    rows = zip(range(len(ERRORS)), believed.counts(), strict=True)
    return [
        {
            "error": ERRORS[error],
            "count": count,
            "ap50_lost": max(mean_precision(mended(judged, error), occurring) - reached, 0.0),
        }
        for error, count in rows
    ]
