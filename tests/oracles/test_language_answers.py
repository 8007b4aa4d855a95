"""What models of language say of texts where their tables of words and their tokenizers differ in size."""

from types import SimpleNamespace

import pytest
import torch

from vitrail import create_model
from vitrail.decoding.write import Written
from vitrail.generation import Generation
from vitrail.tasks.language import CausalLanguage, MaskedLanguage
from vitrail.tasks.translate import sentences
from vitrail.tokenizing import train_byte_pairs, train_word_pieces
from vitrail.weights.card import Card

TEXT = "the cat sat on the mat and the dog lay on the cat " * 3
MORE = 6  # rows of a table beyond the tokenizer


def guesser(logits, reads):
    """A model that takes every hidden word for the same."""
    return SimpleNamespace(
        card=SimpleNamespace(preprocessing=reads),
        encode=lambda *inputs: SimpleNamespace(x=inputs[0][..., None]),
        missing=lambda x: logits.expand(len(x), -1),
    )


def test_a_hidden_word_is_never_taken_for_one_without_a_piece():
    reads = train_word_pieces([TEXT], size=60)
    logits = torch.zeros(reads.size + MORE)
    logits[reads.size :], logits[reads.id_of("cat")] = 9.0, 5.0
    [filled] = MaskedLanguage().predict(guesser(logits, reads), reads(["the [MASK] sat"]))
    assert filled.text == "the cat sat"
    [(piece, share), *_] = filled.guesses[0].pieces
    assert piece == "cat"
    assert share == pytest.approx(float(logits.softmax(0)[reads.id_of("cat")]))  # of all that the model takes it for


def test_a_vocabulary_of_few_words_has_as_many_guesses():
    reads = train_word_pieces([TEXT], size=60)
    logits = torch.arange(7.0)
    [filled] = MaskedLanguage().predict(guesser(logits, reads), reads(["the [MASK] sat"]))
    assert len(filled.guesses[0].pieces) == 7


def test_a_word_without_a_piece_says_nothing():
    reads = train_byte_pairs([TEXT], size=280, max_tokens=32)
    model = create_model(
        "gpt-mini", vocabulary=reads.size + MORE, depth=1, dim=16, heads=2, mlp_dim=16, max_tokens=32
    ).eval()
    with torch.no_grad():
        model.words.weight.zero_()
    model.card = Card(model="gpt-mini", preprocessing=reads, generation=Generation(max_tokens=20), task="causal-lm")
    drawn = CausalLanguage(generation=Generation(max_tokens=30, sample=True), seed=0)
    words = drawn.words(reads, ["the"])
    [sentence] = drawn.predict(model, words)  # one word in fifty, about, is none
    cat = reads.encode_all(["the cat"], around=False)[0]
    ids = torch.tensor([[reads.size, *cat, reads.size + MORE - 1]])
    assert isinstance(sentence.text, str)
    assert sentences(model, Written(ids, torch.ones_like(ids).bool()))[0].text == "the cat"


def test_a_seed_may_be_any_number():
    reads = train_byte_pairs([TEXT], size=280, max_tokens=32)
    model = create_model("gpt-mini", vocabulary=reads.size, depth=1, dim=16, heads=2, mlp_dim=16, max_tokens=32).eval()
    model.card = Card(model="gpt-mini", preprocessing=reads, generation=Generation(max_tokens=9), task="causal-lm")
    texts = []
    for seed in (2**70 + 3, 3, 4):
        task = CausalLanguage(generation=Generation(max_tokens=9, sample=True), seed=seed)
        texts.append(task.predict(model, task.words(reads, ["the"]))[0].text)
    assert texts[0] == texts[1] != texts[2]
