"""What networks answer when it is more than one tensor."""

from typing import NamedTuple, Protocol, runtime_checkable

from jaxtyping import Float, Int
from torch import Tensor


class DistilledLogits(NamedTuple):
    """The two opinions of a model that also listens to a teacher.

    Attributes:
        logits: from the class token.
        distilled: from the distillation token.

    Source: Touvron et al., "Training data-efficient image transformers", ICML 2021.
    """

    logits: Float[Tensor, "batch classes"]
    distilled: Float[Tensor, "batch classes"]


class Detections(NamedTuple):
    """What each object query has found.

    Attributes:
        logits: belief in each class, and last in there being no object.
        boxes: centre x and y, width and height, where the picture (without padding) is the unit square.

    Source: Carion et al., "End-to-End Object Detection with Transformers", ECCV 2020.
    """

    logits: Float[Tensor, "batch queries classes_and_none"]
    boxes: Float[Tensor, "batch queries 4"]


@runtime_checkable
class Paints(Protocol):
    """Masks that are painted when somebody asks for them; a tensor of all of them is asked the same way."""

    def __getitem__(
        self, where: tuple[Int[Tensor, " chosen"], Int[Tensor, " chosen"]], /
    ) -> Float[Tensor, "chosen rows columns"]:
        """The masks of some queries.

        Args:
            where: places of their pictures in the batch, and the queries.
        """
        ...

    def whole(self) -> Float[Tensor, "batch queries rows columns"]:
        """The masks of all queries."""
        ...


class Segmentations(NamedTuple):
    """What each object query has found, and where it is.

    Attributes:
        logits, boxes: as in `Detections`.
        masks: logits of each pixel belonging to the object, on a grid of a quarter of the padded picture's sides; all
            of them, or painted when asked for.
    """

    logits: Float[Tensor, "batch queries classes_and_none"]
    boxes: Float[Tensor, "batch queries 4"]
    masks: Float[Tensor, "batch queries rows columns"] | Paints
