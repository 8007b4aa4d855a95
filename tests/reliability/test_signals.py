"""A run that is asked to stop saves itself and says so; one folder holds one run at a time."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from reliability.tiny import everything_random, sha256, tiny_recipe, write_recipe
from vitrail.data.dataset import Subset
from vitrail.data.open import open_splits
from vitrail.errors import TrainingError
from vitrail.samples import Sample
from vitrail.train.checkpoint import Checkpoints
from vitrail.train.fit import fit
from vitrail.train.lock import Lock, recipe_of
from vitrail.train.observers import Observer, Taken
from vitrail.train.recipe import Recipe
from vitrail.train.signals import Interrupted, Stopping, leaving_with


class At(Observer):
    """Does something after a step."""

    def __init__(self, step: int, act: Callable[[], None]) -> None:
        self.step, self.act = step, act

    def stepped(self, run, taken: Taken) -> None:
        if run.step == self.step:
            self.act()


def quiet_fit(recipe: Recipe, out: Path, **more):
    return fit(recipe, out, say=lambda sentence: None, **more)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_the_step_saves_and_gives_its_exit_code(number, code, trainee, pictures, tmp_path):
    recipe = write_recipe(tiny_recipe(pictures, epochs=1000), tmp_path)
    process = trainee.begin(recipe, tmp_path / "run", workers=1)
    wait_for(tmp_path / "run" / "checkpoints" / "step-000000000")
    time.sleep(0.3)
    asked = time.monotonic()
    os.kill(process, number)
    assert trainee.status() == code
    assert time.monotonic() - asked < 10  # the step takes milliseconds, and the machine is shared
    saved = Checkpoints(tmp_path / "run" / "checkpoints").newest()
    assert saved.step > 0
    assert (tmp_path / "run" / "model.safetensors").exists()


def test_a_second_ctrl_c_leaves_at_once_and_leaves_no_process_behind(tmp_path):
    script = tmp_path / "stubborn.py"
    script.write_text(
        "import multiprocessing, time\n"
        "from vitrail.train.signals import Stopping\n"
        "with Stopping():\n"
        "    worker = multiprocessing.get_context('fork').Process(target=time.sleep, args=(60,), daemon=True)\n"
        "    worker.start()\n"
        "    print(worker.pid, flush=True)\n"
        "    while True: time.sleep(0.05)\n"  # a signal may go to a thread of torch's, and wakes no sleeper then
    )
    process = subprocess.Popen(
        [sys.executable, script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    worker = int(process.stdout.readline())
    process.send_signal(signal.SIGINT)
    assert (process.stderr.readline(), process.stderr.readline()[:8]) == ("\n", "Stopping")  # two at once would be one
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=30) == 130
    assert not Path(f"/proc/{worker}/cmdline").exists() or not Path(f"/proc/{worker}/cmdline").read_text()


class Ends(Observer):
    """Does something when the last step is done."""

    def __init__(self, act: Callable[[], None]) -> None:
        self.act = act

    def end(self, run) -> None:
        self.act()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_after_the_last_step_says_that_only_the_report_is_missing(number, code, pictures, tmp_path):
    recipe = tiny_recipe(pictures, epochs=1)
    with pytest.raises(Interrupted, match=r"Training is done .*`vitrail resume .*run` writes it") as raised:
        quiet_fit(recipe, tmp_path / "run", observers=[Ends(lambda: signal.raise_signal(number))])
    assert raised.value.exit_code == code
    assert (tmp_path / "run" / "model.safetensors").exists()
    assert quiet_fit(recipe, tmp_path / "run", resume=True).steps > 0


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_while_a_report_is_written_leaves_with_a_sentence(number, code):
    before = [signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGINT)]
    with (
        pytest.raises(Interrupted, match="only the page is missing") as raised,
        leaving_with("only the page is missing"),
    ):
        signal.raise_signal(number)
    assert raised.value.exit_code == code
    assert [signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGINT)] == before


class Tripwire(Subset):
    """A data set that asks the process to stop when one of its samples is read."""

    def __getitem__(self, index: int) -> Sample:
        if index == 5:
            os.kill(os.getpid(), signal.SIGTERM)
        return super().__getitem__(index)


def test_a_stopped_run_goes_on_to_the_same_bytes_also_when_stopped_around_its_judging(pictures, tmp_path):
    recipe = replace(everything_random(pictures), epochs=4)
    splits = open_splits(pictures)
    wired = splits._replace(val=Tripwire(splits.val, range(len(splits.val))))
    whole = quiet_fit(recipe, tmp_path / "whole")
    epoch = whole.steps // recipe.epochs
    moments = {
        "in an epoch": (2, splits),
        "after an epoch, before judging": (2 * epoch, splits),
        "while judging": (epoch, wired),
    }
    for number, (place, data) in enumerate(moments.values()):
        stop = [] if data is wired else [At(place, lambda: os.kill(os.getpid(), signal.SIGTERM))]
        out = tmp_path / str(number)
        with pytest.raises(Interrupted, match=f"Stopped after step {place} of {whole.steps}") as stopped:
            quiet_fit(recipe, out, observers=stop, splits=data)
        assert stopped.value.exit_code == 143
        assert quiet_fit(recipe, out, resume=True).scores == whole.scores
        assert sha256(out / "model.safetensors") == sha256(tmp_path / "whole" / "model.safetensors")


def test_handlers_are_put_back():
    before = signal.getsignal(signal.SIGINT)
    with Stopping():
        assert signal.getsignal(signal.SIGINT) != before
    assert signal.getsignal(signal.SIGINT) == before


def test_training_works_in_another_thread_where_signals_cannot_be_watched():
    failures = []

    def enter() -> None:
        try:
            with Stopping() as stopping:
                assert stopping.asked is None
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert not failures


# one process for each folder


def test_a_second_process_is_refused_by_name(trainee, pictures, tmp_path):
    recipe = tiny_recipe(pictures, epochs=1000)
    process = trainee.begin(write_recipe(recipe, tmp_path), tmp_path / "run")
    wait_for(tmp_path / "run" / "recipe.json")
    with pytest.raises(TrainingError, match=rf"Another process \(process {process} on .*\) is working in"):
        quiet_fit(recipe, tmp_path / "run", resume=True)
    os.kill(process, signal.SIGKILL)
    assert trainee.status() == -signal.SIGKILL


def test_the_lock_of_a_dead_process_is_taken_over(trainee, pictures, tmp_path):
    recipe = tiny_recipe(pictures, epochs=1000)
    process = trainee.begin(write_recipe(recipe, tmp_path), tmp_path / "run", workers=2)
    wait_for(tmp_path / "run" / "checkpoints" / "step-000000000")
    os.kill(process, signal.SIGKILL)
    trainee.status()
    assert str(process) in (tmp_path / "run" / ".lock").read_text()
    with Lock(tmp_path / "run"):  # although its loader processes may still be there
        assert str(os.getpid()) in (tmp_path / "run" / ".lock").read_text()


def test_a_folder_with_a_run_is_not_begun_again_and_one_without_has_no_recipe(pictures, tmp_path):
    recipe = tiny_recipe(pictures, epochs=1)
    with pytest.raises(TrainingError, match=r"There is no run in .*`vitrail train` begins one"):
        recipe_of(tmp_path / "run")
    quiet_fit(recipe, tmp_path / "run")
    with pytest.raises(TrainingError, match=r"already holds a run. `vitrail resume"):
        quiet_fit(recipe, tmp_path / "run")
    assert recipe_of(tmp_path / "run") == recipe


def test_resuming_a_finished_run_changes_nothing(pictures, tmp_path):
    recipe = tiny_recipe(pictures, epochs=1)
    quiet_fit(recipe, tmp_path / "run")
    before = sha256(tmp_path / "run" / "model.safetensors")
    assert quiet_fit(recipe, tmp_path / "run", resume=True).steps == 5
    assert sha256(tmp_path / "run" / "model.safetensors") == before


def test_drafts_of_a_dead_process_are_removed(pictures, tmp_path):
    recipe = tiny_recipe(pictures, epochs=1)
    quiet_fit(recipe, tmp_path / "run")
    strays = [
        tmp_path / ".run.abc.tmp",
        tmp_path / "run" / "checkpoints" / ".step-000000007.xyz.tmp",
        tmp_path / "run" / ".recipe.json.1.tmp",
    ]
    for stray in strays[:2]:
        stray.mkdir()
        (stray / "state.safetensors").write_bytes(b"half")
    strays[2].write_text("half")
    quiet_fit(recipe, tmp_path / "run", resume=True)
    assert not any(stray.exists() for stray in strays)


def test_another_number_of_threads_on_resume_is_said(pictures, tmp_path):
    recipe, said = tiny_recipe(pictures, epochs=2), []
    with pytest.raises(Interrupted):
        quiet_fit(recipe, tmp_path / "run", observers=[At(9, lambda: os.kill(os.getpid(), signal.SIGTERM))])
    fit(replace(recipe, threads=2), tmp_path / "run", resume=True, say=said.append)
    assert "threads was 1 and is 2" in said[0]


def wait_for(path: Path) -> None:
    """Until it exists."""
    until = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < until, f"{path} did not appear"
        time.sleep(0.01)
