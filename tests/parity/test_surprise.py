"""The cross-entropy of words, a few rows at a time, against torch's."""

import pytest
import torch
import torch.nn.functional as F

from vitrail.tasks import surprise as file
from vitrail.tasks.surprise import BLOCK, mean_surprise, rows_asked
from vitrail.tasks.text_scores import IGNORED


def words(rows: int, vocabulary: int, dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits, and true words of which some are not asked for."""
    torch.manual_seed(0)
    logits, target = 3 * torch.randn(rows, vocabulary, dtype=dtype), torch.randint(0, vocabulary, (rows,))
    target[1::3] = IGNORED
    return logits.requires_grad_(), target


@pytest.mark.parametrize("room", [1, 60, 2**18], ids=["row by row", "a few rows", "all at once"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_value_and_gradient_are_torchs(monkeypatch, room, smoothing, dtype, tolerance):
    monkeypatch.setattr(file, "ROOM", room)
    logits, target = words(10, 23, dtype)
    exact = F.cross_entropy(logits, target, ignore_index=IGNORED, label_smoothing=smoothing)
    answer = mean_surprise(logits.view(2, 5, 23), target.view(2, 5), smoothing)
    torch.testing.assert_close(answer, exact, rtol=tolerance, atol=tolerance)
    ours, theirs = (torch.autograd.grad(3 * loss, logits)[0] for loss in (answer, exact))
    torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)
    assert (ours[1::3] == 0).all()


def test_the_gradient_is_that_of_finite_differences():
    logits, target = words(4, 7)
    assert torch.autograd.gradcheck(lambda x: mean_surprise(x, target, 0.2), logits)


def test_half_precision_is_compared_in_float32():
    logits, target = words(50, 300, torch.float32)
    half = logits.detach().bfloat16().requires_grad_()
    same = half.detach().float().requires_grad_()
    answer, exact = mean_surprise(half, target), F.cross_entropy(same, target, ignore_index=IGNORED)
    assert answer.dtype == torch.float32
    torch.testing.assert_close(answer, exact)
    [gradient], [wanted] = torch.autograd.grad(answer, half), torch.autograd.grad(exact, same)
    torch.testing.assert_close(gradient, wanted.bfloat16())


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_rows_that_are_not_asked_for_may_hold_anything(smoothing):
    logits, target = words(6, 5)
    wild = logits.detach().clone()
    wild[1], wild[4] = torch.nan, torch.inf
    wild.requires_grad_()
    answer = mean_surprise(wild, target, smoothing)
    torch.testing.assert_close(answer, mean_surprise(logits, target, smoothing))
    assert torch.autograd.grad(answer, wild)[0].isfinite().all()


def test_a_word_that_cannot_be_is_no_surprise_where_it_is_not():
    logits, target = words(6, 5)
    target[target == 4] = 0
    forbidden = logits.detach().index_fill(1, torch.tensor([4]), -torch.inf)
    torch.testing.assert_close(
        mean_surprise(forbidden, target), F.cross_entropy(forbidden, target, ignore_index=IGNORED)
    )


@pytest.mark.parametrize("wrong", [-1, 5])
def test_a_word_outside_the_vocabulary_is_refused(wrong):
    logits, target = words(6, 5)
    target[0] = wrong
    with pytest.raises((RuntimeError, IndexError)):
        mean_surprise(logits, target)


def test_functions_of_functions_know_the_gradient():
    logits, target = words(6, 5)
    [ours] = torch.autograd.grad(mean_surprise(logits, target, 0.1), logits)
    torch.testing.assert_close(torch.func.grad(lambda x: mean_surprise(x, target, 0.1))(logits.detach()), ours)


@pytest.mark.parametrize("rows", [0, 3])
def test_nothing_asked_is_no_surprise(rows):
    logits, target = torch.randn(rows, 5, requires_grad=True), torch.full((rows,), IGNORED)
    answer = mean_surprise(logits, target)
    assert answer == 0
    assert (torch.autograd.grad(answer, logits)[0] == 0).all()


def test_without_gradients_none_are_worked_out():
    logits, target = words(10, 23)
    kept, real = [], file.Surprise

    class Noted(real):
        @staticmethod
        def forward(*inputs):
            total, slopes = real.forward(*inputs)
            kept.append(len(slopes))
            return total, slopes

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(file, "Surprise", Noted)
        exact = mean_surprise(logits, target)
        with torch.no_grad():
            torch.testing.assert_close(mean_surprise(logits, target), exact.detach())
        mean_surprise(logits.detach(), target)
    assert kept == [10, 0, 0]


def test_rows_that_are_asked_come_first_and_are_filled_up_to_a_size_that_comes_again():
    target = torch.full((3, 2 * BLOCK), IGNORED)
    target[0, 5], target[2, :BLOCK] = 7, 8
    rows = rows_asked(target)
    assert len(rows) == len(rows.unique()) == 2 * BLOCK
    assert rows[: BLOCK + 1].tolist() == [5, *range(4 * BLOCK, 5 * BLOCK)]
    assert (target.flatten()[rows[BLOCK + 1 :]] == IGNORED).all()


@pytest.mark.parametrize(("shape", "count"), [((2, 3), 6), ((1, 1), 1)])
def test_all_rows_are_asked_where_there_are_few(shape, count):
    assert rows_asked(torch.zeros(shape, dtype=torch.long)).tolist() == list(range(count))
    assert rows_asked(torch.full(shape, IGNORED)).tolist() == []


def test_asking_only_some_rows_changes_neither_the_loss_nor_its_gradient():
    logits, target = torch.randn(3, 50, 11, dtype=torch.float64, requires_grad=True), torch.randint(11, (3, 50))
    target[torch.rand(3, 50) < 0.6] = IGNORED
    rows = rows_asked(target)
    few = mean_surprise(logits.flatten(0, 1)[rows], target.flatten()[rows], 0.1)
    whole = mean_surprise(logits, target, 0.1)
    torch.testing.assert_close(few, whole)
    torch.testing.assert_close(torch.autograd.grad(few, logits), torch.autograd.grad(whole, logits))
