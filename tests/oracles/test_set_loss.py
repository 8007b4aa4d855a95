"""The matcher finds assignments that were planted, and says what it cannot match."""

import itertools

import pytest
import torch

from vitrail.errors import ConfigError, TrainingError
from vitrail.outputs import Detections, Segmentations
from vitrail.samples import Targets
from vitrail.tasks.matching import MatchCosts, match, match_costs
from vitrail.tasks.set_loss import SetWeights, set_loss

BOXES = torch.tensor([[0.2, 0.2, 0.1, 0.2], [0.7, 0.3, 0.2, 0.2], [0.5, 0.8, 0.4, 0.1], [0.8, 0.8, 0.1, 0.1]])


def objects(*labels: int, masks: torch.Tensor | None = None) -> Targets:
    return Targets(torch.tensor(labels, dtype=torch.int64), BOXES[: len(labels)], masks)


def planted(order: list[int], labels: tuple[int, ...], classes: int = 5) -> Detections:
    """Queries of which `order` names the one for each object; all others are sure that there is nothing."""
    logits = torch.full((1, 6, classes + 1), -9.0)
    logits[..., -1] = 9.0
    boxes = torch.full((1, 6, 4), 0.01)
    for place, query in enumerate(order):
        logits[0, query] = -9.0
        logits[0, query, labels[place]] = 9.0
        boxes[0, query] = BOXES[place]
    return Detections(logits, boxes)


def test_a_planted_assignment_is_found_and_costs_nothing():
    loss = set_loss([planted([4, 0, 5], (2, 2, 1))], [objects(2, 2, 1)])
    assert loss.matches.query.tolist() == [[0, 4, 5]]
    assert loss.matches.target.tolist() == [[1, 0, 2]]
    assert float(loss.total) < 1e-5
    assert {name: float(loss.parts[name]) for name in ("cardinality", "class_error", "unmatched")} == {
        "cardinality": 0.0, "class_error": 0.0, "unmatched": 0.0,
    }  # fmt: skip


def test_no_other_assignment_costs_less():
    torch.manual_seed(0)
    logits, boxes = torch.randn(2, 1, 5, 4), torch.rand(2, 1, 5, 4)
    targets, costs = [objects(0, 1, 2)], MatchCosts(classes=2.0, boxes=1.0, giou=0.5)
    table = match_costs(logits, boxes, targets, costs)
    matches = match(logits, boxes, targets, costs)
    for layer in range(2):
        found = table[layer, 0, matches.query[layer], matches.target[layer]].sum()
        every = [
            sum(table[layer, 0, query, target] for target, query in enumerate(order))
            for order in itertools.permutations(range(5), 3)
        ]
        torch.testing.assert_close(found, torch.stack(every).min())


def test_the_order_of_queries_and_of_objects_does_not_matter():
    torch.manual_seed(1)
    answer = Detections(torch.randn(1, 6, 6), torch.rand(1, 6, 4))
    queries, order = torch.randperm(6), torch.randperm(4)
    target = objects(0, 4, 1, 1)
    shuffled = set_loss(
        [Detections(*(part[:, queries] for part in answer))], [Targets(target.labels[order], target.boxes[order])]
    )
    torch.testing.assert_close(shuffled.total, set_loss([answer], [target]).total)


def test_pictures_without_objects_teach_only_that_there_are_none():
    answer = Detections(torch.randn(2, 6, 6, requires_grad=True), torch.rand(2, 6, 4, requires_grad=True))
    loss = set_loss([answer, answer], [objects(), objects()])
    loss.total.backward()
    assert answer.boxes.grad.abs().sum() == 0
    assert answer.logits.grad.abs().sum() > 0
    assert float(loss.parts["boxes"]) == float(loss.parts["giou"]) == 0


def test_of_more_objects_than_queries_those_that_fit_best_are_matched_and_the_rest_is_counted():
    answer = Detections(torch.zeros(1, 2, 6), BOXES[[3, 1]][None])
    loss = set_loss([answer], [objects(0, 0, 0, 0)])
    assert loss.matches.target.tolist() == [[3, 1]]
    assert float(loss.parts["unmatched"]) == 2
    assert float(loss.parts["boxes"]) == 0


def test_boxes_without_area_have_finite_losses_and_gradients():
    flat = torch.tensor([[0.5, 0.5, 0.0, 0.0]])
    answer = Detections(torch.zeros(1, 1, 2, requires_grad=True), flat[None].clone().requires_grad_())
    loss = set_loss([answer], [Targets(torch.tensor([0]), flat)])
    loss.total.backward()
    assert loss.total.isfinite()
    assert answer.boxes.grad.isfinite().all()


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_not_finite_is_named(bad):
    answer, target = planted([0, 1], (0, 1)), objects(0, 1)
    broken = target.boxes.clone()
    broken[1, 2] = bad
    with pytest.raises(TrainingError, match=r"Object 1 of picture 0 .* is not finite"):
        set_loss([answer], [Targets(target.labels, broken)])
    boxes = answer.boxes.clone()
    boxes[0, 3, 0] = bad
    with pytest.raises(TrainingError, match=r"boxes for picture 0 .* not finite \(decoder layer 1\)"):
        set_loss([answer, Detections(answer.logits, boxes)], [target])
    logits = answer.logits.clone()
    logits[0, 2, 0] = bad
    with pytest.raises(TrainingError, match="class logits for picture 0"):
        set_loss([Detections(logits, answer.boxes)], [target])


def test_a_class_that_the_model_lacks_is_named():
    with pytest.raises(ConfigError, match=r"object of class 5, and the model has classes 0 to 4.*classes=6"):
        set_loss([planted([0], (0,))], [objects(5)])


def test_masks_are_compared_in_the_frame_of_the_batch():
    answer = planted([0], (0,))
    mask = torch.zeros(1, 8, 8, dtype=torch.bool)
    mask[:, :4, :4] = True
    said = torch.full((1, 6, 4, 4), -20.0)
    said[0, 0, 0, 0] = said[0, 0, :2, :2] = 20.0
    alone = set_loss([Segmentations(*answer, said)], [objects(0, masks=mask)])
    framed = set_loss([Segmentations(*answer, said[..., :2, :2])], [objects(0, masks=mask[:, :4, :4])], frame=(4, 4))
    assert float(framed.parts["dice"]) < 1e-3 < float(alone.parts["dice"]) < 0.2
    with pytest.raises(ConfigError, match="Picture 0 of the batch has no masks"):
        set_loss([Segmentations(*answer, said)], [objects(0)])


def test_weights_that_make_no_sense_are_refused():
    with pytest.raises(ConfigError, match="all costs 0"):
        MatchCosts(classes=0, boxes=0, giou=0)
    with pytest.raises(ConfigError, match=r"weights.no_object=0 must be above 0"):
        SetWeights(no_object=0)
