"""Dropout drops as often as it says, each value by itself, and leaves the mean where it was."""

import pytest
import torch

from vitrail.core import quick as quick_file
from vitrail.core.dropout import Dropout, dropout
from vitrail.core.kernels import plain
from vitrail.core.quick import quick


def dropped(rate: float, *shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Whether each of some ones became zero."""
    torch.manual_seed(0)
    return dropout(torch.ones(shape, dtype=dtype), rate) == 0


@pytest.mark.parametrize("rate", [1e-3, 0.1, 0.5, 0.9])
def test_so_many_values_become_zero_as_the_rate_says(rate):
    count = 1_000_001  # not a multiple of four
    share = dropped(rate, count).double().mean()
    assert abs(share - rate) < 5 * (rate * (1 - rate) / count) ** 0.5 + 2**-16


def test_values_that_share_a_draw_and_neighbouring_draws_are_independent():
    zero = dropped(0.3, 1_000_000).double() - 0.3
    for apart in (1, 2, 3, 4, 8):
        together = (zero[:-apart] * zero[apart:]).mean()
        assert abs(together) < 5 * 0.3 * 0.7 / 1000


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_rest_makes_up_for_what_is_dropped(dtype):
    torch.manual_seed(0)
    answer = dropout(torch.ones(1_000_000, dtype=dtype), 0.1)
    kept = answer.unique()
    assert kept.shape == (2,)
    assert kept[1] == pytest.approx(1 / (1 - round(0.1 * 2**16) / 2**16), rel=1e-7)
    assert answer.mean() == pytest.approx(1, abs=5 * (0.1 / 0.9) ** 0.5 / 1000)


def test_the_gradient_is_dropped_where_the_value_is():
    x = torch.randn(5, 7, requires_grad=True)
    answer = dropout(x, 0.4)
    [gradient] = torch.autograd.grad(answer.sum(), x)
    torch.testing.assert_close(gradient * x, answer)


def test_chance_is_that_of_torchs_seed():
    first, second = dropped(0.5, 4, 9), dropped(0.5, 4, 9)
    assert torch.equal(first, second)
    assert not torch.equal(first, dropout(torch.ones(4, 9), 0.5) == 0)  # it goes on from there


@pytest.mark.parametrize("shape", [(), (1,), (0,), (3, 0, 2), (2, 3, 5)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_shape_and_type_are_kept(shape, dtype):
    answer = dropout(torch.ones(shape, dtype=dtype), 0.25)
    assert answer.shape == shape
    assert answer.dtype == dtype


def test_nothing_is_dropped_at_rate_0_or_in_prediction():
    x = torch.randn(3, 4)
    assert dropout(x, 0.0) is x
    assert dropout(x, 0.5, training=False) is x
    assert Dropout(0.5).eval()(x) is x
    for rate in (0.999999, 1.0):
        assert (Dropout(rate)(torch.ones(100)) == 0).all()


@pytest.mark.parametrize("length", [5, 1500])
def test_attention_with_dropout_is_computed_whole_on_a_processor(length):
    """torch's fused kernel has no dropout there: it would compute the weights too, and drop by slower chance."""
    q, k, v = (torch.randn(1, 1, length, 4) for _ in range(3))
    torch.manual_seed(1)
    answer = quick(q, k, v, None, scale=0.5, dropout=0.2)
    torch.manual_seed(1)
    assert torch.equal(answer, plain(q, k, v, None, scale=0.5, dropout=0.2))


def test_chance_is_drawn_where_the_values_are():
    with torch.device("meta"):
        assert dropout(torch.ones(8, device="cpu"), 0.5).device.type == "cpu"


def test_half_precision_without_quick_products_stays_with_torch(monkeypatch):
    monkeypatch.setattr(quick_file, "products_are_quick", lambda like: False)
    asked = []
    monkeypatch.setattr(quick_file, "fused", lambda q, *rest, **settings: (asked.append(q.dtype), q)[1])
    for dtype in (torch.float32, torch.bfloat16):
        x = torch.randn(1, 1, 5, 4, dtype=dtype)
        quick(x, x, x, None, scale=0.5, dropout=0.2)
    assert asked == [torch.bfloat16]
