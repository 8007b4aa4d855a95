"""A calmer copy of the model: the moving average of its weights."""

import copy

import torch
from torch import Tensor, nn


class Average:
    """The exponential moving average of a model's weights, as a model.

    Args:
        model: whose weights are followed.
        decay: how much of the average stays at each step. Early on less stays, (1 + steps) / (10 + steps), so
            that the average does not remember the random beginning.

    Source: Polyak and Juditsky, "Acceleration of stochastic approximation by averaging", 1992; the early decay is
    TensorFlow's `ExponentialMovingAverage`.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Move towards the model.

        Args:
            step: how many steps it has taken.
        """
        decay = min(self.decay, (1 + step) / (10 + step))
        ours: list[Tensor] = list(self.model.parameters())
        theirs: list[Tensor] = list(model.parameters())
        torch._foreach_lerp_(ours, theirs, 1 - decay)
        for mine, other in zip(self.model.buffers(), model.buffers(), strict=True):
            mine.copy_(other)
