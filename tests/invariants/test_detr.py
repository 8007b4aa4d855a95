"""What DETR promises: a set, whose answers do not depend on what stands beside a picture."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from vitrail import create_model, from_pretrained, save_pretrained
from vitrail.errors import ConfigError
from vitrail.models.detr import DETR, DETRConfig
from vitrail.models.resnet import ResNetConfig
from vitrail.models.resnetv2 import ResNetV2Config
from vitrail.models.vit import ViTConfig
from vitrail.train.recipe import ModelChoice
from vitrail.train.recipe_text import with_config_value
from vitrail.weights.configs import checked

SIZES = {"dim": 16, "heads": 2, "encoder_depth": 2, "decoder_depth": 2, "mlp_dim": 24, "queries": 5, "classes": 3}
RESNET = {"stem": 4, "widths": (4, 6, 8, 10), "layers": (1, 1, 1, 2), "norm": "frozen", "classes": 0}
VIT = ViTConfig(
    image=32, patch=8, dim=12, depth=2, heads=2, mlp_dim=24, classes=0, class_token=False, pool="mean",
    position="none",
)  # fmt: skip
BACKBONES = {
    "resnet": ResNetConfig(**RESNET),
    "dc5": ResNetConfig(**RESNET, dilated=True),
    "basic": ResNetConfig(**RESNET, block="basic"),
    "resnetv2": ResNetV2Config(stem=4, layers=(1, 1), widths=(16, 32), groups=4, classes=0),
    "resnetv2-same": ResNetV2Config(stem=4, layers=(1, 1), widths=(16, 32), groups=4, classes=0, border="same"),
    "vit": VIT,
    **{f"vit-{position}": replace(VIT, position=position) for position in ("learned", "axes", "sinusoidal")},
    "vit-tokens": replace(VIT, position="learned", class_token=True, registers=2),
    "hybrid": replace(VIT, position="learned", backbone=ResNetV2Config(stem=4, layers=(1,), widths=(16,), groups=4)),
}
PICTURES = [(75, 97), (64, 33), (101, 61)]  # rows and columns


def detector(backbone: ResNetConfig | ResNetV2Config | ViTConfig = BACKBONES["resnet"], **changes) -> DETR:
    """A small model in which every number says something: fresh biases are zero."""
    torch.manual_seed(2)
    model = DETR(DETRConfig(backbone=backbone, **SIZES | changes)).eval()
    for name, tensor in model.state_dict().items():
        if name.endswith("running_var"):
            torch.nn.init.uniform_(tensor, 0.5, 1.5)
        elif tensor.ndim > 1:
            torch.nn.init.normal_(tensor, std=2.0 * max(tensor[0].numel(), 1) ** -0.5)
        else:
            torch.nn.init.normal_(tensor, std=0.2, mean=float(name.endswith("norm.weight")))
    with torch.no_grad():
        model.queries.mul_(4)
    return model


def side_by_side(sizes: list[tuple[int, int]]) -> tuple[Tensor, Tensor]:
    """Noise in one frame; what is beside it is no number at all."""
    rows, columns = (max(size[side] for size in sizes) for side in (0, 1))
    pixels = torch.full((len(sizes), 3, rows, columns), float("nan"))
    valid = torch.zeros(len(sizes), rows, columns, dtype=torch.bool)
    for place, (high, wide) in enumerate(sizes):
        pixels[place, :, :high, :wide] = torch.randn(3, high, wide)
        valid[place, :high, :wide] = True
    return pixels, valid


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("position", ["sine", "learned"])
def test_a_picture_is_answered_alone_as_in_a_batch(backbone, position):
    model = detector(BACKBONES[backbone], position=position).double()
    pixels, valid = side_by_side(PICTURES)
    pixels = pixels.double()
    together = model.layers(pixels, valid)
    for place, (high, wide) in enumerate(PICTURES):
        alone = model.layers(pixels[place : place + 1, :, :high, :wide])
        for many, one in zip(together, alone, strict=True):
            torch.testing.assert_close(many.logits[place], one.logits[0], rtol=1e-9, atol=1e-9)
            torch.testing.assert_close(many.boxes[place], one.boxes[0], rtol=1e-9, atol=1e-9)


def test_what_bleeds_over_the_border_changes_answers_where_it_is_asked_to():
    """The other mode is another: else the test above could not fail."""
    model = detector(ResNetConfig(**RESNET, padding="original"))
    pixels, valid = side_by_side(PICTURES)
    high, wide = PICTURES[1]
    alone, together = model(pixels[1:2, :, :high, :wide]), model(pixels.nan_to_num(), valid)
    assert (alone.boxes[0] - together.boxes[1]).abs().max() > 1e-4


def test_the_order_of_the_queries_decides_only_the_order_of_the_answers():
    model, order = detector(), torch.tensor([3, 0, 4, 2, 1])
    pixels = torch.randn(2, 3, 64, 70)
    before = model(pixels)
    with torch.no_grad():
        model.queries.copy_(model.queries[order])
    after = model(pixels)
    torch.testing.assert_close(after.logits, before.logits[:, order])
    torch.testing.assert_close(after.boxes, before.boxes[:, order])


@pytest.mark.parametrize("norm", ["after", "before"])
def test_a_frame_without_a_picture_gives_numbers(norm):
    model = detector(norm=norm)
    pixels, valid = side_by_side([(64, 64), (64, 64)])
    valid[1] = False
    layers = model.layers(pixels, valid)
    sum(part.sum() for layer in layers for part in layer).backward()
    assert all(part.isfinite().all() for layer in layers for part in layer)
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters() if parameter.grad is not None)


def test_boxes_are_in_the_unit_square_and_there_is_one_more_class():
    answer = detector()(torch.randn(2, 3, 64, 64))
    assert answer.logits.shape == (2, 5, 4)
    assert answer.boxes.shape == (2, 5, 4)
    assert 0 <= answer.boxes.min() <= answer.boxes.max() <= 1


@pytest.mark.parametrize("padded", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_an_exported_detector_answers_the_same_at_any_size(padded):
    model = detector()
    pixels, valid = side_by_side(PICTURES)
    given = (pixels.nan_to_num(), valid) if padded else (pixels.nan_to_num(),)
    names = ("pixels", "valid")[: len(given)]
    sides = dict.fromkeys((0, 2, 3), torch.export.Dim.DYNAMIC)
    shapes = dict(zip(names, (sides, {axis - (axis > 0): how for axis, how in sides.items()}), strict=False))
    program = torch.export.export(model, given, dynamic_shapes=shapes).module()
    other = torch.randn(2, 3, 96, 131)
    others = (other, torch.ones(2, 96, 131, dtype=torch.bool)) if padded else (other,)
    for arguments in (given, others):
        for ours, theirs in zip(program(*arguments), model(*arguments), strict=True):
            torch.testing.assert_close(ours, theirs)


def test_checkpointing_changes_no_gradient():
    model = detector(dropout=0.0, attention_dropout=0.0, activation_dropout=0.0).train()
    pixels = torch.randn(1, 3, 64, 64)
    gradients = []
    for checkpointing in (False, True):
        model.encoder.checkpointing = model.decoder.checkpointing = checkpointing
        model.zero_grad()
        model(pixels).boxes.sum().backward()
        gradients.append(model.queries.grad.clone())
    torch.testing.assert_close(*gradients)


def test_a_configuration_that_makes_no_sense_is_refused():
    with pytest.raises(ConfigError, match="dim=18 does not divide into heads=4"):
        DETRConfig(dim=18, heads=4)
    with pytest.raises(ConfigError, match="width that divides by 4; dim=18"):
        DETRConfig(dim=18, heads=3)


@pytest.mark.parametrize("backbone", ["resnet", "resnetv2-same", "vit-learned", "hybrid"])
def test_a_detector_on_any_backbone_is_saved_and_read_again(backbone, tmp_path):
    config = replace(BACKBONES[backbone], classes=7)  # which a backbone leaves out
    changes = {**SIZES, "position": "sine", "anchors": False}
    model = create_model("detr-resnet-18-small", backbone=config, **changes)
    save_pretrained(model, tmp_path / "saved")
    again = from_pretrained(tmp_path / "saved")
    assert again.config == model.config
    assert again.config.backbone.classes == 0
    pixels = torch.randn(1, 3, 64, 70)
    assert torch.equal(again.eval()(pixels).boxes, model.eval()(pixels).boxes)


@pytest.mark.parametrize(
    ("family", "kind"), [("resnet", ResNetConfig), ("resnetv2", ResNetV2Config), ("vit", ViTConfig)]
)
def test_another_backbone_is_a_setting(family, kind):
    choice = ModelChoice(name="detr-resnet-18-small")
    changes = with_config_value(choice, ["backbone", "family"], family, "model.backbone.family")
    config = replace(DETRConfig(), **checked(DETRConfig, changes, DETRConfig()))
    assert type(config.backbone) is kind
