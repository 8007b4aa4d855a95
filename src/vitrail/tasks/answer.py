"""Find the words of a text that answer a question.

The model says of each token how much it looks like the first, and like the last, of the answer. Source: Devlin et al.,
"BERT", NAACL 2019, section 4.2; Rajpurkar et al., "SQuAD", EMNLP 2016.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from vitrail.errors import ConfigError, many
from vitrail.samples import Batch, Words
from vitrail.tasks.answers import Answer, AnswerMetrics, SpanScores, read_answer
from vitrail.tasks.task import Loss, ask
from vitrail.tokenizing import BETWEEN, TextPreprocessing
from vitrail.tokenizing.windows import Window, Windows, context_of

AT_ONCE = 32  # windows


class Asked(NamedTuple):
    """Questions as a model reads them, each in front of one or more windows of its text.

    Attributes:
        words: what the model reads, a row for each window.
        windows: what the rows were made from.
        questions: how many questions there are.
    """

    words: Words
    windows: tuple[Window, ...]
    questions: int

    def to(self, device: torch.device | str) -> "Asked":
        """The same questions on another device."""
        return self._replace(words=self.words.to(device))


def span_logits(model: nn.Module, words: Words) -> Float[Tensor, "batch tokens 2"]:
    """How much each token looks like the first, and the last, of the answer; padding is neither."""
    logits = ask(model, words).float()
    return logits.masked_fill(~words.valid[..., None], torch.finfo(logits.dtype).min)


@dataclass(frozen=True, kw_only=True)
class AnswerQuestions:
    """The task of answering questions out of a text."""

    name = "answer"

    @property
    def best(self) -> tuple[str, Literal["max", "min"]]:
        return "f1", "max"

    def loss(self, model: nn.Module, batch: Batch, generator: torch.Generator | None = None) -> Loss:
        """The mean of what the beginning and the end cost; where a window has no answer, both are at its [CLS]."""
        return Loss(F.cross_entropy(span_logits(model, batch.inputs), batch.target), {})

    def judge(self, model: nn.Module, batch: Batch) -> list[SpanScores]:
        """What each token of each window scored."""
        logits = span_logits(model, batch.inputs).cpu()
        return [SpanScores(row[:, 0], row[:, 1]) for row in logits]

    def within(self, questions: Sequence[str], context: str) -> list[str]:
        """Questions about one text, each with the text behind it, as `words` reads them."""
        return [f"{question}{BETWEEN}{context}" for question in questions]

    def words(self, preprocessing: TextPreprocessing, texts: Sequence[str]) -> Asked:
        """Questions with their texts, a tab between the two, in windows.

        Raises:
            ConfigError: one of the two is missing, nothing of it can be read, or the question is too long.
        """
        windows, rows = Windows(preprocessing), []
        for number, text in enumerate(texts):
            question, _, context = text.partition(BETWEEN)
            if not question.strip() or not context.strip():
                raise ConfigError(
                    f"{text[:40]!r} is not a question with the text that answers it. Type the text after --context, or "
                    f"after a tab."
                )
            asked, read = preprocessing.encode_all([question], around=False)[0], context_of(preprocessing, context)
            if not asked or not read.ids:
                raise ConfigError(f"{text[:40]!r} has nothing that this model's tokenizer reads. Write words.")
            if len(asked) > windows.most_asked:
                raise ConfigError(
                    f"The question has {many(len(asked), 'token')}, and this model reads {windows.most_asked} of one: "
                    f"{question[:40]!r} ... Shorten it; what it is asked about goes into the context."
                )
            rows += windows.rows(number, asked, read)
        words = preprocessing.side_by_side([row.ids for row in rows], [row.segments for row in rows])
        return Asked(words, tuple(row.window for row in rows), len(texts))

    def predict(self, model: nn.Module, inputs: Asked) -> list[Answer]:
        """The best answer of each question, out of all windows of its text."""
        best: list[Any] = [None] * inputs.questions
        for first in range(0, len(inputs.windows), AT_ONCE):
            part = slice(first, first + AT_ONCE)
            words = Words(*(None if one is None else one[part] for one in inputs.words))  # pyright: ignore
            for row, valid, window in zip(
                span_logits(model, words).cpu(), words.valid.cpu(), inputs.windows[part], strict=True
            ):
                found = read_answer(SpanScores(row[:, 0], row[:, 1]), window, int(valid.int().argmax()))
                if best[window.question] is None or found.score > best[window.question].score:
                    best[window.question] = found
        return best

    def metrics(self) -> AnswerMetrics:
        return AnswerMetrics()

    def after_step(self, model: nn.Module, step: int) -> None:
        """Nothing has to follow."""
