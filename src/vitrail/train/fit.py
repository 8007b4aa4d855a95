"""Training: fetch, loss, backward, step, after_step, observe."""

import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from vitrail.data.dataset import Splits
from vitrail.errors import many
from vitrail.tasks.task import weight_of
from vitrail.train.checkpoint import Checkpoints
from vitrail.train.distributed import Team
from vitrail.train.guards import memory_in_words, refuse_nonfinite
from vitrail.train.lock import claimed
from vitrail.train.observers import Keeping, Log, Observer, Saving, Watch, taken_step, watching
from vitrail.train.optim import clip, gradient_norm
from vitrail.train.recipe import Recipe
from vitrail.train.run import Run
from vitrail.train.sameness import numerics
from vitrail.train.signals import Interrupted, Stopping


class RunResult(NamedTuple):
    """What a run ended with.

    Attributes:
        folder: where everything is; it can be loaded as a model.
        steps: how many were taken.
        scores: of the weights that are kept, on the validation data.
    """

    folder: Path
    steps: int
    scores: dict[str, float]


def done_without_report(folder: Path) -> str:
    """What somebody should know who stops a run after its last step."""
    return f"Training is done and the model is in {folder}. Its report is missing: `{typed_again(folder)}` writes it."


def typed_again(folder: Path) -> str:
    """What somebody types who goes on with a run."""
    return shlex.join(["vitrail", "resume", str(folder)])


@contextmanager
def opened(
    recipe: Recipe,
    out: Path,
    *,
    resume: bool,
    observers: Sequence[Observer],
    splits: Splits | None,
    say: Callable[[str], None],
) -> Iterator[tuple[Run, Watch]]:
    """A run and those who watch it, for as long as its folder is ours.

    Raises:
        Interrupted: at the end, when somebody asked to stop on the way.
    """
    with ExitStack() as stack:
        team = stack.enter_context(Team.assemble(recipe.device))
        out = Path(team.told_text(str(out)))
        if team.leads:
            stack.enter_context(claimed(out, recipe, resume=resume))
        stopping = stack.enter_context(Stopping())
        stack.enter_context(numerics(recipe))
        stack.enter_context(memory_in_words(recipe))
        checkpoints = Checkpoints(out / "checkpoints", say=say)
        run = Run(
            recipe,
            out,
            team,
            stopping,
            saved=checkpoints.newest() if resume else None,  # without a name here: it is let go once it is read
            splits=splits,
            say=say,
        )
        always = [Log(out), Saving(checkpoints, recipe.save_every), Keeping()]
        with watching(run, [*observers, *always]) as watch:
            yield run, watch
        if run.stopped:
            raise Interrupted(
                run.stopped,
                f"Stopped after step {run.step} of {run.steps}, and saved. `{typed_again(out)}` goes on.",
            )
        if stopping.asked is not None:  # after the last step
            raise Interrupted(stopping.asked, done_without_report(out))


def fit(
    recipe: Recipe,
    out: Path,
    *,
    resume: bool = False,
    observers: Sequence[Observer] = (),
    splits: Splits | None = None,
    say: Callable[[str], None] = print,
) -> RunResult:
    """Train a model, from the beginning or from its last checkpoint, to the same bytes.

    Args:
        recipe: what to do.
        out: the folder of the run.
        resume: go on with the run that is there, if there is one.
        observers: who else is told how it goes.
        splits: the data; opened from the recipe unless given.
        say: told what was guessed or noticed.

    Raises:
        Interrupted: Ctrl-C or SIGTERM; everything is saved.
        TrainingError: a loss that is no number, no memory, a full disk, a folder in use.
    """
    with opened(recipe, out, resume=resume, observers=observers, splits=splits, say=say) as (run, watch):
        model, task, optimiser, team = run.model, run.task, run.optimiser, run.team
        while run.goes_on():
            if run.due:
                if run.judge():
                    watch.judged(run)
                continue

            batches = run.fetch()  # and the seed and the learning rate of this step
            samples = team.sum(sum(batch.index.shape[0] for batch in batches))
            whole = team.sum(sum(weight_of(task, batch) for batch in batches))
            losses = []
            for batch in batches:
                with run.autocast():
                    loss = task.loss(model, batch, run.generator)
                share = weight_of(task, batch) / whole  # a short batch, or a process with less to do, counts less
                (loss.total * share).backward()
                losses.append(loss)
            team.sum_gradients(model)

            norm = gradient_norm(model)
            refuse_nonfinite(run, batches, losses, norm)
            clip(model, norm, recipe.clip)
            optimiser.step()
            optimiser.zero_grad()
            task.after_step(model, run.step)
            taken = taken_step(run, batches, losses, norm, samples, whole)
            run.advance()  # counts the step, and moves the average of the weights
            watch.stepped(run, taken)
        if run.hopeless and run.step < run.steps and team.leads:
            say(
                f"Stopped after epoch {run.epoch} of {run.epochs}: {task.best[0]} has not become better for "
                f"{many(run.fruitless, 'epoch')} (patience)."
            )
    return RunResult(run.folder, run.step, run.kept_scores)
