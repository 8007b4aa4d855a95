"""Convolutions with their norms folded into them predict what they predict apart."""

import copy

import pytest
import torch
from torch import nn

from parity.references import disturbed
from vitrail.core import packing
from vitrail.core.convolutions import ConvNorm, StandardisedConv
from vitrail.core.packed_convolutions import PackedConvNorm, PackedStandardisedConv
from vitrail.core.packing import convolutions_available, packed
from vitrail.core.precision import LIMIT
from vitrail.models.resnet import ResNet, ResNetConfig
from vitrail.models.resnetv2 import ResNetV2, ResNetV2Config
from vitrail.models.vit import ViT, ViTConfig

pytestmark = pytest.mark.skipif(not convolutions_available(), reason="no oneDNN convolutions for this processor")

SIZES = {"stem": 8, "widths": (8, 16, 24, 32), "layers": (2, 1, 2, 1), "classes": 5}
V2 = ResNetV2Config(stem=8, widths=(32, 32), layers=(2, 1), groups=4, norm="after", border="same", classes=5)
KINDS = {
    "basic": ResNetConfig(**SIZES, block="basic"),
    "bottleneck": ResNetConfig(**SIZES),
    "frozen": ResNetConfig(**SIZES, norm="frozen", dilated=True),
    "version 2": V2,
    "norms before": ResNetV2Config(stem=8, widths=(32, 32), layers=(2, 1), groups=4, classes=5),
    "hybrid": ViTConfig(image=32, patch=8, dim=24, heads=2, depth=1, mlp_dim=48, classes=5, backbone=V2),
}
BUILD = {ResNetConfig: ResNet, ResNetV2Config: ResNetV2, ViTConfig: ViT}


def made(kind: str) -> nn.Module:
    """A small model whose every number matters."""
    torch.manual_seed(0)
    model = disturbed(BUILD[type(KINDS[kind])](KINDS[kind]))
    with torch.no_grad():
        for name, buffer in model.named_buffers():
            if name.endswith("running_var"):
                buffer.abs_()
    return model


def packed_parts(model: nn.Module) -> list[str]:
    """The convolutions that have been packed."""
    kinds = (PackedConvNorm, PackedStandardisedConv)
    return [name for name, part in model.named_modules() if isinstance(part, kinds)]


def near(ours: torch.Tensor, theirs: torch.Tensor) -> bool:
    return bool((ours - theirs).norm() <= LIMIT * theirs.norm())


@pytest.mark.parametrize("kind", KINDS)
def test_a_packed_model_answers_as_it_does_unpacked(kind):
    model = made(kind)
    twin, side = packed(model), 64 if kind == "hybrid" else 57
    plain = [part for part in model.modules() if type(part) in (ConvNorm, StandardisedConv)]
    assert len(packed_parts(twin)) == len(plain) > 0
    assert not packed_parts(model)
    for batch, height, width in ((1, 32, 64), (3, side, 64), (1, 32, 64)):
        images = torch.rand(batch, 3, height, width)
        with torch.inference_mode():
            assert near(twin(images), model(images))
            [ours], [theirs] = twin.features(images, [0]), model.features(images, [0])
            assert near(ours.map, theirs.map)


@pytest.mark.parametrize("kind", ["basic", "frozen", "version 2", "norms before"])
def test_padding_is_kept_out_of_packed_pictures_too(kind):
    model, images = made(kind), torch.rand(2, 3, 64, 64)
    twin, valid = packed(model), torch.ones(2, 64, 64, dtype=torch.bool)
    valid[0, 32:], valid[0, :, 32:] = False, False
    with torch.no_grad():
        for ours, theirs in zip(
            twin.features(images, [0, 1], valid), model.features(images, [0, 1], valid), strict=True
        ):
            assert near(ours.map, theirs.map)
            assert torch.equal(ours.valid, theirs.valid)
            assert not ours.map[0][:, ~ours.valid[0]].any()


def test_earlier_maps_are_not_written_over():
    twin, images = packed(made("frozen")), torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        all_at_once = twin.features(images, range(4))
        for number, one in enumerate(all_at_once):
            assert torch.equal(one.map, twin.features(images, [number])[0].map)


def test_what_is_not_predicting_in_float32_is_computed_as_before():
    model = made("basic")
    twin, images = packed(model), torch.rand(1, 3, 40, 40)
    assert torch.equal(twin(images), model(images))  # with gradients
    twin(images).sum().backward()
    assert model.stem.convolution.weight.grad is not None
    with torch.no_grad():
        assert torch.equal(
            copy.deepcopy(twin).double()(images.double()), copy.deepcopy(model).double()(images.double())
        )
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert torch.equal(twin(images), model(images))
        learning, other = copy.deepcopy(model).train(), copy.deepcopy(twin).train()
        assert near(other(torch.cat([images, 1 - images])), learning(torch.cat([images, 1 - images])))
        assert torch.equal(other.stem.norm.running_mean, learning.stem.norm.running_mean)
        empty = torch.empty(0, 3, 40, 40)
        assert twin(empty).shape == (0, 5)


def test_weights_and_norms_that_change_later_are_seen():
    model = made("basic")
    twin, images = packed(model), torch.rand(1, 3, 40, 40)
    with torch.no_grad():
        before = twin(images)
        model.stem.norm.running_mean.add_(1)
        model.stages[0][0].convolutions[0].convolution.weight.mul_(2)
        assert not near(twin(images), before)
        assert near(twin(images), model(images))


def test_a_part_that_somebody_listens_to_is_called():
    model, heard = made("basic"), []
    twin = packed(model)
    twin.stem.norm.register_forward_hook(lambda part, given, answer: heard.append(answer.shape))
    with torch.no_grad():
        twin(torch.rand(1, 3, 40, 40))
    assert heard == [(1, 8, 20, 20)]


def test_operations_that_answer_something_else_are_not_used(monkeypatch):
    model = made("basic")
    monkeypatch.setattr(packing, "convolutions_available", lambda: False)
    assert not packed_parts(packed(model))


def test_a_twin_is_exported_as_its_model_is():
    model = made("basic")
    images = torch.rand(1, 3, 40, 40)
    with torch.no_grad():
        program = torch.export.export(packed(model), (images,))
        assert near(program.module()(images), model(images))
