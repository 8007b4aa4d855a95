"""What goes wrong in the middle of training, said so that a person can act on it."""

import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from vitrail.errors import TrainingError
from vitrail.samples import Batch
from vitrail.tasks.task import Loss, Task
from vitrail.train.recipe import Recipe
from vitrail.train.run import Run
from vitrail.weights.files import write_json

NAMED = 8  # files of a bad batch that fit in a sentence; the rest goes to a file
NO_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")


@contextmanager
def memory_in_words(recipe: Recipe) -> Iterator[None]:
    """Turn running out of memory into advice.

    Raises:
        TrainingError: what to make smaller.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:  # torch.OutOfMemoryError is a RuntimeError
        if isinstance(error, RuntimeError) and not any(words in str(error).lower() for words in NO_MEMORY):
            raise
        batch = recipe.data.batch
        advice = [] if batch == 1 else [f"--batch {batch // 2} --set accumulate={2 * recipe.accumulate}"]
        if not recipe.checkpointing:
            advice.append("--set checkpointing=true (same result, a third slower)")
        if recipe.precision == "float32":
            advice.append("--set precision=bfloat16")
        advice.append("a smaller model or --set model.image=")
        foretold = f" {error}" if isinstance(error, MemoryError) and str(error) else ""
        raise TrainingError(
            f"There is not enough memory on {recipe.device} for batches of {batch} with {recipe.model.name}.{foretold} "
            f"Try, in this order: {'; '.join(advice)}."
        ) from error


def first_nonfinite_output(model: nn.Module, task: Task, batch: Batch) -> str | None:
    """The name of the first module, in the order of computing, that answers with a NaN or an infinity."""
    found: list[str] = []

    def watch(name: str) -> Callable:
        def look(module: nn.Module, arguments: tuple, output: object) -> None:
            if isinstance(output, Tensor) and not output.isfinite().all():
                found.append(name)

        return look

    leaves = [(name, part) for name, part in model.named_modules() if not list(part.children())]
    hooks = [part.register_forward_hook(watch(name)) for name, part in leaves]
    try:
        with torch.no_grad():
            task.loss(model, batch)
    finally:
        for hook in hooks:
            hook.remove()
    return found[0] if found else None


def where_it_began(model: nn.Module, task: Task, batch: Batch) -> str:
    """The place at which numbers stop being numbers, in words."""
    if isinstance(batch.inputs, Tensor) and not batch.inputs.isfinite().all():
        return "The pixels themselves are not finite"
    if isinstance(batch.target, Tensor) and not batch.target.isfinite().all():
        return "The target itself is not finite"
    module = first_nonfinite_output(model, task, batch)
    if module is not None:
        return f"It begins in {module}"
    for name, parameter in reversed(list(model.named_parameters())):
        if parameter.grad is not None and not parameter.grad.isfinite().all():
            return f"The outputs are finite; it begins in the gradient of {name}"
    return "The outputs are finite; it begins in the loss"


def refuse_nonfinite(run: Run, batches: Sequence[Batch], losses: Sequence[Loss], norm: float) -> None:
    """Stop before a loss or a gradient that is no number reaches the weights.

    Args:
        run: before this step is taken.
        batches: of this step, in this process.
        losses: of each of them.
        norm: of the gradient, of all processes together.

    Raises:
        TrainingError: names the pictures of the batch.
    """
    values = [float(loss.total.detach()) for loss in losses]
    if math.isfinite(norm) and all(map(math.isfinite, values)):
        return
    guilty = next((place for place, value in enumerate(values) if not math.isfinite(value)), 0)
    if guilty >= len(batches):
        raise TrainingError(f"At step {run.step + 1} another process met a number that is not finite.")
    batch, loss = batches[guilty], values[guilty]
    what = f"gradient has a length of {norm}" if math.isfinite(loss) else f"loss is {loss}"
    files = [run.loader.describe(index) for index in batch.index.tolist()]
    listing = run.folder / ("bad-batch.json" if run.team.leads else f"bad-batch-{run.team.rank}.json")
    write_json(listing, {"step": run.step + 1, "files": files})
    shown = ", ".join(os.path.basename(file) for file in files[:NAMED])
    more = f" and {len(files) - NAMED} more" if len(files) > NAMED else ""
    exact = "" if run.recipe.precision == "float32" else " or with --set precision=float32"
    where = where_it_began(run.model, run.task, batch)
    raise TrainingError(
        f"At step {run.step + 1} the {what}. {where}. The batch: {shown}{more}; paths in "
        f"{listing}. The weights were not touched and the last checkpoint is kept. Look at these "
        f"{run.recipe.data.unit}s, or train again with a lower --set optimiser.rate={exact}."
    )
