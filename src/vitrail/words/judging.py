"""How good word vectors are: analogies that come out, and likeness as people judge it.

Files: `questions-words.txt` (Mikolov et al. 2013): a line `: section`, then lines of four words; WordSim-353 and
SimLex-999: two words and what people gave them, separated by tabs, with `#` before remarks.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from vitrail.data.text.reading import text_lines
from vitrail.errors import DataError
from vitrail.words.vectors import WordVectors

AT_ONCE = 256  # questions
MOST_FREQUENT = 300_000  # words among which an answer is looked for
LARGEST = 1 << 26  # bytes of a file of questions


class Section(NamedTuple):
    """How one kind of analogy came out.

    Attributes:
        name: as the file has it.
        right: questions whose nearest word was the answer.
        asked: questions all of whose words are known.
        unknown: the others, which are not counted.
    """

    name: str
    right: int
    asked: int
    unknown: int

    @property
    def accuracy(self) -> float:
        return self.right / self.asked if self.asked else 0.0


class Likeness(NamedTuple):
    """How well cosines follow what people say.

    Attributes:
        spearman: correlation of the two orders, from -1 to 1.
        pairs: of which both words are known.
        unknown: the others, which are not counted.
    """

    spearman: float
    pairs: int
    unknown: int


def lines_of(path: Path) -> list[str]:
    """The lines of a small text file.

    Raises:
        DataError: it cannot be read, or is not small.
    """
    try:
        if path.stat().st_size > LARGEST:
            raise DataError(f"{path} is larger than {LARGEST >> 20} MB.")
        return list(text_lines(path))
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}).") from error


def read_analogies(path: Path | str) -> dict[str, list[tuple[str, str, str, str]]]:
    """The questions of a file by section.

    Raises:
        DataError: a line that is neither a section nor four words.
    """
    path = Path(path)
    found: dict[str, list[tuple[str, str, str, str]]] = {}
    section = "all"
    for number, line in enumerate(lines_of(path), start=1):
        words = line.split()
        if line.startswith(":"):
            section = line[1:].strip()
        elif len(words) == 4:
            found.setdefault(section, []).append((words[0], words[1], words[2], words[3]))
        elif words:
            raise DataError(f"{path}:{number}: {line[:40]!r} is not four words. Write: man king woman queen.")
    if not found:
        raise DataError(f"{path} is empty: there are no analogies in it.")
    return found


def spellings(vectors: WordVectors) -> dict[str, list[int]]:
    """The rows of the most frequent words, in small letters: all spellings of each, the most frequent one first."""
    rows: dict[str, list[int]] = {}
    for row, word in enumerate(vectors.words[:MOST_FREQUENT]):
        rows.setdefault(word.lower(), []).append(row)
    return rows


def judge_analogies(vectors: WordVectors, path: Path | str) -> list[Section]:
    """Ask all analogies of a file; capitals do not count, and words asked with are no answers, however spelled.

    Raises:
        DataError: the file cannot be read.
    """
    rows, units = spellings(vectors), vectors.units[:MOST_FREQUENT]
    spelled = [word.lower() for word in vectors.words[:MOST_FREQUENT]]
    found = []
    for name, questions in read_analogies(path).items():
        asked = [[word.lower() for word in question] for question in questions]
        known = [words for words in asked if all(word in rows for word in words)]
        right = sum(
            answered(units, spelled, rows, known[first : first + AT_ONCE]) for first in range(0, len(known), AT_ONCE)
        )
        found.append(Section(name, right, len(known), len(asked) - len(known)))
    return found


def answered(
    units: Float[np.ndarray, "words dim"], spelled: list[str], rows: dict[str, list[int]], questions: list[list[str]]
) -> int:
    """How many of some questions are answered rightly."""
    places = np.array([[rows[word][0] for word in question] for question in questions])
    directions = units[places[:, 1]] - units[places[:, 0]] + units[places[:, 2]]
    scores = directions @ units.T
    for number, question in enumerate(questions):
        scores[number, [row for word in question[:3] for row in rows[word]]] = -np.inf
    said = scores.argmax(axis=1)
    return sum(spelled[row] == question[3] for row, question in zip(said.tolist(), questions, strict=True))


def together(sections: Sequence[Section]) -> Section:
    """All kinds of analogies as one, which is the score that papers print."""
    return Section("all", *(sum(counts) for counts in zip(*(section[1:] for section in sections), strict=True)))


def judge_words(vectors: WordVectors, path: Path | str) -> list[Section] | Likeness:
    """How good vectors are by a file: of analogies, or of pairs of words with what people gave them.

    Raises:
        DataError: it is neither.
    """
    first = next((line for line in lines_of(Path(path)) if line.strip() and not line.startswith("#")), "")
    return judge_likeness(vectors, path) if "\t" in first else judge_analogies(vectors, path)


def pairs_in(path: Path) -> Iterator[tuple[str, str, float]]:
    """The pairs of a file with what people gave them.

    Raises:
        DataError: a line that is not two words and a number.
    """
    for number, line in enumerate(lines_of(path), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        fields = line.split("\t")
        try:
            one, other, score = fields
            yield one.strip(), other.strip(), float(score)
        except ValueError as error:
            raise DataError(
                f"{path}:{number}: {line[:40]!r} is not two words and a number, separated by tabs."
            ) from error


def ranks(values: Float[np.ndarray, " length"]) -> Float[np.ndarray, " length"]:
    """The place of each value in their order; equal ones share the mean of theirs."""
    order = np.argsort(values, kind="stable")
    places = np.empty(len(values))
    places[order] = np.arange(len(values), dtype=np.float64)
    _, group = np.unique(values, return_inverse=True)
    return (np.bincount(group, places) / np.bincount(group))[group]


def judge_likeness(vectors: WordVectors, path: Path | str) -> Likeness:
    """Compare cosines with what people say about pairs of words; capitals do not count.

    Raises:
        DataError: the file cannot be read, or fewer than two of its pairs are known.
    """
    rows = {word: places[0] for word, places in spellings(vectors).items()}
    pairs = list(pairs_in(Path(path)))
    known = [pair for pair in pairs if pair[0].lower() in rows and pair[1].lower() in rows]
    if len(known) < 2:
        raise DataError(
            f"Of {len(pairs)} pairs in {path}, {len(known)} are known to these vectors: too few to compare."
        )
    one = vectors.units[[rows[first.lower()] for first, _, _ in known]]
    other = vectors.units[[rows[second.lower()] for _, second, _ in known]]
    ours = ranks((one * other).sum(axis=1).astype(np.float64))
    theirs = ranks(np.array([pair[2] for pair in known], dtype=np.float64))
    spread = ours.std() * theirs.std()
    together = float(((ours - ours.mean()) * (theirs - theirs.mean())).mean() / spread) if spread else 0.0
    return Likeness(together, len(known), len(pairs) - len(known))
