"""A configuration within another is written, read, changed, typed and told apart by the name of its family."""

import json

import pytest
import torch

from contracts.holder import FAMILY, Deep, HolderConfig, Wide, infer
from vitrail import catalog
from vitrail.catalog import Entry
from vitrail.cli.info import configuration
from vitrail.cli.values import changes
from vitrail.data.material import Pictures
from vitrail.errors import ConfigError
from vitrail.loading import create_model, from_pretrained, save_pretrained
from vitrail.models.family import Family
from vitrail.tasks.classify import Classify
from vitrail.train.asked import with_assignments
from vitrail.train.building import in_words, rebuild_model, tell_model
from vitrail.train.recipe import ModelChoice, Recipe
from vitrail.train.recipe_text import recipe_from_json, recipe_to_json
from vitrail.weights.configs import build, checked, differences, disagreements, merged, written


@pytest.fixture
def registered(monkeypatch):
    monkeypatch.setitem(catalog.FAMILIES, "holder", Entry("contracts.holder:FAMILY", "Holds others."))
    for name in FAMILY.variants:
        monkeypatch.setitem(catalog.MODELS, name, Entry("holder", "Holds others."))


def recipe(name: str, *assignments: str) -> Recipe:
    """A recipe with what was typed after `--set`."""
    plain = Recipe(model=ModelChoice(name=name), task=Classify(classes=("a",)), data=Pictures(path="x"))
    return with_assignments(plain, assignments)


@pytest.mark.parametrize("config", FAMILY.variants.values(), ids=FAMILY.variants)
def test_what_is_written_is_read_back(config):
    told = json.loads(json.dumps(written(config)))
    assert told["backbone"]["family"] == config.backbone.family
    assert build(HolderConfig, told, "config.json") == config


def test_a_folder_holds_it_whole(registered, tmp_path):
    model = create_model("holder-b", backbone={"depth": 3})
    save_pretrained(model, tmp_path, announce=lambda _: None)
    again = from_pretrained(tmp_path, announce=lambda _: None)
    assert again.config == model.config == HolderConfig(backbone=Deep(depth=3), stem=Deep(depth=5))


def test_a_checkpoint_tells_it(registered):
    model = create_model("holder-b")
    told = json.loads(json.dumps(tell_model(model)))
    assert rebuild_model(told).config == model.config


def test_changes_name_only_what_is_otherwise(registered, tmp_path):
    assert create_model("holder-a", backbone={"eps": 0.1}).config.backbone == Wide(eps=0.1)
    assert create_model("holder-a", backbone={"family": "deep"}).config.backbone == Deep()
    assert create_model("holder-a", backbone=Deep(depth=4)).config.backbone == Deep(depth=4)
    assert create_model("holder-a", stem={"depth": 7}).config.stem == Deep(depth=7)
    assert create_model("holder-b", stem=None).config.stem is None


def test_what_changes_the_answers_within_is_said(registered, tmp_path):
    save_pretrained(create_model("holder-a"), tmp_path, announce=lambda _: None)
    heard = []
    from_pretrained(tmp_path, backbone={"eps": 0.5}, announce=heard.append)
    assert heard == ["backbone.eps was 1e-05, is 0.5: the answers change."]


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (
            {"backbone": {"family": "wide", "dims": [1.5]}},
            r"backbone.dims=\(1.5,\) is not a list of values, each a whole number",
        ),
        ({"backbone": {"family": "wide", "dim": 3}}, "backbone: There is no field called 'dim'. Did you mean dims"),
        ({"backbone": {"family": "deap"}}, "backbone: There is no family called 'deap'. Did you mean deep"),
        (
            {"backbone": {"depth": 3}},
            r"backbone can be of several families: wide, deep. Say which: backbone.family=...",
        ),
        ({"backbone": 3}, "backbone=3 is not Wide or Deep"),
        ({"stem": {"family": "wide"}}, "stem: There is no family called 'wide'"),
        ({"image": {"family": "wide"}}, "image={'family': 'wide'} is not a whole number"),
    ],
    ids=str,
)
def test_an_object_that_is_no_configuration_is_a_sentence(values, sentence):
    with pytest.raises(ConfigError, match=sentence):
        checked(HolderConfig, values)


def test_what_is_typed_reaches_below(registered, tmp_path):
    typed = recipe("holder-a", "model.backbone.dims=4,5,6", "model.backbone.eps=0.1", "model.image=32")
    assert typed.model.changes == {"backbone": {"dims": (4, 5, 6), "eps": 0.1}, "image": 32}
    again = recipe_from_json(json.loads(recipe_to_json(typed)))
    for one in (typed, again):
        assert create_model("holder-a", **one.model.changes).config == HolderConfig(
            backbone=Wide(dims=(4, 5, 6), eps=0.1), image=32
        )
    assert "backbone.dims (4, 5, 6) ((2, 3)), backbone.eps 0.1 (1e-05)" in in_words(typed.model)


def test_another_family_is_typed_in_any_order(registered):
    typed = recipe("holder-a", "model.backbone.depth=9", "model.backbone.family=deep", "model.stem.depth=3")
    config = create_model("holder-a", **typed.model.changes).config
    assert (config.backbone, config.stem) == (Deep(depth=9), Deep(depth=3))
    assert recipe("holder-b", "model.stem=none").model.changes == {"stem": None}


def test_a_configuration_in_a_recipe_is_written_with_its_family(registered):
    plain = recipe("holder-a")
    held = Recipe(
        model=ModelChoice(name="holder-a", changes={"backbone": Deep(depth=3)}), task=plain.task, data=plain.data
    )
    again = recipe_from_json(json.loads(recipe_to_json(held)))
    assert create_model("holder-a", **again.model.changes).config.backbone == Deep(depth=3)


@pytest.mark.parametrize(
    ("assignment", "sentence"),
    [
        ("model.backbone.dim=3", "--set model.backbone.dim: There is no field called 'dim'. Did you mean dims"),
        ("model.backbone.dims=a", "--set model.backbone.dims=a is not a list of values, each a whole number"),
        ("model.backbone=3", "backbone has fields of its own. Type --set model.backbone.dims=VALUE"),
        ("model.image.side=3", "--set model.image.side: image has no fields of its own. Type model.image=VALUE"),
        ("model.backbone.family=wade", "model.backbone: There is no family called 'wade'"),
        ("backbone.eps=3", "Did you mean --set model.backbone.eps=3"),
    ],
)
def test_what_cannot_be_typed_is_a_sentence(registered, assignment, sentence):
    with pytest.raises(ConfigError, match=sentence):
        recipe("holder-a", assignment)


def test_the_verbs_that_take_fields_read_below_too():
    told = changes(["backbone.eps=0.1", "backbone.dims=1,2", "image=32", "preprocessing.resize=64"])
    assert told == {"backbone": {"eps": 0.1, "dims": (1, 2)}, "image": 32, "preprocessing": {"resize": 64}}


def test_a_configuration_is_shown_with_what_it_holds():
    assert configuration(HolderConfig(stem=Deep())) == (
        "backbone=wide(dims=(2, 3), eps=1e-05), stem=deep(depth=2, eps=1e-06), image=16, classes=4"
    )


def test_a_bare_file_tells_of_what_is_within(registered, tmp_path, monkeypatch):
    monkeypatch.setattr("contracts.holder.FAMILY", replaced := Family(**{**vars(FAMILY), "infer": infer}))
    assert catalog.load(catalog.FAMILIES["holder"]) is replaced
    tensors = {"p.0.weight": torch.ones(1, 7), "p.0.bias": torch.ones(1)}
    torch.save(tensors, tmp_path / "bare.pt")
    heard = []
    model = from_pretrained(
        tmp_path / "bare.pt", format="timm", model="holder-a", backbone={"eps": 0.5}, announce=heard.append
    )
    assert model.config == HolderConfig(backbone=Wide(dims=(7,), eps=0.5))
    assert "Other than in holder-a, the shapes in bare.pt tell: backbone.dims=(7,)." in heard


def test_differences_and_disagreements_are_found_at_any_depth():
    old, new = HolderConfig(), HolderConfig(backbone=Wide(eps=0.5), image=3)
    assert [(one.path, one.kind) for one in differences(old, new)] == [("backbone.eps", Wide), ("image", HolderConfig)]
    [other] = differences(old, HolderConfig(backbone=Deep()))
    assert (other.path, other.after) == ("backbone", Deep())
    assert [one.path for one in disagreements(old, {"backbone": {"dims": (1,)}, "image": 16})] == ["backbone.dims"]
    assert [one.path for one in disagreements(old, {"backbone": {"family": "deep"}})] == ["backbone"]
    assert merged({"a": {"b": 1, "c": 2}, "d": 3}, {"a": {"c": 4}}) == {"a": {"b": 1, "c": 4}, "d": 3}
