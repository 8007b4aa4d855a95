"""A step of training: vitrail beside transformers, as people run it.

    python benchmarks/training_step.py [--model vit-small-16] [--batch 16] [--threads 2] [--seconds 120]
        [--keep-freed-memory]

Both have the same shape of network, the same pictures and labels; a step is forward, loss, backward, AdamW. What
transformers' users run is `ViTForImageClassification` with its default attention, torch's AdamW with its defaults, and
float32 as torch computes it. Needs transformers (`pip install -e ".[dev]"`).
"""

import argparse
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
import torch.nn.functional as F
import transformers
from side_by_side import Work, in_turns, show
from torch import Tensor, nn

import vitrail
from vitrail.core.memory import keep_freed_memory
from vitrail.core.precision import describe, fast_float32
from vitrail.models.vit import ViTConfig
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


def ways(name: str, batch: int) -> dict[str, Work]:
    torch.manual_seed(0)
    ours = [vitrail.create_model(name).train() for _ in range(3)]
    config = ours[0].config
    images, target = torch.randn(batch, 3, *config.size), torch.randint(0, config.classes, (batch,))
    other = theirs(config)

    def our_step(model: nn.Module, products: Context = nullcontext, precision: Context = nullcontext) -> Work:
        return step(lambda: model(images), target, build_optimiser(model, AdamW()), products, precision)

    return {
        "transformers, float32": step(lambda: other(images).logits, target, torch.optim.AdamW(other.parameters())),
        "vitrail without fast_float32": our_step(ours[0]),
        "vitrail, float32": our_step(ours[1], fast_float32),
        "vitrail, bfloat16 autocast": our_step(ours[2], fast_float32, bfloat16),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="vit-small-16")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--keep-freed-memory", action="store_true", help="as `fit` does; helps every way of the four")
    flags = parser.parse_args()
    torch.set_num_threads(flags.threads)
    print(describe())
    if flags.keep_freed_memory:
        print(f"freed memory is kept: {keep_freed_memory()}")
    times = in_turns(ways(flags.model, flags.batch), flags.seconds)
    show(f"One training step, {flags.model}, batch {flags.batch}", times, base="transformers, float32")


if __name__ == "__main__":
    main()
