"""The twin that records attention: same answers to the last bit, one row for the price of one row, no trace left."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

from vitrail.core.attention import Attention
from vitrail.core.kernels import attention_weights, fused
from vitrail.core.quick import quick
from vitrail.errors import ExplanationError
from vitrail.explain.recording import RecordingKernel, recording
from vitrail.models.vit import ViT, ViTConfig

SMALL = ViTConfig(image=32, patch=8, dim=24, depth=3, heads=4, mlp_dim=48, classes=5)
TOKENS = 17


def disturbed(model: nn.Module) -> nn.Module:
    """Move every parameter away from its gentle start, so that heads, rows and layers differ visibly."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return model.eval()


def tiny(**changes) -> ViT:
    torch.manual_seed(0)
    fields = {name: getattr(SMALL, name) for name in SMALL.__slots__}
    return disturbed(ViT(ViTConfig(**fields | changes)))


def images(batch: int = 3) -> torch.Tensor:
    return torch.rand(batch, 3, 32, 32, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("position", ["learned", "relative", "relative-log"])
def test_recording_changes_no_bit_of_any_answer(position, dtype, batch):
    model, pixels = tiny(position=position).to(dtype), images(batch).to(dtype)
    twin, records = recording(model, rows=[0])

    assert torch.equal(twin(pixels), model(pixels))
    for record in records.values():
        assert record.maps[0].shape == (batch, 4, 1, TOKENS)
        assert record.maps[0].dtype == dtype
        torch.testing.assert_close(record.maps[0].sum(-1), torch.ones(batch, 4, 1, dtype=dtype))


def test_recording_changes_no_bit_under_bf16_autocast_and_keeps_float32_weights():
    model, pixels = tiny(position="relative"), images()
    twin, records = recording(model, rows=[0, 5])

    with torch.autocast("cpu", torch.bfloat16):
        theirs, ours = model(pixels), twin(pixels)

    assert theirs.dtype == torch.bfloat16
    assert torch.equal(ours, theirs)
    assert records["blocks.2.attention"].maps[0].dtype == torch.float32


def test_weights_recorded_under_autocast_are_not_rounded_to_bf16():
    torch.manual_seed(0)
    attention, tokens = disturbed(Attention(24, heads=4)), torch.randn(2, 9, 24)
    twin, records = recording(attention)
    with torch.autocast("cpu", torch.bfloat16):
        twin(tokens, tokens, tokens)
        query, key = attention.split(attention.query(tokens)), attention.split(attention.key(tokens))
    assert query.dtype == torch.bfloat16  # what the model itself compares
    exact = attention_weights(query.double(), key.double(), scale=attention.scale)
    torch.testing.assert_close(records[""].maps[0].double(), exact, rtol=0, atol=1e-6)  # bf16 misses by 1e-3


def test_recording_changes_no_bit_beside_padding_which_gets_no_attention():
    model = tiny()
    valid = torch.ones(2, 32, 32, dtype=torch.bool)
    valid[1, :, 16:] = False  # the right half of the second picture: patch columns 2 and 3
    twin, records = recording(model, rows=[0, 1])

    assert torch.equal(twin.encode(images(2), valid).x, model.encode(images(2), valid).x)
    weights = records["blocks.0.attention"].maps[0]
    over_patches = weights[..., 1:].unflatten(-1, (4, 4))
    assert over_patches[1, ..., 2:].abs().max() == 0
    assert over_patches[0, ..., 2:].min() > 0
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 4, 2))


def test_recording_draws_the_same_dropout_in_training():
    model, pixels = tiny(dropout=0.3, drop_path=0.3).train(), images()
    model.blocks[1].attention.dropout = 0.4
    twin, _ = recording(model)

    torch.manual_seed(7)
    theirs = model(pixels)
    torch.manual_seed(7)
    assert torch.equal(twin(pixels), theirs)


@pytest.mark.parametrize("mask", ["none", "boolean", "float", "row", "nowhere"])
def test_the_recorded_weights_are_those_that_made_the_answer(mask):
    torch.manual_seed(0)
    attention = disturbed(Attention(24, heads=4)).double()
    tokens = torch.randn(2, 9, 24, dtype=torch.float64)
    masks = {
        "none": None,
        "boolean": torch.rand(9, 9) < 0.7,
        "float": torch.randn(2, 4, 9, 9, dtype=torch.float64),
        "row": torch.rand(2, 1, 1, 9) < 0.7,
        "nowhere": (torch.arange(9) != 5)[:, None].expand(9, 9),
    }
    twin, records = recording(attention)

    answer = twin(tokens, tokens, tokens, masks[mask])

    weights, value = records[""].maps[0], attention.split(attention.value(tokens))
    mixed = (weights @ value).transpose(1, 2).flatten(2)
    torch.testing.assert_close(attention.out(mixed), answer, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("heads", [None, [2], [3, 0]])
def test_asking_for_some_rows_and_heads_gives_those_of_the_whole_map(heads):
    model, pixels = tiny(position="relative"), images()
    whole_twin, whole = recording(model)
    twin, some = recording(model, rows=[7, 0, 16], heads=heads)
    whole_twin(pixels), twin(pixels)

    for name in whole:
        expected = whole[name].maps[0][:, heads or [0, 1, 2, 3]][:, :, [7, 0, 16]]
        torch.testing.assert_close(some[name].maps[0], expected)


def test_one_row_costs_one_row():
    """What is computed and kept for one of 4096 tokens is measured: a whole map would be 16.8 M numbers."""
    torch.manual_seed(0)
    twin, records = recording(Attention(8, heads=1), rows=[3])
    tokens = torch.randn(1, 4096, 8)
    largest = 0

    class Largest(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            nonlocal largest
            answer = function(*args, **kwargs or {})
            largest = max([largest, *(part.numel() for part in [answer] if isinstance(part, torch.Tensor))])
            return answer

    with torch.no_grad(), Largest():
        twin(tokens, tokens, tokens)

    assert records[""].maps[0].shape == (1, 1, 1, 4096)
    assert records[""].maps[0].untyped_storage().nbytes() == 4096 * 4
    assert largest == 4096 * 8  # nothing larger than the tokens themselves


def test_the_twin_shares_every_parameter_and_buffer_and_nothing_is_left_on_the_model():
    model = tiny(position="relative")
    before = {name: (id(part), dict(part.__dict__)) for name, part in model.named_modules()}
    twin, _ = recording(model)
    twin(images())

    for kind in ("named_parameters", "named_buffers"):
        theirs = dict(getattr(model, kind)())
        ours = dict(getattr(twin, kind)())
        assert ours.keys() == theirs.keys()
        assert all(ours[name] is theirs[name] for name in theirs)
    assert {name: (id(part), dict(part.__dict__)) for name, part in model.named_modules()} == before
    assert all(block.attention.kernel is quick for block in model.blocks)
    assert all(isinstance(block.attention.kernel, RecordingKernel) for block in twin.blocks)


class Tempered(nn.Module):
    """A kernel with a parameter of its own, by which queries are multiplied: 1 is the plain softmax."""

    def __init__(self, temperature):
        super().__init__()
        self.temperature = nn.Parameter(torch.tensor(temperature))

    def forward(self, query, key, value, mask, *, scale, dropout=0.0):
        return fused(query * self.temperature, key, value, mask, scale=scale, dropout=dropout)


def test_a_kernel_with_parameters_of_its_own_is_recorded_and_shared_too():
    attention = Attention(24, heads=4, kernel=Tempered(1.0))
    twin, records = recording(attention, rows=[0])
    tokens = torch.randn(2, 9, 24)

    assert torch.equal(twin(tokens, tokens, tokens), attention(tokens, tokens, tokens))
    assert twin.kernel.kernel.temperature is attention.kernel.temperature
    assert len(records[""].maps) == 1


def test_a_kernel_that_weighs_otherwise_than_the_map_would_say_is_not_recorded():
    with pytest.raises(ExplanationError, match="never computed"):
        recording(Attention(24, heads=4, kernel=Tempered(0.5)), rows=[0])


def test_each_call_of_a_module_is_one_entry_of_its_record():
    twin, records = recording(tiny(), layers=-1, rows=[0])
    twin(images(1)), twin(images(2))
    assert [weights.shape[0] for weights in records["blocks.2.attention"].maps] == [1, 2]


@pytest.mark.parametrize(
    ("layers", "names"),
    [
        (None, [0, 1, 2]),
        (1, [1]),
        (-1, [2]),
        (-3, [0]),
        ([2, 0, -1], [0, 2]),
        ("blocks.[01].attention", [0, 1]),
        (["blocks.1.*", 2], [1, 2]),
    ],
)
def test_layers_are_chosen_by_number_from_either_end_by_name_or_by_pattern(layers, names):
    _, records = recording(tiny(), layers)
    assert list(records) == [f"blocks.{number}.attention" for number in names]


def test_recording_one_thread_leaves_the_answers_of_the_others_alone():
    model, pixels = tiny(), images()
    expected = model(pixels)

    def ask() -> None:
        for _ in range(20):
            assert torch.equal(model(pixels), expected)

    def record(row: int) -> list[tuple[int, int, torch.Tensor]]:
        seen = []
        for _ in range(20):
            twin, records = recording(model, -1, [row])
            assert torch.equal(twin(pixels), expected)
            seen.append((row, len(records["blocks.2.attention"].maps), records["blocks.2.attention"].maps[0]))
        return seen

    with ThreadPoolExecutor(5) as threads:
        asked = [threads.submit(ask) for _ in range(2)]
        seen = [entry for recorded in threads.map(record, range(3)) for entry in recorded]
        for one in asked:
            one.result()

    assert len(seen) == 60
    whole_twin, whole = recording(model, -1)
    whole_twin(pixels)
    for row, calls, weights in seen:
        assert calls == 1
        torch.testing.assert_close(weights, whole["blocks.2.attention"].maps[0][:, :, row : row + 1])


COMPILED = """
import torch
from vitrail.explain.recording import recording
from vitrail.models.vit import ViT, ViTConfig

model = ViT(ViTConfig(image=32, patch=8, dim=24, depth=3, heads=4, mlp_dim=48, classes=5)).eval()
pixels = torch.rand(2, 3, 32, 32)
compiled = torch.compile(model, backend="eager")
answer = compiled(pixels)
twin, records = recording(compiled, rows=[0])
assert type(twin) is ViT and compiled._orig_mod is model
assert torch.equal(twin(pixels), model(pixels)) and torch.equal(compiled(pixels), answer)
assert [record.maps[0].shape for record in records.values()] == [(2, 4, 1, 17)] * 3

model.compile(backend="eager")  # in place: the twin must not take the compiled call along
twin, records = recording(model, rows=[0])
assert torch.equal(twin(pixels), answer) and torch.equal(model(pixels), answer)
assert [record.maps[0].shape for record in records.values()] == [(2, 4, 1, 17)] * 3
"""


@pytest.mark.slow
def test_a_compiled_model_is_recorded_through_its_plain_module_and_stays_as_it_was():
    """In a process of its own: torch.compile cannot trace the shape checks that these tests run under."""
    done = subprocess.run([sys.executable, "-c", COMPILED], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


def test_gradients_of_the_model_do_not_see_the_recording():
    model, pixels = tiny(), images()
    twin, records = recording(model, rows=[0])
    model(pixels).sum().backward()
    expected = [parameter.grad.clone() for parameter in model.parameters()]
    model.zero_grad()
    twin(pixels).sum().backward()
    assert all(torch.equal(parameter.grad, grad) for parameter, grad in zip(model.parameters(), expected, strict=True))
    assert not any(record.maps[0].requires_grad for record in records.values())


def test_a_model_without_attention_says_so_in_words():
    with pytest.raises(ExplanationError, match="Sequential has no attention to show"):
        recording(nn.Sequential(nn.Linear(3, 3)))


@pytest.mark.parametrize("layer", [3, 11, -4, "decoder.*"])
def test_a_layer_that_does_not_exist_names_the_ones_that_do(layer):
    with pytest.raises(ExplanationError) as error:
        recording(tiny(), layer)
    assert f"There is no layer {layer!r}. This model has layers 0 to 2" in str(error.value)


@pytest.mark.parametrize("head", [4, -1])
def test_a_head_that_does_not_exist_names_the_ones_that_do(head):
    with pytest.raises(ExplanationError, match=rf"There is no head {head}: blocks\.0\.attention has heads 0 to 3"):
        recording(tiny(), heads=[head])


def test_a_token_that_does_not_exist_names_the_ones_that_do():
    twin, _ = recording(tiny(), rows=[TOKENS])
    with pytest.raises(ExplanationError, match=r"There is no token 17: blocks\.0\.attention has tokens 0 to 16"):
        twin(images())


def test_a_model_that_refuses_to_be_copied_is_a_sentence():
    class Sealed(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = Attention(8, 2)
            self.remembered = self.attention.query.weight * 2  # a tensor with a history refuses deepcopy

    with pytest.raises(ExplanationError, match="cannot be copied"):
        recording(Sealed())


def test_the_weights_follow_the_equation():
    """attention_weights on the chosen rows, against softmax(q k^T / sqrt(d)) written out."""
    query, key = torch.randn(1, 2, 5, 3, dtype=torch.float64), torch.randn(1, 2, 7, 3, dtype=torch.float64)
    scores = torch.einsum("bhqd,bhkd->bhqk", query, key) / 3**0.5
    expected = scores.exp() / scores.exp().sum(-1, keepdim=True)
    torch.testing.assert_close(attention_weights(query, key, scale=3**-0.5), expected)
