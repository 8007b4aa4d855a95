"""A recipe: everything that decides what a run ends with, frozen, and written down beside the result."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from vitrail.data.material import MarkedPictures, Pictures, Texts
from vitrail.errors import ConfigError
from vitrail.fields import Range, check_fields, check_ranges
from vitrail.tasks.task import Task
from vitrail.train.optim import AdamW
from vitrail.train.schedules import Cosine, InverseSquareRoot

MOST_THREADS = 1024  # of one process; some ten thousand end in a segmentation fault


@dataclass(frozen=True, kw_only=True)
class ModelChoice:
    """Which network, and what its weights are at the beginning.

    Attributes:
        name: a name from `vitrail models`.
        init: where weights come from: a folder, a run, a hub id, or `default` for the published ones; `None`
            draws fresh ones from the seed.
        format: whose names a bare file of weights has, where `init` is one.
        missing: names of tensors, with `*`, that `init` may lack and start fresh, or hold in vain.
        words: word vectors that the word embedding of fresh weights begins with: a run of word2vec, or a file.
        changes: fields of the model's configuration that differ from the published ones.
    """

    name: str
    init: str | None = None
    format: str | None = None
    missing: tuple[str, ...] = ()
    words: str | None = None
    changes: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_fields(self)
        if self.words is not None and self.init is not None:
            raise ConfigError(
                f"model.words={self.words} is for fresh weights, and {self.init} has a word embedding. Leave one out."
            )


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A complete experiment.

    Attributes:
        model, task, data, optimiser, schedule: its parts.
        epochs: how often every picture is seen.
        steps: ends the run earlier or later than `epochs` would.
        seed: of weights, order, augmentation and dropout.
        keep: the weights that validation found `best`, of equally good ones the latest; or the `last`.
        ema: decay of a moving average of the weights, which is then what is judged and kept; `None` for none.
        average_last: judge and keep the mean of the weights after each of so many epochs, the last ones; `None` for the
            weights as they are. Not both this and `ema`.
        judge_every: epochs from one judgement by the validation data to the next; the end is always judged.
        overfit: learn so many samples by heart, as a trial; `None` learns from all.
        patience: stop after so many epochs without getting better; `None` for never.
        probe: linear probe: only the head learns.
        freeze: names of parameters that stay as they are, with `*` for anything.
        clip: how long the gradient may be; `None` for any length.
        accumulate: how many batches make a step.
        checkpointing: compute activations twice instead of keeping them: less memory, a third more time.
        precision: of the products in forward and backward; weights stay float32.
        device: `cpu`, `cuda`, `cuda:1` or `mps`.
        threads: of the processor; another number gives other last digits, so a run keeps its own.
        processes: how many shared the work when the run began; fewer or more later take the same steps.
        save_every: seconds between checkpoints.
    """

    model: ModelChoice
    task: Task
    data: Pictures | MarkedPictures | Texts
    optimiser: AdamW = field(default_factory=AdamW)
    schedule: Cosine | InverseSquareRoot = field(default_factory=Cosine)
    epochs: int = 10
    steps: int | None = None
    seed: int = 0
    keep: Literal["best", "last"] = "best"
    ema: float | None = None
    average_last: int | None = None
    judge_every: int = 1
    overfit: int | None = None
    patience: int | None = None
    probe: bool = False
    freeze: tuple[str, ...] = ()
    clip: float | None = 1.0
    accumulate: int = 1
    checkpointing: bool = False
    precision: Literal["float32", "bfloat16"] = "float32"
    device: str = "cpu"
    threads: int = 1
    processes: int = 1
    save_every: float = 60.0

    def __post_init__(self) -> None:
        check_fields(self)
        check_ranges(
            self,
            epochs=Range(1),
            steps=Range(1),
            ema=Range(0, 1, below=True, usual="0.99 to 0.9999, or none for no average"),
            average_last=Range(2, 1000, usual="5, or none for the weights as they are"),
            judge_every=Range(1, 100_000, usual="1, or 5 where judging takes as long as learning"),
            overfit=Range(1, 1000, usual="16, or none to learn from all"),
            patience=Range(1, usual="3 to 10, or none to go on to the end"),
            clip=Range(0, above=True, usual="1, or none for a gradient of any length"),
            accumulate=Range(1),
            threads=Range(1, MOST_THREADS, usual="as many as the processor has cores"),
            processes=Range(1),
            save_every=Range(0, usual="60, in seconds"),
        )
        if self.ema is not None and self.average_last is not None:
            raise ConfigError(
                f"ema={self.ema} and average_last={self.average_last} are two ways to average weights. Type "
                f"--set ema=none or --set average_last=none as well."
            )
