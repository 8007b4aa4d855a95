"""Which weights oneDNN may lay out beforehand, and how it is noticed that they have changed since."""

import torch
from torch import Tensor


def state_of(weight: Tensor) -> tuple[int, int]:
    """Where the values stand, and how many changes of them torch has counted."""
    return weight.data_ptr(), 0 if weight.is_inference() else weight._version


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
