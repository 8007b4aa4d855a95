"""The pages about published checkpoints are whole, and say what their publishers say."""

import re
import tomllib
from importlib.resources import files

import pytest

from vitrail import catalog
from vitrail.preprocessing import Preprocessing
from vitrail.weights.cards import checkpoints, default_checkpoint
from vitrail.weights.hub import is_id
from vitrail.weights.preprocessors import from_timm, from_transformers

HALF, MEAN, STD = [0.5] * 3, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
FRESH = {
    "vit-tiny-conv",
    "vit-small-conv",
    "vit-base-conv",
    "detr-resnet-18-small",
    "detr-resnet-18-small-panoptic",
    "detr-tiny-panoptic",
    "detr-tiny",
    "detr-resnet-18-small-dc5",
    "gpt-mini",
    "transformer-tiny",
    "transformer-small",
    "transformer-base",
    "transformer-big",
    "parallel-transformer-tiny",
    "parallel-transformer-small",
}  # fmt: skip; no weights were published under these names
TEXT = {"bert", "gpt"}  # families whose tokenizer stands in the published folder


@pytest.mark.parametrize("name", catalog.MODELS)
def test_every_model_has_a_checkpoint_or_is_known_to_have_none(name):
    assert (default_checkpoint(name) is None) == (name in FRESH)


@pytest.mark.parametrize("name", checkpoints())
def test_a_checkpoint_says_where_it_comes_from(name):
    checkpoint = checkpoints()[name]
    assert name in catalog.MODELS
    assert is_id(checkpoint.source)
    assert checkpoint.licence
    assert checkpoint.origin
    assert bool(checkpoint.scores) == bool(checkpoint.scores_from)
    assert all(0 < score < 100 for score in checkpoint.scores.values())


def published(name: str) -> Preprocessing:
    """The preprocessing that timm and transformers publish with a checkpoint, read by our readers of their files."""
    checkpoint = checkpoints()[name]
    if checkpoint.source.startswith("facebook/dinov2"):
        return from_transformers(
            {
                "image_processor_type": "BitImageProcessor", "do_resize": True, "size": {"shortest_edge": 256},
                "resample": 3, "do_center_crop": True, "crop_size": {"height": 224, "width": 224},
                "do_rescale": True, "rescale_factor": 0.00392156862745098,
                "do_normalize": True, "image_mean": MEAN, "image_std": STD, "do_convert_rgb": True,
            }
        )  # fmt: skip
    if re.match(r"timm/resnet\d", checkpoint.source):
        return from_timm(
            {"input_size": [3, 224, 224], "interpolation": "bicubic", "crop_pct": 0.95, "mean": MEAN, "std": STD}
        )
    if checkpoint.source.startswith("timm/resnetv2"):
        side = 480 if "152x4" in name else 448
        return from_timm(
            {"input_size": [3, side, side], "interpolation": "bilinear", "crop_pct": 1.0, "mean": HALF, "std": HALF}
        )
    if checkpoint.source.startswith("facebook/detr"):
        return from_transformers(
            {
                "feature_extractor_type": "DetrFeatureExtractor", "format": "coco_detection", "do_resize": True,
                "size": 800, "max_size": 1333, "do_normalize": True, "image_mean": MEAN, "image_std": STD,
            }
        )  # fmt: skip
    imagenet = re.search(r"deit|dino", checkpoint.source)
    side = 518 if "dinov2" in checkpoint.source else 384 if name.endswith("384") else 224
    return from_timm(
        {
            "input_size": [3, side, side], "interpolation": "bicubic", "crop_pct": 0.9 if side == 224 else 1.0,
            "mean": MEAN if imagenet else HALF, "std": STD if imagenet else HALF,
        }
    )  # fmt: skip


@pytest.mark.parametrize("name", checkpoints())
def test_the_preprocessing_on_a_card_is_the_published_one(name):
    reads_text = catalog.MODELS[name].target in TEXT
    assert checkpoints()[name].preprocessing == (None if reads_text else published(name))


def test_no_name_stands_on_two_pages():
    pages = [page for page in files("vitrail.weights.cards").iterdir() if page.name.endswith(".toml")]
    names = [name for page in pages for name in tomllib.loads(page.read_text())]
    assert len(names) == len(set(names))
