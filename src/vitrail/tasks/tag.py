"""Say of each word in a sentence what it is: part of a name, or its part of speech.

A word that is cut into pieces is judged at its first one. Source: Devlin et al., "BERT", NAACL 2019, section 5.3.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Int
from torch import Tensor, nn

from vitrail.errors import ConfigError, many
from vitrail.fields import check_fields
from vitrail.samples import Batch, Words
from vitrail.tasks.task import Loss, ask
from vitrail.tasks.text_scores import IGNORED, TagMetrics, asked_for
from vitrail.tokenizing import TextPreprocessing

WORD = re.compile(r"\w(?:\S*\w)?|[^\w\s]")
NOTHING = "O"  # the tag of a word that belongs to no name


def split_words(text: str) -> list[str]:
    """The words of a text; marks before and behind a word are words of their own, those within it are not."""
    return WORD.findall(text)


class TaggedWord(NamedTuple):
    """A word, what it is, and how much the model believes that, 0 to 1."""

    word: str
    tag: str
    score: float


class TaggedText(NamedTuple):
    """A sentence in words, each with its tag."""

    words: tuple[TaggedWord, ...]

    def record(self, top: int = 5) -> dict[str, Any]:
        """Ready for JSON."""
        return {"words": [word._asdict() for word in self.words]}

    def summary(self, top: int = 3) -> str:
        """The sentence with the tag behind each word; words that belong to no name stand alone."""
        return " ".join(word if tag == NOTHING else f"{word}/{tag}" for word, tag, _ in self.words)


class Spelled(NamedTuple):
    """Sentences as a model reads them, and the words that they were made of.

    Attributes:
        words: what the model reads.
        sentences: the words of each sentence.
        firsts: where the first piece of each word stands in its row.
    """

    words: Words
    sentences: tuple[tuple[str, ...], ...]
    firsts: tuple[tuple[int, ...], ...]

    def to(self, device: torch.device | str) -> "Spelled":
        """The same sentences on another device."""
        return self._replace(words=self.words.to(device))


def spell(preprocessing: TextPreprocessing, sentence: Sequence[str]) -> tuple[list[int], list[int]]:
    """The ids of a sentence with what stands around it, and where the first piece of each word is.

    Raises:
        ConfigError: it is longer than the model reads.
    """
    around = preprocessing.frame
    unknown = preprocessing.unknown_token
    row, firsts = list(around[0].ids), []
    for ids in preprocessing.spell(sentence):
        firsts.append(len(row))
        row += ids or [preprocessing.pad_id if unknown is None else preprocessing.id_of(unknown)]
    row += around[1].ids
    if len(row) > preprocessing.max_tokens:
        raise ConfigError(
            f"The text has {many(len(row), 'token')}, and this model reads {preprocessing.max_tokens:,} at once: "
            f"{' '.join(sentence)[:40]!r} ... Give its sentences one by one."
        )
    return row, firsts


@dataclass(frozen=True, kw_only=True)
class Tag:
    """The task of tagging words.

    Attributes:
        classes: the tags, in the order of the model's logits.
    """

    classes: tuple[str, ...]

    name = "tag"

    def __post_init__(self) -> None:
        if not self.classes:
            raise ConfigError("Tagging words needs at least one tag, and classes is empty.")
        check_fields(self)

    @property
    def best(self) -> tuple[str, Literal["max", "min"]]:
        """F1 of whole names where all tags mark names; otherwise the share of words with the right tag."""
        return ("f1" if self.metrics().names else "accuracy"), "max"

    def loss(self, model: nn.Module, batch: Batch, generator: torch.Generator | None = None) -> Loss:
        """The mean over the words."""
        logits = ask(model, batch.inputs)
        total = F.cross_entropy(logits.flatten(0, 1).float(), batch.target.flatten(), ignore_index=IGNORED)
        return Loss(total, {})

    def weight(self, batch: Batch) -> int:
        """The words that have a tag."""
        return asked_for(batch)

    def judge(self, model: nn.Module, batch: Batch) -> list[Int[Tensor, " tokens"]]:
        """The likeliest tag at each place."""
        return list(ask(model, batch.inputs).argmax(dim=2).cpu())

    def words(self, preprocessing: TextPreprocessing, texts: Sequence[str]) -> Spelled:
        """Texts in words, and these in pieces.

        Raises:
            ConfigError: a text without a word, or one that is longer than the model reads.
        """
        sentences = [split_words(text) for text in texts]
        empty = next((text for text, words in zip(texts, sentences, strict=True) if not words), None)
        if empty is not None:
            raise ConfigError(f"{empty[:40]!r} has no word to tag. Write something.")
        rows = [spell(preprocessing, words) for words in sentences]
        firsts = [places for _, places in rows]
        words = preprocessing.side_by_side([row for row, _ in rows], [[0] * len(row) for row, _ in rows])
        before = words.valid.int().argmax(dim=1).tolist()  # padding in front of a row
        moved = [tuple(place + shift for place in places) for places, shift in zip(firsts, before, strict=True)]
        return Spelled(words, tuple(map(tuple, sentences)), tuple(moved))

    def predict(self, model: nn.Module, inputs: Spelled) -> list[TaggedText]:
        """The words of each text with their tags.

        Raises:
            ConfigError: the model knows another number of tags.
        """
        shares = ask(model, inputs.words).float().softmax(dim=2).cpu()
        if shares.shape[2] != len(self.classes):
            raise ConfigError(f"The model tells {shares.shape[2]} tags apart and the task has {len(self.classes)}.")
        results = []
        for row, words, firsts in zip(shares, inputs.sentences, inputs.firsts, strict=True):
            best = row[list(firsts)].max(dim=1)
            tags = [self.classes[tag] for tag in best.indices.tolist()]
            results.append(TaggedText(tuple(map(TaggedWord, words, tags, best.values.tolist()))))
        return results

    def metrics(self) -> TagMetrics:
        return TagMetrics(self.classes)

    def after_step(self, model: nn.Module, step: int) -> None:
        """Nothing has to follow."""
