"""Learn classes from their labels and from a teacher who sees the same pictures.

Source: Touvron et al., "Training data-efficient image transformers & distillation through attention", ICML 2021,
section 4. The paper's lambda and tau are `trust` and `temperature`; its Z_s, Z_t are the logits of student and
teacher.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from vitrail.errors import ConfigError, many
from vitrail.fields import Range, check_ranges
from vitrail.samples import Batch
from vitrail.tasks.classify import Classify, has_teachers_head
from vitrail.tasks.task import Loss

DEAF = (
    "This model has nothing that listens to a teacher. Train one that has, such as deit-tiny-distilled-16 or "
    "--set model.distillation_token=true --set model.distillation_head=true, or leave --set task.teacher out."
)


def hard_distillation(student: Float[Tensor, "batch classes"], teacher: Float[Tensor, "batch classes"]) -> Tensor:
    """Cross-entropy with the class that the teacher would choose (eq. 3, second term)."""
    return F.cross_entropy(student.float(), teacher.argmax(dim=1))


def soft_distillation(
    student: Float[Tensor, "batch classes"], teacher: Float[Tensor, "batch classes"], temperature: float
) -> Tensor:
    """The divergence from the teacher's softened beliefs (eq. 2, second term).

    Divided by samples times classes: the paper's equation leaves the mean open, and its code, which reached the
    published scores, does so.
    """
    divergence = F.kl_div(
        (student.float() / temperature).log_softmax(dim=1),
        (teacher.float() / temperature).log_softmax(dim=1),
        reduction="sum",
        log_target=True,
    )
    return divergence * temperature**2 / student.numel()


@dataclass(frozen=True, kw_only=True)
class Distil(Classify):
    """Classification with a teacher, for models that have a distillation token.

    The class token listens to the labels, the distillation token to the teacher.

    Attributes:
        teacher: where the teacher comes from: a folder, a run, a name or a hub id.
        how: `hard` follows the teacher's choice, `soft` all its beliefs.
        trust: how much the teacher counts, 0 to 1; the labels count for the rest.
        temperature: by which beliefs are softened before they are compared; only for `soft`.
        network: the teacher itself, once `bind` has fetched it.
    """

    teacher: str
    how: Literal["hard", "soft"] = "hard"
    trust: float = 0.5
    temperature: float = 1.0
    network: Callable[[Tensor], Tensor] | None = field(default=None, repr=False, compare=False)

    name = "distil"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.multi_label:
            raise ConfigError(
                "A teacher chooses one class for each picture, and these pictures can have several labels. Leave "
                "--set task.teacher out."
            )
        check_ranges(
            self,
            trust=Range(0, 1, usual="0.5; 0 learns from the labels only and 1 from the teacher only"),
            temperature=Range(0, 100, above=True, usual="1 to 4"),
        )
        if not self.teacher.strip():
            raise ConfigError("teacher is empty. Type --set task.teacher=RUN, with a run or a folder of a model.")

    def located(self, locate: Callable[[str], str]) -> "Distil":
        """The same task with its teacher as `locate` gives it."""
        return replace(self, teacher=locate(self.teacher))

    def remarks(self, model: nn.Module) -> list[str]:
        """Nothing: the teacher's head has its teacher."""
        return []

    def bind(self, load: Callable[[str], nn.Module], student: nn.Module) -> "Distil":
        """Fetch the teacher, and see to it that it reads what the student reads and means the same classes.

        Raises:
            ConfigError: the teacher knows other classes or reads other channels, or nothing listens to it.
        """
        if not has_teachers_head(student):
            raise ConfigError(DEAF)
        teacher = load(self.teacher)
        teacher.requires_grad_(False)
        return replace(self, network=Teacher(teacher, student, self.classes))

    def loss(self, model: nn.Module, batch: Batch, generator: torch.Generator | None = None) -> Loss:
        if self.network is None:
            raise ConfigError("The teacher is not there yet: training calls `bind` first, and so must you.")
        if not has_teachers_head(model):
            raise ConfigError(DEAF)
        opinions = model.opinions(batch.inputs)
        with torch.no_grad():
            taught = self.network(batch.inputs)
        labels = self.compare(opinions.logits, batch.target)
        if self.how == "hard":
            teacher = hard_distillation(opinions.distilled, taught)
        else:
            teacher = soft_distillation(opinions.distilled, taught, self.temperature)
        total = (1 - self.trust) * labels + self.trust * teacher
        return Loss(total, {"labels": labels.detach(), "teacher": teacher.detach()})


class Teacher:
    """A trained classifier that reads the student's inputs and answers in the student's order of classes.

    Not a module, so that no optimiser, average or checkpoint takes it for part of the student.
    """

    def __init__(self, network: Any, student: Any, classes: tuple[str, ...]) -> None:
        card = network.card
        if card.multi_label:
            raise ConfigError("The teacher gives several labels to a picture, and should choose one. Train another.")
        if card.preprocessing.channels != student.card.preprocessing.channels:
            raise ConfigError(
                f"The teacher reads {many(card.preprocessing.channels, 'channel')} and the student "
                f"{many(student.card.preprocessing.channels, 'channel')}. Give both the same: --set model.channels="
                f"{card.preprocessing.channels}, for example."
            )
        known = list(card.labels)
        strangers = [label for label in classes if label not in known]
        if strangers:
            several = " ..." if len(known) > 5 else ""
            knows = f"It knows {', '.join(map(repr, known[:5]))}{several}." if known else "Its card names no classes."
            raise ConfigError(
                f"The teacher does not know the class {strangers[0]!r}. {knows} Train it on the same classes first."
            )
        self.network = network
        self.order = torch.tensor([known.index(label) for label in classes])
        self.theirs, self.ours = card.preprocessing, student.card.preprocessing

    def __call__(self, inputs: Float[Tensor, "batch channels rows columns"]) -> Float[Tensor, "batch classes"]:
        self.network.to(inputs.device)
        return self.network(self.translate(inputs))[:, self.order.to(inputs.device)]

    def translate(self, inputs: Float[Tensor, "batch channels rows columns"]) -> Tensor:
        """From the student's normalisation and size to the teacher's."""
        if (self.ours.mean, self.ours.std) != (self.theirs.mean, self.theirs.std):
            pixels = inputs * column(self.ours.std, inputs) + column(self.ours.mean, inputs)
            inputs = (pixels - column(self.theirs.mean, inputs)) / column(self.theirs.std, inputs)
        if tuple(inputs.shape[2:]) != tuple(self.theirs.size):
            inputs = F.interpolate(inputs, size=self.theirs.size, mode="bicubic", antialias=True)
        return inputs


def column(values: tuple[float, ...], like: Tensor) -> Float[Tensor, "1 channels 1 1"]:
    """One number for each channel, shaped to meet pictures."""
    return like.new_tensor(values)[None, :, None, None]
