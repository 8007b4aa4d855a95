"""The texts of a report, each with what a model says of it and the truth."""

from collections.abc import Iterator, Sequence
from typing import Any

from torch import nn

from vitrail.data.dataset import Dataset, Label
from vitrail.data.text.dataset import Labelled, Pair, Passage, Question, Tagged, TextSample
from vitrail.errors import ConfigError
from vitrail.evaluate.evaluate import KEPT, Report
from vitrail.predict_texts import TextPredictor
from vitrail.tasks.tag import NOTHING
from vitrail.tasks.task import Result
from vitrail.tokenizing import joined

BEGINNING = 8  # words of a passage that a model goes on with
GOING_ON = 60  # pieces that it writes

Row = dict[str, str]


def label_in_words(label: Label | None, classes: Sequence[str]) -> str:
    """The truth about a sample, as a person would say it."""
    if label is None:
        return "unknown"
    if isinstance(label, int):
        return classes[label] if classes else str(label)
    return ", ".join(classes[one] for one in label) or "none"


def truth_in_words(sample: TextSample, classes: Sequence[str]) -> str:
    """What people have said about a text."""
    match sample:
        case Labelled():
            return label_in_words(sample.label, classes)
        case Tagged():
            tags = [classes[tag] for tag in sample.tags]
            pairs = zip(sample.words, tags, strict=True)
            return " ".join(word if tag == NOTHING else f"{word}/{tag}" for word, tag in pairs)
        case Question():
            return " | ".join(dict.fromkeys(sample.answers))
        case _:
            return "; ".join(sample.texts[1:])


def told(sample: TextSample, result: Result, classes: Sequence[str]) -> Row:
    """A text, what was said about it, and the truth."""
    if isinstance(sample, Pair):
        return {"source": sample.source, "written": result.summary(), "reference": sample.target}
    text = " | ".join(sample.texts) if isinstance(sample, Labelled) else sample.texts[0]
    return {"text": text, "answer": result.summary(), "truth": truth_in_words(sample, classes)}


def asked(model: nn.Module, dataset: Dataset) -> Iterator[Row]:
    """Some texts, spread evenly over the data, of which the model is asked once more.

    What tags and answers are judged by is nothing to read, and of running text only the likelihood is counted.
    """
    ask = TextPredictor(model)
    for index in range(0, len(dataset), max(1, len(dataset) // KEPT))[:KEPT]:
        sample: Any = dataset[index]
        try:
            if isinstance(sample, Passage):
                text = " ".join(sample.text.split()[:BEGINNING])
                yield {"text": text, "goes on": ask.answers([text], seed=index, max_tokens=GOING_ON)[0].summary()}
            else:
                yield told(sample, ask.answers([joined(sample.texts)])[0], dataset.classes)
        except ConfigError:  # too long to be read at once, or nothing in it that is read
            continue


def readings(report: Report, dataset: Dataset, model: Any) -> list[Row]:
    """Rows for a table: the texts that were judged, or some of which the model is asked; none where it hides words."""
    cases = [case for case in report.shown if isinstance(case.result, Result)]
    if cases:
        return [told(dataset[case.index], case.result, dataset.classes) for case in cases]
    if isinstance(dataset[0], Passage) and model.card.generation is None:
        return []
    return list(asked(model, dataset))
