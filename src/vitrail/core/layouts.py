"""Which weights oneDNN may lay out beforehand, and how it is noticed that they have changed since."""

import torch
from torch import Tensor


class Origin:
    """The tensors that something was made of, as they stood then.

    It holds on to their values: while it does, no other tensor can come to stand where they stand, and be taken for
    them.
    """

    def __init__(self, *tensors: Tensor | None) -> None:
        self.held = [tensor if tensor is None else tensor.detach() for tensor in tensors]
        self.states = [state_of(tensor) for tensor in tensors]

    def is_still(self, *tensors: Tensor | None) -> bool:
        """Whether these are the same tensors, and torch has counted no change of them."""
        return self.states == [state_of(tensor) for tensor in tensors]


def state_of(tensor: Tensor | None) -> tuple[int, torch.Size, tuple[int, ...], int] | None:
    """Where the values stand, how many and in which order, and how many changes of them torch has counted."""
    if tensor is None:
        return None
    return tensor.data_ptr(), tensor.shape, tensor.stride(), 0 if tensor.is_inference() else tensor._version


def is_float32_on_cpu(tensor: Tensor) -> bool:
    return tensor.device.type == "cpu" and tensor.dtype == torch.float32


def predicts(*tensors: Tensor) -> bool:
    """Whether these are multiplied in float32 on CPU, to predict: no gradients, no autocast, no graph captured."""
    return (
        all(map(is_float32_on_cpu, tensors))
        and not torch.is_grad_enabled()
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
    )
