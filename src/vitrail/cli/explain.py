"""`vitrail explain`: what a model looked at, and what its answer rests on."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import UseAppendAction

from vitrail.cli.flags import Source, Switch, Word, read_by, shown
from vitrail.errors import UsageError

if TYPE_CHECKING:
    from torch import nn


def point(x: str, y: str) -> tuple[float, float]:
    """A place in a picture."""
    return float(x), float(y)


def head_of(text: str) -> int | str:
    """Which head is meant: from 1 as people count, or from the end."""
    return text if text in ("mean", "all") else from_zero(text)


def layer_of(text: str) -> int | str:
    """Which layer is meant: from 1 as people count, from the end, or by its name."""
    return from_zero(text) if text.removeprefix("-").isdecimal() else text


def from_zero(text: str) -> int:
    """A place counted from 1, or from the end, as Python counts it.

    Raises:
        ValueError: it is no whole number, or 0.
    """
    if (place := int(text)) == 0:
        raise ValueError(text)
    return place - 1 if place > 0 else place


Point = Annotated[tuple[float, float], read_by(point, "--at", "two numbers, x then y, such as 410 37", counts=(1, 2))]
At = Annotated[tuple[Point, ...], UseAppendAction, shown("X Y")]
Layer = Annotated[int | str, read_by(layer_of, "--layers", "numbers counted from 1, such as 3 6 9 12, or names")]
Layers = Annotated[tuple[Layer, ...], shown("N", aliases=("--layer",))]
Heads = Annotated[
    int | Literal["mean", "all"],
    shown("N|mean|all", aliases=("--head",)),
    read_by(head_of, "--heads", "a number counted from 1, mean or all"),
]
Method = Annotated[Literal["attention", "rollout", "relevance", "gradient"], shown()]


def refuse_beyond(model: "nn.Module", layers: tuple[int | str, ...], heads: int | str) -> None:
    """Refuse the number of a layer or head that a model does not have, counted as people count.

    Raises:
        UsageError: says which there are.
    """
    from vitrail.explain.recording import attentions

    found = list(attentions(model).values())
    for layer in layers:
        if isinstance(layer, int) and not -len(found) <= layer < len(found):
            raise UsageError(f"--layers {layer + (layer >= 0)}: this model has layers 1 to {len(found)}.")
    most = min(attention.heads for attention in found)
    if isinstance(heads, int) and not 0 <= heads < most:
        raise UsageError(f"--heads {heads + (heads >= 0)}: this model has heads 1 to {most}.")


def scenes_of(run: str) -> str | None:
    """The generated scenes that a run has learned from, if it has."""
    import json

    recipe = Path(run) / "recipe.json"
    data = json.loads(recipe.read_text(encoding="utf-8"))["data"]["path"] if recipe.is_file() else ""
    return data if data.startswith("scenes:") else None


def explain(
    run: Source,
    image: Source,
    *,
    method: Method = "attention",
    at: At = (),
    layers: Layers = (),
    heads: Heads = "mean",
    target: Word = None,
    faithful: Switch = False,
    out: Annotated[Path, shown("PATH")] = Path("attention.png"),
    device: Word = None,
) -> None:
    """Draw what a model looked at, or what its answer rests on, over the picture. Its numbers go beside, as .npz.

    Args:
        run: a run, a folder, a name from `vitrail models` or a hub id.
        image: the picture.
        method: attention (without it) for single tokens and layers; rollout follows attention through all layers;
            relevance weighs it by what it did for the answer; gradient goes by pixel and needs no attention.
        at: the pixel to ask about, x then y, in the picture as displayed; may be repeated. Without it the class token
            is asked. A pixel that the model does not see is replaced by the nearest that it does, and that is said.
        layers: which, counted from 1; the last without it.
        heads: which, counted from 1; the mean of all without it, or all to see each.
        target: the class that relevance and gradient explain; the model's answer without it.
        faithful: say on the drawing how far it can be trusted: what hiding and showing its strongest parts does to the
            answer, whether it depends on what the model has learned, and, for generated scenes, whether it points at
            the object.
        out: where the drawing goes: a name that ends with .png, .jpg, .webp, .pdf or .svg.
        device: cpu, cuda, cuda:1 or mps; the fastest there is without it.
    """
    from dataclasses import replace

    from vitrail.explain.attention import cost, sheet
    from vitrail.explain.drawing import check_place
    from vitrail.predict import predictor

    whole = method != "attention" or target is not None or faithful
    if whole and (at or layers or heads != "mean"):
        raise UsageError("--at, --layers and --heads ask single tokens; leave out --method, --target and --faithful.")
    check_place(out)
    ask = predictor(run, device=device)
    if whole:
        found = ask.evidence(image, method, target, faithful=faithful)
        if faithful and (scenes := scenes_of(run)):
            found = replace(found, found=(*found.found, ask.pointing(scenes, method).sentence()))
        print(f"{found.save(out)}: {found.caption().title}.")
        said = found.found
    else:
        refuse_beyond(ask.model, layers, heads)
        looks = ask.look(image, at=at or (None,), layers=layers or (-1,), head=heads)
        found = sheet(looks)
        asked = " and ".join(dict.fromkeys(look.asked.words for look in looks))
        print(f"{found.save(out)}: {found.caption().title}, asked about {asked}.")
        said = (cost(looks),)
    for sentence in (f"{found.answer}." if found.answer else "", *said):
        if sentence:
            print(sentence)
