"""Word vectors answer as gensim's do, and their files are gensim's files."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from vitrail.words import WordVectors, judge_analogies, judge_likeness, read_vectors, write_vectors
from vitrail.words.judging import ranks

KeyedVectors = pytest.importorskip("gensim.models", reason="needs gensim, which has no build for 3.14").KeyedVectors
WORDS = ("the", "King", "queen", "man", "woman", "Paris", "France", "Rome", "Italy", "zürich", "don't", "x")


@pytest.fixture(scope="module")
def theirs():
    vectors = KeyedVectors(8)
    vectors.add_vectors(list(WORDS), np.random.default_rng(0).standard_normal((len(WORDS), 8)).astype(np.float32))
    return vectors


@pytest.fixture(scope="module")
def ours(theirs):
    return WordVectors(WORDS, theirs.vectors)


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("ending", ["", ".gz"])
def test_files_that_gensim_writes_are_read(theirs, tmp_path, binary, ending):
    path = tmp_path / f"vectors{ending}"
    theirs.save_word2vec_format(str(path), binary=binary)
    read = read_vectors(path)
    assert read.words == WORDS
    np.testing.assert_allclose(read.vectors, theirs.vectors, rtol=0 if binary else 1e-6)
    assert read_vectors(path, most=3).words == WORDS[:3]


def test_files_that_we_write_are_read_by_gensim_to_the_last_bit(ours, tmp_path):
    write_vectors(ours, tmp_path / "vectors.txt")
    back = KeyedVectors.load_word2vec_format(str(tmp_path / "vectors.txt"))
    assert tuple(back.index_to_key) == WORDS
    assert (back.vectors == ours.vectors).all()
    assert (read_vectors(tmp_path / "vectors.txt").vectors == ours.vectors).all()


def test_gloves_files_have_no_first_line_and_blanks_in_words(tmp_path):
    (tmp_path / "glove.txt").write_text("the 0.5 -1 2e-1\n. . . 1 2 3\n", encoding="utf-8")
    read = read_vectors(tmp_path / "glove.txt")
    assert read.words == ("the", ". . .")
    np.testing.assert_allclose(read.vectors, [[0.5, -1, 0.2], [1, 2, 3]], rtol=1e-6)


def test_nearest_words_and_analogies_are_gensims(ours, theirs):
    for word in WORDS:
        near = ours.nearest(word, 5)
        assert [(one.word, pytest.approx(one.similarity, abs=1e-6)) for one in near] == theirs.most_similar(
            word, topn=5
        )
    for first, second, third in (("man", "King", "woman"), ("Paris", "France", "Rome")):
        said = [one.word for one in ours.analogy(first, second, third, 4)]
        assert said == [word for word, _ in theirs.most_similar(positive=[third, second], negative=[first], topn=4)]
    assert ours.similarity("man", "x") == pytest.approx(theirs.similarity("man", "x"), abs=1e-6)


def test_analogies_and_likeness_are_judged_as_gensim_judges(tmp_path, shared):
    folder = shared / "data" / "text" / "word_similarity"
    names = ("questions-words.txt", "simlex999.txt", "wordsim353.tsv")
    words = {word for name in names for word in (folder / name).read_text().lower().split()} - {":"}
    draw = np.random.default_rng(1)
    chosen = tuple(word for number, word in enumerate(sorted(words)) if number % 4)
    base = draw.standard_normal((len(chosen), 6)).astype(np.float32)
    theirs = KeyedVectors(6)
    theirs.add_vectors(list(chosen), base)
    ours = WordVectors(chosen, base)
    score, sections = theirs.evaluate_word_analogies(str(folder / "questions-words.txt"))
    found = judge_analogies(ours, folder / "questions-words.txt")
    assert sum(section.right for section in found) / sum(section.asked for section in found) == pytest.approx(score)
    for section, expected in zip(found, [one for one in sections if one["section"] != "Total accuracy"], strict=True):
        assert (section.right, section.asked) == (
            len(expected["correct"]), len(expected["correct"]) + len(expected["incorrect"]),
        )  # fmt: skip
    for name in ("simlex999.txt", "wordsim353.tsv"):
        _, spearman, missing = theirs.evaluate_word_pairs(str(folder / name))
        likeness = judge_likeness(ours, folder / name)
        assert likeness.spearman == pytest.approx(spearman[0], abs=1e-9)
        assert likeness.unknown / (likeness.pairs + likeness.unknown) == pytest.approx(missing / 100)


def test_ranks_are_scipys_with_ties():
    draw = np.random.default_rng(2)
    for _ in range(20):
        one, other = draw.integers(0, 6, 30).astype(float), draw.standard_normal(30)
        ours = np.corrcoef(ranks(one), ranks(other))[0, 1]
        assert ours == pytest.approx(spearmanr(one, other).statistic, abs=1e-12)
