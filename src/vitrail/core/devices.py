"""Where a model can run."""

from typing import Any

import torch
from torch import Tensor

from vitrail.errors import ConfigError, unknown


def devices() -> dict[str, bool]:
    """The kinds of device that torch knows and we use, fastest first, and whether this machine has one."""
    return {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}


def fastest_device() -> str:
    """The fastest kind of device that this machine has."""
    return next(kind for kind, here in devices().items() if here)


def usable_device(name: str | torch.device) -> torch.device:
    """A device by name: `cpu`, `cuda`, `cuda:1` or `mps`; or one of torch's, which is here.

    Raises:
        ConfigError: no such kind of device, or this machine has none.
    """
    name = str(name)
    kind, _, number = name.partition(":")
    if kind not in devices():
        raise ConfigError(unknown("device", name, devices()))
    if not devices()[kind] or (number and not number.isdecimal()):
        raise ConfigError(f"There is no device {name} here. `vitrail doctor` says what there is.")
    return torch.device(name)


def to_device(value: Any, device: torch.device) -> Any:
    """Tensors moved, in whatever tuples, lists and dictionaries they stand."""
    if isinstance(value, Tensor):
        return value.to(device, non_blocking=True)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(to_device(item, device) for item in value))
    if isinstance(value, (list, tuple)):
        return type(value)(to_device(item, device) for item in value)
    if isinstance(value, dict):
        return {key: to_device(item, device) for key, item in value.items()}
    return value
