"""From a model and a data set, as a person names them, to scores and a report."""

import re
import shlex
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from vitrail.catalog import RECIPES
from vitrail.data.dataset import PURPOSES, Dataset
from vitrail.data.files import hidden
from vitrail.data.material import RUNNING, USES, Batches, MarkedPictures, Pictures, Texts
from vitrail.data.open import check_path, for_purpose, holds_texts, name_of, open_dataset, parts, same_data
from vitrail.errors import DataError, UsageError, span
from vitrail.evaluate.background import learned_from, learned_length
from vitrail.evaluate.evaluate import Report, evaluate
from vitrail.evaluate.report import write_report
from vitrail.loading import say
from vitrail.predict import Predictor, predictor
from vitrail.predict_objects import answer_with
from vitrail.predict_texts import TextPredictor
from vitrail.preprocessing import Fitted, PicturePreprocessing, Preprocessing
from vitrail.samples import Batch
from vitrail.tokenizing import TextPreprocessing
from vitrail.weights.card import Card

Announce = Callable[[str], None]
WORDNET = re.compile(r"n\d{8}")  # how ImageNet's folders are called; in this order its classes are numbered
OF_PICTURES = {"classify": ("classify",), "detect": ("detect", "panoptic"), "panoptic": ("panoptic",)}
EVERY = 20  # seconds between two sentences about how far one is


class Part(NamedTuple):
    """The pictures that a model is judged by, and which of a data set they are; empty where they are all."""

    dataset: Dataset
    words: str


class Judgement(NamedTuple):
    """Scores, and the page that shows them."""

    report: Report
    page: Path


@dataclass(frozen=True)
class Told:
    """Batches that say now and then how many of them have been judged, and how long the rest will take."""

    batches: Batches
    announce: Announce

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        began = said = time.monotonic()
        for done, batch in enumerate(self.batches.epoch(epoch, start)):
            now = time.monotonic()
            if done and now - said >= EVERY:
                left = (now - began) / done * (len(self.batches) - start - done)
                self.announce(f"{done / (len(self.batches) - start):.0%} judged, about {span(left)} left.")
                said = now
            yield batch


def learned_from_it(source: str | Path, data: str) -> bool:
    """Whether a run was trained on this very path."""
    path = learned_from(source)
    return path != "" and same_data(path, data)


def part_to_judge(
    ask: Predictor | TextPredictor, source: str | Path, data: str, announce: Announce, split: str | None = None
) -> Part:
    """The pictures or texts that a model is judged by: the part that somebody names, or else the one for it.

    A set in one piece is taken whole, unless it is the one that training has set some pictures of aside: what a run has
    learned from judges it only where somebody says so.

    Raises:
        DataError: it cannot be read, is for something else than the model, has no such part, or only has one to learn
            from.
    """
    refuse_other_kind(data, ask.card.model, ask.card.preprocessing)
    data = for_purpose(data, purposes_of(ask.card))
    found = parts(data)
    usual = next((name for name in ("val", "test") if name in found), None)
    if split is None and usual is None and (found or learned_from_it(source, data)):
        split = "val"
    split = usual if split is None else split
    made = {"val": "what training sets aside", "train": "what training learns from"}
    made_here = split not in found or (split == "train" and "val" not in found)  # of a larger part, or of the whole
    words = "" if split is None else made.get(split, "") if made_here else f"its part {split}"
    classes = getattr(ask.task, "classes", ask.card.labels or None)
    dataset = open_numbered(data, split, classes, purposes_of(ask.card))
    if words:
        announce(f"{data.removesuffix(':')}: judged by {words}.")
    return Part(dataset, words)


def purposes_of(card: Card) -> tuple[str, ...]:
    """What data can be for, as its reader says, that judges a model; empty where it can be for anything."""
    if isinstance(card.preprocessing, TextPreprocessing):
        return (USES[card.task].data,) if card.task in USES else ()
    return OF_PICTURES.get(card.task, ())


def refuse_other_purpose(dataset: Dataset, data: str, purposes: tuple[str, ...]) -> None:
    """Compare what data is for with what it should be for; anything, where that is empty.

    Raises:
        DataError: it is for something else.
    """
    if purposes and dataset.task not in purposes:
        given, needed = (PURPOSES.get(one, one) for one in (dataset.task, purposes[0]))
        raise DataError(f"{data} is data to {given}, and this model needs data to {needed}.")


def open_numbered(
    data: str, split: str | None, classes: tuple[str, ...] | None, purposes: tuple[str, ...] = ()
) -> Dataset:
    """One part of a data set, numbered as a model numbers its classes.

    Folders that are called as ImageNet calls them (n01440764) are numbered in their order, whatever the model calls its
    classes, if it has as many.

    Raises:
        DataError: it cannot be read, is for none of the `purposes` that it should have, or its classes are others than
            the model's.
    """
    try:
        dataset = open_dataset(data, split, classes)
    except DataError:
        if classes is None:
            raise
        plain = open_dataset(data, split)
        refuse_other_purpose(plain, data, purposes)
        if len(plain.classes) != len(classes) or not all(map(WORDNET.fullmatch, plain.classes)):
            raise
        return plain
    refuse_other_purpose(dataset, data, purposes)
    return dataset


def material_for(
    data: str, task: str, preprocessing: Any, batch: int, workers: int, source: str | Path = ""
) -> Pictures | MarkedPictures | Texts:
    """What makes batches of the data for a model that reads by `preprocessing`; of running text, in rows as long as
    those that the run at `source` has learned from."""
    if isinstance(preprocessing, Preprocessing):
        return Pictures(path=data, batch=batch, workers=workers)
    if isinstance(preprocessing, Fitted):
        return MarkedPictures(path=data, batch=min(batch, preprocessing.at_once), workers=workers)
    most, length = max(4096, preprocessing.max_tokens), learned_length(source) if task in RUNNING else None
    return Texts(path=data, use=task, batch=batch, tokens=most, length=length)  # pyright: ignore[reportArgumentType]


def refuse_other_kind(data: str, model: str, preprocessing: Any) -> None:
    """Refuse texts for a model that reads pictures, and the other way round.

    Raises:
        DataError: says what is there and what is read.
    """
    given = "texts" if holds_texts(data) else "pictures"
    read = "pictures" if isinstance(preprocessing, PicturePreprocessing) else "texts"
    if given != read:
        raise DataError(f"{data} holds {given}, and this {model} reads {read}. Name {read}.")


def refuse_taken(out: Path, earlier: str) -> None:
    """Refuse a place for a report in which there is anything but an earlier one.

    Args:
        out: the folder.
        earlier: a file that such a report has left there.

    Raises:
        UsageError: a file, a run, or a folder with something else in it.
    """
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file, and a report needs a folder. Type --out with another name.")
    if (out / "recipe.json").exists():
        raise UsageError(
            f"{out} is a run with a report of its own. Give another folder: --out {shlex.quote(f'{out}/evaluated')}."
        )
    there = sorted(entry.name for entry in out.iterdir() if not hidden(entry.name)) if out.exists() else []
    if there and not (out / earlier).exists():
        raise UsageError(
            f"{out} holds something else already ({there[0]}), and a report needs a folder of its own. Type --out with "
            f"another name, or leave it out."
        )


def refuse_several_labels(dataset: Dataset, task: Any, data: str) -> None:
    """Refuse data with several labels for each where a model tells one class of each.

    Raises:
        DataError: names a recipe that learns to tell them all.
    """
    if dataset.multi_label and not getattr(task, "multi_label", True):
        recipe = next(name for name, entry in RECIPES.items() if dataset.task in entry.data)
        raise DataError(
            f"{data} has several labels for each, and this model tells one class of each. `vitrail train {recipe} "
            f"--data {shlex.quote(data)}` learns to tell them all."
        )


def judge(
    source: str | Path,
    data: str | Path,
    *,
    split: str | None = None,
    out: str | Path | None = None,
    batch: int = 32,
    workers: int = 1,
    device: str | None = None,
    nms: float | None = None,
    announce: Announce = say,
) -> Judgement:
    """Score a model on labelled pictures, as `vitrail evaluate` does, and write its report.

    Args:
        source: a run, a folder or a hub id.
        data: what `open_dataset` reads; in one piece, or with a part `val` or `test`.
        split: `val`, `test` or `train`, the part that judges; `val` unless given, or `test` where there is no `val`.
        out: the folder of the report; `evaluated-DATA` in the run unless given, with the `split` that was.
        batch: pictures at once.
        workers: processes that read pictures.
        device: where to compute; a graphics card where there is one, unless given.
        nms: of a detector: what boxes of a class may share; as its card says unless given.
        announce: is told what was chosen on the way.

    Raises:
        VitrailError: whatever is wrong, in a sentence.
    """
    if out is not None:
        refuse_taken(Path(out), earlier="report.html")
    check_path(data)
    ask = predictor(source, device=device, announce=announce)
    if nms is not None and not hasattr(ask.task, "nms"):
        raise UsageError(f"--nms is for models that find boxes, and this {ask.card.model} does not. Leave it out.")
    answer_with(ask, nms=nms)
    task, preprocessing = ask.task, ask.card.preprocessing
    dataset, part = part_to_judge(ask, source, str(data), announce, split)
    refuse_several_labels(dataset, task, str(data))
    material = material_for(str(data), ask.card.task, preprocessing, batch, workers, source)
    batches = material.judging(dataset, preprocessing)
    if batches.lost:
        announce(batches.lost)
        part = f"{part}; {batches.lost}" if part else batches.lost
    report = evaluate(ask.quick, task, Told(batches, announce), samples=len(dataset))
    beside = Path(source if Path(source).is_dir() else ".")
    name = f"evaluated-{name_of(str(data))}" + (f"-{split}" if split else "")
    folder = beside / name if out is None else Path(out)
    title = f"{ask.card.model}, judged by {data}"
    page = write_report(
        report,
        folder,
        title=title,
        dataset=dataset,
        model=ask.model,
        preprocessing=preprocessing,
        source=source,
        data=str(data),
        part=part,
    )
    return Judgement(report, page)
