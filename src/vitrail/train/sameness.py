"""What makes two runs end in the same bytes: seeds that are functions, and settings that are kept."""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any

import torch

from vitrail.core.memory import keep_freed_memory
from vitrail.core.precision import decide, fast_float32
from vitrail.train.recipe import Recipe
from vitrail.train.recipe_text import plain


def seed_of(*key: int | str) -> int:
    """A seed that depends on nothing but its key."""
    return int.from_bytes(hashlib.blake2b(repr(key).encode(), digest_size=8).digest(), "big")


@contextmanager
def numerics(recipe: Recipe) -> Iterator[None]:
    """Settings that decide the last digits of every number, put back afterwards."""
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(recipe.threads)
    if recipe.device != "cpu":
        torch.use_deterministic_algorithms(True, warn_only=True)
    elif recipe.data.even:  # pieces of many sizes would not fit again: five times the memory
        keep_freed_memory()
    try:
        with torch.random.fork_rng(devices=[]), fast_float32():
            yield
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(deterministic)


FREE = {"device", "threads", "processes", "save_every"}  # what may be otherwise
FREE |= {"data.path", "data.workers", "model.init", "model.missing", "model.words"}


def settings(recipe: Recipe) -> dict[str, Any]:
    """What decides what a run learns: each field of a recipe, and of its parts, by the name that `--set` has for it."""
    held = plain(recipe)
    parts = {name: part for name, part in held.items() if isinstance(part, Mapping)}
    inside = {f"{name}.{field}": value for name, part in parts.items() for field, value in part.items()}
    return {name: value for name, value in (held | inside).items() if name not in FREE | parts.keys()}


def environment(recipe: Recipe) -> dict[str, Any]:
    """What must be the same for a run to end in the same bytes."""
    return {
        "vitrail": version("vitrail"),
        "torch": torch.__version__,
        "device": recipe.device,
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "float32 products": "oneDNN" if decide().fast else "torch",
        "threads": recipe.threads,
    }
