"""How surprising the true words are to a model that gave each word of a large vocabulary a logit."""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from vitrail.tasks.matching import detailed
from vitrail.tasks.text_scores import IGNORED

ROOM = 2**18  # logits that are compared at a time, so that they stay in the cache of a core


class Surprise(torch.autograd.Function):
    """Cross-entropy that works out its gradient on the way, a few rows at a time.

    torch writes all logits anew for each of its steps: in float32, as logarithms of beliefs, as their gradients, and as
    the gradients of logits. Here each is looked at once, and only the last is kept.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, target: Tensor, smoothing: float) -> Tensor:
        asked, words = target != IGNORED, logits.shape[1]
        total = detailed(logits.new_zeros(()))
        share = asked.to(total) / asked.sum().clamp(min=1)
        slopes = torch.empty_like(logits) if logits.requires_grad else None
        step = max(ROOM // words, 1)
        for first in range(0, len(logits), step):
            rows = slice(first, first + step)
            beliefs = detailed(logits[rows]).log_softmax(dim=1)
            truth, part = target[rows].clamp(min=0)[:, None], share[rows, None]
            surprise = (smoothing - 1) * beliefs.gather(1, truth) - smoothing * beliefs.mean(dim=1, keepdim=True)
            total += (surprise * part).sum()
            if slopes is not None:
                slope = beliefs.exp_().sub_(smoothing / words)
                slopes[rows] = slope.scatter_add_(1, truth, slope.new_full(truth.shape, smoothing - 1)).mul_(part)
        ctx.save_for_backward(slopes)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        [slopes] = ctx.saved_tensors
        return slopes * grads[0], None, None


def mean_surprise(
    logits: Float[Tensor, "*rows vocabulary"], target: Int[Tensor, "*rows"], smoothing: float = 0.0
) -> Float[Tensor, ""]:
    """The mean cross-entropy of the true words, in no less than float32; 0 where nothing is asked.

    Args:
        logits: of every word, in each place.
        target: the true words; `IGNORED` where nothing is asked.
        smoothing: share of belief that is spread over all words (Szegedy et al., CVPR 2016, section 7).
    """
    logits, target = logits.flatten(0, -2), target.flatten()
    if logits.device.type != "cpu" or torch.compiler.is_compiling():
        settings: dict[str, Any] = {"ignore_index": IGNORED, "label_smoothing": smoothing, "reduction": "sum"}
        return F.cross_entropy(detailed(logits), target, **settings) / (target != IGNORED).sum().clamp(min=1)
    found: Any = Surprise.apply(logits, target, smoothing)
    return found
