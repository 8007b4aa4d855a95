"""Detection as a task, and the trial of learning a few samples by heart, on planted answers."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from vitrail.data.dataset import Splits
from vitrail.data.datasets import scenes
from vitrail.errors import ConfigError
from vitrail.loading import create_model, save_pretrained
from vitrail.outputs import Detections
from vitrail.recipes.detection import detect
from vitrail.samples import Batch, Images, Objects, Targets, Truth
from vitrail.tasks.detect import Detect
from vitrail.train.optim import AdamW, parameter_groups
from vitrail.train.overfit import by_heart, few, only_few, verdict
from vitrail.weights.card import GENERATED

CLASSES = ("cat", "dog")


class Planted(nn.Module):
    """Answers the same for every picture: a sure dog on the left, an unsure cat on the right, and nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(()))

    def forward(self, pixels, valid=None):
        logits = torch.tensor([[0.0, 6.0, 0.0], [1.0, 0.0, 0.5], [0.0, 0.0, 9.0]]) + self.shift
        boxes = torch.tensor([[0.25, 0.5, 0.5, 1.0], [0.75, 0.5, 0.2, 0.4], [0.5, 0.5, 0.1, 0.1]])
        batch = pixels.shape[0]
        return Detections(logits.expand(batch, -1, -1), boxes.expand(batch, -1, -1))

    def layers(self, pixels, valid=None):
        return [self.forward(pixels), self.forward(pixels)]


def batch(count: int = 2) -> Batch:
    inputs = Images(torch.zeros(count, 3, 20, 40), torch.ones(count, 20, 40, dtype=torch.bool))
    target = Targets(torch.tensor([1]), torch.tensor([[0.25, 0.5, 0.5, 1.0]]))
    empty = Targets(torch.zeros(0, dtype=torch.long), torch.zeros(0, 4))
    objects = Objects(
        torch.tensor([[0.0, 0, 50, 60]]), torch.tensor([1]), torch.tensor([False]), torch.tensor([3000.0])
    )
    truths = tuple(Truth(objects, (60, 100), number) for number in range(count))
    return Batch(inputs, (target, *[empty] * (count - 1)), torch.arange(count), truths)


def test_answers_come_best_first_in_pixels_of_the_file():
    [first, _] = Detect(classes=CLASSES, class_ids=(3, 7)).judge(Planted(), batch())
    assert first.labels.tolist()[:2] == [1, 0]
    assert first.queries.tolist() == [0, 1, 2]
    assert first.boxes_xyxy[0].tolist() == [0, 0, 50, 60]
    assert first.class_ids == (3, 7)
    assert first.summary() == "1 dog"
    assert first.above(0.3).summary() == "1 dog, 1 cat"


class Scattered(nn.Module):
    """Many boxes on top of each other, of two classes."""

    def forward(self, pixels, valid=None):
        generator = torch.Generator().manual_seed(3)
        logits, boxes = torch.randn(1, 60, 3, generator=generator), torch.rand(1, 60, 4, generator=generator)
        return Detections(logits, torch.cat([0.3 + 0.4 * boxes[..., :2], 0.2 + 0.2 * boxes[..., 2:]], dim=-1))


def shares(one: list[float], other: list[float]) -> float:
    """Intersection over union of two boxes, by hand."""
    sides = [min(one[axis + 2], other[axis + 2]) - max(one[axis], other[axis]) for axis in (0, 1)]
    both = max(sides[0], 0) * max(sides[1], 0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return both / (sum(areas) - both)


@pytest.mark.parametrize("most", [0.0, 0.3, 0.7, 1.0])
def test_what_repeats_a_better_answer_of_its_class_is_left_out(most):
    pixels = torch.zeros(1, 3, 20, 40)
    [every] = Detect(classes=CLASSES).predict(Scattered(), pixels)
    [found] = Detect(classes=CLASSES, nms=most).predict(Scattered(), pixels)
    kept = []
    for one in every.found():
        if all(one.label != better.label or shares(one.box_xyxy, better.box_xyxy) <= most for better in kept):
            kept.append(one)
    assert found.found() == kept
    assert (len(kept) < len(every)) == (most < 1)


def test_a_small_detector_from_nothing_leaves_out_repeats_and_a_published_one_none():
    data = scenes.read_spelling("scenes:4,size=32x48,objects=3")
    made = [
        detect("photographs/", Splits(data, data, []), model=model, say=lambda words: None)
        for model in ("detr-tiny", "detr-resnet-50")
    ]
    assert [recipe.task.nms for recipe in made] == [0.7, 1.0]
    one = batch(1)
    for nms, remarks in ((0.7, 1), (1.0, 0)):
        task = Detect(classes=CLASSES, nms=nms)
        metrics = task.metrics()
        metrics.update(task.judge(Planted().requires_grad_(False), one), one)
        assert len(metrics.details()["remarks"]) == remarks


@torch.no_grad()
def test_a_planted_object_that_is_found_is_worth_everything():
    task, one = Detect(classes=CLASSES), batch(1)
    metrics = task.metrics()
    metrics.update(task.judge(Planted(), one), one)
    assert metrics.compute()["ap"] == pytest.approx(1.0)


def test_every_layer_learns_unless_only_the_last_is_to():
    both, last = (
        Detect(classes=CLASSES, auxiliary=auxiliary).loss(Planted(), batch()).total for auxiliary in (True, False)
    )
    torch.testing.assert_close(both, 2 * last)


def test_a_batch_weighs_as_many_objects_as_it_has_and_never_nothing():
    task = Detect(classes=CLASSES)
    assert task.weight(batch()) == 1
    empty = batch()._replace(target=(batch().target[1],) * 2)
    assert task.weight(empty) == 1
    assert task.loss(Planted(), empty).total.isfinite()


def test_other_numbers_of_classes_are_refused():
    with pytest.raises(ConfigError, match="tells 2 classes apart and the task has 3"):
        Detect(classes=(*CLASSES, "cow")).predict(Planted(), batch().inputs)
    with pytest.raises(ConfigError, match="class_ids has 1 numbers for 2 classes"):
        Detect(classes=CLASSES, class_ids=(4,))


def test_a_backbone_learns_at_its_own_rate():
    class Detector(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.backbone, self.head = nn.Linear(2, 2), nn.Linear(2, 2)

    groups = parameter_groups(Detector(), AdamW(rate=1e-4, backbone=0.1))
    rates = {name: group["scale"] for group in groups for name in group["names"]}
    assert rates == {"backbone.weight": 0.1, "backbone.bias": 0.1, "head.weight": 1.0, "head.bias": 1.0}


def test_the_trial_learns_a_few_samples_without_varying_them():
    data = scenes.read_spelling("scenes:40,size=32x48,objects=3")
    whole = Splits(data, data, [])
    recipe = by_heart(detect("scenes:40,size=32x48,objects=3", whole, model="detr-tiny", say=lambda words: None), 6)
    assert recipe.overfit == 6
    assert recipe.ema is None
    assert recipe.data.augment.crop == 0
    assert recipe.data.augment.horizontal_flip == 0
    splits = only_few(whole, recipe)
    assert len(splits.val) == 6
    assert set(splits.train.indices) == set(splits.val.indices)
    assert (recipe.epochs, recipe.judge_every) == (12, 1)
    assert len(few(data, 1000)) == 40


@pytest.mark.parametrize(
    ("score", "losses", "parts", "said"),
    [
        (0.95, (9.0, 1.0), {}, "Known by heart: ap50 95.0"),
        (0.5, (9.0, 1.0), {"unmatched": 2.0}, "more objects than the model has queries"),
        (0.0, (9.0, 8.9), {}, "The loss hardly fell (9 to 8.9)"),
        (0.2, (9.0, 3.0), {"class_error": 0.4}, "40% of the objects are called by another class"),
        (0.6, (9.0, 3.0), {"class_error": 0.0}, "The loss is still falling"),
    ],
)
def test_the_verdict_says_what_to_look_at(score, losses, parts, said):
    assert said in verdict(Detect(classes=CLASSES), {"ap50": score, "ap": 0.0}, losses, parts)


@pytest.mark.parametrize("generated", [True, False])
def test_weights_that_know_no_photograph_learn_at_the_rate_of_fresh_ones(tmp_path, generated):
    folder, data = tmp_path / "weights", scenes.read_spelling("scenes:40,size=32x48,objects=3")
    model = create_model("detr-tiny", classes=len(data.classes))
    origin = f"trained by vitrail{GENERATED if generated else ''}"
    model.card = replace(model.card, origin=origin)
    save_pretrained(model, folder, announce=lambda words: None)
    recipe = detect("photographs/", Splits(data, data, []), model="detr-tiny", init=str(folder), say=lambda words: None)
    assert recipe.optimiser.backbone == (1.0 if generated else 0.1)
    assert recipe.optimiser.rate == (5e-4 if generated else 1e-4)
    assert (recipe.ema is not None) == generated
    assert recipe.data.shorter == (32 if generated else None)
    assert recipe.epochs == 300
