"""Where a curve leads: how good a run may be at its end, by the judgements so far."""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from vitrail.tasks.scores import DETECTION, PANOPTIC, SHARES, in_words

HUNDREDS = ("bleu", "chrf")  # scores of 100
ENOUGH = 3  # judgements from which a line can be drawn
EARLY = 0.25  # share of a run before which it would lead anywhere


def outlook(
    steps: Sequence[int], scores: Sequence[float], last: int, end: Literal["max", "min"], most: float = float("inf")
) -> tuple[float, float]:
    """Two scores between which the best one at the end of a run may be expected, the lower first.

    Curves of learning lie mostly between two straight lines: one over the steps, along which a model gets better as
    fast as before, and one over their logarithm, along which each gain takes as many times as many steps. The weights
    that are kept are never worse than the best so far.

    Args:
        steps: after which the model was judged.
        scores: what it reached.
        last: the step with which the run ends.
        end: whether large or small scores are good.
        most: the largest score that there can be; the smallest is 0.
    """
    x, y = np.asarray(steps, float), np.asarray(scores, float)
    ends = [np.polyval(np.polyfit(form(x), y, 1), form(last)) for form in (np.asarray, np.log)]
    best = float(y.max() if end == "max" else y.min())
    bound = np.maximum if end == "max" else np.minimum
    low, high = sorted(float(np.clip(bound(one, best), 0, most)) for one in ends)
    return low, high


def in_a_sentence(name: str, low: float, high: float) -> str:
    """The same as a person reads it."""
    first, second = in_words(name, low), in_words(name, high)
    return f"at the end {first if first == second else f'{first} to {second}'}, if it goes on like this"


def is_foretold(name: str) -> bool:
    """Whether a score has a largest value; straight lines lead losses and perplexities below nothing."""
    return most_of(name) < float("inf")


def most_of(name: str) -> float:
    """The largest value of a score."""
    return 1.0 if name in (*SHARES, *DETECTION, *PANOPTIC) else 100.0 if name in HUNDREDS else float("inf")
