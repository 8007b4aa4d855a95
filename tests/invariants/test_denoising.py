"""Points near objects teach a detector, and change nothing of what its queries answer."""

from dataclasses import replace

import pytest
import torch

from vitrail.data.open import open_splits
from vitrail.errors import ConfigError
from vitrail.geometry.boxes import paired_generalised_iou, to_xyxy
from vitrail.models import detr
from vitrail.models.detr import DETR, VARIANTS
from vitrail.recipes.detection import DENOISING, detect
from vitrail.samples import AskedPoints, Batch, Images, Targets
from vitrail.tasks.denoising import NOISE, denoising_loss, noised
from vitrail.tasks.detect import Detect
from vitrail.tasks.set_loss import SetWeights

TINY = replace(VARIANTS["detr-tiny"], queries=5, classes=3, encoder_depth=1, decoder_depth=2)
TARGETS = (
    Targets(torch.tensor([0, 1]), torch.tensor([[0.5, 0.5, 0.2, 0.4], [0.1, 0.1, 0.1, 0.1]])),
    Targets(torch.zeros(0, dtype=torch.int64), torch.zeros(0, 4)),
    Targets(torch.tensor([2]), torch.tensor([[0.95, 0.9, 0.1, 0.2]])),
)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def batch() -> Batch:
    pixels = torch.randn(3, 3, 64, 80, generator=seeded())
    return Batch(Images(pixels, torch.ones(3, 64, 80, dtype=torch.bool)), TARGETS, torch.arange(3))


def model(**changes) -> DETR:
    torch.manual_seed(0)
    made = DETR(replace(TINY, **changes)).train()
    made.backbone.eval()  # whose norms otherwise look at the batch
    return made


def test_points_lie_near_the_objects_they_are_matched_with():
    near = noised(TARGETS, 3, 40, seeded())
    assert near.asked.points.shape == (3, 80, 2)
    assert near.asked.sizes == (2,) * 40
    boxes = torch.cat([target.boxes for target in TARGETS])[near.matches.target[0]]
    points = near.asked.points[near.matches.picture, near.matches.query[0]]
    assert points.shape == (3 * 40, 2), "one for each object and group"
    away = (points - boxes[:, :2]).abs() / boxes[:, 2:]
    assert (away <= NOISE + 1e-6).all()
    assert away.max() > 0.9 * NOISE
    assert len({*map(tuple, torch.stack([near.matches.picture, near.matches.query[0]], 1).tolist())}) == 3 * 40
    assert (near.asked.points >= 0).all()
    assert (near.asked.points <= 1).all()


def test_chance_comes_from_the_generator_alone():
    first, again, other = (noised(TARGETS, 3, 3, seeded(seed)).asked.points for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_what_the_queries_answer_does_not_depend_on_points_that_are_asked_besides():
    detector, one = model(), batch()
    alone = detector.layers(*one.inputs)
    together, besides = detector.layers_asked(*one.inputs, noised(TARGETS, 3, 3, seeded()).asked)
    for layer, (said, expected) in enumerate(zip(together, alone, strict=True)):
        torch.testing.assert_close(said.boxes, expected.boxes, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(said.logits, expected.logits, atol=1e-5, rtol=1e-5)
        assert besides[layer].boxes.shape == (3, 6, 4)


def test_groups_of_points_know_nothing_of_each_other():
    detector, one = model().double(), batch()
    inputs = Images(one.inputs.pixels.double(), one.inputs.valid)
    points = torch.rand(3, 6, 2, generator=seeded()).double()
    _, first = detector.layers_asked(*inputs, AskedPoints(points, torch.zeros(3, 6, dtype=torch.int64), (2, 4)))
    points[:, 2:] = torch.rand(3, 4, 2, generator=seeded(5)).double()
    _, second = detector.layers_asked(*inputs, AskedPoints(points, torch.zeros(3, 6, dtype=torch.int64), (2, 4)))
    torch.testing.assert_close(first[-1].boxes[:, :2], second[-1].boxes[:, :2], atol=1e-9, rtol=0)
    assert not torch.allclose(first[-1].boxes[:, 2:], second[-1].boxes[:, 2:])


def test_a_point_is_asked_as_a_query_that_stands_there_is_but_for_the_class_that_it_is_told(monkeypatch):
    detector, one = model(), batch()
    own = AskedPoints(detector.queries.detach().sigmoid().expand(3, -1, -1), torch.zeros(3, 5, dtype=torch.int64), (5,))
    _, told = detector.layers_asked(*one.inputs, own)
    _, otherwise = detector.layers_asked(*one.inputs, own._replace(labels=own.labels + 2))
    assert (told[-1].logits - otherwise[-1].logits).abs().max() > 0.1
    monkeypatch.setattr(detr, "class_codes", lambda config: torch.zeros(config.classes, config.dim))
    layers, besides = detector.layers_asked(*one.inputs, own)
    torch.testing.assert_close(besides[-1].boxes, layers[-1].boxes, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(besides[-1].logits, layers[-1].logits, atol=1e-3, rtol=1e-3)


def test_most_points_are_told_the_class_of_their_object():
    near = noised(TARGETS, 3, 100, seeded())
    truth = torch.cat([target.labels for target in TARGETS])[near.matches.target[0]]
    said = near.asked.labels[near.matches.picture, near.matches.query[0]]
    assert 0.8 < (said == truth).double().mean() < 0.93, "a fifth is drawn, and a third of that is right by chance"
    assert set(near.asked.labels.unique().tolist()) == {0, 1, 2}


def test_the_loss_is_that_of_each_point_and_its_object():
    near, weights = noised(TARGETS, 3, 2, seeded()), SetWeights()
    _, besides = model().layers_asked(*batch().inputs, near.asked)
    total = torch.zeros(())
    for layer in besides:
        naming, counted = torch.zeros(()), 0.0
        places = zip(near.matches.picture.tolist(), near.matches.query[0].tolist(), strict=True)
        objects = dict(zip(places, near.matches.target[0], strict=True))
        labels, boxes = (torch.cat([getattr(one, name) for one in TARGETS]) for name in ("labels", "boxes"))
        for place in ((b, q) for b in range(3) for q in range(4)):
            surprise = -layer.logits[place].log_softmax(0)
            if place in objects:
                said, truth = layer.boxes[place], boxes[objects[place]]
                naming, counted = naming + surprise[labels[objects[place]]], counted + 1
                total = total + weights.boxes * (said - truth).abs().sum() / 6
                shared = paired_generalised_iou(to_xyxy(said)[None], to_xyxy(truth)[None])[0]
                total = total + weights.giou * (1 - shared) / 6
            else:
                naming, counted = naming + weights.no_object * surprise[-1], counted + weights.no_object
        total = total + weights.classes * naming / counted
    torch.testing.assert_close(denoising_loss(besides, near.matches, TARGETS, weights), total)


@pytest.mark.parametrize("auxiliary", [True, False])
def test_training_adds_it_and_every_weight_learns(auxiliary):
    detector, one = model(), batch()
    plain = Detect(classes=("a", "b", "c"), auxiliary=auxiliary)
    without = plain.loss(detector, one, seeded())
    found = replace(plain, denoising=3).loss(detector, one, seeded())
    torch.testing.assert_close(found.total, without.total + found.parts["denoising"], atol=1e-4, rtol=1e-5)
    assert set(found.parts) == {*without.parts, "denoising"}
    assert found.parts["denoising"] > 0


def test_points_alone_teach_everything_but_the_queries():
    detector, one = model(), batch()
    near = noised(TARGETS, 3, 3, seeded())
    _, besides = detector.layers_asked(*one.inputs, near.asked)
    denoising_loss(besides, near.matches, TARGETS, SetWeights()).backward()
    taught = {name for name, parameter in detector.named_parameters() if parameter.grad is not None}
    untaught = {name for name, _ in detector.named_parameters()} - taught
    assert untaught | {"queries"} == {"queries"}
    assert detector.queries.grad is None or not detector.queries.grad.any()
    assert detector.backbone.stem.convolution.weight.grad.any()


def test_a_class_that_the_model_does_not_have_is_said_before_it_is_told():
    with pytest.raises(
        ConfigError, match=r"Picture 2 of the batch has an object of class 2, and the model has classes 0"
    ):
        Detect(classes=("a", "b", "c"), denoising=2).loss(model(classes=2), batch(), seeded())


def test_crowded_pictures_have_fewer_points():
    crowd = Targets(torch.zeros(90, dtype=torch.int64), torch.rand(90, 4, generator=seeded()))
    assert noised((crowd, *TARGETS), 3, 5, seeded()).asked.sizes == (90, 90)
    crowd = Targets(torch.zeros(300, dtype=torch.int64), torch.rand(300, 4, generator=seeded()))
    assert noised((crowd,), 3, 5, seeded()).asked.sizes == (300,)


def test_pictures_without_objects_ask_from_anywhere_and_find_nothing():
    empty = (TARGETS[1],) * 3
    near = noised(empty, 3, 2, seeded())
    assert (near.asked.points.shape, near.matches.picture.shape) == ((3, 2, 2), (0,))
    found = Detect(classes=("a", "b", "c"), denoising=2).loss(model(), batch()._replace(target=empty), seeded())
    assert found.total.isfinite()
    assert found.parts["denoising"] > 0


def test_models_without_points_say_what_to_type():
    task = Detect(classes=("a", "b", "c"), denoising=2)
    with pytest.raises(ConfigError, match=r"anchors=True.*--set task.denoising=0"):
        task.loss(model(anchors=False, refined=False), batch(), seeded())
    with pytest.raises(ConfigError, match=r"Linear is asked from no points"):
        task.loss(torch.nn.Linear(1, 1), batch(), seeded())


def test_the_recipe_asks_from_points_where_queries_are_points():
    splits = open_splits("scenes:12,size=48x64,objects=3")
    quiet = {"say": lambda words: None}
    made = {name: detect("scenes:", splits, model=name, **quiet) for name in ("detr-tiny", "detr-resnet-50")}
    assert {name: recipe.task.denoising for name, recipe in made.items()} == {
        "detr-tiny": DENOISING, "detr-resnet-50": 0
    }  # fmt: skip
    still = detect(
        "scenes:", splits, model="detr-tiny", changes={"anchors": False, "refined": False}, say=lambda _: None
    )
    assert still.task.denoising == 0
