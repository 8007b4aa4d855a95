"""Words in, their neighbours out: what a run of word2vec, or a file of word vectors, is asked."""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from vitrail.errors import ConfigError
from vitrail.words.files import read_vectors
from vitrail.words.vectors import Near, WordVectors

VECTORS = "vectors.txt"  # in the folder of a run
KINDS = (".txt", ".vec", ".txt.gz", ".vec.gz", ".bin.gz")  # files that hold word vectors and never a network


def counts_vectors(place: Path) -> bool:
    """Whether a file begins as word2vec's binary ones do: with the number of words, and that of their dimensions."""
    with place.open("rb") as content:
        return re.match(rb"\d+ \d+\r?\n", content.read(64)) is not None


class Neighbours(NamedTuple):
    """Words that are near to something, nearest first."""

    words: tuple[Near, ...]

    def record(self, top: int = 5) -> dict[str, Any]:
        """Ready for JSON."""
        return {"near": [near._asdict() for near in self.words[:top]]}

    def summary(self, top: int = 3) -> str:
        """One line: each word with its similarity."""
        return ", ".join(f"{word} {similarity:.2f}" for word, similarity in self.words[:top])


def vectors_at(source: str | Path) -> Path | None:
    """The file with the word vectors that somebody means by a run or a file; `None` where it is something else."""
    place = Path(source).expanduser()
    if os.path.isfile(place) and (place.name.lower().endswith(KINDS) or counts_vectors(place)):
        return place
    return place / VECTORS if os.path.isfile(place / VECTORS) else None


class WordPredictor:
    """Word vectors that are asked for nearest words and analogies.

    Args:
        vectors: of all words.
    """

    def __init__(self, vectors: WordVectors) -> None:
        self.vectors = vectors

    def __repr__(self) -> str:
        return f"<WordPredictor: {len(self.vectors):,} words, {self.vectors.dim} dimensions>"

    @classmethod
    def read(cls, path: Path | str) -> "WordPredictor":
        """From a file; see `read_vectors`."""
        return cls(read_vectors(path))

    def __call__(self, words: str | Sequence[str], count: int = 10) -> list[Neighbours]:
        """The words nearest to each of some words, nearest first.

        Raises:
            ConfigError: a word that is not known.
        """
        asked = [words] if isinstance(words, str) else words
        return [Neighbours(tuple(self.vectors.nearest(word, count))) for word in asked]

    def analogy(self, first: str, second: str, third: str, count: int = 10) -> Neighbours:
        """What is to the third as the first is to the second: king, man, woman gives queen.

        Raises:
            ConfigError: a word that is not known.
        """
        return Neighbours(tuple(self.vectors.analogy(second, first, third, count)))

    @property
    def task(self) -> Any:
        """Nothing that could be drawn as the answers of a network are.

        Raises:
            ConfigError: always.
        """
        raise ConfigError(
            "These are word vectors and no network: there is nothing to explain. Type vitrail predict RUN WORD for the "
            "nearest words, vitrail predict RUN --analogy king man woman, or vitrail evaluate RUN --data QUESTIONS.txt."
        )

    card = model = task
