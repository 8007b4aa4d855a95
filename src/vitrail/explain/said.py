"""What a model says of a text, number by number: of what its answer is made, and from which token each is read."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from jaxtyping import Float
from torch import Tensor

from vitrail.errors import ExplanationError, unknown
from vitrail.explain.evidence import class_name, find_class
from vitrail.explain.pieces import find_word, words
from vitrail.explain.texts import Read
from vitrail.samples import Words
from vitrail.tasks.answers import best_span
from vitrail.tokenizing import TextPreprocessing
from vitrail.weights.card import classes_of, only_features


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
        word: the word whose answer is meant; that of all where it is none.
    """

    model: Any
    asked: Any
    inputs: Words
    found: Read
    logits: Float[Tensor, "*rest"]
    target: str | None
    word: str | None

    @property
    def preprocessing(self) -> TextPreprocessing:
        """How texts become what the model reads."""
        return self.model.card.preprocessing

    @property
    def first(self) -> int:
        """The first token of the text."""
        return int(self.inputs.valid[0].int().argmax())

    def meant(self, among: Sequence[str]) -> list[int]:
        """Which of some words are meant, by number.

        Raises:
            ExplanationError: the one that was given is not among them.
        """
        return list(range(len(among))) if self.word is None else [find_word(self.word, among)]

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
    return [Said(0, class_name(number, labels), subject.first, (number,))]


def of_tags(subject: Subject) -> list[Said]:
    """The tag of each word, read from its first piece; or of the one that is meant."""
    tags, [sentence], [firsts] = classes_of(subject.model), subject.asked.sentences, subject.asked.firsts
    if subject.target is not None and subject.word is None:
        raise ExplanationError("Which word has that tag? Add --word WORD, or leave out --target.")
    found = []
    for number in subject.meant(sentence):
        row = firsts[number]
        tag = int(subject.logits[row].argmax()) if subject.target is None else find_class(subject.target, tags)
        found.append(Said(number, f"{sentence[number]}/{tags[tag]}", row, (row, tag)))
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
    if not known and len(spelled[1]) < 2:
        raise ExplanationError(f"--target {subject.target!r} is no word that this model knows. Give another.")
    if not known or not subject.target.strip():
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
    meant = subject.meant(names)
    return [
        Said(piece.word, names[piece.word], row, (row, ids[row]))
        for row, piece in enumerate(subject.found.written)
        if piece.word in meant
    ]


class Answers(NamedTuple):
    """What a task says of a text.

    Attributes:
        said: the numbers that its answers are made of.
        each: how several answers are called; `one`: how to ask for one of them.
        of_tokens: whether tokens are chosen among, and not classes or words.
    """

    said: Callable[[Subject], list[Said]]
    each: str = ""
    one: str = ""
    of_tokens: bool = False


ANSWERS = {
    "classify": Answers(of_class),
    "tag": Answers(of_tags, "each tag", "Add --word WORD"),
    "answer": Answers(of_answer, of_tokens=True),
    "masked-lm": Answers(of_hidden, "each hidden word", "Hide one word alone"),
    "causal-lm": Answers(of_next),
    "translate": Answers(of_translation, "each word that was written", "Add --word WORD"),
    "translate-parallel": Answers(of_translation, "each word that was written", "Add --word WORD"),
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
    if only_features(subject.model):
        subject.refuse_word("This model gives features of the whole text")
        if asks:
            raise ExplanationError("This model has no classes: it gives features, and no answer. Use --method rollout.")
        return [Said(0, "", subject.first, ())]
    if task not in ANSWERS:
        raise ExplanationError(unknown("task whose answers about texts can be explained", task, ANSWERS))
    return ANSWERS[task].said(subject)
