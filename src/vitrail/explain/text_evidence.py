"""What an answer about a text rests on: which of its words spoke for a class, a tag, an answer, or the next word.

Relevance and rollout are those of pictures (`explain.relevance`, `explain.rollout`), and the words are drawn in the
colour of their share. What a model answers, and from which of its tokens that is read, depends on its task.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vitrail.errors import ExplanationError, unknown
from vitrail.explain.drawing import Caption
from vitrail.explain.evidence import numbers_of, plots_of
from vitrail.explain.explanation import Drawn
from vitrail.explain.faithfulness import TWINS, Pace, Say, Trust, curves_of, rank_correlation, shuffled
from vitrail.explain.kinds import Of
from vitrail.explain.methods import METHODS, spoken
from vitrail.explain.pieces import Piece, merged, words
from vitrail.explain.recording import recording
from vitrail.explain.relevance import Traced, relevance_of, traced_each
from vitrail.explain.rollout import rollout_of
from vitrail.explain.said import ANSWERS, Said, Subject, what_is_said
from vitrail.explain.streams import Flow
from vitrail.explain.text_drawing import TextPanel, draw_matrices, draw_tinted
from vitrail.explain.texts import MOST, Read, quoted, read, which
from vitrail.samples import Words

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FOLLOWED = ("relevance", "rollout")  # the methods that follow words through the layers
TOGETHER = 32  # shortened texts that a model is asked about at once
ANEW = "All words are written at once, and some anew; each is explained as it was when it was last asked for."
STAYS = "Words are left out of the text; the translation stays as it was written."
LEAST = 0.005  # of all: a share that is named
FEWEST = 4  # words whose orders differ enough to be compared with


@dataclass(frozen=True, kw_only=True, eq=False)
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
        rows = "Row: what is explained; column: the word that speaks for it. A row sums to 100%, or nothing was found."
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


def rows_of(model: Any, method: str, found: Read, numbers: Sequence[Said], of: Of) -> Float[Tensor, "rows tokens"]:
    """What spoke for each number, or what has reached the token that it is read from."""
    rows: dict[Said, Tensor] = {}
    for arguments, some in together(found, numbers):
        rows |= zip(some, (rolled if method == "rollout" else spoken_for)(model, arguments, some, of), strict=True)
    return torch.stack([rows[said] for said in numbers])


def together(found: Read, numbers: Sequence[Said]) -> list[tuple[tuple[Tensor, ...], list[Said]]]:
    """Numbers that a model gives when it is asked once, with what it is asked."""
    groups: dict[int, tuple[tuple[Tensor, ...], list[Said]]] = {}
    for said in numbers:
        arguments = found.asked_for(said.row)
        groups.setdefault(id(arguments), (arguments, []))[1].append(said)
    return list(groups.values())


def of_stack(flow: Flow, of: Of) -> Flow:
    """What has come from what was read, or from the tokens of the same stack."""
    return flow if of == "cross" else Flow(flow.own)


@torch.inference_mode()
def rolled(
    model: Any, arguments: tuple[Tensor, ...], numbers: Sequence[Said], of: Of
) -> list[Float[Tensor, " tokens"]]:
    """Attention through all layers, from the token that each number is read from."""
    twin, records = recording(model)
    twin.eval()(*arguments)
    flow = of_stack(rollout_of(model, list(records), [record.maps[-1] for record in records.values()]), of)
    return [flow.reached[0, said.row].double().cpu() for said in numbers]


def spoken_for(
    model: Any, arguments: tuple[Tensor, ...], numbers: Sequence[Said], of: Of
) -> list[Float[Tensor, " tokens"]]:
    """What spoke for each number."""

    def answers(outputs: Any) -> list[Float[Tensor, " batch"]]:
        logits = outputs[0] if isinstance(outputs, tuple) else outputs
        return [logits[(slice(None), *said.place)] for said in numbers]

    def row(number: int, seen: Traced) -> Float[Tensor, " tokens"]:
        return spoken(of_stack(relevance_of(model, seen), of))[0, numbers[number].row].double().cpu()

    return traced_each(model, arguments, answers, row)


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
    of = read_from(of, found)
    free = may_be_left_out(model, found, numbers, of) if faithful else []
    names, shares = {said.about: said.name for said in numbers}, shares_of(model, method, found, numbers, of)
    seen = tuple(words(looked_at(found, of)))
    evident = TextEvidence(
        text=text,
        answer=f"The model's answer: {found.answer}" if found.answer else answer,
        method=method,
        of=of,
        names=tuple(names.values()),
        each=ANSWERS[model.card.task].each,
        seen=seen,
        weights=shares,
        note=ANEW if found.earlier else found.note,
    )
    if not faithful:
        return evident
    return replace(evident, trust=trust_in_words(model, method, found, numbers, of, shares[0], free, say))


def looked_at(found: Read, of: Of) -> tuple[Piece, ...]:
    """The pieces that an answer may rest on."""
    return found.before if of == "decoder" else found.encoded or found.source


def shares_of(model: Any, method: str, found: Read, numbers: Sequence[Said], of: Of) -> Float[Tensor, "rows words"]:
    """The share that each word has in each answer."""
    every = list(dict.fromkeys(said.about for said in numbers))
    asks = [Piece("", every.index(said.about)) for said in numbers]
    whole = merged(rows_of(model, method, found, numbers, of), asks, looked_at(found, of))
    sums = whole.sum(dim=1, keepdim=True)
    return torch.where(sums > 0, whole / sums, 0.0)


def may_be_left_out(model: Any, found: Read, numbers: Sequence[Said], of: Of) -> list[int]:
    """The words without which an answer can still be read: not those that it is read from, and no special tokens.

    Raises:
        ExplanationError: several answers, one that rests on what was written, or a text of too few words.
    """
    if len({said.about for said in numbers}) > 1:
        raise ExplanationError(f"Trust is asked of one answer at a time. {ANSWERS[model.card.task].one}.")
    if not numbers[0].place:
        raise ExplanationError("This model gives features and no answer, so nothing says what words are worth to it.")
    if of == "decoder":
        raise ExplanationError("Trust is asked by leaving out words of the text: leave out --of decoder.")
    seen = looked_at(found, of)
    stay = {piece.word for piece in seen if piece.special}
    if not found.written:
        stay |= {seen[said.row].word for said in numbers}
    free = [word for word in dict.fromkeys(piece.word for piece in seen) if word not in stay]
    if len(free) < FEWEST:
        raise ExplanationError(
            f"Trust is asked by leaving out words that the answer is not read from, and there are {len(free)} of them, "
            f"where orders of fewer than {FEWEST} tell nothing. Give a longer text."
        )
    return free


def trust_in_words(
    model: Any,
    method: str,
    found: Read,
    numbers: Sequence[Said],
    of: Of,
    shares: Float[Tensor, " words"],
    free: Sequence[int],
    say: Say | None = None,
) -> Trust:
    """Ask whether it is true of a model that an answer rests on some words: by leaving them out, and by unlearning.

    Args:
        model: with its card.
        method: `relevance` or `rollout`.
        found: the text as it was read, and what was written.
        numbers: that the answer is made of, read anew each time.
        of: whose words are looked at.
        shares: of the words.
        free: those that may be left out, by number.
        say: is told how far it is, where it takes long.
    """
    seen, others, pace = looked_at(found, of), list[Tensor](), Pace(say)
    pieces = seen[len(seen) - len(found.source) :]  # those that the model is handed
    places = torch.tensor([[float(piece.word == word) for piece in pieces] for word in free])
    deletion, insertion = curves_of(
        lambda hides: probabilities(model, found, numbers, hides.float() @ places > 0), shares[free]
    )
    for twin in range(TWINS):
        others.append(shares_of(shuffled(model, twin), method, found, numbers, of)[0, free])
        pace.tell(twin + 1, TWINS, "models of shuffled weights asked")
    return Trust(deletion, insertion, tuple(rank_correlation(shares[free], other) for other in others), len(free))


@torch.inference_mode()
def probabilities(
    model: Any, found: Read, numbers: Sequence[Said], left_out: Bool[Tensor, "changed tokens"]
) -> Float[Tensor, " changed"]:
    """How likely an answer is without some pieces of the text, which then stands as if they had never been there.

    Args:
        model: with its card.
        found: the text as it was read, and what was written.
        numbers: that the answer is made of.
        left_out: the pieces, for each time that the model is asked.
    """
    total = []
    for some in left_out.split(TOGETHER):
        alike = [likely(model, arguments, found, parts, some) for arguments, parts in together(found, numbers)]
        total.append(torch.stack(alike).prod(dim=0).cpu())
    return torch.cat(total)


def likely(
    model: Any,
    arguments: tuple[Tensor, ...],
    found: Read,
    numbers: Sequence[Said],
    left_out: Bool[Tensor, "changed tokens"],
) -> Float[Tensor, " changed"]:
    """The same for numbers that are asked at once."""
    of_tokens = ANSWERS[model.card.task].of_tokens
    given = [one.expand(len(left_out), *one.shape[1:]) for one in arguments]
    valid = given[found.valid_at] & ~left_out.to(given[0].device)
    given[found.valid_at] = valid
    outputs = model(*given)
    logits = (outputs[0] if isinstance(outputs, tuple) else outputs).float()
    if of_tokens:
        logits = logits.masked_fill(~valid[..., None], -torch.inf)
    shares = logits.sigmoid() if model.card.multi_label else logits.softmax(dim=1 if of_tokens else -1)
    return torch.stack([shares[(slice(None), *said.place)] for said in numbers]).prod(dim=0)
