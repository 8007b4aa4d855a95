"""Several processes that train one model, each on its share of every step.

They are started by `torchrun`. Nothing wraps the model: after the backward pass the gradients are summed, and since
every sample has been given the same weight beforehand, uneven shares come out right.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType

import torch
import torch.distributed as dist
from torch import nn

from vitrail.errors import TrainingError
from vitrail.train.signals import Interrupted


@dataclass(frozen=True)
class Team:
    """The processes of one run; alone it is a team of one, and nothing is sent.

    Attributes:
        rank: which of them this is, from 0.
        world: how many there are.
        device: where this one computes.
    """

    rank: int = 0
    world: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @classmethod
    def assemble(cls, device: str) -> "Team":
        """Meet the others that `torchrun` has started, if it has.

        Args:
            device: `cpu`, `cuda` or `mps`; with several processes each takes a GPU of its own.
        """
        world = int(os.environ.get("WORLD_SIZE", "1"))
        if world == 1:
            return cls(device=torch.device(device))
        if device == "cuda":
            device = f"cuda:{os.environ['LOCAL_RANK']}"
            torch.cuda.set_device(device)
        # Imported by torch's optimisers anyway, and then too late: its default arguments would hold the group of
        # processes until Python has ended, and gloo's threads abort when they outlive it.
        from torch.distributed import fsdp  # noqa: F401

        dist.init_process_group("nccl" if device.startswith("cuda") else "gloo")
        return cls(dist.get_rank(), world, torch.device(device))

    @property
    def leads(self) -> bool:
        """Whether this is the one that judges, saves and speaks."""
        return self.rank == 0

    def __enter__(self) -> "Team":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.world > 1:
            if error is None or isinstance(error, Interrupted):  # all leave together
                dist.barrier()
            dist.destroy_process_group()
            if isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and "gloo" in str(error)):
                raise TrainingError(
                    f"Another process of this run has ended, so process {self.rank} stops too. Its own message says "
                    f"why; `vitrail resume` under torchrun goes on from the last checkpoint."
                ) from error

    def reduce(self, values: Sequence[float], how: dist.ReduceOp.RedOpType) -> list[float]:
        """Numbers of all processes put together, place by place."""
        if self.world == 1:
            return list(values)
        together = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(together, how)
        return together.tolist()

    def sum(self, value: float) -> float:
        """A number added up over all processes."""
        return self.reduce([value], dist.ReduceOp.SUM)[0]

    def largest(self, value: float) -> float:
        """The largest that any process has."""
        return self.reduce([value], dist.ReduceOp.MAX)[0]

    def told(self, values: Sequence[float]) -> list[float]:
        """The leader's numbers, known to all."""
        return self.reduce(values if self.leads else [0.0] * len(values), dist.ReduceOp.SUM)

    def told_text(self, text: str) -> str:
        """The leader's words, known to all."""
        if self.world == 1:
            return text
        letters = torch.zeros(4096, dtype=torch.uint8, device=self.device)  # longer than any path may be
        if self.leads:
            encoded = text.encode()
            letters[: len(encoded)] = torch.tensor(list(encoded), dtype=torch.uint8)
        dist.broadcast(letters, src=0)
        return bytes(letters.tolist()).rstrip(b"\0").decode()

    def sum_gradients(self, model: nn.Module) -> None:
        """Add up gradients over all processes; one that has none adds nothing."""
        if self.world == 1:
            return
        learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
        present = self.reduce([float(parameter.grad is not None) for parameter in learning], dist.ReduceOp.SUM)
        pending = []
        for parameter, count in zip(learning, present, strict=True):
            if not count:
                continue
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            pending.append(dist.all_reduce(parameter.grad, async_op=True))
        for work in pending:
            work.wait()

    def share(self, module: nn.Module) -> None:
        """Give everybody the leader's parameters and buffers."""
        if self.world > 1:
            for tensor in module.state_dict().values():
                dist.broadcast(tensor, src=0)
