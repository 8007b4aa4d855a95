"""Two processes learn what one would."""

import json
import os
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from reliability.teammate import Losses
from reliability.tiny import tiny_recipe, write_pictures
from vitrail.data.datasets.painting import CLASSES
from vitrail.data.material import MarkedPictures, Texts
from vitrail.tasks.detect import Detect
from vitrail.tasks.set_loss import SetWeights
from vitrail.tasks.translate import Translate
from vitrail.train.fit import fit
from vitrail.train.optim import AdamW
from vitrail.train.recipe import ModelChoice, Recipe
from vitrail.train.recipe_text import recipe_to_json

TEAMMATE = Path(__file__).with_name("teammate.py")
TOGETHER = [
    *(sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"),
    *("--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0", TEAMMATE),
]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """19 pictures to learn from: three batches of six, and a last one in which the second process has nothing."""
    folder = write_pictures(tmp_path_factory.mktemp("pictures"))
    next((folder / "train" / "dark").iterdir()).unlink()
    return folder


def train_alone(recipe: Recipe, out: Path) -> None:
    """Begin or resume a training in this process."""
    seen = Losses(out.with_suffix(".losses.json"))
    fit(recipe, out, resume=True, observers=[seen], say=lambda sentence: None)


def train_together(recipe: Recipe, out: Path, **environment: str) -> subprocess.CompletedProcess:
    """Begin a training in two processes."""
    path = out.with_suffix(".recipe.json")
    path.write_text(recipe_to_json(recipe))
    variables = os.environ | {"OMP_NUM_THREADS": "1"} | environment
    arguments = [path, out, out.with_suffix(".losses.json")]
    return subprocess.run([*TOGETHER, *arguments], env=variables, capture_output=True, text=True, timeout=120)


def losses(out: Path) -> list[float]:
    return json.loads(out.with_suffix(".losses.json").read_text())


def agree(one: Path, other: Path) -> None:
    """Weights of two runs, within what the order of adding changes over a few steps of Adam."""
    ours, theirs = (load_file(folder / "model.safetensors") for folder in (one, other))
    for name, tensor in ours.items():
        if name.endswith("key.bias"):  # changes no answer, so that Adam steps by the rounding of its gradient, zero
            continue
        torch.testing.assert_close(
            tensor, theirs[name], rtol=1e-3, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}"
        )


def shared(recipe: Recipe, batch: int, processes: int) -> Recipe:
    return replace(recipe, data=replace(recipe.data, batch=batch), processes=processes)


def test_two_processes_lose_what_one_with_the_doubled_batch_does(pictures, tmp_path):
    recipe = tiny_recipe(pictures, epochs=2, clip=0.5, accumulate=2, keep="last")
    train_alone(shared(recipe, batch=6, processes=1), tmp_path / "one")
    two = train_together(shared(recipe, batch=3, processes=2), tmp_path / "two")
    assert two.returncode == 0, two.stderr
    assert len(losses(tmp_path / "one")) == 4  # 12 pictures a step, then 7, of which one process had 3 + 1
    torch.testing.assert_close(losses(tmp_path / "two"), losses(tmp_path / "one"), rtol=1e-5, atol=1e-6)
    agree(tmp_path / "one", tmp_path / "two")


@pytest.mark.slow
def test_two_processes_learn_from_uneven_sentences_what_one_does(tmp_path):
    """Each word counts the same, in whichever process it is read."""
    draw, folder = random.Random(0), tmp_path / "pairs"
    folder.mkdir()
    for part, count in (("train", 60), ("val", 6)):
        rows = [[draw.choice("abcdefgh") for _ in range(draw.randint(1, 14))] for _ in range(count)]
        (folder / f"{part}.de").write_text("\n".join(" ".join(row) for row in rows))
        (folder / f"{part}.en").write_text("\n".join(" ".join(reversed(row)) for row in rows))
    sizes = {f"{stack}_{size}": 1 for stack in ("encoder", "decoder") for size in ("depth", "heads")}
    recipe = Recipe(
        model=ModelChoice(name="transformer-tiny", changes={"dim": 16, "dropout": 0.0, "max_tokens": 32, **sizes}),
        task=Translate(),
        data=Texts(path=f"{folder}:de-en", use="translate", tokens=4096, vocabulary=300),
        optimiser=AdamW(rate=1e-3),
        epochs=2,
        keep="last",
    )
    train_alone(shared(recipe, batch=12, processes=1), tmp_path / "one")
    two = train_together(shared(recipe, batch=6, processes=2), tmp_path / "two")
    assert two.returncode == 0, two.stderr
    assert len(losses(tmp_path / "one")) == 10
    torch.testing.assert_close(losses(tmp_path / "two"), losses(tmp_path / "one"), rtol=1e-5, atol=1e-6)
    agree(tmp_path / "one", tmp_path / "two")


@pytest.mark.slow
def test_two_processes_learn_from_uneven_pictures_what_one_does(tmp_path):
    """Each object counts the same, wherever it is seen; naming classes has a divisor of its own and is left out."""
    changes = {
        "classes": len(CLASSES),
        "queries": 6,
        "dim": 16,
        "heads": 2,
        "encoder_depth": 1,
        "decoder_depth": 2,
        "mlp_dim": 32,
    }
    backbone = {"norm": "frozen", "widths": (8, 16, 16)}
    recipe = Recipe(
        model=ModelChoice(name="detr-tiny", changes={**changes, "backbone": backbone}),
        task=Detect(classes=CLASSES, weights=SetWeights(classes=0.0)),
        data=MarkedPictures(path="scenes:16,size=32x48,objects=5", shorter=32, longer=48),
        optimiser=AdamW(rate=1e-3),
        epochs=2,
        keep="last",
        judge_every=2,
    )
    train_alone(shared(recipe, batch=4, processes=1), tmp_path / "one")
    two = train_together(shared(recipe, batch=2, processes=2), tmp_path / "two")
    assert two.returncode == 0, two.stderr
    assert len(losses(tmp_path / "one")) >= 6
    torch.testing.assert_close(losses(tmp_path / "two"), losses(tmp_path / "one"), rtol=1e-5, atol=1e-6)
    agree(tmp_path / "one", tmp_path / "two")


def test_a_signal_to_one_process_stops_both_and_one_goes_on_alone(pictures, tmp_path):
    recipe = tiny_recipe(pictures, epochs=2, keep="last")
    train_alone(shared(recipe, batch=6, processes=1), tmp_path / "whole")
    recipe = shared(recipe, batch=3, processes=2)
    stopped = train_together(recipe, tmp_path / "parted", SIGNAL_AT="3")
    assert "Stopped after step 3 of 8" in stopped.stderr
    train_alone(recipe, tmp_path / "parted")
    torch.testing.assert_close(losses(tmp_path / "parted"), losses(tmp_path / "whole")[3:], rtol=1e-5, atol=1e-6)
    agree(tmp_path / "whole", tmp_path / "parted")


@pytest.mark.slow
def test_when_one_process_is_killed_the_other_does_not_wait_for_ever(pictures, tmp_path):
    recipe = shared(tiny_recipe(pictures, epochs=10_000), batch=3, processes=2)
    ended = train_together(recipe, tmp_path / "run", DIE="1")  # has a time limit
    assert ended.returncode != 0
    assert "Another process of this run has ended, so process 0 stops too" in ended.stderr
