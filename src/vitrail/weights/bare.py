"""Files of tensors alone, of which a person says what they are."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from vitrail.errors import CheckpointError, ConfigError, unknown
from vitrail.weights.card import Card
from vitrail.weights.configs import checked, disagreements, merged
from vitrail.weights.files import read_tensors, unprefixed
from vitrail.weights.formats import Family, Format, Loaded, assumed, shapes_of, tell, translate, values_of, variant_name
from vitrail.weights.keymap import pattern
from vitrail.weights.names import no_model


def own_names_lost(family: Family, names: Iterable[str]) -> list[str]:
    """The names that are none of ours in this family, as far as other libraries have something like them."""
    ours = {name for format in family.formats for rule in format.keymap.rules for name in rule.ours}
    return [name for name in names if not any(pattern(one).fullmatch(name) for one in ours)]


def guess_format(families: Iterable[Family], names: Iterable[str], library: str | None) -> tuple[Family, Format] | None:
    """Whose names a file probably has: the format that knows most of them, if it knows at least half."""
    names = list(names)[:500]
    families = list(families)
    lost = [
        (len(format.keymap.unclaimed(names)), family, format)
        for family in families
        for format in family.formats
        if library in (None, format.library)
    ]
    if library in (None, "vitrail"):
        lost += [(len(own_names_lost(family, names)), family, family.own) for family in families]
    fewest, family, format = min(lost, key=lambda entry: entry[0], default=(len(names) + 1, None, None))
    return (family, format) if fewest <= len(names) / 2 else None


def guess_model(family: Family, told: Mapping[str, Any]) -> str | None:
    """The published size with which the shapes agree best; none where they contradict what must agree."""
    anchors = set(family.untold.values())
    near = [
        name for name, size in family.variants.items() if all(getattr(size, one) == told.get(one) for one in anchors)
    ]

    def agreement(name: str) -> int:
        return sum(getattr(family.variants[name], field) == told.get(field) for field in family.identity)

    return max(near, key=agreement, default=None)


def introduction(path: Path, families: list[Family], foreign: Mapping[str, Tensor], library: str | None) -> str:
    """What a file that nobody introduces looks like, and what to type to say so."""
    guess = guess_format(families, foreign, library)
    if guess is None:
        return f"from_pretrained({path.name!r}, format=..., model=...) says it, or --from LIBRARY --model NAME."
    family, format = guess
    try:
        ours = format.keymap.read(foreign)
        model = guess_model(family, tell(family, ours, values_of(next(iter(family.variants.values()))), str(path)))
    except CheckpointError:
        model = None
    if model is None:
        return (
            f"It looks like {format.library}'s, of no published size; say from_pretrained({path.name!r}, "
            f"format={format.library!r}, model=...), or --from {format.library} --model NAME, with the size it comes "
            "nearest to."
        )
    return (
        f"It looks like {format.library}'s {model}; if so, say from_pretrained({path.name!r}, "
        f"format={format.library!r}, model={model!r}), or --from {format.library} --model {model}."
    )


def identify(
    path: Path, library: str | None, model: str | None, families: list[Family], foreign: Mapping[str, Tensor]
) -> Family:
    """The family of a bare file, from what the person says it is.

    Raises:
        CheckpointError, ConfigError: it is not said, or there is no such thing; says what to type.
    """
    if library is None or model is None:
        what = "what model it is" if library else "who wrote it and what model it is"
        raise CheckpointError(
            f"{path} is a file of tensors and does not say {what}. {introduction(path, families, foreign, library)}"
        )
    sizes = {name: family for family in families for name in family.variants}
    if model not in sizes:
        raise ConfigError(no_model(model, sizes))
    libraries = {one.library for one in (*sizes[model].formats, sizes[model].own)}
    if library not in libraries:
        raise ConfigError(unknown("format", library, libraries))
    return sizes[model]


def check_named(family: Family, model: str, named: Mapping[str, Any], told: Mapping[str, Any], path: Path) -> None:
    """Refuse what the person says where the shapes say otherwise, and a guess where nothing tells.

    Raises:
        CheckpointError: names the field, and what to add.
    """
    for name, value in named.items():
        if isinstance(value, Mapping):
            continue  # of a configuration within this one; what contradicts it does not fit later
        if told.get(name, value) != value and name not in family.flexible:
            raise CheckpointError(f"{name}={value!r} was given, and the shapes in {path} say {name}={told[name]!r}.")
    for name, anchor in family.untold.items():
        published = getattr(family.variants[model], anchor)
        if name not in told and name not in named and told[anchor] != published:
            near = guess_model(family, told)
            hint = f"Is it {near}? Or add {name}=..." if near else f"Add {name}=..."
            raise CheckpointError(
                f"{path} has {anchor}={told[anchor]} and {model} has {published}, so nothing tells {name}. {hint}"
            )


def read_file(
    path: Path, library: str | None, model: str | None, families: Iterable[Family], named: Mapping[str, Any]
) -> Loaded:
    """A file of tensors alone.

    What the shapes tell is taken from them; what they cannot (heads, epsilon) comes from the library, from the
    published size, and from what is named.

    Args:
        path: the file.
        library: whose names it has.
        model: the published size it is, or comes nearest to.
        families: all there are.
        named: fields of the configuration that the person gave.

    Raises:
        CheckpointError: it is not said what the file is, or what is said contradicts its shapes.
    """
    foreign = unprefixed(read_tensors(path))
    family = identify(path, library, model, list(families), foreign)
    published = family.variants[model]
    right = checked(family.config, named, published)
    named = {name: value if isinstance(value, Mapping) else right[name] for name, value in named.items()}
    formats = [one for one in (*family.formats, family.own) if one.library == library]
    format = min(formats, key=lambda one: (*one.keymap.unread(foreign), len(one.misfits(published))))
    tensors, notes = translate(format, foreign, str(path))

    guess = {**values_of(published), **format.defaults, **right}
    told = merged(tell(family, tensors, guess, str(path)), format.infer(shapes_of(foreign)))
    check_named(family, str(model), named, told, path)
    wanted = merged({**format.defaults, **named}, told)
    config = family.change(published, checked(family.config, wanted, published))

    other = [f"{one.path}={one.after!r}" for one in disagreements(published, told)]
    if other:
        notes.append(f"Other than in {model}, the shapes in {path.name} tell: {', '.join(other)}.")
    untold = [name for name in family.assumed if name not in {**format.defaults, **named, **told}]
    if untold:
        values = ", ".join(f"{name}={getattr(published, name)!r}" for name in untold)
        notes.append(f"Nothing in {path.name} tells {values}; so it is in {model}.")
    if format.defaults:
        notes.append(f"As in {library}: {', '.join(f'{name}={value!r}' for name, value in format.defaults.items())}.")
    preprocessing, note = assumed(family, config, format.preprocessing, path.name)
    card = Card(
        **{**family.card(config), "preprocessing": preprocessing}, model=variant_name(family, config), origin=str(path)
    )
    notes.append(note)
    return Loaded(family, config, tensors, card, str(path), tuple(notes))
