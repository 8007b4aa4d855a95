"""The set loss against the published DETR, as the fixtures recorded it, and against transformers' port of it."""

import pytest
import torch
from safetensors.torch import load_file
from transformers.loss.loss_for_object_detection import HungarianMatcher, ImageLoss

from vitrail.geometry.boxes import generalised_iou, iou, to_xyxy
from vitrail.outputs import Detections, Segmentations
from vitrail.samples import Targets
from vitrail.tasks.matching import MatchCosts
from vitrail.tasks.set_loss import SetWeights, class_weight, dice, set_loss, sigmoid_focal

PUBLISHED = {
    "loss_ce": "classes", "loss_bbox": "boxes", "loss_giou": "giou", "cardinality_error": "cardinality",
    "loss_mask": "focal", "loss_dice": "dice",
}  # fmt: skip
TWO = {"default": SetWeights(), "alt": SetWeights(costs=MatchCosts(classes=2, boxes=1, giou=4), no_object=0.4)}


def targets_of(tensors: dict, dtype: torch.dtype = torch.float32) -> list[Targets]:
    given = [
        {
            part: tensors[name]
            for part in ("labels", "boxes", "masks")
            if (name := f"input.target{place}.{part}") in tensors
        }
        for place in range(2)
    ]
    return [Targets(target["labels"], target["boxes"].to(dtype), target.get("masks")) for target in given]


def pairs(matches, layer: int, picture: int, before: int) -> tuple[list[int], list[int]]:
    """Queries of one picture, and its objects counted from 0."""
    there = matches.picture == picture
    return matches.query[layer][there].tolist(), (matches.target[layer][there] - before).tolist()


@pytest.mark.parametrize("case", TWO)
def test_losses_with_masks_are_the_published_ones(shared, case):
    tensors = load_file(shared / "golden/detr/criterion_masks.safetensors")
    answer = Segmentations(*(tensors[f"input.pred_{name}"] for name in ("logits", "boxes", "masks")))
    targets = targets_of(tensors)
    loss = set_loss([answer], targets, TWO[case])

    for theirs, ours in PUBLISHED.items():
        torch.testing.assert_close(loss.parts[ours], tensors[f"output.{case}.loss.{theirs}"], rtol=1e-5, atol=1e-6)
    assert float(loss.parts["class_error"]) * 100 == pytest.approx(float(tensors[f"output.{case}.loss.class_error"]))
    for picture, before in ((0, 0), (1, 3)):
        query, target = pairs(loss.matches, 0, picture, before)
        assert query == tensors[f"output.{case}.match{picture}.pred"].tolist()
        assert target == tensors[f"output.{case}.match{picture}.target"].tolist()


@pytest.mark.parametrize("name", ["detr_bottleneck_sine", "detr_dc5_sine", "detr_prenorm_learned"])
def test_losses_of_all_decoder_layers_are_the_published_ones(shared, name):
    tensors = load_file(shared / f"golden/detr/{name}.safetensors")
    earlier = sum(key.startswith("output.aux") and key.endswith("pred_boxes") for key in tensors)
    prefixes = [*(f"output.aux{layer}." for layer in range(earlier)), "output."]
    layers = [Detections(tensors[f"{prefix}pred_logits"], tensors[f"{prefix}pred_boxes"]) for prefix in prefixes]
    targets = targets_of(tensors)
    loss = set_loss(layers, targets)

    torch.testing.assert_close(loss.total, tensors["output.total_loss"], rtol=1e-5, atol=0)
    for layer, parts in enumerate((*loss.auxiliary, loss.parts)):
        ending = f"_{layer}" if layer < earlier else ""
        for theirs, ours in list(PUBLISHED.items())[:4]:
            torch.testing.assert_close(parts[ours], tensors[f"output.loss.{theirs}{ending}"], rtol=1e-5, atol=1e-6)
        for picture, before in ((0, 0), (1, len(targets[0].labels))):
            query, target = pairs(loss.matches, layer, picture, before)
            assert query == tensors[f"{prefixes[layer]}match{picture}.pred"].tolist()
            assert target == tensors[f"{prefixes[layer]}match{picture}.target"].tolist()


def test_shares_of_boxes_and_losses_of_masks_are_the_published_ones(shared):
    tensors = load_file(shared / "golden/detr/criterion_masks.safetensors")
    first, second = (to_xyxy(boxes) for boxes in tensors["input.pred_boxes"])
    torch.testing.assert_close(iou(first, second), tensors["output.iou01"], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(generalised_iou(first, second), tensors["output.giou01"], rtol=1e-5, atol=1e-6)
    logits, truth = tensors["input.pred_masks"][0].flatten(1), (tensors["input.pred_masks"][1] > 0).flatten(1).float()
    torch.testing.assert_close(sigmoid_focal(logits, truth).sum() / 4, tensors["output.sigmoid_focal"])
    plain = sigmoid_focal(logits, truth, alpha=None, gamma=1.0).sum() / 4
    torch.testing.assert_close(plain, tensors["output.sigmoid_focal_noalpha_g1"])
    torch.testing.assert_close(dice(logits, truth).sum() / 4, tensors["output.dice"])


def drawn(counts: list[int], queries: int = 11, classes: int = 4) -> tuple[Detections, list[Targets]]:
    """Random answers, and random objects in so many pictures."""
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(len(counts), queries, classes + 1, generator=generator, dtype=torch.float64)
    boxes = torch.rand(len(counts), queries, 4, generator=generator, dtype=torch.float64)
    targets = [
        Targets(
            torch.randint(classes, (count,), generator=generator),
            0.1 + 0.8 * torch.rand(count, 4, generator=generator, dtype=torch.float64),
        )
        for count in counts
    ]
    return Detections(logits.requires_grad_(), boxes.requires_grad_()), targets


@pytest.mark.parametrize("counts", [[3, 0, 5], [0, 1], [17, 2], [0, 0]])
def test_losses_and_gradients_are_those_of_transformers(counts):
    answer, targets = drawn(counts)
    loss = set_loss([answer], targets)
    ours = torch.autograd.grad(loss.total, answer)

    theirs = ImageLoss(HungarianMatcher(1, 5, 2), 4, 0.1, ["labels", "boxes", "cardinality"]).double()
    theirs.empty_weight[-1] = 0.1  # which float32 rounds
    labels = [{"class_labels": target.labels, "boxes": target.boxes} for target in targets]
    told = theirs({"logits": answer.logits, "pred_boxes": answer.boxes}, labels)
    total = told["loss_ce"] + 5 * told["loss_bbox"] + 2 * told["loss_giou"]

    torch.testing.assert_close(loss.total, total, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(float(loss.parts["cardinality"]), float(told["cardinality_error"]), rtol=1e-6, atol=0)
    for mine, expected in zip(ours, torch.autograd.grad(total, answer), strict=True):
        torch.testing.assert_close(mine, expected, rtol=1e-10, atol=1e-12)


def test_a_batch_that_is_split_teaches_what_it_taught_whole():
    answer, targets = drawn([3, 0, 5, 1])
    whole = set_loss([answer], targets).total
    shares = {"count": 9 / 2, "class_count": class_weight(targets, 11, 0.1) / 2}
    halves = [
        set_loss([Detections(*(part[cut] for part in answer))], targets[cut], **shares).total
        for cut in (slice(0, 2), slice(2, 4))
    ]
    torch.testing.assert_close(sum(halves) / 2, whole)
