"""A process that trains, to be killed by tests: `python trainee.py` reads orders from its standard input.

Each order is a line of JSON: `{"recipe": path, "out": folder, "resume": bool, "workers": n, "every": seconds}`. For
each, a child is forked from this process, in which torch is already loaded, and its number is printed; when it has
ended, its exit status is.
"""

import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import torch

from vitrail.errors import VitrailError
from vitrail.train import observers
from vitrail.train.fit import fit
from vitrail.train.recipe_text import recipe_from_json


def obey(order: dict) -> int:
    """What the child does; gives its exit status."""
    torch.set_num_threads(1)
    observers.Saving.SHARE = 0  # save as often as asked, however long it takes
    recipe = recipe_from_json(json.loads(Path(order["recipe"]).read_text()))
    data = replace(recipe.data, workers=order["workers"])
    recipe = replace(recipe, data=data, save_every=order["every"])
    out = Path(order["out"])
    try:
        fit(recipe, out, resume=True, say=lambda sentence: print(sentence, file=sys.stderr))
    except VitrailError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


def main() -> None:
    print("ready", flush=True)
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            status = 3
            try:
                status = obey(json.loads(line))
            finally:
                sys.stderr.flush()
                os._exit(status)
        print(child, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    main()
