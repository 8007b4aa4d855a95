"""Word vectors learned from a person's own text, by gensim.

Source: Mikolov et al., "Distributed Representations of Words and Phrases and their Compositionality", NIPS 2013
(skip-gram with negative sampling), and "Efficient Estimation of Word Representations in Vector Space", 2013 (CBOW).
"""

import re
from collections.abc import Iterable, Iterator
from typing import Literal

import numpy as np

from vitrail.errors import ConfigError, DataError
from vitrail.words.vectors import WordVectors

WORD = re.compile(r"[^\W_]+(?:['\u2019-][^\W_]+)*")
LONGEST_SENTENCE = 10_000  # words that gensim reads as one; what follows it would leave out without a word


def split_words(text: str) -> list[str]:
    """The words of a text in small letters, without punctuation; `don't` and `well-known` are one word."""
    return WORD.findall(text.lower())


class Sentences:
    """Texts as words, line by line, as often as they are wanted."""

    def __init__(self, texts: Iterable[str]) -> None:
        self.lines = [words for text in texts for line in text.split("\n") if (words := split_words(line))]

    def __iter__(self) -> Iterator[list[str]]:
        for words in self.lines:
            for first in range(0, len(words), LONGEST_SENTENCE):
                yield words[first : first + LONGEST_SENTENCE]


def train_word2vec(
    texts: Iterable[str],
    *,
    kind: Literal["skip-gram", "cbow"] = "skip-gram",
    dim: int = 100,
    window: int = 5,
    negative: int = 5,
    least: int = 5,
    epochs: int = 5,
    rate: float | None = None,
    sample: float = 1e-3,
    seed: int = 0,
) -> WordVectors:
    """Learn a vector for each word from the words around it.

    The same text and seed give the same vectors: one thread does the work.

    Args:
        texts: lines or whole documents; a window never crosses the end of a line.
        kind: foretell the words around from the one in the middle, or the other way.
        dim: numbers in a vector.
        window: words on each side, at most.
        negative: words drawn at random that it is told from.
        least: how often a word must occur.
        epochs: how often the text is read.
        rate: learning rate at the beginning; 0.025 for skip-gram and 0.05 for CBOW, unless given.
        sample: share of the text above which frequent words are left out now and then.
        seed: of the first vectors and of what is drawn.

    Raises:
        ConfigError: gensim is not installed, or a number makes no sense.
        DataError: no word occurs often enough.
    """
    try:
        from gensim.models import Word2Vec
    except ImportError as error:
        raise ConfigError(
            "Training word vectors needs gensim. Type: pip install vitrail[gensim] (gensim 4.4 has no build for Python "
            "3.14, where pip asks for a C compiler; 3.11 to 3.13 need none)."
        ) from error
    if min(dim, window, negative, least, epochs) < 1:
        raise ConfigError("dim, window, negative, least and epochs must be at least 1. Usual: 100, 5, 5, 5 and 5.")
    sentences = Sentences(texts)
    skip_gram = kind == "skip-gram"
    model = Word2Vec(
        vector_size=dim,
        window=window,
        negative=negative,
        min_count=least,
        sg=int(skip_gram),
        alpha=rate if rate is not None else 0.025 if skip_gram else 0.05,
        sample=sample,
        seed=seed + 1,  # gensim takes 0 for none given
        workers=1,
    )
    model.build_vocab(sentences)
    if not len(model.wv):
        raise DataError(
            f"No word occurs {least} times in this text. Give more text, or a smaller least (--set least=1)."
        )
    model.train(sentences, total_examples=model.corpus_count, epochs=epochs)
    return WordVectors(tuple(map(str, model.wv.index_to_key)), np.array(model.wv.vectors, dtype=np.float32))
