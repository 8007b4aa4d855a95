"""How surprising the true words are to a model that gave each word of a large vocabulary a logit."""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from vitrail.core.precision import detailed
from vitrail.tasks.text_scores import IGNORED

ROOM = 2**18  # logits that each thread compares at a time, so that they stay in the cache of its core
BLOCK = 64  # rows; a product of a new size costs oneDNN as much as several of a size it knows


def rows_asked(target: Int[Tensor, "*rows"]) -> Int[Tensor, " asked"]:
    """The rows, counted as if flattened, where something is asked, so that logits are computed of no others.

    Some follow where nothing is asked, until they are a multiple of `BLOCK` or all there are.
    """
    asked = target.flatten() != IGNORED
    order = asked.int().argsort(descending=True, stable=True)
    return order[: -(-int(asked.sum()) // BLOCK) * BLOCK]


class Surprise(torch.autograd.Function):
    """Cross-entropy that works out its gradient on the way, a few rows at a time.

    torch writes all logits anew for each of its steps: in float32, as logarithms of beliefs, as their gradients, and as
    the gradients of logits. Here each that is asked for is looked at once, and only the last is kept. It is a constant
    to torch: there are no second derivatives.
    """

    @staticmethod
    def forward(logits: Tensor, target: Tensor, smoothing: float, learns: bool) -> tuple[Tensor, Tensor]:
        """The mean, and its gradient where somebody learns from it."""
        total, words = detailed(logits.new_zeros(())), logits.shape[1]
        asked = (target != IGNORED).nonzero().flatten()
        count = max(len(asked), 1)
        slopes = torch.empty_like(logits if learns else logits[:0])
        if learns:
            slopes.index_fill_(0, (target == IGNORED).nonzero().flatten(), 0)
        for rows in asked.split(max(ROOM * torch.get_num_threads() // words, 1)):
            beliefs, truth = detailed(logits.index_select(0, rows)).log_softmax(dim=1), target[rows, None]
            total -= (1 - smoothing) * beliefs.gather(1, truth).sum() / count
            if smoothing:
                total -= smoothing * beliefs.mean(dim=1).sum() / count
            if learns:
                slope = beliefs.exp_().sub_(smoothing / words)
                slope.scatter_add_(1, truth, slope.new_full(truth.shape, smoothing - 1))
                slopes.index_copy_(0, rows, slope.div_(count).to(slopes.dtype))
        return total, slopes

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Any) -> None:
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(output[1])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        [slopes] = ctx.saved_tensors
        return slopes * grads[0], None, None, None


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
    learns = torch.is_grad_enabled() and logits.requires_grad
    found: Any = Surprise.apply(logits, target, smoothing, learns)
    return found[0]
