"""Every name a person may type leads to something, and nothing that leads somewhere lacks a name."""

import fnmatch
import re

import pytest
import torch

from vitrail import catalog
from vitrail.errors import VitrailError, unknown
from vitrail.loading import create_model, list_models
from vitrail.models.family import Family

TABLES = {name: table for name, table in vars(catalog).items() if name.isupper() and isinstance(table, dict)}
ENTRIES = [
    pytest.param(table, name, id=f"{table}-{name}") for table in TABLES for name in TABLES[table] if table != "MODELS"
]


def test_the_tables_are_all_looked_at():
    assert {"FAMILIES", "MODELS", "TASKS", "RECIPES"} == set(TABLES)


@pytest.mark.parametrize(("table", "name"), ENTRIES)
def test_every_entry_leads_to_something(table, name):
    assert catalog.load(TABLES[table][name]) is not None


@pytest.mark.parametrize("name", catalog.FAMILIES)
def test_a_family_has_exactly_the_variants_that_the_catalog_lists(name):
    family = catalog.load(catalog.FAMILIES[name])
    assert isinstance(family, Family)
    assert family.name == name
    assert set(family.variants) == {model for model, entry in catalog.MODELS.items() if entry.target == name}


@pytest.mark.parametrize("name", catalog.MODELS)
def test_the_list_of_models_tells_their_true_size(name):
    [told] = re.findall(r"([\d.]+) M parameters", catalog.MODELS[name].sentence)
    with torch.device("meta"):
        parameters = sum(parameter.numel() for parameter in create_model(name).parameters())
    assert float(told) == pytest.approx(parameters / 1e6, rel=0.01)


def test_every_entry_is_one_sentence():
    sentences = [entry.sentence for table in TABLES.values() for entry in table.values()]
    assert all(sentence.endswith(".") and len(sentence) < 110 for sentence in sentences)


def test_names_carry_no_slash_and_look_like_no_path():
    names = [name for table in TABLES.values() for name in table]
    assert not [name for name in names if "/" in name or "\\" in name or name.startswith(".")]


@pytest.mark.parametrize("pattern", ["*", "vit-base*", "*-384", "deit-tiny-16", "nothing-*"])
def test_list_models_answers_as_a_shell_would(pattern):
    assert sorted(list_models(pattern)) == sorted(fnmatch.filter(catalog.MODELS, pattern))


def test_a_name_that_leads_nowhere_says_what_was_meant():
    with pytest.raises(VitrailError, match=r"vit-base-16.*`vitrail models`"):
        create_model("vit-bse-16")


def test_what_a_family_learns_from_is_what_its_recipe_is_for():
    for entry in catalog.FAMILIES.values():
        learns = catalog.load(entry).learns or {task: task for task in ("classify",)}
        for task, recipe in learns.items():
            assert task in catalog.RECIPES[recipe].data


def test_every_recipe_says_what_data_it_is_for():
    assert all(entry.data for entry in catalog.RECIPES.values())


def test_of_many_names_some_are_listed_and_near_ones_named_whatever_their_capitals():
    many = unknown("class", "Taby", ["Tabby", "dog", *map(str, range(1000))])
    assert many == (
        "There is no class called 'Taby'. Did you mean Tabby? There are: Tabby, dog, "
        + ", ".join(map(str, range(38)))
        + " and 962 more."
    )
