"""A step of training: vitrail beside transformers, as people run it.

    python benchmarks/training_step.py [--model vit-small-16] [--batch 16] [--threads 2] [--seconds 120]

Each way runs in a process of its own, as its users run it: vitrail's keeps freed memory, as `fit` does. Both have the
same shape of network, the same pictures and labels; a step is forward, loss, backward, AdamW. What transformers' users
run is `ViTForImageClassification` with its default attention, torch's AdamW with its defaults, and float32 as torch
computes it. Needs transformers (`pip install -e ".[dev]"`).
"""

import argparse
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
import torch.nn.functional as F
import transformers
from products import of_a_step
from side_by_side import Work, apart, in_turns, show
from torch import Tensor, nn

import vitrail
from vitrail.core.memory import keep_freed_memory
from vitrail.core.precision import describe, fast_float32
from vitrail.models.vit import VARIANTS, ViTConfig
from vitrail.train.optim import AdamW, build_optimiser

Context = Callable[[], AbstractContextManager]


def bfloat16() -> AbstractContextManager:
    return torch.autocast("cpu", torch.bfloat16)


def theirs(config: ViTConfig) -> nn.Module:
    return transformers.ViTForImageClassification(
        transformers.ViTConfig(
            hidden_size=config.dim,
            num_hidden_layers=config.depth,
            num_attention_heads=config.heads,
            intermediate_size=config.mlp_dim,
            image_size=config.image,
            patch_size=config.patch,
            num_labels=config.classes,
        )
    ).train()


def step(
    logits: Callable[[], Tensor],
    target: Tensor,
    optimiser: torch.optim.Optimizer,
    products: Context = nullcontext,
    precision: Context = nullcontext,
) -> Work:
    """One step as a function.

    Args:
        logits: what the network answers.
        target: what it should.
        optimiser: of its parameters.
        products: open during the whole step.
        precision: open during forward and loss.
    """

    def work() -> None:
        with products():
            with precision():
                loss = F.cross_entropy(logits(), target)
            loss.backward()
            optimiser.step()
            optimiser.zero_grad()

    return work


def data(config: ViTConfig, batch: int) -> tuple[Tensor, Tensor]:
    """Pictures and labels, the same in every process."""
    torch.manual_seed(0)
    return torch.randn(batch, 3, *config.size), torch.randint(0, config.classes, (batch,))


def their_step(name: str, batch: int) -> Work:
    config = VARIANTS[name]
    images, target = data(config, batch)
    model = theirs(config)
    return step(lambda: model(images).logits, target, torch.optim.AdamW(model.parameters()))


def our_step(name: str, batch: int, quick: bool, half: bool) -> Work:
    if quick:
        keep_freed_memory()
    images, target = data(VARIANTS[name], batch)
    model = vitrail.create_model(name).train()
    optimiser = build_optimiser(model, AdamW())
    products, precision = fast_float32 if quick else nullcontext, bfloat16 if half else nullcontext
    return step(lambda: model(images), target, optimiser, products, precision)


def products(name: str, batch: int) -> Work:
    return of_a_step(lambda: vitrail.create_model(name), data(VARIANTS[name], batch)[0])


def ways(name: str, batch: int) -> dict[str, Work]:
    return {
        "transformers, float32": apart(their_step, name, batch),
        "vitrail, nothing done for speed": apart(our_step, name, batch, False, False),
        "vitrail, float32, as fit": apart(our_step, name, batch, True, False),
        "vitrail, bfloat16, as fit": apart(our_step, name, batch, True, True),
        "its products alone, float32": apart(products, name, batch),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="vit-small-16")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=120)
    flags = parser.parse_args()
    torch.set_num_threads(flags.threads)
    print(describe())
    times = in_turns(ways(flags.model, flags.batch), flags.seconds)
    show(f"One training step, {flags.model}, batch {flags.batch}", times, base="transformers, float32")


if __name__ == "__main__":
    main()
