"""Every setting of a recipe: none can be given a number that makes no sense, and all of them stand in the manual."""

import json
import re
import types
from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from functools import reduce
from itertools import takewhile
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest

from vitrail.data.material import MarkedPictures, Pictures, Texts
from vitrail.data.mixing import Mixing
from vitrail.data.open import open_splits
from vitrail.data.transforms import Augment
from vitrail.errors import ConfigError
from vitrail.fields import part_types, typed
from vitrail.recipes.text import answering, causal, labels, masked, translation
from vitrail.recipes.vit import classify
from vitrail.tasks.detect import Detect
from vitrail.tasks.distill import Distil
from vitrail.tasks.matching import MatchCosts
from vitrail.tasks.panoptic import Panoptic
from vitrail.tasks.set_loss import SetWeights
from vitrail.tasks.tag import Tag
from vitrail.tasks.task import Task
from vitrail.tasks.translate import Translate
from vitrail.tasks.translate_parallel import TranslateParallel
from vitrail.train.asked import with_assignments
from vitrail.train.recipe import ModelChoice, Recipe
from vitrail.train.recipe_text import recipe_from_json, recipe_to_json, set_path
from vitrail.train.schedules import InverseSquareRoot

GUIDE = (Path(__file__).parents[2] / "docs/guides/training.md").read_text()

# what is typed for every field that holds a number, and what of it makes sense there
MANY, ENDLESS = "1000000000", "1" + 400 * "0"
TYPED = ("-Infinity", f"-{MANY}", "-1", "0", MANY, ENDLESS, "Infinity", "NaN")
SENSIBLE = {
    "epochs": {MANY},
    "steps": {MANY},
    "seed": {f"-{MANY}", "-1", "0", MANY, ENDLESS},
    "ema": {"0"},
    "patience": {MANY},
    "clip": {MANY},
    "accumulate": {MANY},
    "processes": {MANY},
    "save_every": {"0", MANY},
    "task.smoothing": {"0"},
    "task.weights": {MANY},
    "task.trust": {"0"},
    "task.length_weight": {"0"},
    "task.threshold": {"0"},
    "task.nms": {"0"},
    "task.denoising": {"0"},
    "task.class_ids": {"-1", f"-{MANY}"},
    **{f"task.weights.{part}": {"0", MANY} for part in ("classes", "boxes", "giou", "focal", "dice")},
    "task.weights.no_object": {MANY},
    **{f"task.weights.costs.{part}": {"0", MANY} for part in ("classes", "boxes", "giou")},
    "data.batch": {MANY},
    "data.uncased": {"0"},
    "data.workers": {"0"},
    "data.tokens": {MANY},
    "data.length": {MANY},
    "data.augment.crop": {"0"},
    "data.augment.horizontal_flip": {"0"},
    "data.augment.vertical_flip": {"0"},
    "data.augment.jitter": {"0"},
    "data.augment.erase": {"0"},
    "data.mixing.mixup": {"0"},
    "data.mixing.cutmix": {"0"},
    "data.mixing.chance": {"0"},
    "data.mixing.switch": {"0"},
    "optimiser.decay": {"0"},
    "optimiser.betas": {"0"},
    "schedule.warmup": {"0"},
    "schedule.floor": {"0"},
    "schedule.warmup_steps": {MANY},
}


def everything() -> Recipe:
    """A recipe for pictures with every part that it can have, and a number wherever one can stand."""
    return Recipe(
        model=ModelChoice(name="vit-tiny-16"),
        task=Distil(classes=("cat", "dog"), teacher="runs/teacher", weights=(1.0, 2.0)),
        data=Pictures(path="things", augment=Augment(), mixing=Mixing()),
        steps=100,
        ema=0.9,
        patience=3,
    )


def of_texts(task: Task) -> Recipe:
    """The same for texts: sentence pairs, or running text."""
    pairs = Texts(path="corpus", use="translate", uncased=0.2)
    return Recipe(
        model=ModelChoice(name="transformer-tiny"),
        task=task,
        data=pairs if task.name == "translate" else Texts(path="corpus", use="causal-lm", length=128),
        schedule=InverseSquareRoot(),
        average_last=5,
    )


def of_objects(task: Task, use: str) -> Recipe:
    """The same for pictures with marked objects."""
    data = MarkedPictures(path="things", use=use, shorter=240, longer=400)
    return Recipe(model=ModelChoice(name="detr-tiny"), task=task, data=data)


EVERY = (
    everything(),
    of_texts(Translate()),
    of_texts(TranslateParallel()),
    of_texts(Tag(classes=("noun", "verb"))),
    of_objects(Detect(classes=("cat", "dog"), class_ids=(3, 7)), "detect"),
    of_objects(Panoptic(classes=("cat", "grass"), things=(True, False)), "panoptic"),
)


def leaves(part: Any, above: str = "") -> Iterator[tuple[str, Any]]:
    """Every value that is no part of its own, under the name that `--set` has for it."""
    for field in fields(part):
        value = getattr(part, field.name)
        if is_dataclass(value):
            yield from leaves(value, f"{above}{field.name}.")
        elif field.compare:
            yield f"{above}{field.name}", value


def is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def numeric() -> dict[str, Recipe]:
    """The fields that hold numbers, each with a recipe that has it."""
    return {
        path: recipe
        for recipe in reversed(EVERY)
        for path, value in leaves(recipe)
        if is_number(value) or (isinstance(value, tuple) and value and all(map(is_number, value)))
    }


@pytest.mark.parametrize("path", numeric())
def test_a_number_that_makes_no_sense_is_refused_in_a_sentence(path):
    recipe, accepted, refusals = numeric()[path], set(), []
    value = dict(leaves(recipe))[path]
    for text in TYPED:
        try:
            set_path(recipe, path, ",".join([text] * len(value)) if isinstance(value, tuple) else text)
            accepted.add(text)
        except ConfigError as error:
            refusals.append(str(error))
    assert accepted == SENSIBLE.get(path, set())
    name = path.rpartition(".")[2]
    assert [words for words in refusals if name not in words or not words.endswith(".")] == []


def test_the_walk_meets_every_field_that_can_hold_a_number():
    assert len(numeric()) >= 38
    assert SENSIBLE.keys() <= set(numeric())


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("clip", "-1"),
        ("clip", "0"),
        ("clip", "nan"),
        ("clip", "NaN"),
        ("clip", "Infinity"),
        ("patience", "-1"),
        ("patience", "0"),
        ("optimiser.decay", "-1"),
        ("optimiser.betas", "2,3"),
        ("optimiser.betas", "0.9"),
        ("optimiser.betas", "0.9,1"),
        ("optimiser.eps", "-1"),
        ("optimiser.rate", "1e9"),
        ("save_every", "-1"),
        ("threads", "99999"),
        ("data.workers", "99999"),
        ("task.weights", "1,-1"),
        ("task.weights", "0,0"),
        ("task.weights", "uneven"),
        ("task.how", "firm"),
        ("epochs", "1e400"),
        ("ema", "1"),
        ("average_last", "0"),
        ("average_last", "1"),
        ("average_last", "5"),  # beside ema
        ("schedule.warmup", "1.5"),
        ("data.augment.scale", "1,0.1"),
        ("data.augment.scale", "0,1"),
        ("data.augment.ratio", "-1,1"),
        ("data.augment.jitter", "0,0,0,1"),
        ("data.augment.erase", "2"),
        ("data.augment.randaugment", "rand-m99"),
        ("data.augment.randaugment", "rand-n1000000000"),
        ("data.augment.randaugment", "rand-p2"),
        ("data.augment.randaugment", "torchvision-m31"),
        ("data.mixing.chance", "-0.1"),
    ],
)
def test_what_is_typed_and_makes_no_sense_names_what_was_typed(path, text):
    with pytest.raises(ConfigError) as refused:
        set_path(everything(), path, text)
    assert path.rpartition(".")[2] in str(refused.value) or text in str(refused.value)


def test_the_parts_of_a_task_are_typed_with_dots():
    recipe = of_objects(Detect(classes=("cat", "dog")), "detect")
    typed_parts = ("task.weights.giou=3", "task.weights.costs.boxes=4", "task.threshold=0.5")
    task = with_assignments(recipe, typed_parts).task
    assert task == Detect(
        classes=("cat", "dog"), weights=SetWeights(giou=3.0, costs=MatchCosts(boxes=4.0)), threshold=0.5
    )
    for assignment, said in (
        ("task.weights=2", r"weights has fields of its own: classes, boxes"),
        ("task.weights.clases=2", r"There is no field called 'clases'\. Did you mean classes"),
        ("task.wights.giou=2", r"There is no field called 'wights'\. Did you mean weights"),
        ("task.weights.giou=-2", r"weights\.giou=-2 must be at least 0"),
    ):
        with pytest.raises(ConfigError, match=said):
            with_assignments(recipe, [assignment])
    with pytest.raises(ConfigError, match=r"weights has no fields of its own"):
        with_assignments(everything(), ["task.weights.giou=2"])


@pytest.mark.parametrize("recipe", EVERY, ids=lambda recipe: recipe.task.name)
def test_a_recipe_with_every_part_comes_back_from_its_file(recipe):
    assert recipe_from_json(json.loads(recipe_to_json(recipe))) == recipe


# the manual


def rows() -> dict[str, tuple[str, str, str]]:
    """The tables of settings: from scratch, with `--init`, what it does."""
    found = re.findall(r"^\| `([\w.]+)` \| (.+?) \| (.+?) \| (.+?) \|$", GUIDE, flags=re.MULTILINE)
    return {name: cells for name, *cells in found}


def optional_parts(kind: type, above: str = "") -> Iterator[str]:
    """Parts that may be left out as a whole."""
    for name, hint in get_type_hints(kind).items():
        for part in part_types(hint):
            if types.NoneType in get_args(hint):
                yield f"{above}{name}"
            yield from optional_parts(part, f"{above}{name}.")


def settings() -> set[str]:
    """Every name that `--set` takes, with one for all the fields of a model."""
    found = {path for recipe in EVERY for path, _ in leaves(recipe)} | set(optional_parts(Recipe))
    return {"model.NAME" if path == "model.changes" else path for path in found}


def in_a_cell(value: Any) -> str:
    """A value as the table has it."""
    if isinstance(value, tuple):
        return typed(tuple(f"{number:g}" for number in value))
    if is_number(value):
        return f"{value:g}"
    return str(value).lower() if value in (None, True, False) else str(value)


def test_every_setting_stands_in_the_guide_once_and_says_what_it_does():
    assert rows().keys() == settings()
    assert GUIDE.count("\n| `") == len(rows()) + 1, "the first row names the columns"
    assert all(len(words) > 15 for _, _, words in rows().values())


@pytest.mark.parametrize(("column", "init"), [(0, None), (1, "elsewhere")])
def test_the_guide_says_what_training_really_does(column, init):
    recipe = classify("scenes:400,size=32x32", open_splits("scenes:400,size=32x32"), init=init, say=lambda words: None)
    task: Task = Distil(classes=recipe.task.classes, smoothing=recipe.task.smoothing, teacher="runs/teacher")
    told = dict(leaves(replace(recipe, task=task)))
    compared = 0
    for name, cells in rows().items():
        cell = cells[column]
        if cell.startswith("`") and name in told:
            assert (name, cell) == (name, f"`{in_a_cell(told[name])}`")
            compared += 1
        if cell == "off":
            assert recipe.data.mixing is None
    assert compared >= 30


def test_of_two_values_for_one_setting_the_last_one_counts():
    recipe = replace(everything(), average_last=None)
    assert with_assignments(recipe, ["seed=3", "ema=none", "seed=4", "ema=0.9"]).ema == 0.9
    last = with_assignments(recipe, ["seed=3", "ema=0.9", "seed=4", "ema=none"])
    assert (last.seed, last.ema) == (4, None)


def numbers_of_texts() -> list[dict[str, str]]:
    """The rows of the guide's table of texts: the value of each setting."""
    lines = GUIDE[GUIDE.index("| from scratch | `epochs`") :].splitlines()
    header, _, *rows = (line.strip("|").split("|")[1:] for line in takewhile(lambda line: line.startswith("|"), lines))
    names = [name.strip(" `") for name in header]
    return [dict(zip(names, (cell.strip(" `") if "`" in cell else "" for cell in row), strict=True)) for row in rows]


def test_the_numbers_that_the_guide_has_for_texts_are_those_of_the_recipes(tmp_path):
    table = tmp_path / "reviews.csv"
    table.write_text("text,label\n" + "".join(f"a text {number},{number % 2}\n" for number in range(20)))
    splits, kinds = open_splits(table), (translation, causal, masked, labels, answering)
    models = ("transformer-small", "gpt-mini", "bert-mini", "bert-mini", "bert-mini")
    for make, model, row in zip(kinds, models, numbers_of_texts(), strict=True):
        recipe = make("corpus", splits, model=model)
        for name, said in row.items():
            value = reduce(getattr, name.split("."), recipe) if said else ""
            assert said in (f"{value:.3g}" if isinstance(value, float) else "", in_json(value)), (make.__name__, name)


def in_json(value: Any) -> str:
    """A value as `--set` takes it."""
    return "none" if value is None else ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
