"""Scores of what a model writes, foretells or tags.

BLEU and chrF come from sacrebleu, with the signature that says how they were counted: without it two numbers cannot be
compared. Sources: Papineni et al., "BLEU", ACL 2002; Popovic, "chrF", WMT 2015; Post, "A Call for Clarity in Reporting
BLEU Scores", WMT 2018; Tjong Kim Sang and De Meulder, "CoNLL-2003", CoNLL 2003 (names found, as a whole).
"""

import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vitrail.errors import ConfigError
from vitrail.samples import Batch
from vitrail.tasks.scores import class_scores

IGNORED = -100  # a target that is not asked for
TAG = re.compile(r"([BIESLU])-(.+)")
BEGINS, ENDS = frozenset("BSU"), frozenset("ESLU")
NAMES = {"bleu": "BLEU", "chrf": "chrF"}


def asked_for(batch: Batch) -> int:
    """How many targets of a batch are asked for."""
    return int((batch.target != IGNORED).sum())


class Score(NamedTuple):
    """A score with what it takes to compare it.

    Attributes:
        value: from 0 to 100.
        signature: how it was counted, as sacrebleu says it; it belongs beside the number.
        parts: what it is made of.
    """

    value: float
    signature: str
    parts: dict[str, Any]


def columns(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> list[list[str]]:
    """The references as sacrebleu wants them: all first ones, all second ones, and so on.

    Raises:
        ConfigError: there is not the same number for each sentence.
    """
    counts = {len(one) for one in references}
    if len(references) != len(hypotheses) or len(counts) > 1 or 0 in counts:
        raise ConfigError(
            f"{len(hypotheses)} translations and references for {len(references)}, with {sorted(counts)} for each. "
            "Every translation must have the same number of references."
        )
    return [list(column) for column in zip(*references, strict=True)]


def bleu(
    hypotheses: Sequence[str],
    references: Sequence[Sequence[str]],
    *,
    tokenize: Literal["13a", "intl", "char", "none", "zh"] = "13a",
    lower_case: bool = False,
) -> Score:
    """BLEU of a corpus.

    Args:
        hypotheses: what was written, sentence by sentence, as plain text.
        references: for each of them, one or more right translations.
        tokenize: how sacrebleu cuts words; `13a` is what WMT compares with.
        lower_case: whether capitals count.

    Raises:
        ConfigError: the numbers do not fit, or there is nothing.
    """
    from sacrebleu.metrics.bleu import BLEU

    if not hypotheses:
        raise ConfigError("There are no translations to compare.")
    metric = BLEU(tokenize=tokenize, lowercase=lower_case)
    found = metric.corpus_score(list(hypotheses), columns(hypotheses, references))
    parts = {
        "precisions": list(found.precisions),
        "brevity_penalty": found.bp,
        "words": found.sys_len,
        "reference_words": found.ref_len,
    }
    return Score(found.score, str(metric.get_signature()), parts)


def chrf(hypotheses: Sequence[str], references: Sequence[Sequence[str]], *, word_order: int = 0) -> Score:
    """chrF of a corpus; with `word_order=2`, chrF++.

    Raises:
        ConfigError: the numbers do not fit, or there is nothing.
    """
    from sacrebleu.metrics.chrf import CHRF

    if not hypotheses:
        raise ConfigError("There are no translations to compare.")
    metric = CHRF(word_order=word_order)
    found = metric.corpus_score(list(hypotheses), columns(hypotheses, references))
    return Score(found.score, str(metric.get_signature()), {})


@runtime_checkable
class Written(Protocol):
    """A text that a model wrote."""

    @property
    def text(self) -> str: ...


def own_references(batch: Batch) -> list[tuple[str, ...]]:
    """The right translations that a batch brings along: one for each sentence, or several."""
    return [(one,) if isinstance(one, str) else tuple(one) for one in batch.references]


class TranslationMetrics:
    """`bleu` and `chrf` of what was written, from 0 to 100; signatures, and how it was written, are in `details`.

    Args:
        references: gives, for each sentence of a batch, one or more right translations, as people wrote them; what
            the batch has as its `references`, unless given.
        tokenize, lower_case: how BLEU is counted; see `bleu`.
        manner: how the texts are written, in words; nothing is said of it unless given.
    """

    def __init__(
        self,
        references: Callable[[Batch], Sequence[Sequence[str]]] | None = None,
        *,
        tokenize: Literal["13a", "intl", "char", "none", "zh"] = "13a",
        lower_case: bool = False,
        manner: str = "",
    ) -> None:
        self.manner = manner
        self.references_of = references or own_references
        self.tokenize: Literal["13a", "intl", "char", "none", "zh"] = tokenize
        self.lower_case = lower_case
        self.written: list[str] = []
        self.references: list[tuple[str, ...]] = []

    def update(self, results: Sequence[Written], batch: Batch) -> None:
        self.written += [result.text for result in results]
        self.references += [tuple(one) for one in self.references_of(batch)]

    def scores(self) -> dict[str, Score]:
        return {
            "bleu": bleu(self.written, self.references, tokenize=self.tokenize, lower_case=self.lower_case),
            "chrf": chrf(self.written, self.references),
        }

    def compute(self) -> dict[str, float]:
        if not self.written:
            return {"bleu": 0.0, "chrf": 0.0}
        return {name: score.value for name, score in self.scores().items()}

    def details(self) -> dict[str, Any]:
        found = self.scores() if self.written else {}
        return {
            "sentences": len(self.written),
            "signatures": {name: score.signature for name, score in found.items()},
            "bleu": found["bleu"].parts if found else {},
            "remarks": list(self.remarks(found)),
        }

    def remarks(self, found: Mapping[str, Score]) -> Iterator[str]:
        """What has to be known to compare the scores."""
        if found:
            signatures = " and ".join(f"{NAMES[name]} as {score.signature}" for name, score in found.items())
            yield f"Counted by sacrebleu: {signatures}."
        if self.manner:
            yield f"Written {self.manner}."


class Foretold(NamedTuple):
    """What a model says about the tokens of one row.

    Attributes:
        ids: the most probable token at each place.
        surprise: minus the natural logarithm of the probability that the true token was given.
    """

    ids: Int[Tensor, " tokens"]
    surprise: Float[Tensor, " tokens"]


class TokenMetrics:
    """How well tokens are foretold, or guessed, where `target` is not -100.

    `loss`: mean surprise in nats. `perplexity`: e to that power, among how many tokens the model wavers; it depends on
    the vocabulary. `accuracy`: share of tokens that were the most probable ones. `bits_per_character`, where all tokens
    of a text are asked for and the batch has their characters as its `references`: what does not depend on it.
    """

    def __init__(self) -> None:
        self.surprise, self.right, self.tokens, self.characters = 0.0, 0, 0, 0

    def update(self, results: Sequence[Foretold], batch: Batch) -> None:
        for result, target in zip(results, batch.target.cpu(), strict=True):
            asked = target != IGNORED
            self.surprise += float(result.surprise[asked].double().sum())
            self.right += int((result.ids[asked] == target[asked]).sum())
            self.tokens += int(asked.sum())
        self.characters += sum(batch.references or ())

    def compute(self) -> dict[str, float]:
        tokens = max(self.tokens, 1)
        loss = self.surprise / tokens
        perplexity = math.exp(loss) if loss < math.log(1e300) else math.inf
        scores = {"perplexity": perplexity, "loss": loss, "accuracy": self.right / tokens}
        if self.characters:
            scores["bits_per_character"] = self.surprise / math.log(2) / self.characters
        return scores

    def details(self) -> dict[str, Any]:
        return {"tokens": self.tokens}


class Entity(NamedTuple):
    """A name in a sentence: its kind, its first word, and the word after its last."""

    kind: str
    first: int
    stop: int


def entities(tags: Sequence[str]) -> Iterator[Entity]:
    """The names that tags mark (BIO, BIOES, BILOU); one that begins in the middle counts as begun."""
    open_kind, first, before = "", 0, ""
    for place, tag in enumerate([*tags, "O"]):
        found = TAG.fullmatch(tag)
        letter, kind = (found[1], found[2]) if found else ("", "")
        if open_kind and (kind != open_kind or letter in BEGINS or before in ENDS):
            yield Entity(open_kind, first, place)
            open_kind = ""
        if kind and not open_kind:
            open_kind, first = kind, place
        before = letter


def f1_of(right: int, said: int, true: int) -> dict[str, float]:
    """Precision, recall and their harmonic mean; 0 where there is nothing to count."""
    return {
        "precision": right / said if said else 0.0,
        "recall": right / true if true else 0.0,
        "f1": 2 * right / (said + true) if said + true else 0.0,
    }


class TagMetrics:
    """Scores of tagged words, where `target` is not -100: a word is judged at its first piece.

    `accuracy`: share of words with the right tag. Where all tags mark names (O, B-PER, I-PER), `precision`, `recall`
    and `f1` are of whole names: one counts if kind, beginning and end are right. Otherwise they are means over the
    tags that occur.

    Args:
        classes: the tags, in the order of the model's logits.
    """

    def __init__(self, classes: tuple[str, ...]) -> None:
        self.classes = classes
        self.names = all(name == "O" or TAG.fullmatch(name) for name in classes) and len(classes) > 1
        self.confusion = torch.zeros(len(classes), len(classes), dtype=torch.int64)  # truth, then what was said
        self.right, self.said, self.true = Counter[str](), Counter[str](), Counter[str]()

    def update(self, results: Sequence[Int[Tensor, " tokens"]], batch: Batch) -> None:
        for said, target in zip(results, batch.target.cpu(), strict=True):
            asked = target != IGNORED
            ours, truth = said.cpu()[asked], target[asked]
            place = truth * len(self.classes) + ours
            self.confusion += torch.bincount(place, minlength=self.confusion.numel()).view_as(self.confusion)
            if self.names:
                found = set(entities([self.classes[tag] for tag in ours.tolist()]))
                there = set(entities([self.classes[tag] for tag in truth.tolist()]))
                self.said.update(name.kind for name in found)
                self.true.update(name.kind for name in there)
                self.right.update(name.kind for name in found & there)

    def compute(self) -> dict[str, float]:
        seen = max(int(self.confusion.sum()), 1)
        accuracy = int(self.confusion.diagonal().sum()) / seen
        if self.names:
            return {"accuracy": accuracy, **f1_of(self.right.total(), self.said.total(), self.true.total())}
        scores = class_scores(self.confusion.diagonal(), self.confusion.sum(dim=0), self.confusion.sum(dim=1))
        return {"accuracy": accuracy, **scores.macro()}

    def details(self) -> dict[str, Any]:
        kinds = sorted({*self.said, *self.true})
        return {
            "classes": list(self.classes),
            "confusion": self.confusion.tolist(),
            "names": [
                {"kind": kind, "support": self.true[kind], **f1_of(self.right[kind], self.said[kind], self.true[kind])}
                for kind in kinds
            ],
        }
