"""A hybrid ViT answers as timm recorded it, and writes timm's names and bytes back."""

import json

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from parity.references import agree, disturbed, load, quiet
from vitrail.errors import ConfigError
from vitrail.loading import create_model, from_pretrained, save_pretrained
from vitrail.models.resnetv2 import ResNetV2Config
from vitrail.models.vit import R26, ViTConfig
from vitrail.models.vit_formats import timm

RECORDED = {"groups": 4, "weight_eps": 1e-6}  # of the recorded backbone; published ones have 32 and 1e-8


@pytest.mark.parametrize("precise", [False, True], ids=["float32", "float64"])
def test_a_bare_file_answers_as_timm_recorded_it(shared, tmp_path, precise):
    tensors = load_file(shared / "golden/timm/vit_hybrid_r_s8.safetensors")
    weights = {key.removeprefix("weight."): value for key, value in tensors.items() if key.startswith("weight.")}
    save_file(weights, tmp_path / "hybrid.safetensors")
    images = tensors["input.image"]

    ours = load(tmp_path / "hybrid.safetensors", format="timm", model="vit-base-hybrid-16", heads=4, backbone=RECORDED)

    if precise:
        ours, images = ours.double(), images.double()
    with torch.no_grad():
        agree(ours.encode(images).x.float(), tensors["output.features"], precise=False)
        agree(ours.pool(ours.encode(images)).float(), tensors["output.pre_logits"], precise=False)
        agree(ours(images).float(), tensors["output.logits"], precise=False)
    assert ours.config.patch == 8
    assert ours.config.backbone == ResNetV2Config(
        stem=8, layers=(1, 1), widths=(16, 32), norm="after", border="same", classes=0, **RECORDED
    )
    keymap = min((one.keymap for one in timm.FORMATS), key=lambda one: one.unread(weights))
    written = keymap.write(ours.float().state_dict())
    assert written.keys() == weights.keys()
    assert all(torch.equal(written[name], weights[name]) for name in weights)


@pytest.mark.parametrize(
    ("name", "architecture", "patch"),
    [("vit-tiny-hybrid-32", "vit_tiny_r_s16_p8_224", 8), ("vit-small-hybrid-32", "vit_base_r26_s32_224", 1)],
)
def test_a_timm_folder_is_written_and_read_back(tmp_path, name, architecture, patch):
    ours = disturbed(create_model(name, dim=24, heads=2, mlp_dim=48, depth=1, image=64, classes=3))
    save_pretrained(ours, tmp_path / "timm", format="timm", announce=quiet)
    told = json.loads((tmp_path / "timm" / "config.json").read_text())
    assert told["architecture"] == architecture
    assert told["model_args"]["patch_size"] == patch
    names = load_file(tmp_path / "timm" / "model.safetensors")
    first = "patch_embed.backbone.conv.weight" if patch == 8 else "patch_embed.backbone.stem.conv.weight"
    assert names[first].shape == (64, 3, 7, 7)

    again = load(tmp_path / "timm")

    assert again.config == ours.config
    images = torch.rand(1, 3, 64, 64)
    assert torch.equal(again(images), ours(images))


@pytest.fixture(scope="module")
def small():
    """A hybrid that is made at once."""
    backbone = {"stem": 8, "layers": (1, 1), "widths": (32, 32), "groups": 4}
    sizes = {"dim": 24, "heads": 2, "mlp_dim": 48, "depth": 2, "image": 64, "patch": 16, "classes": 3}
    return disturbed(create_model("vit-small-hybrid-32", backbone=backbone, **sizes))


def test_a_folder_of_ours_holds_the_backbone(small, tmp_path):
    save_pretrained(small, tmp_path, announce=quiet)
    again = load(tmp_path)
    assert again.config == small.config
    larger = from_pretrained(tmp_path, image=96, channels=1, announce=quiet)
    assert larger(torch.rand(1, 1, 96, 96)).shape == (1, 3)


def test_a_picture_in_a_padded_batch_makes_the_patches_that_it_makes_alone(small):
    image = torch.rand(1, 3, 32, 48)
    batch = torch.cat([F.pad(image, (0, 16, 0, 32), value=float("nan")), torch.rand(1, 3, 64, 64)])
    valid = torch.zeros(2, 64, 64, dtype=torch.bool)
    valid[0, :32, :48], valid[1] = True, True
    with torch.no_grad():
        agree(small.patch_embed(batch, valid)[:1, :, :2, :3], small.patch_embed(image), precise=False)
        found = small.features(batch, [1], valid)[0]
    assert found.valid[0].sum() == 6
    assert found.map.isfinite().all()


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"patch": 16, "backbone": R26}, "Set patch=32, or a multiple of it"),
        ({"patch": 16, "stem": (4, 4, 4, 4), "backbone": R26}, "two ways to make patches"),
    ],
)
def test_a_backbone_that_makes_no_patches_is_a_sentence(fields, sentence):
    with pytest.raises(ConfigError, match=sentence):
        ViTConfig(**fields)
