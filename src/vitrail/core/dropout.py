"""Dropout, by chance that costs little on a processor.

Source: Srivastava et al., "Dropout: A Simple Way to Prevent Neural Networks from Overfitting", JMLR 2014.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

CHANCES = 2**16  # that 16 random bits tell apart


def dropout(x: Float[Tensor, "*rest"], rate: float, training: bool = True) -> Float[Tensor, "*rest"]:
    """Put zero in the place of some values, and make the others so much larger that the mean stays.

    torch draws a number for each value. On CPU one draw of 64 bits decides here over four values, in a quarter to a
    half of the time; so the chance is a multiple of 1 / 65536, for which the rest makes up.

    Args:
        x: any values.
        rate: the chance of each to become zero, from 0 to below 1.
        training: whether anything is dropped at all.
    """
    if not (training and rate):
        return x
    zeros = round(rate * CHANCES)
    captured = torch.compiler.is_compiling() or torch.jit.is_tracing()
    if x.device.type != "cpu" or captured or zeros == CHANCES:
        return F.dropout(x, rate)
    draws = torch.empty(-(-x.numel() // 4), dtype=torch.int64, device=x.device)
    draws.random_(torch.iinfo(torch.int64).min, None)
    drawn = draws.view(torch.int16)[: x.numel()].view(x.shape)  # from -32768 to 32767
    kept = (drawn >= zeros - CHANCES // 2).to(x.dtype)
    return x * kept.mul_(CHANCES / (CHANCES - zeros))


class Dropout(nn.Dropout):
    """The same as a part of a model."""

    def forward(self, input: Float[Tensor, "*rest"]) -> Float[Tensor, "*rest"]:
        return dropout(input, self.p, self.training)
