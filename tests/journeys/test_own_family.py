"""A family that somebody writes by the manual, in a file beside the pictures, and what `vitrail` says without it."""

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torch import nn

import vitrail
from vitrail import catalog
from vitrail.errors import ConfigError
from vitrail.models.family import Family

PAGE = Path(__file__).parents[2] / "docs" / "guides" / "families.md"
SMALL = ("--set", "model.image=16", "--set", "model.dim=8", "--set", "model.depth=1", "--set", "steps=2")


def typed(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """What `python ...` says in a folder."""
    return subprocess.run([sys.executable, *words], cwd=folder, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """The manual's file, pictures, and the run that it left."""
    folder = tmp_path_factory.mktemp("own")
    [code] = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), flags=re.MULTILINE | re.DOTALL)
    (folder / "mixer.py").write_text(code)
    numbers = np.random.default_rng(0)
    for kind in ("daisy", "rose"):
        (folder / "flowers" / kind).mkdir(parents=True)
        for place in range(8):
            pixels = numbers.integers(0, 256, (20, 24, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / "flowers" / kind / f"{place}.png")
    words = ("train", "mixer-mini-8", "--data", "flowers", "--out", "run", "--batch", "4", "--workers", "0", *SMALL)
    trained = typed(folder, "mixer.py", *words, "--set", "checkpointing=true")
    assert trained.returncode == 0, trained.stderr
    return folder


def test_its_file_predicts_with_what_it_trained(folder):
    answer = typed(folder, "mixer.py", "predict", "run", "flowers/rose/0.png")
    assert answer.returncode == 0, answer.stderr
    assert "daisy" in answer.stdout


def test_its_file_lists_it(folder):
    assert "MLP-Mixer: patches are mixed" in typed(folder, "mixer.py", "models", "mixer*").stdout


def test_pictures_that_do_not_divide_are_refused(folder):
    words = ("train", "mixer-mini-8", "--data", "flowers", "--out", "odd", *SMALL, "--set", "model.image=20")
    answer = typed(folder, "mixer.py", *words)
    assert answer.returncode == 1
    assert "patch" in answer.stderr


def test_importing_it_is_enough_in_python(folder):
    code = "import mixer, vitrail; print(vitrail.from_pretrained('run').config)"
    assert "classes=2" in typed(folder, "-c", code).stdout


@pytest.mark.parametrize("words", [("predict", "run", "flowers/rose/0.png"), ("resume", "run"), ("info", "run")])
def test_without_it_a_sentence_says_what_to_run(folder, words):
    answer = typed(folder, "-m", "vitrail", *words)
    assert answer.returncode == 1
    assert "'mixer'" in answer.stderr
    assert "register_family" in answer.stderr


@dataclass(frozen=True, kw_only=True)
class PointConfig:
    """Nothing to decide but classes."""

    classes: int = 2


def family(name: str, *variants: str, config: type = PointConfig) -> Family:
    """A family that is registered, and never built."""
    made = {variant: PointConfig() for variant in variants}
    return Family(name=name, config=config, build=lambda config: nn.Identity(), variants=made)


@pytest.fixture
def as_before():
    """The catalog is put back after the test."""
    families, models = dict(catalog.FAMILIES), dict(catalog.MODELS)
    yield
    for table, kept in ((catalog.FAMILIES, families), (catalog.MODELS, models)):
        table.clear()
        table.update(kept)


def test_registering_again_replaces_the_earlier_one(as_before):
    vitrail.register_family(family("point", "point-1", "point-2"))
    vitrail.register_family(family("point", "point-2", "point-3"))
    assert vitrail.list_models("point*") == ["point-2", "point-3"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (family("vit", "vit-mine"), "family called 'vit' is there"),
        (family("mine", "vit-base-16"), "model called 'vit-base-16' is there"),
        (family("mine", "mine-1", config=int), "mine-1 is a PointConfig"),
    ],
)
def test_what_would_hide_one_of_vitrails_own_is_refused(as_before, given, said):
    before = dict(catalog.MODELS)
    with pytest.raises(ConfigError, match=said):
        vitrail.register_family(given)
    assert before == catalog.MODELS


def test_patterns_as_timm_spells_them_find_models():
    assert vitrail.list_models("vit_base*") == vitrail.list_models("vit-base*") != []
