"""Where a model can run."""

import torch

from vitrail.errors import ConfigError, unknown


def devices() -> dict[str, bool]:
    """The kinds of device that torch knows and we use, fastest first, and whether this machine has one."""
    return {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}


def fastest_device() -> str:
    """The fastest kind of device that this machine has."""
    return next(kind for kind, here in devices().items() if here)


def usable_device(name: str) -> torch.device:
    """A device by name: `cpu`, `cuda`, `cuda:1` or `mps`.

    Raises:
        ConfigError: no such kind of device, or this machine has none.
    """
    kind, _, number = name.partition(":")
    if kind not in devices():
        raise ConfigError(unknown("device", name, devices()))
    if not devices()[kind] or (number and not number.isdecimal()):
        raise ConfigError(f"There is no device {name} here. `vitrail doctor` says what there is.")
    return torch.device(name)
