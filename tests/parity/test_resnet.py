"""ResNet answers as torchvision, timm and transformers do, and writes their names and bytes back.

torchvision and timm cannot be imported here; `shared/golden` holds what they computed.
"""

import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor

from parity.references import agree, disturbed, load, quiet, saved
from vitrail.errors import ConfigError
from vitrail.loading import create_model, from_pretrained, save_pretrained
from vitrail.models.resnet import ResNet, ResNetConfig
from vitrail.models.resnet_formats import TORCHVISION, infer

TIMM = {
    "resnet_basic": ("resnet18", {"layers": [1, 1, 1, 1], "channels": [8, 12, 16, 24]}),
    "resnet_bottleneck": ("resnet50", {"layers": [1, 1, 1, 1], "channels": [4, 8, 8, 16]}),
}
SIZES = [
    {"layer_type": "bottleneck", "embedding_size": 8, "hidden_sizes": [16, 24, 32, 40], "depths": [2, 1, 2, 1]},
    {"layer_type": "basic", "embedding_size": 6, "hidden_sizes": [6, 10, 12, 14], "depths": [1, 2, 1, 2]},
    {"layer_type": "bottleneck", "embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "num_channels": 1},
]


def recorded(shared: Path, name: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """A fixture: its weights by their own names, and everything else in it."""
    tensors = load_file(shared / "golden" / f"{name}.safetensors")
    weights = {key.removeprefix("weight."): value for key, value in tensors.items() if key.startswith("weight.")}
    return weights, {key: value for key, value in tensors.items() if not key.startswith("weight.")}


def of_torchvision(shared: Path, case: str, **fields) -> tuple[ResNet, dict[str, Tensor], dict[str, Tensor]]:
    """The model of a fixture, in evaluation mode, its weights as torchvision has them, and the record."""
    weights, record = recorded(shared, f"torchvision_resnet/{case}")
    tensors = TORCHVISION.read(weights)
    told = infer({name: tuple(tensor.shape) for name, tensor in tensors.items()}, {})
    model = ResNet(ResNetConfig(**told, **fields))
    model.load_state_dict(tensors)
    return model.eval(), weights, record


@pytest.mark.parametrize("precise", [False, True], ids=["float32", "float64"])
@pytest.mark.parametrize(
    ("case", "fields"),
    [
        ("resnet18_tiny", {}),
        ("resnet50_tiny", {}),
        ("resnet50_tiny", {"norm": "frozen"}),
        ("resnet50_frozenbn_dilated", {"norm": "frozen", "dilated": True}),
    ],
)
def test_every_stage_is_as_torchvision_recorded_it(shared, case, fields, precise):
    model, _, record = of_torchvision(shared, case, **fields)
    images = record["input.image"]
    if precise:
        model, images = model.double(), images.double()
    with torch.no_grad():
        stages, logits = model.features(images, [0, 1, 2, 3]), model(images)

    for number, stage in enumerate(stages):
        agree(stage.map.float(), record[f"output.layer{number + 1}"], precise=False)
        assert stage.stride == (images.shape[2] // stage.map.shape[2],) * 2 == (model.config.strides[number],) * 2
        assert stage.map.shape[1] == model.config.dims[number]
    agree(logits.float(), record["output.logits"], precise=False)


def test_a_step_of_training_is_as_torchvision_recorded_it(shared):
    model, _, record = of_torchvision(shared, "resnet18_bn_train_step")
    model.train()
    logits = model(record["input.image"])
    F.cross_entropy(logits, record["input.target"]).backward()

    agree(logits, record["output.logits_train"], precise=False)
    gradients = {name: p.grad for name, p in model.named_parameters()}
    agree(gradients["stem.convolution.weight"], record["output.grad.conv1.weight"], precise=False)
    agree(gradients["head.weight"], record["output.grad.fc.weight"], precise=False)
    after = TORCHVISION.write(model.state_dict())
    remembered = [name for name in record if name.startswith("output.after.")]
    assert len(remembered) == 8
    for name in remembered:
        agree(after[name.removeprefix("output.after.")], record[name], precise=False)


@pytest.mark.parametrize("case", ["resnet18_tiny", "resnet50_tiny"])
def test_the_names_and_bytes_of_torchvision_come_back(shared, case):
    model, weights, _ = of_torchvision(shared, case)
    written = TORCHVISION.write(model.state_dict())
    assert written.keys() == weights.keys()
    assert all(torch.equal(written[name], weights[name]) for name in weights)


def test_a_bare_file_of_torchvision_is_read_by_its_shapes(shared, tmp_path):
    weights, record = recorded(shared, "torchvision_resnet/resnet50_tiny")
    torch.save(weights, tmp_path / "resnet50.pth")
    ours = load(tmp_path / "resnet50.pth", format="torchvision", model="resnet-50", image=(64, 96))
    agree(ours(record["input.image"]), record["output.logits"], precise=False)
    assert ours.config.layers == (2, 1, 1, 1)
    assert ours.card.preprocessing.interpolation == "bilinear"


def timm_folder(folder: Path, weights: dict[str, Tensor], case: str, **changes) -> Path:
    """The folder that `timm.models.save_for_hf` makes."""
    architecture, arguments = TIMM[case]
    config = {
        "architecture": architecture,
        "num_classes": 5,
        "num_features": weights["fc.weight"].shape[1],
        "global_pool": "avg",
        "model_args": arguments | changes,
        "pretrained_cfg": {
            "tag": "a1_in1k", "num_classes": 5, "input_size": [3, 224, 224], "test_input_size": [3, 288, 288],
            "interpolation": "bicubic", "crop_pct": 0.95, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225],
            "first_conv": "conv1", "classifier": "fc",
        },
    }  # fmt: skip
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    return folder


@pytest.mark.parametrize("case", TIMM)
def test_a_timm_folder_answers_as_recorded_and_is_written_back(shared, tmp_path, case):
    weights, record = recorded(shared, f"timm/{case}")
    ours = load(timm_folder(tmp_path / "before", weights, case))

    agree(ours.features(record["input.image"], [3])[0].map, record["output.features"], precise=False)
    agree(ours.pool(ours.encode(record["input.image"])), record["output.pre_logits"], precise=False)
    agree(ours(record["input.image"]), record["output.logits"], precise=False)
    save_pretrained(ours, tmp_path / "after", format="timm", announce=quiet)
    written = load_file(tmp_path / "after" / "model.safetensors")
    assert written.keys() == weights.keys()
    assert all(torch.equal(written[name], weights[name]) for name in weights)
    assert load(tmp_path / "after").config == ours.config
    told = json.loads((tmp_path / "after" / "config.json").read_text())
    assert (told["architecture"], told["model_args"]) == TIMM[case]


def test_an_argument_of_timm_that_changes_the_answer_is_a_sentence(shared, tmp_path):
    weights, _ = recorded(shared, "timm/resnet_basic")
    with pytest.raises(ConfigError, match="timm's avg_down=True is not supported by the ResNet here"):
        load(timm_folder(tmp_path / "before", weights, "resnet_basic", avg_down=True))


def classifier(**config) -> torch.nn.Module:
    """A tiny random ResNetForImageClassification whose variances stay above zero."""
    theirs = disturbed(transformers.ResNetForImageClassification(transformers.ResNetConfig(**config)))
    with torch.no_grad():
        for name, buffer in theirs.named_buffers():
            if name.endswith("running_var"):
                buffer.abs_()
    return theirs


@pytest.mark.parametrize("precise", [False, True], ids=["float32", "float64"])
@pytest.mark.parametrize("size", [(64, 64), (47, 61), (33, 1)], ids=str)
@pytest.mark.parametrize("config", SIZES, ids=lambda config: f"{config['layer_type']}-{len(config['depths'])}")
def test_a_resnet_answers_as_transformers_does(tmp_path, config, size, precise):
    theirs = classifier(**config, num_labels=7)
    theirs = theirs.double() if precise else theirs
    ours = load(saved(theirs, tmp_path))
    channels = config.get("num_channels", 3)
    images = torch.rand(2, channels, *size, dtype=torch.float64 if precise else torch.float32)

    with torch.no_grad():
        answer = theirs(images, output_hidden_states=True)
        agree(ours(images), answer.logits, precise)
        stages = ours.features(images, range(len(config["depths"])))
    for stage, wanted in zip(stages, answer.hidden_states[1:], strict=True):
        agree(stage.map, wanted, precise)


@pytest.mark.parametrize("config", SIZES, ids=lambda config: f"{config['layer_type']}-{len(config['depths'])}")
def test_a_folder_written_back_holds_the_same_bytes_and_loads_in_transformers(tmp_path, config):
    theirs = classifier(**config, num_labels=3)
    before = saved(theirs, tmp_path / "before")

    save_pretrained(load(before), tmp_path / "after", format="transformers", announce=quiet)

    one, other = (load_file(folder / "model.safetensors") for folder in (before, tmp_path / "after"))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    again = transformers.AutoModelForImageClassification.from_pretrained(tmp_path / "after").eval()
    images = torch.rand(2, config.get("num_channels", 3), 40, 40)
    agree(again(images).logits, theirs(images).logits, precise=False)


def test_an_encoder_of_transformers_answers_with_the_mean_of_its_last_map(tmp_path):
    theirs = classifier(**SIZES[1], num_labels=3).resnet
    ours = load(saved(theirs, tmp_path))
    images = torch.rand(2, 3, 40, 72)
    agree(ours(images), theirs(images).pooler_output.flatten(1), precise=False)


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("downsample_in_bottleneck", True, "downsample_in_bottleneck=True is not supported"),
        ("hidden_act", "gelu", "hidden_act='gelu' is not supported"),
        ("hidden_sizes", [18, 24, 32, 40], "should divide by 4"),
        ("depths", [2, 1, 2, 3], "it says layers="),
    ],
)
def test_a_config_that_means_something_else_is_a_sentence(tmp_path, field, value, sentence):
    folder = saved(classifier(**SIZES[0], num_labels=3), tmp_path)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {field: value}))
    with pytest.raises(Exception, match=sentence):
        load(folder)


def test_a_dilated_resnet_has_no_place_in_transformers_but_in_timm(tmp_path):
    ours = create_model("resnet-18", dilated=True, classes=2, widths=(4, 4, 4, 4))
    with pytest.raises(ConfigError, match=r"transformers cannot write down this model \(dilated=True\).*timm"):
        save_pretrained(ours, tmp_path / "transformers", format="transformers")
    save_pretrained(ours, tmp_path / "timm", format="timm", announce=quiet)
    assert load(tmp_path / "timm").config == ours.config


def test_frozen_norms_read_what_learning_norms_wrote(tmp_path):
    ours = disturbed(create_model("resnet-18", classes=2, widths=(4, 4, 4, 4)))
    for name, buffer in ours.named_buffers():
        if name.endswith("running_var"):
            buffer.abs_()
    save_pretrained(ours, tmp_path, announce=quiet)
    frozen = from_pretrained(tmp_path, norm="frozen", announce=quiet)
    images = torch.rand(1, 3, 40, 40)
    assert torch.equal(frozen.train()(images), ours.eval()(images))
    assert not [name for name, _ in frozen.named_parameters() if "norm" in name]


def test_a_first_convolution_learns_to_read_other_channels(tmp_path):
    heard: list[str] = []
    ours = disturbed(create_model("resnet-18", classes=2, widths=(4, 4, 4, 4)))
    for name, buffer in ours.named_buffers():
        if name.endswith("running_var"):
            buffer.abs_()
    save_pretrained(ours, tmp_path, announce=quiet)
    grey = from_pretrained(tmp_path, channels=1, announce=heard.append)
    image = torch.rand(1, 1, 40, 40)
    agree(grey(image), ours.eval()(image.expand(-1, 3, -1, -1)), precise=False)
    assert "stem.convolution.weight now reads 1 channel: the sum over the 3 it had." in heard
