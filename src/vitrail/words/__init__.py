"""Word vectors: learned from a person's text, read and written, asked, judged, and put into models."""

from vitrail.words.embedding import Filled, initialise
from vitrail.words.files import read_vectors, write_vectors
from vitrail.words.judging import Likeness, Section, judge_analogies, judge_likeness, judge_words
from vitrail.words.map import draw_map, place_words
from vitrail.words.training import split_words, train_word2vec
from vitrail.words.vectors import Near, WordVectors

__all__ = [
    "Filled",
    "Likeness",
    "Near",
    "Section",
    "WordVectors",
    "draw_map",
    "initialise",
    "judge_analogies",
    "judge_likeness",
    "judge_words",
    "place_words",
    "read_vectors",
    "split_words",
    "train_word2vec",
    "write_vectors",
]
