"""Published checkpoints by our names: where they are, under which licence, and what they score."""

import tomllib
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.resources import files

from vitrail.preprocessing import PicturePreprocessing
from vitrail.weights.card import kind_of_preprocessing
from vitrail.weights.configs import build


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """Where the weights of a published size are, and what is known about them.

    Attributes:
        source: hub id.
        licence: of the weights.
        origin: the paper's or the library's own page for them.
        scores: published numbers by name.
        scores_from: who published them.
        notes: whatever else is worth a sentence.
        preprocessing: how pictures are prepared for them, as published with them; `None` for those that read text,
            whose folders have a tokenizer.
    """

    source: str
    licence: str
    origin: str = ""
    scores: dict[str, float] = field(default_factory=dict)
    scores_from: str = ""
    notes: str = ""
    preprocessing: PicturePreprocessing | None = None


@lru_cache(maxsize=1)
def checkpoints() -> dict[str, Checkpoint]:
    """All published checkpoints, by the name of the model they belong to."""
    found = {}
    for page in sorted(files(__name__).iterdir(), key=lambda page: page.name):
        if page.name.endswith(".toml"):
            entries = tomllib.loads(page.read_text(encoding="utf-8"))
            for name, values in entries.items():
                if "preprocessing" in values:
                    told = values["preprocessing"]
                    prepared = build(kind_of_preprocessing(told), told, f"{name} in {page.name}")
                    values = values | {"preprocessing": prepared}
                found[name] = build(Checkpoint, values, f"{name} in {page.name}")
    return found


def default_checkpoint(name: str) -> Checkpoint | None:
    """The checkpoint that `init="default"` takes for a model, if one is published."""
    return checkpoints().get(name)
