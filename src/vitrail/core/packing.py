"""Prediction on CPU with weights that oneDNN has laid out beforehand.

A matrix product spends part of its time bringing the weights into the order in which the processor wants to read
them. They do not change while a model predicts, so that can be done once (convolutions: `core.packed_convolutions`):
ViT-B/16 answers one picture in 0.80 of
torch's time on two Zen 4 cores and in 0.71 on two Zen 5 (benchmarks/README.md), with the same numbers within float32
rounding.
"""

import platform
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from vitrail.core.convolutions import ConvNorm
from vitrail.core.init import Undrawn
from vitrail.core.layouts import Origin, is_float32_on_cpu, predicts
from vitrail.core.packed_convolutions import pack, packable_convolution
from vitrail.core.precision import LIMIT, multiplies_in_tiles
from vitrail.core.shortlist import Listed
from vitrail.core.twins import twin_of
from vitrail.errors import ConfigError

MEASURED = ("x86_64", "AMD64")  # elsewhere nobody has looked whether it helps
FEWEST = 4  # rows to multiply at once: for one row, oneDNN reads the weights at three quarters of the speed (Zen 4)
LITTLE = 2**18  # multiplications that are done before oneDNN has looked up how to do them, which takes it 20 us
LITTLE_WITH_TILES = 3 * 2**20  # multiplications up to which torch was as quick on an Intel processor with AMX


class Layout:
    """A weight in the order that oneDNN likes, and what it was made of.

    It never changes, so copies of a model share it.
    """

    def __init__(self, weight: Tensor) -> None:
        self.origin = Origin(weight)
        self.weight = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), None)

    def __deepcopy__(self, memo: dict[int, Any]) -> "Layout":
        return self


def apply(layout: Layout, x: Float[Tensor, "*batch inputs"], bias: Tensor | None) -> Float[Tensor, "*batch outputs"]:
    """What `F.linear` answers. The operations are private to torch; its compiler is built on them."""
    return torch.ops.mkldnn._linear_pointwise(x, layout.weight, bias, "none", [], "")


def apply_to_few(
    layout: Layout, x: Float[Tensor, "*batch inputs"], bias: Tensor | None
) -> Float[Tensor, "*batch outputs"]:
    """The same for up to three rows, as a word that is written alone has one, before rows of zeros."""
    rows = x.reshape(-1, x.shape[-1])
    answer = apply(layout, F.pad(rows, (0, 0, 0, FEWEST - rows.shape[0])), bias)
    return answer[: rows.shape[0]].view(*x.shape[:-1], answer.shape[-1])


def left_to_torch(few: bool, multiplications: int) -> bool:
    """Whether it is plain that torch multiplies: asked for each word, so it costs little to answer.

    On an Intel processor with AMX, MKL reads weights for a few rows fastest.
    """
    if torch.compiler.is_compiling():
        return True
    if multiplies_in_tiles():
        return few or multiplications <= LITTLE_WITH_TILES
    return multiplications <= LITTLE


class PackedLinear(Listed):
    """An `nn.Linear` whose weight has been laid out for predicting in float32 on CPU.

    In every other case (gradients wanted, autocast, another type or device, a graph being captured, with little to
    multiply) it computes as the `nn.Linear` that it was. A weight that torch knows to have changed is laid out anew.
    """

    layout: Layout

    def forward(self, input: Float[Tensor, "*batch inputs"]) -> Float[Tensor, "*batch outputs"]:
        few = input.numel() < FEWEST * self.in_features
        if left_to_torch(few, input.numel() * self.out_features) or not predicts(input, self.weight):
            return F.linear(input, self.weight, self.bias)
        layout = self.layout
        if not layout.origin.is_still(self.weight):
            layout = self.layout = Layout(self.weight)
        return (apply_to_few if few else apply)(layout, input, self.bias)


@cache
def available() -> bool:
    """Whether this torch has the operations, and they answer what `nn.Linear` answers."""
    if platform.machine() not in MEASURED:
        return False
    with Undrawn():  # what is drawn by chance elsewhere stays as it was
        linear, x = nn.Linear(48, 32, device="cpu", dtype=torch.float32), torch.ones(2, 48)
    with torch.no_grad():
        for values in linear.parameters():
            values.copy_(torch.linspace(-1, 1, values.numel()).view_as(values))
        try:
            answer = apply(Layout(linear.weight), x, linear.bias)
        except (AttributeError, RuntimeError, TypeError):
            return False
        return torch.allclose(answer, linear(x), rtol=LIMIT, atol=LIMIT)


def packable(part: nn.Module) -> bool:
    """Whether a part is a plain linear layer with something to lay out; subclasses may mean something else."""
    return (
        type(part) is nn.Linear
        and isinstance(part.weight, nn.Parameter)  # and is not computed anew by a hook, as pruning does
        and is_float32_on_cpu(part.weight)
        and part.weight.numel() > 0
    )


@cache
def convolutions_available() -> bool:
    """Whether this torch has the operations for convolutions, and they answer what the layers answer."""
    if platform.machine() not in MEASURED:
        return False
    with torch.no_grad():
        with Undrawn():
            plain = ConvNorm(8, 16, 3, stride=2).to("cpu", torch.float32).eval()
        plain.convolution.weight.copy_(torch.linspace(-1, 1, 16 * 8 * 9).view(16, 8, 3, 3))
        x, around = torch.linspace(-1, 1, 8 * 49).view(1, 8, 7, 7), torch.ones(1, 16, 4, 4)
        folded = twin_of(plain)
        pack(folded)
        try:
            answers = [folded(x), folded(x, None, around)]
        except (AttributeError, RuntimeError, TypeError):
            return False
        pairs = zip(answers, [plain(x), plain(x, None, around)], strict=True)
        return all(torch.allclose(ours, theirs, rtol=LIMIT, atol=LIMIT) for ours, theirs in pairs)


def packed(model: nn.Module) -> nn.Module:
    """Make a twin of a model that predicts faster on CPU, with the same numbers within float32 rounding.

    The twin shares every parameter and buffer with the model, which stays as it is. It holds each linear weight once
    more in another order (342 MB for ViT-B/16), and each convolution once more with its norm in it (94 MB for
    ResNet-50); a large vocabulary also in bytes, once enough words were written (18 MB for an opus-mt). It can be
    called, copied, moved and recorded as the model can. The twin notices weights that are loaded, and others that are
    put in place of its own. What torch does not count it does not notice: steps of a fused optimiser,
    `weight.data += 1`, changes of weights that were made in inference mode. Pack again after these, and after putting
    other weights into the model and not into the twin.

    Returns:
        The twin; or the model itself where nothing is to be gained: in training mode, without float32 layers of these
        kinds on CPU, where torch lacks the operations, or where the model cannot be copied.
    """
    linear = {name for name, part in model.named_modules() if available() and packable(part)}
    convolutions = {
        name for name, part in model.named_modules() if packable_convolution(part) and convolutions_available()
    }
    if model.training or not (linear or convolutions):
        return model
    try:
        twin = twin_of(model)
    except ConfigError:
        return model
    for name, part in [*twin.named_modules()]:
        if name in convolutions:
            pack(part)
        if name in linear:
            part.__class__ = PackedLinear  # so it keeps its hooks, and its place wherever it is referred to
            assert isinstance(part, PackedLinear)
            part.layout = Layout(part.weight)
    return twin
