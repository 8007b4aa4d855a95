"""What must be true of a Vision Transformer whatever its weights."""

from dataclasses import replace

import pytest
import torch

from vitrail.core.embeddings import check_images
from vitrail.core.positions import sinusoidal_2d
from vitrail.errors import ConfigError
from vitrail.models.vit import VARIANTS, ViT, ViTConfig

SMALL = ViTConfig(image=(16, 24), patch=8, dim=16, depth=3, heads=2, mlp_dim=32, classes=5)


def build(**changes) -> ViT:
    torch.manual_seed(0)
    return ViT(replace(SMALL, **changes)).eval()


def images(channels: int = 3, rows: int = 16, columns: int = 24, batch: int = 2) -> torch.Tensor:
    return torch.randn(batch, channels, rows, columns, generator=torch.Generator().manual_seed(3))


ODD = [
    {"channels": 1},
    {"channels": 6},
    {"image": (8, 40), "patch": (4, 10)},
    {"stem": (4, 6, 8)},
    {"stem": (4, 6, 8), "stem_last": "bias", "channels": 4},
    {"class_token": False, "pool": "mean"},
    {"pool": "class+mean", "norm_pooled": True},
    {"registers": 3, "positions_for": "patches"},
    {"registers": 3, "positions_for": "class", "distillation_token": True},
    {"distillation_token": True, "distillation_head": True},
    {"position": "axes"},
    {"position": "sinusoidal"},
    {"position": "relative", "registers": 1},
    {"position": "relative-log"},
    {"position": "none"},
    {"norm": "after"},
    {"norm": "branch", "layer_scale": 0.1},
    {"gated": True, "bias": False},
    {"representation": 9},
    {"representation": 9, "pool": "class+mean"},
    {"classes": 0},
    {"drop_path": 0.5, "dropout": 0.1},
]


@pytest.mark.parametrize("changes", ODD, ids=str)
def test_every_part_runs_trains_and_ignores_its_neighbours(changes):
    model = build(**changes)
    config = model.config
    batch = images(config.channels, *config.size, batch=3)
    answer = model(batch)
    assert answer.shape == (3, config.classes or config.read)
    torch.testing.assert_close(model(batch[1:2]), answer[1:2], rtol=1e-5, atol=1e-5)
    model.train()(batch).square().sum().backward()
    unused = [name for name, p in model.named_parameters() if p.grad is None]
    assert unused == []


@pytest.mark.parametrize(
    "changes", [{}, {"position": "axes"}, {"position": "sinusoidal"}, {"position": "none"}], ids=str
)
def test_images_of_another_size_are_read(changes):
    model = build(**changes)
    tokens = model.encode(images(3, 32, 40))
    assert tokens.grid == (4, 5)
    assert tokens.x.shape == (2, 21, 16)
    assert model(images(3, 32, 40)).shape == (2, 5)


def test_without_positions_the_patches_are_a_set():
    model, batch = build(position="none"), images()
    swapped = torch.cat([batch[..., 16:], batch[..., 8:16], batch[..., :8]], dim=-1)
    assert torch.allclose(model(batch), model(swapped), atol=1e-6)
    learned = build()
    assert not torch.allclose(learned(batch), learned(swapped), atol=1e-4)


@pytest.mark.parametrize(("rows", "columns"), [(17, 24), (16, 25), (5, 24)])
def test_an_image_that_does_not_divide_names_the_nearest_sizes(rows, columns):
    nearest = {17: "16 and 24", 25: "24 and 32", 5: "8"}[columns if rows == 16 else rows]
    with pytest.raises(ConfigError, match=f"nearest sizes that do: {nearest}"):
        build()(images(3, rows, columns))


def test_a_layer_scale_may_be_written_as_a_whole_number():
    assert build(layer_scale=1).blocks[0].around_mlp.layer_scale.dtype == torch.float32


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (torch.zeros(3, 16, 24), r"shape \(3, 16, 24\); expected .*Add a batch axis: images\[None\]"),
        (torch.zeros(16, 24), r"expected \(batch, channels, height, width\)\.$"),
        (torch.zeros(1, 3, 16, 24, dtype=torch.uint8), "torch.uint8; expected prepared pixels.*card.preprocessing"),
        (torch.zeros(1, 3, 16, 24, dtype=torch.float64), r"torch.float64 and the weights torch.float32. Use images.to"),
    ],
)
def test_images_that_are_no_batch_of_prepared_pixels_are_a_sentence(given, sentence):
    with pytest.raises(ConfigError, match=sentence):
        check_images(given, build().patch_embed.project.weight)


def test_a_model_checks_its_images_and_takes_any_type_under_autocast():
    with pytest.raises(ConfigError, match=r"torch\.float64 and the weights torch.float32"):
        build()(images().double())
    with torch.autocast("cpu", torch.bfloat16):
        assert build()(images().bfloat16()).shape == (2, 5)
    with pytest.raises(ConfigError, match=r"height of 0 pixels does not divide .*sizes that do: 8"):
        build()(images(rows=0))


def test_another_number_of_channels_is_named():
    with pytest.raises(ConfigError, match="has 4 channels and the model reads 3"):
        build()(images(4))


def test_relative_positions_say_which_grid_they_read():
    with pytest.raises(ConfigError, match=r"for 2 x 3 patches, and the image has 4 x 5"):
        build(position="relative")(images(3, 32, 40))


def test_a_padded_image_answers_as_it_does_alone():
    model = build(position="none", pool="class+mean")
    small = images(3, 16, 16)
    padded = torch.full((2, 3, 16, 32), float("nan"))
    padded[..., :16] = small
    valid = torch.zeros(2, 16, 32, dtype=torch.bool)
    valid[..., :16] = True
    alone, beside = model.pool(model.encode(small)), model.pool(model.encode(padded, valid))
    torch.testing.assert_close(beside, alone, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("changes", [{}, {"stem": (4, 8, 16), "patch": 8}], ids=["patches", "stem"])
def test_padding_does_not_show_through_patches_that_are_partly_padding(changes):
    model = build(**changes)
    valid = torch.zeros(2, 16, 24, dtype=torch.bool)
    valid[:, :13, :10] = True
    answers = []
    for padding in (0.0, 7.0, float("nan")):
        padded = images().masked_fill(~valid[:, None], padding)
        answers.append(model.pool(model.encode(padded, valid)))
    assert all(torch.equal(answer, answers[0]) for answer in answers[1:])


def test_features_are_maps_over_the_picture():
    model = build(registers=2)
    first, last = model.features(images(), at=[0, 2])
    assert first.map.shape == (2, 16, 2, 3)
    assert first.stride == (8, 8)
    tokens = model.encode(images())
    torch.testing.assert_close(model.norm(last.map[0, :, 1, 2]), tokens.x[0, tokens.prefix + 5])


def test_the_forward_is_the_figure_of_the_paper():
    model, batch = build(depth=1), images()
    patches = batch.unfold(2, 8, 8).unfold(3, 8, 8).permute(0, 2, 3, 1, 4, 5).reshape(2, 6, -1)
    project = model.patch_embed.project
    x = patches @ project.weight.flatten(1).T + project.bias
    x = torch.cat([model.class_token.expand(2, -1, -1), x], dim=1) + model.positions.table
    block = model.blocks[0]
    h = block.around_attention.norm(x)
    x = x + block.attention(h, h, h)
    x = x + block.mlp(block.around_mlp.norm(x))
    torch.testing.assert_close(model(batch), model.head(model.norm(x)[:, 0]), rtol=1e-5, atol=1e-5)


def test_two_heads_are_averaged_and_can_be_asked_apart():
    model = build(distillation_token=True, distillation_head=True)
    opinions = model.opinions(images())
    torch.testing.assert_close(model(images()), (opinions.logits + opinions.distilled) / 2)
    assert not torch.allclose(opinions.logits, opinions.distilled)
    with pytest.raises(ConfigError, match="no distillation head"):
        build().opinions(images())


def test_sinusoidal_positions_stand_in_the_tokens():
    model = build(position="sinusoidal")
    plain = build(position="none")
    plain.load_state_dict(model.state_dict())
    difference = model.embed(images()).x - plain.embed(images()).x
    torch.testing.assert_close(difference[0, 1:], sinusoidal_2d(2, 3, 16), rtol=1e-5, atol=1e-5)
    assert difference[0, 0].abs().max() == 0


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"image": 20, "patch": 16}, "height of 20 pixels does not divide into patches of 16. .*16 and 32"),
        ({"image": (32, 20), "patch": 16}, "width of 20 pixels"),
        ({"dim": 10, "heads": 4}, "dim=10 does not divide into heads=4"),
        ({"depth": 0}, "depth=0 must be at least 1"),
        ({"classes": -1}, "classes=-1 must be at least 0"),
        ({"registers": -1}, "registers=-1 must be at least 0"),
        ({"representation": 0}, "representation=0 must be at least 1"),
        ({"relative_hidden": 0}, "relative_hidden=0 must be at least 1"),
        ({"stem": (4, 0, 8)}, "stem=4,0,8: each number in stem must be at least 1"),
        ({"eps": 0.0}, "eps=0.0 must be above 0"),
        ({"eps": float("nan")}, "eps=nan must be above 0"),
        ({"eps": float("inf")}, "eps=inf must be above 0 and at most 1,000,000,000"),
        ({"dropout": 1.0}, "dropout=1.0 must be at least 0 and below 1"),
        ({"drop_path": -0.1}, "drop_path=-0.1 must be at least 0 and below 1"),
        ({"drop_path": float("nan")}, "drop_path=nan must be at least 0 and below 1"),
        ({"layer_scale": float("inf")}, "layer_scale=inf must be at least .* and at most 1,000,000,000"),
        ({"distillation_token": True, "distillation_head": True, "classes": 0}, "needs classes, and there are 0"),
        ({"distillation_token": True, "distillation_head": True, "norm_pooled": True}, "Use norm_pooled=False."),
        ({"image": 8 * 2**13}, "makes 67,108,864 patches, and at most 16,777,216"),
        ({"stem": (4, 8)}, "2 stride-2 convolutions make patches of 4 pixels, not of 8"),
        ({"class_token": False}, "pool='class' reads the class token"),
        ({"distillation_head": True}, "needs distillation_token=True"),
        ({"dialect": "tim"}, "no dialect of resizing positions called 'tim'. Did you mean timm"),
        ({"position": "sinusoidal", "dim": 10, "heads": 1}, "divides by 4"),
    ],
    ids=str,
)
def test_a_configuration_that_makes_no_sense_cannot_exist(changes, sentence):
    with pytest.raises(ConfigError, match=sentence):
        replace(SMALL, **changes)


# Parameters as published: Dosovitskiy et al. table 1 (86M, 307M, 632M), Touvron et al. table 1 (5M, 22M, 86M),
# timm's listings to the digit.
@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("vit-tiny-16", 5_717_416),
        ("vit-small-16", 22_050_664),
        ("vit-base-16", 86_567_656),
        ("vit-base-32", 88_224_232),
        ("vit-large-16", 304_326_632),
        ("vit-huge-14", 632_045_800),
        ("deit-tiny-distilled-16", 5_910_800),
        ("deit-small-distilled-16", 22_436_432),
        ("deit-base-distilled-16", 87_338_192),
    ],
)
def test_variants_have_the_published_number_of_parameters(name, parameters):
    with torch.device("meta"):
        model = ViT(VARIANTS[name])
    assert sum(p.numel() for p in model.parameters()) == parameters


@pytest.mark.parametrize("name", sorted(VARIANTS))
def test_every_variant_can_be_built(name):
    with torch.device("meta"):
        model = ViT(VARIANTS[name])
    assert model.config.grid[0] * model.config.patch_size[0] == model.config.size[0]
