"""The quick kernel answers as the fused one does, whichever way it goes."""

import pytest
import torch

from vitrail.core import quick as quick_file
from vitrail.core.kernels import fused, plain
from vitrail.core.precision import LEAVE, multiplies_bfloat16, multiplies_in_tiles, products_are_quick
from vitrail.core.quick import quick

MASKS = {
    "none": lambda: None,
    "boolean": lambda: torch.rand(2, 1, 7, 9) > 0.4,
    "nowhere": lambda: torch.zeros(2, 1, 7, 9, dtype=torch.bool),
    "float": lambda: torch.randn(1, 3, 7, 9),
    "keys": lambda: torch.tensor([True, False] * 4 + [True]),
    "one for all keys": lambda: torch.zeros(2, 1, 7, 1).index_fill(2, torch.tensor([3]), float("-inf")),
}


@pytest.fixture
def chosen(monkeypatch):
    """The names of the kernels that `quick` handed its work to."""
    names = []
    for name in ("plain", "fused"):
        kernel = getattr(quick_file, name)

        def noted(*inputs, name=name, kernel=kernel, **settings):
            names.append(name)
            return kernel(*inputs, **settings)

        monkeypatch.setattr(quick_file, name, noted)
    return names


@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS.keys())
def test_both_ways_give_the_same_answer_and_gradient(chosen, monkeypatch, mask):
    torch.manual_seed(0)
    inputs, mask = [torch.randn(2, 3, length, 8, requires_grad=True) for length in (7, 9, 9)], mask()
    answers, gradients = [], []
    for quick_products in (True, False):
        monkeypatch.setattr(quick_file, "products_are_quick", lambda like, answer=quick_products: answer)
        answers.append(quick(*inputs, mask, scale=0.3))
        gradients.append(torch.autograd.grad(answers[-1].sin().sum(), inputs))

    assert chosen == ["plain", "fused"]
    torch.testing.assert_close(answers[0], answers[1], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-5, atol=1e-6)


def test_long_sequences_stay_with_the_fused_kernel(chosen, monkeypatch):
    monkeypatch.setattr(quick_file, "products_are_quick", lambda like: True)
    monkeypatch.setattr(quick_file, "multiplies_in_tiles", lambda: False)
    for length in (512, 513):
        x = torch.randn(1, 1, length, 4)
        torch.testing.assert_close(quick(x, x, x, None, scale=0.3), fused(x, x, x, None, scale=0.3))
    assert chosen == ["plain", "fused"]


def test_float32_products_are_quick_while_there_is_leave_and_float64_ones_never():
    float32, float64 = torch.zeros(1), torch.zeros(1, dtype=torch.float64)
    assert not products_are_quick(float32)
    with LEAVE:
        assert products_are_quick(float32)
        assert not products_are_quick(float64)
    assert not products_are_quick(float32)


def test_a_captured_graph_does_not_depend_on_the_machine():
    class Module(torch.nn.Module):
        def forward(self, x):
            return quick(x, x, x, None, scale=0.3)

    with LEAVE:
        program = torch.export.export(Module(), (torch.randn(1, 2, 5, 4),))
    assert "scaled_dot_product" in str(program.graph)


@pytest.fixture
def processor(monkeypatch):
    """Lets the processor say something else of itself."""

    def says(**capabilities):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
        for question in (multiplies_bfloat16, multiplies_in_tiles):
            question.cache_clear()

    yield says
    monkeypatch.undo()
    for question in (multiplies_bfloat16, multiplies_in_tiles):
        question.cache_clear()


@pytest.mark.parametrize("capabilities", [{}, {"avx512_bf16": True}, {"avx512_bf16": True, "amx_tile": True}])
def test_bfloat16_is_quick_where_the_processor_multiplies_in_it(processor, capabilities):
    processor(**capabilities)
    assert products_are_quick(torch.zeros(1, dtype=torch.bfloat16)) == bool(capabilities)
    assert not products_are_quick(torch.zeros(1, dtype=torch.bfloat16, device="meta"))


@pytest.mark.parametrize("learns", [False, True])
@pytest.mark.parametrize("tiles", [False, True])
def test_with_tiles_the_fused_kernel_answers_what_nobody_learns_from(chosen, processor, tiles, learns):
    processor(avx512_bf16=True, amx_tile=tiles)
    x = torch.randn(1, 2, 5, 4, dtype=torch.bfloat16, requires_grad=learns)
    quick(x, x, x, None, scale=0.3)
    assert chosen == ["fused" if tiles and not learns else "plain"]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kernel", [plain, fused])
def test_a_large_number_that_is_infinite_in_half_precision_leads_nowhere(dtype, kernel):
    x, mask = torch.randn(1, 1, 3, 4, dtype=dtype), torch.zeros(3, 3)
    mask[1] = torch.finfo(torch.float32).min
    answer = kernel(x, x, x, mask, scale=0.5)
    assert (answer[0, 0, 1] == 0).all()
    assert answer.isfinite().all()
