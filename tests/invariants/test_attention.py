"""Truths about attention that the lectures teach, stated as code."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vitrail.core.attention import Attention
from vitrail.core.blocks import MLP, DecoderBlock, Residual
from vitrail.core.cache import KeyValueCache
from vitrail.core.kernels import attention_weights, fused, plain
from vitrail.core.masks import causal_mask, join, padding_mask
from vitrail.errors import ConfigError

KERNELS = pytest.mark.parametrize("kernel", [fused, plain])


def random_heads(*shape: int, dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype) for _ in range(3))


@KERNELS
def test_attention_sees_a_set_not_a_sequence(kernel):
    torch.manual_seed(0)
    attention, tokens, order = (
        Attention(24, 4, kernel=kernel).double(),
        torch.randn(2, 9, 24).double(),
        torch.randperm(9),
    )
    shuffled = tokens[:, order]
    torch.testing.assert_close(
        attention(shuffled, shuffled, shuffled), attention(tokens, tokens, tokens)[:, order], rtol=1e-12, atol=1e-12
    )


def test_each_row_of_weights_sums_to_one():
    query, key, _ = random_heads(2, 3, 7, 8)
    weights = attention_weights(query, key, scale=8**-0.5)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 3, 7))


def test_the_weights_are_the_equation_of_the_paper():
    query, key, value = random_heads(1, 1, 3, 4, dtype=torch.float64)
    by_hand = torch.zeros(3, 4, dtype=torch.float64)
    for asked in range(3):
        scores = [
            sum(query[0, 0, asked, i] * key[0, 0, other, i] for i in range(4)) / math.sqrt(4) for other in range(3)
        ]
        total = sum(math.exp(score) for score in scores)
        for other in range(3):
            by_hand[asked] += math.exp(scores[other]) / total * value[0, 0, other]
    torch.testing.assert_close(plain(query, key, value, None, scale=0.5)[0, 0], by_hand)
    torch.testing.assert_close(fused(query, key, value, None, scale=0.5)[0, 0], by_hand)


@KERNELS
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", ["boolean", "float"])
def test_a_query_that_may_look_nowhere_answers_zeros(kernel, dtype, kind):
    query, key, value = random_heads(2, 2, 5, 8, dtype=dtype)
    mask = torch.ones(2, 1, 5, 5, dtype=torch.bool)
    mask[1, :, 3] = False
    if kind == "float":
        mask = torch.zeros(mask.shape, dtype=dtype).masked_fill(~mask, float("-inf"))
    answer = kernel(query, key, value, mask, scale=8**-0.5)
    assert torch.equal(answer[1, :, 3], torch.zeros_like(answer[1, :, 3]))
    assert answer.isfinite().all()
    assert answer[0].abs().min() > 0


@KERNELS
@pytest.mark.parametrize("kind", ["boolean", "float"])
def test_a_query_that_may_look_nowhere_has_finite_gradients(kernel, kind):
    query, key, value = (x.requires_grad_() for x in random_heads(1, 2, 4, 8))
    mask = torch.zeros(4, 4, dtype=torch.bool)
    mask[0, 0] = True
    if kind == "float":
        mask = torch.zeros(4, 4).masked_fill(~mask, float("-inf"))
    kernel(query, key, value, mask, scale=1.0).sum().backward()
    assert all(x.grad.isfinite().all() for x in (query, key, value))


@KERNELS
def test_a_float_mask_may_be_of_another_precision(kernel):
    query, key, value = random_heads(1, 2, 4, 8, dtype=torch.bfloat16)
    mask = torch.randn(4, 4)
    answer = kernel(query, key, value, mask, scale=1.0)
    assert torch.equal(answer, kernel(query, key, value, mask.bfloat16(), scale=1.0))


@KERNELS
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
def test_every_kernel_agrees_with_float64(kernel, dtype, tolerance):
    heads = random_heads(2, 3, 33, 16, dtype=torch.float64)
    mask = join(causal_mask(33, 33), padding_mask(torch.arange(33).expand(2, 33) < torch.tensor([[33], [20]])))
    exact = plain(*heads, mask, scale=0.25)
    answer = kernel(*(x.to(dtype) for x in heads), mask, scale=0.25)
    torch.testing.assert_close(answer.double(), exact, rtol=tolerance, atol=tolerance)


@KERNELS
def test_the_future_does_not_change_the_past(kernel):
    torch.manual_seed(0)
    attention = Attention(16, 2, kernel=kernel)
    tokens = torch.randn(2, 8, 16)
    changed = torch.cat([tokens[:, :5], torch.randn(2, 3, 16)], dim=1)
    mask = causal_mask(8, 8)
    before, after = (attention(x, x, x, mask) for x in (tokens, changed))
    assert torch.equal(before[:, :5], after[:, :5])
    assert not torch.equal(before[:, 5:], after[:, 5:])


def test_the_causal_mask_is_aligned_at_the_bottom_right():
    assert causal_mask(2, 4).tolist() == [[True, True, True, False], [True, True, True, True]]


def test_a_past_gives_what_the_whole_sequence_gives():
    torch.manual_seed(0)
    attention, tokens = Attention(16, 2).double(), torch.randn(2, 6, 16).double()
    whole = attention(tokens, tokens, tokens, causal_mask(6, 6))
    past = KeyValueCache(2, 2, capacity=6, width=8, dtype=torch.float64)
    steps = []
    for step in ([0, 1, 2], [3], [4, 5]):
        new = tokens[:, step]
        steps.append(attention(new, new, new, causal_mask(len(step), past.length + len(step)), past=past))
    torch.testing.assert_close(torch.cat(steps, dim=1), whole, rtol=1e-12, atol=1e-12)


def decoder_block() -> DecoderBlock:
    around = [Residual(16) for _ in range(3)]
    return DecoderBlock(Attention(16, 2), Attention(16, 4), MLP(16, 24), *around).double()


def test_a_decoder_block_with_a_past_gives_what_the_whole_sequence_gives():
    torch.manual_seed(0)
    block, tokens, memory = decoder_block(), torch.randn(2, 6, 16).double(), torch.randn(2, 5, 16).double()
    seen = padding_mask(torch.tensor([[True] * 5, [True] * 3 + [False] * 2]))
    whole = block(tokens, memory, mask=causal_mask(6, 6), memory_mask=seen)
    past, steps = block.cache(2, capacity=6, memory=5), []
    for step in ([0, 1, 2], [3], [4, 5]):
        mask = causal_mask(len(step), past.tokens.length + len(step))
        steps.append(block(tokens[:, step], memory, mask=mask, memory_mask=seen, past=past))
    torch.testing.assert_close(torch.cat(steps, dim=1), whole, rtol=1e-12, atol=1e-12)


def test_the_memory_is_projected_once():
    block, memory = decoder_block(), torch.randn(2, 5, 16).double()
    past, read = block.cache(2, capacity=6, memory=5), []
    block.cross_attention.key.register_forward_hook(lambda module, inputs, output: read.append(output.shape[1]))
    for _ in range(3):
        block(torch.randn(2, 1, 16).double(), memory, past=past)
    assert read == [5]


@pytest.mark.parametrize("rows", [[1, 1, 0], [0, 1, 2], [2], [0, 0, 1, 1, 2, 2]])
def test_samples_go_on_from_what_another_has_kept(rows):
    past, rows = KeyValueCache(3, 2, capacity=6, width=4), torch.tensor(rows)
    first, second = torch.randn(3, 2, 4, 4), torch.randn(len(rows), 2, 1, 4)
    past.extend(first, -first)
    before = past.kept
    past.reorder(rows)
    keys, values = past.extend(second, -second)
    assert torch.equal(keys, torch.cat([first[rows], second], dim=2))
    assert torch.equal(values, -keys)
    assert (past.kept is before) == (len(rows) == 3)
    assert past.kept.shape == (2, len(rows), 2, 6, 4)


def test_a_full_cache_says_so():
    past = KeyValueCache(1, 1, capacity=2, width=4)
    with pytest.raises(ConfigError, match="holds 2 tokens and 3 were asked"):
        past.extend(torch.zeros(1, 1, 3, 4), torch.zeros(1, 1, 3, 4))


@settings(max_examples=40, deadline=None)
@given(
    length=st.integers(1, 12),
    kept=st.integers(0, 12),
    garbage=st.floats(-1e30, 1e30),
    kernel=st.sampled_from([fused, plain]),
)
def test_padding_changes_nothing(length, kept, garbage, kernel):
    kept = min(kept, length)
    torch.manual_seed(length * 13 + kept)
    query, key, value = (torch.randn(1, 2, length, 4) for _ in range(3))
    valid = torch.arange(length)[None] < kept
    dirty = [x.masked_fill(~valid[:, None, :, None], garbage) for x in (key, value)]
    answer = kernel(query, *dirty, padding_mask(valid), scale=0.5)
    if kept:
        alone = kernel(query, key[:, :, :kept], value[:, :, :kept], None, scale=0.5)
        torch.testing.assert_close(answer, alone, rtol=1e-5, atol=1e-5)
    else:
        assert torch.equal(answer, torch.zeros_like(answer))


def test_joining_masks_allows_what_all_allow_and_adds_what_any_adds():
    first, second = torch.tensor([True, True, False]), torch.tensor([True, False, True])
    bias = torch.tensor([0.5, 1.0, 2.0])
    assert join() is None
    assert join(None, None) is None
    assert join(first, None, second).tolist() == [True, False, False]
    assert join(first, bias).tolist() == [0.5, 1.0, float("-inf")]
    assert join(bias, bias).tolist() == [1.0, 2.0, 4.0]


def test_keys_and_values_may_have_other_widths_and_lengths():
    attention = Attention(12, 3, key_dim=5, value_dim=7)
    assert attention(torch.randn(2, 4, 12), torch.randn(2, 9, 5), torch.randn(2, 9, 7)).shape == (2, 4, 12)


def test_prepare_sees_queries_and_keys_after_their_projection():
    torch.manual_seed(0)
    attention, x = Attention(8, 2), torch.randn(1, 3, 8)
    scaled = Attention(8, 2, prepare=lambda query, key: (query * 3, key / 3))
    scaled.load_state_dict(attention.state_dict())
    torch.testing.assert_close(scaled(x, x, x), attention(x, x, x))
    assert Attention(8, 2, prepare=lambda query, key: (query * 0, key))(x, x, x).std(dim=1).max() < 1e-6


def test_heads_that_do_not_divide_the_width_are_named():
    with pytest.raises(ConfigError, match=r"dim=10 does not divide into heads=4"):
        Attention(10, 4)


@KERNELS
@pytest.mark.parametrize("length", [1, 1025])
def test_extreme_scores_stay_finite(kernel, length):
    query = torch.full((1, 1, length, 4), 1e4)
    key = torch.randn(1, 1, length, 4, generator=torch.Generator().manual_seed(0)) * 1e4
    assert kernel(query, key, key, None, scale=0.5).isfinite().all()
