"""Word vectors whose neighbours are known, trained, judged, drawn and put into models."""

import struct
import sys

import numpy as np
import pytest
import torch
from torch import nn

from needs import GENSIM
from vitrail.errors import ConfigError, DataError
from vitrail.loading import create_model
from vitrail.words import (
    WordVectors,
    draw_map,
    initialise,
    judge_analogies,
    judge_likeness,
    place_words,
    read_vectors,
    split_words,
    train_word2vec,
    write_vectors,
)
from vitrail.words.embedding import whole_words
from vitrail.words.map import label_box, label_shifts


@pytest.fixture
def royal():
    """Man and woman differ as king and queen do."""
    rows = {"man": [1, 0, 0], "woman": [1, 1, 0], "king": [1, 0, 1], "queen": [1, 1, 1], "apple": [-1, 0.2, -1]}
    return WordVectors(tuple(rows), np.array(list(rows.values()), dtype=np.float32))


def test_man_is_to_king_as_woman_to_queen(royal):
    assert royal.analogy("man", "king", "woman")[0].word == "queen"
    assert royal.nearest("king", 2)[0].word == "queen"
    assert [near.word for near in royal.nearest("king", 99)][-1] == "apple"
    assert royal.nearest("King", 1) == royal.nearest("king", 1)
    assert "apple" in royal
    assert royal["apple"].tolist() == pytest.approx([-1, 0.2, -1])
    with pytest.raises(ConfigError, match=r"no word among these vectors called 'kin'. Did you mean king"):
        royal.nearest("kin")


def test_analogies_count_sections_and_unknown_words(royal, tmp_path):
    (tmp_path / "q.txt").write_text(": royal\nMan King Woman Queen\nman king woman apple\n: none\nman king cat dog\n")
    assert [tuple(section) for section in judge_analogies(royal, tmp_path / "q.txt")] == [
        ("royal", 1, 2, 0), ("none", 0, 0, 1),
    ]  # fmt: skip
    (tmp_path / "p.tsv").write_text("# remark\nman\twoman\t9\nking\tqueen\t9.5\nman\tapple\t1\nman\tcat\t4\n")
    likeness = judge_likeness(royal, tmp_path / "p.tsv")
    assert (likeness.pairs, likeness.unknown, likeness.spearman) == (3, 1, pytest.approx(1))


@GENSIM
def test_another_spelling_of_a_word_asked_with_is_no_answer_as_in_gensim(tmp_path):
    """Where two spellings of a word have vectors, as in files that keep capitals."""
    from gensim.models import KeyedVectors

    draw = np.random.default_rng(0)
    names = [f"w{number}" for number in range(24)]
    words = [*names, *(name.upper() for name in draw.permutation(names)[:16])]
    vectors = draw.standard_normal((len(words), 6)).astype(np.float32)
    vectors[24:] = vectors[[names.index(word.lower()) for word in words[24:]]] + 0.3 * vectors[24:]
    questions = [draw.choice(names, 3, replace=False).tolist() for _ in range(200)]
    target = [vectors[names.index(b)] - vectors[names.index(a)] + vectors[names.index(c)] for a, b, c in questions]
    close = (np.array(target) @ vectors[:24].T).argsort(axis=1)[:, ::-1]
    asked = [" ".join([*three, names[best[draw.integers(3)]]]) for three, best in zip(questions, close, strict=True)]
    path = tmp_path / "questions.txt"
    path.write_text("\n".join([": all", *asked]))

    theirs = KeyedVectors(6)
    theirs.add_vectors(words, vectors)
    _, [section, _] = theirs.evaluate_word_analogies(str(path), case_insensitive=True, dummy4unknown=False)
    [ours] = judge_analogies(WordVectors(tuple(words), vectors), path)
    assert (ours.right, ours.asked) == (len(section["correct"]), len(section["correct"]) + len(section["incorrect"]))
    assert 0 < ours.right < ours.asked


def test_words_are_small_letters_without_punctuation():
    assert split_words("Don't PANIC -- it's well-known, élan_2!") == [
        "don't",
        "panic",
        "it's",
        "well-known",
        "élan",
        "2",
    ]


WORLDS = (["dog", "cat", "cow", "horse", "sheep", "goat"], ["train", "bus", "car", "tram", "ship", "plane"])


def two_worlds():
    """Sentences about animals, and sentences about what one travels in."""
    draw = np.random.default_rng(0)
    return [" ".join(draw.choice(WORLDS[number % 2], 8)) for number in range(600)]


@GENSIM
@pytest.mark.parametrize("kind", ["skip-gram", "cbow"])
def test_words_of_one_world_come_near_to_each_other(kind):
    settings = {"kind": kind, "dim": 8, "epochs": 8, "rate": 0.05, "sample": 0}
    vectors = train_word2vec(two_worlds(), seed=1, **settings)
    for world in WORLDS:
        for word in world:
            assert {near.word for near in vectors.nearest(word, 5)} == set(world) - {word}
    again = train_word2vec(two_worlds(), seed=1, **settings)
    assert again.words == vectors.words
    assert (again.vectors == vectors.vectors).all()
    assert not (train_word2vec(two_worlds(), seed=2, **settings).vectors == vectors.vectors).all()


@GENSIM
def test_training_on_nothing_is_one_sentence():
    with pytest.raises(DataError, match="No word occurs 5 times"):
        train_word2vec(["only a few words"])
    with pytest.raises(ConfigError, match="at least 1"):
        train_word2vec(two_worlds(), dim=0)


def test_without_gensim_the_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "gensim.models", None)
    with pytest.raises(ConfigError, match=r"pip install vitrail\[gensim\]"):
        train_word2vec(two_worlds())


@pytest.mark.parametrize(
    ("vocabulary", "words"),
    [
        ({"[PAD]": 0, "king": 1, "##s": 2, "Queen": 3}, {"[PAD]": 0, "king": 1, "Queen": 3}),
        ({"<s>": 0, "▁king": 1, "s": 2, "▁Queen": 3, "▁": 4}, {"king": 1, "Queen": 3}),
        ({"Ġking": 1, "s": 2, "ĠQueen": 3, "Ġ": 4}, {"king": 1, "Queen": 3}),
    ],
)
def test_an_embedding_begins_with_the_vectors_of_its_words(royal, vocabulary, words):
    assert whole_words(vocabulary) == words
    embedding = nn.Embedding(6, 3)
    tied = nn.Linear(3, 6, bias=False)
    tied.weight = embedding.weight
    before = embedding.weight.detach().clone()
    filled = initialise(embedding.weight, vocabulary, royal, scale=False)
    assert (filled.rows, filled.pieces) == (2, len(words))
    assert embedding.weight[1].tolist() == [1, 0, 1]
    assert embedding.weight[3].tolist() == [1, 1, 1]
    assert embedding.weight[[0, 2, 4, 5]].equal(before[[0, 2, 4, 5]])
    assert tied.weight is embedding.weight


@pytest.mark.parametrize(
    ("pieces", "words"),
    [
        (
            ["dog", "##s", "##ed", "\u2581", "Ġgħandha"],
            ["dog", "\u2581", "Ġgħandha"],
        ),  # letters of the text, and no marks
        (
            ["dog", "hält", "\u2581", *(f"w{n}" for n in range(60))],
            ["dog", "hält", "\u2581", *(f"w{n}" for n in range(60))],
        ),
        (["Ġdog", "ĠhÃ¤lt", "Ã", "Ġ", "##"], ["dog", "hält"]),  # bytes as GPT-2 spells them
    ],
)
def test_a_mark_is_told_from_a_letter_and_bytes_are_read(pieces, words):
    assert [*whole_words({piece: number for number, piece in enumerate(pieces)})] == words


def test_a_table_that_is_also_the_output_can_begin_with_vectors(royal):
    gpt = create_model("gpt-mini", vocabulary=6, max_tokens=4, dim=3, depth=1, heads=1, mlp_dim=4)
    translator = create_model(
        "transformer-tiny", source_vocabulary=6, target_vocabulary=6, dim=3, encoder_heads=1, decoder_heads=1
    )
    for table in (gpt.words.weight, translator.target_table):
        assert initialise(table, {"king": 1, "queen": 3}, royal, scale=False).rows == 2
        assert table[1].tolist() == [1, 0, 1]


def test_filled_rows_are_as_large_as_those_they_replace(royal):
    embedding = nn.Embedding(4, 3)
    nn.init.normal_(embedding.weight, std=0.02, generator=torch.Generator().manual_seed(0))
    size = embedding.weight[[1, 3]].square().mean().item()
    initialise(embedding.weight, {"king": 1, "queen": 3}, royal)
    assert embedding.weight[[1, 3]].square().mean().item() == pytest.approx(size)
    assert torch.cosine_similarity(embedding.weight[1], torch.tensor([1.0, 0, 1]), dim=0).item() == pytest.approx(1)
    with pytest.raises(ConfigError, match="3 numbers each, and this model's word embedding is 4 wide"):
        initialise(torch.zeros(4, 4), {"king": 1}, royal)
    with pytest.raises(ConfigError, match="None of this model's pieces"):
        initialise(torch.zeros(4, 3), {"Hund": 1}, royal)


def test_a_map_keeps_what_lies_in_a_plane_and_is_always_the_same():
    draw = np.random.default_rng(3)
    flat = np.concatenate([np.ones((6, 1)), 0.1 * draw.standard_normal((6, 2)), np.zeros((6, 4))], axis=1)
    vectors = WordVectors(tuple("abcdef"), flat)
    places, share = place_words(vectors, "abcdef")
    assert share == pytest.approx(1, abs=0.02)
    chosen = vectors.units - vectors.units.mean(axis=0)
    apart = np.linalg.norm(chosen[:, None] - chosen[None], axis=2)
    np.testing.assert_allclose(np.linalg.norm(places[:, None] - places[None], axis=2), apart, atol=0.01)
    assert np.ptp(places[:, 0]) > np.ptp(places[:, 1])
    turned = WordVectors(vectors.words, vectors.vectors @ np.linalg.qr(draw.standard_normal((7, 7)))[0])
    np.testing.assert_allclose(place_words(turned, "abcdef").places, places, atol=1e-5)
    with pytest.raises(ConfigError, match="at least 3"):
        place_words(vectors, ["a", "b", "a"])


def test_a_map_shows_each_word_once_and_joins_pairs(royal):
    figure = draw_map(royal, ["apple", "man"], arrows=[("man", "king"), ("woman", "queen")])
    written = [text.get_text() for text in figure.axes[0].texts]
    assert sorted(filter(None, written)) == ["apple", "king", "man", "queen", "woman"]
    assert len([text for text in written if not text]) == 2


def test_words_of_a_map_do_not_cover_each_other():
    words, dots = ["close", "closer", "closest"], np.array([[0.0, 0.0], [8.0, 2.0], [4.0, -3.0]])
    boxes = [label_box(*each) for each in zip(words, dots, label_shifts(words, dots), strict=True)]
    assert sum(one.shared(other) for one in boxes for other in boxes if one is not other) == 0


BAD = {
    "empty.txt": (b"", "holds no word vectors"),
    "none.txt": (b"3 4\n", "promises 3 words and holds 0|ends"),
    "short.txt": (b"3 2\na 1 2\nb 3 4\n", "promises 3 words and holds 2"),
    "narrow.txt": (b"2 3\na 1 2 3\nb 3 4\n", r"narrow.txt:3: 2 numbers where 3 were expected"),
    "letters.txt": (b"a 1 2\nb 3 x\n", r"letters.txt:2: could not convert"),
    "nan.txt": (b"a 1 2\nb nan 4\n", "'b' holds a number that is none"),
    "huge.txt": (b"99999999999 300\na 1\n", "promises 99,999,999,999 words"),
    "wide.bin": (b"1 99999999\n", "promises 1 words of 99,999,999 numbers"),
    "cut.bin": (
        b"2 2\na " + struct.pack("<2f", 1, 2) + b"\nb \x01",
        "ends within the vector of word 2 of 2",
    ),
    "lost.bin": (b"2 2\n" + b"\x01\xff" * 9000, "loses its way, at word 1 of 2"),
    "line.txt": (b"a" * (1 << 20), "line of more than"),
    "bad.txt.gz": (b"no gzip", "damaged gzip"),
}


@pytest.mark.parametrize("name", BAD)
def test_each_fault_of_a_file_is_one_sentence(tmp_path, name):
    content, words = BAD[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=words) as raised:
        read_vectors(tmp_path / name)
    assert len(str(raised.value)) < 300


def test_words_with_blanks_cannot_be_written_and_doubles_are_read_once(royal, tmp_path):
    with pytest.raises(ConfigError, match="holds a blank"):
        write_vectors(WordVectors((". .",), np.zeros((1, 2), dtype=np.float32)), tmp_path / "x.txt")
    (tmp_path / "x.txt").write_text("2 1\na 1\na 2\n")
    assert read_vectors(tmp_path / "x.txt").vectors.tolist() == [[1]]
    with pytest.raises(DataError, match="twice"):
        WordVectors(("a", "a"), np.zeros((2, 2)))
    with pytest.raises(DataError, match="one for each"):
        WordVectors(("a",), np.zeros((2, 2)))
    (tmp_path / "q.txt").write_text(": s\none two\n")
    with pytest.raises(DataError, match=r"q.txt:2: 'one two' is not four words"):
        judge_analogies(royal, tmp_path / "q.txt")
    (tmp_path / "p.txt").write_text("one two 3\n")
    with pytest.raises(DataError, match=r"p.txt:1: .* separated by tabs"):
        judge_likeness(royal, tmp_path / "p.txt")
    (tmp_path / "p.txt").write_text("one\ttwo\t3\n")
    with pytest.raises(DataError, match="too few to compare"):
        judge_likeness(royal, tmp_path / "p.txt")
