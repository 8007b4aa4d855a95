"""One process for each run folder."""

import os
import platform
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO

from vitrail.data.files import hidden
from vitrail.errors import TrainingError
from vitrail.train.checkpoint import remove_drafts
from vitrail.train.recipe import Recipe
from vitrail.train.recipe_text import recipe_from_json, recipe_to_json
from vitrail.weights.files import read_json
from vitrail.writing import write_whole

RECIPE = "recipe.json"

if sys.platform == "win32":
    import msvcrt

    FAR = 2**30  # no byte of the file stands there: those that are locked cannot be read

    def hold(file: IO[str]) -> None:
        """Lock a file for this process, if no other has it."""
        file.seek(FAR)
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def hold(file: IO[str]) -> None:
        """Lock a file for this process, if no other has it."""
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


class Lock:
    """Holds a run folder while a process works in it.

    The lock belongs to the process and not to the file, so it goes when the process dies, however it dies, and the
    file that stays behind locks nobody out. Loader processes do not inherit it.

    Raises:
        TrainingError: another process works there.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / ".lock"

    def __enter__(self) -> "Lock":
        self.file = open(self.path, "a+", encoding="utf-8")
        try:
            hold(self.file)
        except OSError as error:
            self.file.seek(0)
            owner = self.file.read().strip() or "which has not said its name"
            self.file.close()
            raise TrainingError(
                f"Another process ({owner}) is working in {self.path.parent}. Wait for it, stop it, or choose "
                f"another folder with --out."
            ) from error
        self.file.truncate(0)
        self.file.write(f"process {os.getpid()} on {platform.node()}")
        self.file.flush()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.file.close()  # the file stays: removing it could take it from under whoever opens it just now


def recipe_of(folder: Path) -> Recipe:
    """The recipe that a run follows.

    Raises:
        TrainingError: there is no run.
    """
    if not (folder / RECIPE).exists():
        raise TrainingError(f"There is no run in {folder}: it has no {RECIPE}. `vitrail train` begins one.")
    return recipe_from_json(read_json(folder / RECIPE))


def refuse_taken(folder: Path) -> None:
    """Refuse a place for a new run in which there is something already.

    Raises:
        TrainingError: a file, a run, or a folder with anything else in it.
    """
    if folder.exists() and not folder.is_dir():
        raise TrainingError(f"{folder} is a file, and a run needs a folder. Type --out with another name.")
    if (folder / RECIPE).exists():
        raise TrainingError(
            f"{folder} already holds a run. `vitrail resume {shlex.quote(str(folder))}` goes on with it."
        )
    there = sorted(entry.name for entry in folder.iterdir() if not hidden(entry.name)) if folder.exists() else []
    if there:
        raise TrainingError(
            f"{folder} holds something else already ({there[0]}), and a run needs a folder of its own. Type --out with "
            f"another name, or leave it out."
        )


@contextmanager
def claimed(folder: Path, recipe: Recipe, *, resume: bool) -> Iterator[None]:
    """Hold a run folder, with its recipe in it and nothing half written.

    A run that ends in an error before it has written anything of its own leaves no folder.

    Raises:
        TrainingError: another process works there, or there is a run where one should begin.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with Lock(folder):
        if not resume:
            refuse_taken(folder)
        remove_drafts(folder)
        remove_drafts(folder / "checkpoints")
        remove_drafts(folder.parent, folder.name)
        if not (folder / RECIPE).exists():
            write_whole(folder / RECIPE, recipe_to_json(recipe), durable=True)
        try:
            yield
        except BaseException:
            if not resume:
                remove_unless_begun(folder)
            raise


def remove_unless_begun(folder: Path) -> None:
    """Remove the folder of a run that has nothing in it but what `claimed` has written."""
    written = {".lock", RECIPE}
    if {file.name for file in folder.iterdir()} <= written:
        for name in written:
            (folder / name).unlink(missing_ok=True)
        folder.rmdir()
