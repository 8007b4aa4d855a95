"""What a model of texts looked at: which words it read while it wrote another, and which words look at which.

A translation is written first, as its model writes; then the same model is handed its own words once more, all
together, and what it looks at is kept. Where it writes all words at once and the least certain ones anew, that is asked
again which it was asked last. All other models read their text once.
The weights are those that the model used: same mask, same heads.
"""

import textwrap
from abc import abstractmethod
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, get_args, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from vitrail.decoding.parallel import mask_predict
from vitrail.decoding.write import translate
from vitrail.errors import ExplanationError, many
from vitrail.explain.attention import Head, check_head
from vitrail.explain.drawing import Caption
from vitrail.explain.explanation import Drawn
from vitrail.explain.kinds import NAMES, Of, kinds
from vitrail.explain.pieces import Piece, alike, find_word, merged, pieces_read, pieces_written, words
from vitrail.explain.recording import Layers, chosen_among, recording
from vitrail.explain.text_drawing import TextPanel, draw_arcs, draw_matrices
from vitrail.samples import Words
from vitrail.tasks.translate import how
from vitrail.tasks.translate_parallel import TranslateParallel
from vitrail.weights.card import Card

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FAINTEST = "a hundredth of the strongest"  # arc
ALIGNED = -2  # the layer of cross-attention that is drawn unless another is asked for
MOST = 5  # words that are told of those looked at
QUOTED = 160  # letters of a text that are repeated on a drawing
LENGTH = "[length]"  # how the token is called that says how many words an answer has
NAMED = 6  # hidden words that are named on a drawing


def quoted(text: str) -> str:
    """A text as it is repeated on a drawing."""
    return f"\u201c{textwrap.shorten(text, QUOTED, placeholder=' ...')}\u201d"


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class TextLook(Drawn):
    """How much the words of a text, or its pieces, look at others.

    Attributes:
        text: that was read.
        answer: what the model says of it; empty where that is not known.
        of: whose attention: `cross` (from what is written to what is read), `encoder`, `decoder`, or `self` where
            there is but one stack.
        depth: how many layers of this kind there are.
        layers: which of them were kept, counted from 0.
        head: what is drawn: the `"mean"` of the heads, `"all"`, or the number of the only one.
        heads: the numbers of the heads kept.
        asks, seen: the words or pieces that look, and those that are looked at.
        whole: whether they are words, and not pieces.
        even: the most that one of them would get if all pieces were looked at alike.
        weights: how much each looks at each. A row sums to one.
        note: how the translation came about, where that must be said.
    """

    text: str
    answer: str = ""
    of: Of
    depth: int
    layers: tuple[int, ...]
    head: Head
    heads: tuple[int, ...]
    asks: tuple[str, ...]
    seen: tuple[str, ...]
    whole: bool
    even: float
    weights: Float[Tensor, "layers heads query key"]
    note: str = ""

    @property
    def map(self) -> Float[Tensor, "query key"]:
        """The mean over the layers and heads kept."""
        return self.weights.mean(dim=(0, 1))

    @property
    def drawn_heads(self) -> list[tuple[str, Float[Tensor, "layers query key"]]]:
        """What is drawn of each layer, with its name: one head, or the mean, and then every head."""
        if isinstance(self.head, int):
            return [(f"head {self.head + 1}", self.weights[:, 0])]
        mean = (f"mean of {len(self.heads)} heads", self.weights.mean(dim=1))
        each = [(f"head {head + 1}", self.weights[:, place]) for place, head in enumerate(self.heads)]
        return [mean, *each] if self.head == "all" and len(each) > 1 else [mean]

    def panels(self) -> list[TextPanel]:
        """What is drawn, layer by layer."""
        drawn = self.drawn_heads
        return [
            TextPanel(self.name(layer, name.split(" of ")[0], len(drawn)), values[place])
            for place, layer in enumerate(self.layers)
            for name, values in drawn
        ]

    def name(self, layer: int, head: str, heads: int) -> str:
        """What stands above a panel, as far as it is not said of the whole drawing."""
        said = [f"layer {layer + 1}"] * (len(self.layers) > 1) + [head] * (heads > 1)
        return "\n".join(said)

    @property
    def columns(self) -> int | None:
        """How many stand side by side; as looks well where it is not decided."""
        heads = len(self.drawn_heads)
        return heads if heads > 1 and len(self.layers) > 1 else None

    @property
    def where(self) -> str:
        """Which layers and heads, in words."""
        numbers = [str(layer + 1) for layer in self.layers]
        layers = f"layer {numbers[0]} of {self.depth}" if len(numbers) == 1 else f"layers {', '.join(numbers)}"
        if len(numbers) == self.depth > 1:
            layers = f"all {self.depth} layers"
        if self.head == "all":
            return f"{layers}, each head"
        return f"{layers}, {self.drawn_heads[0][0]}"

    @property
    def said(self) -> str:
        """The answer as it is repeated on the drawing."""
        return textwrap.shorten(self.answer, QUOTED, placeholder=" ...")

    @property
    def unit(self) -> str:
        """What is drawn of a text, in words."""
        return "word" if self.whole else "piece"

    @property
    def remarks(self) -> tuple[str, ...]:
        """How words were made of pieces, where they were, and how the translation came about."""
        made_of = (
            "Pieces are put together to words: the sum over those looked at, so that a word of several gets more of "
            "what is spread evenly; the mean over those that look."
        )
        return (*([made_of] if self.whole else []), *([self.note] if self.note else []))

    def arrays(self) -> dict[str, np.ndarray]:
        """The weights (layers x heads x rows x columns), the numbers of layers and heads (from 0), and the words."""
        return {
            "weights": self.weights.float().numpy(),
            "layers": np.array(self.layers),
            "heads": np.array(self.heads),
            "asks": np.array(self.asks, dtype=str),
            "seen": np.array(self.seen, dtype=str),
        }


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Matrices(TextLook):
    """A matrix for each layer and head: who looks, down; at whom, across."""

    @abstractmethod
    def caption(self) -> Caption:
        """What is written on the drawing."""

    def figure(self) -> "Figure":
        """The drawing, as a matplotlib figure that belongs to no window."""
        return draw_matrices(self.panels(), self.asks, self.seen, self.caption(), self.even, self.columns)


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Alignment(Matrices):
    """Which words of a sentence were looked at while each word of its translation was written."""

    def caption(self) -> Caption:
        """What is written on the drawing."""
        return Caption(
            title=f"{NAMES[self.of]}, {self.where}",
            question=f"What was looked at in {quoted(self.text)} while each {self.unit} of the translation was written",
            notes=(
                f"Row: the {self.unit} that was being written; column: the {self.unit} that was read. A row sums to "
                f"100%.",
                *self.remarks,
            ),
            scale=f"share of the attention of the {self.unit} written",
            answer=self.said,
        )


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class SelfAttention(Matrices):
    """Which words of a text look at which."""

    def caption(self) -> Caption:
        """What is written on the drawing."""
        which = f"the translation of {quoted(self.text)}" if self.of == "decoder" else quoted(self.text)
        return Caption(
            title=f"{NAMES[self.of]}, {self.where}",
            question=f"Which {self.unit}s of {which} look at which",
            notes=(
                f"Row: the {self.unit} that looks; column: the {self.unit} that is looked at. A row sums to 100%.",
                *self.remarks,
            ),
            scale=f"share of the attention of the {self.unit} that looks",
            answer=self.said,
        )


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Arcs(TextLook):
    """What one word looks at; `asks` is that word.

    Attributes:
        at: beside which of the words that may be looked at it stands.
    """

    at: float

    @property
    def most(self) -> str:
        """What the word looks at most, in a sentence."""
        values, places = self.map[0].topk(min(MOST, len(self.seen)))
        named = [
            f"{which(self.seen, place)} {value:.0%}"
            for value, place in zip(values.tolist(), places.tolist(), strict=True)
            if value > 0  # nobody looks at words that are still to come
        ]
        return f"{self.asks[0]} looks most at {', '.join(named)}: the mean of all that is drawn."

    def caption(self) -> Caption:
        """What is written on the drawing."""
        [word] = self.asks
        which = f"the translation of {quoted(self.text)}" if self.of == "decoder" else quoted(self.text)
        asked = f"What \u201c{word}\u201d looks at in {which}"
        if self.of == "cross":
            asked = f"What was looked at in {which} while \u201c{word}\u201d was written"
        return Caption(
            title=f"{NAMES[self.of]}, {self.where}",
            question=asked,
            notes=(f"The arcs of a panel sum to 100%; those below {FAINTEST} are not drawn.", *self.remarks),
            scale=f"share of the attention of \u201c{word}\u201d",
            answer=self.said,
        )

    def figure(self) -> "Figure":
        """The drawing, as a matplotlib figure that belongs to no window."""
        return draw_arcs(self.panels(), self.asks[0], self.seen, self.at, self.caption(), self.even, self.columns)


@runtime_checkable
class WritesInOrder(Protocol):
    """A model that writes one word after the other."""

    def next(self, x: Tensor) -> Tensor: ...


@runtime_checkable
class WritesAtOnce(Protocol):
    """A model that writes all words at once, as many as a token before the text says."""

    def encode(self, source: Tensor, source_valid: Tensor | None = None) -> Any: ...

    def decode(
        self, target: Tensor, hidden: Tensor, memory: Tensor, source_valid: Tensor | None, target_valid: Tensor
    ) -> Tensor: ...

    def guess(self, x: Tensor) -> Tensor: ...


class Question(NamedTuple):
    """What a model that writes all words at once is asked: which words stand where nothing is known.

    Attributes:
        words: those that are known.
        hidden: `True` where a word is not.
        valid: which places an answer has.
    """

    words: Int[Tensor, "batch target"]
    hidden: Bool[Tensor, "batch target"]
    valid: Bool[Tensor, "batch target"]


class Asking:
    """Stands for a model that writes all words at once, and keeps what it is asked."""

    def __init__(self, model: WritesAtOnce) -> None:
        self.model = model
        self.questions: list[Question] = []

    def encode(self, source: Tensor, source_valid: Tensor | None = None) -> Any:
        return self.model.encode(source, source_valid)

    def decode(
        self, target: Tensor, hidden: Tensor, memory: Tensor, source_valid: Tensor | None, target_valid: Tensor
    ) -> Tensor:
        self.questions.append(Question(target, hidden, target_valid))
        return self.model.decode(target, hidden, memory, source_valid, target_valid)

    def guess(self, x: Tensor) -> Tensor:
        return self.model.guess(x)

    def about(self, length: int) -> list[Question]:
        """The questions about the answer of a length; all answers that are tried have different ones."""
        row = self.questions[0].valid.sum(dim=1).tolist().index(length)
        return [Question(*(part[row : row + 1, :length] for part in question)) for question in self.questions]

    def last(self, length: int) -> tuple[int, Question]:
        """The last question about it in which something was hidden, and which it was, from 1."""
        asked = enumerate(self.about(length), start=1)
        return [(time, question) for time, question in asked if question.hidden.any()][-1]


class Read(NamedTuple):
    """A text as a model goes through it.

    Attributes:
        arguments: what the model is called with.
        source: the pieces that it reads.
        before: the pieces that its decoder is handed, from the start symbol on; none without a decoder.
        written: the piece that it writes after each of those.
        answer: the translation; empty without one.
        encoded: what its encoder is handed, where that is more than the pieces.
        note: how the translation came about, where that must be said.
        ids: of the pieces that it writes.
        valid_at: which of the arguments says what is of the text.
        earlier: what the model was called with each time it was asked, where that was more than once.
        hidden: for each piece that it writes, at which of these times it was last asked for.
    """

    arguments: tuple[Tensor, ...]
    source: tuple[Piece, ...]
    before: tuple[Piece, ...] = ()
    written: tuple[Piece, ...] = ()
    answer: str = ""
    encoded: tuple[Piece, ...] = ()
    note: str = ""
    ids: tuple[int, ...] = ()
    valid_at: int = 1
    earlier: tuple[tuple[Tensor, ...], ...] = ()
    hidden: tuple[int, ...] = ()

    def asked_for(self, row: int) -> tuple[Tensor, ...]:
        """What the model was called with when it answered with what is read from a token."""
        return self.earlier[self.hidden[row]] if self.earlier else self.arguments

    def sides(self, of: str) -> tuple[tuple[Piece, ...], tuple[Piece, ...]]:
        """Who looks and who is looked at."""
        if of == "cross":
            return self.written, self.source
        side = self.before if of == "decoder" else self.encoded or self.source
        return side, side


def read(model: Any, inputs: Words, text: str) -> Read:
    """A text, and what the model writes of it where it translates.

    Args:
        model: with its card.
        inputs: the text as it reads it.
        text: as somebody wrote it.

    Raises:
        ConfigError: a translation of which the card does not say how it is written.
        ExplanationError: one of which it is not known how it is written.
    """
    preprocessing = model.card.preprocessing
    source = pieces_read(preprocessing, text, inputs.ids[0].tolist())
    if "cross" not in kinds(model):
        return Read(tuple(part for part in inputs if part is not None), source)
    if isinstance(model, WritesInOrder):
        return read_in_order(model, inputs, source)
    if isinstance(model, WritesAtOnce):
        return read_at_once(model, inputs, source)
    raise ExplanationError(
        f"It is not known how this {type(model).__name__} writes, neither word by word nor all at once, so nothing can "
        f"be looked at while it does."
    )


def read_in_order(model: Any, inputs: Words, source: tuple[Piece, ...]) -> Read:
    """What is written word by word: each of its pieces from those before it."""
    preprocessing, generation = model.card.preprocessing, how(model)
    answer = translate(model, inputs.ids, generation, inputs.valid)
    written: Int[Tensor, " tokens"] = answer.ids[0][answer.valid[0]]
    before = torch.cat([written.new_tensor([generation.start]), written[:-1]])
    return Read(
        (inputs.ids, before[None], inputs.valid),
        source,
        pieces_written(preprocessing, before.tolist()),
        pieces_written(preprocessing, written.tolist()),
        preprocessing.decode(written),
        ids=tuple(written.tolist()),
        valid_at=2,
    )


def kept_by(card: Card) -> list[str]:
    """Which settings of writing all words at once a card has."""
    return [name for name in TranslateParallel.answering if name in card.answering]


def read_at_once(model: Any, inputs: Words, source: tuple[Piece, ...]) -> Read:
    """What is written at once, as it was when the model was last asked for a word of it that was hidden."""
    preprocessing, asking = model.card.preprocessing, Asking(model)
    task = TranslateParallel(**{name: model.card.answering[name] for name in kept_by(model.card)})
    answer = mask_predict(
        asking, inputs.ids, inputs.valid, steps=task.steps, lengths=task.lengths, padding=preprocessing.pad_id
    )
    written: Int[Tensor, " tokens"] = answer.ids[0][answer.valid[0]]
    time, question = asking.last(len(written))
    every = asking.about(len(written))
    pieces = pieces_written(preprocessing, written.tolist())
    first = Piece(LENGTH, 0, special=True)
    return Read(
        (inputs.ids, question.words, question.hidden, inputs.valid, question.valid),
        source,
        pieces,
        pieces,
        preprocessing.decode(written),
        (first, *(piece._replace(word=piece.word + 1) for piece in source)),
        refined(pieces, question.hidden[0].tolist(), time, task.steps),
        tuple(written.tolist()),
        valid_at=3,
        earlier=tuple((inputs.ids, one.words, one.hidden, inputs.valid, one.valid) for one in every),
        hidden=tuple(
            max(time for time, one in enumerate(every) if one.hidden[0, place]) for place in range(len(written))
        ),
    )


def which(every: Sequence[str], number: int) -> str:
    """A word as it may be asked for; with its number where it stands several times."""
    word = every[number]
    return f"{word}:{every[: number + 1].count(word)}" if every.count(word) > 1 else word


def refined(pieces: Sequence[Piece], hidden: Sequence[bool], time: int, times: int) -> str:
    """Which of the times it was that a translation was asked for, and what was hidden then, in a sentence."""
    every = words(pieces)
    numbers = list(dict.fromkeys(piece.word for piece, unknown in zip(pieces, hidden, strict=True) if unknown))
    named = [f"\u201c{which(every, number)}\u201d" for number in numbers[:NAMED]]
    named += [f"{len(numbers) - NAMED} more"] if len(numbers) > NAMED else []
    listed = " and ".join(filter(None, (", ".join(named[:-1]), named[-1])))
    return (
        f"All words are written at once, and the least certain ones anew, {many(times, 'time')} in all: this is number "
        f"{time}, the last at which any was hidden: {'all were' if all(hidden) else listed}."
    )


def largest(seen: Sequence[Piece], whole: bool) -> float:
    """The most that a piece or word would get if all pieces were looked at alike."""
    sizes = Counter(piece.word for piece in seen) if whole else Counter(range(len(seen)))
    return max(sizes.values()) / len(seen)


def whose(model: nn.Module, of: str | None, word: str | None, found: Read) -> str:
    """Whose attention is meant: of a translation the alignment, or the encoder's where a word of its text is asked.

    Raises:
        ExplanationError: this model has none of that kind.
    """
    there = kinds(model)
    if of is None:
        aligned = word is None or (not alike(word, words(found.source)) and alike(word, words(found.written)))
        return next(iter(there)) if aligned or len(there) == 1 else "encoder"
    if of in there:
        return of
    if of in get_args(Of):
        raise ExplanationError(
            f"of={of!r} is for models that translate, and this {type(model).__name__} reads one text: leave it out."
            if "self" in there
            else f"of={of!r}: this {type(model).__name__} has {', '.join(there)}."
        )
    raise ExplanationError(f"of={of!r} names no attention. This {type(model).__name__} has {', '.join(there)}.")


def usual(of: str, word: str | None, depth: int) -> tuple[Layers | None, Head]:
    """Which layers and heads are drawn where nobody says: one where arcs or an alignment is wanted, else all.

    Alignments are clearest in the layer before the last (Garg et al., "Jointly Learning to Align and Translate with
    Transformer Models", EMNLP 2019).
    """
    clear = ALIGNED if of == "cross" and depth > 1 else -1
    if word is not None:
        return clear, "all"
    return (clear, "mean") if of == "cross" else (None, "all")


@torch.inference_mode()
def look_at_text(
    model: Any,
    inputs: Words,
    text: str,
    *,
    word: str | None = None,
    layers: Layers | None = None,
    head: Head | None = None,
    of: Of | None = None,
    whole: bool = False,
    answer: str = "",
) -> Alignment | SelfAttention | Arcs:
    """Ask a model of texts what looked at what.

    The model is not touched: a twin that shares its weights is run, once, after a translation has been written.

    Args:
        model: with its card.
        inputs: one text as the model reads it.
        text: the same as somebody wrote it.
        word: the word that is asked what it looks at; all are unless given. See `pieces.find_word`.
        layers: by number among the layers of that kind (negative ones count from the end), by name or pattern. Unless
            given, the one before the last for an alignment, the last for a word, and all for self-attention.
        head: a number, `"mean"`, or `"all"` to see each; the mean for an alignment unless given, and else all.
        of: `cross`, `encoder` or `decoder` of a model that translates; unless given, the alignment (`cross`), or the
            encoder where a word of the text is asked.
        whole: put pieces together to words; for a word that is always done.
        answer: what the model says of the text, to be written on the drawing.

    Raises:
        ExplanationError: nothing here attends; or there is no such layer, head, kind or word.
    """
    model = getattr(model, "_orig_mod", model)  # torch.compile wraps the module that it compiles
    found = read(model, inputs, text)
    kind: Any = whose(model, of, word, found)
    every = kinds(model)[kind]
    usual_layers, usual_head = usual(kind, word, len(every))
    head = usual_head if head is None else head
    check_head(head)
    names = chosen_among(every, usual_layers if layers is None else layers)
    asks, seen = found.sides(kind)
    place = None if word is None else find_word(word, words(asks))
    rows = None if place is None else [row for row, piece in enumerate(asks) if piece.word == place]
    twin, records = recording(model, names, rows, [head] if isinstance(head, int) else None)
    twin.eval()(*found.arguments)
    weights = torch.stack([records[name].maps[-1][0].cpu().double() for name in names])
    told: dict[str, Any] = {
        "text": text,
        "answer": f"The model's answer: {found.answer}" if found.answer else answer,
        "of": kind,
        "depth": len(every),
        "layers": tuple(map(every.index, names)),
        "head": head,
        "heads": records[names[0]].heads,
        "even": largest(seen, whole or word is not None),
        "note": found.note,
    }
    if place is not None and rows is not None:
        together = merged(weights, [Piece("", 0)] * len(rows), seen)
        beside = place if kind != "cross" else (place + 0.5) / (asks[-1].word + 1) * (seen[-1].word + 1) - 0.5
        word = words(asks)[place]
        return Arcs(**told, asks=(word,), seen=tuple(words(seen)), whole=True, weights=together, at=beside)
    shape = Alignment if kind == "cross" else SelfAttention
    if whole:
        named = {"asks": tuple(words(asks)), "seen": tuple(words(seen)), "weights": merged(weights, asks, seen)}
    else:
        texts = [tuple(piece.text for piece in side) for side in (asks, seen)]
        named = {"asks": texts[0], "seen": texts[1], "weights": weights}
    return shape(**told, **named, whole=whole)
