"""Scores of classifiers, counted batch by batch so that memory does not grow with the data.

Only average precision has to keep every score, since it depends on their order.
"""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

CALIBRATION_BINS = 15
SHARES = frozenset(
    {"top1", "top5", "precision", "recall", "f1", "ece", "map", "map_micro", "accuracy", "exact"}
)  # of 1
DETECTION = (
    *("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large"),
    *("ar1", "ar10", "ar100", "ar_small", "ar_medium", "ar_large"),
)  # the twelve numbers of COCO, in its order; of 1
PANOPTIC = tuple(f"{name}{part}" for part in ("", "_things", "_stuff") for name in ("pq", "sq", "rq"))  # of 1
UNDEFINED = -1.0  # says COCO of a score where there is nothing to find


def in_words(name: str, value: float) -> str:
    """A score as people read it: a share in percent, those of objects from 0 to 100, anything else as a number."""
    if name in (*DETECTION, *PANOPTIC):
        return "undefined" if value == UNDEFINED else f"{100 * value:.1f}"
    return f"{value:.1%}" if name in SHARES else f"{value:.4g}"


def telling(scores: Mapping[str, float], classes: int) -> dict[str, float]:
    """The scores that say something.

    With five classes the truth always is among five guesses; without small objects there is none to be found.
    """
    silent = {"top5"} if classes <= 5 else set()
    silent |= {name for name in (*DETECTION, *PANOPTIC) if scores.get(name) == UNDEFINED}
    return {name: value for name, value in scores.items() if name not in silent}


def ratio(part: Tensor, whole: Tensor) -> Float[Tensor, "..."]:
    """Part of the whole, and 0 where there is no whole."""
    return torch.where(whole > 0, part.double() / whole.clamp(min=1).double(), 0.0)


class ClassScores(NamedTuple):
    """How well each class is told from the others.

    Attributes:
        support: how often it was the truth.
        precision: of those called so, the share that were; 0 when none was called so.
        recall: of those that were, the share called so. It is also the accuracy of the class.
        f1: the harmonic mean of the two.
    """

    support: Int[Tensor, " classes"]
    precision: Float[Tensor, " classes"]
    recall: Float[Tensor, " classes"]
    f1: Float[Tensor, " classes"]

    def macro(self) -> dict[str, float]:
        """Each score as the mean over the classes that occur, whatever their size."""
        seen = self.support > 0
        if not seen.any():
            return dict.fromkeys(("precision", "recall", "f1"), 0.0)
        return {name: float(getattr(self, name)[seen].mean()) for name in ("precision", "recall", "f1")}


def class_scores(hits: Tensor, called: Tensor, support: Tensor) -> ClassScores:
    """From how often each class was rightly called, called, and true."""
    return ClassScores(support, ratio(hits, called), ratio(hits, support), ratio(2 * hits, called + support))


class Calibration:
    """Whether confidence is deserved: of the answers given with 80 %, 80 % should be right.

    Source: Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, section 2. Bins are equal and open
    on the left: ((b - 1) / 15, b / 15].
    """

    def __init__(self, bins: int = CALIBRATION_BINS) -> None:
        self.bins = bins
        self.count = torch.zeros(bins, dtype=torch.int64)
        self.confidence = torch.zeros(bins, dtype=torch.float64)
        self.right = torch.zeros(bins, dtype=torch.float64)

    def update(self, confidence: Float[Tensor, " batch"], right: Bool[Tensor, " batch"]) -> None:
        confidence = confidence.double()
        place = ((confidence * self.bins).ceil().long() - 1).clamp(0, self.bins - 1)
        self.count += torch.bincount(place, minlength=self.bins)
        self.confidence += torch.bincount(place, confidence, minlength=self.bins)
        self.right += torch.bincount(place, right.double(), minlength=self.bins)

    def error(self) -> float:
        """Expected calibration error: how far confidence and accuracy lie apart, on average."""
        return float((self.right - self.confidence).abs().sum() / self.count.sum().clamp(min=1))

    def details(self) -> dict[str, list]:
        """Each bin's upper edge, number of answers, mean confidence and accuracy, for a reliability diagram."""
        return {
            "edges": [(step + 1) / self.bins for step in range(self.bins)],
            "count": self.count.tolist(),
            "confidence": ratio(self.confidence, self.count).tolist(),
            "accuracy": ratio(self.right, self.count).tolist(),
        }


def average_precision(scores: Float[Tensor, " samples"], truth: Bool[Tensor, " samples"]) -> float:
    """The area under precision over recall, without interpolation; NaN when nothing is true.

    Samples of the same score are taken together, so that their order does not matter.
    """
    if not truth.any():
        return float("nan")
    scores, order = scores.sort(descending=True)
    hits = truth[order].double().cumsum(0)
    last_of_score = torch.cat([scores[1:] != scores[:-1], scores.new_ones(1, dtype=torch.bool)])
    hits, called = hits[last_of_score], torch.arange(1, len(scores) + 1)[last_of_score]
    gained = torch.diff(hits, prepend=hits.new_zeros(1))
    return float((gained * hits / called).sum() / truth.sum())
