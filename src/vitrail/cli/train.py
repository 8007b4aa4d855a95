"""`vitrail train`: a folder of pictures, or texts, in; a model one can ship out."""

from typing import Annotated

from vitrail.cli.flags import Data, Out, Set, Source, Switch, Word, Workers, shown, whole


def train(
    model: Source,
    *,
    data: Data,
    init: Word = None,
    out: Out = None,
    epochs: Annotated[int | None, shown("N"), whole("--epochs", "20")] = None,
    batch: Annotated[int | None, shown("N"), whole("--batch", "32")] = None,
    seed: Annotated[int | None, shown("N"), whole("--seed", "0")] = None,
    workers: Workers = None,
    device: Word = None,
    set: Set = (),
    dry_run: Switch = False,
    overfit: Annotated[int | None, shown("N"), whole("--overfit", "16")] = None,
) -> None:
    """Train a model on your own pictures or texts. Every guess is said aloud.

    Args:
        model: a name from `vitrail models`; a recipe, such as bert-mini-classify; or the recipe.json of an earlier run.
        data: an image folder, a CSV or JSONL manifest, a folder of idx files, or scenes: for generated ones; for
            detectors marked objects, as COCO, Pascal VOC or YOLO have them; for models of text sentence pairs
            (corpus:de-en), running text, labelled texts, words with tags or questions.
        init: weights to start from: a folder, a run, a hub id, or default for the published ones; fresh without it.
        out: the run folder, new or empty; runs/TASK/DATA without it.
        epochs: how often to see every picture or text; the recipe says without it.
        batch: pictures or texts in a step, at most; the recipe says without it.
        seed: of everything that is drawn at random; the recipe says without it.
        workers: processes that read pictures; chosen by the machine without it.
        device: cpu, cuda, cuda:1 or mps; the fastest there is without it.
        set: anything else, by its name in a recipe.json, such as model.image=64x96; may be repeated.
        dry_run: say parameters, memory and time, try one step of everything, and stop.
        overfit: learn only N pictures or texts, by heart: a trial of minutes that shows whether data and recipe fit.
    """
    from vitrail.train.start import train

    train(
        model,
        data,
        init=init,
        out=out,
        epochs=epochs,
        batch=batch,
        seed=seed,
        workers=workers,
        device=device,
        set=set,
        dry_run=dry_run,
        overfit=overfit,
    )
