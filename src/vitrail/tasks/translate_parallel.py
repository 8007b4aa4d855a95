"""Translating with all words at once: the length is guessed, and hidden words are learned from those in sight.

Source: Ghazvininejad et al., "Mask-Predict: Parallel Decoding of Conditional Masked Language Models", EMNLP 2019.
"""

from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool
from torch import Tensor, nn

from vitrail.decoding.parallel import mask_predict
from vitrail.errors import many
from vitrail.fields import Range, check_fields, check_ranges
from vitrail.samples import Batch, Words
from vitrail.tasks.surprise import mean_surprise, rows_asked
from vitrail.tasks.task import Loss
from vitrail.tasks.text_scores import IGNORED, TranslationMetrics
from vitrail.tasks.translate import Sentence, sentences


def inner(target: Words) -> Words:
    """The words of a translation without the symbols it begins and ends with."""
    return Words(target.ids[:, 1:-1], target.valid[:, 2:])


def hide_some(
    valid: Bool[Tensor, "batch target"], generator: torch.Generator | None = None
) -> Bool[Tensor, "batch target"]:
    """Which words to hide: of each sentence any number from one to all, each number as likely as any other."""
    lengths = valid.sum(dim=1, keepdim=True)
    count = (torch.rand(lengths.shape, generator=generator, device=valid.device) * lengths).floor() + 1
    order = torch.rand(valid.shape, generator=generator, device=valid.device).masked_fill(~valid, 2.0)
    return (order.argsort(dim=1).argsort(dim=1) < count) & valid


@dataclass(frozen=True, kw_only=True)
class TranslateParallel:
    """The task of translating without waiting for the word before.

    Attributes:
        smoothing: label smoothing in training, 0 to 1.
        length_weight: how much the guess of the length counts beside the words.
        steps: how often all places are asked when it writes; 1 fills them once, and the
            paper has 4 and 10.
        lengths: how many of the likeliest lengths are tried when it writes.
    """

    smoothing: float = 0.1
    length_weight: float = 0.1
    steps: int = 4
    lengths: int = 3

    name = "translate-parallel"
    classes_are = "languages"  # the one that is read first
    answering = ("steps", "lengths")  # what a card keeps of it

    @property
    def best(self) -> tuple[str, Literal["max", "min"]]:
        return "bleu", "max"

    def __post_init__(self) -> None:
        check_fields(self)
        check_ranges(
            self,
            smoothing=Range(0, 1, below=True, usual="0.1"),
            length_weight=Range(0, 1000, usual="0.1"),
            steps=Range(1, 1000, usual="4 or 10"),
            lengths=Range(1, 1000, usual="1 to 5"),
        )

    def loss(self, model: Any, batch: Batch, generator: torch.Generator | None = None) -> Loss:
        """The mean over the hidden words, and the mean over the sentences of what their lengths cost."""
        source, answer = batch.inputs, inner(batch.target)
        hidden = hide_some(answer.valid, generator)
        memory, lengths = model.encode(source.ids, source.valid)
        looked = model.decode(answer.ids, hidden, memory, source.valid, answer.valid)
        target = answer.ids.masked_fill(~hidden, IGNORED).flatten()
        rows = rows_asked(target)
        words = mean_surprise(model.guess(looked.flatten(0, 1).index_select(0, rows)), target[rows], self.smoothing)
        true = answer.valid.sum(dim=1).clamp(min=1) - 1  # lengths count from 1
        length = F.cross_entropy(lengths.float(), true)
        return Loss(words + self.length_weight * length, {"words": words.detach(), "length": length.detach()})

    def weight(self, batch: Batch) -> int:
        """The words to be written, of which chance hides half on average."""
        return int(inner(batch.target).valid.sum())

    def predict(self, model: Any, inputs: Words) -> list[Sentence]:
        """The translation of each sentence."""
        padding = model.card.preprocessing.pad_id
        answers = mask_predict(model, inputs.ids, inputs.valid, steps=self.steps, lengths=self.lengths, padding=padding)
        return sentences(model, answers)

    def metrics(self) -> TranslationMetrics:
        steps, lengths = many(self.steps, "step"), many(self.lengths, "length")
        return TranslationMetrics(manner=f"all at once, in {steps}, the best of {lengths}")

    def after_step(self, model: nn.Module, step: int) -> None:
        """Nothing has to follow."""
