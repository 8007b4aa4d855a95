"""What loading may change about weights: classes, picture, channels; each with an answer that is known beforehand."""

import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import torch
from torch import nn

from parity.references import disturbed, quiet
from vitrail.core.positions import resize_positions
from vitrail.errors import CheckpointError, ConfigError, VitrailError
from vitrail.loading import create_model, family_of, from_pretrained, libraries_for, list_models, save_pretrained
from vitrail.models.vit import VARIANTS
from vitrail.preprocessing import Preprocessing
from vitrail.weights.card import Card
from vitrail.weights.formats import variant_name

SIZES = {"dim": 16, "heads": 2, "mlp_dim": 24, "depth": 2, "image": 16, "patch": 4, "classes": 3}


def tiny(**changes) -> nn.Module:
    torch.manual_seed(0)
    return disturbed(create_model("vit-tiny-16", **(SIZES | changes)))


@pytest.fixture
def folder(tmp_path):
    """A saved model of three classes, with labels and a score."""
    model = tiny()
    model.card = dataclasses.replace(model.card, labels=("cat", "dog", "hen"), scores={"top1": 91.5}, licence="mit")
    return save_pretrained(model, tmp_path / "model", announce=quiet)


def test_a_fresh_model_trains_and_a_loaded_one_answers(folder):
    assert create_model("vit-tiny-16", **SIZES).training
    assert not from_pretrained(folder, announce=quiet).training


def test_a_model_is_read_back_as_it_was_written(folder):
    model, again = tiny(), from_pretrained(folder, announce=quiet)
    assert again.config == model.config
    assert again.card.labels == ("cat", "dog", "hen")
    assert again.card.scores == {"top1": 91.5}
    images = torch.rand(2, 3, 16, 16)
    assert torch.equal(again(images), model(images))


def test_other_classes_make_a_new_head_and_keep_the_rest(folder):
    heard = []
    model = from_pretrained(folder, classes=5, announce=heard.append)
    assert heard[-1] == "kept 38 of 40 tensors; new: head.weight (5, 16), head.bias (5,)"
    images = torch.rand(2, 3, 16, 16)
    assert torch.equal(model.encode(images).x, tiny().encode(images).x)
    assert model(images).shape == (2, 5)
    assert (model.card.labels, model.card.scores, model.card.licence) == ((), {}, "mit")


def test_chance_is_asked_only_for_what_the_weights_lack(folder):
    before = torch.get_rng_state()
    from_pretrained(folder, announce=quiet)
    assert torch.equal(torch.get_rng_state(), before)
    model = from_pretrained(folder, classes=5, announce=quiet)
    assert not torch.equal(torch.get_rng_state(), before)
    assert 0.01 < model.head.weight.std() < 0.03


@pytest.mark.parametrize("position", ["sinusoidal", "relative", "relative-log"])
def test_tables_that_are_computed_are_not_left_out_with_the_draws(tmp_path, position):
    model = create_model("vit-tiny-16", **SIZES, position=position).eval()
    again = from_pretrained(save_pretrained(model, tmp_path / "model", announce=quiet), announce=quiet)
    assert [name for name, _ in again.named_buffers()] == [name for name, _ in model.named_buffers()]
    assert all(torch.equal(*pair) for pair in zip(again.buffers(), model.buffers(), strict=True))
    images = torch.randn(2, 3, 16, 16)
    assert torch.equal(again(images), model(images))


def test_no_classes_leave_the_head_out(folder):
    heard = []
    model = from_pretrained(folder, classes=0, announce=heard.append)
    assert heard[-1] == "kept 38 of 38 tensors; left out: head.bias (3,), head.weight (3, 16)"
    images = torch.rand(2, 3, 16, 16)
    assert torch.equal(model(images), tiny().encode(images).x[:, 0])


@pytest.mark.parametrize("stem", [(), (4, 8)])
def test_one_channel_answers_to_a_grey_picture_as_three_did(tmp_path, stem):
    colour = tiny(stem=stem)
    heard = []
    grey = from_pretrained(save_pretrained(colour, tmp_path, announce=quiet), channels=1, announce=heard.append)
    picture = torch.rand(2, 1, 16, 16)
    torch.testing.assert_close(grey(picture), colour(picture.expand(-1, 3, -1, -1)), rtol=1e-5, atol=1e-5)
    assert any("now reads 1 channel: the sum over the 3 it had" in said for said in heard)
    assert grey.card.preprocessing.channels == 1


@pytest.mark.parametrize("stem", [(), (4, 8)])
def test_six_channels_answer_to_a_picture_twice_as_three_did(tmp_path, stem):
    three = tiny(stem=stem)
    six = from_pretrained(save_pretrained(three, tmp_path, announce=quiet), channels=6, announce=quiet)
    picture = torch.rand(2, 3, 16, 16)
    torch.testing.assert_close(six(torch.cat([picture, picture], dim=1)), three(picture), rtol=1e-5, atol=1e-5)


def test_four_channels_keep_the_size_of_activations(folder):
    three, four = tiny(), from_pretrained(folder, channels=4, announce=quiet)
    grey = torch.rand(2, 1, 16, 16)
    seen = [model.patch_embed(grey.expand(-1, model.config.channels, -1, -1)) for model in (three, four)]
    assert 0.7 < seen[1].std() / seen[0].std() < 1.4


@pytest.mark.parametrize("position", ["learned", "axes", "sinusoidal", "relative-log", "none"])
def test_a_larger_picture_is_read_with_stretched_positions(tmp_path, position):
    model = tiny(position=position)
    larger = from_pretrained(save_pretrained(model, tmp_path, announce=quiet), image=(24, 32), announce=quiet)
    assert larger.config.grid == (6, 8)
    assert larger.card.preprocessing.size == (24, 32)
    images = torch.rand(1, 3, 24, 32)
    if position == "relative-log":  # read for its own grid alone
        assert larger(images).shape == (1, 3)
    else:
        torch.testing.assert_close(larger(images), model(images), rtol=1e-5, atol=1e-5)


def test_relative_tables_are_not_stretched(tmp_path):
    folder = save_pretrained(tiny(position="relative"), tmp_path, announce=quiet)
    with pytest.raises(CheckpointError, match=r"for 4 x 4 patches and cannot be stretched to 8 x 8. Keep image=16"):
        from_pretrained(folder, image=32, announce=quiet)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"patch": 8}, r"patch_embed.project.weight has shape \(16, 3, 4, 4\) .* cannot be made to trained weights"),
        ({"dim": 32}, "cannot be made to trained weights"),
        ({"depth": 3}, r"The model asked for has blocks\.2\..* missing=\('blocks\.2\."),
        ({"registers": 4}, r"has registers \(1, 4, 16\).* missing=\('registers',\)"),
        ({"eyes": 2}, "no field called 'eyes'"),
        ({"image": 18}, "does not divide into patches of 4. The nearest sizes that do: 16 and 20"),
        ({"classes": 2**24, "representation": 2**22}, "GiB, and the machine has"),
        ({"classes": "5"}, "classes='5' is not a whole number"),
        ({"classes": True}, "classes=True is not a whole number"),
        ({"pool": "max"}, "pool='max' is not one of"),
    ],
)
def test_a_change_that_trained_weights_cannot_follow_is_a_sentence(folder, changes, sentence):
    with pytest.raises(VitrailError, match=sentence):
        from_pretrained(folder, announce=quiet, **changes)


def test_what_the_weights_lack_is_made_anew_when_it_is_named(folder):
    heard = []
    model = from_pretrained(folder, registers=4, missing=("registers",), positions_for="class", announce=heard.append)
    assert heard[-1] == "kept 40 of 41 tensors; new: registers (1, 4, 16)"
    assert model.config.prefix == 5


def test_fewer_blocks_say_what_is_left_out(folder):
    with pytest.raises(CheckpointError, match=r"thrown away, say so: missing=\('blocks\.1\.\*',\)"):
        from_pretrained(folder, depth=1, announce=quiet)
    heard = []
    assert len(from_pretrained(folder, depth=1, missing=("blocks.1.*",), announce=heard.append).blocks) == 1
    assert "left out: blocks.1." in heard[-1]
    assert "depth was 2, is 1: the answers change." in heard


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"heads": 4}, "heads was 2, is 4: the answers change."),
        ({"pool": "mean"}, "pool was 'class', is 'mean': the answers change."),
        ({"eps": 1e-3}, "eps was 1e-06, is 0.001: the answers change."),
    ],
)
def test_a_change_that_fits_the_weights_and_changes_answers_is_announced(folder, changes, sentence):
    heard = []
    from_pretrained(folder, announce=heard.append, **changes)
    assert sentence in heard


def test_changes_of_size_and_training_are_not_called_changes_of_answers(folder):
    heard = []
    from_pretrained(folder, classes=5, image=32, channels=1, drop_path=0.1, dropout=0.1, announce=heard.append)
    assert not any("the answers change" in said for said in heard)


def test_trained_positions_are_not_thrown_away_unasked(folder):
    with pytest.raises(CheckpointError, match=r"no place for positions\.table .*missing=\('positions\.\*',\)"):
        from_pretrained(folder, position="none", announce=quiet)


def test_the_advice_covers_everything_that_is_missing(folder):
    with pytest.raises(CheckpointError, match=r"missing=\('blocks\.2\.\*', 'blocks\.3\.\*',\)"):
        from_pretrained(folder, depth=4, announce=quiet)
    assert len(from_pretrained(folder, depth=4, missing=("blocks.2.*", "blocks.3.*"), announce=quiet).blocks) == 4


def test_a_plain_vit_becomes_one_with_registers(folder):
    heard = []
    model = from_pretrained(folder, registers=2, missing=("registers",), announce=heard.append)
    assert "positions.table has a new row of zeros for: register 0, register 1." in heard
    table, before = model.positions.table, tiny().positions.table
    assert torch.equal(table[:, 0], before[:, 0])
    assert not table[:, 1:3].any()
    assert torch.equal(table[:, 3:], before[:, 1:])


def test_a_plain_vit_becomes_a_distilled_deit_for_a_larger_picture(folder):
    asked = {"distillation_token": True, "distillation_head": True}
    with pytest.raises(CheckpointError, match=r"missing=\('distillation_token', 'distillation_head\.\*',\)"):
        from_pretrained(folder, announce=quiet, **asked)
    new = ("distillation_token", "distillation_head.*")
    model = from_pretrained(folder, image=32, missing=new, announce=quiet, **asked)
    assert model.positions.table.shape == (1, 2 + 64, 16)
    assert torch.equal(model.positions.table[:, 0], tiny().positions.table[:, 0])
    assert model.opinions(torch.rand(1, 3, 32, 32)).distilled.shape == (1, 3)


@pytest.mark.parametrize("dialect", ["dino", "transformers"])
def test_positions_are_stretched_in_the_dialect_that_is_asked_for(folder, dialect):
    heard = []
    model = from_pretrained(folder, image=24, dialect=dialect, announce=heard.append)
    table = resize_positions(tiny().positions.table, (4, 4), (6, 6), prefix=1, dialect=dialect)
    assert torch.equal(model.positions.table, table)
    assert f"Positions stretched from 4 x 4 to 6 x 6 patches, as {dialect} does." in heard
    assert not torch.equal(table, resize_positions(tiny().positions.table, (4, 4), (6, 6), prefix=1, dialect="timm"))


def test_several_labels_at_once_survive_transformers_and_timm_says_that_they_are_lost(tmp_path):
    model = tiny()
    model.card = dataclasses.replace(model.card, labels=("cat", "dog", "hen"), multi_label=True)
    folder = save_pretrained(model, tmp_path / "transformers", format="transformers", announce=quiet)
    assert json.loads((folder / "config.json").read_text())["problem_type"] == "multi_label_classification"
    assert from_pretrained(folder, announce=quiet).card.multi_label
    heard = []
    save_pretrained(model, tmp_path / "timm", format="timm", announce=heard.append)
    assert "timm cannot be told that several labels can hold at once (multi_label)." in heard


@pytest.mark.parametrize(
    ("format", "kept", "lost"),
    [
        ("timm", "drop_path", "dropout"),
        ("transformers", "dropout", "drop_path"),
        ("timm", "drop_path", "attention_dropout"),
        ("transformers", "attention_dropout", "drop_path"),
    ],
)
def test_rates_of_training_are_written_or_said_to_be_lost(tmp_path, format, kept, lost):
    heard = []
    model = tiny(**{"drop_path": 0.2, kept: 0.2, lost: 0.1})
    folder = save_pretrained(model, tmp_path / "rates", format=format, announce=heard.append)
    again = from_pretrained(folder, announce=quiet).config
    assert (getattr(again, kept), getattr(again, lost)) == (getattr(model.config, kept), 0.0)
    save_pretrained(tiny(), tmp_path / "plain", format=format, announce=heard.append)  # where nothing is set
    said = [sentence for sentence in heard if "in training" in sentence]
    assert said == [f"{format} cannot be told that {lost} is {getattr(model.config, lost)} in training."]


def test_an_epsilon_that_a_library_does_not_have_names_what_to_type(tmp_path):
    with pytest.raises(ConfigError, match=r"eps=1e-12.*`--set eps=1e-06`, .*its answers change slightly"):
        save_pretrained(tiny(eps=1e-12), tmp_path / "timm", format="timm")


def timm_folder(place: Path, arguments: Mapping[str, Any] = MappingProxyType({}), **changes: Any) -> Path:
    """A folder as timm writes it, with other arguments and other entries beside them."""
    folder = save_pretrained(tiny(), place, format="timm", announce=quiet)
    config = json.loads((folder / "config.json").read_text())
    config["model_args"] |= arguments
    (folder / "config.json").write_text(json.dumps(config | changes))
    return folder


@pytest.mark.parametrize(
    ("arguments", "changes", "sentence"),
    [
        ({"global_pool": ""}, {}, "global_pool='' with num_classes=3 and class_token=True answers every token"),
        ({"global_pool": "max", "class_token": False}, {}, "global_pool='max' is not supported. Supported: token, avg"),
        ({"global_pool": "avgmax"}, {}, "global_pool='avgmax' is not supported"),
        ({"class_token": False}, {}, "reads a class token, and class_token is False. Set 'avg'"),
        ({"mlp_layer": "SwiGLUPacked", "act_layer": "gelu"}, {}, "a SwiGLU with act_layer='silu', not 'gelu'"),
        ({}, {"architecture": "deit_base_distilled_patch16_224", "num_classes": 0}, "the mean of its two tokens"),
    ],
)
def test_what_timm_does_and_we_do_not_is_refused(tmp_path, arguments, changes, sentence):
    with pytest.raises(ConfigError, match=sentence):
        from_pretrained(timm_folder(tmp_path / "timm", arguments, **changes), announce=quiet)


def test_timm_folders_say_the_same_in_other_words(tmp_path):
    expected = from_pretrained(timm_folder(tmp_path / "plain"), announce=quiet)
    for number, (arguments, changes) in enumerate(
        [
            ({"norm_layer": "layernorm", "init_values": 0.0}, {}),
            ({}, {"global_pool": "avg"}),  # timm's builder reads that of the arguments
        ]
    ):
        model = from_pretrained(timm_folder(tmp_path / str(number), arguments, **changes), announce=quiet)
        assert model.config == expected.config


def test_a_timm_folder_of_the_old_kind_says_everything_in_one_object(tmp_path):
    folder = timm_folder(tmp_path)
    config = json.loads((folder / "config.json").read_text())
    known = config.pop("pretrained_cfg") | {"interpolation": "bilinear", "crop_pct": 0.5, "mean": [0.5, 0.4, 0.3]}
    (folder / "config.json").write_text(json.dumps(config | known | {"label_names": ["cat", "dog", "hen"]}))
    card = from_pretrained(folder, announce=quiet).card
    assert (card.preprocessing.interpolation, card.preprocessing.resize) == ("bilinear", 32)
    assert card.preprocessing.mean == (0.5, 0.4, 0.3)
    assert card.labels == ("cat", "dog", "hen")


@pytest.mark.parametrize(
    "changes",
    [
        {"position": "relative", "activation": "relu"},
        {"position": "relative-log", "gated": True},
        {"distillation_token": True, "distillation_head": True, "position": "none"},
        {"distillation_token": True, "distillation_head": True, "positions_for": "patches"},
        {"distillation_token": True, "classes": 0},
        {"layer_scale": 0.0},
    ],
    ids=str,
)
def test_what_timm_has_no_module_for_is_not_written(tmp_path, changes):
    with pytest.raises(ConfigError, match="timm cannot write down this model"):
        save_pretrained(tiny(**changes), tmp_path / "timm", format="timm", announce=quiet)
    assert not (tmp_path / "timm").exists()


@pytest.mark.parametrize(
    ("name", "libraries"),
    [("detr-tiny", []), ("vit-tiny-16", ["transformers", "timm"]), ("resnetv2-50", ["timm"])],
)
def test_a_model_tells_the_libraries_that_it_can_be_written_for(name, libraries, tmp_path):
    model = create_model(name)
    assert libraries_for(model) == libraries
    assert libraries_for(nn.Linear(1, 1)) == []
    if not libraries:
        with pytest.raises(
            ConfigError, match=r"\(anchors=True, refined=True, its own backbone\)\. Formats that can: vitrail\."
        ):
            save_pretrained(model, tmp_path / "there", format="transformers", announce=quiet)


def test_changes_that_touch_no_weight_are_taken(folder):
    model = from_pretrained(folder, drop_path=0.1, dropout=0.2, eps=1e-3, dialect="dino", announce=quiet)
    assert (model.config.drop_path, model.config.eps, model.norm.eps) == (0.1, 1e-3, 1e-3)


def test_preprocessing_that_is_given_is_taken_even_where_the_folder_says_nothing_we_know(tmp_path):
    folder = save_pretrained(tiny(), tmp_path, format="transformers", announce=quiet)
    (folder / "preprocessor_config.json").write_text(json.dumps({"image_processor_type": "MartianImageProcessor"}))
    given = Preprocessing.imagenet(16, crop=0.5)
    with pytest.raises(ConfigError, match="Martian"):
        from_pretrained(folder, announce=quiet)
    assert from_pretrained(folder, preprocessing=given, announce=quiet).card.preprocessing == given


def test_a_part_of_the_preprocessing_can_be_said(folder):
    said: list[str] = []
    given = {"mean": (0.5, 0.5, 0.5), "resize": 40}
    model = from_pretrained(folder, image=32, preprocessing=given, announce=said.append)
    assert model.card.preprocessing == Preprocessing(size=(32, 32), resize=40, mean=(0.5, 0.5, 0.5))
    assert said[-1] == "Prepared with mean=(0.5, 0.5, 0.5), resize=40, as you say."


@pytest.mark.parametrize(
    ("preprocessing", "sentence"),
    [
        ({"means": (0.5, 0.5, 0.5)}, "no field called 'means'. Did you mean mean"),
        ({"mean": 0.5}, "mean=0.5 is not a list of values, each a number"),
        (
            {"mean": (0.5,), "std": (0.5,)},
            r"makes 1 channels of \(16, 16\) pixels, and the model reads 3 of \(16, 16\)",
        ),
        ({"size": (32, 32)}, r"3 channels of \(32, 32\) pixels"),
        ({"interpolation": "best"}, "no interpolation called 'best'"),
    ],
)
def test_preprocessing_that_cannot_be_is_a_sentence(folder, preprocessing, sentence):
    with pytest.raises(ConfigError, match=sentence):
        from_pretrained(folder, preprocessing=preprocessing, announce=quiet)


def test_what_a_foreign_library_cannot_be_told_is_said(tmp_path):
    model = tiny()
    model.card = dataclasses.replace(
        model.card, preprocessing=Preprocessing(size=(16, 16), resize=18, resampler="tensor")
    )
    heard = []
    save_pretrained(model, tmp_path, format="timm", announce=heard.append)
    assert heard[0] == "timm cannot be told that resampler is tensor and was written as pillow."
    opening = f"timm.create_model('local-dir:{tmp_path}', pretrained=True)"
    assert heard[-1] == f"Saved to {tmp_path} (timm). It is loaded there by {opening}."


def test_what_a_foreign_library_is_told_is_not_said(tmp_path):
    heard = []
    save_pretrained(tiny(drop_path=0.1, dropout=0.2), tmp_path, format="timm", announce=heard.append)
    assert heard[:-1] == ["timm cannot be told that dropout is 0.2 in training."]
    assert json.loads((tmp_path / "config.json").read_text())["model_args"]["drop_path_rate"] == 0.1
    assert from_pretrained(tmp_path, announce=quiet).config.drop_path == 0.1


@pytest.mark.parametrize(("classes", "opened"), [(3, "ViTForImageClassification"), (0, "ViTModel")])
def test_what_is_said_to_load_a_folder_in_transformers_loads_it(tmp_path, classes, opened):
    import transformers

    heard = []
    save_pretrained(tiny(classes=classes), tmp_path, format="transformers", announce=heard.append)
    typed = heard[-1].partition("It is loaded there by ")[2].removesuffix(".")
    assert type(eval(typed, {"transformers": transformers})).__name__ == opened


def test_our_own_folder_needs_no_words_to_be_loaded(tmp_path):
    heard = []
    save_pretrained(tiny(), tmp_path, announce=heard.append)
    assert heard == [f"Saved to {tmp_path} (vitrail)."]


def test_a_model_made_by_hand_is_saved_with_a_card_of_its_own(tmp_path):
    from vitrail.models.vit import ViT

    model = ViT(tiny().config)
    assert from_pretrained(save_pretrained(model, tmp_path, announce=quiet), announce=quiet).card.model == "vit"


def test_a_module_that_is_not_ours_is_not_saved(tmp_path):
    with pytest.raises(ConfigError, match="Linear was not made by vitrail"):
        save_pretrained(nn.Linear(2, 2), tmp_path)


@pytest.mark.parametrize("name", VARIANTS)
def test_a_published_size_is_called_by_its_name(name):
    family = family_of(tiny())
    called = variant_name(family, dataclasses.replace(VARIANTS[name], classes=7, channels=1))
    assert VARIANTS[called] == VARIANTS[name]  # DeiT without a distillation token is a ViT


def test_models_are_listed_by_pattern():
    assert "vit-base-16" in list_models()
    assert list_models("dinov2-*registers*") == [name for name in VARIANTS if "registers" in name]
    assert list_models("nothing*") == []


@pytest.mark.parametrize(
    ("name", "changes", "sentence"),
    [
        ("vit-bse-16", {}, "no model called 'vit-bse-16'. Did you mean vit-base-16"),
        ("vit-base-16", {"clases": 3}, "no field called 'clases'. Did you mean classes"),
        ("vit-base-16", {"image": 225}, "The nearest sizes that do: 224 and 240"),
        ("vit-base-16", {"dialect": "martian"}, "no dialect"),
        ("vit-base-16", {"classes": 10**12}, "classes=1000000000000 must be at least 0 and at most 16,777,216"),
        ("vit-base-16", {"depth": 10**9}, "depth=1000000000 must be at least 1 and at most 1,000"),
        ("vit-base-16", {"mlp_dim": 2**24, "depth": 400}, r"fill 38,\d\d\d GiB, and the machine has \d+ GiB"),
    ],
)
def test_a_model_that_cannot_be_made_is_a_sentence(name, changes, sentence):
    with pytest.raises(ConfigError, match=sentence):
        create_model(name, **changes)


def test_a_card_is_the_same_after_a_file():
    card = Card(
        model="vit-tiny-16", preprocessing=Preprocessing.imagenet((32, 48)).for_channels(4), labels=("ä", "b\n"),
        licence="mit", origin="here", scores={"top1": 1.0, "knn": 2}, notes="!",
    )  # fmt: skip
    assert Card.from_json(json.loads(json.dumps(card.to_json()))) == card


def test_weights_that_nobody_could_read_are_not_written(tmp_path):
    model = tiny()
    with torch.no_grad():
        model.get_parameter("head.weight")[0, 0] = math.nan
    with pytest.raises(CheckpointError, match=r"Nothing is written to .*: 1 of the 48 numbers in 'head.weight'"):
        save_pretrained(model, tmp_path / "out")
    assert not (tmp_path / "out").exists()
