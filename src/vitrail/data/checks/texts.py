"""What is wrong with texts: with single lines, as they are read; with what they say; and with the parts together."""

import re
from collections import Counter
from collections.abc import Iterator
from itertools import permutations
from typing import Any

from vitrail.data.checks.faults import Fault, fault
from vitrail.data.checks.pictures import class_faults, name_faults
from vitrail.data.dataset import classes_of
from vitrail.data.datasets.manifest import RowError
from vitrail.data.files import shown
from vitrail.data.open import format_of, open_splits
from vitrail.data.text import pairs
from vitrail.data.text.dataset import Labelled, Pair, Passage, Question, Tagged, Texts, TextSample
from vitrail.data.text.reading import files_in
from vitrail.errors import DataError

UNEVEN, LONG = 4, 12  # times as many words on one side of a pair as on the other, where that has so many
BOM = b"\xef\xbb\xbf"
LOST = "\N{REPLACEMENT CHARACTER}"
TWICE = re.compile("[ÂÃâ][^\x00-\x7f]")  # how Latin-1 shows the first bytes of most letters that are not English
CONTROL = re.compile("[\x00-\x08\x0b\x0e-\x1f\x7f]")
TAG = re.compile(r"O|[BIESLU]-\S+")


class Told:
    """Keeps what readers complain of: each thing once, however often a file is read."""

    def __init__(self) -> None:
        self.faults: dict[tuple[str, str], Fault] = {}

    def __call__(self, error: RowError) -> None:
        self.faults.setdefault((error.code, error.place), fault(error.code, error.place, error.hint))


def check(path: str) -> Iterator[Fault]:
    """Everything that is wrong with texts, or good to know."""
    told = Told()
    parts = read_parts(path, told)
    found = [*told.faults.values(), *file_faults(path, parts)]
    for texts in parts.values():
        found += [*sample_faults(texts), *repeated(texts)]
    found += [*together(path, parts), *across(parts)]
    yield from found
    if all(one.severity != "error" for one in found):
        try:
            open_splits(path)
        except DataError as error:
            yield fault("no-data", path, nameless(str(error), path))


def nameless(sentence: str, path: str) -> str:
    """A sentence that begins with the name of a data set, without it."""
    rest = sentence.removeprefix(shown(path)).lstrip(": ")
    return rest[:1].upper() + rest[1:]


def read_parts(path: str, told: Told) -> dict[str | None, Texts]:
    """What can be read of each part; the rest is told."""
    reader, place = format_of(path)
    read: dict[str | None, Texts] = {}
    way: tuple[str, ...] | None = None  # of a translation, as the first part says it
    try:
        names = reader.parts(place) or (None,)
    except RowError as error:
        told(error)
        return read
    for part in names:
        before = len(told.faults)
        try:
            read[part] = reader.open_part(place, part, way, told)
        except RowError as error:
            if error.code != "empty" or len(told.faults) == before:  # nothing is left where all of it is wrong
                told(error)
        else:
            way = read[part].classes if read[part].task == "translate" else None
    return read


def file_faults(path: str, parts: dict[str | None, Texts]) -> Iterator[Fault]:
    """What is odd about the files, before a line of them is read."""
    place, _ = pairs.spelling(path)
    for file in files_in(place) if place.is_dir() else [place]:
        with open(file, "rb") as opened:
            if opened.read(len(BOM)) == BOM:
                yield fault("bom", file, "It begins with a byte order mark, which is skipped.")
    translated = next((texts.classes for texts in parts.values() if texts.task == "translate"), ())
    for files in pairs.by_language(place).values() if translated and place.is_dir() else ():
        for one, other in permutations(translated):
            if one in files and other not in files:
                yield fault("missing-file", files[one], f"There is no file with its translation into {other}.")


def spot(sample: TextSample, text: str, offset: int) -> str:
    """The line of a character, where it is known."""
    if not isinstance(sample, Passage):
        return sample.name
    name, line = sample.name.rsplit(":", 1)
    below = text.count("\n", 0, offset)
    return f"{name}:{int(line) + below}"


def sample_faults(texts: Texts) -> Iterator[Fault]:
    """What is wrong with single texts."""
    spelled = sum(map(bool, map(TAG.fullmatch, texts.classes)))
    odd = {name for name in texts.classes if not TAG.fullmatch(name)} if 2 * spelled > len(texts.classes) else set()
    before = ""
    for sample in texts.samples:
        if isinstance(sample, Pair):
            yield from pair_faults(sample)
        if isinstance(sample, Tagged):
            for name in sorted(odd & {texts.classes[tag] for tag in sample.tags}):
                yield fault("odd-tag", sample.name, f"The tag {name!r} is neither O nor like B-PER, as others are.")
                odd.discard(name)  # once
        for text in sample.texts:
            if text != before:  # questions about one text stand together
                yield from character_faults(sample, text)
        before = sample.texts[-1]


def pair_faults(pair: Pair) -> Iterator[Fault]:
    """What is odd about a sentence and its translation."""
    counts = [len(text.split()) for text in pair.texts]
    if pair.source == pair.target and min(counts) > 1:
        yield fault("same-text", pair.name, "Both sides of the pair are the same.")
    if max(counts) >= max(UNEVEN * min(counts), LONG):
        yield fault("uneven-pair", pair.name, f"One side has {max(counts)} words and the other {min(counts)}.")


def character_faults(sample: TextSample, text: str) -> Iterator[Fault]:
    """Characters that nobody has written: the first of each kind in a text."""
    if LOST in text:
        place = spot(sample, text, text.index(LOST))
        yield fault("lost-character", place, f"{LOST!r} stands for a character that was lost. Export the text anew.")
    if found := CONTROL.search(text):
        yield fault("control-character", spot(sample, text, found.start()), f"{found[0]!r} is no character of a text.")
    if (found := TWICE.search(text)) and (line := text.split("\n")[text.count("\n", 0, found.start())]):
        try:
            meant = line.encode("cp1252").decode()
        except UnicodeError:
            return
        words = f"{line[:40]!r} should probably be {meant[:40]!r}. Read it as UTF-8 where it comes from."
        yield fault("mis-decoded", spot(sample, text, found.start()), words)


def read_and_true(sample: TextSample) -> tuple[Any, Any]:
    """What a model reads of a sample, and what it should say; of a translation, which may be any, both are read."""
    if isinstance(sample, Labelled):
        return sample.content, sample.label
    if isinstance(sample, Tagged):
        return sample.words, sample.tags
    return sample.texts, None


def repeated(texts: Texts) -> Iterator[Fault]:
    """Texts that come twice in a part, each compared with the first of its kind."""
    seen: dict[Any, tuple[str, Any]] = {}
    names: dict[str, str] = {}
    for sample in texts.samples:
        read, true = read_and_true(sample)
        first, said = seen.setdefault(read, (sample.name, true))
        if said != true:
            yield fault("two-labels", sample.name, f"The same text as {first}, with another label.")
        elif first != sample.name:
            yield fault("duplicate-text", sample.name, f"The same as {first}. It counts twice.")
        if isinstance(sample, Question) and names.setdefault(sample.id, sample.name) != sample.name:
            yield fault("duplicate-id", sample.name, f"{sample.id!r} also is the name of {names[sample.id]}.")


def together(path: str, parts: dict[str | None, Texts]) -> Iterator[Fault]:
    """What the labels, or the tags, of the parts show together."""
    counts: dict[str | None, Counter[str]] = {}
    for part, texts in parts.items():
        if texts.task == "classify-text":
            labels = [label for sample in texts.labels() for label in classes_of(sample)]
            counts[part] = Counter(texts.classes[label] for label in labels)
        if texts.task == "tag":
            counts[part] = Counter(dict.fromkeys(texts.classes, 1))
    tags = any(texts.task == "tag" for texts in parts.values())
    if not tags:
        yield from name_faults(path, set().union(*counts.values()))
    for found in class_faults(path, counts, "text"):
        if not tags or found.code in ("one-class", "class-not-in-train"):  # tags are rare in a small part
            yield found


def across(parts: dict[str | None, Texts]) -> Iterator[Fault]:
    """Texts to be judged by that are learned from."""
    if "train" not in parts:
        return
    train = parts["train"]
    learned = {train.fingerprint(index): train[index].name for index in range(len(train))}
    for texts in (texts for part, texts in parts.items() if part != "train"):
        for index in range(len(texts)):
            if (first := learned.get(texts.fingerprint(index))) is not None:
                yield fault("text-across-parts", texts[index].name, f"The same text is learned from in {first}.")
