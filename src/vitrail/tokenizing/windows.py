"""Long texts in windows that a model can read, each with a question in front of it.

Source: Devlin et al., "BERT", NAACL 2019, and its published settings: 384 tokens, stride 128, questions of 64.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from vitrail.errors import ConfigError
from vitrail.tokenizing.preprocessing import TextPreprocessing

LENGTH, STRIDE, QUESTION_LENGTH = 384, 128, 64  # tokens


class Slice(NamedTuple):
    """Some tokens of a context: from `first`, `count` of them."""

    first: int
    count: int


def slices(tokens: int, room: int, stride: int) -> list[Slice]:
    """Stretches of a context that overlap: each begins `stride` tokens after the one before."""
    found, first = [], 0
    while True:
        count = min(room, tokens - first)
        found.append(Slice(first, count))
        if first + count >= tokens:
            return found
        first += min(count, stride)


def most_central(token: int, among: Sequence[Slice]) -> int:
    """The stretch in which a token has most context: the lesser of what is on its left and right, longer ones first."""
    best, place = -1.0, 0
    for number, (first, count) in enumerate(among):
        if first <= token < first + count:
            score = min(token - first, first + count - 1 - token) + 0.01 * count
            if score > best:
                best, place = score, number
    return place


@dataclass(frozen=True)
class Window:
    """A stretch of a text, with the question that is asked about it.

    Attributes:
        question: the number of the question.
        context: the whole text.
        answers: as people have given them; all are right.
        first: the place of the stretch's first token in the context, in tokens.
        offset: where the stretch begins in the ids that the model reads.
        spans: where each of its tokens begins and ends in the context, in characters.
        start, end: the first and last token of the answer, in the ids that the model reads; 0, which is [CLS], where
            the answer is not in this window.
        stretches: all stretches that the context is read in for this question.
    """

    question: int
    context: str = field(repr=False)
    answers: tuple[str, ...]
    first: int
    offset: int
    spans: Int[np.ndarray, "tokens 2"] = field(repr=False)
    start: int
    end: int
    stretches: tuple[Slice, ...] = field(repr=False)

    @property
    def central(self) -> list[bool]:
        """Which of its tokens have more context here than in any other window of this question."""
        tokens = range(self.first, self.first + len(self.spans))
        near = [one for one in self.stretches if one.first < tokens.stop and one.first + one.count > tokens.start]
        mine = near.index(Slice(self.first, len(self.spans)))
        return [most_central(token, near) == mine for token in tokens]


class Context(NamedTuple):
    """A text in pieces, with nothing around them.

    Attributes:
        text: as it was written.
        ids: of its pieces.
        spans: where each begins and ends in the text, in characters.
    """

    text: str
    ids: list[int]
    spans: Int[np.ndarray, "tokens 2"]


class Row(NamedTuple):
    """What a model reads of a window.

    Attributes:
        ids: of its pieces.
        segments: to which of the two texts each belongs.
        window: where they come from.
    """

    ids: list[int]
    segments: list[int]
    window: Window


def answer_tokens(spans: Int[np.ndarray, "tokens 2"], start: int, end: int) -> tuple[int, int] | None:
    """The first and last token that an answer in characters touches; `None` where it touches none."""
    left, right = spans[:, 0], spans[:, 1]
    touched = np.flatnonzero((right > start) & (left < end) & (right > left))
    return (int(touched[0]), int(touched[-1])) if len(touched) else None


def context_of(preprocessing: TextPreprocessing, text: str, name: str = "The text") -> Context:
    """A text in pieces, however long."""
    encoded = replace(preprocessing, max_tokens=1 << 20).encode(text, name=name)
    kept = [place for place, added in enumerate(encoded.added) if not added]
    spans = np.array([encoded.spans[place] for place in kept], dtype=np.int32).reshape(-1, 2)
    return Context(text, [encoded.ids[place] for place in kept], spans)


@dataclass(frozen=True)
class Windows:
    """How questions are put in front of the windows of a text.

    A text that does not fit is read in windows that overlap, each beginning `stride` tokens after the one before, or
    half a window where that is less.

    Args:
        preprocessing: a tokenizer that puts two texts side by side.
        length: tokens in a window, with the question; no more than the model reads.
        stride: tokens from the beginning of one window to that of the next.
        question_length: tokens after which a question is cut; 64 unless given, or a quarter of a shorter window.

    Raises:
        ConfigError: no room is left for the text, or nothing separates the two.
    """

    preprocessing: TextPreprocessing
    length: int = LENGTH
    stride: int = STRIDE
    question_length: int | None = None

    def __post_init__(self) -> None:
        if self.stride < 1:
            raise ConfigError(f"stride={self.stride} must be at least 1. Usual: {STRIDE}.")
        if self.preprocessing.class_token is None:
            raise ConfigError("Questions want [CLS] and [SEP] around texts, which this tokenizer has not. Use BERT's.")
        if self.room(self.most_asked) < 1:
            raise ConfigError(
                f"A window of {self.longest} tokens has no room for a text beside a question of {self.most_asked}. "
                f"Use a smaller question_length."
            )

    @property
    def longest(self) -> int:
        """Tokens in a window, at most."""
        return min(self.length, self.preprocessing.max_tokens)

    @property
    def most_asked(self) -> int:
        """Tokens of a question, at most."""
        return min(QUESTION_LENGTH, self.longest // 4) if self.question_length is None else self.question_length

    def room(self, question: int) -> int:
        """Tokens that are left for the text beside a question of so many."""
        return self.longest - question - len(self.preprocessing.wrap([], [])[0])

    def rows(
        self, number: int, question: list[int], context: Context, answers: tuple[str, ...] = (), begins: int = 0
    ) -> list[Row]:
        """The windows of a text for one question.

        Args:
            number: of the question.
            question: its ids.
            context: the text.
            answers: the right ones, where they are known.
            begins: where the first of them begins in the text, in characters.
        """
        question = question[: self.most_asked]
        truth = answer_tokens(context.spans, begins, begins + len(answers[0])) if answers else None
        room = self.room(len(question))
        stretches = tuple(slices(len(context.ids), room, min(self.stride, max(1, room // 2))))
        offset = len(question) + sum(len(frame.ids) for frame in self.preprocessing.frames[:2])
        found = []
        for first, count in stretches:
            ids, segments = self.preprocessing.wrap(question, context.ids[first : first + count])
            inside = truth is not None and first <= truth[0] and truth[1] < first + count
            start, end = (truth[0] - first + offset, truth[1] - first + offset) if truth and inside else (0, 0)
            part = context.spans[first : first + count]
            window = Window(number, context.text, answers, first, offset, part, start, end, stretches)
            found.append(Row(ids, segments, window))
        return found
