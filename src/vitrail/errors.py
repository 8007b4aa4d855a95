"""Everything a person can get wrong, each as one sentence.

An error says what was given, what was expected and what to do next. The command line
prints a `VitrailError` without a traceback; our own mistakes stay asserts.
"""

import difflib
from collections.abc import Iterable
from pathlib import Path


class VitrailError(Exception):
    """A mistake that the person at the keyboard can put right."""

    exit_code = 1


class UsageError(VitrailError):
    """The command line was typed in a way that means nothing."""

    exit_code = 2


class ConfigError(VitrailError):
    """A configuration, or an input, that makes no sense for this model."""


class CheckpointError(VitrailError):
    """Weights that are damaged, incomplete, unsafe or of another model."""


class DataError(VitrailError):
    """A data set that cannot be read as it stands."""


class TrainingError(VitrailError):
    """A run that cannot go on: a loss that is not a number, no memory, a run folder in use."""


class ExplanationError(VitrailError):
    """A question about a model that it has nothing to answer with."""


class ImageError(VitrailError):
    """A file that is not a picture we read.

    Args:
        code: a short, stable word for the kind of fault, such as `truncated` or `too-large`.
        path: the file, or a name for the bytes it came in.
        hint: what is wrong and what to do about it, in words.
    """

    def __init__(self, code: str, path: Path | str, hint: str) -> None:
        super().__init__(f"{path}: {hint}")
        self.code, self.path, self.hint = code, str(path), hint

    def __reduce__(self) -> tuple:
        return type(self), (self.code, self.path, self.hint)  # loader workers send errors across processes


def many(count: int, thing: str) -> str:
    """So many things, in words."""
    if count == 1:
        return f"{count} {thing}"
    return f"{count:,} {thing}es" if thing.endswith(("s", "x")) else f"{count:,} {thing}s"


def percent(share: float) -> str:
    """A share in percent, as precisely as it is said: `70%`, `99.9%`."""
    return f"{100 * share:g}%"


def span(seconds: float) -> str:
    """A length of time as one would say it: `40 s`, `12 min`, `3 h 05 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


MOST_LISTED = 40  # names in a sentence


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """The sentence for a name that leads nowhere, with what was probably meant."""
    known = list(known)
    longer = sorted((one for one in known if name and one.startswith(name)), key=len)
    parts = set(name.split("-"))
    fuller = sorted((one for one in known if parts < set(one.split("-"))), key=len)
    spelled = {one.lower(): one for one in reversed(known)}
    close = [spelled[one] for one in difflib.get_close_matches(name.lower(), spelled, n=2)]
    near = list(dict.fromkeys([*longer, *fuller]))[:4] or close
    hint = f" Did you mean {' or '.join(filter(None, (', '.join(near[:-1]), near[-1])))}?" if near else ""
    more = f" and {len(known) - MOST_LISTED:,} more" if len(known) > MOST_LISTED else ""
    in_order = sorted(known, key=lambda one: (int(one) if one.isdecimal() else -1, one))
    there = f" There are: {', '.join(in_order[:MOST_LISTED])}{more}."
    listing = " `vitrail models` lists all models." if kind.endswith("model") else there
    return f"There is no {kind} called {name!r}.{hint}{listing}"
