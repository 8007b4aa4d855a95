"""Training word vectors, which gensim does: what `vitrail train word2vec` writes, and how it can be done again."""

import json
import os
import shlex
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Literal, get_type_hints

from vitrail import catalog
from vitrail.data.open import open_dataset, parts
from vitrail.errors import ConfigError, TrainingError, UsageError, many, unknown
from vitrail.fields import Range, check_fields, check_ranges
from vitrail.train.lock import RECIPE, refuse_taken
from vitrail.train.recipe_text import build_part, parse
from vitrail.weights.files import read_json
from vitrail.words.files import write_vectors
from vitrail.words.predictor import VECTORS
from vitrail.words.training import split_words, train_word2vec
from vitrail.words.vectors import WordVectors
from vitrail.writing import write_whole

NAME = "word2vec"
CARD = "card.json"
SHOWN, FREQUENT = 8, 50  # words
FAMOUS = ("king", "man", "woman")  # an analogy that everybody knows: to queen

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class WordRecipe:
    """How word vectors are learned; the numbers are those of the papers.

    Attributes:
        path: the text.
        kind: foretell the words around from the one in the middle (`skip-gram`), or the other way (`cbow`).
        dim: numbers in a vector.
        window: words on each side, at most.
        negative: words drawn at random that a word is told from.
        least: how often a word must occur.
        epochs: how often the text is read.
        rate: learning rate at the beginning; 0.025 for skip-gram and 0.05 for CBOW, unless given.
        sample: share of the text above which frequent words are left out now and then.
        seed: of the first vectors and of what is drawn.
    """

    path: str
    kind: Literal["skip-gram", "cbow"] = "skip-gram"
    dim: int = 100
    window: int = 5
    negative: int = 5
    least: int = 5
    epochs: int = 5
    rate: float | None = None
    sample: float = 1e-3
    seed: int = 0

    def __post_init__(self) -> None:
        check_fields(self)
        check_ranges(
            self,
            dim=Range(1, 2**14, usual="50 to 300"),
            window=Range(1, 1000, usual="5"),
            negative=Range(1, 1000, usual="5 to 20"),
            least=Range(1, usual="5"),
            epochs=Range(1, usual="5"),
            rate=Range(0, 1, above=True, usual="0.025"),
            sample=Range(0, 1, usual="1e-3"),
        )

    def changed(self, assignments: Sequence[str]) -> "WordRecipe":
        """The same with what was said after `--set`.

        Raises:
            UsageError, ConfigError: no equals sign, no such field, or a value that it cannot have.
        """
        kinds, recipe = get_type_hints(type(self)), self
        for assignment in assignments:
            name, equals, text = assignment.partition("=")
            if not equals:
                raise UsageError(f"--set {assignment} has no '='. Type --set window=8, for example.")
            if name not in kinds or name == "path":
                known = [one.name for one in fields(self) if one.name != "path"]
                raise ConfigError(f"--set {name}: {unknown('field', name, known)}")
            recipe = replace(recipe, **{name: parse(kinds[name], text, name)})
        return recipe

    def learned(self, texts: Sequence[str]) -> WordVectors:
        """The vectors of these texts."""
        settings = asdict(self)
        settings.pop("path")
        return train_word2vec(texts, **settings)


def word_recipe(name: str, data: str) -> WordRecipe | None:
    """The recipe of a name, or of a run of word2vec, for some data; `None` where it is for a network.

    Raises:
        ConfigError: a file that is no recipe.
    """
    if name.endswith(".json"):
        told = read_json(Path(name))
        if told.get("name") != NAME:
            return None
        told = {field: value for field, value in told.items() if field != "name"}
        return build_part(WordRecipe, {**told, "path": data}, "recipe")
    entry = catalog.RECIPES.get(name)
    return WordRecipe(path=data) if entry is not None and catalog.load(entry) is WordRecipe else None


def running_text(data: str) -> list[str]:
    """All texts that there are to learn from.

    Raises:
        DataError: there are none.
        ConfigError: they are in two languages, or are no texts.
    """
    texts = open_dataset(data, "train" if "train" in parts(data) else None)
    if texts.task == "translate":
        raise ConfigError(f"{data} is in two languages, and word2vec learns from one. Give running text (.txt).")
    if texts.task not in catalog.RECIPES[NAME].data:
        raise ConfigError(f"{data} holds pictures, and word2vec learns from texts. Give running text (.txt).")
    return [text for index in range(len(texts)) for text in texts[index].texts]


def refuse_words(folder: Path) -> None:
    """Refuse to go on with a run of word2vec.

    Raises:
        TrainingError: it is one.
    """
    if (folder / VECTORS).exists():
        raise TrainingError(
            f"{folder} holds word vectors, which are learned in one go: there is nothing to go on with. "
            f"`vitrail train {NAME} --data PATH` learns others."
        )


def examples(known: Sequence[str]) -> list[str]:
    """A word to ask for, and three for an analogy where there are so many: the well-known ones, or frequent ones."""
    if set(FAMOUS) <= set(known):
        return [FAMOUS[0], *FAMOUS]
    told = [word for word in known if word.isalpha()] or list(known)
    longer = sorted(told[:FREQUENT], key=len, reverse=True)  # the shortest of frequent words mean least
    return [longer[0], *(longer[:3] if len(longer) > 2 else [])]


def train_words(recipe: WordRecipe, folder: Path, *, dry_run: bool = False, say: Say = print) -> Path | None:
    """Learn word vectors, and write them into a folder with how they came about.

    The folder holds `vectors.txt` in word2vec's format, `card.json` and `recipe.json`.

    Args:
        recipe: what to do.
        folder: of the run; nothing is in it yet.
        dry_run: look at the text, and stop.
        say: told how it goes.

    Returns:
        The folder; `None` after a dry run.

    Raises:
        ConfigError: gensim is not installed.
        DataError: there is no text, or too little.
        TrainingError: something is in the folder.
    """
    refuse_taken(folder)
    texts = running_text(recipe.path)
    words = sum(len(split_words(text)) for text in texts)
    say(f"data     {recipe.path}: {many(words, 'word')} of text")
    length = many(recipe.epochs, "epoch")
    say(f"recipe   {NAME}: {recipe.kind}, {recipe.dim} numbers a word, {length}, seed {recipe.seed}")
    say(f"run      {folder} (recipe.json there says everything; --set changes any of it)")
    if dry_run:
        say("Nothing was learned, and nothing is left behind.")
        return None
    vectors = recipe.learned(texts)
    folder.mkdir(parents=True, exist_ok=True)
    draft = folder / f".{VECTORS}.{os.getpid()}.tmp"
    write_vectors(vectors, draft)
    draft.replace(folder / VECTORS)
    origin = f"trained by vitrail {version('vitrail')}"
    for name, told in (
        (CARD, {"model": NAME, "words": len(vectors), "dim": vectors.dim, "origin": origin}),
        (RECIPE, {"name": NAME, **asdict(recipe)}),
    ):
        write_whole(folder / name, json.dumps(told, indent=2) + "\n", durable=True)
    frequent = ", ".join(islice(vectors.words, SHOWN))
    say(f"{len(vectors):,} words have a vector; the most frequent are {frequent}.")
    one, *three = examples(vectors.words)
    say(f"Next: vitrail predict {shlex.join([str(folder), one])}")
    if three:
        say(f"      vitrail predict {shlex.join([str(folder), '--analogy', *three])}")
    return folder
