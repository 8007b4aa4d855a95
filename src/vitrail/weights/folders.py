"""Folders of weights with a configuration beside them: our own, transformers' and timm's, read and written."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, is_dataclass, replace
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from vitrail import generation
from vitrail.errors import CheckpointError, ConfigError, many, unknown
from vitrail.preprocessing import Fitted, PicturePreprocessing, Preprocessing
from vitrail.tokenizing import TextPreprocessing, find_tokenizer
from vitrail.tokenizing.reading import read_text
from vitrail.weights import preprocessors, tokenizers
from vitrail.weights.blame import read_as
from vitrail.weights.card import Card
from vitrail.weights.configs import build, checked, complete, written
from vitrail.weights.files import read_json, read_shards, read_tensors, sha256, write_json, write_safetensors
from vitrail.weights.formats import (
    Family,
    Format,
    Loaded,
    assumed,
    check_told,
    libraries_for,
    shapes_of,
    translate,
    values_of,
    variant_name,
)
from vitrail.weights.keymap import some
from vitrail.weights.names import no_family

WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
OURS = ("config.json", "card.json", "model.safetensors")  # and manifest.json, which holds the SHA-256 of each
TOKENIZER = "tokenizer.json"  # of a model that reads text, beside them and in the manifest


def read_weights(folder: Path) -> tuple[dict[str, Tensor], str]:
    """All tensors of a folder, whichever way they are stored, and the file they came from."""
    for name in WEIGHTS:
        if (folder / name).exists():
            path = folder / name
            return (read_shards(path) if name.endswith(".index.json") else read_tensors(path)), str(path)
    raise CheckpointError(f"{folder} has no weights. Expected one of {', '.join(WEIGHTS)}.")


def check_manifest(folder: Path) -> set[str]:
    """Refuse a folder in which a single bit is not as it was written; gives the names of its files.

    Raises:
        CheckpointError: no manifest, a file that is missing, or one that has changed.
    """
    if not (folder / "manifest.json").exists():
        raise CheckpointError(
            f"{folder} has no manifest.json, so nothing says whether it is whole. Save the model again."
        )
    prints = read_json(folder / "manifest.json").get("sha256")
    if not isinstance(prints, dict) or set(prints) - {TOKENIZER} != set(OURS):
        raise CheckpointError(f"{folder / 'manifest.json'} should give the SHA-256 of {', '.join(OURS)}.")
    for name in prints:
        if not (folder / name).is_file():
            raise CheckpointError(f"{folder} has no {name}, which its manifest lists. Copy the folder again.")
        if sha256(folder / name) != prints[name]:
            raise CheckpointError(
                f"{folder / name} is not as it was written (SHA-256 differs): it was damaged, edited, or a save was "
                f"interrupted. Copy the folder again, or save the model again."
            )
    return set(prints)


def read_card(folder: Path, family: Family, tokenizer: bool) -> Card:
    """The card of a folder of ours, with the tokenizer that stands beside it.

    Raises:
        ConfigError: it is none, or reads something else than the family.
    """
    path = folder / "card.json"
    card = Card.from_json(read_json(path), str(path))
    if not isinstance(card.preprocessing, family.reads):
        raise ConfigError(f"{path}: its preprocessing is not the {family.reads.__name__} that this model reads by.")
    if tokenizer and isinstance(card.preprocessing, TextPreprocessing):
        return replace(card, preprocessing=replace(card.preprocessing, tokenizer=read_text(folder / TOKENIZER)))
    return card


def read_vitrail(folder: Path, config: Mapping[str, Any], families: Iterable[Family]) -> Loaded:
    """A folder that `save_pretrained` wrote."""
    files = check_manifest(folder)
    if odd := set(config) - {"format", "family", "variant", "config"}:
        raise ConfigError(f"{folder / 'config.json'} has fields we do not know: {some(sorted(odd))}.")
    by_name = {family.name: family for family in families}
    if config.get("family") not in by_name:
        raise ConfigError(f"{folder / 'config.json'}: {no_family(str(config.get('family')), by_name)}")
    family = by_name[config["family"]]
    card = read_card(folder, family, TOKENIZER in files)
    ours = build(family.config, config.get("config"), str(folder / "config.json"))
    tensors = read_tensors(folder / "model.safetensors")
    check_told(family, ours, tensors, str(folder / "model.safetensors"))
    return Loaded(family, ours, tensors, card, str(folder / "model.safetensors"))


def write_vitrail(folder: Path, family: Family, config: Any, tensors: Mapping[str, Tensor], card: Card) -> None:
    """Our own folder: configuration, card, weights, the tokenizer of a text model, and the SHA-256 of each."""
    described = {"format": "vitrail", "family": family.name, "variant": variant_name(family, config)}
    write_json(folder / "config.json", described | {"config": written(config)})
    told, files = card.to_json(), (*OURS,)
    if tokenizer := told["preprocessing"].pop("tokenizer", ""):
        (folder / TOKENIZER).write_text(tokenizer, encoding="utf-8")
        files = (*OURS, TOKENIZER)
    write_json(folder / "card.json", told)
    write_safetensors(folder / "model.safetensors", tensors, {"format": "pt"})
    write_json(
        folder / "manifest.json", {"format": "vitrail", "sha256": {name: sha256(folder / name) for name in files}}
    )


def placeholders(classes: int) -> list[str]:
    """What transformers calls classes that have no names."""
    return [f"LABEL_{number}" for number in range(classes)]


def label_list(names: Any, classes: int) -> tuple[str, ...]:
    """Class names in their order, from a list or from an object of numbers; none where they do not fit."""
    if isinstance(names, Mapping):
        names = [names.get(str(number)) for number in range(len(names))]
    fits = isinstance(names, list) and len(names) == classes and all(isinstance(name, str) for name in names)
    return tuple(names) if fits and names != placeholders(classes) else ()


def transformers_pictures(folder: Path, config: Mapping[str, Any], ours: Any) -> PicturePreprocessing | None:
    """How a transformers folder prepares its pictures, if it says so."""
    path = folder / "preprocessor_config.json"
    return read_as(preprocessors.from_transformers, read_json(path), str(path)) if path.exists() else None


def transformers_generation(folder: Path, config: Mapping[str, Any]) -> generation.ReadSettings:
    """How the sentences of a transformers folder are written; older ones say it in the config."""
    path = folder / "generation_config.json"
    if not path.exists():
        return read_as(generation.from_transformers, config, str(folder / "config.json"))
    return read_as(partial(generation.from_transformers, config), read_json(path), str(path))


def transformers_text(folder: Path, config: Mapping[str, Any], ours: Any) -> TextPreprocessing | None:
    """The tokenizer of a transformers folder, if it has one."""
    return find_tokenizer(folder, getattr(ours, "max_tokens", None))


def timm_pictures(folder: Path, config: Mapping[str, Any], ours: Any) -> Preprocessing | None:
    """How a timm folder prepares its pictures; timm has a default for whatever it does not say."""
    said = config.get("pretrained_cfg") or config  # in older folders it stands among the rest
    return read_as(preprocessors.from_timm, said, str(folder / "config.json"))


MULTI_LABEL = "multi_label_classification"  # transformers' problem_type where several labels can hold at once


class Extras(NamedTuple):
    """What goes into a foreign folder beside names and sizes.

    Attributes:
        config: additions to its config.
        files: other files, by name: bytes as they are, anything else as JSON.
        lost: what that library cannot be told, in words.
    """

    config: dict[str, Any]
    files: dict[str, Any]
    lost: list[str]


def transformers_extras(card: Card, config: Any) -> Extras:
    """Labels and preprocessing as transformers writes them."""
    labels = card.labels or placeholders(getattr(config, "classes", 0))
    names = {"id2label": dict(enumerate(labels)), "label2id": {label: number for number, label in enumerate(labels)}}
    problem = {"problem_type": MULTI_LABEL} if card.multi_label else {}
    told = (names if labels else {}) | problem
    if isinstance(card.preprocessing, TextPreprocessing):
        told |= tokenizers.numbers(card.preprocessing)
        files, lost = tokenizers.to_transformers(card.preprocessing, card.labels)
        if card.generation is None:
            return Extras(told, files, lost)
        settings, untold = generation.to_transformers(card.generation, getattr(config, "max_tokens", None))
        return Extras(
            told | generation.numbers(settings), {**files, "generation_config.json": settings}, [*lost, *untold]
        )
    prepared = preprocessors.to_transformers(card.preprocessing)
    lost = preprocessors.lost(card.preprocessing, preprocessors.from_transformers(prepared))
    return Extras(told, {"preprocessor_config.json": prepared}, lost)


def timm_extras(card: Card, config: Any) -> Extras:
    """Labels and preprocessing as timm writes them."""
    prepared = preprocessors.to_timm(card.preprocessing)
    lost = preprocessors.lost(card.preprocessing, preprocessors.from_timm(prepared))
    lost += ["several labels can hold at once (multi_label)"] * card.multi_label
    return Extras({"pretrained_cfg": prepared} | ({"label_names": list(card.labels)} if card.labels else {}), {}, lost)


def transformers_names(config: Mapping[str, Any]) -> list[str]:
    """The architectures that a transformers config names."""
    names = config.get("architectures")
    return [str(name) for name in names] if isinstance(names, list) else []


def timm_names(config: Mapping[str, Any]) -> list[str]:
    """The architecture that a timm config names, without the tag of its weights."""
    return [str(config["architecture"]).split(".")[0]]


@dataclass(frozen=True)
class Library:
    """What is particular to the folders of one library, whatever the family.

    Attributes:
        names: the architectures that a config names.
        labels: the entry of a config that names the classes.
        preprocessing: how pictures, or texts, are prepared, if a folder says so, given its path, its config and ours.
        extras: what goes into a config and beside it, from our card and configuration.
        writing: how sentences are written, given the path of a folder and its config.
        opening: what is typed to load a folder there, given its path and its config.
    """

    names: Callable[[Mapping[str, Any]], list[str]]
    labels: str
    preprocessing: Mapping[type, Callable[[Path, Mapping[str, Any], Any], Any]]
    extras: Callable[[Card, Any], Extras]
    opening: Callable[[Path, Mapping[str, Any]], str]
    writing: Callable[[Path, Mapping[str, Any]], generation.ReadSettings] | None = None


HEADS = {"LMHeadModel": "ForCausalLM", "MTModel": "ForSeq2SeqLM"}  # that the names of transformers do not spell out


def open_in_transformers(folder: Path, config: Mapping[str, Any]) -> str:
    """What loads a folder in transformers."""
    name = next(iter(transformers_names(config)), "")
    heads = [head for ending, head in HEADS.items() if name.endswith(ending)]
    heads += re.findall(r"(For[A-Z]\w+?)(?:WithTeacher)?$", name)
    return f"transformers.AutoModel{heads[0] if heads else ''}.from_pretrained({str(folder)!r})"


def open_in_timm(folder: Path, config: Mapping[str, Any]) -> str:
    """What loads a folder in timm."""
    return f"timm.create_model({f'local-dir:{folder}'!r}, pretrained=True)"


LIBRARIES = {
    "transformers": Library(
        transformers_names,
        "id2label",
        {Preprocessing: transformers_pictures, Fitted: transformers_pictures, TextPreprocessing: transformers_text},
        transformers_extras,
        open_in_transformers,
        transformers_generation,
    ),
    "timm": Library(timm_names, "label_names", {Preprocessing: timm_pictures}, timm_extras, open_in_timm),
}


def opening(library: str, folder: Path) -> str:
    """A sentence that says how a folder is loaded by the library that it was written for; none for our own."""
    if library not in LIBRARIES:
        return ""
    return f" It is loaded there by {LIBRARIES[library].opening(folder, read_json(folder / 'config.json'))}."


def library_of(config: Mapping[str, Any], folder: Path) -> str:
    """Who wrote a folder, by what its config says.

    Raises:
        CheckpointError: nobody we know.
    """
    if config.get("format") == "vitrail":
        return "vitrail"
    if "architecture" in config:
        return "timm"
    if "architectures" in config or "model_type" in config:
        return "transformers"
    raise CheckpointError(
        f"{folder / 'config.json'} is not one of vitrail, transformers or timm: it has no 'format', 'architectures' or "
        f"'architecture'."
    )


def read_config(family: Family, format: Format, config: Mapping[str, Any], shapes: Any, where: str) -> Any:
    """Our configuration from a foreign one.

    Raises:
        ConfigError: what it says cannot be, or is not of the kind it should be; in the words of its file.
    """

    def read(config: Mapping[str, Any]) -> Any:
        return complete(family.config, checked(family.config, format.read_config(config, shapes)), "")

    return read_as(read, config, where)


def begun_by(preprocessing: TextPreprocessing, start: int | None) -> TextPreprocessing:
    """The same with what a translation begins with, where only the settings for writing say it, as Marian's do."""
    if start is None or preprocessing.start_token is not None or not preprocessing.tokenizer:
        return preprocessing
    return replace(preprocessing, start_token=preprocessing.pieces.get(start))


def read_languages(folder: Path) -> tuple[str, ...]:
    """From which language to which a translator goes, where its tokenizer says it, as Marian's does."""
    path = folder / "tokenizer_config.json"
    told = read_json(path) if path.is_file() else {}
    named = tuple(told.get(f"{side}_lang") for side in ("source", "target"))
    return tuple(str(one) for one in named) if all(isinstance(one, str) and one for one in named) else ()


def foreign_card(
    folder: Path, config: Mapping[str, Any], library: Library, family: Family, ours: Any, given: Any
) -> tuple[Card, list[str]]:
    """What a foreign folder tells besides weights, and what of it had to be assumed."""
    preprocessing, notes = given or library.preprocessing[family.reads](folder, config, ours), []
    if preprocessing is None:
        preprocessing, note = assumed(family, ours, {}, str(folder))
        notes.append(note)
    published, fresh, languages = config.get("pretrained_cfg"), family.card(ours), ()
    if "generation" in fresh and library.writing is not None:
        fresh["generation"], lost = library.writing(folder, config)
        notes += [f"{folder} sets {setting} for writing, which is not supported and left out." for setting in lost]
        preprocessing = begun_by(preprocessing, fresh["generation"].start)
        languages = read_languages(folder)
    names, classes = config.get(library.labels), getattr(ours, "classes", 0)
    labels = languages or label_list(names, classes)
    if isinstance(names, Mapping) and len(names) == classes and names.keys() != {*map(str, range(classes))}:
        notes.append(f"{folder} does not number its {many(classes, 'class')} from 0: their names are left out.")
    if classes == 1 and fresh.get("task", "classify") == "classify" and config.get("problem_type") != MULTI_LABEL:
        notes.append(f"{folder} has one class, which gets a score of 100% whatever the model answers.")
    told = {
        "model": variant_name(family, ours),
        "labels": labels,
        "multi_label": config.get("problem_type") == MULTI_LABEL,
        "preprocessing": preprocessing,
        "licence": str(published.get("license") or "") if isinstance(published, Mapping) else "",
        "origin": str(folder),
    }
    return Card(**{**fresh, **told}), notes


def by_model_type(
    families: Iterable[Family], library: str, config: Mapping[str, Any], names: Iterable[str]
) -> tuple[Family, Format] | None:
    """The format of a config that names no architecture: of its type, the one that reads the most of its tensors."""
    names = list(names)[:500]
    found = [
        (format.keymap.unread(names), family, format)
        for family in families
        for format in family.formats
        if format.library == library and format.model_type and format.model_type == config.get("model_type")
    ]
    _, family, format = min(found, key=lambda entry: entry[0], default=(None, None, None))
    return None if family is None else (family, format)


def read_foreign(
    folder: Path,
    config: Mapping[str, Any],
    library: str,
    families: Iterable[Family],
    preprocessing: Any = None,
) -> Loaded:
    """A folder of transformers or timm."""
    where, names = str(folder / "config.json"), LIBRARIES[library].names(config)
    known = {
        architecture: family
        for family in families
        for format in family.formats
        if format.library == library
        for architecture in format.architectures
    }
    name = next((name for name in names if name in known), None)
    typed = None
    if name is None and not names:
        typed = by_model_type(families, library, config, read_weights(folder)[0])
    if name is None and typed is None:
        called = some(names) or f"model of type {config.get('model_type')!r:.40}, with no architecture"
        raise CheckpointError(
            f"{where} describes {library}'s {called}, which cannot be read. Known: {some(sorted(known), 12)}."
        )
    family = known[name] if typed is None else typed[0]
    formats = [one for one in family.formats if one.library == library and name in one.architectures]
    formats = formats if typed is None else [typed[1]]
    foreign, file = read_weights(folder)
    ours = read_config(family, formats[0], config, shapes_of(foreign), where)
    format = min(formats, key=lambda one: (len(one.misfits(ours)), *one.keymap.unread(foreign)))
    tensors, notes = translate(format, foreign, file)
    check_told(family, ours, tensors, file)
    card, guessed = foreign_card(folder, config, LIBRARIES[library], family, ours, preprocessing)
    return Loaded(family, ours, tensors, card, file, (*notes, *guessed))


def read_folder(folder: Path, families: Iterable[Family], preprocessing: Any = None) -> Loaded:
    """A folder of weights with the configuration beside them, whoever wrote it.

    Args:
        folder: where it is.
        families: all there are.
        preprocessing: how pictures or texts are prepared for it, where the person knows better than a foreign folder.

    Raises:
        CheckpointError, ConfigError: whatever is wrong with it, in a sentence.
    """
    if not (folder / "config.json").exists():
        raise CheckpointError(
            f"{folder} has no config.json. For a weights file alone, give the file and say what it is: "
            f"from_pretrained(file, format='timm', model='vit-base-16'), or `vitrail convert FILE --from timm --model "
            f"vit-base-16 OUT`."
        )
    config = read_json(folder / "config.json")
    library = library_of(config, folder)
    if library == "vitrail":
        return read_vitrail(folder, config, families)
    return read_foreign(folder, config, library, families, preprocessing)


def nearest_fit(format: Format, config: Any, wrong: list[str]) -> str:
    """What to type so that a model fits, where the library itself says which values of those fields it has."""
    wanted = {name: format.defaults[name] for name in wrong if name in format.defaults}
    if len(wanted) < len(wrong) or format.misfits(replace(config, **wanted)):
        return "Or load it with other values of these fields, where they may be otherwise."
    typed = " ".join(f"--set {name}={value}" for name, value in wanted.items())
    arguments = ", ".join(f"{name}={value!r}" for name, value in wanted.items())
    return f"With `{typed}`, or from_pretrained(..., {arguments}), it fits, and its answers change slightly."


def untold(family: Family, format: Format, config: Any, written: Mapping[str, Any], shapes: Any) -> list[str]:
    """What only training would notice of a configuration, and is not there when it is read back."""
    assert format.read_config is not None
    again = format.read_config(written, shapes)
    return [
        f"{name} is {getattr(config, name)} in training"
        for name in family.training
        if getattr(config, name) and again.get(name) != getattr(config, name)
    ]


def write_foreign(
    folder: Path, library: str, family: Family, config: Any, tensors: Mapping[str, Tensor], card: Card
) -> list[str]:
    """A folder that another library reads; gives a sentence for each thing that it cannot be told.

    Raises:
        ConfigError: that library has no such model; names the fields, and the formats that fit.
    """
    writable = [one for one in family.formats if one.write_config is not None]
    candidates = [one for one in writable if one.library == library]
    known = ["vitrail", *dict.fromkeys(one.library for one in writable)]
    if not candidates and library in LIBRARIES:
        raise ConfigError(f"{card.model} cannot be written for {library}. Formats that can: {', '.join(known)}.")
    if not candidates:
        raise ConfigError(unknown("format", library, known))
    format = min(candidates, key=lambda one: len(one.misfits(config)))
    if wrong := format.misfits(config):
        values = {name: attrgetter(name)(config) for name in wrong}
        said = ", ".join(
            f"its own {name}" if is_dataclass(value) else f"{name}={value!r:.60}" for name, value in values.items()
        )
        fitting = ["vitrail", *libraries_for(family, config)]
        raise ConfigError(
            f"{library} cannot write down this model ({said}). Formats that can: {', '.join(fitting)}. "
            f"{nearest_fit(format, config, wrong)}"
        )
    assert format.write_config is not None
    extras = LIBRARIES[library].extras(card, config)
    sizes = {name: value for name, value in values_of(config).items() if type(value) is int}
    foreign = format.keymap.write(tensors, sizes)
    written = format.write_config(config) | extras.config
    write_safetensors(folder / "model.safetensors", foreign, {"format": "pt"})
    for name, values in extras.files.items():
        if isinstance(values, bytes):
            (folder / name).write_bytes(values)
        else:
            write_json(folder / name, values)
    write_json(folder / "config.json", written)
    lost = [*extras.lost, *untold(family, format, config, written, shapes_of(foreign))]
    return [f"{library} cannot be told that {loss}." for loss in lost]
