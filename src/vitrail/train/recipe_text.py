"""Recipes as text: the JSON file beside a result, and what people type after `--set`."""

import dataclasses
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, get_type_hints

from vitrail import catalog
from vitrail.errors import ConfigError, unknown
from vitrail.fields import check_fields, describe, fits, part_types
from vitrail.tasks.task import Task
from vitrail.train.recipe import ModelChoice, Recipe
from vitrail.weights.configs import FAMILY, choose, written_part
from vitrail.weights.names import no_model

ELSEWHERE = {  # what other programs call a field: its name here
    "lr": "rate", "learning_rate": "rate", "weight_decay": "decay", "batch_size": "batch", "num_workers": "workers",
    "label_smoothing": "smoothing",
}  # fmt: skip
WORDS = {"none": None, "true": True, "false": False}


def plain(value: Any) -> Any:
    """A recipe, or a part of one, as JSON has it. Fields that do not count in comparisons are left out."""
    if hasattr(value, FAMILY):  # a model's configuration, among the changes of a `ModelChoice`
        return plain(written_part(value))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        values = {one.name: plain(getattr(value, one.name)) for one in dataclasses.fields(value) if one.compare}
        return {"name": value.name, **values} if isinstance(value, Task) else values
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [plain(item) for item in value]
    return value


def part_type(kind: Any, names: Iterable[str] = ()) -> type | None:
    """The one of them, if there is any, that has most of these fields; of equals the first."""
    wanted = {*names}
    return max(part_types(kind), key=lambda one: len(wanted & settable(one).keys()), default=None)


def build(kind: Any, value: Any, where: str) -> Any:
    """A value of a type from what JSON holds.

    Raises:
        ConfigError: a field that there is not, one that is missing, or a value of another kind.
    """
    if kind is Task:
        return build_task(value, where)
    if isinstance(value, Mapping) and (part := part_type(kind, value)) is not None:
        return build_part(part, value, where)
    if isinstance(value, list):
        value = tuple(build(Any, item, where) for item in value)
    if not fits(value, kind):
        raise ConfigError(f"{where}={value!r} is not {describe(kind)}.")
    return value


def build_part(kind: type, values: Mapping[str, Any], where: str) -> Any:
    """A dataclass from a JSON object."""
    kinds = get_type_hints(kind)
    names = [one.name for one in dataclasses.fields(kind)]
    for name in values:
        if name not in names:
            raise ConfigError(f"{where}: {unknown('field', name, names)}")
    try:
        made = kind(**{name: build(kinds[name], value, f"{where}.{name}") for name, value in values.items()})
    except TypeError as error:
        raise ConfigError(f"{where}: {error}.") from error
    check_fields(made)
    return made


def build_task(values: Any, where: str) -> Task:
    """A task by its name in the catalog."""
    name = values.get("name") if isinstance(values, Mapping) else values
    if name not in catalog.TASKS:
        raise ConfigError(f"{where}: {unknown('task', str(name), catalog.TASKS)}")
    if not isinstance(values, Mapping):
        raise ConfigError(f"{where}={values!r} should be an object with a name and the fields of that task.")
    rest = {name: value for name, value in values.items() if name != "name"}
    return build_part(catalog.load(catalog.TASKS[name]), rest, where)


def recipe_to_json(recipe: Recipe) -> str:
    """A recipe as text that a person can read."""
    return json.dumps(plain(recipe), indent=2) + "\n"


def recipe_from_json(values: Mapping[str, Any]) -> Recipe:
    """The recipe that was written down.

    Raises:
        ConfigError: it is not one.
    """
    return build_part(Recipe, values, "recipe")


def readings(text: str) -> Iterator[Any]:
    """Everything that a typed value may mean: JSON or a word, rows x columns, a list, a list of one, plain words."""
    if text.lower() in WORDS:
        yield WORDS[text.lower()]
    if re.fullmatch(r"\d+x\d+", text, re.ASCII):
        yield tuple(map(int, text.split("x")))
    for candidate in (text, f"[{text}]"):
        try:
            value = json.loads(candidate)
        except ValueError:
            continue
        yield tuple(value) if isinstance(value, list) else value
    yield text
    yield tuple(text.split(","))


def parse(kind: Any, text: str, path: str) -> Any:
    """A typed value: the first reading of it that is of the kind."""
    fitting = [value for value in readings(text) if fits(value, kind)]
    if not fitting or (part_type(kind) is not None and fitting[0] is not None):
        raise ConfigError(f"--set {path}={text} is not {describe(kind)}.")
    return fitting[0]


def set_path(recipe: Recipe, path: str, text: str) -> Recipe:
    """The recipe with one value changed.

    Args:
        path: to the value, with dots: `optimiser.rate`. Below `model` also the fields of the model's
            configuration: `model.image`.
        text: the value as it was typed; its type comes from the field.

    Raises:
        ConfigError: there is no such field, or the value is of another kind.
    """
    return set_in(recipe, path.split("."), text, path)


def set_in(part: Any, names: list[str], text: str, path: str) -> Any:
    """A copy of a dataclass with one value below it changed."""
    name, *rest = names
    kinds = get_type_hints(type(part))
    known = [one.name for one in dataclasses.fields(part) if one.compare]
    if isinstance(part, ModelChoice) and name not in known:
        return replace(part, changes=with_config_value(part, names, text, path))
    if name not in known:
        meant, before = ELSEWHERE.get(name, name), path.split(".")[: -len(names)]
        elsewhere = [".".join([*before, meant, *rest])] * (meant in known and not rest)
        elsewhere += [".".join([one, meant, *rest]) for one in known if has_field(part, one, meant)]
        hint = f" Did you mean --set {elsewhere[0]}={text}?" if elsewhere else ""
        raise ConfigError(f"--set {path}: {unknown('field', name, known)}{hint}")
    if rest:
        below = getattr(part, name)
        kind = part_type(kinds[name])
        if below is None and kind is not None:
            below = kind()
        if not dataclasses.is_dataclass(below):
            raise ConfigError(f"--set {path}: {name} has no fields of its own. Type {path.rsplit('.', 1)[0]}=VALUE.")
        return replace(part, **{name: set_in(below, rest, text, path)})
    own = getattr(part, name)
    if dataclasses.is_dataclass(own) and text.lower() not in WORDS:
        fields = [one.name for one in dataclasses.fields(own) if one.compare]
        raise ConfigError(
            f"--set {path}={text}: {name} has fields of its own: {', '.join(fields)}. "
            f"Type --set {path}.{fields[0]}=VALUE, for example."
        )
    return replace(part, **{name: parse(kinds[name], text, path)})


def has_field(part: Any, below: str, name: str) -> bool:
    """Whether a part of a recipe has a field, or, of the model, its configuration."""
    inner = getattr(part, below)
    if isinstance(inner, ModelChoice) and inner.name in catalog.MODELS:
        kinds: Any = catalog.family_of_model(inner.name).config
        return name in {one.name for one in dataclasses.fields(kinds)}
    return dataclasses.is_dataclass(inner) and name in settable(type(inner))


def with_config_value(choice: ModelChoice, names: list[str], text: str, path: str) -> dict[str, Any]:
    """The changes of a model's configuration with one more; one of a configuration within it stands in an object.

    Raises:
        ConfigError: there is no such field, or the value is of another kind.
    """
    if choice.name not in catalog.MODELS:
        raise ConfigError(no_model(choice.name, catalog.MODELS))
    family = catalog.family_of_model(choice.name)
    first, *_ = names
    known = [one.name for one in dataclasses.fields(family.config)]
    if first not in known:
        raise ConfigError(f"--set {path}: {unknown('field', first, ['name', 'init', *known])}")
    return put(family.config, family.variants[choice.name], choice.changes, names, text, path)


def put(kind: type, now: Any, changes: Mapping[str, Any], names: list[str], text: str, path: str) -> dict[str, Any]:
    """The changes of a configuration with one more.

    Args:
        kind: of the configuration.
        now: the configuration without any changes, if there is one.
        changes: those that there are already.
        names: the way to the field.
        text: as it was typed.
        path: what was typed before the equals sign, for errors.
    """
    name, *rest = names
    kinds, known = get_type_hints(kind), [one.name for one in dataclasses.fields(kind)]
    if name not in known:
        raise ConfigError(f"--set {path}: {unknown('field', name, known)}")
    parts = part_types(kinds[name])
    if not rest and parts and text.lower() not in WORDS:
        inside = [one.name for one in dataclasses.fields(parts[0])]
        raise ConfigError(
            f"--set {path}={text}: {name} has fields of its own. Type --set {path}.{inside[0]}=VALUE, for example."
        )
    if not rest:
        return {**changes, name: parse(kinds[name], text, path)}
    if not parts:
        raise ConfigError(f"--set {path}: {name} has no fields of its own. Type {path.rsplit('.', 1)[0]}=VALUE.")
    below, present = changes.get(name), getattr(now, name, None)
    below = below if isinstance(below, Mapping) else {}
    if rest == [FAMILY]:
        choose(kinds[name], {FAMILY: text}, present, path.rpartition(".")[0])
        return {**changes, name: {**below, FAMILY: text}}
    part = choose(kinds[name], below, present, path.rpartition(".")[0])
    return {**changes, name: put(part, present if type(present) is part else None, below, rest, text, path)}


def kind_of_task(task: Task, name: str | None, wanted: Mapping[str, str]) -> type:
    """The kind of task that was named, or else the nearest one that has the fields that are wanted.

    Nearest is the kind it is; then come those of the catalog that are made of it: who is taught classifies too.

    Raises:
        ConfigError: there is none.
    """
    if name is not None:
        if name not in catalog.TASKS:
            raise ConfigError(f"--set task={name}: {unknown('task', name, catalog.TASKS)}")
        return catalog.load(catalog.TASKS[name])
    made_of_it = [kind for kind in map(catalog.load, catalog.TASKS.values()) if issubclass(kind, type(task))]
    kinds = [type(task), *made_of_it]
    fitting = next((kind for kind in kinds if wanted.keys() <= settable(kind).keys()), None)
    if fitting is None:
        known = dict.fromkeys(name for kind in kinds for name in settable(kind))
        strange = next((name for name in wanted if name not in known), next(iter(wanted)))
        raise ConfigError(f"--set task.{strange}: {unknown('field', strange, known)}")
    return fitting


def settable(kind: type) -> dict[str, dataclasses.Field]:
    """The fields of a dataclass that a recipe holds."""
    return {one.name: one for one in dataclasses.fields(kind) if one.compare}


def set_task(task: Task, name: str | None, wanted: Mapping[str, str]) -> Task:
    """A task with some of its fields changed; another kind of it, where that is named or only that has such fields.

    Args:
        task: as it was; what both kinds have is kept.
        name: of the kind in the catalog, if it was typed.
        wanted: fields, and what was typed for them; with dots for the fields of a part, as `weights.boxes`.

    Raises:
        ConfigError: there is no such task or field, a value of another kind, or one that is still lacking.
    """
    named = {path.partition(".")[0]: text for path, text in wanted.items()}
    kind = kind_of_task(task, name, named)
    known, kinds = settable(kind), get_type_hints(kind)
    strange = next((field for field in named if field not in known), None)
    if strange is not None:
        raise ConfigError(f"--set task.{strange}: {unknown('field', strange, known)}")
    values = {field: getattr(task, field) for field in known if hasattr(task, field)}
    of_parts = {path: text for path, text in wanted.items() if "." in path or dataclasses.is_dataclass(kinds[path])}
    plain = {field: text for field, text in wanted.items() if field not in of_parts}
    values |= {field: parse(kinds[field], text, f"task.{field}") for field, text in plain.items()}
    needed = [field for field, one in known.items() if one.default is one.default_factory is dataclasses.MISSING]
    lacking = next((field for field in needed if field not in values), None)
    if lacking is not None:
        raise ConfigError(f"The task {kind.name} needs a {lacking}. Type --set task.{lacking}=VALUE as well.")
    changed = kind(**values)
    for path, text in of_parts.items():
        changed = set_in(changed, path.split("."), text, f"task.{path}")
    return changed
