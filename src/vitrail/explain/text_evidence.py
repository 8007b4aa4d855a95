"""What an answer about a text rests on: which of its words spoke for a class, a tag, an answer, or the next word.

Relevance and rollout are those of pictures (`explain.relevance`, `explain.rollout`), and the words are drawn in the
colour of their share. What a model answers, and from which of its tokens that is read, depends on its task.
"""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vitrail.errors import ExplanationError, unknown
from vitrail.explain.drawing import Caption
from vitrail.explain.evidence import numbers_of, plots_of
from vitrail.explain.explanation import Drawn
from vitrail.explain.faithfulness import Say, Trust
from vitrail.explain.kinds import Of
from vitrail.explain.methods import METHODS
from vitrail.explain.pieces import words
from vitrail.explain.said import ANSWERS, Subject, what_is_said
from vitrail.explain.text_drawing import TextPanel, draw_matrices, draw_tinted
from vitrail.explain.text_trust import may_be_left_out, trust_in_words
from vitrail.explain.texts import MOST, Read, quoted, read, which
from vitrail.explain.word_shares import Explained, shares_of
from vitrail.samples import Words

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FOLLOWED = ("relevance", "rollout")  # the methods that follow words through the layers
ANEW = "All words are written at once, and some anew; each is explained as it was when it was last asked for."
STAYS = "Words are left out of the text; the translation stays as it was written."
LEAST = 0.005  # of all: a share that is named


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class TextEvidence(Drawn):
    """Which words of a text an answer rests on.

    Attributes:
        text: that was read.
        answer: what the model says of it; empty where that is not known.
        method: `relevance` or `rollout`.
        of: which words were looked at: of the text (`self`, `cross`), or those written before (`decoder`).
        names: what each row explains; `each`: what they are called together.
        seen: the words that are looked at.
        weights: the share of each word. A row sums to one, or to zero where nothing spoke for it.
        note: how the translation came about, where that must be said.
        trust: how far it is true of the model, where that was asked.
    """

    text: str
    answer: str = ""
    method: str
    of: Of
    names: tuple[str, ...]
    each: str
    seen: tuple[str, ...]
    weights: Float[Tensor, "rows words"]
    note: str = ""
    trust: Trust | None = None

    @property
    def found(self) -> tuple[str, ...]:
        """Sentences about how far it can be trusted; none where nobody asked."""
        return () if self.trust is None else self.trust.sentences(self.names[0], "words", ("Leaving out", "Adding"))

    @property
    def map(self) -> Float[Tensor, "words"]:
        """The share of each word; the mean over the rows."""
        return self.weights.mean(dim=0)

    @property
    def most(self) -> str:
        """The words with the largest shares, in a sentence; empty where there are several rows."""
        if len(self.names) > 1:
            return ""
        values, places = self.map.topk(min(MOST, len(self.seen)))
        named = [
            f"{which(self.seen, place)} {value:.0%}"
            for value, place in zip(values.tolist(), places.tolist(), strict=True)
            if value >= LEAST
        ]
        return f"Most: {', '.join(named)}." if named else "Nothing spoke for it."

    def caption(self) -> Caption:
        """What is written on the drawing."""
        method, one = METHODS[self.method], len(self.names) == 1
        about = self.names[0] if one else self.each
        read = f"the translation of {quoted(self.text)}" if self.of == "decoder" else quoted(self.text)
        speaks = "the word that speaks for it" if method.asks else "the word it comes from"
        rows = f"Row: what is explained; column: {speaks}. A row sums to 100%, or nothing was found."
        asked = method.question.format(about)
        if not method.asks:
            asked = f"What has reached the token that {about or 'the answer'} is read from"
        own = "What a word says by itself, past all attention, is not counted."
        return Caption(
            title=method.title.format(about),
            question=f"{asked}, in {read}",
            notes=(
                *([] if one else [rows]),
                *method.notes,
                "Words have the sum of their pieces.",
                *([own] if method.asks and self.of != "cross" else []),
                *([self.note] if self.note else []),
                *([STAYS] if self.trust is not None and self.of == "cross" else []),
                *self.found,
            ),
            scale="share of all words",
            answer=self.answer,
        )

    def figure(self) -> "Figure":
        """The drawing, as a matplotlib figure that belongs to no window."""
        if len(self.names) == 1:
            plots = [] if self.trust is None else plots_of(self.trust, self.names[0], "left out", "added")
            return draw_tinted(self.seen, self.weights[0], self.caption(), 1 / len(self.seen), plots)
        return draw_matrices([TextPanel("", self.weights)], self.names, self.seen, self.caption(), 1 / len(self.seen))

    def arrays(self) -> dict[str, np.ndarray]:
        """The weights (rows x words), what each row explains, the words, and what trust rests on."""
        arrays = {
            "weights": self.weights.float().numpy(),
            "names": np.array(self.names, dtype=str),
            "seen": np.array(self.seen, dtype=str),
        }
        return arrays if self.trust is None else arrays | numbers_of(self.trust)


def read_from(of: Of | None, found: Read) -> Of:
    """Whose words are looked at.

    Raises:
        ExplanationError: this model has none of that kind, or what was written does not come from there.
    """
    if not found.written:
        if of is not None:
            raise ExplanationError(
                f"of={of!r} is for models that translate, and this one reads one text: leave it out."
            )
        return "self"
    if of in (None, "cross", "decoder"):
        return of or "cross"
    raise ExplanationError(
        "What was written is explained by the text (of cross) or by what was written before (of decoder), and not by "
        "the encoder alone, whose attention is drawn without --method."
    )


def check_followed(method: str, target: str | None) -> None:
    """Refuse methods that are of pictures, and a target where a method does not ask for one.

    Raises:
        ExplanationError: names those of texts.
    """
    if method not in METHODS:
        raise ExplanationError(unknown("method", method, METHODS))
    if target is not None and not METHODS[method].asks:
        raise ExplanationError(f"{method} does not depend on the answer: leave out the target, or use relevance.")
    if method not in FOLLOWED:
        raise ExplanationError(
            f"{method} does not follow words through a model. Use --method relevance or rollout, or none to see who "
            f"looks at whom."
        )


def evidence_in_text(
    model: Any,
    asked: Any,
    text: str,
    *,
    method: str = "relevance",
    target: str | None = None,
    word: str | None = None,
    of: Of | None = None,
    answer: str = "",
    faithful: bool = False,
    say: Say | None = None,
) -> TextEvidence:
    """Explain what a model says of one text.

    Args:
        model: with its card.
        asked: the text as its task prepares it.
        text: the same as somebody wrote it.
        method: `relevance`, or `rollout`, which does not depend on the answer.
        target: the class, tag or word that is explained; what the model answers unless given.
        word: of a model that tags or translates, the word whose tag, or the word written, that is explained; all are
            unless given. See `pieces.find_word`.
        of: of a model that translates, where it looked: in the text (`cross`), or in what was written (`decoder`).
        answer: what the model says of the text, to be written on the drawing.
        faithful: find out how far the shares can be trusted.
        say: is told how far it is, where that takes long.

    Raises:
        ExplanationError: no such method, word or target; or the model has no answer, or several that are to be trusted.
    """
    check_followed(method, target)
    model = getattr(model, "_orig_mod", model)  # torch.compile wraps the module that it compiles
    inputs: Words = getattr(asked, "words", asked)
    found = read(model, inputs, text)
    with torch.inference_mode():
        outputs = model.eval()(*found.arguments)
    subject = Subject(
        model,
        asked,
        inputs,
        found,
        (outputs[0] if isinstance(outputs, tuple) else outputs)[0].float().cpu(),
        target,
        word,
    )
    numbers = what_is_said(subject, asks=METHODS[method].asks)
    explained = Explained(model, method, found, numbers, read_from(of, found))
    free = may_be_left_out(explained) if faithful else []
    names, shares = {said.about: said.name for said in numbers}, shares_of(explained)
    evident = TextEvidence(
        text=text,
        answer=f"The model's answer: {found.answer}" if found.answer else answer,
        method=method,
        of=explained.of,
        names=tuple(names.values()),
        each=ANSWERS[model.card.task].each,
        seen=tuple(words(explained.seen)),
        weights=shares,
        note=ANEW if found.earlier else found.note,
    )
    return replace(evident, trust=trust_in_words(explained, shares[0], free, say)) if faithful else evident
