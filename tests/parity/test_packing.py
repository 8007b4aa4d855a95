"""A packed twin predicts what its model predicts."""

import copy
import threading

import pytest
import torch
import transformers
from torch import nn
from torch.nn.utils import parametrizations, prune

from vitrail.core import packing
from vitrail.core.packing import PackedLinear, available, packed
from vitrail.explain.recording import recording
from vitrail.models.vit import ViT, ViTConfig

pytestmark = pytest.mark.skipif(not available(), reason="this torch has no oneDNN products for this processor")

SHAPES = {
    "vector": torch.randn(24),
    "batch": torch.randn(5, 24),
    "tokens": torch.randn(2, 7, 24),
    "windows": torch.randn(2, 3, 4, 24),
    "turned": torch.randn(3, 24, 7).mT,
    "every second": torch.randn(3, 48)[:, ::2],
    "repeated": torch.randn(1, 24).expand(5, 24),
    "offset": torch.randn(6, 24)[1:],
    "no rows": torch.empty(0, 24),
    "no tokens": torch.empty(2, 0, 24),
}


def small(**changes) -> ViT:
    """A ViT whose every parameter matters."""
    torch.manual_seed(0)
    shape = {"image": (16, 24), "patch": 8, "dim": 24, "depth": 2, "heads": 3, "mlp_dim": 40, "classes": 5}
    model = ViT(ViTConfig(**shape | changes)).eval()
    for parameter in model.parameters():
        parameter.data.add_(torch.randn_like(parameter) * 0.1)
    return model


def packed_layers(model: nn.Module) -> list[str]:
    return [name for name, part in model.named_modules() if isinstance(part, PackedLinear)]


def error(answer: torch.Tensor, exact: torch.Tensor) -> float:
    return float((answer.double() - exact).norm() / exact.norm())


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("x", SHAPES.values(), ids=SHAPES.keys())
def test_a_packed_layer_takes_what_a_linear_layer_takes(x, bias):
    layer = nn.Linear(24, 10, bias=bias).eval()
    with torch.inference_mode():
        torch.testing.assert_close(packed(layer)(x), layer(x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("batch", [1, 2, 5])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"registers": 2, "pool": "class+mean"},
        {"bias": False, "gated": True, "layer_scale": 0.3},
        {"stem": (4, 6, 8), "norm": "after"},
        {"position": "relative", "representation": 6},
        {"distillation_token": True, "distillation_head": True},
    ],
    ids=str,
)
def test_a_twin_is_as_near_to_float64_as_its_model(changes, batch):
    model, images = small(**changes), torch.randn(batch, 3, 16, 24)
    exact = copy.deepcopy(model).double()(images.double())
    twin = packed(model)
    with torch.inference_mode():
        assert error(twin(images), exact) < 1e-5
        assert error(twin(images), exact) < 10 * error(model(images), exact) + 1e-7
    assert "blocks.1.attention.query" in packed_layers(twin)


def test_one_twin_takes_any_batch_and_any_number_of_tokens():
    model = small(position="sinusoidal")
    twin = packed(model)
    with torch.inference_mode():
        for images in (torch.randn(1, 3, 16, 24), torch.randn(4, 3, 32, 8), torch.randn(2, 3, 64, 64)):
            torch.testing.assert_close(twin(images), model(images), rtol=1e-5, atol=1e-5)


def test_models_from_elsewhere_can_be_packed_too():
    config = transformers.ViTConfig(
        hidden_size=24, num_hidden_layers=2, num_attention_heads=3, intermediate_size=40, image_size=16, patch_size=8
    )
    model, images = transformers.ViTForImageClassification(config).eval(), torch.randn(2, 3, 16, 16)
    twin = packed(model)
    with torch.inference_mode():
        torch.testing.assert_close(twin(images).logits, model(images).logits, rtol=1e-5, atol=1e-6)
    assert packed_layers(twin)


def test_the_model_stays_as_it_was_and_shares_everything_with_its_twin():
    model = small(stem=(4, 6, 8))
    before = copy.deepcopy(model.state_dict())
    twin = packed(model)

    assert not packed_layers(model)
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)
    assert [name for name, _ in twin.named_modules()] == [name for name, _ in model.named_modules()]
    ours, theirs = twin.state_dict(keep_vars=True), model.state_dict(keep_vars=True)
    assert list(ours) == list(theirs)
    assert all(ours[name] is theirs[name] for name in ours)


def without_linear_layers() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU()).eval()


def uncopyable() -> nn.Module:
    model = small()
    model.remembered = model.head.weight * 2  # a tensor with a history refuses deepcopy
    return model


@pytest.mark.parametrize(
    "model",
    [
        lambda: small().train(),
        lambda: small().double(),
        lambda: small().bfloat16(),
        lambda: small().to("meta"),
        lambda: packed(small()),
        lambda: nn.Linear(4, 0).eval(),
        without_linear_layers,
        uncopyable,
    ],
)
@pytest.mark.filterwarnings("ignore:Initializing zero-element")
def test_a_model_that_would_gain_nothing_comes_back_itself(model):
    model = model()
    assert packed(model) is model


@pytest.mark.parametrize("fault", [AttributeError, RuntimeError, TypeError])
def test_a_torch_that_lacks_the_operations_leaves_models_alone(monkeypatch, fault):
    def lacking(*_):
        raise fault

    model = small()
    monkeypatch.setattr(packing, "apply", lacking)
    available.cache_clear()
    assert packed(model) is model
    monkeypatch.undo()
    available.cache_clear()


def test_operations_that_answer_something_else_are_not_used(monkeypatch):
    model, apply = small(), packing.apply
    monkeypatch.setattr(packing, "apply", lambda *inputs: apply(*inputs).bfloat16().float())
    available.cache_clear()
    assert packed(model) is model
    monkeypatch.undo()
    available.cache_clear()


def test_layers_that_mean_something_else_stay_what_they_are():
    class Doubling(nn.Linear):
        def forward(self, input):
            return 2 * super().forward(input)

    pruned, normed = nn.Linear(6, 6), parametrizations.weight_norm(nn.Linear(6, 6))
    prune.l1_unstructured(pruned, "weight", amount=0.5)
    model = nn.Sequential(Doubling(6, 6), pruned, normed, nn.Linear(6, 6)).eval()
    x = torch.randn(3, 6)
    with torch.inference_mode():
        expected = model(x)  # also lets pruning compute its weight, without a history
        twin = packed(model)
        torch.testing.assert_close(twin(x), expected, rtol=1e-5, atol=1e-6)
    assert packed_layers(twin) == ["3"]


def test_hooks_still_run_and_a_shared_layer_is_still_one():
    layer, seen = nn.Linear(6, 6), []
    model = nn.Sequential(layer, nn.ReLU(), layer).eval()
    layer.register_forward_hook(lambda *_: seen.append("called"))
    twin = packed(model)
    with torch.inference_mode():
        twin(torch.randn(2, 6))
    assert seen == ["called", "called"]
    assert twin[0] is twin[2]


def test_gradients_flow_through_a_twin_as_through_its_model():
    model, images = small(), torch.randn(2, 3, 16, 24, requires_grad=True)
    [ours] = torch.autograd.grad(packed(model)(images).square().sum(), images)
    [theirs] = torch.autograd.grad(model(images).square().sum(), images)
    assert torch.equal(ours, theirs)


def test_autocast_and_other_types_mean_what_they_mean_to_the_model():
    model, images = small(), torch.randn(2, 3, 16, 24)
    twin = packed(model)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(twin(images), model(images))
    with torch.inference_mode():
        exact = copy.deepcopy(model).double()(images.double())
        assert torch.equal(copy.deepcopy(twin).double()(images.double()), exact)


@pytest.mark.parametrize("loaded_into", ["twin", "model"])
def test_weights_that_are_loaded_later_are_seen(loaded_into):
    model, images = small(), torch.randn(2, 3, 16, 24)
    twin = packed(model)
    with torch.inference_mode():
        before = twin(images)
    other = {name: tensor + 0.1 for name, tensor in model.state_dict().items()}
    {"twin": twin, "model": model}[loaded_into].load_state_dict(other)
    with torch.inference_mode():
        assert error(twin(images), model(images).double()) < 1e-5
        assert error(before, model(images).double()) > 1e-2


@torch.no_grad()
def test_weights_that_come_to_stand_where_others_stood_are_seen():
    twin, x = packed(nn.Linear(512, 512).eval()), torch.randn(8, 512)

    def add_twice() -> None:  # as adapters are merged: no answer is asked for in between
        twin.weight.data = twin.weight.data + 1
        twin.weight.data = twin.weight.data + 1

    def put_another() -> None:
        del twin.weight
        twin.weight = nn.Parameter(torch.randn(512, 512))

    def turn() -> None:
        twin.weight.data = twin.weight.data.mT

    def shorten() -> None:
        twin.weight.data = twin.weight.data[:5]
        twin.bias.data = twin.bias.data[:5]

    for change in [add_twice, put_another, turn] * 20 + [shorten]:  # memory was used again in every fifth case or so
        twin(x)
        change()
        exact = x.double() @ twin.weight.double().mT + twin.bias.double()
        assert error(twin(x), exact) < 1e-5, change.__name__


def test_weights_made_in_inference_mode_can_be_packed():
    with torch.inference_mode():
        model, x = nn.Linear(24, 10).eval(), torch.randn(3, 24)
        torch.testing.assert_close(packed(model)(x), model(x), rtol=1e-5, atol=1e-6)


def test_the_attention_of_a_twin_can_be_recorded_without_packing_again():
    twin, images = packed(small()), torch.randn(2, 3, 16, 24)
    recorder, records = recording(twin, layers=1)
    with torch.inference_mode():
        assert torch.equal(recorder(images), twin(images))
    assert records["blocks.1.attention"].maps[0].shape == (2, 3, 7, 7)
    assert recorder.get_submodule("head").layout is twin.get_submodule("head").layout


def test_a_twin_is_exported_as_its_model_is():
    model, images = small(), torch.randn(2, 3, 16, 24)
    with torch.no_grad():
        program = torch.export.export(packed(model), (images,))
    assert "mkldnn" not in str(program.graph)
    torch.testing.assert_close(program.module()(images), model(images))


def test_several_threads_may_use_one_twin():
    model = small()
    twin, pictures = packed(model), [torch.randn(2, 3, 16, 24) for _ in range(8)]
    answers: dict[int, torch.Tensor] = {}

    def ask(number: int) -> None:
        with torch.inference_mode():
            answers[number] = twin(pictures[number])

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    with torch.inference_mode():
        for number, images in enumerate(pictures):
            torch.testing.assert_close(answers[number], model(images), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("rows", range(7))
@pytest.mark.parametrize("bias", [True, False])
def test_a_row_or_two_are_multiplied_as_many_are(monkeypatch, rows, bias):
    monkeypatch.setattr(packing, "multiplies_in_tiles", lambda: False)  # so that rows of zeros stand around it
    torch.manual_seed(0)
    linear, x = nn.Sequential(nn.Linear(24, 40, bias=bias)).eval(), torch.randn(1, rows, 24)
    with torch.inference_mode():
        torch.testing.assert_close(packed(linear)(x), linear(x), rtol=1e-5, atol=1e-6)
        assert packed(linear)(x[0]).shape == (rows, 40)
        assert packed(linear)(x[0].new_zeros(24)).shape == (40,)


@pytest.mark.parametrize("tiles", [False, True])
def test_with_tiles_a_row_or_two_are_multiplied_by_torch(monkeypatch, tiles):
    monkeypatch.setattr(packing, "multiplies_in_tiles", lambda: tiles)
    asked = []

    def noted(layout, x, bias):
        asked.append(x.shape[0])
        return torch.nn.functional.linear(x, linear.weight, bias)

    linear = nn.Linear(24, 40).eval()
    twin = packed(linear)
    monkeypatch.setattr(packing, "apply", noted)
    with torch.inference_mode():
        for rows in (1, 2, 3, 4, 5):
            torch.testing.assert_close(twin(torch.ones(rows, 24)), linear(torch.ones(rows, 24)))
    assert asked == ([4, 5] if tiles else [4, 4, 4, 4, 5])


@pytest.mark.parametrize("tiles", [False, True])
def test_what_torch_has_multiplied_before_onednn_is_ready_is_left_to_it(monkeypatch, tiles):
    monkeypatch.setattr(packing, "multiplies_in_tiles", lambda: tiles)
    monkeypatch.setattr(packing, "LITTLE", 24 * 40 * 4)
    monkeypatch.setattr(packing, "LITTLE_WITH_TILES", 24 * 40 * 6)
    asked = []
    monkeypatch.setattr(packing, "apply", lambda layout, x, bias: asked.append(x.shape[0]) or x.new_zeros(len(x), 40))
    linear = nn.Linear(24, 40).eval()
    twin = packed(linear)
    with torch.inference_mode():
        for rows in range(8):
            twin(torch.ones(rows, 24))
    assert asked == ([7] if tiles else [5, 6, 7])
