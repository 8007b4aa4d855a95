"""What a report tells besides its numbers: what they mean, what they were reached with, and what to type next."""

import json
import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from torch import nn

from vitrail.data.dataset import Dataset
from vitrail.description import classes_called
from vitrail.errors import many
from vitrail.preprocessing import Fitted, PicturePreprocessing, Preprocessing

CLASSES = 8  # most whose names are listed


class Meaning(NamedTuple):
    """What a score is called, and what it says."""

    name: str
    words: str


MEANINGS = {
    "top1": Meaning("top-1 accuracy", "How often the first guess is the right class."),
    "top5": Meaning("top-5 accuracy", "How often the right class is among the first five guesses."),
    "precision": Meaning("precision", "Of what is called a class, the share that is; the mean over the classes."),
    "recall": Meaning("recall", "Of what is of a class, the share called so; the mean over the classes."),
    "f1": Meaning("macro F1", "Precision and recall as one; rare classes count as much as frequent ones."),
    "ece": Meaning("calibration error (ECE)", "How far scores lie from how often they are right; 0 is honest."),
    "map": Meaning("mean average precision (mAP)", "How well what has a label ranks above what has not."),
    "map_micro": Meaning("mAP, all labels together", "The same, with all labels in one ranking."),
    "bleu": Meaning("BLEU", "How much of the wording of people's translations is met, from 0 to 100."),
    "chrf": Meaning("chrF", "The same by letters, from 0 to 100; kinder to languages that inflect."),
    "perplexity": Meaning("perplexity", "Among how many tokens the model wavers; it depends on the vocabulary."),
    "bits_per_character": Meaning("bits per character", "What a character costs to tell, in pieces of any size."),
    "accuracy": Meaning("accuracy", "Share of the tokens, or words, that are asked for and said rightly."),
    "exact": Meaning(
        "exact match", "Share of questions whose answer is one of the right ones, but for articles and marks."
    ),
    "ap": Meaning("AP (COCO)", "How well objects are found and placed: mean over classes and overlaps of 50 to 95 %."),
    "ap50": Meaning("AP50", "The same, where an overlap of a half will do: are the objects found?"),
    "ap75": Meaning("AP75", "The same at an overlap of three quarters: are they well placed?"),
    "ap_small": Meaning("AP, small objects", "AP of those below 32 x 32 pixels of the file."),
    "ap_medium": Meaning("AP, medium objects", "AP of those from 32 x 32 to 96 x 96 pixels of the file."),
    "ap_large": Meaning("AP, large objects", "AP of those above 96 x 96 pixels of the file."),
    "ar1": Meaning("AR, one answer", "Share of the objects found by one answer for each class and picture."),
    "ar10": Meaning("AR, ten answers", "The same with ten answers."),
    "ar100": Meaning("AR, a hundred answers", "The same with a hundred answers: what it could find at best."),
    "ar_small": Meaning("AR, small objects", "Share of those below 32 x 32 pixels that a hundred answers find."),
    "ar_medium": Meaning("AR, medium objects", "Share of those from 32 x 32 to 96 x 96 pixels that a hundred find."),
    "ar_large": Meaning("AR, large objects", "Share of those above 96 x 96 pixels that a hundred answers find."),
    "pq": Meaning("panoptic quality (PQ)", "How well every pixel is told: SQ times RQ, the mean over classes."),
    "sq": Meaning("segmentation quality (SQ)", "How much the segments that are found share with the true ones."),
    "rq": Meaning("recognition quality (RQ)", "How many segments are found, and how few are said for nothing: an F1."),
    "pq_things": Meaning("PQ, things", "PQ of what can be counted."),
    "sq_things": Meaning("SQ, things", "SQ of what can be counted."),
    "rq_things": Meaning("RQ, things", "RQ of what can be counted."),
    "pq_stuff": Meaning("PQ, stuff", "PQ of what has no number, like grass and sky."),
    "sq_stuff": Meaning("SQ, stuff", "SQ of what has no number, like grass and sky."),
    "rq_stuff": Meaning("RQ, stuff", "RQ of what has no number, like grass and sky."),
    "loss": Meaning("loss", "How surprised the model is by the truth; the lower the better."),
}


NAMELESS = "; of tags that mark no names, the mean over the tags."
OTHERWISE = {  # where a task counts what others count for each class
    ("tag", "precision"): Meaning("precision", f"Of the names found, the share right to their ends{NAMELESS}"),
    ("tag", "recall"): Meaning("recall", f"Of the true names, the share found to their ends{NAMELESS}"),
    ("tag", "f1"): Meaning("F1", f"Precision and recall of all names together, as in CoNLL{NAMELESS}"),
    ("answer", "f1"): Meaning("F1", "How many words answers share with the right ones; the mean over all (SQuAD)."),
}


def meaning(score: str, task: str) -> Meaning:
    """What a score of a task says; only its name where that is all that is known."""
    return OTHERWISE.get((task, score)) or MEANINGS.get(score, Meaning(score, ""))


class Fact(NamedTuple):
    """One line about a run.

    Attributes:
        name: what it is about.
        words: what there is to say.
        link: the address of a file that says more, seen from the page; empty without one.
    """

    name: str
    words: str
    link: str = ""


def told(path: Path) -> dict[str, Any]:
    """What a JSON file of a run says; nothing where there is no such file."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def learned_from(source: str | Path) -> str:
    """The data that a run has learned from, as it was typed; empty where nothing says it."""
    return told(Path(source) / "recipe.json").get("data", {}).get("path", "")


def learned_length(source: str | Path) -> int | None:
    """How many tokens a row of running text had that a run has learned from; `None` for all that the model reads."""
    return told(Path(source) / "recipe.json").get("data", {}).get("length")


def read_records(path: Path) -> list[dict[str, Any]]:
    """The lines of a `metrics.jsonl`; none where there is no such file, and without a last one that was cut off."""
    records = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            records.append(json.loads(line))
        except ValueError:
            continue
    return records


def reads_in_words(preprocessing: Any) -> str:
    """What a model reads."""
    if isinstance(preprocessing, Fitted):
        return (
            f"whole pictures of {many(preprocessing.channels, 'channel')}, {preprocessing.shorter} pixels at the "
            f"shorter side and at most {preprocessing.longer} at the longer"
        )
    if not isinstance(preprocessing, Preprocessing):
        return f"at most {preprocessing.max_tokens:,} pieces of text, out of {preprocessing.size:,}"
    rows, columns = preprocessing.size
    return f"{rows} by {columns} pixels of {many(len(preprocessing.mean), 'channel')}"


class Background:
    """Where a report comes from.

    Args:
        source: the run, folder or hub id that was judged, as one types it.
        folder: where the page lies.
        data: what it was judged by, as one types it; what the run has learned from unless given.
        part: which of its pictures, in words; empty where they are all.
    """

    def __init__(self, source: str | Path, folder: Path, data: str | None = None, part: str = "") -> None:
        self.source, self.folder, self.part = str(source), folder, part
        self.recipe = told(Path(source) / "recipe.json")
        self.run = told(Path(source) / "run.json")
        self.records = read_records(Path(source) / "metrics.jsonl")
        self.data = data or learned_from(source)

    def facts(
        self, dataset: Dataset, judged: int, model: nn.Module, preprocessing: Any, learned: int | None
    ) -> list[Fact]:
        """Data, classes, model and, for a run, how it came about.

        Args:
            dataset: what it was judged by.
            judged: how many of its samples.
            model: that judged them.
            preprocessing: how it reads them.
            learned: how many pictures it has learned from, if that is known.
        """
        unit = "picture" if isinstance(preprocessing, PicturePreprocessing) else "text"
        from_others = f"; {many(learned, f'other {unit}')} to learn from" if learned else ""
        which = f" ({self.part})" if self.part else ""
        names = ", ".join(dataset.classes[:CLASSES]) + (" ..." if len(dataset.classes) > CLASSES else "")
        called = classes_called(dataset.task)
        named = self.data.removesuffix(":") or "not named"
        facts = [
            Fact("Data", f"{named}: {many(judged, unit)} judged{which}{from_others}"),
            *([Fact(called.capitalize(), f"{len(dataset.classes):,}: {names}")] if dataset.classes else []),
            Fact("Model", self.model(model, preprocessing)),
        ]
        if self.run:
            facts.append(Fact("Weights", self.weights()))
        if self.recipe:
            facts.append(Fact("Recipe", self.training(), self.address("recipe.json")))
        return facts

    def model(self, model: nn.Module, preprocessing: Any) -> str:
        """Name, size and input of a model."""
        card = getattr(model, "card", None)
        name = type(model).__name__ if card is None else card.model
        parameters = sum(parameter.numel() for parameter in model.parameters())
        return f"{name}: {parameters:,} parameters, reads {reads_in_words(preprocessing)}"

    def weights(self) -> str:
        """Which weights of a run were kept."""
        step, steps = self.run["step"], self.run["steps"]
        epoch = next((record["epoch"] for record in self.records if record.get("step") == step), None)
        reached = f"step {step:,} of {steps:,}" if epoch is None else f"epoch {epoch:.4g} (step {step:,} of {steps:,})"
        why = "the best on what was set aside" if self.run["kept"] == "best" else "the last"
        average = ", as a moving average over the steps" if self.run.get("average") else ""
        if last := self.run.get("average_last"):
            average = f", as the mean of the weights after each of the last {last} epochs"
        return f"kept from {reached}: {why}{average}"

    def training(self) -> str:
        """How a run began and how long it went."""
        init = self.recipe["model"].get("init")
        began = f"began with weights from {init}" if init else "began with fresh weights"
        steps = self.recipe.get("steps")
        length = many(steps, "step") if steps else many(self.recipe["epochs"], "epoch")
        return f"{began}, {length}, seed {self.recipe['seed']}; everything else is in "

    def address(self, name: str) -> str:
        """Of a file of the run, seen from the page."""
        return quote(Path(os.path.relpath(Path(self.source) / name, self.folder)).as_posix())

    def commands(self, example: Sequence[str], foreign: str = "", *, prompt: bool = False) -> list[str]:
        """What to type next.

        Args:
            example: a picture or a text as one types it, with what belongs to it.
            foreign: a library that the model can be written for; empty where there is none.
            prompt: whether the text is one that the model goes on with.
        """
        run, data = (shlex.quote(word) for word in (self.source, self.data or "DATA"))
        typed = shlex.join(example)
        found = [
            f"vitrail predict {run} {'--prompt ' * prompt}{typed}",
            f"vitrail explain {run} {typed}",
            f"vitrail evaluate {run} --data {data}",
        ]
        if foreign:
            place = shlex.quote(f"{Path(self.source).name}-{foreign}")
            found.append(f"vitrail convert {run} --to {foreign} {place}")
        return found
