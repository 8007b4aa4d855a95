"""What a family tells the rest of the house about itself, so that no door needs to know it by name."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from vitrail.preprocessing import Fitted, Preprocessing
from vitrail.tokenizing import TextPreprocessing
from vitrail.weights.keymap import KeyMap, Rename

Shapes = Mapping[str, tuple[int, ...]]
Misfits = Callable[[Any], list[str]]
Tensors = dict[str, Tensor]


def nothing(*_: Any) -> dict[str, Any]:
    """No fields: what a reader says that has nothing to add."""
    return {}


def nothing_wrong(config: Any) -> list[str]:
    """No misfits."""
    return []


@dataclass(frozen=True, kw_only=True)
class Format:
    """How one foreign library writes this family down.

    A library that writes it in several ways (with and without a classifier, norm before or after the pooling) has
    a format for each.

    Attributes:
        library: `transformers`, `timm`, `torchvision`, `google` ...
        keymap: foreign tensor names to ours, both ways.
        architectures: the names by which that library's config calls it; empty where there are only bare files.
        read_config: fields of our config from the foreign one and the shapes of the foreign tensors.
        write_config: the foreign config from ours.
        misfits: the fields of a config of ours that this format cannot write down as they are; none when it fits.
        defaults: fields of ours that this library decides where nothing else does, such as the epsilon of its norms.
        infer: fields of ours that only the foreign shapes tell, such as heads where they are an axis.
        model_type: what that library calls the family, for a config that names no architecture.
        preprocessing: how that library prepares its pictures where nothing says it, as `Preprocessing` has it.
    """

    library: str
    keymap: KeyMap
    architectures: tuple[str, ...] = ()
    read_config: Callable[[Mapping[str, Any], Shapes], dict[str, Any]] | None = None
    write_config: Callable[[Any], dict[str, Any]] | None = None
    misfits: Misfits = nothing_wrong
    defaults: Mapping[str, Any] = field(default_factory=dict)
    infer: Callable[[Shapes], dict[str, Any]] = nothing
    model_type: str = ""
    preprocessing: Mapping[str, Any] = field(default_factory=dict)


OWN = Format(library="vitrail", keymap=KeyMap([Rename("{rest}", "{rest}")]))  # a `state_dict` that somebody saved


def reads_pictures(config: Any) -> dict[str, Any]:
    """The card of a fresh model that reads pictures: ImageNet's preprocessing at its size and channels."""
    preprocessing = Preprocessing.imagenet(getattr(config, "size", 224))
    return {"preprocessing": preprocessing.for_channels(getattr(config, "channels", 3))}


def one_picture(preprocessing: Preprocessing | Fitted) -> tuple[Tensor, ...]:
    """A picture as a model reads it, of shape alone."""
    return (torch.empty(1, preprocessing.channels, *preprocessing.size, device="meta"),)


def one_text(preprocessing: TextPreprocessing) -> tuple[Tensor, ...]:
    """A text as long as a model reads it, of shape alone."""
    return (torch.zeros(1, preprocessing.max_tokens, dtype=torch.int64, device="meta"),)


def changed(config: Any, changes: Mapping[str, Any]) -> Any:
    """The same configuration with other values in some fields."""
    return replace(config, **changes)


def as_they_are(tensors: Tensors, old: Any, new: Any) -> tuple[Tensors, list[str]]:
    """The same tensors, and nothing to say about them."""
    return tensors, []


def resize_channels(tensors: Tensors, name: str, before: int, after: int) -> list[str]:
    """Make a first convolution read another number of channels; gives a sentence if that changes anything.

    One channel gets the sum over all of them, which answers as before to a grey picture. More get the old ones again
    and again, scaled by before / after, so that activations keep their size (as in timm).

    Args:
        tensors: of a model; the weight in it is replaced.
        name: of the weight, `(outputs, channels, rows, columns)`.
        before, after: numbers of channels.
    """
    if before == after:
        return []
    weight = tensors[name]
    if after == 1:
        tensors[name] = weight.sum(dim=1, keepdim=True)
        return [f"{name} now reads 1 channel: the sum over the {before} it had."]
    order = [channel % before for channel in range(after)]
    tensors[name] = weight[:, order] * (before / after)
    scaled = f"repeated and multiplied by {before}/{after}, as timm does"
    return [f"{name} now reads {after} channels: the {before} it had, {scaled}."]


@dataclass(frozen=True, kw_only=True)
class Family:
    """One family of models.

    Attributes:
        name: as the catalog has it.
        config: the type of its configuration.
        build: a model with fresh weights, from a configuration.
        variants: published sizes by name.
        formats: how other libraries write it down.
        own: how its tensors stand in a file alone that holds them as they are.
        reads: the kind of preprocessing that makes its inputs: `Preprocessing` for pictures, `TextPreprocessing`.
        card: what the card of a fresh model of a configuration says, beside its name.
        example: what a model is called with for one answer, of shape alone, given how its inputs are prepared.
        decides: the fields that decide what is answered; when one of them changes, the heads are made anew.
        heads: our tensor names (with `*`) of the heads.
        before_heads: our tensor names that may come and go with the heads.
        training: fields that change how a model learns, or what it keeps for that, and not what it answers.
        infer: fields of a configuration that the shapes of our tensors tell, given a guess at all its fields.
        change: a configuration with some fields changed, and others with them where they must follow.
        identity: fields in which a model agrees with the published size it is called after.
        flexible: fields that a person may change although the weights have them otherwise; `resize` follows.
        untold: fields that no shape tells, each with the one that must be a variant's for the variant to be believed.
        assumed: fields that change answers and that a file of tensors alone takes from the published size it is named.
        learns: the recipe by which it learns what a data set is for, by the name of that; the recipe of that very name
            unless given.
        grows: families whose models can become a part of one of this, each with the name of that part, which is also
            that of its field in the configuration.
        resize: prepares tensors of one configuration for another (positions to a new grid, stem to other
            channels); gives the tensors and a sentence for each change.
    """

    name: str
    config: type
    build: Callable[[Any], nn.Module]
    variants: Mapping[str, Any]
    formats: tuple[Format, ...] = ()
    own: Format = OWN
    reads: type = Preprocessing
    card: Callable[[Any], dict[str, Any]] = reads_pictures
    example: Callable[[Any], tuple[Tensor, ...]] = one_picture
    decides: tuple[str, ...] = ("classes",)
    heads: tuple[str, ...] = ()
    before_heads: tuple[str, ...] = ()
    training: tuple[str, ...] = ()
    infer: Callable[[Shapes, Mapping[str, Any]], dict[str, Any]] = nothing
    change: Callable[[Any, Mapping[str, Any]], Any] = changed
    identity: tuple[str, ...] = ()
    flexible: tuple[str, ...] = ("classes",)
    untold: Mapping[str, str] = field(default_factory=dict)
    assumed: tuple[str, ...] = ()
    learns: Mapping[str, str] | None = None
    grows: Mapping[str, str] = field(default_factory=dict)
    resize: Callable[[Tensors, Any, Any], tuple[Tensors, list[str]]] = as_they_are
