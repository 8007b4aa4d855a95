"""Batches of texts whose tokens are known: what is read, what it is compared with, and in what order."""

import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from vitrail.data.dataset import Subset
from vitrail.data.material import Texts as Material
from vitrail.data.open import open_dataset
from vitrail.data.text.answering import Questions
from vitrail.data.text.batches import TextLoader, cut_by_tokens
from vitrail.data.text.dataset import Labelled, Pair, Passage, Question, Tagged, Texts
from vitrail.data.text.prepared import IGNORED
from vitrail.data.text.uses import Causal, Classification, Masked, Tagging, Translation
from vitrail.errors import ConfigError, DataError
from vitrail.samples import Batch, Words
from vitrail.tasks.answers import AnswerMetrics, SpanScores
from vitrail.tokenizing import from_json, from_word_list, train_byte_pairs, train_word_pieces
from vitrail.tokenizing.windows import Slice, answer_tokens, most_central, slices

LETTERS = "abcdefghij"


def words_json(words):
    """A tokenizer of whole words, so that every id is known: <pad> 0, <unk> 1, <s> 2, </s> 3, and the words from 4."""
    special = ["<pad>", "<unk>", "<s>", "</s>"]
    end = {"SpecialToken": {"id": "</s>", "type_id": 0}}
    return json.dumps({
        "version": "1.0",
        "added_tokens": [
            {"id": number, "content": token, "single_word": False, "lstrip": False, "rstrip": False,
             "normalized": False, "special": True}
            for number, token in enumerate(special)
        ],
        "normalizer": None, "pre_tokenizer": {"type": "WhitespaceSplit"}, "decoder": None,
        "post_processor": {
            "type": "TemplateProcessing", "single": [{"Sequence": {"id": "A", "type_id": 0}}, end],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}, end],
            "special_tokens": {"</s>": {"id": "</s>", "ids": [3], "tokens": ["</s>"]}},
        },
        "model": {"type": "WordLevel", "unk_token": "<unk>",
                  "vocab": {word: number for number, word in enumerate([*special, *words])}},
    })  # fmt: skip


@pytest.fixture
def plain():
    """a is 4, b is 5, and so on."""
    return from_json(words_json(LETTERS), max_tokens=16)


@pytest.fixture
def bert():
    """[PAD] 0, [UNK] 1, [CLS] 2, [SEP] 3, [MASK] 4, then the words; `##s` is a piece of its own."""
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *LETTERS, "dog", "##s", "who", "?", "."]
    return from_word_list("\n".join(pieces), max_tokens=16)


def pairs(*sides):
    return Texts([Pair(f"pair {n}", *pair) for n, pair in enumerate(sides)], "translate", ("de", "en"))


def passages(*texts, document=0):
    return Texts([Passage(f"line {n}", text, document, n) for n, text in enumerate(texts)], "language")


# what each use makes of a text


def test_a_translation_begins_with_the_start_and_ends_with_the_end(plain):
    batch = Translation(pairs(("a b c", "d"), ("a", "e f")), plain).batch(np.array([0, 1]))
    assert batch.inputs.ids.tolist() == [[4, 5, 6, 3], [4, 3, 0, 0]]
    assert batch.inputs.valid.tolist() == [[True] * 4, [True, True, False, False]]
    assert isinstance(batch.target, Words)
    assert batch.target.ids.tolist() == [[2, 7, 3, 0], [2, 8, 9, 3]]
    assert batch.target.valid.tolist() == [[True, True, True, False], [True] * 4]
    assert batch.index.tolist() == [0, 1]


def test_a_translation_may_begin_with_the_padding_and_its_padding_stays_behind(plain):
    left = replace(plain, padding="left")
    batch = Translation(pairs(("a b", "d"), ("a", "e f")), replace(left, start_token="<pad>")).batch(np.array([0, 1]))
    assert batch.inputs.ids.tolist() == [[4, 5, 3], [0, 4, 3]]
    assert batch.target.ids.tolist() == [[0, 7, 3, 0], [0, 8, 9, 3]]
    assert batch.target.valid.tolist() == [[True, True, True, False], [True] * 4]


def test_a_share_of_the_sources_loses_its_capitals_by_nothing_but_the_numbers():
    cased = from_json(words_json("abAB"), max_tokens=16)  # a is 4, A is 6
    use = Translation(pairs(*[("A b", "A")] * 400), cased, uncased=0.25)
    everyone = np.arange(400)
    first, later = (use.batch(everyone, seed=3, epoch=epoch) for epoch in (0, 1))
    assert all(70 < int((batch.inputs.ids[:, 0] == 4).sum()) < 130 for batch in (first, later))
    assert not torch.equal(first.inputs.ids, later.inputs.ids)
    assert torch.equal(first.inputs.ids[5:9], use.batch(everyone[5:9], seed=3, epoch=0).inputs.ids)
    assert (first.target.ids == torch.tensor([2, 6, 3])).all()  # what is written keeps its capitals
    judged = Translation(pairs(("A b", "A")), cased).batch(everyone[:1], seed=3, epoch=0)
    assert judged.inputs.ids.tolist() == [[6, 5, 3]]


def test_a_length_or_a_share_without_capitals_is_refused_where_it_means_nothing():
    with pytest.raises(ConfigError, match=r"data\.length=50 .* only for 'causal-lm' and 'masked-lm'"):
        Material(path="texts", use="translate", length=50)
    with pytest.raises(ConfigError, match=r"data\.uncased=0\.2 .* only for 'translate' and 'translate-parallel'"):
        Material(path="texts", use="classify", uncased=0.2)


def test_a_fresh_translator_learns_pieces_for_sentences_without_capitals(plain):
    texts = pairs(*[("Zaun Zaun", "Hof")] * 20)
    pieces = [
        Material(path="texts", use="translate", vocabulary=300, uncased=share)
        .equipped(texts, plain)
        .card["preprocessing"]
        .vocabulary
        for share in (0.0, 0.2)
    ]
    assert [any(piece.endswith("zaun") for piece in found) for found in pieces] == [False, True]


def test_pairs_that_are_too_long_are_left_out_and_counted(plain):
    long = " ".join("a" * 30)
    use = Translation(pairs((long, "a"), ("a", long), ("a", "b")), plain)
    assert (use.left_out, len(use.pairs), use.describe(0)) == (2, 1, "pair 2")
    assert use.lost == "2 of 3 sentence pairs are left out: longer than the 16 tokens of this model."
    assert TextLoader(use, 64).lost == use.lost
    assert Translation(pairs(("a", "b")), plain).lost == ""
    assert use.references([0]) == ["b"]
    with pytest.raises(DataError, match="All 1 sentence pairs"):
        Translation(pairs((long, "a")), plain)
    with pytest.raises(ConfigError, match="start_token"):
        Translation(pairs(("a", "b")), replace(plain, start_token=None))


def test_blocks_of_running_text_lose_nothing_and_foretell_the_next_token(plain):
    use = Causal(passages("a b c d e f g"), plain, length=3)
    batch = use.batch(np.arange(3))
    assert batch.inputs.ids.tolist() == [[4, 5, 6], [7, 8, 9], [10, 0, 0]]
    assert batch.target.tolist() == [[5, 6, 7], [8, 9, 10], [3, IGNORED, IGNORED]]
    assert batch.references == [len("b c d"), len("e f g"), 0]
    assert use.lengths.tolist() == [3, 3, 1]


def test_an_end_stands_only_where_the_text_does_not_go_on(plain):
    texts = [Passage("", "a b", 0, 0), Passage("", "c", 0, 1), Passage("", "d", 0, 3), Passage("", "e", 1, 4)]
    use = Causal(Texts(texts, "language"), plain)
    assert use.stream.values.tolist() == [4, 5, 6, 3, 7, 3, 8, 3]


def test_shifted_blocks_begin_elsewhere_in_each_epoch_and_stay_inside(plain):
    text = " ".join(LETTERS[n % 10] for n in range(60))
    use = Causal(passages(text), plain, length=8, shift=True)
    everything = np.arange(len(use.lengths))
    firsts = set()
    for epoch in range(30):
        batch = use.batch(everything, seed=1, epoch=epoch)
        firsts.add(int(batch.inputs.ids[0, 0]))
        assert batch.inputs.valid.sum() == use.lengths.sum() == (batch.target != IGNORED).sum()
        assert batch.inputs.ids[0, 1] == batch.target[0, 0]
        assert batch.inputs.ids.equal(use.batch(everything, seed=1, epoch=epoch).inputs.ids)
        assert batch.references is None, "counted where it is judged"
    assert len(firsts) > 4


def test_hidden_words_are_15_percent_of_which_80_are_masks_and_10_random(bert):
    use = Masked(passages(*[" ".join(LETTERS[n % 10] for n in range(14))] * 400), bert)
    batch = use.batch(np.arange(400), seed=3, epoch=1)
    asked = batch.target != IGNORED
    assert (asked.sum(dim=1) == 2).all(), "15 % of 14"
    original = torch.where(asked, batch.target, batch.inputs.ids)
    assert original.equal(torch.tensor([[2, *(5 + n % 10 for n in range(14)), 3]] * 400))
    shown = batch.inputs.ids[asked]
    masks, kept = (shown == 4).float().mean(), (shown == batch.target[asked]).float().mean()
    assert 0.76 < masks < 0.84
    assert 0.07 < kept < 0.14, "10 % kept, and a few random ones that hit the same"
    assert not asked[:, [0, -1]].any(), "special tokens are never asked for"


def test_what_is_hidden_depends_on_seed_epoch_and_row_and_on_nothing_else(bert):
    use = Masked(passages(*[" ".join(LETTERS)] * 20), bert)
    alone = [use.batch(np.array([row]), 1, 2).target[0] for row in range(20)]
    together = use.batch(np.arange(20)[::-1].copy(), 1, 2).target
    assert all(together[19 - row].equal(alone[row]) for row in range(20))
    assert not use.batch(np.arange(20), 1, 3).target.equal(together.flip(0))
    assert not use.batch(np.arange(20), 2, 2).target.equal(together.flip(0))
    assert len({tuple(row.tolist()) for row in together}) > 5


def test_rows_of_hidden_words_are_whole_lines_as_many_as_fit(bert):
    use = Masked(passages("a b c\nd e\n\n" + " ".join("f" * 20) + "\ng\n"), replace(bert, max_tokens=7))
    rows = [use.rows[row].tolist() for row in range(len(use.rows))]
    assert rows == [
        [2, 5, 6, 7, 8, 9, 3],
        *[[2, *[10] * 5, 3]] * 3,
        [2, *[10] * 5, 11, 3][:1] + [10] * 5 + [3],
        [2, 11, 3],
    ]


def test_labels_are_numbers_or_ones(bert):
    texts = [Labelled("one", "a b", 1), Labelled("two", "a " * 40, 0)]
    use = Classification(Texts(texts, "classify-text", ("x", "y")), bert)
    batch = use.batch(np.array([0, 1]))
    assert batch.target.tolist() == [1, 0]
    assert batch.inputs.ids[0, :4].tolist() == [2, 5, 6, 3]
    assert batch.inputs.ids.shape == (2, 16)
    assert batch.inputs.ids[1, -1] == 3
    assert use.lost == "Of 1 of 2 texts only the beginning is read: longer than the 16 tokens of this model."
    texts = [Labelled("one", "a", (0, 2), "b"), Labelled("two", "a", ())]
    batch = Classification(Texts(texts, "classify-text", ("x", "y", "z"), True), bert).batch(np.array([0, 1]))
    assert batch.target.tolist() == [[1, 0, 1], [0, 0, 0]]
    assert batch.inputs.ids[0].tolist() == [2, 5, 3, 6, 3]
    assert batch.inputs.segments[0].tolist() == [0, 0, 0, 1, 1]


def test_a_words_tag_stands_at_its_first_piece(bert):
    use = Tagging(Texts([Tagged("one", ("dogs", "a", "☃"), (1, 0, 2))], "tag", ("O", "B-X", "I-X")), bert)
    batch = use.batch(np.array([0]))
    assert batch.inputs.ids.tolist() == [[2, 15, 16, 5, 1, 3]]
    assert batch.target.tolist() == [[IGNORED, 1, IGNORED, 0, 2, IGNORED]]
    long = Tagging(Texts([Tagged("one", tuple("a" * 30), (0,) * 30)], "tag", ("O",)), bert)
    assert (long.cut, len(long.rows[0])) == (1, 16)
    assert long.lost.startswith("Of 1 of 1 text only the beginning")


# questions


def test_windows_overlap_and_together_hold_everything():
    assert slices(10, 4, 2) == [(0, 4), (2, 4), (4, 4), (6, 4)]
    assert slices(4, 4, 2) == [(0, 4)]
    assert slices(0, 4, 2) == [(0, 0)]
    assert slices(9, 2, 5) == [(0, 2), (2, 2), (4, 2), (6, 2), (8, 1)]


def test_a_token_belongs_to_the_window_with_most_around_it():
    cut = [Slice(0, 4), Slice(2, 4), Slice(4, 4)]
    assert [most_central(token, cut) for token in range(8)] == [0, 0, 0, 1, 1, 2, 2, 2]


def test_answers_in_characters_become_tokens():
    spans = np.array([(0, 3), (4, 7), (7, 8), (9, 12)])
    assert answer_tokens(spans, 4, 7) == (1, 1)
    assert answer_tokens(spans, 5, 10) == (1, 3)
    assert answer_tokens(spans, 3, 4) is None


def test_the_answer_stands_where_the_target_says_in_every_window_that_has_it(bert):
    context = "a b c d dogs e f g h i j."
    texts = Texts([Question("one", "1", "who a?", context, ("dogs e",), (8,))], "answer")
    use = Questions(texts, bert, length=13, stride=3, question_length=4)
    batch = use.batch(np.arange(len(use.windows)))
    found = 0
    for window, ids, (start, end) in zip(use.windows, batch.inputs.ids, batch.target.tolist(), strict=True):
        assert ids[:5].tolist() == [2, 17, 5, 18, 3]
        if (start, end) == (0, 0):
            continue
        found += 1
        left, right = window.spans[start - window.offset][0], window.spans[end - window.offset][1]
        assert context[left:right] == "dogs e"
        assert ids[start : end + 1].tolist() == [15, 16, 9]
    assert 0 < found < len(use.windows)
    owners = Counter(
        window.first + place for window in use.windows for place, mine in enumerate(window.central) if mine
    )
    assert set(owners.values()) == {1}
    assert len(owners) == 13, "every token, j and the point too"
    assert batch.inputs.segments[0].tolist() == [0] * 5 + [1] * 8


def test_real_questions_are_answered_by_their_windows(shared):
    texts = Subset(open_dataset(shared / "data" / "text" / "xquad"), range(120))
    made = train_word_pieces({texts[index].context for index in range(len(texts))}, size=2000)
    use = Questions(texts, made, length=128, stride=64)
    answered = set()
    for row, window in enumerate(use.windows):
        if window.start:
            sample = use.samples[window.question]
            left = window.spans[window.start - window.offset][0]
            right = window.spans[window.end - window.offset][1]
            assert sample.answers[0] in sample.context[left:right]
            assert abs(len(sample.answers[0]) - (right - left)) <= 8, "whole tokens"
            answered.add(window.question)
        assert len(use.rows[row]) <= 128
    assert len(answered) == 120


@pytest.mark.parametrize("padding", ["right", "left"])
def test_scores_that_point_at_the_truth_are_answers_that_are_right(shared, padding):
    texts = Subset(open_dataset(shared / "data" / "text" / "xquad"), range(0, 1190, 10))
    made = train_word_pieces({texts[index].context for index in range(len(texts))}, size=3000)
    loader = TextLoader(Questions(texts, replace(made, padding=padding), length=160, stride=64), 4096)
    metrics = AnswerMetrics()
    for batch in loader.epoch(0):
        width = batch.inputs.ids.shape[1]
        scores = [
            SpanScores(*(torch.nn.functional.one_hot(place, width).float() for place in places))
            for places in batch.target
        ]
        metrics.update(scores, batch)
    assert metrics.details()["questions"] == len(texts)
    assert metrics.compute()["exact"] > 0.97, "but for answers that are a part of a word"


# the loader


class Counted:
    """Items that are only as long as they say."""

    lost = ""

    def __init__(self, lengths):
        self.lengths = np.array(lengths)

    def batch(self, indices, seed, epoch):
        return Batch(torch.zeros(0), (seed, epoch), torch.from_numpy(np.array(indices)))

    def describe(self, index):
        return f"item {index}"


@pytest.fixture
def many():
    return Counted(np.random.default_rng(0).integers(1, 60, 500))


def seen(loader, epoch, start=0):
    return [batch.index.tolist() for batch in loader.epoch(epoch, start)]


def test_batches_stay_within_their_tokens_and_hold_everything_once(many):
    loader = TextLoader(many, 256, shuffle=True, seed=1)
    batches = seen(loader, 0)
    assert sorted(index for batch in batches for index in batch) == list(range(500))
    padded = [len(batch) * many.lengths[batch].max() for batch in batches]
    assert max(padded) <= 256
    assert sum(padded) < 1.05 * many.lengths.sum(), "little is padding"
    assert len(batches) == len(loader)
    assert max(len(batch) for batch in seen(TextLoader(many, 256, most=7), 0)) == 7


def test_the_order_depends_on_seed_and_epoch_and_any_batch_can_come_first(many):
    loader = TextLoader(many, 256, shuffle=True, seed=1)
    assert seen(loader, 3) == seen(TextLoader(many, 256, shuffle=True, seed=1), 3)
    assert seen(loader, 3) != seen(loader, 4)
    assert seen(loader, 3) != seen(TextLoader(many, 256, shuffle=True, seed=2), 3)
    assert seen(loader, 3, start=5) == seen(loader, 3)[5:]
    assert len(seen(loader, 3)) == len(seen(loader, 4)) == len(loader)
    mates = [frozenset(batch) for epoch in (3, 4) for batch in seen(loader, epoch)]
    assert len(set(mates)) > 0.9 * len(mates), "other items stand together in another epoch"
    still = TextLoader(many, 256)
    assert seen(still, 0) == seen(still, 1)
    assert next(batch.target for batch in loader.epoch(4)) == (1, 4)


@pytest.mark.parametrize("world", [2, 3])
def test_processes_see_together_what_is_there_and_each_within_its_tokens(many, world):
    loaders = [TextLoader(many, 256, shuffle=True, rank=rank, world=world, drop_last=True) for rank in range(world)]
    shares = [seen(loader, 2) for loader in loaders]
    assert len({len(share) for share in shares}) == 1
    everything = [index for share in shares for batch in share for index in batch]
    assert len(set(everything)) == len(everything) > 490
    for share in shares:
        assert max(len(batch) * many.lengths[batch].max() for batch in share) <= 256
    for place, whole in enumerate(loaders[0].order(2)):
        assert [index for share in shares for index in share[place]] == whole.tolist()


@pytest.mark.parametrize("world", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("tokens", [60, 64, 100, 1000])
def test_no_process_waits_for_one_that_has_nothing_to_do(many, world, tokens):
    for count in (500, 37, 9, 8):
        few = Counted(many.lengths[:count])
        loaders = [TextLoader(few, tokens, shuffle=True, rank=rank, world=world) for rank in range(world)]
        shares = [seen(loader, 1) for loader in loaders]
        assert sorted(index for share in shares for batch in share for index in batch) == list(range(count))
        assert max(len(batch) * few.lengths[batch].max() for share in shares for batch in share) <= tokens
        short = [whole for whole in loaders[0].order(1) if len(whole) < world]
        assert len(short) <= 1
        assert len({len(share) for share in shares}) == 1 or short


def test_what_makes_no_batches_is_one_sentence(many):
    with pytest.raises(ConfigError, match=r"item \d+ has 59 tokens, and a batch 32"):
        TextLoader(many, 32)
    with pytest.raises(ConfigError, match="no texts"):
        TextLoader(Counted([]), 32)
    with pytest.raises(ConfigError, match="shared among 4"):
        TextLoader(Counted([1, 1]), 32, world=4, drop_last=True)
    with pytest.raises(ConfigError, match="rank=2"):
        TextLoader(many, 64, rank=2, world=2)
    assert cut_by_tokens(np.array([], dtype=np.int64), 8, None, 1) == []


def test_a_use_refuses_texts_of_another_kind(plain, bert):
    with pytest.raises(DataError, match="running text, and translation needs pairs of sentences"):
        Translation(passages("a"), plain)
    with pytest.raises(ConfigError, match="no mask token"):
        Masked(passages("a b"), plain)
    with pytest.raises(DataError, match="too little text"):
        Causal(passages("a"), replace(plain, end_token=None))
    with pytest.raises(ConfigError, match=r"\[CLS\] and \[SEP\]"):
        Questions(Texts([Question("", "1", "a", "b", ("b",), (0,))], "answer"), train_byte_pairs(["a b"] * 3, size=300))
