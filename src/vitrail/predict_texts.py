"""Texts in, answers out: translations, words behind masks, classes, tags, answers, and how a text goes on."""

import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Literal, Protocol, get_args, runtime_checkable

import torch
from torch import nn

from vitrail import catalog
from vitrail.core.devices import usable_device
from vitrail.core.packing import packed
from vitrail.core.precision import fast_float32
from vitrail.data.text.labelled import TABLES, rows_of
from vitrail.data.text.reading import text_lines
from vitrail.errors import ConfigError, DataError, VitrailError, unknown
from vitrail.explain.attention import Head
from vitrail.explain.kinds import Of
from vitrail.explain.recording import Layers
from vitrail.explain.text_evidence import TextEvidence, evidence_in_text
from vitrail.explain.texts import Alignment, Arcs, SelfAttention, look_at_text
from vitrail.generation import Generation
from vitrail.samples import Words
from vitrail.tasks.task import Task
from vitrail.tokenizing import BETWEEN, TextPreprocessing
from vitrail.weights.card import Card, classes_of, only_features

OnError = Literal["raise", "keep"]  # what becomes of an input that cannot be read
LINES = ".txt"  # a file of this kind means its lines
LONGEST_NAME = 4096  # characters of a path
AS_TYPED = {"beams": "--beam (beams)", "max_tokens": "--tokens (max_tokens)", "sample": "drawing words (sample)"}


@runtime_checkable
class Movable(Protocol):
    """What a task makes of texts: `Words`, or these with what it takes to answer in words."""

    def to(self, device: torch.device | str) -> Any:
        """The same on another device."""
        ...


@runtime_checkable
class ReadsPrompts(Protocol):
    """A task whose texts are not read as whole ones."""

    def words(self, preprocessing: TextPreprocessing, texts: Sequence[str]) -> Movable:
        """Texts as the model reads them, and as the task's own `predict` takes them."""
        ...


@runtime_checkable
class ReadsContext(Protocol):
    """A task whose questions are answered out of a text."""

    def within(self, questions: Sequence[str], context: str) -> list[str]:
        """The questions with their text, as `words` reads them."""
        ...


def check_asked(batch: int, on_error: str) -> None:
    """Refuse numbers and words that mean nothing.

    Raises:
        ConfigError: names them.
    """
    if not isinstance(batch, int):
        raise ConfigError(f"batch={batch!r} is not a whole number. Several pictures or texts go into one list.")
    if batch < 1:
        raise ConfigError(f"batch={batch} must be at least 1.")
    if on_error not in get_args(OnError):
        raise ConfigError(unknown("way with errors", on_error, get_args(OnError)))


def described(predictor: Any) -> str:
    """What a predictor says of itself at a prompt: its model, what it does and where."""
    card, weights = predictor.card, next(predictor.model.parameters())
    return f"<{type(predictor).__name__}: {card.model} for {card.task}, on {weights.device}>"


def file_of(given: str | Path) -> Path | None:
    """The text file that somebody means; `None` where it is a text.

    Raises:
        DataError: it is a folder, or a file that is not there.
    """
    name = str(given)
    if not isinstance(given, Path) and "\n" in name:
        return None
    if os.path.isdir(name):
        raise DataError(f"{name} is a folder. Give a text, or a .txt file.")
    ending = os.path.splitext(name)[1].lower()
    read = ending in (LINES, *TABLES)
    if not isinstance(given, Path) and ending and not read and os.path.isfile(name):
        raise DataError(
            f"{name} is a file, and only those that end with {LINES} are read, line by line, or with "
            f"{', '.join(TABLES[:-1])}, by their column called text. Give a text."
        )
    called_so = read and not any(map(str.isspace, name))
    if not (isinstance(given, Path) or called_so or (read and os.path.isfile(name))):
        return None
    if not os.path.isfile(name):
        raise DataError(f"There is no file {name}.")
    return Path(name)


def texts_of(given: str | Path | Sequence[str], pairs: bool = False) -> list[str]:
    """The texts that somebody means: one, several, the lines of a .txt file without empty ones, or those of a table.

    Args:
        given: what they gave.
        pairs: whether a row of a table may have two, which then have a tab between them.

    Raises:
        DataError: a file that is not there, is not text, or has no lines.
        ConfigError: something that is neither.
    """
    if isinstance(given, bytes) or not isinstance(given, str | Path | Iterable):
        raise ConfigError(f"{type(given).__name__} is no text. Give a text, a {LINES} file, or a list of these.")
    if not isinstance(given, str | Path):
        return [text for one in given for text in texts_of(one, pairs)]
    file = file_of(given)
    if file is None:
        return [str(given)]
    table = file.suffix.lower() in TABLES
    lines = rows_of(file, pairs) if table else [line for line in text_lines(file) if line.strip()]
    if not lines:
        raise DataError(f"{given} holds no text.")
    return lines


def content_of(context: str | Path) -> str:
    """A text to look for answers in: itself, or what a file holds.

    Raises:
        DataError: a file that is not there, or not text.
    """
    file = Path(context) if len(str(context)) < LONGEST_NAME and os.path.isfile(context) else file_of(context)
    return str(context) if file is None else "\n".join(text_lines(file))


class TextPredictor:
    """A model that is given texts.

    Args:
        model: with its card. It is put into eval mode.
        device: where it runs; where it is unless given.
        fast: compute float32 on a processor by its fastest kernels, with the same numbers within rounding.
    """

    def __init__(self, model: nn.Module, device: str | None = None, fast: bool = True) -> None:
        card = getattr(model, "card", None)
        if not isinstance(card, Card) or not isinstance(card.preprocessing, TextPreprocessing):
            raise ConfigError(
                f"This {type(model).__name__} has no card that says how text is prepared for it. Take it from "
                f"from_pretrained."
            )
        if not card.preprocessing.tokenizer:
            raise ConfigError(
                f"This {card.model} came without a tokenizer, so it reads numbers and no text. Put its tokenizer.json "
                f"(or vocab.txt, or vocab.json and merges.txt) into its folder, or train it on text of your own."
            )
        self.model = (model if device is None else model.to(usable_device(device))).eval()
        self.quick, self.speed = (packed(self.model), fast_float32) if fast else (self.model, nullcontext)
        self.card, self.fast = card, fast

    def __repr__(self) -> str:
        return described(self)

    def __reduce__(self) -> tuple[Any, ...]:
        """For another process, which lays the weights out for itself."""
        return type(self), (self.model, None, self.fast)

    @property
    def task(self) -> Task:
        """What the model's answers mean."""
        return self.task_with({})

    def task_with(self, settings: Mapping[str, Any], seed: int | None = None) -> Task:
        """The same, written with some settings changed.

        Raises:
            ConfigError: its card names a task that there is not; or settings for writing, and it does not write.
        """
        if self.card.task not in catalog.TASKS:
            raise ConfigError(unknown("task", self.card.task, catalog.TASKS))
        kind = catalog.load(catalog.TASKS[self.card.task])
        known = {field.name for field in fields(kind)}
        told: dict[str, Any] = {"multi_label": self.card.multi_label} if "multi_label" in known else {}
        if "classes" in known:
            told["classes"] = classes_of(self.model)
        told |= {name: value for name, value in self.card.answering.items() if name in known}
        told |= {name: settings[name] for name in settings.keys() & set(getattr(kind, "answering", ()))}
        writing = {name: value for name, value in settings.items() if name not in told}
        if writing:
            told["generation"] = self.written_with(writing, known)
        if "seed" in known:
            told["seed"] = seed
        elif seed is not None:
            raise ConfigError(f"A seed is of chance, and this {self.card.model} draws nothing. Leave out seed.")
        return kind(**told)

    def written_with(self, settings: Mapping[str, Any], known: Collection[str]) -> Generation:
        """How the model writes by its card, with some settings changed.

        Raises:
            ConfigError: it does not write, or there is no such setting.
        """
        generation = self.card.generation
        if generation is None or "generation" not in known:
            given = ", ".join(AS_TYPED.get(name, name) for name in settings)
            say = "says" if len(settings) == 1 else "say"
            raise ConfigError(f"{given} {say} how a model writes, and this {self.card.model} does not.")
        names = [field.name for field in fields(Generation)]
        strange = next((name for name in settings if name not in names), None)
        if strange is not None:
            raise ConfigError(unknown("setting of writing", strange, names))
        return replace(generation, **settings)

    def __call__(
        self,
        texts: str | Path | Sequence[str],
        batch: int = 32,
        seed: int | None = None,
        context: str | Path | None = None,
        on_error: OnError = "raise",
        **settings: Any,
    ) -> list[Any]:
        """What the model says of texts: one result for each, in their order.

        Args:
            texts: one, several, or a path: of a .txt file, which means its lines, or of a table (.csv, .tsv, .jsonl),
                which means its column `text`. Two that are compared, by a model that tells classes of texts, have a tab
                between them, or stand in the columns `text` and `second`.
            batch: how many are read together; it changes how long that takes and not what is answered, but for words
                that are drawn: rows share their chance.
            seed: of chance, where words are drawn; another each time unless given.
            context: the text that answers all of them, or its file, for a model that answers questions; without it,
                each question has its text behind it, after a tab.
            on_error: what becomes of a text that is empty or too long: `raise` its error, or `keep` it as the result.
            settings: of a model that writes, as `Generation` has them: `beams=4`, or `sample=True, temperature=0.7`; of
                one that writes all words at once `steps=10` and `lengths=1`.

        Raises:
            ConfigError, DataError: a text that is empty or too long, unless `on_error` is `keep`; a setting that there
                is not, a file without text.
        """
        return self.answers(
            texts_of(texts, self.compares), batch=batch, seed=seed, context=context, on_error=on_error, **settings
        )

    def answers(
        self,
        texts: list[str],
        *,
        batch: int = 32,
        seed: int | None = None,
        context: str | Path | None = None,
        on_error: OnError = "raise",
        **settings: Any,
    ) -> list[Any]:
        """The same for texts of which none is the name of a file."""
        check_asked(batch, on_error)
        task = self.task_with(settings, seed)
        found = self.within(task, texts, context)
        device, results = next(self.model.parameters()).device, []
        with torch.inference_mode(), self.speed():
            for first in range(0, len(found), batch):
                group = found[first : first + batch]
                unfit = self.unfit(task, group) if on_error == "keep" else {}
                fit = [text for place, text in enumerate(group) if place not in unfit]
                given = iter(task.predict(self.quick, self.words(task, fit).to(device)) if fit else ())
                results += [unfit[place] if place in unfit else next(given) for place in range(len(group))]
        return results

    def unfit(self, task: Task, texts: Sequence[str]) -> dict[int, VitrailError]:
        """Which of some texts the model cannot read, by their place, and why: too long, or empty."""
        found = dict[int, VitrailError]()
        for place, text in enumerate(texts):
            try:
                self.words(task, [text])
            except (ConfigError, DataError) as error:
                found[place] = error
        return found

    def within(self, task: Task, texts: list[str], context: str | Path | None) -> list[str]:
        """Texts together with the one that answers them, where that is given apart.

        Raises:
            ConfigError: it is, and the model answers no questions.
            DataError: its file is not text.
        """
        if context is None:
            return texts
        if not isinstance(task, ReadsContext):
            raise ConfigError(f"A context is for a model that answers questions, and this {self.card.model} does not.")
        return task.within(texts, content_of(context))

    def words(self, task: Task, texts: Sequence[str]) -> Movable:
        """Texts as the model reads them, for a task."""
        if isinstance(task, ReadsPrompts):
            return task.words(self.card.preprocessing, texts)
        if not all(map(str.strip, texts)):
            raise ConfigError("A text is empty, so there is nothing to read. Write something.")
        reads: Callable[..., Words] = self.card.preprocessing
        if not self.compares:
            return reads(texts)
        parted = [text.strip().partition(BETWEEN) for text in texts]
        return reads([first for first, _, _ in parted], [second.strip() or None for _, _, second in parted])

    @property
    def compares(self) -> bool:
        """Whether the model tells classes of two texts as well, which stand with a tab between them."""
        return self.card.task == "classify" and self.card.preprocessing.segments

    def explain(
        self,
        text: str,
        word: str | None = None,
        layer: Layers | None = None,
        head: Head | None = None,
        *,
        of: Of | None = None,
        whole: bool = False,
        context: str | Path | None = None,
    ) -> Alignment | SelfAttention | Arcs:
        """What the model looked at in a text: an alignment, who looks at whom, or arcs from one word.

        Args:
            text: one text.
            word: the word that is asked what it looks at; all are unless given. `the:2` is the second `the`.
            layer: which; see `vitrail.explain.texts.look_at_text`, also for the next two.
            head: which head.
            of: of a model that translates: `cross`, `encoder` or `decoder`.
            whole: put pieces together to words.
            context: the text that answers it, or its file, for a model that answers questions.

        Returns:
            Something with `.weights`, `.map`, `.figure()` and `.save(path)`.

        Raises:
            ExplanationError: there is no such layer, head or word.
            ConfigError: the text is too long to be read at once, or empty.
        """
        text, asked = self.explained(text, context)
        inputs, answer = getattr(asked, "words", asked), self.answer(text)
        return look_at_text(
            self.model, inputs, text, word=word, layers=layer, head=head, of=of, whole=whole, answer=answer
        )

    def evidence(
        self,
        text: str,
        method: str = "relevance",
        target: str | None = None,
        *,
        word: str | None = None,
        of: Of | None = None,
        context: str | Path | None = None,
        faithful: bool = False,
        say: Callable[[str], None] | None = None,
    ) -> TextEvidence:
        """Which words of a text an answer rests on.

        Args:
            text: one text.
            method: `relevance`, or `rollout`, which does not depend on the answer.
            target: the class, tag or word to explain; what the model answers unless given.
            word: of a model that tags or translates, the word whose tag, or the word written, that is explained.
            of: of a model that translates: `cross`, what it read (unless given), or `decoder`, what it had written.
            faithful: find out how far the shares can be trusted, as `.found` then says.
            say: is told how far it is, where that takes long.
            context: the text that answers it, or its file, for a model that answers questions.

        Returns:
            Something with `.weights`, `.map`, `.figure()` and `.save(path)`.

        Raises:
            ExplanationError: there is no such method, word or target, or no answer.
            ConfigError: the text is too long to be read at once, or empty.
        """
        text, asked = self.explained(text, context)
        answer = self.answer(text)
        return evidence_in_text(
            self.model,
            asked,
            text,
            method=method,
            target=target,
            word=word,
            of=of,
            answer=answer,
            faithful=faithful,
            say=say,
        )

    def explained(self, text: str, context: str | Path | None) -> tuple[str, Any]:
        """A text that is to be explained, with what answers it, and the same as the task prepares it.

        Raises:
            ConfigError: it is empty, or too long to be read at once.
        """
        if not text.strip():
            raise ConfigError("The text is empty, so there is nothing to explain. Write something.")
        if only_features(self.model) and context is None:
            reads: Callable[[Sequence[str]], Words] = self.card.preprocessing
            return text, reads([text]).to(next(self.model.parameters()).device)
        [text] = self.within(self.task, [text], context)
        asked = self.words(self.task, [text]).to(next(self.model.parameters()).device)
        windows = getattr(asked, "words", asked).ids.shape[0]
        if windows > 1:
            raise ConfigError(f"This text is read in {windows} windows, and one is explained at a time. Shorten it.")
        return text, asked

    def answer(self, text: str) -> str:
        """What the model says of a text, where that is not a text that it writes."""
        if only_features(self.model) or self.card.generation is not None or self.card.task not in catalog.TASKS:
            return ""
        [result] = self([text])
        return f"The model's answer: {result.summary()}" if getattr(result, "guesses", True) else ""
