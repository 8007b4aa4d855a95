"""Mixup and CutMix: two pictures of a batch become one, and so do their labels.

Sources: Zhang et al., "mixup: Beyond Empirical Risk Minimization", ICLR 2018; Yun et al., "CutMix: Regularization
Strategy to Train Strong Classifiers with Localizable Features", ICCV 2019. As in timm and DeiT, a batch is mixed as a
whole, by one of the two and with one share; here neighbours are mixed with each other, so that a slice of a batch can
be mixed by itself.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from vitrail.data.chance import Draw, chance
from vitrail.errors import ConfigError
from vitrail.fields import Range, check_fields, check_ranges
from vitrail.samples import Batch


@dataclass(frozen=True, kw_only=True)
class Mixing:
    """How batches are mixed.

    Attributes:
        mixup: both parameters of the beta distribution that the share is drawn from; 0 for no Mixup.
        cutmix: the same for CutMix.
        chance: that a batch is mixed at all.
        switch: chance of CutMix where both are possible.
    """

    mixup: float = 0.8
    cutmix: float = 1.0
    chance: float = 1.0
    switch: float = 0.5

    def __post_init__(self) -> None:
        check_fields(self)
        strength = Range(0, 100, usual="0.2 to 1")
        check_ranges(self, mixup=strength, cutmix=strength, chance=Range(0, 1), switch=Range(0, 1))
        if not self.mixup + self.cutmix:
            raise ConfigError("mixup=0 and cutmix=0 mix nothing. Type --set data.mixing=none for that.")

    def __call__(self, batch: Batch, classes: int, seed: tuple[int, ...]) -> Batch:
        """Mix a batch.

        Args:
            batch: with class numbers or shares as target.
            classes: how many there are.
            seed: the key of all that is drawn: seed, epoch, number of the batch.

        Returns:
            A batch whose target is always `(batch, classes)` shares.
        """
        generator = chance(Draw.MIX, *seed)
        shares = batch.target if batch.target.ndim == 2 else F.one_hot(batch.target, classes).float()
        batch = batch._replace(target=shares)
        if generator.random() >= self.chance:
            return batch
        cut = self.cutmix > 0 and (self.mixup == 0 or generator.random() < self.switch)
        alpha = self.cutmix if cut else self.mixup
        kept = float(generator.beta(alpha, alpha))
        partner = neighbours(len(shares))
        if cut:
            inputs, kept = paste(batch.inputs, partner, kept, generator)
        else:
            inputs = batch.inputs.lerp(batch.inputs[partner], 1 - kept)
        return batch._replace(inputs=inputs, target=shares.lerp(shares[partner], 1 - kept))


def neighbours(count: int) -> Tensor:
    """Whom each is mixed with: 0 with 1, 2 with 3 ... and the last of an odd number with itself."""
    return (torch.arange(count) ^ 1).clamp(max=count - 1)


def paste(
    inputs: Float[Tensor, "batch channels rows columns"], partner: Tensor, kept: float, generator: np.random.Generator
) -> tuple[Tensor, float]:
    """Put the same rectangle of each one's partner into it.

    The rectangle has the picture's proportions, an area of `1 - kept`, and its centre anywhere; what hangs over is
    cut off.

    Returns:
        The new inputs, and the share that is really kept.
    """
    rows, columns = inputs.shape[2:]
    side = math.sqrt(1 - kept)
    top, bottom = stretch(rows, side, generator)
    left, right = stretch(columns, side, generator)
    mixed = inputs.clone()
    mixed[:, :, top:bottom, left:right] = inputs[partner, :, top:bottom, left:right]
    return mixed, 1 - (bottom - top) * (right - left) / (rows * columns)


def stretch(length: int, share: float, generator: np.random.Generator) -> tuple[int, int]:
    """Where a stretch begins and ends that has a share of a length and its centre anywhere in it."""
    half, centre = int(length * share) // 2, int(generator.integers(length))
    return max(0, centre - half), min(length, centre + half)
