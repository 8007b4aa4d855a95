"""One process of several that `torchrun` starts: `teammate.py RECIPE OUT LOSSES`. The first writes every loss down."""

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

import torch

from vitrail.errors import VitrailError
from vitrail.train.fit import fit
from vitrail.train.observers import Observer, Taken
from vitrail.train.recipe_text import recipe_from_json


class Losses(Observer):
    """Every loss of a run, in a file; and a signal to everybody at the step that the environment names."""

    def __init__(self, path: Path) -> None:
        self.path, self.losses = path, []

    def stepped(self, run, taken: Taken) -> None:
        self.losses.append(taken.loss)
        self.path.write_text(json.dumps(self.losses))
        if run.step == int(os.environ.get("SIGNAL_AT", "-1")):
            os.kill(os.getpid(), signal.SIGTERM)


def die_after_a_step(losses: Path) -> None:
    """End like a process that the system kills, in the middle of training."""
    while not losses.exists():
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGKILL)


def main() -> int:
    torch.set_num_threads(1)
    recipe, out, losses = map(Path, sys.argv[1:])
    if os.environ.get("DIE", "nobody") == os.environ.get("RANK"):
        threading.Thread(target=die_after_a_step, args=(losses,), daemon=True).start()
    try:
        fit(
            recipe_from_json(json.loads(recipe.read_text())),
            out,
            resume=True,
            observers=[Losses(losses)],
        )
    except VitrailError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
