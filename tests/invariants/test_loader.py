"""What must hold of batches whatever reads them: which, in what order, by how many processes, and how it ends."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from itertools import zip_longest

import numpy as np
import pytest
import torch
from PIL import Image

from vitrail.data import workers
from vitrail.data.dataset import PictureFiles
from vitrail.data.images import PictureArray
from vitrail.data.loader import Loader
from vitrail.data.mixing import Mixing
from vitrail.data.transforms import Augment, train_transform
from vitrail.errors import ConfigError, DataError, ImageError
from vitrail.preprocessing import Preprocessing
from vitrail.samples import Sample

SMALL = Preprocessing(size=(8, 8), resize=8, mean=(0.5,) * 3, std=(0.5,) * 3)
VARIED = train_transform(SMALL, Augment(randaugment="rand-m9-mstd0.5-inc1", erase=0.5))


@dataclass(frozen=True)
class Noise:
    """Pictures in memory, and things that happen at one of them."""

    count: int = 37
    at: int = -1
    happens: str = ""
    classes: tuple[str, ...] = ("a", "b", "c")
    multi_label: bool = False
    channels: int = 3
    task: str = "classify"
    main: int = field(default_factory=os.getpid)

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        if index == self.at and os.getpid() != self.main:
            if self.happens == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            if self.happens == "hangs":
                time.sleep(60)
        if index == self.at and self.happens == "bug":
            raise KeyError("a mistake of ours")
        pixels = np.random.default_rng(index).integers(0, 256, (12, 15, 3), dtype=np.uint8)
        return Sample(PictureArray(pixels, f"noise {index}"), self.labels()[index])

    def labels(self):
        if self.multi_label:
            return [tuple(range(index % 4))[:3] for index in range(self.count)]
        return [index % 3 for index in range(self.count)]

    def fingerprint(self, index):
        return index.to_bytes(16, "big")


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(tensors_of(one), tensors_of(other), strict=True))


def tensors_of(batch):
    return [part for part in batch if part is not None]  # pictures have no references


def all_same(ones, others):
    return len(ones) == len(others) and all(map(same, ones, others))


# which batches


@pytest.mark.parametrize("count", [1, 3])
def test_batches_are_the_same_bytes_for_any_number_of_processes(count):
    def epochs(number):
        loader = Loader(Noise(), VARIED, 4, seed=3, shuffle=True, workers=number, mixing=Mixing())
        return [*loader.epoch(0), *loader.epoch(1)]

    assert all_same(epochs(0), epochs(count))


def test_an_epoch_can_start_anywhere():
    for number in (0, 2):
        loader = Loader(Noise(), VARIED, 4, seed=1, shuffle=True, workers=number)
        assert all_same(list(loader.epoch(5))[6:], list(loader.epoch(5, start=6)))
        assert list(loader.epoch(5, start=len(loader))) == []


def test_an_epoch_shows_every_sample_once_in_an_order_of_its_own():
    loader = Loader(Noise(), VARIED, 5, shuffle=True)
    orders = [torch.cat([batch.index for batch in loader.epoch(epoch)]).tolist() for epoch in (0, 1, 0)]
    assert sorted(orders[0]) == list(range(37))
    assert orders[0] != sorted(orders[0])
    assert orders[0] != orders[1]
    assert orders[0] == orders[2]
    other = Loader(Noise(), VARIED, 5, shuffle=True, seed=1)
    assert torch.cat([batch.index for batch in other.epoch(0)]).tolist() != orders[0]


def test_a_sample_looks_different_in_each_epoch_and_the_same_in_any_batch():
    def seen(batch, epoch):
        loader = Loader(Noise(), VARIED, batch, seed=0)
        return torch.cat([part.inputs for part in loader.epoch(epoch)])

    assert torch.equal(seen(4, 0), seen(9, 0))
    assert not torch.equal(seen(4, 0), seen(4, 1))


def test_the_length_is_the_number_of_batches():
    for drop_last, batches in ((False, 10), (True, 9)):
        loader = Loader(Noise(), VARIED, 4, drop_last=drop_last)
        assert len(loader) == len(list(loader.epoch(0))) == batches


@pytest.mark.parametrize("count", [32, 34, 37])
@pytest.mark.parametrize("mixing", [None, Mixing()])
def test_two_processes_of_a_distributed_run_see_what_one_with_the_doubled_batch_sees(mixing, count):
    def loader(batch, rank, world):
        return Loader(Noise(count), VARIED, batch, seed=2, shuffle=True, rank=rank, world=world, mixing=mixing)

    together = list(loader(8, 0, 1).epoch(0))
    halves = [list(loader(4, rank, 2).epoch(0)) for rank in (0, 1)]
    assert len(together) == len(halves[0]) == -(-count // 8)
    for whole, *parts in zip_longest(together, *halves):
        assert same(whole, [torch.cat(tensors) for tensors in zip(*map(tensors_of, filter(None, parts)), strict=True)])


def test_a_distributed_evaluation_sees_every_sample_once():
    seen = [batch.index for rank in range(3) for batch in Loader(Noise(19), VARIED, 4, rank=rank, world=3).epoch(0)]
    assert sorted(torch.cat(seen).tolist()) == list(range(19))


def test_labels_are_class_numbers_or_a_one_for_each_that_is_there():
    (batch,) = Loader(Noise(4), VARIED, 4).epoch(0)
    assert batch.target.tolist() == [0, 1, 2, 0]
    (batch,) = Loader(Noise(4, multi_label=True), VARIED, 4).epoch(0)
    assert batch.target.tolist() == [[0, 0, 0], [1, 0, 0], [1, 1, 0], [1, 1, 1]]


def test_a_batch_stays_what_it_was_while_later_ones_are_read():
    loader = Loader(Noise(), VARIED, 2, seed=3, workers=2)
    kept = list(loader.epoch(0))
    assert all_same(kept, [batch._replace(inputs=batch.inputs.clone()) for batch in loader.epoch(0)])


def test_arguments_that_contradict_each_other_are_refused():
    with pytest.raises(ConfigError, match=r"37 pictures do not fill one batch of 64\. Use --batch 18"):
        Loader(Noise(), VARIED, 32, drop_last=True, world=2)
    with pytest.raises(ConfigError, match="even batch"):
        Loader(Noise(), VARIED, 5, world=2, mixing=Mixing())
    with pytest.raises(ConfigError, match="batch=0"):
        Loader(Noise(), VARIED, 0)


# how it ends


@pytest.mark.parametrize("number", [0, 2])
def test_a_bad_picture_stops_with_its_name(tmp_path, number):
    for place in range(6):
        Image.effect_noise((64, 64), 90).save(tmp_path / f"{place}.jpg")
    whole = (tmp_path / "4.jpg").read_bytes()
    (tmp_path / "4.jpg").write_bytes(whole[: len(whole) // 2])
    dataset = PictureFiles([str(tmp_path / f"{place}.jpg") for place in range(6)], [0] * 6, ("a",))
    loader = Loader(dataset, VARIED, 2, workers=number)
    batches = loader.epoch(0)
    assert [next(batches).index.tolist() for _ in range(2)] == [[0, 1], [2, 3]]
    with pytest.raises(ImageError, match=r"4\.jpg") as caught:
        next(batches)
    assert caught.value.code == "truncated"
    (tmp_path / "4.jpg").write_bytes(whole)
    assert len(list(loader.epoch(0))) == 3, "once it is mended, the same loader goes on"


def test_a_killed_worker_is_a_sentence_that_names_what_it_read():
    loader = Loader(Noise(at=21, happens="killed"), VARIED, 4, workers=2)
    began = time.monotonic()
    with pytest.raises(DataError, match=r"killed by signal 9 while reading noise 21\..*out of memory"):
        list(loader.epoch(0))
    assert time.monotonic() - began < 5


def test_a_worker_killed_from_outside_is_noticed_while_another_is_waited_for(monkeypatch):
    loader = Loader(Noise(at=4, happens="hangs"), VARIED, 4, workers=2)
    batches = loader.epoch(0)
    next(batches)
    crew = batches.gi_frame.f_locals["workers"]
    time.sleep(0.3)
    os.kill(crew.processes[0].pid, signal.SIGKILL)
    began = time.monotonic()
    with pytest.raises(DataError, match="killed by signal 9"):
        list(batches)
    assert time.monotonic() - began < 5


def test_a_worker_that_hangs_is_a_sentence(monkeypatch):
    monkeypatch.setattr(workers, "STUCK", 0.5)
    with pytest.raises(DataError, match="hangs at noise 6"):
        list(Loader(Noise(at=6, happens="hangs"), VARIED, 4, workers=2).epoch(0))


def test_shared_memory_that_is_full_is_a_sentence(monkeypatch):
    def full(tensor):
        raise RuntimeError("No space left on device")

    monkeypatch.setattr(torch.Tensor, "share_memory_", full)
    with pytest.raises(DataError, match="no room for a batch of 0 MB"):
        list(Loader(Noise(), VARIED, 4, workers=1).epoch(0))


def test_a_mistake_of_ours_keeps_its_traceback():
    with pytest.raises(RuntimeError, match="a mistake of ours"):
        list(Loader(Noise(at=6, happens="bug"), VARIED, 4, workers=1).epoch(0))


def alive(pid):
    """Whether a process runs; one that only waits to be collected does not."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_an_epoch_that_is_left_early_leaves_no_process():
    loader = Loader(Noise(), VARIED, 2, workers=2)
    batches = loader.epoch(0)
    next(batches)
    pids = [process.pid for process in batches.gi_frame.f_locals["workers"].processes]
    assert all(map(alive, pids))
    batches.close()
    assert not any(map(alive, pids))
    assert len(list(loader.epoch(0))) == 19


def test_processes_stay_between_epochs_and_go_with_the_loader():
    loader = Loader(Noise(), VARIED, 4, workers=2)
    list(loader.epoch(0))
    pids = [process.pid for process in loader.idle.processes]
    list(loader.epoch(1))
    assert [process.pid for process in loader.idle.processes] == pids
    del loader
    assert not any(map(alive, pids))


PROGRAM = """
import multiprocessing, time
from vitrail.data.loader import Loader
from vitrail.data.open import open_dataset
from vitrail.data.transforms import eval_transform
from vitrail.preprocessing import Preprocessing

preprocessing = Preprocessing(size=(16, 16), resize=16)
batches = Loader(open_dataset("scenes:400,size=16x16", "train"), eval_transform(preprocessing), 4, workers=2).epoch(0)
next(batches)
print(*[process.pid for process in multiprocessing.active_children()], flush=True)
for batch in batches:
    time.sleep(0.05)
"""


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="looks for processes in /proc")
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_program_that_is_stopped_leaves_no_process(sent):
    command, pipe = [sys.executable, "-c", PROGRAM], subprocess.PIPE
    program = subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, start_new_session=True)
    pids = [int(word) for word in program.stdout.readline().split()]
    assert len(pids) == 2, program.stderr.read()
    assert all(map(alive, pids))
    os.killpg(program.pid, sent)
    program.communicate(timeout=20)
    deadline = time.monotonic() + workers.ORPHANED + 5
    while any(map(alive, pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(alive, pids))


def test_a_program_that_has_ended_leaves_nothing_in_the_folder_of_temporary_files(tmp_path):
    told = {**os.environ, "TMPDIR": str(tmp_path)}
    subprocess.run([sys.executable, "-c", PROGRAM.replace("400", "40")], env=told, check=True, capture_output=True)
    assert not list(tmp_path.glob("pymp-*"))
