"""One picture explained by one method: which parts of it an answer rests on, as far as that method can say."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from einops import reduce
from jaxtyping import Float
from torch import Tensor, nn

from vitrail.errors import ExplanationError, unknown
from vitrail.explain.attention import plural
from vitrail.explain.curves import Plot
from vitrail.explain.drawing import Caption, HeatMap, Panel, Question
from vitrail.explain.explanation import Explanation, visible_channels
from vitrail.explain.faithfulness import Say, Trust, trust
from vitrail.explain.figures import lacking
from vitrail.explain.methods import METHODS
from vitrail.geometry.placement import Placement
from vitrail.preprocessing import PicturePreprocessing
from vitrail.samples import Picture


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Evidence(Explanation):
    """A map of what mattered.

    Attributes:
        method: a name out of `METHODS`.
        target: the class in question; none where the method does not depend on one.
        target_name: what it is called.
        map: one number for each patch, or each pixel that the model reads; larger ones mattered more.
        trust: how far it is true of the model, where that was asked.
        pointed: whether it points at objects, in a sentence, where that was asked; empty otherwise.
        mark: what was asked about, to be outlined, where that is a part of the picture.
        cell: rows and columns of the map that are drawn as one, by their sum.
        unit: what has one number in a map that is coarser than pixels.
    """

    method: str
    target: int | None
    target_name: str
    map: Float[Tensor, "rows columns"]
    trust: Trust | None = None
    pointed: str = ""
    mark: Question | None = None
    cell: tuple[int, int] = (1, 1)
    unit: str = "patch"

    @property
    def written(self) -> str:
        """The class as it is written on a drawing: with its number, where the font lacks a letter of its name."""
        return f"class {self.target} ({self.target_name})" if lacking([self.target_name]) else self.target_name

    @property
    def found(self) -> tuple[str, ...]:
        """Sentences about how far it can be trusted; none where nobody asked."""
        trusted = () if self.trust is None else self.trust.sentences(self.target_name)
        return (*trusted, *([self.pointed] if self.pointed else []))

    @property
    def shares(self) -> Float[Tensor, "rows columns"]:
        """The map as shares of one; even where it is empty."""
        total = self.map.sum()
        return self.map / total if total > 0 else torch.full_like(self.map, 1 / self.map.numel())

    @property
    def beyond(self) -> tuple[int, int]:
        """By how many rows and columns the last cells reach beyond the map, at the bottom and at the right."""
        (rows, columns), (down, across) = self.map.shape, self.cell
        return -rows % down, -columns % across

    @property
    def drawn(self) -> Float[Tensor, "fewer_rows fewer_columns"]:
        """The shares of the cells."""
        (below, right), (down, across) = self.beyond, self.cell
        shares = F.pad(self.shares, (0, right, 0, below))
        return reduce(shares, "(rows down) (columns across) -> rows columns", "sum", down=down, across=across)

    @property
    def covered(self) -> Placement:
        """From the pixels of the file to all that the cells cover."""
        (rows, columns), (below, right) = self.placement.size, self.beyond
        return self.placement.then(Placement.crop((rows, columns), 0, 0, (rows + below, columns + right)))

    def panels(self) -> list[Panel]:
        """The picture, and beside it the map."""
        return [Panel(None, self.mark), Panel(HeatMap(self.method, self.drawn), self.mark)]

    def plots(self) -> list[Plot]:
        """Deletion and insertion, beside random orders, where that was asked."""
        return [] if self.trust is None else plots_of(self.trust, self.written)

    @property
    def fineness(self) -> str:
        """What one place of the drawn map is, in a sentence."""
        (rows, columns), (down, across) = self.drawn.shape, self.cell
        if self.cell != (1, 1):
            return (
                f"Drawn as sums over {rows} by {columns} cells of {down} by {across} pixels of the model's input, "
                f"since its strides lay a lattice over single pixels, which are in the .npz."
            )
        down, across = self.placement.size[0] // rows, self.placement.size[1] // columns
        cells = "pixels" if down == across == 1 else f"{plural(self.unit)} of {down} by {across} pixels"
        return f"{rows} by {columns} {cells} of the model's input; nothing is smoothed."

    def caption(self) -> Caption:
        """What is written on the drawing."""
        method = METHODS[self.method]
        return Caption(
            title=method.title.format(self.written),
            question=f"{method.question.format(self.written)}, in {Path(self.picture.name).name}",
            notes=(*method.notes, self.fineness, *self.found),
            scale="share of the whole map",
            answer=self.answer,
        )

    def arrays(self) -> dict[str, np.ndarray]:
        """The map as it was computed, the class (number -1, no name, where there is none), and what trust rests on.

        That are the two curves, those of each random order, and the correlation with each model of shuffled weights.
        """
        arrays = {
            "map": self.map.numpy(),
            "target": np.array(-1 if self.target is None else self.target),
            "target_name": np.array(self.target_name, dtype=str),
            **self.placed,
        }
        return arrays if self.trust is None else arrays | numbers_of(self.trust)


def plots_of(trust: Trust, name: str, hidden: str = "hidden", shown: str = "shown") -> list[Plot]:
    """Deletion and insertion, beside random orders.

    Args:
        trust: in a map.
        name: of the answer, as it is written on a drawing.
        hidden, shown: what was done to the strongest parts first.
    """
    return [
        Plot(f"Deletion: probability of {name}", f"{hidden}, strongest parts first", *trust.deletion),
        Plot(f"Insertion: probability of {name}", f"{shown}, strongest parts first", *trust.insertion),
    ]


def numbers_of(trust: Trust) -> dict[str, np.ndarray]:
    """The curves, those of each random order, and the correlation with each model of shuffled weights."""
    arrays = {"unlearned": np.array(trust.correlations)}
    for name, one in (("deletion", trust.deletion), ("insertion", trust.insertion)):
        arrays |= {name: one.chosen.numpy(), f"{name}_random": one.orders.numpy(), "shares": one.shares.numpy()}
    return arrays


def find_class(wanted: str | int, labels: Sequence[str]) -> int:
    """The number of a class that somebody names: in full, by one of its names, in part if that is clear, or by number.

    Raises:
        ExplanationError: there is none, or several.
    """
    if isinstance(wanted, int):
        if not 0 <= wanted < len(labels):
            raise ExplanationError(f"There is no class {wanted}: this model has 0 to {len(labels) - 1}.")
        return wanted
    if wanted in labels:
        return list(labels).index(wanted)
    small, lowered = wanted.lower(), [label.lower() for label in labels]
    called = [number for number, label in enumerate(lowered) if small in label.split(", ")]  # ImageNet's have several
    having = called or [number for number, label in enumerate(lowered) if small in label]
    if len(having) == 1:
        return having[0]
    if having:
        several = ", ".join(repr(labels[number]) for number in having[:5])
        raise ExplanationError(f"{wanted!r} is in the name of {len(having)} classes ({several} ...). Name one in full.")
    if wanted.isdecimal():
        return find_class(int(wanted), labels)
    raise ExplanationError(unknown("class", wanted, labels))


def evidence(
    model: nn.Module,
    preprocessing: PicturePreprocessing,
    picture: Picture | Tensor,
    *,
    method: str = "relevance",
    target: int | None = None,
    labels: Sequence[str] = (),
    faithful: bool = False,
    say: Say | None = None,
) -> Evidence:
    """Explain one picture.

    Args:
        model: what `create_model` and `from_pretrained` give, in eval mode; `gradient` takes any module that turns
            pictures into logits.
        preprocessing: how the picture becomes what it reads.
        picture: what is shown to it; uint8 pixels (channels, rows, columns) where it has channels that no file has.
        method: a name out of `METHODS`.
        target: the class in question; what the model answers unless given.
        labels: names of the classes.
        faithful: find out how far the map can be trusted (`explain.faithfulness`).
        say: is told how far that is, where it takes long.

    Raises:
        ExplanationError: no such method or class, or one that this model has nothing for.
    """
    if method not in METHODS:
        raise ExplanationError(unknown("method", method, METHODS))
    if target is not None and not METHODS[method].asks:
        asking = ", ".join(name for name, one in METHODS.items() if one.asks)
        raise ExplanationError(f"{method} does not depend on a class: leave out the target, or use one of {asking}.")
    if METHODS[method].asks:
        refuse_no_classes(model)
    prepared = preprocessing(picture)
    images = prepared.pixels[None].to(next(model.parameters()))
    explained = answered(model, images) if target is None and METHODS[method].asks else target
    targets = torch.tensor([explained or 0], device=images.device)
    [found] = METHODS[method].maps(model, images, targets)
    evident = Evidence(
        picture=picture if isinstance(picture, Picture) else visible_channels(picture),
        placement=prepared.placement,
        method=method,
        target=explained,
        target_name="" if explained is None else class_name(explained, labels),
        map=found.detach().cpu().double(),
    )
    return trusted(evident, model, images, labels, say) if faithful else evident


def trusted(
    found: Evidence,
    model: nn.Module,
    images: Float[Tensor, "1 channels height width"],
    labels: Sequence[str] = (),
    say: Say | None = None,
) -> Evidence:
    """The same, with how far it can be trusted; of a map that depends on no class, for what the model answers.

    Args:
        found: by `evidence`.
        model: which was explained.
        images: the picture as it reads it.
        labels: names of the classes.
        say: is told how far it is, where it takes long.
    """
    refuse_no_classes(model)
    target = answered(model, images) if found.target is None else found.target
    several = bool(getattr(getattr(model, "card", None), "multi_label", False))
    how_far = trust(model, images[0], found.method, target, several=several, say=say)
    return replace(found, target=target, target_name=class_name(target, labels), trust=how_far)


def class_name(number: int, labels: Sequence[str]) -> str:
    """What a class is called; its number where it has no name."""
    return labels[number] if number < len(labels) else f"class {number}"


def refuse_no_classes(model: nn.Module) -> None:
    """Refuse to explain the answer of a model that gives features.

    Raises:
        ExplanationError: it does.
    """
    if getattr(getattr(model, "config", None), "classes", None) == 0:
        raise ExplanationError(
            "This model has no classes: it gives features, and no answer of it can be explained. Use --method rollout "
            "or attention, without --faithful."
        )


@torch.inference_mode()
def answered(model: nn.Module, images: Float[Tensor, "1 channels height width"]) -> int:
    """The class that a model gives the highest number.

    Raises:
        ExplanationError: it does not answer with a number for each class.
    """
    outputs = model(images)
    if not isinstance(outputs, Tensor) or outputs.ndim != 2:
        raise ExplanationError("This model does not answer with a number for each class. Use rollout or attention.")
    return int(outputs.argmax())
