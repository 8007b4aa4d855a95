"""What happens when somebody types `vitrail train` or `vitrail resume`: guesses said, a run, and what to do next."""

import os
import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from vitrail import catalog
from vitrail.core.attention import Attention
from vitrail.core.devices import fastest_device, usable_device
from vitrail.core.precision import fast_float32
from vitrail.data.balance import in_words_if_uneven
from vitrail.data.dataset import Dataset, Splits, refuse_one_class
from vitrail.data.files import shown
from vitrail.data.headers import files_of, in_both, unreadable
from vitrail.data.open import check_path, name_of, open_splits, taken_apart
from vitrail.errors import CheckpointError, ConfigError, DataError, ImageError, UsageError, VitrailError, many
from vitrail.evaluate.evaluate import Report, evaluate
from vitrail.evaluate.report import write_report
from vitrail.loading import from_pretrained
from vitrail.predict import refuse_no_model
from vitrail.tasks.classify import Classify
from vitrail.tasks.scores import in_words as score_in_words
from vitrail.tasks.task import GoesOn, NeedsModels, Task
from vitrail.train.asked import Asked, sketch
from vitrail.train.building import card_of, in_words
from vitrail.train.choosing import choose_recipe, in_short, read_for
from vitrail.train.dryrun import dry_run as try_out
from vitrail.train.first_batch import FirstBatch
from vitrail.train.fit import RunResult, done_without_report, fit
from vitrail.train.lock import recipe_of, refuse_taken
from vitrail.train.observers import Log, Screen
from vitrail.train.overfit import by_heart, only_few, splits_of, verdict
from vitrail.train.recipe import Recipe
from vitrail.train.signals import leaving_with
from vitrail.train.words import NAME, refuse_words, train_words, word_recipe
from vitrail.weights.cards import default_checkpoint
from vitrail.weights.hub import is_id

Say = Callable[[str], None]
MOST_OPENED = 50_000  # pictures that are opened before the first step: some seconds


def leads() -> bool:
    """Whether this is the only process, or the first of several."""
    return os.environ.get("RANK", "0") == "0"


def speak(sentence: str) -> None:
    """Print a sentence at once; of several processes only the first speaks."""
    if leads():
        print(sentence, flush=True)


def default_workers(device: str) -> int:
    """Processes that read pictures: enough to keep up, and no more than leave the processor to the training."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(8, cores - 1) if device != "cpu" else min(4, cores // 2)


def free_folder(task: str, data: str, say: Say) -> Path:
    """The next run folder that nothing is in; nothing is ever overwritten."""
    first = Path("runs") / task / name_of(data)
    folder, number = first, 1
    while folder.exists():
        number += 1
        folder = first.with_name(f"{first.name}-{number}")
    if number > 1:
        before = first if number == 2 else first.with_name(f"{first.name}-{number - 1}")
        again = f"`vitrail resume {shlex.quote(str(before))}` goes on with it"
        say(f"{before} holds an earlier run ({again}); this one is {folder}.")
    return folder


def lasting(source: str) -> str:
    """A source as it can still be found from another folder: a path in full, anything else as it is."""
    place, said = taken_apart(Path(source).expanduser())
    if not place.exists():
        return source
    return str(place.resolve()) + (f":{said}" if said else "")


def for_this_machine(recipe: Recipe, device: str) -> Recipe:
    """A recipe that was just made, with what this machine is; one from a file says itself where it was trained."""
    return replace(
        recipe,
        data=replace(recipe.data, workers=default_workers(device)),
        device=device,
        threads=torch.get_num_threads(),
        processes=int(os.environ.get("WORLD_SIZE", "1")),
    )


def refuse_other_classes(recipe: Recipe, splits: Splits) -> None:
    """Compare the classes of data, task and model before the first step.

    Raises:
        ConfigError: they differ.
    """
    classes, path = splits.train.classes, recipe.data.path
    answers = recipe.model.changes.get("classes", len(classes))
    if answers != len(classes):
        raise ConfigError(
            f"model.classes={answers}, and {path} has {many(len(classes), 'class')}. "
            f"Type --set model.classes={len(classes)}, or leave it out."
        )
    if splits.train.multi_label and not getattr(recipe.task, "multi_label", True):
        raise ConfigError(
            f"task.multi_label=false, and {path} has several labels for one {recipe.data.unit}. Leave it out."
        )
    learned = getattr(recipe.task, "classes", classes)
    if learned != classes:
        raise ConfigError(
            f"task.classes is {in_short(learned)}, and {path} has {in_short(classes)}. Leave --set task.classes out."
        )


def refuse_weighing_twice(recipe: Recipe) -> None:
    """Refuse to draw rare classes more often and to let them count more as well.

    Raises:
        ConfigError: both were asked for.
    """
    if getattr(recipe.data, "balanced", False) and getattr(recipe.task, "weights", None) is not None:
        raise ConfigError(
            "data.balanced=true and task.weights make a rare class count twice. Type --set data.balanced=false or "
            "--set task.weights=none as well."
        )


def hint_at_imbalance(recipe: Recipe, train: Dataset, say: Say) -> None:
    """Say when some classes are much rarer than others, and nothing is done about it."""
    balanced = getattr(recipe.data, "balanced", None)
    if not isinstance(recipe.task, Classify) or recipe.task.weights is not None or balanced:
        return
    if uneven := in_words_if_uneven(train, recipe.data.unit):
        ordered = balanced is not None and not train.multi_label
        often = "--set data.balanced=true shows all equally often, and " if ordered else ""
        say(f"{uneven} {often}--set task.weights=balanced lets a rare class count as much as a frequent one.")


def refuse_missing_weights(model: str, init: str | None) -> None:
    """Compare what to start from with what there is, before any picture is read; nothing is fetched.

    Raises:
        CheckpointError: no weights are published, there are none at a path, or it is no path, size or hub id.
    """
    if init is not None:
        refuse_no_model(Path(init).expanduser())
    if init == "default":
        if model in catalog.MODELS and default_checkpoint(model) is None:
            raise CheckpointError(
                f"No weights are published for {model}. Leave --init out for fresh ones, or give a folder or a hub id."
            )
    elif init is not None and not (Path(init).expanduser().exists() or init in catalog.MODELS or is_id(init)):
        raise CheckpointError(
            f"There are no weights at {init}. Give --init a folder, a file, a hub id (owner/name), or default for the "
            f"published ones."
        )


def find_models(task: Task) -> Task:
    """A task whose models, if it asks any, can be found from any folder.

    Raises:
        CheckpointError: there is no model at one of its sources.
    """

    def locate(source: str) -> str:
        refuse_no_model(Path(source).expanduser())
        if not (Path(source).expanduser().exists() or source in catalog.MODELS or is_id(source)):
            raise CheckpointError(
                f"The task {task.name} asks the model {source}, and there is none. Give a run, a folder, a name from "
                f"`vitrail models` or a hub id (owner/name)."
            )
        return lasting(source)

    return task.located(locate) if isinstance(task, NeedsModels) else task


def look_at_pictures(splits: Splits, data: str, say: Say) -> None:
    """Open every picture before the first step, and say if that is too many, and which judge that are learned from.

    Raises:
        DataError: some are no pictures; names the first.
    """
    count = len(splits.train) + len(splits.val)
    if count > MOST_OPENED:
        say(
            f"Only {MOST_OPENED:,} of the {count:,} pictures are opened before the first step. `vitrail check --data "
            f"{shlex.quote(data)}` looks at all of them."
        )
    learned = list(islice(files_of(splits.train), MOST_OPENED))
    judged = list(islice(files_of(splits.val), MOST_OPENED - len(learned)))
    broken = list(unreadable([*learned, *judged]))
    if broken:
        raise DataError(
            f"{many(len(broken), 'picture')} cannot be read. The first: {broken[0]} `vitrail check --data "
            f"{shlex.quote(data)}` lists all such files. Mend or remove them, and type the same again."
        )
    if both := in_both(learned, judged):
        here, there = map(shown, both[0])
        say(
            f"{many(len(both), 'picture')} to be judged by {'is' if len(both) == 1 else 'are'} learned from as well "
            f"({here}{'' if here == there else f' is {there}'}): the scores will be too good."
        )


@contextmanager
def broken_pictures_in_words(data: str, folder: Path | None = None) -> Iterator[None]:
    """Say of a picture that cannot be read how to find the others, and how to go on with the run in the folder.

    Raises:
        DataError: instead of what was raised.
    """
    try:
        yield
    except ImageError as error:
        begun = folder is not None and folder.exists()
        again = f"`vitrail resume {shlex.quote(str(folder))}` goes on" if begun else "type the same again"
        raise DataError(
            f"{error} `vitrail check --data {shlex.quote(data)}` lists all such files. Mend them, and {again}."
        ) from error


def announce(recipe: Recipe, splits: Splits, folder: Path, say: Say) -> None:
    """Say what is about to happen."""
    classes = splits.train.classes
    data, batches = recipe.data, recipe.accumulate * recipe.processes
    path, learn, judge = data.path.removesuffix(":"), len(splits.train), len(splits.val)
    if recipe.overfit is None:
        say(f"data     {path}: {many(learn, data.unit)} to learn from, {judge:,} to be judged by")
    else:
        say(f"data     {path}: {many(judge, data.unit)}, each {learn // judge} times in an epoch; judged by the same")
    if classes:
        several = f"; any number of them in one {data.unit}" if getattr(recipe.task, "multi_label", False) else ""
        say(f"{data.kinds:<8} {len(classes)}: {in_short(classes)}{several}")
    say(f"model    {in_words(recipe.model)}")
    step = replace(data, batch=data.batch * batches).at_once
    length = many(recipe.epochs, "epoch") if recipe.steps is None else many(recipe.steps, "step")
    say(f"recipe   {recipe.task.name}: {length}, {step} a step, seed {recipe.seed}")
    say(f"machine  {recipe.device}, {many(recipe.threads, 'thread')}, {recipe.precision}, {data.reading}")
    say(f"run      {folder} (recipe.json there says everything; --set changes any of it)")


def finish(result: RunResult, recipe: Recipe, splits: Splits, say: Say) -> None:
    """Judge the weights that are kept once more, write the report, and say what to do next."""
    if not leads():
        return
    folder = result.folder
    model = from_pretrained(folder, announce=lambda sentence: None)
    loader = replace(recipe.data, workers=0).judging(splits.val, card_of(model).preprocessing)
    with leaving_with(done_without_report(folder)):
        with fast_float32():
            report = evaluate(model, recipe.task, loader, samples=len(splits.val))
        try:
            page = write_report(
                report,
                folder,
                title=f"{folder.name}: {recipe.model.name}",
                dataset=splits.val,
                model=model,
                preprocessing=card_of(model).preprocessing,
                learned=len(splits.train),
            )
        except OSError as error:
            if not error.strerror:  # not of the system: our mistake
                raise
            what = ": ".join(filter(None, (error.filename, error.strerror)))
            raise VitrailError(f"{what}. {done_without_report(folder)}") from error
    say(", ".join(f"{name} {score_in_words(name, value)}" for name, value in report.telling.items()))
    for remark in report.remarks:
        say(remark)
    say(f"The model is in {folder}, its report in {page}.")
    if recipe.overfit is not None:
        say(learned_by_heart(folder, recipe, report))
        return
    example, run = recipe.data.example, shlex.quote(str(folder))
    asked = f"--prompt {example}" if isinstance(recipe.task, GoesOn) else f"{example} ..."
    say(f"Next: vitrail predict {run} {asked}")
    attends = any(isinstance(part, Attention) for part in model.modules())
    say(f"      vitrail explain {run} {example}{'' if attends else ' --method gradient'}")
    say(f"      vitrail evaluate {run} --data {shlex.quote(recipe.data.path)}")


def learned_by_heart(folder: Path, recipe: Recipe, report: Report) -> str:
    """Whether the trial was passed, and what to look at if it was not."""
    steps = [record for record in Log(folder).records() if "loss" in record]
    ends = (steps[0]["loss"], steps[-1]["loss"]) if steps else (0.0, 0.0)
    parts = {name.removeprefix("loss_"): part for name, part in (steps[-1] if steps else {}).items()}
    return verdict(recipe.task, report.scores, ends, parts)


def check_model(model: Any, init: Any) -> None:
    """Refuse a model in memory, before anybody takes it for a name.

    Raises:
        ConfigError: it is no name, or what it starts from is no path; says what to do.
    """
    for given in (model, init):
        if given is not None and not isinstance(given, str | os.PathLike):
            raise ConfigError(
                f"train takes models by name and weights by path, and this is a {type(given).__name__}. Write it with "
                f"save_pretrained(model, FOLDER), name its size, and give init=FOLDER."
            )


def refuse_for_words(**flags: Any) -> None:
    """Refuse what only networks have.

    Raises:
        UsageError: names the flag.
    """
    given = next((name for name, value in flags.items() if value is not None), None)
    if given is not None:
        raise UsageError(f"--{given} is for networks, and word2vec is none. Leave it out; --set has its own settings.")


def train(
    model: str,
    data: str,
    *,
    init: str | None = None,
    out: Path | str | None = None,
    epochs: int | None = None,
    batch: int | None = None,
    seed: int | None = None,
    workers: int | None = None,
    device: str | None = None,
    set: Sequence[str] = (),
    dry_run: bool = False,
    overfit: int | None = None,
    say: Say = speak,
) -> Path | None:
    """Train a model on a data set, as `vitrail train` does.

    Args:
        model: a name from `vitrail models`, the name of a recipe, or a recipe file.
        data: what `open_splits` reads.
        init: weights to start from: a folder, a run, a hub id, or `default` for the published ones.
        out: the run folder; `runs/TASK/DATA` unless given.
        epochs, batch, seed, workers: of the recipe; as it says unless given.
        device: `cpu`, `cuda`, `cuda:1` or `mps`; unless given, what a recipe file says, or the fastest there is.
        set: `path=value` for anything else in the recipe.
        dry_run: try one step of everything, say what the whole would cost, and stop.
        overfit: learn only so many samples, by heart, as a trial, and say whether that worked.
        say: told every guess.

    Returns:
        The run folder; `None` after a dry run.

    Raises:
        VitrailError: whatever is wrong, in a sentence.
    """
    check_model(model, init)
    check_path(data)
    if (words := word_recipe(model, lasting(str(data)))) is not None:
        refuse_for_words(init=init, batch=batch, workers=workers, device=device, overfit=overfit)
        told = {name: value for name, value in {"epochs": epochs, "seed": seed}.items() if value is not None}
        folder = Path(out) if out is not None else free_folder(NAME, str(data), lambda sentence: None)
        return train_words(replace(words, **told).changed(set), folder, dry_run=dry_run, say=say)
    device = None if device is None else str(usable_device(device))
    if overfit is not None and overfit < 1:
        raise UsageError(f"--overfit {overfit} would learn nothing. Type --overfit 16, for example.")
    asked = Asked(epochs=epochs, batch=batch, seed=seed, workers=workers, device=device, set=tuple(set))
    sketched = sketch(model, asked)
    refuse_missing_weights(sketched.model.name, init)
    if out is not None and leads():
        refuse_taken(Path(out))
    data = read_for(sketched.model.name if model.endswith(".json") else model, str(data), say)
    splits = open_splits(data)
    for note in splits.notes:
        say(note)
    refuse_one_class(splits.train, data)
    look_at_pictures(splits, data, say)
    init = None if init is None else lasting(init)
    with broken_pictures_in_words(data):
        recipe = choose_recipe(model, lasting(data), splits, init, sketched.model.changes, say)
    if not model.endswith(".json"):
        recipe = for_this_machine(recipe, device or str(usable_device(fastest_device())))
    if overfit is not None:
        recipe = by_heart(recipe, overfit)
    recipe = asked.put_into(recipe)
    recipe = replace(recipe, device=str(usable_device(recipe.device)), task=find_models(recipe.task))
    if recipe.model.words is not None:
        recipe = replace(recipe, model=replace(recipe.model, words=lasting(recipe.model.words)))
    refuse_other_classes(recipe, splits)
    refuse_weighing_twice(recipe)
    hint_at_imbalance(recipe, splits.train, say)
    recipe = replace(recipe, data=recipe.data.fitted(splits, recipe.model.changes, say))
    if recipe.overfit is not None:
        splits = only_few(splits, recipe)
        say(splits.notes[-1])
    folder = Path(out) if out is not None else free_folder(recipe.task.name, data, say)
    announce(recipe, splits, folder, say)
    if dry_run:
        with broken_pictures_in_words(recipe.data.path):
            try_out(recipe, splits, say)
        return None
    with broken_pictures_in_words(recipe.data.path, folder):
        result = fit(recipe, folder, observers=[Screen(say), FirstBatch(say)], splits=splits, say=say)
    finish(result, recipe, splits, say)
    return folder


def resume(run: Path | str, *, workers: int | None = None, device: str | None = None, say: Say = speak) -> Path:
    """Go on with a run, to the same bytes as if it had never been stopped.

    Args:
        run: its folder.
        workers: processes that read pictures; as before unless given. Any number ends in the same bytes.
        device: where to compute; as before unless given.
        say: told how it goes.

    Raises:
        VitrailError: whatever is wrong, in a sentence.
    """
    folder = Path(run)
    refuse_words(folder)
    recipe = recipe_of(folder)
    workers = recipe.data.workers if workers is None else workers
    recipe = replace(
        recipe, device=str(usable_device(device or recipe.device)), data=replace(recipe.data, workers=workers)
    )
    spelled = read_for(recipe.model.name, recipe.data.path, say)
    splits = splits_of(replace(recipe, data=replace(recipe.data, path=spelled)))
    done = (folder / "report.html").is_file()
    say(f"{folder} is finished: only its report is written again." if done else f"Going on with {folder}.")
    with broken_pictures_in_words(recipe.data.path, folder):
        result = fit(recipe, folder, resume=True, observers=[Screen(say)], splits=splits, say=say)
    finish(result, recipe, splits, say)
    return folder
