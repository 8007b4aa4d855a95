"""From the masks of queries to segments: every pixel goes to the query that claims it most.

Source: Carion et al., "End-to-End Object Detection with Transformers", ECCV 2020, section 4.4.
Compared with the published code in tests/parity/test_panoptic.py.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from PIL import Image
from torch import Tensor

from vitrail.tasks.segmented import Segment, Segmented

Size = tuple[int, int]
THRESHOLD = 0.85  # score from which a query may have pixels
LEAST = 4  # pixels that a segment must have more than


def uncovered(
    masks: Float[Tensor, "queries rows columns"], frame: Size, size: Size, *, bleeding: bool = False
) -> Float[Tensor, "queries height width"]:
    """The logits of masks for every pixel of one picture as the model reads it, without the padding beside it.

    Args:
        masks: of the frame.
        frame: rows and columns to which the pictures of the batch were padded.
        size: rows and columns of this picture.
        bleeding: enlarge the masks of the whole frame and cut then, as the published code does. Without it they are
            cut first, so that a picture has the same masks alone and in a batch.
    """
    if not masks.shape[0]:  # which torch does not enlarge
        return masks.new_zeros(0, *size)
    if bleeding:
        whole = F.interpolate(masks[None], size=frame, mode="bilinear", align_corners=False)[0]
        return whole[:, : size[0], : size[1]]
    rows, columns = (
        math.ceil(side / math.ceil(whole / cells))
        for side, whole, cells in zip(size, frame, masks.shape[1:], strict=True)
    )
    return F.interpolate(masks[None, :, :rows, :columns], size=size, mode="bilinear", align_corners=False)[0]


def object_masks(
    logits: Float[Tensor, "queries height width"], target: Size, threshold: float = 0.5
) -> Bool[Tensor, "queries rows columns"]:
    """Which pixels of the file each query claims, by itself; a pixel can be claimed by several.

    Args:
        logits: as `uncovered` gives them.
        target: rows and columns of the file.
        threshold: belief from which a pixel is claimed.
    """
    claimed = (logits.sigmoid() > threshold).float()
    return F.interpolate(claimed[None], size=target, mode="nearest")[0].bool()


def strongest(logits: Float[Tensor, "queries height width"], target: Size, same: Int[Tensor, " queries"]) -> np.ndarray:
    """Which query each pixel of the file goes to; those that are one segment go to the first of them.

    Args:
        logits: of the queries that may have pixels.
        target: rows and columns of the file.
        same: for each query, the one that it is one segment with; its own place where it stands alone.
    """
    winners = same[logits.argmax(dim=0)].to(torch.int32).cpu().numpy()
    return np.asarray(Image.fromarray(winners).resize((target[1], target[0]), Image.Resampling.NEAREST))


def one_stuff(labels: Int[Tensor, " queries"], things: Sequence[bool]) -> Int[Tensor, " queries"]:
    """The first query of the same class where that is stuff, of which there is one segment; else the query itself."""
    first: dict[int, int] = {}
    places = [place if things[label] else first.setdefault(label, place) for place, label in enumerate(labels.tolist())]
    return torch.tensor(places, dtype=torch.int64, device=labels.device)


def merge(
    belief: Float[Tensor, "queries classes_and_none"],
    logits: Float[Tensor, "queries height width"],
    target: Size,
    *,
    classes: Sequence[str],
    things: Sequence[bool],
    class_ids: Sequence[int] = (),
    threshold: float = THRESHOLD,
) -> Segmented:
    """The segments of one picture.

    Queries that are sure of a class share the pixels among them. Those of the same stuff become one segment. Segments
    of at most four pixels of the file go, and what remains shares the pixels anew.

    Args:
        belief: of each query in each class and in there being nothing, adding up to one.
        logits: as `uncovered` gives them.
        target: rows and columns of the file.
        classes, class_ids: what the data set calls the classes.
        things: which of them are countable things; the others are stuff.
        threshold: score from which a query may have pixels.
    """
    scores, labels = belief.max(dim=-1)
    chosen = (labels != belief.shape[-1] - 1) & (scores > threshold)
    scores, labels, logits = scores[chosen], labels[chosen], logits[chosen]
    same = one_stuff(labels, things)
    numbers = np.full(target, -1, dtype=np.int32)
    while labels.shape[0]:
        numbers = strongest(logits, target, same)
        areas = np.bincount(numbers.ravel(), minlength=labels.shape[0])
        large = torch.from_numpy(areas > LEAST).to(labels.device)
        if large.all():
            break
        scores, labels, logits = scores[large], labels[large], logits[large]
        same = torch.arange(labels.shape[0], device=labels.device)  # of one stuff there is only one left
        numbers = np.full(target, -1, dtype=np.int32)
    segments = [
        Segment(place + 1, label, score)
        for place, (label, score) in enumerate(zip(labels.tolist(), scores.tolist(), strict=True))
    ]
    return Segmented(
        torch.from_numpy(numbers.astype(np.int64) + 1),
        tuple(segments),
        tuple(classes),
        tuple(things),
        tuple(class_ids),
    )
