"""How models of text are trained on somebody's own, when nobody says otherwise."""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, Literal

from vitrail import catalog
from vitrail.data.dataset import Dataset, Splits
from vitrail.data.material import Texts
from vitrail.errors import ConfigError
from vitrail.tasks.answer import AnswerQuestions
from vitrail.tasks.classify import Classify
from vitrail.tasks.language import CausalLanguage, MaskedLanguage
from vitrail.tasks.tag import Tag
from vitrail.tasks.task import Task
from vitrail.tasks.translate import Translate
from vitrail.tasks.translate_parallel import TranslateParallel
from vitrail.train.optim import AdamW
from vitrail.train.recipe import ModelChoice, Recipe
from vitrail.train.schedules import Cosine, InverseSquareRoot
from vitrail.weights.names import no_model

UNDECIDED: Mapping[str, Any] = MappingProxyType({})
PIECE = 20  # characters of running text that a piece of the vocabulary should have been seen in, at least
LEAST_PIECES, MOST_PIECES = 512, 8000
SEEN_FRESH, SEEN_TUNED = 100_000, 20_000  # labelled texts, counted each time they are read
TUNED = 1e-4  # learning rate of weights that know a language; fresh ones take 3 to 10 times as much

Say = Callable[[str], None]


def check_model(model: str) -> None:
    """Refuse a name that is none.

    Raises:
        ConfigError: names what was probably meant.
    """
    if model not in catalog.MODELS:
        raise ConfigError(no_model(model, catalog.MODELS))


def pieces_for(splits: Splits) -> int:
    """How many pieces to learn to read by: fewer where there is little text to learn them from."""
    characters = sum(len(text) for index in range(len(splits.train)) for text in splits.train[index].texts)
    return max(LEAST_PIECES, min(MOST_PIECES, 2 ** round(math.log2(max(characters // PIECE, 1) ** 0.8))))


def epochs_for(train: Dataset, init: str | None) -> int:
    """How often texts with a truth are read: more often the fewer there are, less where a model knows the language."""
    return max(3, min(50, (SEEN_TUNED if init else SEEN_FRESH) // len(train)))


def translation(
    data: str,
    splits: Splits,
    *,
    model: str = "transformer-small",
    init: str | None = None,
    changes: Mapping[str, Any] = UNDECIDED,
    say: Say = print,
) -> Recipe:
    """A Transformer that translates, on sentence pairs.

    Run:     vitrail train transformer-small-translation --data multi30k:de-en
    Reached: on Multi30k, German to English, with --set precision=bfloat16 (seed 0, commit 5f54709, two threads of an
             AMD EPYC beside other work): BLEU 37.5 on the 1,014 pairs of its validation part within an hour (epoch
             12, 58 min), 37.6 after 61 min and 39.7 at the end (90 min), greedy; chrF 59.7. On the 1,000 pairs of
             test_2016_flickr 38.3 greedily and 39.3 with four beams; without capitals in the German, 37.8 and 38.8
             (sacrebleu 2.6.0, 13a, mixed case)

    Args:
        data: where the pairs are.
        splits: the pairs.
        model: a name from `vitrail models`.
        init: weights to start from; `None` for fresh ones.
        changes: fields of the model's configuration that are decided already.
        say: told each guess.

    Raises:
        ConfigError: there is no such model.
    """
    check_model(model)
    dim = changes.get("dim", catalog.family_of_model(model).variants[model].dim)
    warmup = 600
    adam = AdamW(rate=0.6 * (dim * warmup) ** -0.5, decay=1e-4, betas=(0.9, 0.98), eps=1e-9)
    changed: Mapping[str, Any] = {"max_tokens": 256, "norm": "before", "dropout": 0.2, **changes}
    recipe = Recipe(
        model=ModelChoice(name=model, init=init, changes=changed),
        task=Translate(),
        data=Texts(path=data, use="translate", batch=256, tokens=2048, vocabulary=8000, uncased=0.2),
        optimiser=adam,
        schedule=InverseSquareRoot(warmup_steps=warmup),
        epochs=20,
        ema=0.998,
    )
    if init is None:
        return recipe
    return replace(  # the weights say themselves how they are made
        recipe,
        model=ModelChoice(name=model, init=init, changes=changes),
        optimiser=replace(adam, rate=TUNED),
        schedule=Cosine(warmup=0.1),
        epochs=5,
    )


def parallel_translation(
    data: str,
    splits: Splits,
    *,
    model: str = "parallel-transformer-small",
    init: str | None = None,
    changes: Mapping[str, Any] = UNDECIDED,
    say: Say = print,
) -> Recipe:
    """A Transformer that translates all words at once, on sentence pairs; arguments and errors are those of
    `translation`. It learns slower: each time it sees a sentence, only the hidden words teach it anything.

    Run:     vitrail train parallel-transformer-small-translation --data multi30k:de-en
    Reached: on Multi30k, German to English, with --set precision=bfloat16 (seed 0, the code of commit 9a2be27, one
             thread of an Intel Xeon with AMX beside much other work, in four parts with `resume`, 250 min): BLEU 34.2,
             chrF 57.0 in four steps on the 1,014 pairs of its validation part; on the 1,000 of test_2016_flickr, which
             chose nothing, BLEU 28.5 in one step, 34.5 in four and 35.7 in ten
    """
    recipe = translation(data, splits, model=model, init=init, changes=changes, say=say)
    data_of_all = replace(recipe.data, use="translate-parallel")
    return replace(recipe, task=TranslateParallel(), data=data_of_all, epochs=2 * recipe.epochs)


def causal(
    data: str,
    splits: Splits,
    *,
    model: str = "gpt-mini",
    init: str | None = None,
    changes: Mapping[str, Any] = UNDECIDED,
    say: Say = print,
) -> Recipe:
    """A GPT that goes on with running text; arguments and errors are those of `translation`.

    Run:     vitrail train gpt-mini --data tinyshakespeare/
    Reached: on Tiny Shakespeare with --set precision=bfloat16 (seed 0, commit 281ab56, one thread of an Intel Xeon with
             AMX, 85 min beside other work): perplexity 79.9 among 4,096 pieces, 1.97 bits per character, on the tenth
             of its passages that was set aside, best at the end
    """
    check_model(model)
    return Recipe(
        model=ModelChoice(name=model, init=init, changes={"dropout": 0.2, "embed_dropout": 0.2, **changes}),
        task=CausalLanguage(),
        data=Texts(path=data, use="causal-lm", batch=32, tokens=8192, vocabulary=pieces_for(splits)),
        optimiser=AdamW(rate=TUNED if init else 1e-3, decay=0.1, betas=(0.9, 0.95)),
        schedule=Cosine(warmup=0.05, floor=0.1),
        epochs=5 if init else 20,
    )


def masked(
    data: str,
    splits: Splits,
    *,
    model: str = "bert-mini",
    init: str | None = None,
    changes: Mapping[str, Any] = UNDECIDED,
    say: Say = print,
) -> Recipe:
    """A BERT that guesses hidden words of running text; arguments and errors are those of `translation`.

    Run:     vitrail train bert-mini-mlm --data corpus.txt
    Reached: perplexity 387, accuracy 15.1 % among 8,000 pieces after two epochs of 26 MB of IMDb reviews (2,034 steps,
             40 min, bfloat16, seed 0, code of commit 1d94dcd, one thread of an Intel Xeon with AMX beside other work):
             far too little. Tuned from it, labels and tags of other texts came out worse than from nothing (SST-2 74.8
             for 80.0 %, CoNLL-2003 F1 59.5 for 75.9)
    """
    check_model(model)
    return Recipe(
        model=ModelChoice(name=model, init=init, changes={"head": "masked-lm", "classes": 0, **changes}),
        task=MaskedLanguage(),
        data=Texts(path=data, use="masked-lm", batch=64, tokens=8192, length=128, vocabulary=pieces_for(splits)),
        optimiser=AdamW(rate=TUNED if init else 1e-3, decay=0.01),
        schedule=Cosine(warmup=0.1),
        epochs=10 if init else 40,
    )


def supervised(
    task: Task,
    data: str,
    splits: Splits,
    model: str,
    init: str | None,
    changes: Mapping[str, Any],
    *,
    use: Literal["classify", "tag", "answer"],
    batch: int,
) -> Recipe:
    """What is alike in teaching a BERT by a truth that people have written down."""
    check_model(model)
    return Recipe(
        model=ModelChoice(name=model, init=init, changes=changes),
        task=task,
        data=Texts(path=data, use=use, batch=batch, tokens=8192, vocabulary=pieces_for(splits)),
        optimiser=AdamW(rate=TUNED if init else 3e-4, decay=0.01),
        schedule=Cosine(warmup=0.1),
        epochs=epochs_for(splits.train, init),
    )


def labels(
    data: str,
    splits: Splits,
    *,
    model: str = "bert-mini",
    init: str | None = None,
    changes: Mapping[str, Any] = UNDECIDED,
    say: Say = print,
) -> Recipe:
    """A BERT on labelled texts, fine-tuned where `init` gives weights; arguments and errors are those of `translation`.

    Run:     vitrail train bert-mini-classify --data reviews.csv [--init RUN]
    Reached: from nothing, on the 6,920 sentences of SST-2 (seed 0, bfloat16, code of commit 1d94dcd, one thread of an
             Intel Xeon with AMX beside other work): top-1 77.6 % on its 872 to choose by, best after 3 of 14 epochs (91
             s), and 80.0 % on its 1,821 test sentences
    """
    head = {"head": "classify", "classes": len(splits.train.classes), **changes}
    return supervised(
        Classify(classes=splits.train.classes, multi_label=splits.train.multi_label),
        data,
        splits,
        model,
        init,
        head,
        use="classify",
        batch=32,
    )


def tagging(
    data: str,
    splits: Splits,
    *,
    model: str = "bert-mini",
    init: str | None = None,
    changes: Mapping[str, Any] = UNDECIDED,
    say: Say = print,
) -> Recipe:
    """A BERT on tagged words, fine-tuned where `init` gives weights; arguments and errors are those of `translation`.

    Run:     vitrail train bert-mini-tag --data names.conll [--init RUN]
    Reached: from nothing, on the 14,041 sentences of CoNLL-2003 (seed 0, bfloat16, code of commit 1d94dcd, one thread
             of an Intel Xeon with AMX beside other work, 7 min): F1 of names 75.9 on its part val, best after 6 of 7
             epochs, and 67.9 on its part test
    """
    head = {"head": "tag", "classes": len(splits.train.classes), **changes}
    return supervised(Tag(classes=splits.train.classes), data, splits, model, init, head, use="tag", batch=32)


def answering(
    data: str,
    splits: Splits,
    *,
    model: str = "bert-mini",
    init: str | None = None,
    changes: Mapping[str, Any] = UNDECIDED,
    say: Say = print,
) -> Recipe:
    """A BERT on questions and the texts that answer them, fine-tuned where `init` gives weights; arguments and errors
    are those of `translation`.

    Run:     vitrail train bert-mini-answer --data squad/ [--init RUN]
    Reached: not yet verified
    """
    head = {"head": "answer", "classes": 0, **changes}
    return supervised(AnswerQuestions(), data, splits, model, init, head, use="answer", batch=16)
