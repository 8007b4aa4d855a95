"""A make-believe Apple GPU, for machines that have none: `python make_believe.py` runs commands, one per line of stdin.

Tensors on `mps` are computed on the processor, but say that they stand there. As on the real one, none of them may
become float64, and none may meet a tensor of the processor (but for a single number). Each offence is printed with its
line, and the exit code is then 1. What the real device computes, and which operations it lacks, is not known here.
"""

import json
import sys
import traceback
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

APPLE, PROCESSOR = torch.device("mps"), torch.device("cpu")
MEETS_ANY = {"copy_", "__setitem__", "__getitem__", "__set__", "__get__", "_has_compatible_shallow_copy_type"}
LEAVES = {"cpu", "numpy", "tolist", "item"}


class There(Tensor):
    """A tensor that stands on the device."""

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        with torch._C.DisableTorchFunctionSubclass():
            return func(*args, **(kwargs or {}))

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        with torch._C.DisableTorchFunction():
            other = self.detach().clone().as_subclass(There)
        memo[id(self)] = nn.Parameter(other, self.requires_grad) if isinstance(self, nn.Parameter) else other
        return memo[id(self)]


def device_in(values: Iterable[Any]) -> torch.device | None:
    """The device among some arguments, by whatever name."""
    kinds = ("cpu", "mps")
    named = (one for one in values if isinstance(one, torch.device) or (isinstance(one, str) and one in kinds))
    return next((torch.device(one) for one in named), None)


class MakeBelieve(TorchFunctionMode):
    """Within it, the device is there."""

    def __init__(self) -> None:
        super().__init__()
        self.offences: dict[str, None] = {}

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs, name = dict(kwargs or {}), getattr(func, "__name__", "")
        if name == "__get__" and getattr(func.__self__, "__name__", "") == "device":
            return APPLE if isinstance(args[0], There) else PROCESSOR
        tensors = [one for one in tree_leaves((args, kwargs)) if isinstance(one, Tensor)]
        there = [one for one in tensors if isinstance(one, There)]
        target = PROCESSOR if name in LEAVES else device_in([*(args if name == "to" else ()), kwargs.get("device")])
        if name == "to" and isinstance(args[1], Tensor):  # to where another stands
            target = APPLE if isinstance(args[1], There) else PROCESSOR
        args = tuple(PROCESSOR if device_in([one]) else one for one in args) if name == "to" else args
        if kwargs.get("device") is not None:
            kwargs["device"] = PROCESSOR
        if there and target is None and name not in MEETS_ANY and not name.startswith("_"):
            strangers = [one for one in tensors if not isinstance(one, There) and one.dim()]
            self.offend(f"{name} of tensors here and there", bool(strangers))
        with torch._C.DisableTorchFunctionSubclass():
            answer = func(*args, **kwargs)
        if name == "__set__" or (name.endswith("_") and not name.endswith("__") and target is None):
            return answer
        stays = target == APPLE or (target is None and bool(there))
        return tree_map(lambda one: self.placed(one, stays, name) if isinstance(one, Tensor) else one, answer)

    def placed(self, one: Tensor, there: bool, name: str) -> Tensor:
        """A tensor that stands where it should."""
        self.offend(f"{name} makes float64", there and one.dtype == torch.float64)
        if there == isinstance(one, There):
            return one
        with torch._C.DisableTorchFunction():
            return one.as_subclass(There if there else Tensor) if type(one) in (Tensor, There) else one

    def offend(self, what: str, done: bool) -> None:
        """Note what vitrail should not have done, and where."""
        lines = [one for one in traceback.extract_stack() if "/vitrail/" in one.filename] if done else []
        if lines:
            self.offences[f"{what}: {lines[-1].filename}:{lines[-1].lineno}: {lines[-1].line}"] = None


def move(self: nn.Module, *args: Any, **kwargs: Any) -> nn.Module:
    """In place of `Module.to`, which would keep the class of every parameter."""
    device = device_in([*args, *kwargs.values()])
    rest = [one for one in args if not device_in([one])]
    if rest:
        TO(self, *rest)
    if device is not None:
        kind = There if device == APPLE else Tensor
        for part in self.modules():
            for table in (part._parameters, part._buffers):
                for name, one in table.items():
                    if one is not None:
                        with torch._C.DisableTorchFunction():
                            moved = one.detach().as_subclass(kind)
                        learns = isinstance(one, nn.Parameter)
                        table[name] = nn.Parameter(moved, one.requires_grad) if learns else moved
    return self


class Draws:
    """In place of `torch.Generator`: chance is drawn on the processor, for any device."""

    def __new__(cls, device: Any = "cpu") -> torch.Generator:
        return GENERATOR()


TO, GENERATOR = nn.Module.to, torch.Generator

if __name__ == "__main__":
    nn.Module.to = move
    torch.Generator = Draws
    torch.backends.mps.is_available = lambda: True
    from vitrail.cli.main import main

    with MakeBelieve() as world:
        for line in sys.stdin:
            if main(json.loads(line)):
                sys.exit(f"failed: {line}")
    sys.exit("\n".join(world.offences) or 0)
