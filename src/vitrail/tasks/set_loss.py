"""Detection as a set: each object is answered for by one query, and every other query has to say that it found none.

Source: Carion et al., "End-to-End Object Detection with Transformers", ECCV 2020, section 3.1 and appendix A.2; masks
as in section 4.4. Compared with the published code in tests/parity/test_set_loss.py.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from vitrail.core.precision import detailed
from vitrail.errors import ConfigError
from vitrail.fields import Range, check_fields, check_ranges
from vitrail.geometry.boxes import paired_generalised_iou, to_xyxy
from vitrail.outputs import Detections, Paints, Segmentations
from vitrail.samples import Targets
from vitrail.tasks.matching import MatchCosts, Matches, match


@dataclass(frozen=True, kw_only=True, slots=True)
class SetWeights:
    """How much each part of the loss counts. The defaults are the paper's.

    Attributes:
        classes: of naming the class.
        boxes: of the distance of the boxes.
        giou: of what they do not share.
        focal, dice: of the masks.
        no_object: how much a query that has nothing to find counts in naming the class, beside one that has.
        costs: by which queries are matched with objects.
    """

    classes: float = 1.0
    boxes: float = 5.0
    giou: float = 2.0
    focal: float = 1.0
    dice: float = 1.0
    no_object: float = 0.1
    costs: MatchCosts = field(default_factory=MatchCosts)

    def __post_init__(self) -> None:
        check_fields(self)
        parts = dict.fromkeys(("classes", "boxes", "giou", "focal", "dice"), Range(0))
        check_ranges(self, "weights.", no_object=Range(0, above=True, usual="0.1"), **parts)


class SetLoss(NamedTuple):
    """What a set of answers is worth.

    Attributes:
        total: of all decoder layers, weighed: what training makes smaller.
        parts: of the last layer, by name and not weighed, without gradients. `classes`: naming the class; `boxes`:
            distance of the boxes; `giou`: what they do not share; `focal` and `dice`: the masks, where there are
            some; `cardinality`: by how many objects the number of answers is wrong, on average; `class_error`: share
            of objects whose query names another class; `unmatched`: objects without a query.
        auxiliary: the same of the earlier layers, first to last.
        matches: which query answers for which object, in each layer.
    """

    total: Float[Tensor, ""]
    parts: dict[str, Tensor]
    auxiliary: tuple[dict[str, Tensor], ...]
    matches: Matches


def sigmoid_focal(
    logits: Float[Tensor, "objects points"],
    truth: Float[Tensor, "objects points"],
    *,
    alpha: float | None = 0.25,
    gamma: float = 2.0,
) -> Float[Tensor, " objects"]:
    """Binary cross-entropy in which what is easy hardly counts; the mean over the points of each object.

    Args:
        alpha: share of the weight for points that belong to the object; `None` weighs both alike.
        gamma: how fast weight falls with belief.

    Source: Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017, eq. 5.
    """
    belief = logits.sigmoid()
    right = belief * truth + (1 - belief) * (1 - truth)
    loss = F.binary_cross_entropy_with_logits(logits, truth, reduction="none") * (1 - right) ** gamma
    if alpha is not None:
        loss = loss * (alpha * truth + (1 - alpha) * (1 - truth))
    return loss.mean(dim=1)


def dice(logits: Float[Tensor, "objects points"], truth: Float[Tensor, "objects points"]) -> Float[Tensor, " objects"]:
    """One minus twice what belief and truth share, over what both cover; one is added to both.

    Source: Milletari et al., "V-Net", 3DV 2016, eq. 3.
    """
    belief = logits.sigmoid()
    return 1 - (2 * (belief * truth).sum(dim=1) + 1) / (belief.sum(dim=1) + truth.sum(dim=1) + 1)


def class_weight(targets: Sequence[Targets], queries: int, no_object: float) -> float:
    """What all queries of some pictures together count in naming the class."""
    matched = sum(min(target.labels.shape[0], queries) for target in targets)
    return matched + no_object * (len(targets) * queries - matched)


def framed(targets: Sequence[Targets], frame: tuple[int, int] | None) -> Float[Tensor, "objects height width"]:
    """All masks in the same frame, in the upper left corner; the smallest that holds them unless one is given."""
    masks = []
    for place, target in enumerate(targets):
        if target.masks is None:
            raise ConfigError(
                f"Picture {place} of the batch has no masks, and the model answers with masks. Train a detector "
                f"(`vitrail models`) on data that has only boxes."
            )
        masks.append(target.masks)
    rows, columns = frame or (max(mask.shape[1] for mask in masks), max(mask.shape[2] for mask in masks))
    return torch.cat([F.pad(mask, (0, columns - mask.shape[2], 0, rows - mask.shape[1])) for mask in masks]).float()


def answered(x: Float[Tensor, "layers batch queries *rest"], matches: Matches) -> Float[Tensor, "layers matched *rest"]:
    """What the matched queries of each layer say."""
    layer = torch.arange(x.shape[0], device=x.device)[:, None]
    return x[layer, matches.picture, matches.query]


def class_losses(
    logits: Float[Tensor, "layers batch queries classes_and_none"],
    labels: Int[Tensor, " objects"],
    matches: Matches,
    no_object: float,
    divisor: float,
) -> Float[Tensor, " layers"]:
    """Cross-entropy of each query with the class of its object, or with there being none."""
    none = logits.shape[-1] - 1
    layer = torch.arange(logits.shape[0], device=logits.device)[:, None]
    truth = labels.new_full(logits.shape[:3], none)
    truth[layer, matches.picture, matches.query] = labels[matches.target]
    weights = logits.new_ones(none + 1)
    weights[none] = no_object
    surprise = F.cross_entropy(logits.flatten(0, 2), truth.flatten(), weights, reduction="none")
    return surprise.unflatten(0, logits.shape[:3]).sum(dim=(1, 2)) / divisor


def box_losses(
    boxes: Float[Tensor, "layers batch queries 4"], wanted: Float[Tensor, "objects 4"], matches: Matches, divisor: float
) -> dict[str, Float[Tensor, " layers"]]:
    """How far boxes are from those of their objects, and what they do not share."""
    said, truth = answered(boxes, matches), wanted[matches.target]
    return {
        "boxes": (said - truth).abs().sum(dim=(1, 2)) / divisor,
        "giou": (1 - paired_generalised_iou(to_xyxy(said), to_xyxy(truth))).sum(dim=1) / divisor,
    }


def mask_losses(
    masks: Float[Tensor, "batch queries rows columns"] | Paints,
    wanted: Float[Tensor, "objects height width"],
    matches: Matches,
    divisor: float,
) -> dict[str, Float[Tensor, ""]]:
    """How far masks are from those of their objects, after they are enlarged to the frame of the pictures."""
    said = detailed(masks[matches.picture, matches.query[-1]])
    said = F.interpolate(said[:, None], size=wanted.shape[1:], mode="bilinear", align_corners=False)[:, 0].flatten(1)
    truth = wanted[matches.target[-1]].flatten(1).to(said)
    return {"focal": sigmoid_focal(said, truth).sum() / divisor, "dice": dice(said, truth).sum() / divisor}


@torch.no_grad()
def count_losses(
    logits: Float[Tensor, "layers batch queries classes_and_none"],
    labels: Int[Tensor, " objects"],
    present: Float[Tensor, " batch"],
    matches: Matches,
) -> dict[str, Float[Tensor, " layers"]]:
    """What is shown and not learned from: how far the number of answers is off, and how many names are wrong."""
    said = logits.argmax(dim=-1)
    found = (said != logits.shape[-1] - 1).sum(dim=2)
    layer = torch.arange(logits.shape[0], device=logits.device)[:, None]
    wrong = said[layer, matches.picture, matches.query] != labels[matches.target]
    return {
        "cardinality": (found - present).abs().mean(dim=1),
        "class_error": wrong.to(logits).sum(dim=1) / max(wrong.shape[1], 1),
    }


def check_labels(targets: Sequence[Targets], classes: int) -> None:
    """Refuse a class that the model does not have.

    Raises:
        ConfigError: says which, and how many it has.
    """
    for place, target in enumerate(targets):
        outside = target.labels[(target.labels < 0) | (target.labels >= classes)]
        if outside.numel():
            raise ConfigError(
                f"Picture {place} of the batch has an object of class {int(outside[0])}, and the model has classes 0 "
                f"to {classes - 1}. `create_model(..., classes={int(outside[0]) + 1})` makes one that fits."
            )


def learned(
    logits: Float[Tensor, "layers batch queries classes_and_none"],
    boxes: Float[Tensor, "layers batch queries 4"],
    targets: Sequence[Targets],
    matches: Matches,
    *,
    no_object: float,
    divisor: float,
    class_divisor: float,
) -> dict[str, Float[Tensor, " layers"]]:
    """What answers are worth, part by part, once it is known which query answers for which object."""
    labels = torch.cat([target.labels for target in targets]).to(logits.device)
    wanted = torch.cat([target.boxes for target in targets]).to(boxes)
    naming = class_losses(logits, labels, matches, no_object, class_divisor)
    return {"classes": naming, **box_losses(boxes, wanted, matches, divisor)}


def weighed(parts: Mapping[str, Float[Tensor, " layers"]], weights: SetWeights) -> Float[Tensor, ""]:
    """The parts of all layers as one number."""
    return torch.stack([getattr(weights, name) * loss.sum() for name, loss in parts.items()]).sum()


def set_loss(
    layers: Sequence[Detections | Segmentations],
    targets: Sequence[Targets],
    weights: SetWeights | None = None,
    *,
    count: float | None = None,
    class_count: float | None = None,
    frame: tuple[int, int] | None = None,
) -> SetLoss:
    """How far sets of answers are from the objects that are there.

    The order of the queries does not matter, nor that of the objects.

    Args:
        layers: answers of all decoder layers, of which the last is the model's; masks count in that one only.
        targets: of each picture; there may be none in some, or in all.
        weights: of the parts; the paper's unless given.
        count: by how many objects the losses of boxes and masks are divided: those of this batch unless given, and
            at least 1. Several processes, or a batch that is split, divide by the mean of theirs.
        class_count: by what the loss of the classes is divided: `class_weight` of this batch unless given.
        frame: rows and columns to which the pictures of the batch were padded, for masks.

    Raises:
        TrainingError: boxes or logits that are not finite.
        ConfigError: a class that the model does not have; masks that are missing.
    """
    weights = weights or SetWeights()
    logits = detailed(torch.stack([layer.logits for layer in layers]))
    boxes = detailed(torch.stack([layer.boxes for layer in layers]))
    queries, classes = logits.shape[2], logits.shape[3] - 1
    check_labels(targets, classes)
    labels = torch.cat([target.labels for target in targets]).to(logits.device)
    present = boxes.new_tensor([target.labels.shape[0] for target in targets])
    matches = match(logits, boxes, targets, weights.costs)
    divisor = max(labels.shape[0] if count is None else count, 1)
    class_divisor = class_weight(targets, queries, weights.no_object) if class_count is None else class_count

    known = {"no_object": weights.no_object, "divisor": divisor, "class_divisor": class_divisor}
    found = learned(logits, boxes, targets, matches, **known)
    shown = count_losses(logits, labels, present, matches)
    total = weighed(found, weights)
    parts = [{name: loss[layer].detach() for name, loss in (found | shown).items()} for layer in range(len(layers))]
    if isinstance(layers[-1], Segmentations):
        masks = mask_losses(layers[-1].masks, framed(targets, frame), matches, divisor)
        total = total + weights.focal * masks["focal"] + weights.dice * masks["dice"]
        parts[-1] |= {name: loss.detach() for name, loss in masks.items()}
    parts[-1]["unmatched"] = present.new_tensor(float(matches.unmatched))
    return SetLoss(total, parts[-1], tuple(parts[:-1]), matches)
