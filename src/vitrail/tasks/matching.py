"""Which object query answers for which object: the assignment that costs least, each query taken once.

Source: Carion et al., "End-to-End Object Detection with Transformers", ECCV 2020, section 3.1 and appendix A.2.
Compared with the published code in tests/parity/test_set_loss.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from vitrail.core.precision import detailed
from vitrail.errors import ConfigError, TrainingError
from vitrail.fields import Range, check_fields, check_ranges
from vitrail.geometry.boxes import paired_generalised_iou, to_xyxy
from vitrail.samples import Targets


@dataclass(frozen=True, kw_only=True, slots=True)
class MatchCosts:
    """What it costs to let a query answer for an object. The defaults are the paper's.

    Attributes:
        classes: for each unit of belief in the object's class that is lacking (the probability, not its logarithm).
        boxes: for the distance of the boxes: the absolute differences of centre and size, added up.
        giou: for each unit of generalised intersection over union that is lacking.
    """

    classes: float = 1.0
    boxes: float = 5.0
    giou: float = 2.0

    def __post_init__(self) -> None:
        check_fields(self)
        check_ranges(self, "costs.", classes=Range(0), boxes=Range(0), giou=Range(0))
        if not (self.classes or self.boxes or self.giou):
            raise ConfigError("With all costs 0 every query fits every object. Give at least one cost more than 0.")


class Matches(NamedTuple):
    """Who answers for what: in each decoder layer as many pairs, picture by picture, in the order of the queries.

    Attributes:
        picture: in which picture of the batch; the same in all layers.
        query: which of its queries.
        target: which object, counted through all pictures of the batch.
        unmatched: how many objects of the batch are left without a query.
    """

    picture: Int[Tensor, " matched"]
    query: Int[Tensor, "layers matched"]
    target: Int[Tensor, "layers matched"]
    unmatched: int


def match_costs(
    logits: Float[Tensor, "layers batch queries classes_and_none"],
    boxes: Float[Tensor, "layers batch queries 4"],
    targets: Sequence[Targets],
    costs: MatchCosts,
) -> Float[Tensor, "layers batch queries objects"]:
    """What each pair of a query and an object of the same picture costs; rows of fewer objects are filled up."""
    labels = pad_sequence([target.labels for target in targets], batch_first=True)
    wanted = pad_sequence([target.boxes for target in targets], batch_first=True).to(boxes)
    belief = detailed(logits).softmax(dim=-1)
    index = labels.to(logits.device)[None, :, None, :].expand(*belief.shape[:3], -1)
    said, wanted = detailed(boxes)[..., None, :], detailed(wanted)[:, None]
    distance = (said - wanted).abs().sum(dim=-1)
    shared = paired_generalised_iou(to_xyxy(said), to_xyxy(wanted))
    return costs.boxes * distance - costs.classes * belief.gather(-1, index) - costs.giou * shared


def refuse_nonfinite(logits: Tensor, boxes: Tensor, targets: Sequence[Targets]) -> None:
    """Name what made a cost infinite or no number at all.

    Raises:
        TrainingError: always; the objects' boxes come first, for a model learns from them.
    """
    for place, target in enumerate(targets):
        wrong = ~target.boxes.isfinite().all(dim=-1)
        if wrong.any():
            row = int(wrong.nonzero()[0])
            raise TrainingError(
                f"Object {row} of picture {place} of the batch has the box {target.boxes[row].tolist()}, which is not "
                f"finite, so that no query can be matched with it. `vitrail check` finds such boxes."
            )
    for name, values in (("boxes", boxes), ("class logits", logits)):
        wrong = ~values.isfinite().flatten(2).all(dim=-1)
        if wrong.any():
            layer, place = wrong.nonzero()[0].tolist()
            raise TrainingError(
                f"The model's {name} for picture {place} of the batch are not finite (decoder layer {layer}), so that "
                f"its queries cannot be matched with objects. Train with a lower learning rate, with clipped "
                f"gradients or in float32."
            )
    raise TrainingError("The costs of matching are not finite, though all boxes and logits are. Set smaller costs.")


def match(
    logits: Float[Tensor, "layers batch queries classes_and_none"],
    boxes: Float[Tensor, "layers batch queries 4"],
    targets: Sequence[Targets],
    costs: MatchCosts,
) -> Matches:
    """The assignment that costs least, for each picture and each decoder layer by itself.

    Where a picture has more objects than the model has queries, the objects that cost least get them. The costs of
    all layers and pictures are brought to the processor at once, and the pairs back at once.

    Args:
        logits, boxes: answers of every decoder layer; boxes as centre and size in the unit square.
        targets: of each picture; there may be none in some, or in all.
        costs: of a pair.

    Raises:
        TrainingError: a cost that is no number or infinite; it says whose.
    """
    from scipy.optimize import linear_sum_assignment  # a quarter of a second, which prediction need not wait for

    with torch.no_grad():
        device = logits.device
        every = match_costs(logits, boxes, targets, costs).cpu()
    counts = [target.labels.shape[0] for target in targets]
    pairs: list[list[tuple[Tensor, Tensor]]] = []
    for layer in every:
        pairs.append([])
        before = 0
        for table, count in zip(layer, counts, strict=True):
            table = table[:, :count]
            if not table.isfinite().all():
                refuse_nonfinite(logits, boxes, targets)
            query, target = (torch.as_tensor(places) for places in linear_sum_assignment(table.numpy()))
            pairs[-1].append((query, target + before))
            before += count
    queries = logits.shape[2]
    picture = torch.repeat_interleave(torch.tensor([min(count, queries) for count in counts]))
    query, target = (
        torch.stack([torch.cat([pair[side] for pair in layer]) for layer in pairs]).to(device) for side in (0, 1)
    )
    return Matches(picture.to(device), query, target, sum(max(count - queries, 0) for count in counts))
