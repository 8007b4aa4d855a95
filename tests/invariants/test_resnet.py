"""What is true of every ResNet: neighbours in a batch do not matter, layouts do not matter, blocks begin as nothing."""

import pytest
import torch
import torch.nn.functional as F

from parity.references import agree, disturbed
from vitrail.core.convolutions import GroupNorm, StandardisedConv, same_border, with_border
from vitrail.errors import ConfigError
from vitrail.models import resnet as resnet_file
from vitrail.models.resnet import ResNet, ResNetConfig
from vitrail.models.resnetv2 import ResNetV2, ResNetV2Config

TINY = {"stem": 6, "widths": (4, 6, 8, 10), "layers": (1, 2, 1, 2), "classes": 3}
KINDS = [{"block": "basic"}, {"block": "bottleneck"}, {"dilated": True}, {"block": "basic", "dilated": True}]
SIZES = [(1, 1), (31, 64), (32, 33), (47, 61), (63, 2)]


def tiny(**fields) -> ResNet:
    """A small random ResNet with frozen norms, whose variances are above zero and whose biases are not zero."""
    model = disturbed(ResNet(ResNetConfig(**{**TINY, "norm": "frozen", **fields})))
    with torch.no_grad():
        for name, buffer in model.named_buffers():
            if name.endswith("running_var"):
                buffer.abs_()
            if name.endswith("norm.bias"):
                buffer.add_(0.5)  # so that padding would not stay zero of itself
    return model


def padded(image: torch.Tensor, height: int, width: int, fill: float) -> tuple[torch.Tensor, torch.Tensor]:
    """A picture at the top left of a larger one, and which pixels are it."""
    rows, columns = image.shape[2:]
    edges = (0, width - columns, 0, height - rows)
    valid = F.pad(torch.ones(1, rows, columns), edges).bool()
    return F.pad(image, edges, value=fill), valid


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_a_picture_is_answered_alike_alone_and_padded_in_a_batch(kind, size):
    model, image = tiny(**kind), torch.rand(1, 3, *size)
    small, valid = padded(image, 65, 70, fill=float("nan"))
    batch = torch.cat([small, torch.rand(1, 3, 65, 70)])
    valid = torch.cat([valid, torch.ones_like(valid)])

    with torch.no_grad():
        alone, together = model.features(image, range(4)), model.features(batch, range(4), valid)
        tokens = model.encode(batch, valid)
        agree(model.pool(tokens)[:1], model.pool(model.encode(image)), precise=False)

    for one, both in zip(alone, together, strict=True):
        rows, columns = one.map.shape[2:]
        assert (rows, columns) == tuple(-(-side // one.stride[0]) for side in size)
        assert torch.equal(both.valid[0], padded(one.map, *both.map.shape[2:], fill=0)[1][0])
        agree(both.map[:1, :, :rows, :columns], one.map, precise=False)
        assert not both.map[0][:, ~both.valid[0]].any()
        assert both.valid[1].all()
    assert torch.equal(tokens.valid, together[-1].valid.flatten(1))


def test_the_padding_of_the_original_flows_into_the_picture_and_its_cells_are_found_by_nearest_resizing():
    exact, original = tiny(), tiny(padding="original")
    original.load_state_dict(exact.state_dict())
    batch, valid = padded(torch.rand(1, 3, 47, 40), 65, 70, fill=0.0)
    with torch.no_grad():
        [bled], [kept] = original.features(batch, [3], valid), exact.features(batch, [3], valid)
        [plain] = original.features(batch, [3])
    assert torch.equal(bled.map, plain.map)
    assert (bled.map - kept.map)[:, :, :2, :2].abs().max() > 1e-3
    assert torch.equal(bled.valid, F.interpolate(valid[None].float(), bled.map.shape[2:])[0].bool())


def test_without_padding_both_modes_are_the_same_bits():
    exact, original = tiny(), tiny(padding="original")
    original.load_state_dict(exact.state_dict())
    images = torch.rand(2, 3, 47, 40)
    valid = torch.ones(2, 47, 40, dtype=torch.bool)
    [one], [other], [masked] = (
        model.features(images, [3], given) for model, given in ((exact, None), (original, None), (exact, valid))
    )
    assert torch.equal(one.map, other.map)
    assert torch.equal(one.map, masked.map)
    assert one.valid is None


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_channels_last_answers_the_same(monkeypatch, kind):
    model, images = tiny(**kind), torch.rand(2, 3, 47, 61)
    with torch.no_grad():
        with monkeypatch.context() as patch:
            patch.setattr(resnet_file, "channels_last", lambda x: x)
            plain = model(images)
        agree(model(images), plain, False)
        agree(
            model.to(memory_format=torch.channels_last)(images.contiguous(memory_format=torch.channels_last)),
            plain,
            False,
        )


def test_stages_are_given_in_the_order_asked_and_later_ones_are_not_run():
    model, images = tiny(), torch.rand(1, 3, 40, 40)
    both = model.features(images, [2, 0])
    assert [feature.stride for feature in both] == [(16, 16), (4, 4)]
    model.stages[3] = None
    assert torch.equal(model.features(images, [2])[0].map, both[0].map)


@pytest.mark.parametrize(("at", "sentence"), [([], "No stage was named"), ([4], "no stage 4: .* stages 0 to 3")])
def test_a_stage_that_there_is_not_is_a_sentence(at, sentence):
    with pytest.raises(ConfigError, match=sentence):
        tiny().features(torch.rand(1, 3, 40, 40), at)


@pytest.mark.parametrize("block", ["basic", "bottleneck"])
def test_fresh_blocks_only_pass_on_what_they_are_given(block):
    model = ResNet(ResNetConfig(**TINY, block=block)).eval()
    x = torch.rand(1, model.config.dims[1], 6, 6)
    assert torch.equal(model.stages[1][1](x), x)


def test_activations_computed_twice_have_the_same_gradients():
    gradients = []
    for twice in (False, True):
        torch.manual_seed(0)
        model = ResNet(ResNetConfig(**TINY, norm="frozen"))
        for stage in model.stages:
            stage.checkpointing = twice
        model(torch.linspace(0, 1, 3 * 40 * 40).view(1, 3, 40, 40)).sum().backward()
        gradients.append(model.stem.convolution.weight.grad)
    assert torch.equal(*gradients)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"layers": (1, 1), "widths": (4,)}, "need one number for each stage"),
        ({"layers": (), "widths": ()}, "1 to 4 stages"),
        ({"layers": (0, 1, 1, 1)}, "layers=0,1,1,1: each number in layers must be at least 1"),
    ],
)
def test_a_configuration_that_makes_no_sense_is_a_sentence(fields, sentence):
    with pytest.raises(ConfigError, match=sentence):
        ResNetConfig(**fields)


def test_one_program_serves_batches_and_pictures_of_any_size():
    model = tiny(block="basic", layers=(1, 1), widths=(4, 6))
    batch, height, width = (
        torch.export.Dim(name, min=2 if name == "batch" else 9, max=512) for name in ("batch", "height", "width")
    )
    program = torch.export.export(
        model, (torch.rand(2, 3, 48, 64),), dynamic_shapes={"images": {0: batch, 2: height, 3: width}}
    )
    images = torch.rand(3, 3, 47, 61)
    torch.testing.assert_close(program.module()(images), model(images))


V2 = {"stem": 8, "widths": (32, 32, 32, 64), "layers": (1, 2, 1, 1), "groups": 4, "classes": 3}
OTHERS = [(kind, size) for kind in ({}, {"norm": "after"}) for size in SIZES]
OTHERS += [({"norm": "after", "border": "same"}, size) for size in ((32, 64), (64, 64))]
OTHERS += [({"norm": "after", "border": "same", "layers": (), "widths": ()}, (32, 60))]


def tiny_v2(**fields) -> ResNetV2:
    """A small random ResNetV2."""
    return disturbed(ResNetV2(ResNetV2Config(**{**V2, **fields})))


@pytest.mark.parametrize(("kind", "size"), OTHERS, ids=str)
def test_a_picture_is_answered_alike_by_resnetv2_alone_and_padded_in_a_batch(kind, size):
    model, image = tiny_v2(**kind), torch.rand(1, 3, *size)
    small, valid = padded(image, 96, 96, fill=float("nan"))
    batch = torch.cat([small, torch.rand(1, 3, 96, 96)])
    valid = torch.cat([valid, torch.ones_like(valid)])

    with torch.no_grad():
        one, both = model.last_map(image), model.last_map(batch, valid)
        agree(model.pool(model.encode(batch, valid))[:1], model.pool(model.encode(image)), precise=False)

    rows, columns = one.map.shape[2:]
    assert (rows, columns) == tuple(-(-side // model.config.stride) for side in size)
    assert torch.equal(both.valid[0], padded(one.map, *both.map.shape[2:], fill=0)[1][0])
    agree(both.map[:1, :, :rows, :columns], one.map, precise=False)
    assert not both.map[0][:, ~both.valid[0]].any()


def test_the_original_padding_of_resnetv2_flows_into_the_picture():
    batch, valid = padded(torch.rand(1, 3, 47, 40), 64, 64, fill=0.0)
    original = tiny_v2(padding="original")
    with torch.no_grad():
        [bled], [plain] = original.features(batch, [3], valid), original.features(batch, [3])
    assert torch.equal(bled.map, plain.map)
    assert torch.equal(bled.valid, F.interpolate(valid[None].float(), bled.map.shape[2:])[0].bool())


def test_a_group_norm_of_a_whole_map_is_torchs_and_of_a_part_is_that_of_the_part():
    norm, x = disturbed(GroupNorm(3, 12)), torch.rand(2, 12, 5, 7)
    whole = torch.ones(2, 5, 7, dtype=torch.bool)
    agree(norm(x, whole), norm(x), precise=False)
    part = whole.clone()
    part[:, 3:], part[:, :, 4:] = False, False
    agree(norm(x, part)[:, :, :3, :4], norm(x[:, :, :3, :4]), precise=False)
    assert not norm(x, torch.zeros_like(whole)).any()


def test_a_standardised_convolution_knows_no_scale_and_no_shift_of_its_weights():
    one = StandardisedConv(3, 4, 3, border="even", weight_eps=1e-12).double()
    x = torch.rand(1, 3, 6, 6, dtype=torch.float64)
    before = one(x)
    with torch.no_grad():
        one.weight.mul_(3).add_(0.5)
    torch.testing.assert_close(one(x), before)


@pytest.mark.parametrize(("size", "kernel", "stride", "border"), [
    (224, 7, 2, (2, 3)), (225, 7, 2, (3, 3)), (112, 3, 2, (0, 1)), (113, 3, 2, (1, 1)), (5, 3, 1, (1, 1)),
])  # fmt: skip
def test_a_same_border_is_tensorflows(size, kernel, stride, border):
    assert same_border(size, kernel, stride) == border
    x = with_border(torch.ones(1, 1, size, size), kernel, stride, "same")
    assert F.max_pool2d(x, kernel, stride).shape[2] == -(-size // stride)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"groups": 7}, "A map 8 wide does not divide into groups=7"),
        ({"layers": (1,)}, "need one number for each stage"),
        ({"weight_eps": 0.0}, "weight_eps=0.0 must be above 0"),
    ],
)
def test_a_configuration_of_resnetv2_that_makes_no_sense_is_a_sentence(fields, sentence):
    with pytest.raises(ConfigError, match=sentence):
        ResNetV2Config(**{**V2, **fields})


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_channels_stay_side_by_side_through_all_stages_and_padding(kind):
    valid = torch.ones(2, 64, 96, dtype=torch.bool)
    valid[1, 50:] = False
    for one in tiny(**kind).features(torch.rand(2, 3, 64, 96), [0, 1, 2, 3], valid):
        assert one.map.is_contiguous(memory_format=torch.channels_last)
