"""Word vectors as the beginning of a model's word embedding."""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from jaxtyping import Float
from tokenizers import decoders
from torch import Tensor

from vitrail.errors import ConfigError
from vitrail.words.vectors import WordVectors

BYTES = "\u0120"  # before a piece that begins a word, where pieces are bytes, each spelled as some letter
MARKS = ("\u2581", BYTES)  # before a piece that begins a word: sentencepiece's, and that of byte pairs
CONTINUES = "##"  # before a piece that does not: BERT's
OFTEN = 0.02  # share of the pieces from which a mark is one, and not a letter of the text


class Filled(NamedTuple):
    """How much of an embedding was filled.

    Attributes:
        rows: that have a vector now.
        pieces: of the vocabulary that are whole words, and could have had one.
    """

    rows: int
    pieces: int


def whole_words(vocabulary: Mapping[str, int]) -> dict[str, int]:
    """The pieces of a vocabulary that begin a word, as words: `dog` for `\u2581dog`."""
    marked = {mark: sum(piece.startswith(mark) for piece in vocabulary) for mark in (CONTINUES, *MARKS)}
    mark = max(marked, key=lambda one: marked[one])
    if mark == CONTINUES or marked[mark] < OFTEN * len(vocabulary):
        return {piece: number for piece, number in vocabulary.items() if not piece.startswith(CONTINUES)}
    begun = {piece: number for piece, number in vocabulary.items() if piece.startswith(mark) and piece != mark}
    spell = decoders.ByteLevel() if mark == BYTES else decoders.Metaspace()
    words = {spell.decode([piece]).strip(): number for piece, number in begun.items()}
    return {word: number for word, number in words.items() if word and "\ufffd" not in word}  # not half a character


@torch.no_grad()
def initialise(
    table: Float[Tensor, "vocabulary dim"],
    vocabulary: Mapping[str, int],
    vectors: WordVectors,
    *,
    scale: bool = True,
) -> Filled:
    """Put the vectors of words into the rows of their pieces; other rows stay as they are.

    Args:
        table: the weight of a word embedding, or of the output where that is the same matrix: a row for each piece. It
            is changed in place, so that tied weights stay tied.
        vocabulary: the number of each piece.
        vectors: as wide as the table.
        scale: whether they are made as large as the rows they replace, on average, so that the model begins as it
            would have.

    Raises:
        ConfigError: the widths differ, or no piece is among the words.
    """
    if vectors.dim != table.shape[1]:
        raise ConfigError(
            f"The word vectors have {vectors.dim} numbers each, and this model's word embedding is {table.shape[1]} "
            f"wide. Train vectors with dim={table.shape[1]}."
        )
    words = whole_words(vocabulary)
    found = {
        number: vectors.number.get(word, vectors.number.get(word.lower()))
        for word, number in words.items()
        if number < table.shape[0]
    }
    rows = {number: row for number, row in found.items() if row is not None}
    if not rows:
        raise ConfigError("None of this model's pieces is a word among these vectors. Are they of the same language?")
    places = torch.tensor(list(rows), device=table.device)
    given = torch.from_numpy(vectors.vectors[list(rows.values())]).to(table)
    size = given.square().mean().sqrt()
    if scale and size > 0:
        given = given * (table[places].square().mean().sqrt() / size)
    table[places] = given
    return Filled(len(rows), len(words))
