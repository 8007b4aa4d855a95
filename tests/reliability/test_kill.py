"""A run that is killed at any moment ends, once resumed, in the very bytes of one that was not."""

import os
import random
import signal
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from reliability.tiny import (
    Trainee,
    everything_random,
    half_precision,
    sha256,
    tiny_recipe,
    write_recipe,
)
from vitrail.errors import CheckpointError, TrainingError
from vitrail.train.checkpoint import Checkpoints
from vitrail.train.recipe import Recipe


def survive(trainee: Trainee, recipe: Recipe, folder: Path, kills: int, seed: int) -> tuple[str, str, int]:
    """The hash of an uninterrupted run, that of one which was killed again and again, and how often it was."""
    path, moments = write_recipe(recipe, folder), random.Random(seed)
    started = time.monotonic()
    trainee.begin(path, folder / "whole")
    assert trainee.status() == 0
    length = time.monotonic() - started
    killed = 0
    while True:
        process = trainee.begin(path, folder / "killed", workers=killed % 3, every=0.0)
        if killed < kills:
            # beginning takes time too: leave enough for a few steps, lest it never gets anywhere
            time.sleep(moments.uniform(0.02, max(0.3, 1.5 * length / kills)))
            os.kill(process, signal.SIGKILL)
        status = trainee.status()
        if status == 0:
            break
        assert status == -signal.SIGKILL
        killed += 1
    return sha256(folder / "whole/model.safetensors"), sha256(folder / "killed/model.safetensors"), killed


@pytest.mark.parametrize("make", [everything_random, pytest.param(half_precision, marks=pytest.mark.slow)])
def test_a_killed_run_resumes_to_the_same_bytes(make, trainee, pictures, tmp_path):
    whole, resumed, killed = survive(trainee, make(pictures), tmp_path, kills=4, seed=1)
    assert killed >= 2  # else it proved little
    assert resumed == whole


@pytest.mark.slow
@pytest.mark.parametrize("make", [everything_random, pytest.param(half_precision, marks=pytest.mark.slow)])
def test_twenty_kills_at_random_moments_change_no_byte(make, trainee, pictures, tmp_path):
    whole, resumed, killed = survive(trainee, make(pictures), tmp_path, kills=20, seed=2)
    assert killed >= 15
    assert resumed == whole


def test_another_seed_ends_in_other_bytes(trainee, pictures, tmp_path):
    for seed in (0, 1):
        trainee.begin(write_recipe(tiny_recipe(pictures, seed=seed, epochs=1), tmp_path), tmp_path / str(seed))
        assert trainee.status() == 0
    assert sha256(tmp_path / "0/model.safetensors") != sha256(tmp_path / "1/model.safetensors")


# a checkpoint by itself


def state(value: float) -> dict[str, torch.Tensor]:
    return {"weight": torch.full((3, 5), value), "count": torch.tensor(7), "half": torch.ones(2, dtype=torch.bfloat16)}


def test_a_checkpoint_gives_back_what_was_saved(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(12, state(0.5), {"judged": 10})
    found = checkpoints.newest()
    assert found.step == 12
    assert found.progress == {"judged": 10}
    assert {name: tensor.dtype for name, tensor in found.tensors.items()} == {
        name: tensor.dtype for name, tensor in state(0.5).items()
    }
    assert all(torch.equal(found.tensors[name], tensor) for name, tensor in state(0.5).items())


def test_tied_weights_are_saved_each_by_its_name(tmp_path):
    weight = torch.arange(6.0)
    Checkpoints(tmp_path).save(1, {"embedding": weight, "head": weight, "part": weight[:3]}, {})
    found = Checkpoints(tmp_path).newest()
    assert torch.equal(found.tensors["head"], weight)
    assert torch.equal(found.tensors["part"], weight[:3])


def test_only_the_newest_checkpoints_stay(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=2)
    for step in (5, 10, 15, 100):
        checkpoints.save(step, state(step), {})
    assert [path.name for path in checkpoints.finished()] == ["step-000000015", "step-000000100"]
    assert checkpoints.newest().step == 100


def test_dying_at_any_call_of_a_save_leaves_a_whole_checkpoint(tmp_path):
    calls = 0
    while True:
        folder = tmp_path / str(calls)
        Checkpoints(folder, keep=1).save(1, state(1.0), {})
        child = os.fork()
        if child == 0:
            save_and_die(folder, calls)
        died = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        found = Checkpoints(folder).newest()
        assert found.step in (1, 2)
        assert torch.equal(found.tensors["weight"], state(float(found.step))["weight"])
        if died == 0:
            break
        assert died == 9
        calls += 1
    assert found.step == 2
    assert calls > 10  # there were that many moments to die at


def save_and_die(folder: Path, calls: int) -> None:
    """In a child: save the second checkpoint, and end like one that is killed before a call to the file system."""
    left = calls

    def count(event: str, arguments: tuple) -> None:
        nonlocal left
        if event in ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.scandir", "shutil.rmtree"):
            if left == 0:
                os._exit(9)
            left -= 1

    sys.addaudithook(count)
    try:
        Checkpoints(folder, keep=1).save(2, state(2.0), {})
    finally:
        os._exit(0)


def test_a_flipped_bit_sends_back_to_the_checkpoint_before(tmp_path):
    said = []
    checkpoints = Checkpoints(tmp_path, say=said.append)
    checkpoints.save(1, state(1.0), {})
    damaged = checkpoints.save(2, state(2.0), {}) / "state.safetensors"
    content = bytearray(damaged.read_bytes())
    content[-3] ^= 1
    damaged.write_bytes(content)
    load_file(damaged)  # safetensors itself notices nothing
    assert checkpoints.newest().step == 1
    assert "SHA-256" in said[0]


@pytest.mark.parametrize("damage", ["empty manifest", "no manifest", "no state", "cut state"])
def test_a_checkpoint_that_is_not_whole_is_not_believed(damage, tmp_path):
    checkpoints = Checkpoints(tmp_path, say=lambda sentence: None)
    checkpoints.save(1, state(1.0), {})
    newest = checkpoints.save(2, state(2.0), {})
    if damage == "empty manifest":
        (newest / "manifest.json").write_text("")
    elif damage == "no manifest":
        (newest / "manifest.json").unlink()
    elif damage == "no state":
        (newest / "state.safetensors").unlink()
    else:
        os.truncate(newest / "state.safetensors", 100)
    assert checkpoints.newest().step == 1


def test_when_no_checkpoint_is_whole_it_says_so_instead_of_starting_again(tmp_path):
    checkpoints = Checkpoints(tmp_path, say=lambda sentence: None)
    (checkpoints.save(1, state(1.0), {}) / "state.safetensors").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"No checkpoint in .* is whole"):
        checkpoints.newest()


def test_a_full_disk_is_one_sentence_and_the_checkpoint_before_is_intact(tmp_path, monkeypatch):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, state(1.0), {})
    monkeypatch.setattr("shutil.disk_usage", lambda folder: type("Usage", (), {"free": 100})())
    with pytest.raises(TrainingError, match=r"the disk is full .*step-000000001 is intact"):
        checkpoints.save(2, state(2.0), {})
    assert checkpoints.newest().step == 1


def test_a_disk_that_fills_up_while_saving_leaves_nothing_half_done(tmp_path, monkeypatch):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, state(1.0), {})

    def fill(*arguments, **named):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("vitrail.train.checkpoint.write_safetensors", fill)
    with pytest.raises(TrainingError, match="the disk is full"):
        checkpoints.save(2, state(2.0), {})
    assert [path.name for path in tmp_path.iterdir()] == ["step-000000001"]
