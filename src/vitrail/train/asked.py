"""What somebody typed beside a model and its data, and the recipe with that in it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from vitrail import catalog
from vitrail.data.material import MarkedPictures, Pictures, Texts
from vitrail.errors import ConfigError, UsageError
from vitrail.preprocessing import Fitted, Preprocessing
from vitrail.tasks.classify import Classify
from vitrail.tokenizing import TextPreprocessing
from vitrail.train.recipe import ModelChoice, Recipe
from vitrail.train.recipe_text import recipe_from_json, set_path, set_task
from vitrail.weights.files import read_json
from vitrail.weights.hub import is_id
from vitrail.weights.names import no_model

MATERIAL: dict[type, Pictures | MarkedPictures | Texts] = {  # what stands in for the data, by what a model reads
    Preprocessing: Pictures(path=""),
    Fitted: MarkedPictures(path=""),
    TextPreprocessing: Texts(path="", use="translate"),
}
STAND_IN = Classify(classes=("not known yet",))  # for the task that the data will decide


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What was asked for; `None` where the recipe decides.

    Attributes:
        epochs, batch, seed, workers, device: of the recipe.
        set: `path=value` for anything else in it.
    """

    epochs: int | None = None
    batch: int | None = None
    seed: int | None = None
    workers: int | None = None
    device: str | None = None
    set: tuple[str, ...] = ()

    def put_into(self, recipe: Recipe) -> Recipe:
        """The recipe with all of it.

        Raises:
            ConfigError, UsageError: a field that there is not, or a value that it cannot have.
        """
        of_data = {"batch": self.batch, "workers": self.workers}
        of_all = {"epochs": self.epochs, "seed": self.seed, "device": self.device}
        data = replace(recipe.data, **{name: value for name, value in of_data.items() if value is not None})
        recipe = replace(recipe, data=data, **{name: value for name, value in of_all.items() if value is not None})
        return with_assignments(recipe, self.set)


def decides_little(assignment: str) -> tuple[bool, bool]:
    """Sorts what makes room for others before them, and what says which fields there are."""
    return not assignment.endswith("=none"), ".family=" not in assignment


def with_assignments(recipe: Recipe, assignments: Sequence[str]) -> Recipe:
    """The recipe with what was said after `--set`.

    Raises:
        UsageError: it has no equals sign, or names the data, which has a flag of its own.
        ConfigError: there is no such field, or its value is of another kind.
    """
    of_task: dict[str, str] = {}  # which are taken together: in any order they say what the task is
    last = {assignment.partition("=")[0]: assignment for assignment in assignments}  # of two for one field
    for assignment in sorted(last.values(), key=decides_little):
        path, equals, text = assignment.partition("=")
        if not equals:
            raise UsageError(f"--set {assignment} has no '='. Type --set optimiser.rate=1e-4, for example.")
        if path == "data.path":
            raise UsageError(f"--set {assignment} cannot change the data that is open already. Type --data {text}.")
        if path.partition(".")[0] == "task":
            of_task[path.removeprefix("task").removeprefix(".")] = text
        else:
            recipe = set_path(recipe, path, text)
    kind = of_task.pop("", None)
    return replace(recipe, task=set_task(recipe.task, kind, of_task)) if kind or of_task else recipe


def where_weights_go(name: str) -> str:
    """What to type where weights stand in place of a model: a folder, or an id of the hub."""
    if Path(name).exists():
        return f" {name} is a path here: to go on from weights in it, name their size and type --init {name}."
    if is_id(name):
        return f" For weights from the hub, name their size and type --init {name}."
    return ""


def sketch(model: str, asked: Asked) -> Recipe:
    """As much of the recipe as is known before any picture is read, so that mistakes need not wait for the pictures.

    The data decides the task, and of texts what is made of them; the name of a recipe says nothing of its model. What
    is asked of these comes later.

    Raises:
        ConfigError, UsageError: there is no such model, or something is asked that no recipe can have.
    """
    if model.endswith(".json"):
        return asked.put_into(recipe_from_json(read_json(Path(model))))
    if model not in catalog.MODELS and model not in catalog.RECIPES:
        raise ConfigError(no_model(model, [*catalog.MODELS, *catalog.RECIPES]) + where_weights_go(model))
    reads = catalog.family_of_model(model).reads if model in catalog.MODELS else Preprocessing
    open_parts = ("task", "data", "schedule") if reads is TextPreprocessing else ("task",)
    if model in catalog.RECIPES:
        open_parts = ("task", "model", "data", "schedule")
    known = tuple(one for one in asked.set if one.partition("=")[0].split(".")[0] not in open_parts)
    whole = Recipe(model=ModelChoice(name=model), task=STAND_IN, data=MATERIAL[reads])
    return replace(asked, set=known).put_into(whole)
