"""Tiny random references of other libraries, built where a test asks for them."""

from pathlib import Path

import torch
from torch import Tensor, nn

from vitrail.loading import from_pretrained


def disturbed(model: nn.Module, seed: int = 0) -> nn.Module:
    """The same module with noise in every number: fresh weights are too near to zero to tell mistakes apart."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in (*model.parameters(), *model.buffers()):
            if tensor.is_floating_point():
                tensor.add_(0.1 * torch.randn(tensor.shape, generator=generator, dtype=torch.float32))
    return model.eval()


def quiet(sentence: str) -> None:
    """An announcement nobody reads."""


def saved(model: nn.Module, folder: Path) -> Path:
    """The folder that transformers makes of a module: the file, not the live module, is what a person has."""
    model.save_pretrained(folder)  # type: ignore[operator]
    return folder


def agree(ours: Tensor, theirs: Tensor, precise: bool) -> None:
    """Float64 within 1e-10, float32 within 1e-5 of the largest number."""
    if precise:
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)
    else:
        assert (ours - theirs).abs().max() <= 1e-5 * theirs.abs().max()


def load(folder: Path, **changes) -> nn.Module:
    """Our model of a folder, without a word."""
    return from_pretrained(folder, announce=quiet, **changes)
