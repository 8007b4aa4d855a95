"""What networks answer when it is more than one tensor."""

from typing import NamedTuple

from jaxtyping import Float
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


class Segmentations(NamedTuple):
    """What each object query has found, and where it is.

    Attributes:
        logits, boxes: as in `Detections`.
        masks: logits of each pixel belonging to the object, on a grid of a quarter of the padded picture's sides.
    """

    logits: Float[Tensor, "batch queries classes_and_none"]
    boxes: Float[Tensor, "batch queries 4"]
    masks: Float[Tensor, "batch queries rows columns"]
