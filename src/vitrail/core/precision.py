"""Float32 matrix products at twice the speed, where the processor computes them without rounding.

torch hands float32 products on x86 to MKL. oneDNN does the same work in half the time on processors that MKL does not
know well (two Zen 5 cores: 460 against 205 GFLOP/s), but torch turns to it only when told that rounding to bfloat16 is
welcome. oneDNN makes use of that leave only where the processor has tile instructions (AMX); everywhere else its
kernel is a true float32 one. So what one setting means is decided by the processor. Here, and nowhere else, it is
decided whether to set it: by what the processor says of itself, and then by multiplying and comparing with float64.

The decision depends on nothing but the machine and torch, so that a run which goes on later computes as it did.
"""

import threading
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

SETTING: Any = torch.backends.mkldnn.matmul  # pyright: ignore[reportAttributeAccessIssue] (made at run time)
DETAIL = (torch.float32, torch.float64)  # types in which boxes and beliefs are compared
LIMIT = 1e-5  # of the relative error of a product: float32 makes 3e-7 to 1e-6, tf32 3e-4, bfloat16 2e-3


class Leave(AbstractContextManager):
    """While it is held, torch may send float32 products on CPU to oneDNN.

    torch has one such setting for the whole process, so all threads share it: the first to ask sets it, the last to
    finish puts back what the first one found. Only oneDNN's products are touched; GPUs and convolutions are not.
    """

    def __init__(self) -> None:
        self.lock, self.holders, self.found = threading.Lock(), 0, "none"

    def __enter__(self) -> None:
        with self.lock:
            if not self.holders:
                self.found = SETTING.fp32_precision
                SETTING.fp32_precision = "bf16"
            self.holders += 1

    def __exit__(self, *_: object) -> None:
        with self.lock:
            self.holders -= 1
            if not self.holders:
                SETTING.fp32_precision = self.found


LEAVE = Leave()


def error_of(left: Tensor, right: Tensor) -> float:
    """How far a float32 product is from the float64 one, as a share of its length."""
    exact = left.double() @ right.double()
    return float(((left @ right).double() - exact).norm() / exact.norm())


def error_with_leave() -> float:
    """The largest error among the products of a linear layer, forward and backward, and of attention."""
    generator = torch.Generator("cpu").manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float32, device="cpu")

    tokens, weight, gradient, heads = draw(197, 384), draw(256, 384), draw(197, 256), draw(6, 65, 64)
    products = [(tokens, weight.T), (gradient, weight), (gradient.T, tokens), (heads, heads.mT)]
    with LEAVE, torch.no_grad(), torch.autocast("cpu", enabled=False):
        return max(error_of(left, right) for left, right in products)


class Decision(NamedTuple):
    """Whether float32 products go to oneDNN on this machine, and why, in one sentence."""

    fast: bool
    sentence: str


@cache
def decide() -> Decision:
    """Look at the processor, then measure (some milliseconds, once in a process)."""
    knows = capabilities()
    if not torch.backends.mkldnn.is_available():
        return Decision(False, "float32 products stay with torch's own kernels: this torch is built without oneDNN")
    if not knows.get("avx512_f"):
        return Decision(False, "float32 products stay with torch's own kernels: the processor has no AVX-512")
    if knows.get("amx_tile"):
        return Decision(False, "float32 products stay with MKL: with AMX, oneDNN would round them to bfloat16")
    error = error_with_leave()
    if not error < LIMIT:
        return Decision(False, f"float32 products stay with MKL: oneDNN rounds them here (error {error:.0e})")
    return Decision(True, f"float32 products go to oneDNN, which keeps float32 accuracy here (error {error:.0e})")


def fast_float32() -> AbstractContextManager:
    """Compute float32 products on CPU with oneDNN while this is open, where that loses no accuracy.

    Changes nothing where it would round or would not help (AMX, no AVX-512, ARM, a torch without oneDNN), and nothing
    on a GPU. It may be nested and held by several threads; the setting behind it is the process's, so work in other
    threads meanwhile is sped up too. What was set before comes back when the last holder leaves, by an error too.
    Inside, `torch.get_float32_matmul_precision()` is an error in torch, which wants either its old setting or its new
    one to be used.
    """
    return LEAVE if decide().fast else nullcontext()


def capabilities() -> Mapping[str, Any]:
    """What the processor says of itself."""
    return getattr(torch.cpu, "get_capabilities", dict)()


@cache
def multiplies_bfloat16() -> bool:
    """Whether the processor has instructions for bfloat16 products."""
    return bool(capabilities().get("avx512_bf16"))


@cache
def multiplies_in_tiles() -> bool:
    """Whether it multiplies whole tiles of a matrix at once (AMX)."""
    return bool(capabilities().get("amx_tile"))


def products_are_quick(like: Tensor) -> bool:
    """Whether a product of such tensors runs in oneDNN, now and on this machine."""
    if like.device.type != "cpu" or torch.compiler.is_compiling():
        return False
    return (like.dtype == torch.float32 and LEAVE.holders > 0) or (
        like.dtype == torch.bfloat16 and multiplies_bfloat16()
    )


def describe() -> str:
    """What was decided for this machine, in one sentence."""
    return decide().sentence


def detailed(x: Tensor) -> Tensor:
    """The same numbers in no less than float32, whatever the model computes in."""
    return x if x.dtype in DETAIL else x.float()
