"""A second model of the same parameters, to be changed in its parts while the first stays as it is."""

import copy
from itertools import chain

from torch import nn

from vitrail.errors import ConfigError


def twin_of(model: nn.Module) -> nn.Module:
    """A copy of the structure that shares every parameter and buffer.

    Raises:
        ConfigError: the model cannot be copied, because it is sharded, exported or holds what belongs to the process.
    """
    shared = {id(tensor): tensor for tensor in chain(model.parameters(), model.buffers())}
    try:
        return copy.deepcopy(model, shared)
    except Exception as error:  # whatever its parts raise when they are copied
        raise ConfigError(f"This {type(model).__name__} cannot be copied ({error}).") from error
