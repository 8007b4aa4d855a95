"""Scores of texts whose value is known: from the reference programs, from the papers, or counted by hand."""

import json
import math
from types import SimpleNamespace
from typing import NamedTuple

import pytest
import torch

from vitrail.errors import ConfigError
from vitrail.evaluate.background import meaning
from vitrail.samples import Batch, Words
from vitrail.tasks.answers import (
    Answer,
    AnswerMetrics,
    SpanScores,
    best_span,
    exact_match,
    normalised,
    read_answer,
    word_f1,
)
from vitrail.tasks.language import foretold_where_asked
from vitrail.tasks.scores import in_words
from vitrail.tasks.task import Metrics
from vitrail.tasks.text_scores import (
    IGNORED,
    TagMetrics,
    TokenMetrics,
    TranslationMetrics,
    bleu,
    chrf,
    entities,
)
from vitrail.tasks.translate import Translate
from vitrail.tasks.translate_parallel import TranslateParallel


def batch_of(target):
    return Batch(torch.zeros(len(target)), target, torch.arange(len(target)))


# translation


@pytest.fixture(scope="module")
def published(shared):
    found = json.loads((shared / "golden" / "transformer" / "sacrebleu.json").read_text())
    references = [list(row) for row in zip(*found["references"], strict=True)]
    return found["hypotheses"], references, found["results"]


@pytest.mark.parametrize(
    ("case", "changes"),
    [
        ("bleu_13a", {}),
        ("bleu_intl", {"tokenize": "intl"}),
        ("bleu_char", {"tokenize": "char"}),
        ("bleu_none_lc", {"tokenize": "none", "lower_case": True}),
    ],
)
def test_bleu_and_its_signature_are_sacrebleus(published, case, changes):
    hypotheses, references, results = published
    score = bleu(hypotheses, references, **changes)
    assert score.value == pytest.approx(results[case]["score"], abs=1e-12)
    assert score.signature.rsplit("|", 1)[0] == results[case]["signature"].rsplit("|", 1)[0]
    assert score.parts["brevity_penalty"] == pytest.approx(results[case]["bp"], abs=1e-12)
    assert score.parts["precisions"] == pytest.approx(results[case]["precisions"])


def test_chrf_and_its_signature_are_sacrebleus(published):
    hypotheses, references, results = published
    for name, order in (("chrf", 0), ("chrf++", 2)):
        score = chrf(hypotheses, references, word_order=order)
        assert score.value == pytest.approx(results[name]["score"], abs=1e-12)
        assert score.signature.rsplit("|", 1)[0] == results[name]["signature"].rsplit("|", 1)[0]


def test_translations_are_scored_batch_by_batch_as_at_once(published):
    hypotheses, references, results = published
    metrics = TranslationMetrics(lambda batch: [references[index] for index in batch.index.tolist()])
    assert isinstance(metrics, Metrics)
    assert metrics.compute() == {"bleu": 0.0, "chrf": 0.0}
    for places in ([0, 1], [2, 3]):
        written = [SimpleNamespace(text=hypotheses[place]) for place in places]
        metrics.update(written, Batch(torch.zeros(2), None, torch.tensor(places)))
    assert metrics.compute()["bleu"] == pytest.approx(results["bleu_13a"]["score"])
    assert metrics.details()["signatures"]["bleu"].startswith("nrefs:2|case:mixed|eff:no|tok:13a|smooth:exp|version:")
    (counted,) = metrics.details()["remarks"]
    assert counted.startswith("Counted by sacrebleu: BLEU as nrefs:2|case:mixed|eff:no|tok:13a|smooth:exp|version:")
    assert " and chrF as nrefs:2|" in counted


def test_how_translations_were_written_is_said_with_their_scores():
    for task, said in (
        (Translate(), "Written greedily, the likeliest word each time (1 beam)."),
        (Translate(beams=4), "Written with 4 beams."),
        (TranslateParallel(steps=4, lengths=1), "Written all at once, in 4 steps, the best of 1 length."),
    ):
        assert task.metrics().details()["remarks"] == [said]


def test_a_batch_can_bring_its_references_along():
    metrics = TranslationMetrics()
    batch = Batch(torch.zeros(2), None, torch.arange(2), ["a b c d e", "f g h i j"])
    metrics.update([SimpleNamespace(text="a b c d e"), SimpleNamespace(text="f g h i j")], batch)
    assert metrics.compute() == {"bleu": pytest.approx(100), "chrf": pytest.approx(100)}


def test_the_same_words_are_a_hundred_and_none_are_nothing():
    assert bleu(["a b c d e"], [["a b c d e"]]).value == pytest.approx(100)
    assert bleu(["x y z v w"], [["a b c d e"]]).value == 0
    assert bleu([""], [["a b c d e"]]).value == 0
    with pytest.raises(ConfigError, match="no translations"):
        bleu([], [])
    with pytest.raises(ConfigError, match="same number of references"):
        bleu(["a", "b"], [["a"], ["b", "c"]])


# answers


@pytest.mark.parametrize(
    ("said", "truth", "exact", "f1"),
    [
        ("The Denver Broncos!", "denver broncos", 1, 1),
        ("Denver Broncos", "Broncos", 0, 2 / 3),
        ("a dog and a dog", "dog", 0, 0.5),
        ("U.S.", "us", 1, 1),
        ("the", "a", 1, 0),
        ("", "dog", 0, 0),
        ("theater", "the ater", 0, 0),
        ("1,000 men", "1000 men", 1, 1),
        ("well-known", "well known", 0, 0),
    ],
)
def test_answers_are_compared_as_squad_does(said, truth, exact, f1):
    assert exact_match(said, truth) == exact
    assert word_f1(said, truth) == pytest.approx(f1)


def test_normalising_takes_articles_as_words_alone():
    assert normalised("  The  theory,\nof an ANT -- a.  ") == "theory of ant"


class Reading(NamedTuple):
    """Four words of which the second is what is asked for, behind [CLS] q [SEP]."""

    question: int
    answers: tuple[str, ...]
    context: str = "the Denver Broncos won"
    offset: int = 3
    spans: tuple = ((0, 3), (4, 10), (11, 18), (19, 22))
    central: tuple = (True,) * 4


def pointing(first, last, score, before=0):
    """Scores of a row that point at two tokens of its context, and at [CLS] more than at anything."""
    start, end = torch.zeros(2, 8 + before)
    start[0] = end[0] = 99.0
    start[before + 3 + first] = end[before + 3 + last] = score
    return SpanScores(start, end)


def test_the_best_window_answers_and_the_kindest_truth_counts():
    metrics = AnswerMetrics()
    assert isinstance(metrics, Metrics)
    assert metrics.compute() == {"exact": 0.0, "f1": 0.0}
    broncos = ("Broncos", "Denver Broncos")
    readings = [Reading(0, broncos), Reading(0, broncos), Reading(1, ("won",))]
    valid = torch.tensor([[False] * 2 + [True] * 8] * 3)
    words = Words(torch.zeros(3, 10, dtype=torch.int64), valid)
    scores = [pointing(3, 3, 1.0, 2), pointing(0, 2, 2.0, 2), pointing(2, 3, 2.0, 2)]
    metrics.update(scores, Batch(words, None, torch.arange(3), readings))
    assert metrics.details() == {"questions": 2, "answers": {"0": "the Denver Broncos", "1": "Broncos won"}}
    assert metrics.compute() == {"exact": 0.5, "f1": pytest.approx((1 + 2 / 3) / 2)}
    assert read_answer(pointing(0, 2, 2.0), readings[0]) == Answer(0, "the Denver Broncos", 4.0, 0, 18)
    nowhere = readings[0]._replace(central=(False,) * 4)
    assert read_answer(pointing(0, 2, 2.0), nowhere) == Answer(0, "", -math.inf)
    with pytest.raises(ConfigError, match="no answer to compare"):
        metrics.count(Answer(5, "x", 1.0), ())


@pytest.mark.parametrize(
    ("context", "stretch", "answer"),
    [
        ("the Denverians won", (4, 10), "Denverians"),
        ("in 1998 they", (4, 6), "1998"),
        ("unhappily married", (2, 7), "unhappily"),
        ("a co-op won", (5, 7), "op"),  # marks part words
        ("東京に住む", (0, 2), "東京"),  # nothing parts them
        ("हिन्दी भाषा", (0, 3), "हिन्दी"),  # signs of vowels are parts of words
        ("the end", (4, 7), "end"),
    ],
)
def test_an_answer_has_whole_words(context, stretch, answer):
    reading = Reading(0, (), context, spans=(stretch,), central=(True,))
    found = read_answer(pointing(0, 0, 1.0), reading)
    assert found.text == context[found.start : found.end] == answer


def by_trying_all(start, end, central, longest):
    found = [
        (float(start[first] + end[last]), -first, -last)
        for first in range(len(start))
        for last in range(first, min(len(start), first + longest))
        if central[first]
    ]
    return max(found, default=None)


def test_the_best_span_is_what_trying_all_gives():
    generator = torch.Generator().manual_seed(0)
    for _ in range(200):
        start, end = torch.randn(2, 12, generator=generator)
        central = (torch.rand(12, generator=generator) > 0.3).tolist()
        best, expected = best_span(start, end, central, longest=4, places=12), by_trying_all(start, end, central, 4)
        if expected is None:
            assert best is None
        else:
            assert best is not None
            assert (best.first, best.last) == (-expected[1], -expected[2])
            assert best.score == pytest.approx(expected[0])
    assert best_span(torch.zeros(0), torch.zeros(0)) is None
    assert best_span(torch.tensor([0.0, 9.0]), torch.tensor([9.0, 0.0]), places=1) is None, (
        "it would end before it begins"
    )


# tokens


def test_perplexity_is_how_many_tokens_the_model_wavers_among():
    target = torch.tensor([[1, 2, IGNORED], [0, IGNORED, IGNORED]])
    metrics = TokenMetrics()
    assert isinstance(metrics, Metrics)
    metrics.update(foretold_where_asked(torch.zeros(3, 4), target), batch_of(target))
    assert metrics.compute() == {
        "perplexity": pytest.approx(4), "loss": pytest.approx(math.log(4)), "accuracy": pytest.approx(1 / 3),
    }  # fmt: skip
    assert metrics.details() == {"tokens": 3}


def test_bits_per_character_do_not_depend_on_how_text_is_cut_into_tokens():
    fine, coarse = TokenMetrics(), TokenMetrics()
    eight, four = torch.zeros(1, 8, dtype=torch.long), torch.zeros(1, 4, dtype=torch.long)
    fine.update(foretold_where_asked(torch.zeros(8, 2), eight), batch_of(eight)._replace(references=[8]))
    coarse.update(foretold_where_asked(torch.zeros(4, 4), four), batch_of(four)._replace(references=[8]))
    assert fine.compute()["bits_per_character"] == pytest.approx(1)
    assert coarse.compute()["bits_per_character"] == pytest.approx(1)
    assert "bits_per_character" not in TokenMetrics().compute()


def test_token_scores_are_torchs_cross_entropy():
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(4, 6, 9, generator=generator)
    target = torch.randint(0, 9, (4, 6), generator=generator).masked_fill(
        torch.rand(4, 6, generator=generator) < 0.4, IGNORED
    )
    metrics = TokenMetrics()
    for row in range(4):
        asked = target[row] != IGNORED
        one = target[row : row + 1]
        metrics.update(foretold_where_asked(logits[row, asked], one), batch_of(one))
    expected = torch.nn.functional.cross_entropy(logits.flatten(0, 1), target.flatten(), ignore_index=IGNORED)
    assert metrics.compute()["loss"] == pytest.approx(float(expected), rel=1e-6)
    asked = target != IGNORED
    assert metrics.compute()["accuracy"] == pytest.approx(
        float((logits.argmax(2)[asked] == target[asked]).float().mean())
    )


def test_a_hopeless_model_is_infinitely_perplexed_and_nothing_asked_is_no_error():
    target = torch.tensor([[0]])
    metrics = TokenMetrics()
    metrics.update(foretold_where_asked(torch.tensor([[-1e5, 1e5]]), target), batch_of(target))
    assert metrics.compute()["perplexity"] == math.inf
    assert TokenMetrics().compute() == {"perplexity": 1.0, "loss": 0.0, "accuracy": 0.0}


# tags


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ("B-PER I-PER O B-LOC", [("PER", 0, 2), ("LOC", 3, 4)]),
        ("B-PER B-PER", [("PER", 0, 1), ("PER", 1, 2)]),
        ("I-PER I-PER O I-LOC I-PER", [("PER", 0, 2), ("LOC", 3, 4), ("PER", 4, 5)]),
        ("S-PER B-LOC I-LOC E-LOC I-LOC", [("PER", 0, 1), ("LOC", 1, 4), ("LOC", 4, 5)]),
        ("O O", []),
        ("U-PER L-PER", [("PER", 0, 1), ("PER", 1, 2)]),
    ],
)
def test_names_begin_and_end_where_their_tags_say(tags, expected):
    assert [tuple(entity) for entity in entities(tags.split())] == expected


def test_a_name_counts_only_as_a_whole():
    classes = ("B-LOC", "B-PER", "I-PER", "O")
    metrics = TagMetrics(classes)
    assert isinstance(metrics, Metrics)
    number = classes.index
    truth = [number(tag) for tag in ["B-PER", "I-PER", "O", "B-LOC"]]
    said = [number(tag) for tag in ["B-PER", "O", "O", "B-LOC"]]
    target = torch.tensor([[IGNORED, *truth, IGNORED]])
    metrics.update([torch.tensor([0, *said, 0])], batch_of(target))
    scores = metrics.compute()
    assert scores == {"accuracy": 0.75, "precision": 0.5, "recall": 0.5, "f1": 0.5}
    table = {row["kind"]: row["f1"] for row in metrics.details()["names"]}
    assert table == {"LOC": 1.0, "PER": 0.0}


def test_tags_that_mark_no_names_are_scored_by_class():
    metrics = TagMetrics(("noun", "verb"))
    target = torch.tensor([[0, 1, 1, 1]])
    metrics.update([torch.tensor([0, 1, 1, 0])], batch_of(target))
    scores = metrics.compute()
    assert scores["accuracy"] == 0.75
    assert scores["recall"] == pytest.approx((1 + 2 / 3) / 2)


def test_every_score_of_texts_is_explained_to_whoever_reads_a_report():
    kinds = {"translate": TranslationMetrics(), "answer": AnswerMetrics(), "causal-lm": TokenMetrics()}
    kinds["tag"] = TagMetrics(("O", "B-PER"))
    scores = {(name, task): meaning(name, task) for task, metrics in kinds.items() for name in metrics.compute()}
    assert all(one.words for one in scores.values()), scores
    assert "all names together" in scores["f1", "tag"].words
    assert "share with the right ones" in scores["f1", "answer"].words
    assert "macro" in meaning("f1", "classify").name
    assert in_words("exact", 0.815) == in_words("accuracy", 0.815) == "81.5%"
    assert in_words("bleu", 34.123) == "34.12"
