"""Text into the pieces that a model reads, and back: tokenizers in a card, in files, and trained on a person's text."""

from vitrail.tokenizing.engines import Encoded
from vitrail.tokenizing.preprocessing import BETWEEN, TextPreprocessing, joined
from vitrail.tokenizing.reading import find_tokenizer, from_json, from_merges, from_sentence_pieces, from_word_list
from vitrail.tokenizing.training import train_byte_pairs, train_joint, train_word_pieces

__all__ = [
    "BETWEEN",
    "Encoded",
    "TextPreprocessing",
    "find_tokenizer",
    "from_json",
    "from_merges",
    "from_sentence_pieces",
    "from_word_list",
    "joined",
    "train_byte_pairs",
    "train_joint",
    "train_word_pieces",
]
