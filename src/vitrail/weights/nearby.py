"""What to say of a path that leads nowhere: which runs and folders of weights are near it."""

import difflib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from vitrail.weights import hub
from vitrail.weights.files import READERS
from vitrail.weights.names import no_model

HOME = Path("runs")  # where `vitrail train` puts runs unless told otherwise
DEEPEST = 3  # folders below one of runs that are searched: runs/classify/flowers5 is two
MOST = 10_000  # files and folders that are looked at
NAMED = 6  # runs that are named
MARKS = {"config.json", "recipe.json"}  # either is in every run, and one of them in every folder of weights


def is_place(name: str) -> bool:
    """Whether a name that leads nowhere was meant as a path, and not as a hub id."""
    name = name.replace(os.sep, "/")
    if name.startswith(("/", "./", "../", "~", f"{HOME}/")):
        return True
    return "/" in name and (not hub.is_id(name) or Path(name.split("/")[0]).is_dir())


def runs_below(folder: Path, deepest: int) -> Iterator[str]:
    """Runs and folders of weights in and below a folder, by name; of very large folders not all are found."""
    looked = 0
    for place, folders, files in os.walk(folder):
        looked += len(folders) + len(files)
        if MARKS.intersection(files):
            yield place
            folders.clear()
        if looked > MOST:
            return
        deep = len(Path(place).relative_to(folder).parts)
        folders[:] = sorted(name for name in folders if not name.startswith(".")) if deep < deepest else []


def runs_near(name: str) -> list[str]:
    """Runs near a path that is not there: those it most resembles first, then the others by name."""
    above = next((parent for parent in Path(name).parents if parent.is_dir()), HOME)
    top = HOME if above in (Path(), Path(above.anchor)) else above
    found = [os.path.normpath(place) for place in runs_below(top, DEEPEST if HOME.name in top.parts else 1)]
    like = difflib.get_close_matches(os.path.normpath(name), found, n=len(found) or 1)
    return [*like, *sorted(set(found) - set(like))]


def listed(runs: list[str]) -> str:
    """The first few of them, and how many more there are."""
    more = f" and {len(runs) - NAMED} more" if len(runs) > NAMED else ""
    return ", ".join(runs[:NAMED]) + more


def nothing_at(name: str) -> str:
    """The sentence for a path that leads nowhere."""
    if Path(name).suffix in READERS:
        return f"There is no file {name}."
    runs = runs_near(name)
    there = f". There are: {listed(runs)}." if runs else ", and none near it. `vitrail train` leaves such folders."
    may_be_id = hub.is_id(name) and not name.startswith(f"{HOME}/")
    return f"There is no run in {name}{there}" + (f" For {name} on the hub, type hf-hub:{name}." if may_be_id else "")


def nothing_called(name: str, models: Iterable[str], recipes: Iterable[str] = ()) -> str:
    """The sentence for a word that is no path, and no model either; perhaps it is a recipe."""
    if name in recipes:
        return f"{name} is a recipe, and no model yet: `vitrail train {name} --data PATH` makes a run of it."
    said = no_model(name, [*models, *recipes], "run, folder or model")
    if "Did you mean" in said or "here it is" in said:
        return said
    runs = runs_near(name)
    return f"{said} " + (f"Runs here: {listed(runs)}." if runs else "A run is called by its folder: runs/classify/x.")
