"""Our blocks against torch's own, which follow the 2017 paper."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from vitrail.core.attention import Attention
from vitrail.core.blocks import MLP, DecoderBlock, EncoderBlock, GatedMLP, Residual, drop_path
from vitrail.core.masks import causal_mask, join, padding_mask
from vitrail.core.stacks import Stack
from vitrail.core.tokens import Tokens
from vitrail.errors import ConfigError

NORMS = pytest.mark.parametrize("norm", ["before", "after"])


def disturb(module: nn.Module) -> None:
    """Fresh weights are too close to zero, and to each other, to tell mistakes apart."""
    generator = torch.Generator().manual_seed(1)
    for parameter in module.parameters():
        parameter.data += 0.2 * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)


def copy_attention(theirs: nn.MultiheadAttention, ours: Attention) -> None:
    for part, weight, bias in zip(
        (ours.query, ours.key, ours.value), theirs.in_proj_weight.chunk(3), theirs.in_proj_bias.chunk(3), strict=True
    ):
        part.weight.data, part.bias.data = weight.detach().clone(), bias.detach().clone()
    ours.out.load_state_dict(theirs.out_proj.state_dict())


def copy_rest(theirs: nn.Module, ours: EncoderBlock | DecoderBlock, norms: list[Residual]) -> None:
    ours.mlp.expand.load_state_dict(theirs.linear1.state_dict())
    ours.mlp.contract.load_state_dict(theirs.linear2.state_dict())
    for number, residual in enumerate(norms, start=1):
        residual.norm.load_state_dict(getattr(theirs, f"norm{number}").state_dict())


def our_encoder_block(norm: str) -> EncoderBlock:
    around = [Residual(24, norm=norm, eps=1e-5) for _ in range(2)]
    return EncoderBlock(Attention(24, 4), MLP(24, 40), *around).double()


@NORMS
def test_an_encoder_block_is_torchs_with_padding(norm):
    theirs = nn.TransformerEncoderLayer(
        24, 4, 40, dropout=0.0, activation="gelu", norm_first=norm == "before", batch_first=True
    ).double()
    disturb(theirs)
    ours = our_encoder_block(norm)
    copy_attention(theirs.self_attn, ours.attention)
    copy_rest(theirs, ours, [ours.around_attention, ours.around_mlp])
    x = torch.randn(3, 7, 24, dtype=torch.float64)
    valid = torch.arange(7)[None] < torch.tensor([7, 4, 1])[:, None]
    answer = ours(x, mask=padding_mask(valid))
    expected = theirs(x, src_key_padding_mask=~valid)  # theirs says True where it may not look
    torch.testing.assert_close(answer[valid], expected[valid], rtol=1e-10, atol=1e-10)


@NORMS
def test_a_decoder_block_is_torchs_with_both_masks(norm):
    theirs = nn.TransformerDecoderLayer(
        24, 3, 40, dropout=0.0, activation="gelu", norm_first=norm == "before", batch_first=True
    ).double()
    disturb(theirs)
    around = [Residual(24, norm=norm, eps=1e-5) for _ in range(3)]
    ours = DecoderBlock(Attention(24, 3), Attention(24, 3), MLP(24, 40), *around).double()
    copy_attention(theirs.self_attn, ours.attention)
    copy_attention(theirs.multihead_attn, ours.cross_attention)
    copy_rest(theirs, ours, around)
    x, memory = torch.randn(2, 5, 24, dtype=torch.float64), torch.randn(2, 8, 24, dtype=torch.float64)
    valid = torch.arange(8)[None] < torch.tensor([8, 3])[:, None]
    answer = ours(x, memory, mask=causal_mask(5, 5), memory_mask=padding_mask(valid))
    expected = theirs(x, memory, tgt_mask=~causal_mask(5, 5), memory_key_padding_mask=~valid)
    torch.testing.assert_close(answer, expected, rtol=1e-10, atol=1e-10)


def test_positions_steer_the_mixing_without_being_mixed():
    block = our_encoder_block("after")
    x, position = torch.randn(2, 5, 24).double(), torch.randn(2, 5, 24).double()
    mixed = block.attention(x + position, x + position, x)
    expected = block.around_mlp(block.around_attention(x, lambda _: mixed), block.mlp)
    torch.testing.assert_close(block(x, position=position), expected)


def test_a_block_adds_its_bias_to_the_mask():
    class Bias(nn.Module):
        def forward(self):
            return torch.tensor([0.0, 1.0, 2.0], dtype=torch.float64)

    block, x = our_encoder_block("before"), torch.randn(1, 3, 24).double()
    biased = EncoderBlock(block.attention, block.mlp, block.around_attention, block.around_mlp, Bias())
    allowed = torch.tensor([True, True, False])
    torch.testing.assert_close(biased(x, mask=allowed), block(x, mask=join(allowed, Bias()())))
    assert not torch.allclose(biased(x, mask=allowed), block(x, mask=allowed))


def test_the_norm_on_the_branch_is_swin_v2s():
    residual = Residual(8, norm="branch")
    x = torch.randn(1, 2, 8)
    torch.testing.assert_close(residual(x, torch.sin), x + F.layer_norm(x.sin(), (8,), eps=1e-6))


def test_layer_scale_multiplies_the_branch_alone():
    residual, x = Residual(8, layer_scale=0.5), torch.randn(1, 2, 8)
    torch.testing.assert_close(residual(x, lambda h: h), x + 0.5 * residual.norm(x))


def test_stochastic_depth_keeps_the_mean_and_skips_whole_samples():
    torch.manual_seed(0)
    thinned = drop_path(torch.ones(20_000, 3), 0.25)
    torch.testing.assert_close(thinned.unique(), torch.tensor([0.0, 4 / 3]))
    assert torch.equal(thinned.amin(1), thinned.amax(1))
    assert thinned.mean().item() == pytest.approx(1, abs=0.02)


def test_stochastic_depth_and_dropout_rest_outside_training():
    residual, x = Residual(8, drop_path=0.9, dropout=0.9).eval(), torch.randn(4, 2, 8)
    assert torch.equal(residual(x, lambda h: h), x + residual.norm(x))
    assert not torch.equal(residual.train()(x, lambda h: h), x + residual.norm(x))


def test_a_gate_opens_and_shuts_the_expansion():
    mlp, x = GatedMLP(6, 10), torch.randn(2, 3, 6)
    by_hand = F.linear(F.silu(mlp.gate(x)) * mlp.expand(x), mlp.contract.weight, mlp.contract.bias)
    assert torch.equal(mlp(x), by_hand)


def stack(depth: int = 3) -> Stack:
    torch.manual_seed(0)
    return Stack(our_encoder_block("before") for _ in range(depth))


def test_a_stack_answers_at_chosen_depths_in_the_order_asked():
    blocks, tokens = stack(), Tokens(torch.randn(2, 5, 24).double(), (1, 4), 1)
    last, first = blocks.at(tokens, [2, 0])
    assert torch.equal(first.x, blocks[0](tokens.x))
    assert torch.equal(last.x, blocks(tokens).x)
    with pytest.raises(ConfigError, match="no block 3: this model has blocks 0 to 2"):
        blocks.at(tokens, [3])


def test_an_empty_stack_changes_nothing():
    tokens = Tokens(torch.randn(2, 5, 24), (1, 4), 1)
    assert torch.equal(Stack([])(tokens).x, tokens.x)


def test_nothing_in_padding_leaks_not_even_nan():
    blocks, x = stack(), torch.randn(1, 6, 24).double()
    valid = torch.tensor([[True, True, True, True, False, False]])
    dirty = x.clone()
    dirty[:, 4:] = float("nan")
    clean = blocks(Tokens(x[:, :4], (1, 3), 1)).x
    padded = blocks(Tokens(dirty, (1, 5), 1, valid)).x
    torch.testing.assert_close(padded[:, :4], clean, rtol=1e-12, atol=1e-12)
    assert padded.isfinite().all()


def test_checkpointing_changes_no_answer_and_no_gradient():
    gradients = []
    for checkpointing in (False, True):
        blocks = stack()
        blocks.checkpointing = checkpointing
        x = torch.ones(1, 4, 24, dtype=torch.float64, requires_grad=True)
        blocks.train()(Tokens(x, (1, 4), 0)).x.square().sum().backward()
        gradients.append([x.grad, *(p.grad for p in blocks.parameters())])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))
