"""Fast float32 is still float32, is decided by the processor, and leaves no trace."""

import threading

import pytest
import torch

from vitrail.core import precision
from vitrail.core.precision import LEAVE, LIMIT, decide, describe, error_of, error_with_leave, fast_float32

needs_onednn = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this torch has no oneDNN")
SETTING = precision.SETTING


@pytest.fixture
def undecided():
    """A process that has not looked at its processor yet, and forgets what it saw there."""
    decide.cache_clear()
    yield
    decide.cache_clear()


def rounded_to_bfloat16(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """What oneDNN answers on a processor with AMX, when it is told that rounding is welcome."""
    if left.dtype == torch.float32 and SETTING.fp32_precision == "bf16":
        return torch.matmul(left.bfloat16().float(), right.bfloat16().float())
    return torch.matmul(left, right)


def test_products_are_float32_inside_forward_and_backward():
    torch.manual_seed(0)
    layer, x = torch.nn.Linear(96, 128), torch.randn(50, 96, requires_grad=True)
    exact_layer, exact_x = torch.nn.Linear(96, 128).double(), x.detach().double().requires_grad_()
    exact_layer.load_state_dict(layer.state_dict())

    with fast_float32():
        layer(x).square().sum().backward()
    exact_layer(exact_x).square().sum().backward()

    for ours, exact in [(x, exact_x), (layer.weight, exact_layer.weight), (layer.bias, exact_layer.bias)]:
        assert ours.grad is not None
        assert exact.grad is not None
        assert (ours.grad - exact.grad).norm() / exact.grad.norm() < LIMIT


def test_the_same_product_has_the_same_bytes_each_time():
    left, right = torch.randn(70, 64), torch.randn(64, 80)
    with fast_float32():
        assert torch.equal(left @ right, left.clone() @ right.clone())


@needs_onednn
@pytest.mark.parametrize("before", ["none", "ieee", "tf32", "bf16"])
def test_the_setting_that_was_there_comes_back(before):
    SETTING.fp32_precision = before
    try:
        with LEAVE:
            assert SETTING.fp32_precision == "bf16"
        assert SETTING.fp32_precision == before
    finally:
        SETTING.fp32_precision = "none"


@needs_onednn
def test_the_setting_comes_back_after_an_error_and_stays_while_one_holder_is_left():
    with LEAVE:
        with pytest.raises(ZeroDivisionError), LEAVE:
            1 / 0
        assert SETTING.fp32_precision == "bf16"
    assert SETTING.fp32_precision == "none"


@needs_onednn
def test_a_thread_that_leaves_first_does_not_take_the_setting_from_the_other():
    entered, left = threading.Event(), threading.Event()
    seen = []

    def stay():
        with LEAVE:
            entered.set()
            left.wait(timeout=10)
            seen.append(SETTING.fp32_precision)

    with LEAVE:
        other = threading.Thread(target=stay)
        other.start()
        assert entered.wait(timeout=10)
    left.set()
    other.join(timeout=10)

    assert seen == ["bf16"]
    assert SETTING.fp32_precision == "none"


@needs_onednn
@pytest.mark.parametrize(
    ("capabilities", "reason"),
    [({}, "no AVX-512"), ({"avx2": True}, "no AVX-512"), ({"avx512_f": True, "amx_tile": True}, "AMX")],
)
def test_a_processor_that_would_round_or_gain_nothing_keeps_its_kernels(undecided, monkeypatch, capabilities, reason):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert not decide().fast
    assert reason in describe()
    with fast_float32():
        assert SETTING.fp32_precision == "none"


def test_a_torch_without_onednn_keeps_its_kernels(undecided, monkeypatch):
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert not decide().fast
    assert "without oneDNN" in describe()


@needs_onednn
@pytest.mark.parametrize("answer", [rounded_to_bfloat16, lambda left, right: torch.matmul(left, right) * float("nan")])
def test_a_processor_that_rounds_without_saying_so_is_found_out(undecided, monkeypatch, answer):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_f": True}, raising=False)
    monkeypatch.setattr(torch.Tensor, "__matmul__", answer)
    assert not decide().fast
    assert "rounds" in describe()
    with fast_float32():
        assert SETTING.fp32_precision == "none"


@needs_onednn
def test_the_decision_is_the_same_under_autocast_and_draws_no_random_numbers():
    state = torch.random.get_rng_state()
    outside = error_with_leave()
    with torch.autocast("cpu", torch.bfloat16), torch.inference_mode():
        assert error_with_leave() == outside
    assert torch.equal(torch.random.get_rng_state(), state)


def test_the_error_is_measured_against_float64():
    left, right = torch.randn(40, 50), torch.randn(50, 60)
    error = error_of(left, right)
    assert 1e-9 < error < LIMIT
    assert error_of(left * 2**20, right * 2**20) == pytest.approx(error), "an error is relative"


def test_what_was_decided_is_one_sentence():
    assert describe().startswith("float32 products")
    assert "\n" not in describe()
