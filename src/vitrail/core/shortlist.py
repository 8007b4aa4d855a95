"""The likeliest words of a large vocabulary, found by reading a quarter of its matrix.

The last product of a language model compares what it has in mind with every word that it knows. For a sentence or two
that takes as long as reading the matrix: 70 of the 158 MB that an opus-mt reads for each word. Where only the likeliest
words are asked for, a copy of the matrix in whole numbers of one byte says which they may be, and these alone (one,
mostly) are multiplied in full. None is ever missed: how far the copy may be wrong is bounded for each word.

A row w of the matrix is written as mean + deviation * s, with the mean and the deviation of each column, so that
columns in which all words are large (GPT-2 has such) take no accuracy from the others. Then w x = mean x + s y, where
y = deviation * x. Both are rounded, s to u q and y to v r with whole numbers q and r, and by Cauchy and Schwarz

    |s y - u v q r| <= |s - u q| |v r| + |s| |y - v r|.

A preview by which words are chosen and then computed in full is Shim et al.'s ("SVD-softmax", NeurIPS 2017), which
shortens the rows and has no bound.
"""

from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from vitrail.core.highest import highest
from vitrail.core.layouts import Origin, predicts
from vitrail.core.precision import capabilities

Judge = Callable[[Tensor], Tensor]
Answer = TypeVar("Answer", bound=Callable[..., Tensor])

ANSWERED_BY = "answered_by"

SMALLEST = 2**23  # numbers in a matrix of which a copy pays
ROWS = 128  # rows that are multiplied in full at first: making a copy takes about as long as it saves with so many
SHARE = 1 / 8  # of all words that a list may hold: a longer one costs more than it saves
LONGEST = 2**16  # row of bytes whose product with another fits into 32 bits
LARGEST = 127  # whole number that is used of a byte
ZERO = 128  # byte without a sign that stands for it
BLOCK = 4096  # rows that are rounded at once, so that they stay in the cache
SLACK = 1e-6  # what float32 may add to the bounds, as a share of the lengths of what is multiplied
TINY = 1e-15  # smallest number of which there is a square in float32, with room for a sum


def multiply(
    x: Float[Tensor, "rows inputs"], unit: float, matrix: Tensor, units: Float[Tensor, "outputs"], zeros: Tensor
) -> Float[Tensor, "rows outputs"]:
    """Products of whole numbers, times the units in which they were counted. torch's compiler is built on it.

    What is multiplied with the matrix has no sign: with one, oneDNN takes thousands of times as long without AMX.
    """
    raised = (x + ZERO).to(torch.uint8)
    return torch.ops.onednn.qlinear_pointwise(
        raised, unit, ZERO, matrix, units, zeros, None, 1.0, 0, torch.float32, "none", [], ""
    )


def pack(matrix: Int[Tensor, "outputs inputs"]) -> Tensor:
    """Bytes in the order in which oneDNN wants to read them."""
    return torch.ops.onednn.qlinear_prepack(matrix, None)


@cache
def available() -> bool:
    """Whether the processor multiplies bytes at full speed, and this torch can ask for it and gets no number wrong."""
    if not capabilities().get("avx512_vnni"):
        return False
    signs = torch.ones(64, 256, dtype=torch.int8, device="cpu")
    signs[::2, ::3] = -1
    matrix, x = LARGEST * signs, LARGEST * signs[:3].float()  # the largest numbers that there are
    units, zeros = torch.ones(64, dtype=torch.float32, device="cpu"), torch.zeros(64, dtype=torch.long, device="cpu")
    try:
        answer = multiply(x, 1.0, pack(matrix), units, zeros)
    except (AttributeError, RuntimeError, TypeError):
        return False
    return torch.equal(answer, x @ matrix.float().mT)


def answered_by(name: str) -> Callable[[Answer], Answer]:
    """Say of a method that it is one linear layer of its model and nothing else: which one.

    Only then may the likeliest of its answers be asked of that layer. A method that takes its place says nothing.
    """

    def say(method: Answer) -> Answer:
        setattr(method, ANSWERED_BY, name)
        return method

    return say


class Shortlist:
    """A linear layer in bytes, whose outputs are words.

    It never changes, so copies of a model share it.
    """

    def __init__(self, layer: nn.Linear) -> None:
        weight = layer.weight.detach()
        self.origin = Origin(layer.weight, layer.bias)
        self.mean = weight.mean(dim=0)
        self.deviation = (weight - self.mean).square_().mean(dim=0).sqrt_().clamp_(min=TINY)
        blocks = map(self.rounded, weight.split(BLOCK))
        whole, units, *lengths = (torch.cat(parts) for parts in zip(*blocks, strict=True))
        self.matrix, self.units, self.zeros = pack(whole), units, torch.zeros_like(units, dtype=torch.long)
        bias = torch.zeros_like(units) if layer.bias is None else layer.bias.detach()
        self.table = torch.stack([*lengths, bias, torch.ones_like(units)])

    def __deepcopy__(self, memo: dict[int, Any]) -> "Shortlist":
        return self

    def rounded(self, weight: Float[Tensor, "rows inputs"]) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """q and u of some rows, and by how much an x with |v r| = 1, |y - v r| = 1 or |x| = 1 may be taken wrong."""
        standard = (weight - self.mean) / self.deviation
        units = standard.abs().amax(dim=1).clamp(min=TINY) / LARGEST
        whole = (standard / units[:, None]).round_()
        missing = standard.addcmul(whole, units[:, None], value=-1)
        lengths = weight.norm(dim=1) + self.mean.norm()
        return whole.to(torch.int8), units, missing.norm(dim=1), standard.norm(dim=1), SLACK * lengths

    def bounds(
        self, x: Float[Tensor, "rows inputs"]
    ) -> tuple[Float[Tensor, "rows outputs"], Float[Tensor, "rows outputs"]] | None:
        """What the layer answers at least, and at most; `None` for numbers of which squares are zero or not finite."""
        scaled = x * self.deviation
        sizes = scaled.abs().amax(dim=1)
        unit = float(sizes.max()) / LARGEST
        if not TINY < unit < 1 / TINY or ((sizes > 0) & (sizes < TINY)).any():
            return None
        whole = (scaled / unit).round_()
        products = multiply(whole, unit, self.matrix, self.units, self.zeros)
        near = whole * unit
        errors = torch.stack([near.norm(dim=1), (scaled - near).norm(dim=1), x.norm(dim=1)], dim=1)
        exact = torch.stack([torch.ones_like(x[:, 0]), x @ self.mean], dim=1)  # of the bias and of the mean
        least, most = (torch.addmm(products, torch.cat([way * errors, exact], dim=1), self.table) for way in (-1, 1))
        return least, most

    def __call__(
        self, layer: nn.Linear, x: Float[Tensor, "rows inputs"], count: int, judge: Judge
    ) -> Float[Tensor, "rows outputs"] | None:
        """What the layer answers, right for the likeliest words; for the others it is no more than right.

        Args:
            layer: that of which this is a copy.
            x: what the words are compared with.
            count: how many words of each row are looked at.
            judge: what is done to the answers before that, and again by whoever asks: it may lower them, or put numbers
                of its own in their place.

        Returns:
            The answers; `None` where too many words may be the likeliest, or numbers are no ordinary ones.
        """
        bounds = self.bounds(x)
        if bounds is None:
            return None
        least, most = bounds
        judged = judge(least)
        enough = judged.amax(dim=1, keepdim=True) if count == 1 else highest(judged, count)[0][:, -1:]
        few = (most.sub_(enough).amax(dim=0) >= 0).nonzero()[:, 0]
        if not 0 < len(few) <= SHARE * most.shape[1]:
            return None
        exact = F.linear(x, layer.weight[few], None if layer.bias is None else layer.bias[few])
        return least.index_copy_(1, few, exact)


class Listed(nn.Linear):
    """A linear layer of which the likeliest outputs alone may be asked."""

    shortlist: Shortlist | None = None
    waited = 0  # rows that were multiplied in full, at first and since there was last no list

    def likeliest(self, x: Float[Tensor, "*batch inputs"], count: int, judge: Judge) -> Float[Tensor, "*batch outputs"]:
        """What the layer answers, where only the `count` highest of each row after `judge` are looked at.

        Of a large layer the others may be less than they should be; see `Shortlist`.
        """
        if not self.may_list(x):
            return self(x)
        rows = x.flatten(0, -2)
        if self.waited >= ROWS:
            if self.shortlist is None or not self.shortlist.origin.is_still(self.weight, self.bias):
                self.shortlist = Shortlist(self)
            answer = self.shortlist(self, rows, count, judge)
            if answer is not None:
                return answer.unflatten(0, x.shape[:-1])
            self.waited = 0
        self.waited += len(rows)
        return self(x)

    def may_list(self, x: Float[Tensor, "*batch inputs"]) -> bool:
        """Whether the layer is large and nothing but a product, and there is something to multiply."""
        return (
            self.weight.numel() >= SMALLEST
            and self.in_features <= LONGEST
            and not (self._forward_hooks or self._forward_pre_hooks)
            and x.ndim > 1
            and x.numel() > 0
            and predicts(x, self.weight)
            and available()
        )
