"""How models are called elsewhere: in timm, in torchvision, on the hub."""

import re
from collections.abc import Iterable

from vitrail.errors import unknown

LETTERS = {"t": "tiny", "s": "small", "b": "base", "l": "large", "h": "huge", "g": "giant"}
UNSAID = re.compile(r"(-224)?(-in2[12]k|-in1k|-(un)?cased)?$")  # what names elsewhere say, and names here leave out


def spelled_here(name: str) -> str:
    """A name as timm, torchvision or the hub spell it, in the manner of names here.

    `vit_base_patch16_224`, `google/vit-base-patch16-224-in21k` and `vit_b_16` are `vit-base-16`, `dinov2_vits14` is
    `dinov2-small-14`.
    """
    name = name.lower().rpartition("/")[2].partition(".")[0].replace("_", "-")
    name = UNSAID.sub("", name.replace("patch", ""))
    name = re.sub(r"^(vit|deit)-([tsblhg])-(?=\d)", lambda found: f"{found[1]}-{LETTERS[found[2]]}-", name)
    name = re.sub(r"^dinov2-vit([sblg])(?=\d)", lambda found: f"dinov2-{LETTERS[found[1]]}-", name)
    name = re.sub(r"-(\d+)-reg4?\b", r"-registers-\1", name)
    return re.sub(r"^vit-(.+)-dinov2$", r"dinov2-\1", name)


def no_family(name: str, known: Iterable[str]) -> str:
    """The sentence for a family that nobody has registered, which a folder or a checkpoint names."""
    own = "One of your own is known once `vitrail.register_family` was called: run the file that calls it."
    return f"{unknown('family', name, known)} {own}"


def no_model(name: str, known: Iterable[str], kind: str = "model") -> str:
    """The sentence for a name that leads to no model, with what was probably meant.

    Args:
        name: what was typed.
        known: what there is.
        kind: what it could have been.
    """
    known, here = list(known), spelled_here(name)
    if here in known:
        return f"There is no {kind} called {name!r}: here it is {here}. `vitrail models` lists all models."
    return unknown(kind, name, known)
