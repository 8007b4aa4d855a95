"""The pieces that a model reads and writes, as a person reads them, and the words that they make up."""

import unicodedata
from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from vitrail.errors import ExplanationError, many
from vitrail.tokenizing import TextPreprocessing

SPACES = {"\n": "\u21b5", "\t": "\u21e5"}  # how a piece is shown that is nothing but space
SPACE = "\u2423"
HALF = "\ufffd"  # part of a letter, whose other bytes are in other pieces
SIGNS = {*SPACES.values(), SPACE, HALF}
NEAR = 12  # words that are listed where one is not found


class Piece(NamedTuple):
    """A piece as it is shown.

    Attributes:
        text: its letters.
        word: the number of the word that it is of.
        special: whether it stands for no letters, as `[CLS]` does.
    """

    text: str
    word: int
    special: bool = False


def shown(text: str) -> str:
    """The letters of a piece, or a sign where there is nothing but space."""
    return text.strip() or SPACES.get(text[-1:], SPACE)


def stands_alone(text: str) -> bool:
    """Whether a piece is a word by itself: punctuation, or of a script that puts no spaces between words."""
    if not text.strip() or text in SIGNS or HALF in text:
        return False
    return not any(map(str.isalnum, text)) or any(unicodedata.east_asian_width(letter) in "WF" for letter in text)


def numbered(texts: Sequence[str], special: Sequence[bool]) -> tuple[Piece, ...]:
    """Pieces with the numbers of their words.

    Args:
        texts: of the pieces; one that begins with a space begins a word, and an empty one goes on with a letter that is
            there already.
        special: which of them stand for no letters.
    """
    found: list[Piece] = []
    for text, alone in zip(texts, special, strict=True):
        word = 0
        if found:
            last = found[-1]
            begins = alone or last.special or text[:1].isspace() or stands_alone(text) or stands_alone(last.text)
            word = last.word + (begins and (alone or text != ""))
        found.append(Piece(text.strip() if alone else shown(text) if text else HALF, word, alone))
    return tuple(found)


def shared(before: str, now: str) -> int:
    """How many letters two texts begin with that are the same."""
    pairs = enumerate(zip(before, now, strict=False))
    return next((place for place, (one, other) in pairs if one != other), min(len(before), len(now)))


def spelled(preprocessing: TextPreprocessing, ids: Sequence[int]) -> list[str]:
    """What each piece adds to the text that is written with those before it."""
    before, found = "", []
    for stop in range(1, len(ids) + 1):
        now = preprocessing.decode(ids[:stop], special=True)
        found.append(now[shared(before, now) :] or HALF)  # half a letter changes when it is completed
        before = now
    return found


def specials(preprocessing: TextPreprocessing, ids: Sequence[int]) -> list[bool]:
    """Which pieces stand for no letters; an unknown one stands for some."""
    known = set(preprocessing.special_ids)
    if preprocessing.unknown_token in preprocessing.vocabulary:
        known -= {preprocessing.id_of(preprocessing.unknown_token)}
    return [number in known for number in ids]


def pieces_written(preprocessing: TextPreprocessing, ids: Sequence[int]) -> tuple[Piece, ...]:
    """The pieces of a text that a model wrote."""
    return numbered(spelled(preprocessing, ids), specials(preprocessing, ids))


def pieces_read(preprocessing: TextPreprocessing, text: str, ids: Sequence[int]) -> tuple[Piece, ...]:
    """The pieces of a text that a model reads, in the letters of the text where the tokenizer says where they are.

    Args:
        preprocessing: of the model.
        text: as somebody wrote it.
        ids: as the model reads them, which may lack what the tokenizer puts around a text.
    """
    encoded = preprocessing.encode(text)
    places = range(len(encoded.ids))
    inside = [place for place in places if not encoded.added[place]]
    kept = next((kept for kept in (places, inside) if [encoded.ids[place] for place in kept] == list(ids)), None)
    if kept is None or not any(stop for _, stop in encoded.spans):
        return pieces_written(preprocessing, ids)
    texts, end = [], 0
    for place, special in zip(kept, specials(preprocessing, ids), strict=True):
        start, stop = encoded.spans[place]
        if special or start == stop:
            texts.append(preprocessing.tokens([encoded.ids[place]])[0])
        else:
            begin = min(end, start) if text[end:start].isspace() else start
            texts.append(text[max(begin, end) : stop])  # bytes of a letter that has been shown add nothing
            end = max(end, stop)
    return numbered(texts, specials(preprocessing, ids))


def words(pieces: Sequence[Piece]) -> list[str]:
    """The words that pieces make up, without the signs for spaces and halves of letters that others complete."""
    whole = ["".join(piece.text for piece in group) for _, group in groupby(pieces, lambda piece: piece.word)]
    return ["".join(letter for letter in word if letter not in SIGNS) or word for word in whole]


def membership(pieces: Sequence[Piece]) -> Float[Tensor, "words tokens"]:
    """1 where a piece is of a word."""
    table = torch.zeros(pieces[-1].word + 1 if pieces else 0, len(pieces), dtype=torch.float64)
    table[[piece.word for piece in pieces], range(len(pieces))] = 1
    return table


def merged(
    weights: Float[Tensor, "*batch query key"], asks: Sequence[Piece], seen: Sequence[Piece]
) -> Float[Tensor, "*batch rows columns"]:
    """How much words look at words: the sum over the pieces that are looked at, the mean over those that look.

    A row that summed to one still does.
    """
    rows, columns = membership(asks), membership(seen)
    return (rows / rows.sum(dim=1, keepdim=True)) @ weights.double() @ columns.T


def bare(word: str) -> str:
    """A word without punctuation on either side, and in small letters."""
    start, stop = 0, len(word)
    while start < stop and not word[start].isalnum():
        start += 1
    while stop > start and not word[stop - 1].isalnum():
        stop -= 1
    return word[start:stop].casefold()


def alike(word: str, among: Sequence[str]) -> list[int]:
    """Where a word stands: as it is written, or else without punctuation and whatever the case."""
    exact = [place for place, one in enumerate(among) if one == word]
    return exact or [place for place, one in enumerate(among) if bare(word) and bare(one) == bare(word)]


def find_word(word: str, among: Sequence[str]) -> int:
    """Where a word stands in a text.

    Args:
        word: as it is written there, or without its punctuation; `the:2` is the second `the`.
        among: the words of the text.

    Raises:
        ExplanationError: it does not stand there, or several times.
    """
    word = word.strip()
    places = alike(word, among)
    if len(places) == 1:
        return places[0]
    name, _, which = word.rpartition(":")
    if not places and which.isdecimal() and (places := alike(name, among)):
        if 1 <= int(which) <= len(places):
            return places[int(which) - 1]
        raise ExplanationError(f"There is no {word}: {name!r} stands {many(len(places), 'time')} in the text.")
    if places:
        raise ExplanationError(
            f"{word!r} stands {len(places)} times in the text. Say which: {word}:1 is the first, {word}:{len(places)} "
            f"the last."
        )
    if len(word.split()) > 1:
        raise ExplanationError(f"{word!r} is {len(word.split())} words, and one is asked at a time.")
    listed = " ".join(among[:NEAR]) + (" ..." if len(among) > NEAR else "")
    raise ExplanationError(f"There is no word {word!r} among those that can be asked about: {listed}")
