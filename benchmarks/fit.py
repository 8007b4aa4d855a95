"""What `fit` costs over the bare step, on JPEG pictures as a camera makes them.

    python benchmarks/fit.py [--model vit-small-16] [--batch 16] [--threads 2] [--steps 24] [--precision float32]

A run as `vitrail train` would start it: pictures are decoded and augmented, gradients measured and clipped, weights
averaged, steps logged, checkpoints written. After each of its steps a bare one is taken on a copy of the network, with
a batch that is already there: forward, loss, backward, AdamW. Both compute with the same kernels.
"""

import argparse
import copy
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from pictures import write_pictures
from side_by_side import show

from vitrail.data.open import open_splits
from vitrail.recipes.vit import classify
from vitrail.tasks.classify import Classify
from vitrail.train.fit import fit
from vitrail.train.observers import Observer, Taken
from vitrail.train.recipe import Recipe
from vitrail.train.run import Run
from vitrail.train.start import default_workers

WARM = 3  # steps that are not counted
CLOCKS = {
    "seconds on the wall": time.perf_counter,
    "seconds of the processor, without those of the processes that read": time.process_time,
}


class Rival(Observer):
    """Takes a bare step after each step of a run, and times both with every clock."""

    def begin(self, run: Run) -> None:
        self.model = copy.deepcopy(run.model).train()
        self.optimiser = torch.optim.AdamW(self.model.parameters(), fused=True)
        self.batch = next(iter(run.loader.epoch(0)))
        self.times = {title: {"bare step": [], "fit": []} for title in CLOCKS}
        self.left = self.now()

    def now(self) -> dict[str, float]:
        return {title: clock() for title, clock in CLOCKS.items()}

    def stepped(self, run: Run, taken: Taken) -> None:
        before = self.now()
        self.step(run)
        after = self.now()
        for title, times in self.times.items():
            times["fit"].append(before[title] - self.left[title])
            times["bare step"].append(after[title] - before[title])
        self.left = self.now()

    def step(self, run: Run) -> None:
        assert isinstance(run.task, Classify)
        with run.autocast():
            logits = self.model(self.batch.inputs)
            loss = F.cross_entropy(logits, self.batch.target, label_smoothing=run.task.smoothing)
        loss.backward()
        self.optimiser.step()
        self.optimiser.zero_grad()


def recipe_for(folder: Path, flags: argparse.Namespace) -> Recipe:
    """What `vitrail train` would do with these pictures, for so many steps."""
    recipe = classify(str(folder), open_splits(folder), model=flags.model, say=lambda sentence: None)
    workers = default_workers("cpu") if flags.workers is None else flags.workers
    return replace(
        recipe,
        data=replace(recipe.data, batch=flags.batch, workers=workers),
        steps=flags.steps,
        threads=flags.threads,
        precision=flags.precision,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="vit-small-16")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--workers", type=int, default=None, help="processes that read; what vitrail train would take")
    parser.add_argument("--precision", choices=["float32", "bfloat16"], default="float32")
    flags = parser.parse_args()
    torch.set_num_threads(flags.threads)

    rival = Rival()
    with tempfile.TemporaryDirectory() as folder:
        data = write_pictures(Path(folder) / "pictures", flags.batch * flags.steps)
        recipe = recipe_for(data, flags)
        fit(recipe, Path(folder) / "run", observers=[rival], say=lambda sentence: None)
    shape = f"{flags.model}, batch {flags.batch}, {flags.precision}, {recipe.data.workers} processes reading"
    for title, times in rival.times.items():
        counted = {name: seconds[WARM:] for name, seconds in times.items()}
        show(f"{shape}; {title}", counted, base="bare step")


if __name__ == "__main__":
    main()
