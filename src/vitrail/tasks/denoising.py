"""Query denoising: in training a detector is also asked from points near each object, whose answer is known at once.

Matching changes from step to step while nothing is known yet, and few queries have an object at all. Points that are
put near an object always have that one, so that every layer learns from the first step on what a box is. They are told
a class, mostly the right one, and stand in groups of one point for each object; no group sees another one, nor the
queries. In prediction there are none.

Source: Li et al., "DN-DETR: Accelerate DETR Training by Introducing Query DeNoising", CVPR 2022. Queries are points
here, so points are moved, and sizes are not told; nothing is learned for this alone.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from vitrail.core.precision import detailed
from vitrail.outputs import Detections
from vitrail.samples import AskedPoints, Targets
from vitrail.tasks.matching import Matches
from vitrail.tasks.set_loss import SetWeights, learned, weighed

WRONG = 0.2  # chance that the class that is told is drawn from all
MOST = 200  # points for each picture of a batch: of more, there are fewer groups, and at least one
NOISE = 0.4  # of a side of the box: how far from its middle a point is put at most, to either side


class Noised(NamedTuple):
    """Points near objects, and which object each is of.

    Attributes:
        asked: the points, group by group. Where a picture has fewer objects than another of its batch, the rest of a
            group lie anywhere, and are to find nothing.
        matches: which point is of which object, the same in every layer.
    """

    asked: AskedPoints
    matches: Matches


def noised(targets: Sequence[Targets], classes: int, groups: int, generator: torch.Generator | None = None) -> Noised:
    """Put a point near each object of some pictures, `groups` times.

    Args:
        targets: of each picture.
        classes: how many there are.
        groups: points for each object; fewer where a picture has very many.
        generator: of chance, on any device; torch's own unless given.
    """
    device, counts = targets[0].boxes.device, [target.labels.shape[0] for target in targets]
    most = max(*counts, 1)
    groups = max(min(groups, MOST // most), 1)
    shape = (len(targets), groups, most)

    def drawn(*shape: int) -> Tensor:
        """Numbers from 0 to 1."""
        where = device if generator is None else generator.device
        return torch.rand(shape, generator=generator, device=where).to(device)

    padding = Targets(torch.zeros(most, dtype=torch.int64, device=device), torch.zeros(most, 4, device=device))
    labels, boxes = (
        pad_sequence([getattr(target, name) for target in (*targets, padding)], batch_first=True)[:-1, None]
        for name in ("labels", "boxes")
    )
    real = (torch.arange(most, device=device) < torch.tensor(counts, device=device)[:, None])[:, None]
    moved = boxes[..., :2] + NOISE * boxes[..., 2:] * (2 * drawn(*shape, 2) - 1)
    points = torch.where(real[..., None], moved.clamp(0, 1), drawn(*shape, 2))
    right = real & (drawn(*shape) >= WRONG)
    told = torch.where(right, labels, (drawn(*shape) * classes).long().clamp(max=classes - 1))

    each = [(b, place, g) for b, count in enumerate(counts) for g in range(groups) for place in range(count)]
    picture, place, group = torch.tensor(each, dtype=torch.int64, device=device).reshape(-1, 3).unbind(1)
    first = torch.tensor([0, *counts], device=device).cumsum(0)
    query, target = group * most + place, first[picture] + place
    matches = Matches(picture, query[None], target[None], unmatched=0)
    return Noised(AskedPoints(points.flatten(1, 2), told.flatten(1, 2), (most,) * groups), matches)


def denoising_loss(
    layers: Sequence[Detections], matches: Matches, targets: Sequence[Targets], weights: SetWeights
) -> Float[Tensor, ""]:
    """What the answers from noised points are worth: the parts of the set loss, the mean over all points of objects."""
    logits = detailed(torch.stack([layer.logits for layer in layers]))
    boxes = detailed(torch.stack([layer.boxes for layer in layers]))
    where, objects = logits.device, matches.picture.shape[0]
    matches = Matches(matches.picture.to(where), matches.query.to(where), matches.target.to(where), unmatched=0)
    others = logits.shape[1] * logits.shape[2] - objects
    parts = learned(
        logits,
        boxes,
        targets,
        matches,
        no_object=weights.no_object,
        divisor=max(objects, 1),
        class_divisor=objects + weights.no_object * others,
    )
    return weighed(parts, weights)
