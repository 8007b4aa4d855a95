"""A calmer copy of the model: the moving average of its weights, or the mean of what they were after some epochs."""

import copy
from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from vitrail.errors import ConfigError


@runtime_checkable
class Averaging(Protocol):
    """A second copy of a model that is judged and kept in its place."""

    @property
    def model(self) -> nn.Module:
        """The copy."""
        ...

    def update(self, model: nn.Module, step: int) -> None:
        """The model has taken so many steps."""
        ...

    def gather(self, model: nn.Module, step: int) -> None:
        """The model is at the end of an epoch, or of the run, after so many steps; a second time changes nothing."""
        ...

    def tensors(self) -> dict[str, Tensor]:
        """Everything it remembers."""
        ...

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Remember what was written down."""
        ...


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

    def gather(self, model: nn.Module, step: int) -> None:
        """Nothing: it is always ready."""

    def tensors(self) -> dict[str, Tensor]:
        """The average."""
        return dict(self.model.state_dict())

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Stand where the average stood."""
        self.model.load_state_dict(dict(tensors))


class LastAverage:
    """The mean of a model's weights after each of the last epochs, as a model.

    What is no parameter, such as a table of positions, is as it was after the last of them.

    Args:
        model: whose weights are gathered.
        epochs: how many of them count; all that there are, before there are so many.

    Source: Vaswani et al., "Attention Is All You Need", NeurIPS 2017, section 6.1, who take the last five checkpoints.
    """

    def __init__(self, model: nn.Module, epochs: int) -> None:
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.epochs = epochs
        self.gathered: dict[int, dict[str, Tensor]] = {}  # by the number of steps, the oldest first

    def update(self, model: nn.Module, step: int) -> None:
        """Nothing: only the ends of epochs count."""

    def gather(self, model: nn.Module, step: int) -> None:
        """Take the weights as they are now, and forget the oldest."""
        self.gathered[step] = {name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()}
        self.gathered = dict(sorted(self.gathered.items())[-self.epochs :])
        self.mean()

    @torch.no_grad()
    def mean(self) -> None:
        """Put the mean of what was gathered into the model; always summed in one order, and so always the same."""
        *_, newest = self.gathered.values()
        averaged = {name for name, _ in self.model.named_parameters(remove_duplicate=False)}
        self.model.load_state_dict(
            {
                name: sum(one[name] for one in self.gathered.values()) / len(self.gathered)
                if name in averaged
                else last
                for name, last in newest.items()
            }
        )

    def tensors(self) -> dict[str, Tensor]:
        """All weights that were gathered, under the number of steps after which they were."""
        return {f"{step}/{name}": tensor for step, kept in self.gathered.items() for name, tensor in kept.items()}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Gather again what was gathered."""
        self.gathered = {}
        for place, tensor in tensors.items():
            step, _, name = place.partition("/")
            self.gathered.setdefault(int(step), {})[name] = tensor.clone()
        self.gathered = dict(sorted(self.gathered.items()))
        if self.gathered:
            self.mean()


def counts(part: nn.Module) -> bool:
    """Whether it is a batch norm that remembers what it sees."""
    return hasattr(part, "running_mean") and part.training and not getattr(part, "frozen", False)


def refuse_counting(model: nn.Module, average_last: int | None) -> None:
    """Refuse the mean of weights where batch norms would have to count anew for it.

    Source: Izmailov et al., "Averaging Weights Leads to Wider Optima and Better Generalization", UAI 2018, section 3.2.

    Raises:
        ConfigError: they would.
    """
    if average_last is not None and any(map(counts, model.modules())):
        raise ConfigError(
            f"average_last={average_last} takes the mean of weights, and the batch norms of this model have counted"
            f" what the last weights make. Type --set average_last=none, and --set ema=0.998 for another average."
        )


def averaging(model: nn.Module, ema: float | None, average_last: int | None) -> Averaging | None:
    """What a recipe asks for; `None` where the model itself is judged and kept."""
    if average_last is not None:
        return LastAverage(model, average_last)
    return None if ema is None else Average(model, ema)
