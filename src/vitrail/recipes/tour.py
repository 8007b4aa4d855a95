"""The tour: train a small model on generated pictures, judge it by others, and see where it looks."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Bool

from vitrail.data.dataset import Dataset
from vitrail.data.loader import Loader
from vitrail.data.open import open_dataset
from vitrail.data.transforms import eval_transform
from vitrail.evaluate.evaluate import Case, evaluate
from vitrail.evaluate.plots import sheet
from vitrail.evaluate.report import looked_at
from vitrail.explain.attention import Look
from vitrail.explain.faithfulness import as_read
from vitrail.explain.figures import png
from vitrail.predict import Predictor, predictor
from vitrail.train.start import speak, train

SCENES = "scenes:"
DRAWN = 8  # scenes whose attention is drawn
WATCHED = 100  # scenes over which the share of attention is averaged

Say = Callable[[str], None]


class Focus(NamedTuple):
    """How much of what a model looks at is the thing.

    Attributes:
        attention: share of the attention to patches that falls on it.
        area: share of the patches that it covers, which is what looking anywhere would give.
    """

    attention: float
    area: float


def focus(seen: Look, mask: Bool[torch.Tensor, "rows columns"]) -> Focus:
    """Compare where a model looked with where the thing is.

    Args:
        seen: the attention of one token.
        mask: where the thing is, in pixels of the picture.
    """
    read = as_read(mask, seen.placement).double()
    share = torch.nn.functional.adaptive_avg_pool2d(read[None], seen.grid)[0]
    map = seen.map / seen.map.sum()
    return Focus(float((map * share).sum()), float(share.mean()))


def mean_focus(ask: Predictor, scenes: Dataset) -> Focus:
    """The focus in a hundred scenes, on average."""
    found = []
    for index in range(min(WATCHED, len(scenes))):
        scene = scenes[index]
        assert scene.extras is not None, "generated scenes know their masks"
        mask = torch.from_numpy(scene.extras["masks"]).any(dim=0)
        found.append(focus(ask.look(scene.picture, layers=-1)[0], mask))
    return Focus(*(sum(values) / len(found) for values in zip(*found, strict=True)))


def free(folder: Path) -> Path:
    """The folder, or the next one of that name with a number, in which there is nothing yet."""
    numbers = (folder.with_name(f"{folder.name}-{number}") for number in range(2, 1_000_000))
    return next(place for place in (folder, *numbers) if not place.exists())


def draw_attention(ask: Predictor, scenes: Dataset, path: Path, count: int = DRAWN) -> None:
    """A sheet of scenes, each beside where the model looked in it."""
    tiles = []
    for index in range(min(count, len(scenes))):
        scene = scenes[index]
        [result] = ask(scene.picture)
        case = Case(index, result, result.mistake(torch.tensor(scene.label)))
        tiles.append(looked_at(case, scenes, ask.model, ask.card.preprocessing))
    path.write_bytes(png(sheet(tiles, "What it says, and where its class token looks in the last layer", wide=True)))


def tour(out: Path, *, scenes: str = SCENES, epochs: int | None = None, say: Say = speak) -> Path:
    """Everything once, as `vitrail demo` does.

    Args:
        out: the folder for the run and the picture.
        scenes: which generated pictures; see `open_dataset`.
        epochs: how often to see each; the recipe says unless given.
        say: told what happens.

    Returns:
        The folder of the run.
    """
    say("The pictures are generated: textured shapes on clutter. Nothing but its shape gives a thing away.")
    run = free(out / "run")
    train("demo", scenes, out=run, epochs=epochs, say=say)

    ask = predictor(run, announce=lambda sentence: None)
    unseen = open_dataset(scenes, "test")
    report = evaluate(ask.quick, ask.task, Loader(unseen, eval_transform(ask.card.preprocessing), batch=64))
    looked = mean_focus(ask, unseen)
    draw_attention(ask, unseen, out / "attention.png")

    say(
        f"How well: it names {report.scores['top1']:.1%} of {report.seen} pictures it has never seen; guessing would "
        f"name {1 / len(unseen.classes):.1%}."
    )
    say(
        f"Where it looks: {looked.attention:.1%} of the attention is on the thing, which covers {looked.area:.1%} of "
        f"the picture. See {out / 'attention.png'}."
    )
    pointed = ask.pointing(scenes, "relevance", WATCHED)
    say(
        f"What its answer rests on: relevance for its class points at the thing in {pointed.hits} of "
        f"{pointed.pictures} scenes; pointing blindly would in {pointed.blind:.0%}. One of them: "
        f"vitrail explain {run} PICTURE --method relevance"
    )
    say(f"The whole report: {run / 'report.html'}.")
    say("Now your own pictures, a folder for each class: vitrail train vit-small-16 --data FOLDER")
    return run
