"""Truths about writing all words at once."""

from dataclasses import replace

import pytest
import torch

from vitrail.decoding.parallel import least_certain, mask_predict
from vitrail.errors import ConfigError
from vitrail.models.parallel_transformer import ParallelTransformer, ParallelTransformerConfig, Understood
from vitrail.models.transformer import both
from vitrail.samples import Batch, Words
from vitrail.tasks.translate_parallel import TranslateParallel, hide_some, inner

SMALL = ParallelTransformerConfig(
    **both(depth=2, heads=2, mlp_dim=24), dim=16, source_vocabulary=20, target_vocabulary=20, max_tokens=12, dropout=0.0
)


def small(**changes) -> ParallelTransformer:
    torch.manual_seed(0)
    return ParallelTransformer(replace(SMALL, **changes)).double().eval()


def words(batch: int, length: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 20, (batch, length), generator=torch.Generator().manual_seed(seed))


class Chain:
    """Knows the sentence 1, 2, 3 ... but at each place only if the word before it is there; otherwise it guesses 9.

    It is certain of what it knows, and the less of a guess the further it is from the beginning.
    """

    def __init__(self, length: int) -> None:
        self.length, self.asked = length, 0

    def encode(self, source, source_valid) -> Understood:
        lengths = torch.full((source.shape[0], 8), -5.0)
        lengths[:, self.length - 1] = 5.0
        return Understood(torch.zeros(*source.shape, 4), lengths)

    def decode(self, target, hidden, memory, source_valid, target_valid) -> torch.Tensor:
        self.asked += 1
        right = torch.arange(1, target.shape[1] + 1).expand_as(target)
        there = (target == right) & ~hidden
        known = torch.cat([torch.ones_like(there[:, :1]), there[:, :-1]], dim=1)
        guess = torch.nn.functional.one_hot(torch.full_like(target, 9), 12) * (3.0 - 0.1 * right[..., None])
        return torch.where(known[..., None], 20.0 * torch.nn.functional.one_hot(right, 12), guess)

    def guess(self, x) -> torch.Tensor:
        return x


def test_asking_again_repairs_what_was_guessed():
    once, often = Chain(6), Chain(6)
    source = torch.ones(2, 3, dtype=torch.long)
    assert mask_predict(once, source, steps=1, lengths=1).ids.tolist() == [[1, 9, 9, 9, 9, 9]] * 2
    assert mask_predict(often, source, steps=6, lengths=1).ids.tolist() == [[1, 2, 3, 4, 5, 6]] * 2
    assert (once.asked, often.asked) == (1, 6)


def test_the_likeliest_length_wins_only_by_its_words():
    written = mask_predict(Chain(2), torch.ones(1, 3, dtype=torch.long), steps=8, lengths=8)
    assert written.ids[0].tolist() == list(range(1, len(written.ids[0]) + 1))


def test_the_least_certain_share_is_hidden():
    valid = torch.tensor([[True] * 4, [True, True, False, False]])
    confidence = torch.tensor([[-1.0, -4.0, -2.0, -3.0], [-2.0, -1.0, -9.0, -9.0]])
    assert least_certain(confidence, valid, 0.5).tolist() == [[False, True, False, True], [True, False, False, False]]
    assert not least_certain(confidence, valid, 0.0).any()


def test_hidden_words_are_not_looked_at_and_known_ones_are_by_all():
    model, source, target = small(), words(2, 5), words(2, 6, seed=1)
    hidden = torch.tensor([[True, False, True, False, False, False]] * 2)
    before, _ = model(source, target, hidden)
    same, _ = model(source, torch.where(hidden, words(2, 6, seed=2), target), hidden)
    assert torch.equal(before, same)
    changed = target.clone()
    changed[:, 5] = (changed[:, 5] + 1) % 20
    after, _ = model(source, changed, hidden)
    assert not torch.isclose(before[:, 0], after[:, 0]).all()  # the first place sees the last


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_never_changes_an_answer(side):
    model, source = small(), words(1, 4)
    alone = mask_predict(model, source, steps=3, lengths=3)
    ids, valid = words(3, 9, seed=4), torch.ones(3, 9, dtype=torch.bool)
    where = slice(0, 4) if side == "right" else slice(5, 9)
    valid[0] = False
    ids[0, where], valid[0, where] = source[0], True
    together = mask_predict(model, ids, valid, steps=3, lengths=3)
    assert together.ids[0][together.valid[0]].tolist() == alone.ids[0].tolist()


def test_a_source_of_padding_alone_gives_words_and_no_nan():
    model, source = small(), words(2, 4)
    valid = torch.tensor([[False] * 4, [True] * 4])
    logits, lengths = model(source, words(2, 3), torch.ones(2, 3, dtype=torch.bool), valid)
    assert torch.isfinite(logits).all()
    assert torch.isfinite(lengths).all()
    assert mask_predict(model, source, valid, steps=2, lengths=2).valid.any(dim=1).all()


def test_it_learns_to_turn_a_sentence_round():
    torch.manual_seed(0)
    model = ParallelTransformer(replace(SMALL, norm="before", **both(depth=1, heads=2, mlp_dim=32), dim=32))
    optimiser = torch.optim.Adam(model.parameters(), lr=5e-3)
    first = last = 0.0
    for _ in range(60):
        source = torch.randint(0, 20, (32, 4))
        logits, lengths = model(source, source.flip(1), torch.rand(32, 4) < torch.rand(32, 1))
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), source.flip(1).flatten())
        loss = loss + torch.nn.functional.cross_entropy(lengths, torch.full((32,), 3))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        first, last = first or loss.item(), loss.item()
    assert last < 0.6 * first


def test_no_step_is_refused():
    with pytest.raises(ConfigError, match="at least 1"):
        mask_predict(small(), words(1, 3), steps=0)


def test_any_number_of_words_is_hidden_as_often_as_any_other():
    valid = torch.tensor([[True] * 4 + [False] * 2]).expand(4000, 6)
    hidden = hide_some(valid, torch.Generator().manual_seed(0))
    assert not hidden[~valid].any()
    counts = torch.bincount(hidden.sum(dim=1), minlength=5)
    assert counts[0] == 0
    assert counts[1:].min() > 900
    places = hidden.sum(dim=0)[:4]
    assert places.max() - places.min() < 200


def test_the_loss_asks_for_hidden_words_and_the_length_and_for_no_padding():
    start, end, pad = 1, 2, 0
    target = Words(torch.tensor([[start, 5, 6, 7, end], [start, 8, end, pad, pad]]), torch.ones(2, 5, dtype=torch.bool))
    target.valid[1, 3:] = False
    answer = inner(target)
    assert answer.ids[answer.valid].tolist() == [5, 6, 7, 8]
    source = words(2, 4)
    batch = Batch(Words(source, torch.ones(2, 4, dtype=torch.bool)), target, torch.arange(2))
    task, model = TranslateParallel(smoothing=0.0, length_weight=2.0), small()
    loss = task.loss(model, batch, torch.Generator().manual_seed(3))
    hidden = hide_some(answer.valid, torch.Generator().manual_seed(3))
    logits, lengths = model(source, answer.ids, hidden, None, answer.valid)
    expected = torch.nn.functional.cross_entropy(logits[hidden], answer.ids[hidden])
    expected = expected + 2.0 * torch.nn.functional.cross_entropy(lengths.float(), torch.tensor([2, 0]))
    torch.testing.assert_close(loss.total, expected)
    changed = target.ids.clone()
    changed[1, 3:] = 9
    again = batch._replace(target=Words(changed, target.valid))
    assert task.loss(model, again, torch.Generator().manual_seed(3)).total.equal(loss.total)
