"""ViT answers as transformers' ViT does, from the folders that transformers writes and back into them."""

import json
import re

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from parity.references import agree, disturbed, load, quiet, saved
from vitrail.errors import ConfigError, VitrailError
from vitrail.loading import create_model, from_pretrained, save_pretrained

SIZES = {"hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 40}
ODD = [
    {"num_channels": 3, "image_size": 32, "patch_size": 8, "num_labels": 7},
    {"num_channels": 1, "image_size": 48, "patch_size": 12, "num_labels": 1},
    {"num_channels": 4, "image_size": 30, "patch_size": 5, "num_labels": 3, "layer_norm_eps": 1e-3},
    {"num_channels": 6, "image_size": [24, 40], "patch_size": 8, "num_labels": 5, "qkv_bias": False},
    {"image_size": [24, 36], "patch_size": [8, 12], "num_labels": 4, "num_hidden_layers": 1, "num_attention_heads": 1},
    {"image_size": 16, "patch_size": 8, "num_labels": 2, "hidden_act": "gelu_new", "num_attention_heads": 6},
    {"image_size": 16, "patch_size": 8, "num_labels": 9, "hidden_act": "quick_gelu", "num_attention_heads": 12},
    {"image_size": [16, 16], "patch_size": [8, 8], "num_labels": 9, "hidden_act": "relu"},
]


def classifier(**config) -> torch.nn.Module:
    """A tiny random ViTForImageClassification."""
    return disturbed(transformers.ViTForImageClassification(transformers.ViTConfig(**(SIZES | config))))


def images_for(
    config: transformers.PretrainedConfig, dtype: torch.dtype = torch.float32, batch: int = 2
) -> torch.Tensor:
    """Random pictures of the size that a reference reads."""
    size = config.image_size if isinstance(config.image_size, list | tuple) else [config.image_size] * 2
    return torch.rand(batch, config.num_channels, *size, dtype=dtype, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("precise", [False, True], ids=["float32", "float64"])
@pytest.mark.parametrize("config", ODD, ids=str)
def test_a_vit_answers_as_transformers_does(tmp_path, config, precise):
    theirs = classifier(**config)
    theirs = theirs.double() if precise else theirs
    ours = load(saved(theirs, tmp_path))
    images = images_for(theirs.config, torch.float64 if precise else torch.float32)

    with torch.no_grad():
        agree(ours(images), theirs(images).logits, precise)
        agree(ours.encode(images).x, theirs.vit(images).last_hidden_state, precise)


def test_a_vit_reads_pictures_of_another_size_as_transformers_does(tmp_path):
    theirs = classifier(image_size=32, patch_size=8, num_labels=7).double()
    ours = load(saved(theirs, tmp_path))
    images = torch.rand(2, 3, 56, 40, dtype=torch.float64)

    with torch.no_grad():
        agree(ours(images), theirs(images, interpolate_pos_encoding=True).logits, precise=True)


def test_positions_stretched_on_loading_answer_as_those_stretched_on_the_fly(tmp_path):
    folder = saved(classifier(image_size=32, patch_size=8, num_labels=7), tmp_path)
    images = torch.rand(2, 3, 56, 40)
    heard = []

    larger = from_pretrained(folder, image=(56, 40), announce=heard.append)

    agree(larger(images), load(folder)(images), precise=False)
    assert "Positions stretched from 4 x 4 to 7 x 5 patches, as transformers does." in heard
    assert larger.card.preprocessing.size == (56, 40)


@pytest.mark.parametrize("pooled", [True, False], ids=["with pooler", "without pooler"])
def test_an_encoder_without_classifier_answers_with_its_pooled_token(tmp_path, pooled):
    config = transformers.ViTConfig(**SIZES, image_size=16, patch_size=8, pooler_output_size=10 if pooled else None)
    theirs = disturbed(transformers.ViTModel(config, add_pooling_layer=pooled)).double()
    ours = load(saved(theirs, tmp_path))
    images = images_for(theirs.config, torch.float64)

    with torch.no_grad():
        answer = theirs(images)
        agree(ours(images), answer.pooler_output if pooled else answer.last_hidden_state[:, 0], precise=True)


def test_an_encoder_gets_a_new_head_and_loses_the_layer_before_the_old_one(tmp_path):
    theirs = disturbed(transformers.ViTModel(transformers.ViTConfig(**SIZES, image_size=16, patch_size=8)))
    heard = []

    ours = from_pretrained(saved(theirs, tmp_path), classes=5, announce=heard.append)

    images = images_for(theirs.config)
    agree(ours.encode(images).x, theirs(images).last_hidden_state, precise=False)
    assert ours(images).shape == (2, 5)
    assert heard[-1] == (
        "kept 54 of 56 tensors; new: head.weight (5, 24), head.bias (5,); "
        "left out: representation.bias (24,), representation.weight (24, 24)"
    )


def test_a_sharded_folder_is_read_whole(tmp_path):
    theirs = classifier(image_size=32, patch_size=8, num_labels=7)
    theirs.save_pretrained(tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 1

    images = images_for(theirs.config)
    agree(load(tmp_path)(images), theirs(images).logits, precise=False)


def test_the_spelling_that_modules_have_in_memory_is_read_too(tmp_path):
    theirs = classifier(image_size=32, patch_size=8, num_labels=7)
    saved(theirs, tmp_path)
    in_memory = {name: tensor.clone() for name, tensor in theirs.state_dict().items()}
    assert in_memory.keys() != load_file(tmp_path / "model.safetensors").keys()
    save_file(in_memory, tmp_path / "model.safetensors", {"format": "pt"})

    images = images_for(theirs.config)
    agree(load(tmp_path)(images), theirs(images).logits, precise=False)


def test_a_pytorch_bin_is_read_too(tmp_path):
    theirs = classifier(image_size=32, patch_size=8, num_labels=7)
    saved(theirs, tmp_path)
    torch.save(load_file(tmp_path / "model.safetensors"), tmp_path / "pytorch_model.bin")
    (tmp_path / "model.safetensors").unlink()

    images = images_for(theirs.config)
    agree(load(tmp_path)(images), theirs(images).logits, precise=False)


@pytest.mark.parametrize("spelled", ["in files", "in memory"])
def test_a_bare_file_of_transformers_takes_its_epsilon_from_there(tmp_path, spelled):
    theirs = classifier(image_size=32, patch_size=8, num_labels=7, layer_norm_eps=1e-12)
    tensors = (
        theirs.state_dict() if spelled == "in memory" else load_file(saved(theirs, tmp_path) / "model.safetensors")
    )
    torch.save({"state_dict": tensors}, tmp_path / "vit.pt")

    ours = load(tmp_path / "vit.pt", format="transformers", model="vit-tiny-16", heads=4)

    assert ours.config.eps == 1e-12
    images = images_for(theirs.config)
    agree(ours(images), theirs(images).logits, precise=False)


def test_what_a_classifier_does_not_read_is_left_out_and_said(tmp_path):
    theirs = classifier(image_size=32, patch_size=8, num_labels=7)
    path = saved(theirs, tmp_path) / "model.safetensors"
    extra = {"vit.pooler.dense.weight": torch.ones(24, 24), "vit.embeddings.mask_token": torch.ones(1, 1, 24)}
    save_file(load_file(path) | extra, path, {"format": "pt"})
    heard = []

    ours = from_pretrained(tmp_path, announce=heard.append)

    images = images_for(theirs.config)
    agree(ours(images), theirs(images).logits, precise=False)
    assert "Left out vit.pooler.dense.weight: the classifier does not read it; it is not written back." in heard
    assert any(said.startswith("Left out vit.embeddings.mask_token: ") for said in heard)


@pytest.mark.parametrize("config", ODD, ids=str)
def test_a_folder_written_back_holds_the_same_bytes_and_loads_in_transformers(tmp_path, config):
    theirs = classifier(**config, id2label={n: f"kind {n}" for n in range(config["num_labels"])})
    before = saved(theirs, tmp_path / "before")

    save_pretrained(load(before), tmp_path / "after", format="transformers", announce=quiet)

    one, other = (load_file(folder / "model.safetensors") for folder in (before, tmp_path / "after"))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    again = transformers.ViTForImageClassification.from_pretrained(tmp_path / "after")
    images = images_for(theirs.config)
    agree(again(images).logits, theirs(images).logits, precise=False)
    assert again.config.id2label == theirs.config.id2label
    transformers.AutoImageProcessor.from_pretrained(tmp_path / "after")


def test_a_model_of_ours_opens_in_transformers_with_the_same_answers(tmp_path):
    ours = disturbed(create_model("vit-tiny-16", depth=2, image=32, patch=8, classes=3))
    save_pretrained(ours, tmp_path, format="transformers", announce=quiet)

    theirs = transformers.AutoModelForImageClassification.from_pretrained(tmp_path)

    images = torch.rand(2, 3, 32, 32)
    agree(ours(images), theirs(images).logits, precise=False)


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("hidden_act", "tanh", "hidden_act='tanh' is not supported. Supported: gelu"),
        ("head_dim", 5, "head_dim=5 is not supported"),
        ("num_hidden_layers", 5, "it says depth=5, and the weights have 3"),
        ("hidden_size", 48, "it says dim=48, and the weights have 24"),
        ("image_size", 64, "it says image=64, and the weights have 32"),
        ("num_channels", 1, "it says channels=1, and the weights have 3"),
        ("hidden_size", "twenty-four", "config.json: hidden_size='twenty-four' is of the wrong kind."),
        ("hidden_size", None, "config.json: hidden_size=None is of the wrong kind."),
        ("num_hidden_layers", "x", "config.json: num_hidden_layers='x' cannot be: depth='x' is not a whole number"),
        (
            "num_attention_heads",
            None,
            "config.json: num_attention_heads=None cannot be: heads=None is not a whole number",
        ),
        ("num_attention_heads", 0, "heads=0 must be at least 1"),
        ("num_attention_heads", 5, "does not divide into heads=5"),
    ],
)
def test_a_config_that_contradicts_the_weights_is_a_sentence(tmp_path, field, value, sentence):
    folder = saved(classifier(image_size=32, patch_size=8, num_labels=7), tmp_path)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {field: value}))

    with pytest.raises(VitrailError, match=re.escape(sentence)):
        load(folder)


def test_what_transformers_has_no_place_for_is_named(tmp_path):
    conv = create_model("vit-tiny-conv", depth=1, image=32, classes=2)
    with pytest.raises(ConfigError, match=r"stem=\(24, 48, 96, 192\)\)\. Formats that can: vitrail\."):
        save_pretrained(conv, tmp_path / "conv", format="transformers")
    assert not (tmp_path / "conv").exists()


def test_a_head_that_answers_a_number_is_refused_and_names_that_are_lost_are_said(tmp_path):
    folder = saved(classifier(image_size=16, patch_size=8, num_labels=2), tmp_path)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"problem_type": "regression"}))
    with pytest.raises(VitrailError, match="answer a number, as a cross-encoder or a regression does"):
        load(folder)
    said: list[str] = []
    (folder / "config.json").write_text(json.dumps(config | {"id2label": {"1": "cat", "2": "dog"}}))
    assert from_pretrained(folder, announce=said.append).card.labels == ()
    assert f"{folder} does not number its 2 classes from 0: their names are left out." in said


def test_a_single_class_is_read_and_said_to_mean_little(tmp_path):
    said: list[str] = []
    from_pretrained(saved(classifier(image_size=16, patch_size=8, num_labels=1), tmp_path), announce=said.append)
    assert f"{tmp_path} has one class, which gets a score of 100% whatever the model answers." in said
