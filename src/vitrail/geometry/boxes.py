"""Boxes: two ways to write one, how large they are, and how much they share.

`xyxy` is left, top, right, bottom; `cxcywh` is centre x and y, width and height, as detectors answer; `xywh` is left,
top, width, height, as COCO writes it. Any unit will do: pixels, or the picture as the unit square.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def to_xyxy(cxcywh: Float[Tensor, "*boxes 4"]) -> Float[Tensor, "*boxes 4"]:
    """Corners, from centre and size."""
    centre, half = cxcywh[..., :2], cxcywh[..., 2:] / 2
    return torch.cat([centre - half, centre + half], dim=-1)


def to_cxcywh(xyxy: Float[Tensor, "*boxes 4"]) -> Float[Tensor, "*boxes 4"]:
    """Centre and size, from corners."""
    first, last = xyxy[..., :2], xyxy[..., 2:]
    return torch.cat([(first + last) / 2, last - first], dim=-1)


def area(xyxy: Float[Tensor, "*boxes 4"]) -> Float[Tensor, "*boxes"]:
    """Width times height."""
    sides = xyxy[..., 2:] - xyxy[..., :2]
    return sides[..., 0] * sides[..., 1]


def overlap(
    first: Float[Tensor, "*#boxes 4"], second: Float[Tensor, "*#boxes 4"]
) -> tuple[Float[Tensor, "*boxes"], Float[Tensor, "*boxes"]]:
    """Areas of intersection and of union, of each box with the one at the same place; corners."""
    upper_left = torch.maximum(first[..., :2], second[..., :2])
    lower_right = torch.minimum(first[..., 2:], second[..., 2:])
    sides = (lower_right - upper_left).clamp(min=0)
    shared = sides[..., 0] * sides[..., 1]
    return shared, area(first) + area(second) - shared


def share(part: Tensor, whole: Tensor) -> Tensor:
    """One divided by the other, and 0 of nothing: two boxes without area share nothing."""
    nothing = whole <= 0
    return (part / whole.masked_fill(nothing, 1)).masked_fill(nothing, 0)


def paired_generalised_iou(
    first: Float[Tensor, "*#boxes 4"], second: Float[Tensor, "*#boxes 4"]
) -> Float[Tensor, "*boxes"]:
    """As `generalised_iou`, of each box with the one at the same place only."""
    shared, union = overlap(first, second)
    upper_left = torch.minimum(first[..., :2], second[..., :2])
    lower_right = torch.maximum(first[..., 2:], second[..., 2:])
    around = area(torch.cat([upper_left, lower_right], dim=-1))
    return share(shared, union) - share(around - union, around)


def iou(first: Float[Tensor, "many 4"], second: Float[Tensor, "others 4"]) -> Float[Tensor, "many others"]:
    """Intersection over union of each box with each other, 0 to 1; corners."""
    return share(*overlap(first[:, None], second[None]))


def not_repeated(
    xyxy: Float[Tensor, "objects 4"], labels: Int[Tensor, " objects"], most: float
) -> Bool[Tensor, " objects"]:
    """Non-maximum suppression: `True` for each box that shares at most `most` with every better box of its label for
    which it is `True`; the best come first; corners.
    """
    repeats = ((iou(xyxy, xyxy) > most) & (labels[:, None] == labels)).tril(-1).cpu().numpy()
    kept = torch.ones(len(labels), dtype=torch.bool)
    so_far = kept.numpy()
    for place, better in enumerate(repeats):
        so_far[place] = not (better & so_far).any()
    return kept.to(xyxy.device)


def generalised_iou(first: Float[Tensor, "many 4"], second: Float[Tensor, "others 4"]) -> Float[Tensor, "many others"]:
    """Intersection over union, less the share of empty space in the smallest box around both: -1 to 1; corners.

    Source: Rezatofighi et al., "Generalized Intersection over Union", CVPR 2019, algorithm 1.
    """
    return paired_generalised_iou(first[:, None], second[None])
