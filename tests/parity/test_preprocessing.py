"""The pixels that published settings give: transformers' processors run beside ours, timm's and torchvision's restated.

transformers is imported and asked. timm and torchvision cannot be imported here, so what they publish is done again in
a few lines of Pillow and numpy that share nothing with `vitrail.preprocessing`.
"""

import itertools
import json
import math
import random

import numpy as np
import pytest
import torch
from PIL import Image
from transformers.image_utils import SizeDict
from transformers.models.bit.image_processing_pil_bit import BitImageProcessorPil
from transformers.models.deit.image_processing_pil_deit import DeiTImageProcessorPil
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from vitrail.errors import ConfigError
from vitrail.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing
from vitrail.weights.blame import read_as
from vitrail.weights.preprocessors import from_timm, from_transformers, lost, to_timm, to_transformers

SIZES = [
    (1, 1),
    (1, 50),
    (50, 1),
    (31, 47),
    (64, 64),
    (65, 64),
    (200, 333),
    (334, 201),
    (375, 500),
    (97, 401),
]  # rows, columns
EXACT = {"rtol": 0, "atol": 1e-6}


def noise(rows, columns, channels=3, seed=0):
    """Every pixel at random: the picture on which any two ways of resizing differ most."""
    shape = (rows, columns, channels) if channels > 1 else (rows, columns)
    return Image.fromarray(np.random.default_rng(seed + rows * 5000 + columns).integers(0, 256, shape, dtype=np.uint8))


# transformers ------------------------------------------------------------------------------------------------------

PROCESSORS = {
    "vit": ViTImageProcessorPil(),
    "vit-rect-bicubic": ViTImageProcessorPil(size={"height": 48, "width": 80}, resample=3, image_std=[0.2, 0.3, 0.4]),
    "vit-cropped": ViTImageProcessorPil(size={"shortest_edge": 37}, do_center_crop=True, crop_size=32),
    "vit-not-resized": ViTImageProcessorPil(do_resize=False, do_center_crop=True, crop_size={"height": 41, "width": 4}),
    "vit-not-rescaled": ViTImageProcessorPil(do_rescale=False, image_mean=[120.0, 110.0, 100.0], image_std=[60, 61, 9]),
    "vit-rescaled-otherwise": ViTImageProcessorPil(rescale_factor=1 / 127.5),
    "vit-not-normalised": ViTImageProcessorPil(do_normalize=False),
    "deit": DeiTImageProcessorPil(),
    "deit-odd": DeiTImageProcessorPil(size={"height": 57, "width": 70}, crop_size={"height": 48, "width": 63}),
    "deit-bordered": DeiTImageProcessorPil(size={"height": 30, "width": 33}, crop_size={"height": 40, "width": 40}),
    "bit": BitImageProcessorPil(),
    "dinov2": BitImageProcessorPil(size={"shortest_edge": 256}, image_mean=IMAGENET_MEAN, image_std=IMAGENET_STD),
    "bit-lanczos": BitImageProcessorPil(size={"shortest_edge": 33}, crop_size={"height": 20, "width": 31}, resample=1),
    "bit-nearest": BitImageProcessorPil(size={"shortest_edge": 45}, crop_size=40, resample=0),
}  # fmt: skip


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("name", PROCESSORS)
def test_pixels_are_those_of_transformers(tmp_path, name, size):
    PROCESSORS[name].save_pretrained(tmp_path)  # the file is what a user has
    ours = from_transformers(json.loads((tmp_path / "preprocessor_config.json").read_text()))

    picture = noise(*size)
    theirs = PROCESSORS[name](picture, return_tensors="pt")["pixel_values"][0].to(torch.float32)
    scale = max(1.0, theirs.abs().max().item())  # the float32 grid is as coarse as the number is large
    torch.testing.assert_close(ours(picture).pixels / scale, theirs / scale, **EXACT)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "CMYK", "L", "1"])
def test_other_kinds_of_picture_become_the_colours_that_transformers_makes_of_them(mode):
    processor = BitImageProcessorPil()  # the one that converts colours
    picture = noise(60, 80, 4 if mode in ("RGBA", "CMYK") else 3)
    picture = Image.merge("LA", picture.split()[:2]) if mode == "LA" else picture.convert(mode)
    theirs = processor(picture, return_tensors="pt")["pixel_values"][0]
    torch.testing.assert_close(from_transformers(processor.to_dict())(picture).pixels, theirs, **EXACT)


@pytest.mark.parametrize("channels", [1, 4])
def test_grey_and_four_channel_pixels_are_those_of_transformers(channels):
    mean, std = [0.3, 0.4, 0.5, 0.6][:channels], [0.2, 0.3, 0.4, 0.5][:channels]
    processor = ViTImageProcessorPil(size={"height": 32, "width": 40}, image_mean=mean, image_std=std)
    pixels = np.array(noise(51, 67, channels)).reshape(51, 67, channels)
    theirs = processor(pixels, input_data_format="channels_last", return_tensors="pt")["pixel_values"][0]
    ours = from_transformers(processor.to_dict())
    torch.testing.assert_close(ours(pixels).pixels, theirs, **EXACT)
    torch.testing.assert_close(ours(torch.from_numpy(pixels).permute(2, 0, 1)).pixels, theirs, **EXACT)


OLD_FILES = {
    # google/vit-base-patch16-224
    "google-vit": (
        {"do_normalize": True, "do_resize": True, "feature_extractor_type": "ViTFeatureExtractor", "size": 224,
         "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5], "resample": 2},
        ViTImageProcessorPil(),
    ),
    # facebook/deit-base-distilled-patch16-224
    "facebook-deit": (
        {"crop_size": 224, "do_center_crop": True, "do_normalize": True, "do_resize": True, "resample": 3, "size": 256,
         "feature_extractor_type": "DeiTFeatureExtractor",
         "image_mean": list(IMAGENET_MEAN), "image_std": list(IMAGENET_STD)},
        DeiTImageProcessorPil(image_mean=list(IMAGENET_MEAN), image_std=list(IMAGENET_STD)),
    ),
    # a file from before sizes were objects: for this processor a number is the shorter side
    "bit": ({"image_processor_type": "BitImageProcessor", "size": 99},
            BitImageProcessorPil(size={"shortest_edge": 99})),
    "pair": ({"image_processor_type": "ViTImageProcessor", "size": [96, 64]},
             ViTImageProcessorPil(size={"height": 96, "width": 64})),
    "nothing-said": ({}, ViTImageProcessorPil()),
}  # fmt: skip


@pytest.mark.parametrize("name", OLD_FILES)
def test_old_spellings_of_processors_are_read(name):
    file, processor = OLD_FILES[name]
    theirs = processor(noise(140, 91), return_tensors="pt")["pixel_values"][0]
    torch.testing.assert_close(from_transformers(file)(noise(140, 91)).pixels, theirs, **EXACT)


def fast_in_a_few_lines(picture, *, resize, mode, size, mean, std):
    """transformers' processors on tensors: torchvision resizes uint8 tensors, then (x - 255 mean) / (255 std)."""
    x = torch.from_numpy(np.array(picture)).permute(2, 0, 1)
    if isinstance(resize, int):
        short, long = sorted(x.shape[1:])
        resize = [resize if side == short else int(resize * long / short) for side in x.shape[1:]]
    smooth = {} if mode == "nearest-exact" else {"antialias": True, "align_corners": False}
    x = torch.nn.functional.interpolate(x[None], size=tuple(resize), mode=mode, **smooth)[0]
    edges = [(want - have) for want, have in zip(size, x.shape[1:], strict=True)]
    before, after = zip(*[(edge // 2, (edge + 1) // 2) if edge > 0 else (0, 0) for edge in edges], strict=True)
    x = torch.nn.functional.pad(x, (before[1], after[1], before[0], after[0]))
    top, left = (int((have - want) / 2) for have, want in zip(x.shape[1:], size, strict=True))
    x = x[:, top : top + size[0], left : left + size[1]].to(torch.float32)
    mean, std = 255 * torch.tensor(mean)[:, None, None], 255 * torch.tensor(std)[:, None, None]
    return (x - mean) / std


@pytest.mark.parametrize("picture", [(50, 61), (61, 50), (300, 201), (33, 32)], ids=str)
@pytest.mark.parametrize(("resample", "mode"), [(0, "nearest-exact"), (2, "bilinear"), (3, "bicubic")])
@pytest.mark.parametrize("crop", [(48, 48), (45, 57), (70, 75)], ids=str)
def test_fast_processors_resize_tensors(picture, resample, mode, crop):
    file = {
        "image_processor_type": "BitImageProcessorFast", "size": {"shortest_edge": 57}, "resample": resample,
        "crop_size": {"height": crop[0], "width": crop[1]},
    }  # fmt: skip
    ours = from_transformers(file)
    theirs = fast_in_a_few_lines(noise(*picture), resize=57, mode=mode, size=crop, mean=ours.mean, std=ours.std)
    torch.testing.assert_close(ours(noise(*picture)).pixels, theirs, rtol=0, atol=2e-6)
    assert (ours.resampler, ours.margin) == ("tensor", "zero")


def test_the_two_resamplers_are_not_the_same():
    pillow, tensor = (
        Preprocessing.imagenet(64, resampler=resampler)(noise(200, 300)).pixels for resampler in ("pillow", "tensor")
    )
    difference = (pillow - tensor).abs().max() * min(IMAGENET_STD) * 255
    assert 0.5 < difference < 3  # levels of 255


def test_what_is_written_for_transformers_is_read_by_transformers(tmp_path):
    for name, ours in {
        "squash": from_transformers({}),
        "squash and crop": from_transformers({"image_processor_type": "DeiTImageProcessor"}),
        "shorter side": from_transformers({"image_processor_type": "BitImageProcessor", "size": 250}),
    }.items():
        (tmp_path / "preprocessor_config.json").write_text(json.dumps(to_transformers(ours)))
        kind = {
            "squash": ViTImageProcessorPil,
            "squash and crop": DeiTImageProcessorPil,
            "shorter side": BitImageProcessorPil,
        }[name]
        theirs = kind.from_pretrained(tmp_path)(noise(300, 211), return_tensors="pt")["pixel_values"][0]
        torch.testing.assert_close(ours(noise(300, 211)).pixels, theirs, **EXACT)


@pytest.mark.parametrize(
    ("file", "sentence"),
    [
        ({"image_processor_type": "DonutImageProcessor"}, "no image processor called 'Donut'"),
        ({"size": {"shortest_edge": 224}}, "does not crop"),
        ({"do_pad": True}, "do_pad"),
        ({"size": {"longest_edge": 224}}, "neither a height and a width nor a shortest edge"),
        ({"size": {"height": -3, "width": 224}}, "from 1 to 65,536"),
        ({"size": {"height": 10**9, "width": 224}}, "from 1 to 65,536"),
        ({"size": True}, "not a number of pixels"),
        ({"size": {"height": "224", "width": 224}}, "not a number of pixels"),
        ({"resample": 17}, "file: resample=17, and Pillow numbers its filters from 0 to 5"),
        ({"resample": -1}, "from 0 to 5"),
        ({"resample": True}, "from 0 to 5"),
        ({"do_resize": "no"}, "file: do_resize='no' is neither true nor false"),
        ({"image_processor_type": ["ViTImageProcessor"]}, "no image processor called"),
        ({"resample": "bicubic"}, "file: resample='bicubic', and Pillow numbers"),
        ({"rescale_factor": 0}, "file: rescale_factor=0 is of the wrong kind"),
        ({"image_std": [0.5, 0.0, 0.5]}, "not zero"),
        ({"image_mean": [0.5, 0.5]}, "one value for each channel"),
        ({"image_mean": {"red": 1}}, "file: image_mean={'red': 1} is of the wrong kind"),
    ],
)
def test_a_processor_that_makes_no_sense_is_said_so(file, sentence):
    with pytest.raises(ConfigError, match=sentence):
        read_as(from_transformers, file, "file")


# timm and torchvision ----------------------------------------------------------------------------------------------


def torchvision_center_crop(pixels, rows, columns, fill):
    """torchvision's and timm's middle: half a pixel goes to the even side; a missing one is added below and right."""
    have = pixels.shape[:2]
    missing = [max(want - side, 0) for want, side in zip((rows, columns), have, strict=True)]
    canvas = np.empty((have[0] + missing[0], have[1] + missing[1], pixels.shape[2]), np.uint8)
    canvas[:] = fill
    above, before = missing[0] // 2, missing[1] // 2
    canvas[above : above + have[0], before : before + have[1]] = pixels
    top, left = round((canvas.shape[0] - rows) / 2), round((canvas.shape[1] - columns) / 2)
    return canvas[top : top + rows, left : left + columns]


def timm_in_a_few_lines(picture, *, input_size, crop_pct, crop_mode, interpolation, mean, std):
    """timm's evaluation transform as its documentation describes it."""
    rows, columns = input_size[1:]
    scale = [math.floor(side / crop_pct) for side in (rows, columns)]
    width, height = picture.size
    fill = 0
    if crop_mode == "squash":
        target = scale
    elif crop_mode == "border":
        ratio, fill = max(height / scale[0], width / scale[1]), [round(255 * value) for value in mean]
        target = [round(height / ratio), round(width / ratio)]
    elif scale[0] == scale[1]:
        target = (
            [scale[0], int(scale[0] * width / height)]
            if height <= width
            else [int(scale[0] * height / width), scale[0]]
        )
    else:
        ratio = min(height / scale[0], width / scale[1])
        target = [round(height / ratio), round(width / ratio)]
    filters = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
    pixels = np.asarray(picture.resize((target[1], target[0]), filters[interpolation]))
    pixels = torchvision_center_crop(np.atleast_3d(pixels), rows, columns, fill)
    x = pixels.astype(np.float32) / np.float32(255)
    x = (x - np.array(mean, np.float32)) / np.array(std, np.float32)
    return torch.from_numpy(x.transpose(2, 0, 1).copy())


PUBLISHED = {
    "augreg": {"input_size": (3, 224, 224), "crop_pct": 0.9, "mean": (0.5,) * 3, "std": (0.5,) * 3},
    "augreg-384": {"input_size": (3, 384, 384), "crop_pct": 1.0, "mean": (0.5,) * 3, "std": (0.5,) * 3},
    "deit": {"input_size": (3, 224, 224), "crop_pct": 0.875},
    "deit3": {"input_size": (3, 224, 224), "crop_pct": 1.0},
    "deit-95": {"input_size": (3, 112, 112), "crop_pct": 0.95, "interpolation": "bilinear"},
    "squash": {"input_size": (3, 96, 96), "crop_pct": 0.95, "crop_mode": "squash"},
    "border": {"input_size": (3, 96, 96), "crop_pct": 0.95, "crop_mode": "border"},
    "border-whole": {"input_size": (3, 64, 81), "crop_pct": 1.0, "crop_mode": "border"},
    "rectangular": {"input_size": (3, 112, 192), "crop_pct": 0.875},
    "rectangular-squash": {"input_size": (3, 61, 40), "crop_pct": 0.9, "crop_mode": "squash"},
    "odd": {"input_size": (3, 97, 97), "crop_pct": 0.93},
    "beyond": {"input_size": (3, 64, 64), "crop_pct": 1.3},
    "grey": {"input_size": (1, 28, 28), "crop_pct": 0.875, "mean": (0.1,), "std": (0.3,), "interpolation": "bilinear"},
}  # fmt: skip
DEFAULTS = {"crop_mode": "center", "interpolation": "bicubic", "mean": IMAGENET_MEAN, "std": IMAGENET_STD}


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("name", PUBLISHED)
def test_pixels_are_those_of_timms_published_settings(name, size):
    picture = noise(*size, channels=PUBLISHED[name]["input_size"][0])
    theirs = timm_in_a_few_lines(picture, **DEFAULTS | PUBLISHED[name])
    torch.testing.assert_close(from_timm(PUBLISHED[name])(picture).pixels, theirs, rtol=0, atol=0)


def test_what_timm_leaves_empty_is_its_default():
    said = {"input_size": None, "crop_pct": None, "crop_mode": "", "mean": None, "std": (), "interpolation": ""}
    assert from_timm(said) == from_timm({}) == Preprocessing.imagenet(224, 0.875)


@pytest.mark.parametrize("name", PUBLISHED)
def test_what_is_written_for_timm_reads_back_the_same(name):
    ours = from_timm(PUBLISHED[name])
    written = to_timm(ours)
    assert from_timm(json.loads(json.dumps(written))) == ours
    assert written["crop_pct"] == pytest.approx(PUBLISHED[name]["crop_pct"], abs=0.01)


def test_every_crop_that_can_be_published_survives_writing():
    for size, percent in itertools.product((28, 32, 97, 224, 240, 336, 384, 448, 518), range(50, 101)):
        ours = from_timm({"input_size": (3, size, size), "crop_pct": percent / 100})
        assert from_timm(to_timm(ours)) == ours


@pytest.mark.parametrize(
    ("file", "sentence"),
    [
        ({"crop_mode": "diagonal"}, "no crop mode of timm called 'diagonal'"),
        ({"interpolation": "random"}, "no interpolation called 'random'"),
        ({"input_size": 224}, "file: input_size=224 is of the wrong kind"),
        ({"crop_pct": "all"}, "file: crop_pct='all' is of the wrong kind"),
        ({"input_size": [3, 224.5, 224]}, "not a number of pixels"),
    ],
)
def test_settings_of_timm_that_make_no_sense_are_said_so(file, sentence):
    with pytest.raises(ConfigError, match=sentence):
        read_as(from_timm, file, "file")


def test_a_processor_of_transformers_written_for_timm_says_what_is_lost():
    ours = from_transformers({"image_processor_type": "DeiTImageProcessor"})
    [said] = lost(ours, from_timm(to_timm(ours)))
    assert said.startswith("margin is floor and was written as even (where an odd number of pixels is cut away")
    fast = from_transformers({"image_processor_type": "ViTImageProcessorFast"})
    assert "resampler is tensor and was written as pillow" in lost(fast, from_timm(to_timm(fast)))


def torchvision_in_a_few_lines(picture, *, crop_size, resize_size):
    """torchvision's `ImageClassification` preset with bilinear interpolation, as its weights publish it."""
    width, height = picture.size
    short = min(width, height)
    size = tuple(resize_size if side == short else int(resize_size * side / short) for side in (width, height))
    pixels = np.asarray(picture.resize(size, Image.Resampling.BILINEAR))
    x = torch.from_numpy(torchvision_center_crop(pixels, crop_size, crop_size, 0).copy()).permute(2, 0, 1)
    return (x.float() / 255 - torch.tensor(IMAGENET_MEAN)[:, None, None]) / torch.tensor(IMAGENET_STD)[:, None, None]


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_pixels_are_those_of_torchvisions_preset(size):
    ours = Preprocessing(size=(224, 224), resize=256, interpolation="bilinear")
    theirs = torchvision_in_a_few_lines(noise(*size), crop_size=224, resize_size=256)
    torch.testing.assert_close(ours(noise(*size)).pixels, theirs, rtol=0, atol=0)


def test_a_size_dict_of_transformers_is_an_object_too():
    assert from_transformers({"size": dict(SizeDict(height=32, width=48))}).size == (32, 48)


def test_random_sizes_agree_with_transformers_too():
    draw = random.Random(0)
    for _ in range(60):
        side, crop = draw.randint(8, 80), (draw.randint(8, 80), draw.randint(8, 80))
        picture = noise(draw.randint(2, 200), draw.randint(2, 200))
        processor = BitImageProcessorPil(size={"shortest_edge": side}, crop_size={"height": crop[0], "width": crop[1]})
        theirs = processor(picture, return_tensors="pt")["pixel_values"][0]
        torch.testing.assert_close(from_transformers(processor.to_dict())(picture).pixels, theirs, **EXACT)
