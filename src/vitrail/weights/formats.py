"""What every source of weights is read through: names translated, shapes compared with what is said of them.

A family says how its names and configurations are translated (`models.family.Format`); here it is only handed over.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from torch import Tensor

from vitrail.errors import CheckpointError
from vitrail.preprocessing import Fitted, PicturePreprocessing, Preprocessing
from vitrail.tokenizing import TextPreprocessing
from vitrail.weights.card import Card
from vitrail.weights.configs import disagreements
from vitrail.weights.keymap import some

Family = Any  # a models.family.Family, and
Format = Any  # a models.family.Format: this part is handed them and imports no model


@dataclass(frozen=True)
class Loaded:
    """What a source holds, under our names, and not yet a model.

    Attributes:
        family: whose weights they are.
        config: what model they fit.
        tensors: all of them.
        card: what else is known.
        source: the file they were read from.
        notes: what a person should hear about how it was read.
    """

    family: Family
    config: Any
    tensors: dict[str, Tensor]
    card: Card
    source: str
    notes: tuple[str, ...] = ()


def shapes_of(tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """The shape of each tensor."""
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def variant_name(family: Family, config: Any) -> str:
    """The published size that a configuration is, or comes nearest to; its family where it is none."""

    def likeness(name: str) -> int:
        return sum(
            getattr(family.variants[name], field.name) == getattr(config, field.name) for field in fields(config)
        )

    same = [
        name
        for name, variant in family.variants.items()
        if all(getattr(variant, field) == getattr(config, field) for field in family.identity)
    ]
    return max(same, key=likeness, default=family.name)


def libraries_for(family: Family, config: Any) -> list[str]:
    """The libraries that a model with this configuration can be written for."""
    fitting = [one.library for one in family.formats if one.write_config is not None and not one.misfits(config)]
    return [*dict.fromkeys(fitting)]


def values_of(config: Any) -> dict[str, Any]:
    """The fields of a configuration and their values."""
    return {field.name: getattr(config, field.name) for field in fields(config)}


def tell(family: Family, tensors: Mapping[str, Tensor], guess: Mapping[str, Any], where: str) -> dict[str, Any]:
    """What the shapes of our tensors tell about a configuration.

    Raises:
        CheckpointError: they are not shapes that any model of the family has, or one is not there.
    """
    try:
        return family.infer(shapes_of(tensors), guess)
    except KeyError as error:
        raise CheckpointError(
            f"{where}: the weights have no {error.args[0]}, as a {family.name} has. They are cut short, or not of the "
            f"model that they are said to be of."
        ) from error
    except (IndexError, TypeError, ValueError, ArithmeticError) as error:
        raise CheckpointError(f"{where}: a tensor has shapes that no {family.name} has ({error}).") from error
    except CheckpointError as error:
        raise CheckpointError(f"{where}: {error}") from error


def check_told(family: Family, config: Any, tensors: Mapping[str, Tensor], where: str) -> None:
    """Refuse weights whose shapes contradict the configuration beside them, before a model is made of it.

    Raises:
        CheckpointError: names the fields, and both values.
    """
    told = tell(family, tensors, values_of(config), where)
    wrong = [f"{one.path}={one.before!r}, and the weights have {one.after!r}" for one in disagreements(config, told)]
    if wrong:
        raise CheckpointError(f"{where} is not the model that config.json describes: it says {'; '.join(wrong)}.")


def translate(format: Format, tensors: Mapping[str, Tensor], where: str) -> tuple[dict[str, Tensor], list[str]]:
    """Our tensors from foreign ones, and what was left out of them."""
    try:
        ours = format.keymap.read(tensors)
    except CheckpointError as error:
        raise CheckpointError(f"{where}: {error}") from error
    ignored = format.keymap.ignored(tensors)
    alike = {reason: [name for name in ignored if ignored[name] == reason] for reason in ignored.values()}
    return ours, [f"Left out {some(names, 3)}: {reason}." for reason, names in alike.items()]


def assumed_for_pictures(config: Any, known: Mapping[str, Any], where: str) -> tuple[Preprocessing, str]:
    """ImageNet's preprocessing at the size of the model."""
    prepared = Preprocessing.imagenet(getattr(config, "image", 224), **known)
    return prepared, said_nothing(prepared, where)


def assumed_for_detection(config: Any, known: Mapping[str, Any], where: str) -> tuple[Fitted, str]:
    """What every published detector was trained with."""
    prepared = Fitted(**known)
    return prepared, said_nothing(prepared, where)


def said_nothing(prepared: PicturePreprocessing, where: str) -> str:
    """That a preparation of pictures is assumed, and how to say that it is otherwise."""
    return (
        f"{where} does not say how pictures are prepared for it; assumed: {prepared}. If it is otherwise: "
        f"preprocessing={{'mean': (0.5, 0.5, 0.5)}}, or --set preprocessing.mean=0.5,0.5,0.5 (any of these fields)."
    )


def assumed_for_text(config: Any, known: Mapping[str, Any], where: str) -> tuple[TextPreprocessing, str]:
    """No tokenizer."""
    prepared = TextPreprocessing(**{"max_tokens": getattr(config, "max_tokens", None) or 512, **known})
    return prepared, (
        f"{where} has no tokenizer: the model reads ids, and no text. Put tokenizer.json (or vocab.txt, or vocab.json "
        f"and merges.txt) beside config.json, or say preprocessing=find_tokenizer(FOLDER), of vitrail.tokenizing."
    )


ASSUMED: dict[type, Callable[[Any, Mapping[str, Any], str], tuple[Any, str]]] = {
    Preprocessing: assumed_for_pictures,
    Fitted: assumed_for_detection,
    TextPreprocessing: assumed_for_text,
}


def assumed(family: Family, config: Any, known: Mapping[str, Any], where: str) -> tuple[Any, str]:
    """The preprocessing of a source that says nothing about it, and a sentence that says so.

    Args:
        family: whose model it is.
        config: of the model.
        known: what the library does where nothing is said.
        where: how to call the source.
    """
    return ASSUMED[family.reads](config, known, where)
