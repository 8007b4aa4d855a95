"""Saving a run so that no moment of dying can harm it.

A checkpoint is a folder that appears all at once. It is written under another name, hashed, pushed to the disk and
renamed; the one before stays until then. What does not match its hash is not believed.
"""

import errno
import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError, safe_open
from torch import Tensor

from vitrail.errors import CheckpointError, TrainingError
from vitrail.weights.files import (
    read_json,
    read_safetensors,
    sha256,
    write_folder,
    write_json,
    write_safetensors,
)

STATE, MANIFEST = "state.safetensors", "manifest.json"
MARGIN = 1 << 20  # bytes beside the tensors: header, manifest, folder
FULL = (errno.ENOSPC, errno.EDQUOT)


class Checkpoint(NamedTuple):
    """A run at one step.

    Attributes:
        step: how many steps had been taken.
        tensors: everything that was learned, by name.
        progress: whatever else the run has to know, as JSON has it.
    """

    step: int
    tensors: dict[str, Tensor]
    progress: dict[str, Any]


def remove_drafts(folder: Path, name: str = "*") -> None:
    """Remove what a process had not finished writing when it died.

    Args:
        folder: where to look.
        name: of what was being written; anything unless given.
    """
    for draft in folder.glob(f".{name}.*.tmp"):
        if draft.is_dir():
            shutil.rmtree(draft, ignore_errors=True)
        else:
            draft.unlink(missing_ok=True)


def prefixed(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors, each under a name that begins so."""
    return {f"{prefix}/{name}": tensor for name, tensor in tensors.items()}


def below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Those tensors whose names begin so, under the rest of their names."""
    return {
        name.removeprefix(f"{prefix}/"): tensor for name, tensor in tensors.items() if name.startswith(f"{prefix}/")
    }


def read_checkpoint(path: Path) -> Checkpoint:
    """One checkpoint.

    Raises:
        CheckpointError: it is not what was written.
    """
    try:
        if sha256(path / STATE) != read_json(path / MANIFEST)[STATE]["sha256"]:
            raise CheckpointError(f"{path / STATE} does not match its SHA-256.")
        with safe_open(path / STATE, framework="pt") as file:
            metadata = file.metadata()
        return Checkpoint(int(metadata["step"]), read_safetensors(path / STATE), json.loads(metadata["progress"]))
    except (CheckpointError, OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise CheckpointError(f"The checkpoint {path} is damaged: {error}") from error


class Checkpoints:
    """The checkpoints of one run.

    Args:
        folder: where they are; made when the first is saved.
        keep: how many of the newest stay.
        say: told when one turns out to be damaged.
    """

    def __init__(self, folder: Path, *, keep: int = 2, say: Callable[[str], None] = print) -> None:
        self.folder, self.keep, self.say = folder, keep, say

    def finished(self) -> list[Path]:
        """Their folders, oldest first."""
        return sorted(self.folder.glob("step-*"))

    def save(self, step: int, tensors: Mapping[str, Tensor], progress: Mapping[str, Any]) -> Path:
        """Write a checkpoint and drop the oldest.

        Raises:
            TrainingError: it cannot be written; those before are intact.
        """

        def write(draft: Path) -> None:
            metadata = {"step": str(step), "progress": json.dumps(progress)}  # under the same hash as the tensors
            write_safetensors(draft / STATE, tensors, metadata)
            write_json(draft / MANIFEST, {STATE: {"sha256": sha256(draft / STATE)}})

        finished = self.folder / f"step-{step:09d}"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self.check_room(sum(tensor.nbytes for tensor in tensors.values()) + MARGIN)
            write_folder(finished, write, last=MANIFEST)
        except (OSError, SafetensorError, CheckpointError) as error:
            raise TrainingError(self.unsaved(error)) from error
        for path in self.finished()[: -self.keep]:
            self.discard(path)
        return finished

    def check_room(self, needed: int) -> None:
        """Notice a full disk before half a file has been written."""
        free = shutil.disk_usage(self.folder).free
        if free < needed:
            raise OSError(errno.ENOSPC, f"{needed / 1e6:,.1f} MB are needed and {free / 1e6:,.1f} MB are free")

    def discard(self, path: Path) -> None:
        """Remove a checkpoint: first its name, so that no half of it is ever taken for a whole."""
        nameless = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        path.rename(nameless)
        shutil.rmtree(nameless, ignore_errors=True)

    def unsaved(self, error: Exception) -> str:
        """Why nothing was saved, and what there still is."""
        full = getattr(error, "errno", None) in FULL or any(os.strerror(number) in str(error) for number in FULL)
        reason = f"the disk is full ({error})" if full else str(error)
        kept = self.finished()
        rest = f"The checkpoint {kept[-1]} is intact" if kept else "There is no earlier checkpoint"
        advice = "Make room" if full else "Put that right"
        return f"The run could not be saved in {self.folder}: {reason}. {rest}. {advice}, then `vitrail resume`."

    def newest(self) -> Checkpoint | None:
        """The last checkpoint that is whole; `None` when none was ever saved.

        Raises:
            CheckpointError: there are some, and every one is damaged.
        """
        found = self.finished()
        for path in reversed(found):
            try:
                return read_checkpoint(path)
            except CheckpointError as error:
                self.say(f"{error} Going back to the one before.")
        if found:
            raise CheckpointError(f"No checkpoint in {self.folder} is whole. Remove that folder to start again.")
        return None
