"""Questions whose answers stand in a text: the JSON of SQuAD v1.1, or a folder with one for each part.

`dev` is the validation part. Source: Rajpurkar et al., "SQuAD: 100,000+ Questions for Machine Comprehension of Text",
EMNLP 2016.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vitrail.data.datasets.manifest import RowError
from vitrail.data.files import shown
from vitrail.data.text.dataset import Question, Texts, some
from vitrail.data.text.reading import Complain, by_part, files_in, kind_of, refuse, sound
from vitrail.errors import DataError

LARGEST = 1 << 30  # bytes; SQuAD's training part has 30 million
LOOKED_AT = 1 << 16


def is_squad(path: Path) -> bool:
    """Whether a JSON file holds paragraphs with questions."""
    if kind_of(path) != ".json":
        return False
    try:
        with open(path, "rb") as file:
            head = file.read(LOOKED_AT)
    except OSError:
        return False
    return b'"paragraphs"' in head or (b'"data"' in head and b'"qas"' in head)


def squad_files(path: Path) -> list[Path]:
    files = files_in(path) if path.is_dir() else [path] if path.is_file() else []
    return [file for file in files if is_squad(file)]


def recognises(path: Path | str) -> bool:
    return bool(squad_files(Path(path)))


def parts(path: Path | str) -> tuple[str, ...]:
    return tuple(by_part(squad_files(Path(path)))) if Path(path).is_dir() else ()


def field(record: Any, name: str, kind: type, place: str) -> Any:
    """A field of a JSON object.

    Raises:
        RowError: it is missing, or of another kind.
    """
    value = record.get(name) if isinstance(record, dict) else None
    if not isinstance(value, kind) or isinstance(value, bool):
        words = {str: "a text", list: "a list", int: "a whole number"}[kind]
        hint = f"{name} should be {words}, and is {value!r:.40}. Expected the JSON of SQuAD v1.1."
        raise RowError("wrong-field", place, hint)
    return sound(value, place) if isinstance(value, str) else value


def read_question(record: Any, context: str, place: str) -> Question:
    """One question, whose answers are where the file says they are.

    Raises:
        RowError: they are not, or there is none.
    """
    name, question = str(field(record, "id", str, place)), field(record, "question", str, place)
    place = f"{place} ({name})"
    answers, starts = [], []
    for answer in field(record, "answers", list, place):
        text, start = field(answer, "text", str, place), field(answer, "answer_start", int, place)
        if not text or start < 0 or context[start : start + len(text)] != text:
            there = context[max(0, start) : max(0, start) + len(text)]
            words = f"the answer {text[:40]!r} does not stand at {start}, where {there[:40]!r} is."
            raise RowError("answer-not-there", place, words)
        answers.append(text)
        starts.append(start)
    if not answers:
        words = "this question has no answer. SQuAD v1.1 has one for each; v2.0 is not read."
        raise RowError("no-answer", place, words)
    return Question(place, name, question, context, tuple(answers), tuple(starts))


def read_questions(path: Path, complain: Complain) -> Iterator[Question]:
    """All questions of a file.

    Raises:
        RowError: it is not the JSON of SQuAD v1.1; or a part of it is not, unless `complain` takes that.
    """
    if path.stat().st_size > LARGEST:
        raise RowError("too-large", shown(path), f"it is larger than {LARGEST >> 30} GB.")
    try:
        values = json.loads(path.read_bytes().decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        words = f"byte {error.start} is not UTF-8 ({error.reason}). Save it as UTF-8."
        raise RowError("encoding", shown(path), words) from error
    except (ValueError, RecursionError) as error:
        raise RowError("bad-json", shown(path), f"it is not JSON ({error}). Fetch it anew.") from error
    for inside, paragraph in paragraphs(values, shown(path), complain):
        try:
            context, asked = field(paragraph, "context", str, inside), field(paragraph, "qas", list, inside)
        except RowError as error:
            complain(error)
            continue
        for record in asked:
            try:
                question = read_question(record, context, inside)
            except RowError as error:
                complain(error)
            else:
                yield question


def paragraphs(values: Any, place: str, complain: Complain) -> Iterator[tuple[str, Any]]:
    """The paragraphs of all articles, each with its place."""
    for article, entry in enumerate(field(values, "data", list, place), start=1):
        try:
            found = field(entry, "paragraphs", list, f"{place}, article {article}")
        except RowError as error:
            complain(error)
            continue
        for number, paragraph in enumerate(found, start=1):
            yield f"{place}, article {article}, paragraph {number}", paragraph


def open_part(
    path: Path | str, part: str | None, classes: tuple[str, ...] | None = None, complain: Complain = refuse
) -> Texts:
    """Read one part, or a file that has no parts.

    Args:
        path: the file, or a folder of files named after their parts.
        part: `train`, `val` or `test`; `None` where there are none.
        classes: nothing is told apart here.
        complain: told what is wrong with single questions, instead of stopping at the first.

    Raises:
        DataError: no questions, or an answer that is not where the file says.
    """
    path = Path(path)
    files = squad_files(path)
    if part is not None:
        files = [file for file in [by_part(files).get(part)] if file is not None]
    if not files:
        raise DataError(f"{shown(path)} has no questions{f' for {part}' if part else ''}.")
    found = [question for file in files for question in read_questions(file, complain)]
    return Texts(some(found, shown(path), "questions"), "answer")
