"""Writing in one language what a sentence says in another.

Source: Vaswani et al., "Attention Is All You Need", NeurIPS 2017: each word of the translation is foretold from those
before it and the whole source.
"""

from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

import torch
from torch import nn

from vitrail.decoding.write import Written, translate
from vitrail.errors import ConfigError
from vitrail.fields import Range, check_fields, check_ranges
from vitrail.generation import Generation
from vitrail.samples import Batch, Words
from vitrail.tasks.surprise import mean_surprise
from vitrail.tasks.task import Loss
from vitrail.tasks.text_scores import IGNORED, TranslationMetrics

HALF = "\N{REPLACEMENT CHARACTER}"  # what bytes become that are no whole character


class Sentence(NamedTuple):
    """What a model wrote.

    Attributes:
        text: as a person reads it.
        tokens: how many pieces it took.
    """

    text: str
    tokens: int

    def record(self, top: int = 5) -> dict[str, Any]:
        """Ready for JSON."""
        return {"text": self.text, "tokens": self.tokens}

    def summary(self, top: int = 3) -> str:
        """The sentence."""
        return self.text


@dataclass(frozen=True, kw_only=True)
class Translate:
    """The task of translating.

    Label smoothing is that of Szegedy et al., "Rethinking the Inception Architecture", CVPR 2016, section 7.

    Attributes:
        smoothing: label smoothing in training, 0 to 1.
        beams: sentences that are followed side by side when the model is judged; 1 takes the likeliest word each time.
        generation: how it writes for a person; as its card says unless given.
        seed: of chance, where words are drawn; another each time unless given.
    """

    smoothing: float = 0.1
    beams: int = 1
    generation: Generation | None = field(default=None, compare=False)
    seed: int | None = field(default=None, compare=False)

    name = "translate"
    classes_are = "languages"  # the one that is read first

    @property
    def best(self) -> tuple[str, Literal["max", "min"]]:
        return "bleu", "max"

    def __post_init__(self) -> None:
        check_fields(self)
        check_ranges(self, smoothing=Range(0, 1, below=True, usual="0.1"), beams=Range(1, 1000, usual="1 or 4"))

    def loss(self, model: nn.Module, batch: Batch, generator: torch.Generator | None = None) -> Loss:
        """The mean over the words to be written, so that a long sentence counts as its words do."""
        source, target = batch.inputs, batch.target
        # teacher forcing: after each word of the right translation, the next one is asked for
        logits = model(source.ids, target.ids[:, :-1], source.valid, target.valid[:, :-1])
        words = target.ids[:, 1:].masked_fill(~target.valid[:, 1:], IGNORED)
        return Loss(mean_surprise(logits, words, self.smoothing), {})

    def weight(self, batch: Batch) -> int:
        """The words to be written."""
        return int(batch.target.valid[:, 1:].sum())

    def predict(self, model: Any, inputs: Words) -> list[Sentence]:
        """The translation of each sentence, written as the model's card says."""
        chance = None if self.seed is None else torch.Generator(inputs.ids.device).manual_seed(self.seed % 2**64)
        return written(model, inputs, how(model, self.generation), chance)

    def judge(self, model: Any, batch: Batch) -> list[Sentence]:
        """The same with as many beams as this task says."""
        return written(model, batch.inputs, replace(how(model), beams=self.beams))

    def metrics(self) -> TranslationMetrics:
        one = "greedily, the likeliest word each time (1 beam)"
        return TranslationMetrics(manner=one if self.beams == 1 else f"with {self.beams} beams")

    def after_step(self, model: nn.Module, step: int) -> None:
        """Nothing has to follow."""


def how(model: Any, wanted: Generation | None = None) -> Generation:
    """How a model writes: as wanted, or as its card says.

    Raises:
        ConfigError: nothing says it.
    """
    settings = wanted or model.card.generation
    if settings is None:
        raise ConfigError(f"The card of this {model.card.model} does not say how it writes: it has no generation.")
    return settings


def written(model: Any, inputs: Words, settings: Generation, chance: torch.Generator | None = None) -> list[Sentence]:
    """What a model writes for sentences."""
    return sentences(model, translate(model, inputs.ids, settings, inputs.valid, chance))


def sentences(model: Any, answers: Written) -> list[Sentence]:
    """What was written, as people read it.

    A table of words may have more rows than its tokenizer has pieces. Such a word says nothing, as in transformers. A
    character of which only some bytes are written is left out at the end: it would be read as one that was lost.
    """
    reads = model.card.preprocessing
    rows = [ids[valid].tolist() for ids, valid in zip(answers.ids, answers.valid, strict=True)]
    texts = [reads.decode([word for word in row if word in reads.pieces]) for row in rows]
    return [Sentence(text.rstrip(HALF), len(row)) for text, row in zip(texts, rows, strict=True)]
