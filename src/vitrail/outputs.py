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
