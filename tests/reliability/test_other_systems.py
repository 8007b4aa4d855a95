"""What can be tried on Linux of how vitrail does elsewhere: processes begun anew, Windows' locks, Apple's GPUs."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from reliability.tiny import write_pictures
from vitrail.data import workers
from vitrail.data.loader import Loader
from vitrail.data.open import open_dataset
from vitrail.data.transforms import Augment, eval_transform, train_transform
from vitrail.preprocessing import Preprocessing

HERE = Path(__file__).parent


@pytest.mark.parametrize("randaugment", ["rand-m9-mstd0.5-inc1", "torchvision-n2-m9", None])
def test_processes_that_are_begun_anew_read_the_same_pictures(tmp_path, monkeypatch, randaugment):
    monkeypatch.setattr(workers, "START", "spawn")  # as on macOS and Windows
    pictures = open_dataset(write_pictures(tmp_path / "data"), "train")
    prepared = Preprocessing.imagenet(16)
    for transform in (eval_transform(prepared), train_transform(prepared, Augment(randaugment=randaugment))):
        alone, helped = (list(Loader(pictures, transform, 8, workers=count).epoch(0)) for count in (0, 1))
        assert len(alone) == len(helped) == 3
        for one, other in zip(alone, helped, strict=True):
            assert torch.equal(one.inputs, other.inputs)
            assert torch.equal(one.target, other.target)
        if randaugment is None:
            break


WINDOWS = """
import fcntl, importlib, os, subprocess, sys
from pathlib import Path
from types import SimpleNamespace
from vitrail.errors import TrainingError
from vitrail.train import lock

def locking(file, mode, count):  # Windows' module of locks, made of Linux's: a byte, wherever the file stands
    fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, count, os.lseek(file, 0, os.SEEK_CUR))

sys.modules["msvcrt"] = SimpleNamespace(locking=locking, LK_NBLCK=2)
platform, sys.platform = sys.platform, "win32"
importlib.reload(lock)
sys.platform = platform
assert lock.FAR > 10_000  # what stands there cannot be read by others
try:
    with lock.Lock(Path(".")):
        print(f"process {os.getpid()}", flush=True)  # to read it here would give it free, on Linux
        if sys.argv[1:] == ["first"]:
            sys.exit(subprocess.run([sys.executable, __file__]).returncode)
except TrainingError as error:
    sys.exit(str(error))
"""


def test_a_run_is_locked_as_windows_locks(tmp_path):
    script = tmp_path / "locks.py"
    script.write_text(WINDOWS)
    told = subprocess.run([sys.executable, script, "first"], cwd=tmp_path, capture_output=True, text=True)
    assert told.returncode == 1
    assert f"Another process ({told.stdout.strip()} on " in told.stderr
    again = subprocess.run([sys.executable, script], cwd=tmp_path, capture_output=True, text=True)
    assert (again.returncode, again.stderr) == (0, "")


def commands(folder: Path) -> list[list[str]]:
    """Everything that runs on a device: pictures and texts, from training to the question what was looked at."""
    data = write_pictures(folder / "data")
    said = {"runs": "good", "sits": "bad"}
    lines = [f"the {noun} {verb} here,{said[verb]}" for noun in "abcdefgh" for verb in said]
    (folder / "reviews.csv").write_text("text,label\n" + "\n".join(lines) + "\n")
    (folder / "text.txt").write_text("".join(f"a dog runs and man {one} sits on the bench.\n\n" for one in range(2000)))
    pairs = [f"ein hund rennt {number},a dog runs {number}" for number in range(40)]
    (folder / "pairs.csv").write_text("de,en\n" + "\n".join(pairs) + "\n")
    Image.new("RGB", (64, 64), "gray").save(folder / "scene.png")
    few = ["--workers", "0", "--set", "steps=2"]
    small = ["--set", "model.dim=32", "--set", "model.heads=2", "--set", "model.mlp_dim=32", "--set", "model.depth=1"]
    pieces, picture = ["--set", "data.vocabulary=300"], str(next(data.glob("val/dark/*")))
    runs = {name: str(folder / name) for name in ("pictures", "classes", "words", "pairs", "objects")}
    return [
        ["train", "vit-tiny-16", "--data", str(data), "--out", runs["pictures"], *few, *small, "--batch", "4",
         "--set", "model.image=32", "--set", "model.patch=8", "--set", "model.dropout=0.1",
         "--set", "model.drop_path=0.1", "--set", "data.mixing.chance=1"],
        ["resume", runs["pictures"]],
        ["evaluate", runs["pictures"], "--data", str(data)],
        ["predict", runs["pictures"], picture],
        ["predict", runs["pictures"], picture, "--features"],
        *(["explain", runs["pictures"], picture, "--method", method, "--out", str(folder / "a.png")]
          for method in ("attention", "relevance", "rollout", "gradient", "attribution")),
        ["explain", runs["pictures"], picture, "--method", "relevance", "--faithful", "--out", str(folder / "a.png")],
        ["train", "bert-mini-classify", "--data", str(folder / "reviews.csv"), "--out", runs["classes"], *few, *small],
        ["explain", runs["classes"], "the dog runs", "--word", "runs", "--out", str(folder / "b.png")],
        ["explain", runs["classes"], "the dog runs", "--method", "relevance", "--out", str(folder / "b.png")],
        ["explain", runs["classes"], "the dog runs", "--method", "rollout", "--out", str(folder / "b.png")],
        ["train", "detr-tiny", "--data", "scenes:8,size=64x64,objects=1", "--out", runs["objects"], "--batch", "2",
         "--workers", "0", "--set", "steps=1", "--set", "model.queries=4"],
        ["explain", runs["objects"], "scene.png", "--query", "1", "--out", str(folder / "d.png")],
        ["train", "gpt-mini", "--data", str(folder / "text.txt"), "--out", runs["words"], *few, *small, *pieces],
        ["predict", runs["words"], "--prompt", "a dog", "--temperature", "0.8", "--seed", "1", "--tokens", "5"],
        ["train", "transformer-small-translation", "--data", str(folder / "pairs.csv"), "--out", runs["pairs"], *few,
         *pieces, "--set", "model.dim=32"],
        ["predict", runs["pairs"], "ein hund", "--beam", "2", "--tokens", "5"],
        ["explain", runs["pairs"], "ein hund", "--out", str(folder / "c.png")],
    ]  # fmt: skip


def test_on_an_apple_gpu_nothing_becomes_float64_or_stands_elsewhere(tmp_path):
    typed = "\n".join(map(json.dumps, commands(tmp_path)))
    told = subprocess.run(
        [sys.executable, HERE / "make_believe.py"], input=typed, capture_output=True, text=True, cwd=tmp_path
    )
    assert told.returncode == 0, told.stderr[-2000:]
    assert "machine  mps" in told.stderr + told.stdout
