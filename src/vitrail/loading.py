"""Models by name or from weights, and weights back onto disk: where catalog, families and weights meet."""

import contextlib
import fnmatch
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vitrail.catalog import FAMILIES, MODELS, RECIPES, Entry, load
from vitrail.core.init import Undrawn
from vitrail.core.memory import physical_memory
from vitrail.errors import CheckpointError, ConfigError, many
from vitrail.models.family import Family
from vitrail.preprocessing import Fitted, PicturePreprocessing, Preprocessing
from vitrail.tokenizing import TextPreprocessing
from vitrail.weights import folders, formats, hub, nearby
from vitrail.weights.bare import read_file
from vitrail.weights.card import Card
from vitrail.weights.cards import Checkpoint, default_checkpoint
from vitrail.weights.configs import checked, differences
from vitrail.weights.files import check_finite, read_json, write_folder
from vitrail.weights.formats import Loaded, variant_name
from vitrail.weights.keymap import some
from vitrail.weights.names import no_model
from vitrail.weights.published import published_card, with_imagenet_names

Announce = Callable[[str], None]

TABLE_LIMIT = 2**28  # numbers in tables that are computed and not stored; no published model has a hundredth of it


def say(sentence: str) -> None:
    """Tell the person at the terminal, beside whatever is printed as a result."""
    print(sentence, file=sys.stderr)


def all_families() -> list[Family]:
    """Every family there is."""
    return [load(entry) for entry in FAMILIES.values()]


def family_of(model: nn.Module) -> Family:
    """The family a model belongs to, by its configuration.

    Raises:
        ConfigError: it is none of ours.
    """
    config = getattr(model, "config", None)
    for family in all_families():
        if type(config) is family.config:
            return family
    inside = getattr(model, "module", None)  # which DataParallel and DistributedDataParallel wrap
    if isinstance(inside, nn.Module) and config is None:
        raise ConfigError(f"{type(model).__name__} wraps the model that is meant. Give model.module.")
    raise ConfigError(f"{type(model).__name__} was not made by vitrail: no family has its configuration.")


def register_family(family: Family, sentence: str = "A family of one's own.") -> None:
    """Let models of one's own be found by name, wherever those of vitrail are, until Python ends.

    A family that is registered again is replaced, as by a notebook's cell that is run twice.

    Args:
        family: what vitrail needs to know of it; `FAMILY` of `vitrail.models.gpt_formats` is an example.
        sentence: what it is, for `vitrail models`.

    Raises:
        ConfigError: it is called as one of vitrail's own, or one of its sizes is of another configuration.
    """
    before = FAMILIES.get(family.name)
    own = {name for name, entry in MODELS.items() if before is not None and entry.target == family.name}
    taken = sorted(name for name in family.variants if name in MODELS and name not in own)
    if before is not None and isinstance(before.target, str):
        raise ConfigError(f"A family called {family.name!r} is there already. Give yours another name.")
    if taken:
        raise ConfigError(f"A model called {taken[0]!r} is there already. Give yours another name.")
    for name, config in family.variants.items():
        if type(config) is not family.config:
            mine, theirs = type(config).__name__, family.config.__name__
            raise ConfigError(f"{name} is a {mine}, and the family {family.name!r} has {theirs}.")
    for name in own:
        del MODELS[name]
    FAMILIES[family.name] = Entry(family, sentence)
    MODELS.update({name: Entry(family.name, sentence) for name in family.variants})


def libraries_for(model: nn.Module) -> list[str]:
    """The libraries that `save_pretrained(..., format=...)` can write a model for; none for one that is not ours."""
    families = (family for family in all_families() if type(getattr(model, "config", None)) is family.config)
    return [library for family in families for library in formats.libraries_for(family, model.config)]


ELSEWHERE = {  # arguments that other libraries take: what to type here
    "pretrained": "create_model makes fresh weights, from_pretrained(NAME) reads published ones",
    "checkpoint_path": "from_pretrained(FILE, format=..., model=...) reads a file",
    "num_labels": "classes=N", "num_classes": "classes=N", "global_pool": "pool='class' or 'mean'",
    "id2label": "labels=(...)", "label2id": "labels=(...)",
    "ignore_mismatched_sizes": "classes=N alone makes a new head, and says so", "in_chans": "channels=N",
    "img_size": "image=N", "image_size": "image=N", "patch_size": "patch=N", "drop_path_rate": "drop_path=0.1",
    "embed_dim": "dim=N", "hidden_size": "dim=N", "num_hidden_layers": "depth=N", "num_attention_heads": "heads=N",
    "num_heads": "heads=N", "features_only": "model.features(images, at=...) gives maps",
    "torch_dtype": "dtype=torch.bfloat16", "device_map": "model.to(DEVICE) afterwards",
    "attn_implementation": "nothing, the fastest kernel is taken", "trust_remote_code": "nothing, no code is run",
}  # fmt: skip


def refuse_elsewhere(config: type, changes: Iterable[str]) -> None:
    """Refuse arguments of other libraries, all at once, with what to type instead.

    Raises:
        ConfigError: there is one, and no field of the configuration is called so.
    """
    own = {field.name for field in fields(config)}
    foreign = [name for name in changes if name in ELSEWHERE and name not in own]
    if foreign:
        said = "; ".join(f"{name}: {ELSEWHERE[name]}" for name in foreign)
        raise ConfigError(f"Arguments of other libraries, with what to type here: {said}.")


def check_labels(config: Any, labels: Sequence[str]) -> None:
    """Refuse another number of names than the model tells classes apart.

    Raises:
        ConfigError: says both.
    """
    classes = getattr(config, "classes", 0)
    if isinstance(labels, str) or len(labels) != classes:
        given = "One word" if isinstance(labels, str) else many(len(labels), "label")
        raise ConfigError(f"{given} for a model that tells {classes} classes apart. Give labels=(...), one for each.")


def labelled(card: Card, config: Any, labels: Sequence[str] | None) -> Card:
    """The card with names for the classes.

    Raises:
        ConfigError: another number of them than the model tells apart.
    """
    if labels is None:
        return card
    check_labels(config, labels)
    classes = getattr(config, "classes", 0)
    same = len(card.labels) == classes
    kept = {"class_ids": card.class_ids, "things": card.things} if same else {"class_ids": (), "things": ()}
    return replace(card, labels=tuple(labels), **kept)


def counted(config: type, changes: dict[str, Any], labels: Sequence[str] | None) -> dict[str, Any]:
    """What is to be otherwise, with as many classes as there are labels unless their number is said."""
    told = labels is not None and any(field.name == "classes" for field in fields(config))
    return {"classes": len(labels or ()), **changes} if told else changes


def check_fits(model: nn.Module, family: Family, tensors: Mapping[str, Tensor], folder: Path) -> None:
    """Refuse to write tensors that `from_pretrained` could not put back, because parts of the model were replaced.

    Raises:
        ConfigError: a tensor too many, too few, or of another shape than the configuration says; and what to do.
    """
    meant = {name: tuple(tensor.shape) for name, tensor in without_numbers(family, model.config).state_dict().items()}
    strange, absent = sorted(tensors.keys() - meant.keys()), sorted(meant.keys() - tensors.keys())
    other = sorted(name for name in meant.keys() & tensors.keys() if tuple(tensors[name].shape) != meant[name])
    if not (strange or absent or other):
        return
    if strange or absent:
        first, count = (strange or absent)[0], many(len(strange or absent), "tensor")
        verbs = ("has", "lacks") if strange else ("lacks", "has")
        said = f"it {verbs[0]} {count} that its configuration {verbs[1]} ({first})"
    else:
        first = other[0]
        said = f"its {first} is {tuple(tensors[first].shape)}, and its configuration says {meant[first]}"
    raise ConfigError(
        f"Nothing is written to {folder}: parts of this {type(model).__name__} were replaced, and {said}, so that "
        f"nobody could read the folder. Put the parts back (merge adapters into the weights they stand on; for a new "
        f"head use from_pretrained(..., classes=N)), or keep the tensors: torch.save(model.state_dict(), FILE)."
    )


def list_models(pattern: str = "*") -> list[str]:
    """Names of the published sizes that match a pattern with `*`; `_`, as timm has it, stands for `-`."""
    return fnmatch.filter(MODELS, pattern.replace("_", "-")) or fnmatch.filter(MODELS, pattern)


def change_config(family: Family, config: Any, changes: dict[str, Any]) -> Any:
    """A configuration with some fields changed, each checked by name and kind.

    Raises:
        ConfigError: no such field, or a value it cannot have.
    """
    return family.change(config, checked(family.config, changes, config))


def with_card(model: Any, card: Card) -> nn.Module:
    """The same model, which now carries its card."""
    model.card = card
    return model


def fresh_card(family: Family, name: str, config: Any) -> Card:
    """The card of a model that has learned nothing yet."""
    return Card(model=name, **family.card(config))


def without_numbers(family: Family, config: Any) -> nn.Module:
    """A model as shapes alone, which cost no memory.

    Raises:
        ConfigError: a size that not even counts.
    """
    try:
        with torch.device("meta"), Undrawn():
            return family.build(config)
    except (RuntimeError, MemoryError, OverflowError) as error:
        raise ConfigError(f"No model can be made of {config} ({error}).") from error


def within_memory(family: Family, config: Any) -> nn.Module:
    """A model as shapes alone, whose weights this machine can hold.

    Raises:
        ConfigError: it cannot; says how much there would be, and how much there is.
    """
    empty, there = without_numbers(family, config), physical_memory()
    needed = sum(tensor.numel() * tensor.element_size() for tensor in (*empty.parameters(), *empty.buffers()))
    if torch.get_default_device().type == "cpu" and there is not None and needed > there:
        raise ConfigError(
            f"The numbers of this model fill {needed / 2**30:,.0f} GiB, and the machine has {there / 2**30:,.0f} GiB. "
            f"Choose a smaller one, or change fewer of its sizes."
        )
    return empty


def create_model(name: str, labels: Sequence[str] | None = None, **changes: Any) -> nn.Module:
    """A model with fresh weights, in training mode, with its `.config` and `.card`.

    Args:
        name: a name from `list_models`.
        labels: names of the classes, in their order; there are as many classes as labels unless it is said.
        changes: fields of its configuration that should be otherwise (`classes=10`, `image=384`).

    Raises:
        ConfigError: no such model or field, or a configuration that makes no sense.
    """
    if name not in MODELS:
        raise ConfigError(no_model(str(name), MODELS))
    family = load(FAMILIES[MODELS[name].target])
    refuse_elsewhere(family.config, changes)
    config = change_config(family, family.variants[name], counted(family.config, changes, labels))
    card = labelled(fresh_card(family, name, config), config, labels)
    within_memory(family, config)
    return with_card(family.build(config), card)


def find(source: str | Path, announce: Announce) -> tuple[Path, Checkpoint | None]:
    """Where a source is on disk: an existing path, else the default checkpoint of a name, else a hub id.

    A name with a slash that begins like a path, with a folder that is here or with `runs/`, is no hub id.

    Raises:
        CheckpointError: it is none of these, or it cannot be fetched.
    """
    name = str(source)
    if os.path.lexists(source):
        if name in MODELS or hub.is_id(name):
            announce(f"Reading {source}.")
        return Path(source), None
    if name in MODELS:
        checkpoint = default_checkpoint(name)
        if checkpoint is None:
            raise CheckpointError(
                f"No weights are published for {name}. `vitrail train {name} --data PATH` trains fresh ones; in "
                f"Python, create_model({name!r}) makes them."
            )
        announce(f"{name} is a published size: taking {checkpoint.source} from the hub (licence {checkpoint.licence}).")
        return hub.fetch(checkpoint.source), checkpoint
    if nearby.is_place(name):
        raise CheckpointError(nearby.nothing_at(name))
    if hub.is_id(name):
        announce(f"{name} is no path here and no published size: taking it for a hub id.")
        return hub.fetch(name), None
    raise CheckpointError(nearby.nothing_called(name, MODELS, RECIPES))


def one_dtype(tensors: dict[str, Tensor], dtype: torch.dtype | None) -> tuple[dict[str, Tensor], list[str]]:
    """All floating tensors in one precision: float32, or float64 where the source has it, unless said otherwise."""
    if dtype is not None and not isinstance(dtype, torch.dtype):
        raise ConfigError(
            f"dtype={dtype!r} is no precision of torch. Use torch.float32, torch.bfloat16 or torch.float16."
        )
    if dtype is not None and not dtype.is_floating_point:
        raise ConfigError(f"dtype={dtype} holds no fractions. Use torch.float32, torch.bfloat16 or torch.float16.")
    found = {tensor.dtype for tensor in tensors.values() if tensor.is_floating_point()}
    odd = [name for name, tensor in tensors.items() if tensor.is_floating_point() and tensor.element_size() < 2]
    if odd:
        raise CheckpointError(f"{odd[0]} is {tensors[odd[0]].dtype}; weights of fewer than 16 bits are not read.")
    wanted = dtype or (torch.float64 if torch.float64 in found else torch.float32)
    same = {name: tensor.to(wanted) if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}
    other = some(sorted(str(kind).removeprefix("torch.") for kind in found - {wanted}))
    if other:
        return same, [f"The weights are {other}; they are loaded as {str(wanted).removeprefix('torch.')}."]
    return same, [
        f"The weights are {str(wanted).removeprefix('torch.')}, and stay so."
    ] if wanted != torch.float32 else []


def is_any(name: str, patterns: Sequence[str]) -> bool:
    """Whether a name matches one of several patterns with `*`."""
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def with_shapes(names: Sequence[str], tensors: dict[str, Tensor]) -> str:
    """Names, each with the shape of its tensor."""
    return some([f"{name} {tuple(tensors[name].shape)}" for name in names])


def covering(names: Sequence[str], among: Iterable[str]) -> str:
    """What to type for `missing` so that it names these and nothing else: patterns where they cover a whole part."""
    others = set(among) - set(names)

    def widest(name: str) -> str:
        parts = name.split(".")
        for count in range(1, len(parts)):
            if not any(other.startswith(start := ".".join(parts[:count]) + ".") for other in others):
                return f"{start}*"
        return name

    patterns = dict.fromkeys(widest(name) for name in names)
    typed = "".join(f"{pattern!r}, " for pattern in patterns).removesuffix(" ")
    listed = ",".join(patterns)
    return f"missing=({typed}) (typed: --set 'missing={listed}', or 'model.missing={listed}' for a training)"


def check_complete(family: Family, loaded: Loaded, missing: Sequence[str]) -> None:
    """Refuse weights that are not exactly those of the configuration they came with.

    Raises:
        CheckpointError: tensors too many, too few (unless named in `missing`), or of another shape or kind.
    """
    empty = without_numbers(family, loaded.config)
    expected = empty.state_dict()
    computed = sum(buffer.numel() for name, buffer in empty.named_buffers() if name not in expected)
    if computed > TABLE_LIMIT:
        raise CheckpointError(f"{loaded.source} describes tables of {computed:,} numbers; that is no real model.")
    source, tensors = loaded.source, loaded.tensors
    if extra := [name for name in tensors if name not in expected]:
        raise CheckpointError(
            f"{source} has {len(extra)} tensors that this model has no place for: {with_shapes(extra, tensors)}."
        )
    absent = [name for name in expected if name not in tensors and not is_any(name, missing)]
    if absent:
        kept = len(expected) - len(absent)
        raise CheckpointError(
            f"{source} fills {kept} of {len(expected)} tensors; missing: {with_shapes(absent, expected)}. "
            f"If they may be made anew, say so: {covering(absent, expected)}."
        )
    for name, tensor in tensors.items():
        if tensor.shape != expected[name].shape:
            raise CheckpointError(
                f"{source}: {name} has shape {tuple(tensor.shape)} and should have {tuple(expected[name].shape)}."
            )
        if tensor.is_floating_point() != expected[name].is_floating_point():
            raise CheckpointError(f"{source}: {name} is {tensor.dtype} and should be {expected[name].dtype}.")


def keep(
    tensors: dict[str, Tensor], expected: dict[str, Tensor], free: Sequence[str], source: str
) -> dict[str, Tensor]:
    """The tensors that go into a model as they are; those it lacks must be among the names in `free`.

    Raises:
        CheckpointError: one that it needs is of another shape or not there, and nobody said it may be made anew.
    """
    kept, absent = {}, []
    for name, tensor in expected.items():
        if name in tensors and tensors[name].shape == tensor.shape:
            kept[name] = tensors[name]
        elif is_any(name, free):
            continue
        elif name in tensors:
            raise CheckpointError(
                f"{name} has shape {tuple(tensors[name].shape)} in {source} and {tuple(tensor.shape)} in the model "
                f"asked for; that change cannot be made to trained weights."
            )
        else:
            absent.append(name)
    if absent:
        raise CheckpointError(
            f"The model asked for has {with_shapes(absent, expected)}, and {source} has not. If that may be made anew, "
            f"say so: {covering(absent, expected)}."
        )
    return kept


def check_left(left: Sequence[str], tensors: dict[str, Tensor], free: Sequence[str], source: str) -> None:
    """Refuse to throw trained weights away, unless they are among the names in `free`.

    Raises:
        CheckpointError: says what to type if they may go.
    """
    lost = [name for name in left if not is_any(name, free)]
    if lost:
        kept = [name for name in tensors if name not in left]
        raise CheckpointError(
            f"The model asked for has no place for {with_shapes(lost, tensors)} of {source}. If that may be thrown "
            f"away, say so: {covering(lost, [*kept, *lost])}."
        )


def changed_answers(old: Any, new: Any) -> list[str]:
    """A sentence for each field that makes the same weights answer otherwise.

    A configuration within another is one of a family of its own, which says what changes no answer.
    """
    free = {family.config: (*family.flexible, *family.training) for family in all_families()}
    return [
        f"{one.path} was {one.before!r}, is {one.after!r}: the answers change."
        for one in differences(old, new)
        if one.name not in free.get(one.kind, ())
    ]


def answers_otherwise(family: Family, old: Any, new: Any) -> bool:
    """Whether two configurations answer something else: other classes, or another head."""
    return any(getattr(old, name, None) != getattr(new, name, None) for name in family.decides)


def assemble(loaded: Loaded, target: Any, missing: Sequence[str], announce: Announce) -> nn.Module:
    """A model of the target configuration with all of the loaded weights that fit it, and fresh ones elsewhere.

    Heads are made anew when what is answered has changed.

    Raises:
        CheckpointError: something would stay without weights, or trained weights would go, that nobody said may.
    """
    family = loaded.family
    tensors, notes = family.resize(loaded.tensors, loaded.config, target)
    other = answers_otherwise(family, loaded.config, target)
    heads, before_heads = (family.heads, family.before_heads) if other else ((), ())
    may_go = (*family.heads, *before_heads, *missing)
    expected = within_memory(family, target).state_dict()
    usable = {name: tensor for name, tensor in tensors.items() if not is_any(name, heads)}
    new = [name for name in expected if name not in tensors and is_any(name, before_heads)]
    kept = keep(usable, expected, (*missing, *heads, *new), loaded.source)
    fresh = [name for name in expected if name not in kept]
    left = [name for name in tensors if name not in expected]
    check_left(left, tensors, may_go, loaded.source)
    for note in (*changed_answers(loaded.config, target), *notes):
        announce(note)
    if fresh or left:
        announce(
            f"kept {len(kept)} of {len(expected)} tensors"
            + (f"; new: {with_shapes(fresh, expected)}" if fresh else "")
            + (f"; left out: {with_shapes(left, tensors)}" if left else "")
        )
    dtype = next(tensor.dtype for tensor in tensors.values() if tensor.is_floating_point())
    with contextlib.nullcontext() if fresh else Undrawn():
        model = family.build(target)
    model.to(dtype).load_state_dict({**model.state_dict(), **kept})
    return model


def adapt_text(prepared: TextPreprocessing, old: Any, new: Any, changes: Mapping[str, Any]) -> TextPreprocessing:
    """How texts are prepared for a model whose configuration has changed, with some fields as a person says.

    Raises:
        ConfigError: there is no such field, or more is read than the model has positions for.
    """
    most = getattr(new, "max_tokens", None)
    if most is not None and prepared.max_tokens > most:
        prepared = replace(prepared, max_tokens=most)
    prepared = replace(prepared, **checked(TextPreprocessing, changes))
    if most is not None and prepared.max_tokens > most:
        raise ConfigError(f"preprocessing.max_tokens={prepared.max_tokens}, and the model reads at most {most}.")
    return prepared


def adapt_pictures(prepared: Preprocessing, old: Any, new: Any, changes: Mapping[str, Any]) -> Preprocessing:
    """How pictures are prepared for a model whose configuration has changed, with some fields as a person says.

    Raises:
        ConfigError: there is no such field, or it makes pictures of another size than the model reads.
    """
    prepared = prepared.for_channels(getattr(new, "channels", prepared.channels))
    if getattr(old, "size", None) != getattr(new, "size", None):
        prepared = prepared.for_size(new.size)
    if not changes:
        return prepared
    prepared = replace(prepared, **checked(Preprocessing, changes))
    reads = getattr(new, "channels", prepared.channels), getattr(new, "size", prepared.size)
    if (prepared.channels, prepared.size) != reads:
        raise ConfigError(
            f"preprocessing makes {prepared.channels} channels of {prepared.size} pixels, and the model reads "
            f"{reads[0]} of {reads[1]}. Give as many means and deviations as channels, and image=... for another size."
        )
    return prepared


def adapt_detection(prepared: Fitted, old: Any, new: Any, changes: Mapping[str, Any]) -> Fitted:
    """How pictures are prepared for a detector, which reads any size, with some fields as a person says.

    Raises:
        ConfigError: there is no such field.
    """
    return replace(prepared.for_channels(getattr(new, "channels", prepared.channels)), **checked(Fitted, changes))


ADAPT: dict[type, Callable[[Any, Any, Any, Mapping[str, Any]], Any]] = {
    Preprocessing: adapt_pictures,
    Fitted: adapt_detection,
    TextPreprocessing: adapt_text,
}


def adapt_card(family: Family, card: Card, old: Any, new: Any, preprocessing: Any) -> Card:
    """The card of a model whose configuration has changed since it was written.

    Args:
        family: whose model it is.
        card: as it was written.
        old, new: the configurations.
        preprocessing: how inputs are prepared, all of it or some fields, where a person says so.

    Raises:
        ConfigError: preprocessing that there is not, or that does not make what the model reads.
    """
    if answers_otherwise(family, old, new):
        task = family.card(new).get("task", card.task)
        card = replace(card, labels=(), class_ids=(), things=family.card(new).get("things", ()), scores={}, task=task)
    if preprocessing is not None and not isinstance(preprocessing, Mapping):
        return replace(card, preprocessing=preprocessing)
    adapted = ADAPT[family.reads](card.preprocessing, old, new, preprocessing or {})
    return replace(card, preprocessing=adapted)


def changed_channels(before: Any, after: Any) -> list[str]:
    """What has become of mean and deviation where another number of channels is read, in a sentence."""
    if not (isinstance(before, PicturePreprocessing) and isinstance(after, PicturePreprocessing)):
        return []
    if len(set(before.mean)) == len(set(before.std)) == 1 or after.channels == before.channels:
        return []
    if after.mean != before.for_channels(after.channels).mean:
        return []  # somebody has said which
    which = f"Each of the {after.channels} channels" if after.channels > 1 else "The channel"
    return [
        f"{which} is read with the averages of those there were: mean "
        f"{after.mean[0]:.3f}, deviation {after.std[0]:.3f}."
    ]


def check_reads(family: Family, preprocessing: Any) -> None:
    """Refuse the preprocessing of pictures for a model that reads text, and the other way round.

    Raises:
        ConfigError: says what the model reads by.
    """
    if preprocessing is not None and not isinstance(preprocessing, family.reads):
        raise ConfigError(
            f"preprocessing is a {type(preprocessing).__name__}, and this model reads by a {family.reads.__name__}."
        )


def read_source(path: Path, format: str | None, model: str | None, preprocessing: Any, named: dict[str, Any]) -> Loaded:
    """Everything that a path holds, whatever kind of source it is."""
    if path.is_dir():
        if format is not None or model is not None:
            raise ConfigError(f"{path} is a folder and says itself what it is; leave out format and model.")
        return folders.read_folder(path, all_families(), preprocessing)
    return read_file(path, format, model, all_families(), named)


def look_up(source: str | Path, model: str | None = None) -> Loaded:
    """What weights are, without a model made of them; nothing is announced.

    Args:
        source: as for `from_pretrained`.
        model: for a file alone, the published size it is or comes nearest to.
    """
    path, _ = find(source, lambda sentence: None)
    return read_source(path, None, model if path.is_file() else None, None, {})


def grown(loaded: Loaded, name: str) -> tuple[Loaded, tuple[str, ...]]:
    """The weights of a model as the part that they are of a larger one, and the names of what that has beside it.

    Args:
        loaded: weights of any family; they stay as they are unless a model of the family of `name` can hold theirs.
        name: of a published size of the larger family; what the weights do not decide is as it is there.
    """
    family = load(FAMILIES[MODELS[name].target])
    part = family.grows.get(loaded.family.name)
    if part is None:
        return loaded, ()
    config = family.change(family.variants[name], {part: loaded.config})
    tensors = {f"{part}.{name}": tensor for name, tensor in loaded.tensors.items()}
    fresh = tuple(name for name in without_numbers(family, config).state_dict() if not name.startswith(f"{part}."))
    told = {name: value for name, value in family.card(config).items() if name != "preprocessing"}
    card = replace(loaded.card, **told, model=variant_name(family, config), scores={})
    return replace(loaded, family=family, config=config, tensors=tensors, card=card), fresh


def from_pretrained(
    source: str | Path,
    format: str | None = None,
    model: str | None = None,
    missing: Sequence[str] | str = (),
    announce: Announce = say,
    dtype: torch.dtype | None = None,
    preprocessing: PicturePreprocessing | TextPreprocessing | Mapping[str, Any] | None = None,
    into: str | None = None,
    labels: Sequence[str] | None = None,
    **changes: Any,
) -> nn.Module:
    """A model with trained weights, in evaluation mode, with its `.config` and `.card`.

    Nothing is loaded unless everything is right: the files are whole, every tensor is known, and every tensor of the
    model is filled. Other classes make a new head, another image size stretches the positions, another number of
    channels inflates the stem; each is announced.

    Args:
        source: a folder (ours, transformers', timm's), a file of tensors, a name from `list_models` (its default
            checkpoint is fetched) or a hub id; looked up in this order.
        format: for a file alone, whose names it has (`timm`, `torchvision`, `transformers`, `google`, `dinov2`;
            `vitrail` for what `torch.save(model.state_dict(), FILE)` wrote).
        model: for a file alone, the published size it is or comes nearest to.
        missing: names of ours, with `*`, that the source may lack, and start fresh, or hold in vain, and are left out.
        announce: is told what was chosen, guessed and changed, a sentence at a time.
        dtype: precision of the model; float32 by default (float64 where the source has it).
        preprocessing: how pictures or texts are prepared, where the source does not say it or is wrong; all of it,
            or fields of it (`{"mean": (0.5, 0.5, 0.5)}`).
        into: a name from `list_models` of a larger kind, of which the weights may be a part: those of a detector are of
            `detr-resnet-50-panoptic`. What is beside the part starts fresh.
        labels: names of the classes, in their order; there are as many classes as labels unless it is said.
        changes: fields of the configuration that should be otherwise (`classes=10`, `image=384`, `heads=4`).

    Raises:
        CheckpointError, ConfigError: whatever is wrong, in a sentence.
    """
    if not isinstance(source, str | Path):
        raise ConfigError(
            f"from_pretrained takes a folder, a file, a name from list_models or a hub id, not {source!r:.60}."
        )
    missing = (missing,) if isinstance(missing, str) else tuple(missing)
    path, checkpoint = find(source, announce)
    given = None if isinstance(preprocessing, Mapping) else preprocessing
    loaded = read_source(path, format, model, given, changes)
    if into is not None:
        loaded, fresh = grown(loaded, into)
        missing = (*missing, *fresh)
    refuse_elsewhere(loaded.family.config, changes)
    changes = counted(loaded.family.config, changes, labels)
    check_reads(loaded.family, given)
    check_complete(loaded.family, loaded, missing)
    check_finite(loaded.tensors, loaded.source)
    for note in loaded.notes:
        announce(note)
    tensors, notes = one_dtype(loaded.tensors, dtype)
    for note in notes:
        announce(note)
    target = change_config(loaded.family, loaded.config, changes)
    made = assemble(replace(loaded, tensors=tensors), target, missing, announce)
    card = loaded.card
    if checkpoint is not None:
        card = with_imagenet_names(published_card(card, str(source), checkpoint), target, announce)
    adapted = adapt_card(loaded.family, card, loaded.config, target, preprocessing)
    for note in changed_channels(card.preprocessing, adapted.preprocessing):
        announce(note)
    if isinstance(preprocessing, Mapping) and preprocessing:
        values = ", ".join(f"{name}={getattr(adapted.preprocessing, name)!r}" for name in preprocessing)
        announce(f"Prepared with {values}, as you say.")
    return with_card(made.eval(), labelled(adapted, target, labels))


def save_pretrained(model: nn.Module, folder: str | Path, format: str = "vitrail", announce: Announce = say) -> Path:
    """Write a model so that `from_pretrained`, or another library, reads it back with the same numbers.

    The folder appears whole or not at all. One that is there already must be empty, hold something else than a model,
    or hold a model in the same format, which is replaced.

    Args:
        model: one of ours.
        folder: where it goes.
        format: `vitrail`, `transformers` or `timm`.
        announce: is told where it went.

    Raises:
        ConfigError: that library has no such model; the folder holds a model in another format; parts of the model
            were replaced by others, so that its weights no longer fit its configuration; or its card names another
            number of classes than it tells apart.
        CheckpointError: a weight is NaN or infinite, so that nobody could read the folder.
    """
    model = getattr(model, "_orig_mod", model)  # torch.compile wraps the module that it compiles
    family, folder = family_of(model), Path(folder)
    config: Any = model.config
    card = getattr(model, "card", None) or fresh_card(family, variant_name(family, config), config)
    tensors = {name: tensor.detach().cpu() for name, tensor in model.state_dict().items()}
    check_finite(tensors, f"Nothing is written to {folder}")
    check_fits(model, family, tensors, folder)
    if card.labels and hasattr(config, "classes"):
        check_labels(config, card.labels)
    if (folder / "config.json").exists():
        there = folders.library_of(read_json(folder / "config.json"), folder)
        if there != format:
            raise ConfigError(f"{folder} already holds a model in the format {there}. Choose another folder.")

    notes: list[str] = []

    def write(draft: Path) -> None:
        if format == "vitrail":
            folders.write_vitrail(draft, family, config, tensors, card)
        else:
            notes.extend(folders.write_foreign(draft, format, family, config, tensors, card))

    write_folder(folder, write, last="manifest.json" if format == "vitrail" else "config.json")
    for note in (*notes, f"Saved to {folder} ({format}).{folders.opening(format, folder)}"):
        announce(note)
    return folder
