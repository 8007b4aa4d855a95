"""What `fit` costs over the bare step, on JPEG pictures as a camera makes them, or on sentence pairs.

    python benchmarks/fit.py [--model vit-small-16] [--batch 16] [--threads 2] [--steps 24] [--precision float32]
    python benchmarks/fit.py --model transformer-small [--tokens 2048]

A run as `vitrail train` would start it: pictures are decoded and augmented, gradients measured and clipped, weights
averaged, steps logged, checkpoints written. After each of its steps a bare one is taken on a copy of the network,
with a batch that is already there: forward, loss, backward, AdamW. Both compute with the same kernels. Of sentence
pairs, which are generated and of uneven length, the bare step takes the batch that the run has just taken.
"""

import argparse
import copy
import itertools
import random
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from pictures import write_pictures
from side_by_side import show

from vitrail.data.open import open_splits
from vitrail.recipes.text import translation
from vitrail.recipes.vit import classify
from vitrail.samples import Batch
from vitrail.tasks.classify import Classify
from vitrail.tasks.translate import Translate
from vitrail.train.fit import fit
from vitrail.train.observers import Observer, Taken
from vitrail.train.recipe import Recipe
from vitrail.train.run import Run
from vitrail.train.start import default_workers

WARM = 3  # steps that are not counted
IGNORED = -100
WORDS = [f"{onset}{vowel}{coda}" for onset in "bdfgklmnprst" for vowel in "aeiou" for coda in ("n", "r", "st", "")]
CLOCKS = {
    "seconds on the wall": time.perf_counter,
    "seconds of the processor, without those of the processes that read": time.process_time,
}


class Rival(Observer):
    """Takes a bare step after each step of a run, and times both with every clock."""

    def begin(self, run: Run) -> None:
        self.model = copy.deepcopy(run.model).train()
        self.optimiser = torch.optim.AdamW(self.model.parameters(), fused=True)
        uneven = isinstance(run.task, Translate)
        self.batches = itertools.cycle(run.loader.epoch(0)) if uneven else itertools.repeat(next(run.loader.epoch(0)))
        self.times = {title: {"bare step": [], "fit": []} for title in CLOCKS}
        self.left = self.now()

    def now(self) -> dict[str, float]:
        return {title: clock() for title, clock in CLOCKS.items()}

    def stepped(self, run: Run, taken: Taken) -> None:
        batch = next(self.batches)
        before = self.now()
        self.step(run, batch)
        after = self.now()
        for title, times in self.times.items():
            times["fit"].append(before[title] - self.left[title])
            times["bare step"].append(after[title] - before[title])
        self.left = self.now()

    def step(self, run: Run, batch: Batch) -> None:
        assert isinstance(run.task, Classify | Translate)
        with run.autocast():
            if isinstance(run.task, Translate):
                source, target = batch.inputs, batch.target
                logits = self.model(source.ids, target.ids[:, :-1], source.valid, target.valid[:, :-1]).flatten(0, 1)
                wanted = target.ids[:, 1:].masked_fill(~target.valid[:, 1:], IGNORED).flatten()
            else:
                logits, wanted = self.model(batch.inputs), batch.target
            loss = F.cross_entropy(logits, wanted, ignore_index=IGNORED, label_smoothing=run.task.smoothing)
        loss.backward()
        self.optimiser.step()
        self.optimiser.zero_grad()


def write_pairs(folder: Path, count: int) -> str:
    """Sentences of 5 to 25 made-up words, and the same backwards."""
    draw = random.Random(0)
    folder.mkdir()
    for part, many in (("train", count), ("val", 50)):
        rows = [[draw.choice(WORDS) for _ in range(draw.randint(5, 25))] for _ in range(many)]
        (folder / f"{part}.de").write_text("\n".join(" ".join(row) for row in rows))
        (folder / f"{part}.en").write_text("\n".join(" ".join(reversed(row)) for row in rows))
    return f"{folder}:de-en"


def translation_for(data: str, flags: argparse.Namespace) -> Recipe:
    """What `vitrail train` would do with these sentence pairs, for so many steps."""
    recipe = translation(data, open_splits(data), model=flags.model, say=lambda sentence: None)
    return replace(
        recipe,
        data=replace(recipe.data, tokens=flags.tokens),
        steps=flags.steps,
        threads=flags.threads,
        precision=flags.precision,
    )


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
    parser.add_argument("--tokens", type=int, default=2048, help="in a batch of sentence pairs")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--workers", type=int, default=None, help="processes that read; what vitrail train would take")
    parser.add_argument("--precision", choices=["float32", "bfloat16"], default="float32")
    flags = parser.parse_args()
    torch.set_num_threads(flags.threads)

    rival = Rival()
    with tempfile.TemporaryDirectory() as folder:
        of_texts = flags.model.startswith("transformer")
        if of_texts:
            pairs = 2 * flags.steps * flags.tokens // 15  # more than the run will read
            recipe = translation_for(write_pairs(Path(folder) / "pairs", pairs), flags)
        else:
            recipe = recipe_for(write_pictures(Path(folder) / "pictures", flags.batch * flags.steps), flags)
        fit(recipe, Path(folder) / "run", observers=[rival], say=lambda sentence: None)
    size = f"{flags.tokens} tokens" if of_texts else f"batch {flags.batch}, {recipe.data.workers} processes reading"
    shape = f"{flags.model}, {size}, {flags.precision}"
    for title, times in rival.times.items():
        counted = {name: seconds[WARM:] for name, seconds in times.items()}
        show(f"{shape}; {title}", counted, base="bare step")


if __name__ == "__main__":
    main()
