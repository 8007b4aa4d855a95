"""Answers that stand in a text: from scores of tokens to words, and from words to the scores of SQuAD v1.1.

Sources: Devlin et al., "BERT", NAACL 2019 (how a span is chosen: its published settings are 20 best places and 30
tokens); Rajpurkar et al., "SQuAD", EMNLP 2016 (exact match and F1).
"""

import math
import re
import string
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable
from unicodedata import category

import torch
from jaxtyping import Float
from torch import Tensor

from vitrail.errors import ConfigError
from vitrail.samples import Batch

BEST_PLACES = 20  # beginnings, and ends, that are tried
LONGEST_ANSWER = 30  # tokens
PUNCTUATION = str.maketrans("", "", string.punctuation)
UNPARTED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
ARTICLES = re.compile(r"\b(a|an|the)\b")


class Answer(NamedTuple):
    """The best answer of one window.

    Attributes:
        question: the number of the question in the data set.
        text: of the answer; empty where the window has none.
        score: by which the answers of several windows are compared.
        start, end: where it stands in the context, in characters.
    """

    question: int
    text: str
    score: float
    start: int = 0
    end: int = 0

    def record(self, top: int = 5) -> dict[str, Any]:
        return {"answer": self.text, "score": self.score, "start": self.start, "end": self.end}

    def summary(self, top: int = 3) -> str:
        return self.text or "no answer"


@runtime_checkable
class Reading(Protocol):
    """What a row of a batch was made from: a stretch of a text, and what is asked about it."""

    @property
    def question(self) -> int:
        """The number of the question in the data set."""
        ...

    @property
    def context(self) -> str:
        """The whole text."""
        ...

    @property
    def answers(self) -> tuple[str, ...]:
        """The right ones; none where they are not known."""
        ...

    @property
    def offset(self) -> int:
        """Where the stretch begins in the ids of its row."""
        ...

    @property
    def spans(self) -> Any:
        """Where each of its tokens begins and ends in the context, in characters."""
        ...

    @property
    def central(self) -> Sequence[bool]:
        """Which of its tokens have more context here than in any other stretch."""
        ...


class SpanScores(NamedTuple):
    """How much each token of a row looks like the first, and the last, of the answer."""

    start: Float[Tensor, " tokens"]
    end: Float[Tensor, " tokens"]


class TokenSpan(NamedTuple):
    """Some tokens of a window.

    Attributes:
        first, last: of its context, counted from the first token that the window has of it.
        score: the sum of the scores of both.
    """

    first: int
    last: int
    score: float


def best_span(
    start: Float[Tensor, " tokens"],
    end: Float[Tensor, " tokens"],
    central: Sequence[bool] | None = None,
    *,
    longest: int = LONGEST_ANSWER,
    places: int = BEST_PLACES,
) -> TokenSpan | None:
    """The span whose first and last token have the largest scores together.

    Args:
        start, end: how much each token of the context looks like the first, and the last, of the answer.
        central: which tokens may begin one: those that have more context here than in another window.
        longest: tokens that an answer may have.
        places: how many beginnings, and ends, are tried.

    Returns:
        It, or `None` where no span is allowed.
    """
    if not len(start):
        return None
    count = min(places, len(start))
    firsts, lasts = start.float().topk(count).indices, end.float().topk(count).indices
    lengths = lasts[None, :] - firsts[:, None] + 1
    allowed = (lengths >= 1) & (lengths <= longest)
    if central is not None:
        allowed &= torch.tensor(central, device=start.device)[firsts][:, None]
    scores = (start[firsts][:, None] + end[lasts][None, :]).float().masked_fill(~allowed, -torch.inf)
    place = int(scores.argmax())
    first, last = place // count, place % count
    if not allowed[first, last]:
        return None
    return TokenSpan(int(firsts[first]), int(lasts[last]), float(scores[first, last]))


def goes_on(text: str, place: int) -> bool:
    """Whether a word goes on between a character and the one before it; never where blanks part no words."""
    if not 0 < place < len(text):
        return False
    pair = text[place - 1 : place + 1]
    return all(category(one)[0] in "LMN" for one in pair) and UNPARTED.search(pair) is None


def whole_words(text: str, left: int, right: int) -> tuple[int, int]:
    """A stretch of a text, widened until no word is cut: a piece of a word answers nothing."""
    while left < right and goes_on(text, left):
        left -= 1
    while left < right and goes_on(text, right):
        right += 1
    return left, right


def read_answer(scores: SpanScores, reading: Reading, before: int = 0) -> Answer:
    """The best answer of one row, in the words of the text.

    Args:
        scores: of all tokens of the row.
        reading: what the row was made from.
        before: padding in front of the row.
    """
    first = before + reading.offset
    stretch = slice(first, first + len(reading.spans))
    found = best_span(scores.start[stretch], scores.end[stretch], reading.central)
    if found is None:
        return Answer(reading.question, "", -math.inf)
    left, right = int(reading.spans[found.first][0]), int(reading.spans[found.last][1])
    left, right = whole_words(reading.context, left, right)
    return Answer(reading.question, reading.context[left:right], found.score, left, right)


def normalised(answer: str) -> str:
    """An answer as SQuAD compares it: small letters, no punctuation, no articles, single blanks."""
    return " ".join(ARTICLES.sub(" ", answer.lower().translate(PUNCTUATION)).split())


def exact_match(said: str, truth: str) -> float:
    """1 where both are the same once normalised, otherwise 0."""
    return float(normalised(said) == normalised(truth))


def word_f1(said: str, truth: str) -> float:
    """How far the words of both overlap: the harmonic mean of precision and recall."""
    ours, theirs = normalised(said).split(), normalised(truth).split()
    common = sum((Counter(ours) & Counter(theirs)).values())
    return 2 * common / (len(ours) + len(theirs)) if common else 0.0


class AnswerMetrics:
    """SQuAD v1.1's scores, as shares of 1: `exact` and `f1`, each with the truth that suits the answer best.

    Results are scores of tokens; the batch has as `references` what its rows were made from. Of several windows of one
    question, the answer with the largest score counts.
    """

    def __init__(self) -> None:
        self.said: dict[int, Answer] = {}
        self.truths: dict[int, tuple[str, ...]] = {}

    def update(self, results: Sequence[SpanScores], batch: Batch) -> None:
        valid = batch.inputs.valid.cpu()
        for scores, reading, row in zip(results, batch.references, valid, strict=True):
            self.count(read_answer(scores, reading, int(row.int().argmax())), reading.answers)

    def count(self, answer: Answer, truths: tuple[str, ...]) -> None:
        """Take the answer of one window into account.

        Raises:
            ConfigError: nobody knows the truth.
        """
        if not truths:
            raise ConfigError(f"Question {answer.question} has no answer to compare with.")
        known = self.said.get(answer.question)
        if known is None or answer.score > known.score:
            self.said[answer.question] = answer
            self.truths[answer.question] = truths

    def compute(self) -> dict[str, float]:
        pairs = [(answer.text, self.truths[question]) for question, answer in self.said.items()]
        count = max(len(pairs), 1)
        return {
            "exact": sum(max(exact_match(said, truth) for truth in truths) for said, truths in pairs) / count,
            "f1": sum(max(word_f1(said, truth) for truth in truths) for said, truths in pairs) / count,
        }

    def details(self) -> dict[str, Any]:
        return {
            "questions": len(self.said),
            "answers": {str(question): answer.text for question, answer in sorted(self.said.items())},
        }
