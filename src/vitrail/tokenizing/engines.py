"""What turns text into pieces: the `tokenizers` library, or `sentencepiece` for Marian's files.

Both are made from one text (the content of a file), so that a card can carry it, and are kept by that content.
"""

import base64
import binascii
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from itertools import accumulate
from typing import Any, NamedTuple, Protocol, runtime_checkable

from tokenizers import Tokenizer

from vitrail.errors import CheckpointError, ConfigError
from vitrail.tokenizing.bounds import bounded, check_growth, check_text, longest_normalised, parsed

MARIAN = "marian"  # the kind of file that sentencepiece reads; what `tokenizers` writes names no kind
SPECIAL = re.compile("(</s>|<unk>|<pad>)")  # Marian's, which stand for themselves in a text too
CHUNK = 4096  # texts that are handed over at once


class Encoded(NamedTuple):
    """One text, or two side by side, in pieces.

    Attributes:
        ids: the number of each piece in the vocabulary.
        segments: to which of the two texts each belongs, 0 or 1.
        spans: where each piece begins and ends in its own text, in characters; (0, 0) for those that are not in it.
        words: the number of the word that each piece is of; `None` for those that are of none.
        added: which pieces were put in by the tokenizer ([CLS], [SEP], </s>).
    """

    ids: list[int]
    segments: list[int]
    spans: list[tuple[int, int]]
    words: list[int | None]
    added: list[bool]


@runtime_checkable
class Engine(Protocol):
    """Text to pieces, and back."""

    def vocabulary(self) -> dict[str, int]:
        """The number of every piece, special ones too."""
        ...

    def extra(self, pair: bool) -> int:
        """How many pieces are put around one text, or around two."""
        ...

    def encode(self, text: str, pair: str | None, most: int | None, target: bool) -> Encoded:
        """The pieces; of `most` at most, the longer text giving its last ones first."""
        ...

    def spell(self, words: Sequence[str]) -> list[list[int]]:
        """The ids of each of some words of a sentence, with nothing around them."""
        ...

    def batch(self, texts: Sequence[str], target: bool, around: bool) -> list[list[int]]:
        """The ids of many texts, with or without what is put around them."""
        ...

    def decode(self, ids: Sequence[int], special: bool) -> str:
        """The text of some ids, with or without the special ones."""
        ...


@contextmanager
def no_panics(what: str) -> Iterator[None]:
    """A panic of the library, which Python would not count among the errors, as one of ours.

    Raises:
        CheckpointError: the library could make nothing of what it was given.
    """
    try:
        yield
    except (KeyboardInterrupt, SystemExit, MemoryError):
        raise
    except BaseException as error:
        raise CheckpointError(f"{what} ({str(error)[:160]}). Fetch it anew.") from error


def shares(lengths: tuple[int, int], room: int) -> tuple[int, int]:
    """How much of two texts is kept where there is room for so many pieces: the longer one is cut first."""
    if sum(lengths) <= room:
        return lengths
    shorter = min(min(lengths), room // 2)
    return (shorter, room - shorter) if lengths[0] <= lengths[1] else (room - shorter, shorter)


class LibraryTokenizer:
    """A tokenizer.json, run by the `tokenizers` library."""

    def __init__(self, content: str, where: str) -> None:
        values = bounded(parsed(content, where), where)
        with no_panics(f"{where} is not a tokenizer that the tokenizers library reads"):
            self.tokenizer = Tokenizer.from_str(json.dumps(values))

    def vocabulary(self) -> dict[str, int]:
        return self.tokenizer.get_vocab(with_added_tokens=True)

    def extra(self, pair: bool) -> int:
        return self.tokenizer.num_special_tokens_to_add(pair)

    def encode(self, text: str, pair: str | None, most: int | None, target: bool) -> Encoded:
        with no_panics("The tokenizer of this model gives up on this text"):
            first = self.tokenizer.encode(text, add_special_tokens=False)
            second = None if pair is None else self.tokenizer.encode(pair, add_special_tokens=False)
            if most is not None:
                lengths = (len(first), 0 if second is None else len(second))
                keep = shares(lengths, max(0, most - self.extra(pair is not None)))
                first.truncate(keep[0])
                if second is not None:
                    second.truncate(keep[1])
            whole = self.tokenizer.post_process(first, second)
        added = [bool(flag) for flag in whole.special_tokens_mask]
        return Encoded(whole.ids, whole.type_ids, whole.offsets, whole.word_ids, added)

    def spell(self, words: Sequence[str]) -> list[list[int]]:
        with no_panics("The tokenizer of this model gives up on this sentence"):
            whole = self.tokenizer.encode(list(words), is_pretokenized=True, add_special_tokens=False)
        found: list[list[int]] = [[] for _ in words]
        for number, word in zip(whole.ids, whole.word_ids, strict=True):
            if word is not None:
                found[word].append(number)
        return found

    def batch(self, texts: Sequence[str], target: bool, around: bool) -> list[list[int]]:
        found = []
        with no_panics("The tokenizer of this model gives up on these texts"):
            for start in range(0, len(texts), CHUNK):
                encoded = self.tokenizer.encode_batch_fast(
                    list(texts[start : start + CHUNK]), add_special_tokens=around
                )
                found.extend(one.ids for one in encoded)
        return found

    def decode(self, ids: Sequence[int], special: bool) -> str:
        with no_panics("These ids cannot be decoded"):
            return self.tokenizer.decode(list(ids), skip_special_tokens=not special)


def proto_fields(content: bytes) -> Iterator[tuple[int, bytes]]:
    """The fields of a protocol buffer that hold bytes, by number."""
    place = 0

    def number() -> int:
        nonlocal place
        value, shift = 0, 0
        while True:
            byte = content[place]
            place += 1
            value |= (byte & 127) << shift
            if byte < 128:
                return value
            shift += 7

    while place < len(content):
        key = number()
        kind = key & 7
        if kind == 0:
            number()
        elif kind == 2:
            length = number()
            yield key >> 3, content[place : place + length]
            place += length
        elif kind in (1, 5):
            place += 8 if kind == 1 else 4
        else:
            raise ValueError(f"field of kind {kind}")


def check_normalisers(content: bytes, where: str) -> None:
    """Refuse a sentencepiece model that makes much of one character, before it is loaded.

    Raises:
        CheckpointError: it does.
        ValueError, IndexError: it is no sentencepiece model.
    """
    rules, table = (3, 5), 2  # numbers of fields in sentencepiece_model.proto: both normalisers, and their table
    for field, spec in proto_fields(content):
        if field in rules:
            for inner, charsmap in proto_fields(spec):
                if inner == table:
                    check_growth(longest_normalised(charsmap), where)


def sentence_pieces(encoded: Any, name: str, where: str) -> Any:
    """The model in a .spm file.

    Raises:
        CheckpointError: it is none, or makes much of one character.
    """
    from sentencepiece import SentencePieceProcessor

    where = f"{name} of {where}"
    try:
        content = base64.b64decode(encoded, validate=True)
        check_normalisers(content, where)
        processor = SentencePieceProcessor()
        processor.LoadFromSerializedProto(content)
        return processor
    except (TypeError, IndexError, binascii.Error, RuntimeError, OSError, ValueError) as error:
        raise CheckpointError(f"{where} is not a sentencepiece model ({error}). Fetch it anew.") from error


def words_of(pieces: Sequence[str]) -> list[int]:
    """The number of the word that each piece is of: a word begins with a mark."""
    starts = [place > 0 and piece.startswith("▁") for place, piece in enumerate(pieces)]
    return list(accumulate(starts, initial=0))[1:]


class MarianTokenizer:
    """Marian's three files: a sentencepiece model for each language, and one list of pieces with their numbers.

    A language may stand before the sentence, `>>fra<<`. The end of the sentence follows it; nothing precedes it. A
    piece that is not in the list is the unknown one, whatever number sentencepiece has for it.
    Compared with transformers in tests/parity/test_tokenizers.py.
    """

    def __init__(self, values: Mapping[str, Any], where: str) -> None:
        ids = values.get("vocab")
        if not isinstance(ids, dict) or not all(isinstance(number, int) for number in ids.values()):
            raise CheckpointError(f"{where} has no vocab: expected an object that gives each piece its number.")
        absent = [token for token in ("</s>", "<unk>") if token not in ids]
        if absent:
            raise CheckpointError(f"The vocabulary in {where} has no {' and no '.join(absent)}, which Marian needs.")
        self.ids: dict[str, int] = ids
        self.pieces = {number: piece for piece, number in ids.items()}
        self.end: int = ids["</s>"]
        self.unknown: int = ids["<unk>"]
        self.special = {ids[token] for token in ("</s>", "<unk>", "<pad>") if token in ids}
        self.source = sentence_pieces(values.get("source"), "source.spm", where)
        self.target = sentence_pieces(values.get("target"), "target.spm", where)

    def vocabulary(self) -> dict[str, int]:
        return dict(self.ids)

    def extra(self, pair: bool) -> int:
        return 1

    def language(self, text: str) -> str:
        """The language that stands before a sentence, `>>fra<<`, if one does."""
        end = text.find("<<")
        return text[: end + 2] if text.startswith(">>") and end >= 0 else ""

    def encode(self, text: str, pair: str | None, most: int | None, target: bool) -> Encoded:
        if pair is not None:
            raise ConfigError("A translation model reads one sentence at a time, and was given a pair.")
        language = self.language(text)
        processor = self.target if target else self.source
        pieces = [language] * bool(language)
        for part in filter(None, SPECIAL.split(text[len(language) :])):
            pieces += [part] if part in self.ids and SPECIAL.fullmatch(part) else processor.encode(part, out_type=str)
        if most is not None:
            pieces = pieces[: max(0, most - 1)]
        ids: list[int] = [self.ids.get(piece, self.unknown) for piece in pieces]
        return Encoded(
            [*ids, self.end],
            [0] * (len(ids) + 1),
            [(0, 0)] * (len(ids) + 1),  # sentencepiece does not say where its pieces are
            [*words_of(pieces), None],
            [*[False] * len(ids), True],
        )

    def spell(self, words: Sequence[str]) -> list[list[int]]:
        return [self.encode(word, None, None, False).ids[:-1] for word in words]

    def batch(self, texts: Sequence[str], target: bool, around: bool) -> list[list[int]]:
        found = [self.encode(text, None, None, target).ids for text in texts]
        return found if around else [ids[:-1] for ids in found]

    def decode(self, ids: Sequence[int], special: bool) -> str:
        text, waiting = [], []
        for number in ids:
            if number in self.special:
                if special:
                    text += [self.target.decode_pieces(waiting), self.pieces[number]]
                    waiting = []
            elif number in self.pieces:
                waiting.append(self.pieces[number])
            else:
                raise ConfigError(f"{number} is no id of this vocabulary, which has {len(self.ids):,} pieces.")
        text.append(self.target.decode_pieces(waiting))
        return " ".join(filter(None, text)).replace("▁", " ").strip()


@lru_cache(maxsize=8)
def engine_of(content: str, where: str = "tokenizer.json") -> Engine:
    """The tokenizer that a file describes, made once.

    Raises:
        ConfigError: there is no file.
        CheckpointError: it is damaged, or asks for what is not run on a person's text.
    """
    if not content:
        raise ConfigError(
            "This model came without a tokenizer: give ids instead of text, or put a tokenizer.json beside its weights."
        )
    head = content[:200]
    if '"kind"' in head and MARIAN in head:
        values = parsed(content, where)
        if values.get("kind") == MARIAN:
            return MarianTokenizer(values, where)
    return LibraryTokenizer(content, where)


__all__ = ["MARIAN", "Encoded", "Engine", "LibraryTokenizer", "MarianTokenizer", "check_text", "engine_of"]
