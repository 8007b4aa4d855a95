"""How much sooner a batch is read than the step is done that needs it.

    python benchmarks/loader.py [--threads 2] [--seconds 60]

Twice: JPEG pictures (375 x 500) for ViT-S/16, and the generated world for the network of `vitrail demo`, whose steps
are so short that reading them matters most. `ratio` is how often a batch could be read, by one process with one core,
while the step is taken with all threads; below 1 the loader would be the bottleneck.
"""

import argparse
import tempfile
from collections.abc import Iterator
from contextlib import nullcontext
from itertools import count
from pathlib import Path

import torch
from pictures import write_pictures
from side_by_side import Work, in_turns, show
from training_step import bfloat16, step

import vitrail
from vitrail.core.precision import fast_float32
from vitrail.data.loader import Loader
from vitrail.data.open import open_splits
from vitrail.data.transforms import train_transform
from vitrail.recipes.demo import demo
from vitrail.recipes.vit import classify
from vitrail.samples import Batch
from vitrail.train.optim import build_optimiser
from vitrail.train.recipe import Recipe


def endless(loader: Loader) -> Iterator[Batch]:
    for epoch in count():
        yield from loader.epoch(epoch)


def ways(recipe: Recipe, data: str) -> dict[str, Work]:
    """A step of a recipe, in both precisions, and reading its batch."""
    torch.manual_seed(0)
    models = [vitrail.create_model(recipe.model.name, **recipe.model.changes).train() for _ in range(2)]
    transform = train_transform(models[0].card.preprocessing, recipe.data.augment)
    loader = Loader(
        open_splits(data).train, transform, recipe.data.batch, shuffle=True, drop_last=True, mixing=recipe.data.mixing
    )
    batches = endless(loader)
    batch = next(batches)

    def train(model: torch.nn.Module, precision=nullcontext) -> Work:
        optimiser = build_optimiser(model, recipe.optimiser)
        return step(lambda: model(batch.inputs), batch.target, optimiser, fast_float32, precision)

    return {
        "step, float32": train(models[0]),
        "step, bfloat16 autocast": train(models[1], bfloat16),
        "read a batch": lambda: next(batches),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=60)
    flags = parser.parse_args()
    torch.set_num_threads(flags.threads)

    def quiet(sentence: str) -> None: ...

    with tempfile.TemporaryDirectory() as folder:
        photos = str(write_pictures(Path(folder), 320))
        for title, data, recipe in [
            ("vit-small-16 on JPEG", photos, classify(photos, open_splits(photos), say=quiet)),
            ("the demo's network on generated scenes", "scenes:", demo("scenes:", open_splits("scenes:"), say=quiet)),
        ]:
            times = in_turns(ways(recipe, data), flags.seconds / 2)
            show(f"{title}, batch {recipe.data.batch}", times, base="step, float32")


if __name__ == "__main__":
    main()
