"""Translating word by word and all words at once: quality against latency on CPU, on the same sentences.

    python benchmarks/parallel.py RUN PARALLEL --data multi30k:de-en [--sentences 200] [--batch 1] [--out curve.png]

RUN is a Transformer and PARALLEL a parallel one, both trained by `vitrail train` on the same pairs. The first writes
with one beam and with several; the second asks all places once, and again and again. Quality is BLEU of the sentences,
with sacrebleu's signature; latency is the time for a batch, all of them in turns in one process, so that what else the
machine does is shared among them.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import torch
from side_by_side import Work, in_turns

from vitrail.core.precision import describe, fast_float32
from vitrail.data.open import open_dataset, parts
from vitrail.explain.figures import INK, QUIET, new_figure
from vitrail.predict import predictor
from vitrail.predict_texts import TextPredictor
from vitrail.tasks.text_scores import bleu
from vitrail.tasks.translate_parallel import TranslateParallel

BEAMS = (1, 4)
STEPS = ((1, 1), (1, 3), (2, 3), (4, 3), (4, 5), (10, 5))  # how often all places are asked, and lengths tried


class Way(NamedTuple):
    """One way to translate: whose it is, its task, and what it is called."""

    ask: TextPredictor
    task: Any
    name: str

    def __call__(self, texts: Sequence[str]) -> list[str]:
        words = self.ask.words(self.task, texts)
        with torch.inference_mode(), fast_float32():
            return [sentence.text for sentence in self.task.predict(self.ask.quick, words)]


class Point(NamedTuple):
    """How good a way is, and how long it takes for a batch, in seconds."""

    name: str
    bleu: float
    latency: float


def ways(word_by_word: TextPredictor, at_once: TextPredictor) -> list[Way]:
    """All that are compared."""
    beams = [
        Way(word_by_word, word_by_word.task_with({"beams": beams}), f"word by word, {beams} beams") for beams in BEAMS
    ]
    steps = [
        Way(at_once, TranslateParallel(steps=steps, lengths=lengths), f"at once, {steps} steps, {lengths} lengths")
        for steps, lengths in STEPS
    ]
    return [*beams, *steps]


def draw(points: Sequence[Point], path: Path) -> None:
    """Quality against latency, a dot for each way."""
    figure = new_figure(8, 5)
    axes = figure.add_axes((0.1, 0.12, 0.62, 0.8))
    for point in points:
        colour = INK if point.name.startswith("word") else "#0b7285"
        axes.scatter(1000 * point.latency, point.bleu, color=colour, s=34)
        axes.annotate(point.name, (1000 * point.latency, point.bleu), (6, 3), textcoords="offset points", fontsize=8)
    axes.set(xlabel="milliseconds for a batch", ylabel="BLEU", xscale="log")
    axes.grid(color=QUIET, alpha=0.3)
    figure.savefig(path, format="png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("parallel")
    parser.add_argument("--data", required=True)
    parser.add_argument("--sentences", type=int, default=200)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--out", type=Path, default=None)
    flags = parser.parse_args()
    torch.set_num_threads(flags.threads)
    print(describe())

    found = parts(flags.data)
    data = open_dataset(flags.data, next((part for part in ("test", "val") if part in found), None))
    pairs = [data[index] for index in range(min(flags.sentences, len(data)))]
    sources = [pair.source for pair in pairs]
    all_ways = ways(predictor(flags.run), predictor(flags.parallel))
    scores = {}
    for way in all_ways:
        batches = [way(sources[first : first + flags.batch]) for first in range(0, len(sources), flags.batch)]
        scores[way.name] = bleu([text for batch in batches for text in batch], [(pair.target,) for pair in pairs])
    timed = sources[: flags.batch]
    work: dict[str, Work] = {way.name: lambda way=way: way(timed) for way in all_ways}
    times = in_turns(work, flags.seconds)
    points = [Point(way.name, scores[way.name].value, median(times[way.name])) for way in all_ways]

    print(f"{len(pairs)} sentences, batch {flags.batch}; {next(iter(scores.values())).signature}")
    print(f"{'':32}{'BLEU':>8}{'ms':>10}{'faster':>9}")
    for point in points:
        faster = points[0].latency / point.latency
        print(f"{point.name:32}{point.bleu:8.2f}{1000 * point.latency:10.1f}{faster:8.2f}x")
    if flags.out is not None:
        draw(points, flags.out)
        print(f"The figure is in {flags.out}.")


if __name__ == "__main__":
    main()
