"""DINOv2 answers as transformers' Dinov2 does: with and without registers, gates and a classifier."""

import json

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from parity.references import agree, disturbed, load, quiet, saved
from vitrail.errors import ConfigError
from vitrail.loading import create_model, save_pretrained

SIZES = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "image_size": 24, "patch_size": 4}
CASES = [
    (transformers.Dinov2ForImageClassification, transformers.Dinov2Config, {"mlp_ratio": 3, "num_labels": 5}),
    (transformers.Dinov2ForImageClassification, transformers.Dinov2Config, {"use_swiglu_ffn": True, "num_channels": 1}),
    (
        transformers.Dinov2ForImageClassification,
        transformers.Dinov2Config,
        {"use_mask_token": False, "qkv_bias": False},
    ),
    (transformers.Dinov2Model, transformers.Dinov2Config, {"layer_norm_eps": 1e-4}),
    (transformers.Dinov2Model, transformers.Dinov2Config, {"use_swiglu_ffn": True}),
    (transformers.Dinov2WithRegistersForImageClassification, transformers.Dinov2WithRegistersConfig, {"num_labels": 4}),
    (transformers.Dinov2WithRegistersModel, transformers.Dinov2WithRegistersConfig, {"num_register_tokens": 2}),
    (
        transformers.Dinov2WithRegistersForImageClassification,
        transformers.Dinov2WithRegistersConfig,
        {"use_swiglu_ffn": True, "num_register_tokens": 1},
    ),
]
EACH = pytest.mark.parametrize(("kind", "config", "changes"), CASES)


def reference(kind: type, config: type, changes: dict) -> torch.nn.Module:
    """A tiny random DINOv2 of transformers."""
    return disturbed(kind(config(**(SIZES | changes))))


def answer(theirs: torch.nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Logits, or the pooled token of a model without classifier."""
    given = theirs(images)
    return given.logits if hasattr(given, "logits") else given.pooler_output


@pytest.mark.parametrize("size", [(24, 24), (40, 20)], ids=["square", "not square"])
@pytest.mark.parametrize("precise", [False, True], ids=["float32", "float64"])
@EACH
def test_a_dinov2_answers_as_transformers_does(tmp_path, kind, config, changes, precise, size):
    dtype = torch.float64 if precise else torch.float32
    theirs = reference(kind, config, changes).to(dtype)
    ours = load(saved(theirs, tmp_path))
    images = torch.rand(2, theirs.config.num_channels, *size, dtype=dtype)

    with torch.no_grad():
        agree(ours(images), answer(theirs, images), precise)


@EACH
def test_a_dinov2_folder_written_back_holds_the_same_bytes_and_loads_in_transformers(tmp_path, kind, config, changes):
    theirs = reference(kind, config, changes)
    before = saved(theirs, tmp_path / "before")

    save_pretrained(load(before), tmp_path / "ours", announce=quiet)
    save_pretrained(load(tmp_path / "ours"), tmp_path / "after", format="transformers", announce=quiet)

    one, other = (load_file(folder / "model.safetensors") for folder in (before, tmp_path / "after"))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    images = torch.rand(2, theirs.config.num_channels, 24, 24)
    agree(answer(kind.from_pretrained(tmp_path / "after"), images), answer(theirs, images), precise=False)


def test_a_model_without_the_registers_it_could_have_is_read_and_written(tmp_path):
    none = {"num_register_tokens": 0}
    theirs = reference(transformers.Dinov2WithRegistersModel, transformers.Dinov2WithRegistersConfig, none)
    before, ours = saved(theirs, tmp_path / "before"), load(tmp_path / "before")
    images = torch.rand(1, 3, 24, 24)
    agree(ours(images), answer(theirs, images), precise=False)

    save_pretrained(ours, tmp_path / "after", format="transformers", announce=quiet)

    one, other = (load_file(folder / "model.safetensors") for folder in (before, tmp_path / "after"))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    again = transformers.Dinov2WithRegistersModel.from_pretrained(tmp_path / "after")
    agree(answer(again, images), answer(theirs, images), precise=False)


def test_new_classes_for_a_bare_dinov2_read_its_class_token(tmp_path):
    folder = saved(reference(transformers.Dinov2Model, transformers.Dinov2Config, {}), tmp_path)
    assert load(folder, classes=3)(torch.rand(1, 3, 24, 24)).shape == (1, 3)
    assert load(folder, classes=3, pool="class+mean")(torch.rand(1, 3, 24, 24)).shape == (1, 3)


@pytest.mark.parametrize(
    ("name", "model", "heads", "other"),
    [
        ("dinov2_reg_layerscale", "dinov2-small-registers-14", 4, "42x42"),
        ("dinov2_swiglu", "dinov2-giant-14", 3, "56x84"),
    ],
)
def test_a_file_of_the_original_repository_answers_as_recorded_there(shared, tmp_path, name, model, heads, other):
    recorded = load_file(shared / "golden/dinov2" / f"{name}.safetensors")
    weights = {key.removeprefix("weight."): value for key, value in recorded.items() if key.startswith("weight.")}
    save_file(weights, tmp_path / "weights.safetensors")

    ours = load(tmp_path / "weights.safetensors", format="dinov2", model=model, heads=heads)

    for size in ("", f"_{other}"):
        tokens = ours.encode(recorded[f"input.image{size}"])
        agree(tokens.x[:, 0], recorded[f"output.x_norm_clstoken{size}"], precise=False)
        agree(tokens.x[:, tokens.prefix :], recorded[f"output.x_norm_patchtokens{size}"], precise=False)


def test_a_dinov2_whose_picture_is_not_square_is_read_as_the_square_that_transformers_takes_it_for(tmp_path):
    theirs = reference(transformers.Dinov2Model, transformers.Dinov2Config, {"image_size": [8, 32]})
    folder = saved(theirs, tmp_path)
    with pytest.raises(
        ConfigError, match=r"image_size=\[8, 32\] with patch_size=.* makes .* patches, and .* Set image_size=16"
    ):
        load(folder)

    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"image_size": 16}))
    images = torch.rand(2, 3, 8, 32)
    with torch.no_grad():
        agree(load(folder)(images), answer(theirs, images), precise=False)


def test_a_dinov2_for_pictures_that_are_not_square_is_not_written_for_transformers(tmp_path):
    small = {"dim": 24, "heads": 3, "mlp_dim": 96, "depth": 1, "classes": 3}
    model = create_model("dinov2-small-14", **small, image=(28, 56), mask_token=True)
    with pytest.raises(ConfigError, match=r"transformers cannot write down this model \(image=\(28, 56\)\)"):
        save_pretrained(model, tmp_path / "out", format="transformers", announce=quiet)
