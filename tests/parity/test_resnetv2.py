"""ResNetV2 answers as timm recorded it, and writes timm's names and bytes back."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from parity.references import agree, disturbed, load, quiet
from vitrail.errors import ConfigError
from vitrail.loading import create_model, save_pretrained
from vitrail.models.resnetv2 import quarter

WEIGHT_EPS = 1e-6  # of the recorded model; published weights have 1e-8


@pytest.fixture
def recorded(shared) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The weights by timm's names, and everything else."""
    tensors = load_file(shared / "golden/timm/resnetv2_preact.safetensors")
    weights = {key.removeprefix("weight."): value for key, value in tensors.items() if key.startswith("weight.")}
    return weights, {key: value for key, value in tensors.items() if not key.startswith("weight.")}


@pytest.mark.parametrize("precise", [False, True], ids=["float32", "float64"])
def test_a_bare_file_answers_as_timm_recorded_it(recorded, tmp_path, precise):
    weights, record = recorded
    save_file(weights, tmp_path / "resnetv2.safetensors")
    ours = load(tmp_path / "resnetv2.safetensors", format="timm", model="resnetv2-50", groups=4, weight_eps=WEIGHT_EPS)
    images = record["input.image"]
    if precise:
        ours, images = ours.double(), images.double()
    with torch.no_grad():
        agree(ours.last_map(images).map.float(), record["output.features"], precise=False)
        agree(ours.pool(ours.encode(images)).float(), record["output.pre_logits"], precise=False)
        agree(ours(images).float(), record["output.logits"], precise=False)
    assert ours.config.layers == (1, 1, 1, 1)
    assert ours.config.widths == (16, 32, 32, 48)


def timm_folder(folder: Path, weights: dict[str, Tensor], **arguments) -> Path:
    """The folder that `timm.models.save_for_hf` makes of one of Big Transfer's models."""
    config = {
        "architecture": "resnetv2_50x1_bit",
        "num_classes": 5,
        "num_features": 256,
        "global_pool": "avg",
        "model_args": {"stem_chs": 32, "channels": [128, 128, 128, 256]} | arguments,
        "pretrained_cfg": {
            "tag": "goog_in21k_ft_in1k", "num_classes": 5, "input_size": [3, 448, 448], "interpolation": "bilinear",
            "crop_pct": 1.0, "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], "classifier": "head.fc",
        },
    }  # fmt: skip
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    return folder


def test_a_timm_folder_is_read_and_written_back(tmp_path):
    ours = disturbed(create_model("resnetv2-50", stem=32, widths=(128, 128, 128, 256), classes=5))
    save_pretrained(ours, tmp_path / "first", format="timm", announce=quiet)
    weights = load_file(tmp_path / "first" / "model.safetensors")
    assert weights["head.fc.weight"].shape == (5, 256, 1, 1)

    again = load(timm_folder(tmp_path / "second", weights))

    assert again.config == ours.config
    save_pretrained(again, tmp_path / "third", format="timm", announce=quiet)
    written = load_file(tmp_path / "third" / "model.safetensors")
    assert written.keys() == weights.keys()
    assert all(torch.equal(written[name], weights[name]) for name in weights)
    assert json.loads((tmp_path / "third" / "config.json").read_text())["model_args"] == {
        "stem_chs": 32, "channels": [128, 128, 128, 256],
    }  # fmt: skip
    images = torch.rand(1, 3, 40, 56)
    assert torch.equal(again(images), ours(images))


def test_an_argument_of_timm_that_changes_the_answer_is_a_sentence(tmp_path):
    with pytest.raises(ConfigError, match="timm's avg_down=True is not supported by the ResNetV2 here"):
        load(timm_folder(tmp_path / "folder", {"stem.conv.weight": torch.ones(1)}, avg_down=True))


def test_norms_behind_the_convolutions_have_no_place_in_timm_alone(tmp_path):
    ours = create_model("resnetv2-50", stem=8, widths=(32,) * 4, groups=8, norm="after", classes=2)
    with pytest.raises(ConfigError, match=r"timm cannot write down this model \(norm='after', groups=8\)"):
        save_pretrained(ours, tmp_path / "timm", format="timm")


@pytest.mark.parametrize(("width", "inner"), [(256, 64), (2048, 512), (16, 8), (48, 16), (72, 24), (44, 16)])
def test_the_width_inside_a_bottleneck_is_a_quarter_as_timm_rounds_it(width, inner):
    assert quarter(width) == inner
