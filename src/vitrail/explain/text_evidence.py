"""What an answer about a text rests on: which of its words spoke for a class, a tag, an answer, or the next word.

Relevance and rollout are those of pictures (`explain.relevance`, `explain.rollout`), and the words are drawn in the
colour of their share. What a model answers, and from which of its tokens that is read, depends on its task.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vitrail.errors import ExplanationError, unknown
from vitrail.explain.drawing import Caption
from vitrail.explain.evidence import find_class
from vitrail.explain.explanation import Drawn
from vitrail.explain.kinds import Of
from vitrail.explain.methods import METHODS, spoken
from vitrail.explain.pieces import Piece, find_word, merged, words
from vitrail.explain.recording import recording
from vitrail.explain.relevance import Traced, relevance_of, traced_each
from vitrail.explain.rollout import rollout_of
from vitrail.explain.streams import Flow
from vitrail.explain.text_drawing import TextPanel, draw_matrices, draw_tinted
from vitrail.explain.texts import MOST, Read, largest, quoted, read
from vitrail.samples import Words
from vitrail.tasks.answers import best_span
from vitrail.tokenizing import TextPreprocessing
from vitrail.weights.card import classes_of, has_classes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FOLLOWED = ("relevance", "rollout")  # the methods that follow words through the layers


class Said(NamedTuple):
    """One of the numbers that an answer was made of.

    Attributes:
        about: which of the answers it belongs to; numbers of the same are explained together.
        name: how that answer is called.
        row: the token that it is read from, among those of the stack that answers.
        place: where it stands among what the model says of the text.
    """

    about: int
    name: str
    row: int
    place: tuple[int, ...]


class Subject(NamedTuple):
    """A text, what was asked about it, and what a model says.

    Attributes:
        model: with its card.
        asked: the text as its task prepares it.
        inputs: the text as it reads it.
        found: its pieces, and those that the model wrote.
        logits: what the model says of the text.
        target: the class, tag or word that is wanted in place of the model's own answer.
        word: the number of the word that is meant among those that may ask; all are where it is none.
    """

    model: Any
    asked: Any
    inputs: Words
    found: Read
    logits: Float[Tensor, "*rest"]
    target: str | None
    word: int | None

    @property
    def preprocessing(self) -> TextPreprocessing:
        """How texts become what the model reads."""
        return self.model.card.preprocessing

    @property
    def first(self) -> int:
        """The first token of the text."""
        return int(self.inputs.valid[0].int().argmax())

    def refuse_target(self, why: str) -> None:
        """Refuse a target where there is nothing to choose.

        Raises:
            ExplanationError: one was given.
        """
        if self.target is not None:
            raise ExplanationError(f"{why}: leave out --target.")

    def refuse_word(self, why: str) -> None:
        """Refuse a word where the answer is not about one.

        Raises:
            ExplanationError: one was given.
        """
        if self.word is not None:
            raise ExplanationError(f"{why}: leave out --word.")


def of_class(subject: Subject) -> list[Said]:
    """The class of a text, read from its first token."""
    subject.refuse_word("This model answers with a class of the whole text")
    labels = classes_of(subject.model)
    number = int(subject.logits.argmax()) if subject.target is None else find_class(subject.target, labels)
    return [Said(0, labels[number] if number < len(labels) else f"class {number}", subject.first, (number,))]


def of_tags(subject: Subject) -> list[Said]:
    """The tag of each word, read from its first piece; or of the one that is meant."""
    tags, names = classes_of(subject.model), words(subject.found.source)
    if subject.target is not None and subject.word is None:
        raise ExplanationError("Which word has that tag? Add --word WORD, or leave out --target.")
    firsts: dict[int, int] = {}
    for row, piece in enumerate(subject.found.source):
        if not piece.special and subject.word in (None, piece.word):
            firsts.setdefault(piece.word, row)
    found = []
    for word, row in firsts.items():
        tag = int(subject.logits[row].argmax()) if subject.target is None else find_class(subject.target, tags)
        found.append(Said(word, f"{names[word]}/{tags[tag]}", row, (row, tag)))
    return found


def of_answer(subject: Subject) -> list[Said]:
    """Where an answer begins and where it ends, read from these two tokens."""
    subject.refuse_target("This model answers with a part of the text")
    subject.refuse_word("This model answers with a part of the text")
    [window] = subject.asked.windows
    first = subject.first + window.offset
    start, end = subject.logits[first : first + len(window.spans)].unbind(dim=1)
    if (span := best_span(start, end, window.central)) is None:
        raise ExplanationError("The model finds no answer in this text, so there is none to explain.")
    left, right = int(window.spans[span.first][0]), int(window.spans[span.last][1])
    name = f"the answer \u201c{window.context[left:right]}\u201d"
    return [Said(0, name, first + place, (first + place, side)) for side, place in enumerate((span.first, span.last))]


def piece_number(subject: Subject, likeliest: int) -> int:
    """The piece that is explained: the one that is wanted, or what the model says.

    Raises:
        ExplanationError: a word that is wanted has several pieces, or the tokenizer does not know it.
    """
    if subject.target is None:
        return likeliest
    reads = subject.preprocessing
    spelled = reads.encode_all([f" {subject.target}", subject.target], around=False)
    known = [ids[0] for ids in spelled if len(ids) == 1 and ids[0] not in reads.special_ids]
    if not known:
        raise ExplanationError(
            f"--target {subject.target} is {len(spelled[1])} pieces to this model, and it guesses one at a time. Give "
            f"a word of one piece."
        )
    return known[0]


def of_hidden(subject: Subject) -> list[Said]:
    """The word behind each mask, read from that mask."""
    subject.refuse_word("This model answers with the hidden words")
    mask = subject.preprocessing.mask_token
    hidden = [] if mask is None else (subject.inputs.ids[0] == subject.preprocessing.id_of(mask)).nonzero().flatten()
    if not len(hidden):
        raise ExplanationError(f"No word is hidden: write {mask} where one should be guessed.")
    found = []
    for row in map(int, hidden):
        number = piece_number(subject, int(subject.logits[row].argmax()))
        where = "" if len(hidden) == 1 else f" at mask {len(found) + 1}"
        name = f"\u201c{subject.preprocessing.tokens([number])[0]}\u201d{where}"
        found.append(Said(len(found), name, row, (row, number)))
    return found


def of_next(subject: Subject) -> list[Said]:
    """The piece that comes next, read from the last one."""
    subject.refuse_word("This model answers with the next word")
    row = subject.logits.shape[0] - 1
    number = piece_number(subject, int(subject.logits[row].argmax()))
    text = subject.preprocessing.decode([number], special=True)
    return [Said(0, f"\u201c{text.strip() or repr(text)}\u201d as what comes next", row, (row, number))]


def of_translation(subject: Subject) -> list[Said]:
    """Each piece that was written, read where the decoder wrote it."""
    subject.refuse_target("What this model has written is explained word by word")
    ids, names = subject.found.ids, words(subject.found.written)
    return [
        Said(piece.word, names[piece.word], row, (row, ids[row]))
        for row, piece in enumerate(subject.found.written)
        if subject.word in (None, piece.word)
    ]


class Answers(NamedTuple):
    """What a task says of a text.

    Attributes:
        said: the numbers that its answers are made of.
        each: how several answers are called.
    """

    said: Callable[[Subject], list[Said]]
    each: str = ""


ANSWERS = {
    "classify": Answers(of_class),
    "tag": Answers(of_tags, "each tag"),
    "answer": Answers(of_answer),
    "masked-lm": Answers(of_hidden, "each hidden word"),
    "causal-lm": Answers(of_next),
    "translate": Answers(of_translation, "each word that was written"),
    "translate-parallel": Answers(of_translation, "each word that was written"),
}


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
        even: the most that a word would get if all pieces counted alike.
        weights: the share of each word. A row sums to one, or to zero where nothing spoke for it.
        note: how the translation came about, where that must be said.
    """

    text: str
    answer: str = ""
    method: str
    of: Of
    names: tuple[str, ...]
    each: str
    seen: tuple[str, ...]
    even: float
    weights: Float[Tensor, "rows words"]
    note: str = ""

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
        listed = [
            f"{self.seen[place]} {value:.0%}" for value, place in zip(values.tolist(), places.tolist(), strict=True)
        ]
        return f"Most: {', '.join(listed)}."

    def caption(self) -> Caption:
        """What is written on the drawing."""
        method, one = METHODS[self.method], len(self.names) == 1
        about = self.names[0] if one else self.each
        which = f"the translation of {quoted(self.text)}" if self.of == "decoder" else quoted(self.text)
        rows = () if one else ("Row: what is explained; column: the word that speaks for it. A row sums to 100%.",)
        own = "What a word says by itself, past all attention, is not counted."
        return Caption(
            title=method.title.format(about),
            question=f"{method.question.format(about)}, in {which}",
            notes=(
                *rows,
                *method.notes,
                "Words have the sum of their pieces.",
                *([own] if method.asks and self.of != "cross" else []),
                *([self.note] if self.note else []),
            ),
            scale="share of all words",
            answer=self.answer,
        )

    def figure(self) -> "Figure":
        """The drawing, as a matplotlib figure that belongs to no window."""
        if len(self.names) == 1:
            return draw_tinted(self.seen, self.weights[0], self.caption(), self.even)
        return draw_matrices([TextPanel("", self.weights)], self.names, self.seen, self.caption(), self.even)

    def arrays(self) -> dict[str, np.ndarray]:
        """The weights (rows x words), what each row explains, and the words."""
        return {
            "weights": self.weights.float().numpy(),
            "names": np.array(self.names, dtype=str),
            "seen": np.array(self.seen, dtype=str),
        }


def what_is_said(subject: Subject, *, asks: bool) -> list[Said]:
    """The numbers that the answer of a model was made of.

    Args:
        subject: the model and its text.
        asks: whether the method explains an answer; else it is enough to know from which token that would be read.

    Raises:
        ExplanationError: it has no answer.
    """
    task = subject.model.card.task
    if task == "classify" and not has_classes(subject.model):
        if asks:
            raise ExplanationError("This model has no classes: it gives features, and no answer. Use --method rollout.")
        return [Said(0, "", subject.first, ())]
    if task not in ANSWERS:
        raise ExplanationError(unknown("task whose answers about texts can be explained", task, ANSWERS))
    return ANSWERS[task].said(subject)


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
    if method == "rollout":
        flows = [rolled_flow(model, found)] * len(numbers)
    else:
        flows = [relevance_of(model, seen) for seen in spoken_for(model, found, numbers)]
    mine = [flow if of == "cross" else Flow(flow.own) for flow in flows]
    reached = [flow.reached if method == "rollout" else spoken(flow) for flow in mine]
    return torch.stack([one[0, said.row].double().cpu() for one, said in zip(reached, numbers, strict=True)])


@torch.inference_mode()
def rolled_flow(model: Any, found: Read) -> Flow:
    """Attention through all layers."""
    twin, records = recording(model)
    twin.eval()(*found.arguments)
    return rollout_of(model, list(records), [record.maps[-1] for record in records.values()])


def spoken_for(model: Any, found: Read, numbers: Sequence[Said]) -> list[Traced]:
    """The gradient of each number with respect to all attention."""

    def answers(outputs: Any) -> list[Float[Tensor, " batch"]]:
        logits = outputs[0] if isinstance(outputs, tuple) else outputs
        return [logits[(slice(None), *said.place)] for said in numbers]

    return traced_each(model, found.arguments, answers)


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

    Raises:
        ExplanationError: no such method, word or target; or the model has no answer.
    """
    check_followed(method, target)
    model = getattr(model, "_orig_mod", model)  # torch.compile wraps the module that it compiles
    inputs: Words = getattr(asked, "words", asked)
    found = read(model, inputs, text)
    asks = found.written or found.source
    with torch.inference_mode():
        outputs = model.eval()(*found.arguments)
    subject = Subject(
        model,
        asked,
        inputs,
        found,
        (outputs[0] if isinstance(outputs, tuple) else outputs)[0].float().cpu(),
        target,
        None if word is None else find_word(word, words(asks)),
    )
    numbers = what_is_said(subject, asks=METHODS[method].asks)
    of = read_from(of, found)
    seen = found.before if of == "decoder" else found.encoded or found.source
    names = {said.about: said.name for said in numbers}
    every = list(names)
    whole = merged(
        rows_of(model, method, found, numbers, of), [Piece("", every.index(one.about)) for one in numbers], seen
    )
    sums = whole.sum(dim=1, keepdim=True)
    return TextEvidence(
        text=text,
        answer=f"The model's answer: {found.answer}" if found.answer else answer,
        method=method,
        of=of,
        names=tuple(names.values()),
        each=ANSWERS[model.card.task].each,
        seen=tuple(words(seen)),
        even=largest(seen, whole=True),
        weights=torch.where(sums > 0, whole / sums, 0.0),
        note=found.note,
    )
