"""Scenes with several things: their boxes and masks are what is painted, and nothing is nearly hidden."""

import hashlib
import pickle

import numpy as np
import pytest
import torch

from vitrail.data.chance import Draw, chance
from vitrail.data.check import check
from vitrail.data.dataset import Dataset
from vitrail.data.datasets.crowded import LEAST, SHOWING, STUFF, CrowdedScenes
from vitrail.data.datasets.painting import CLASSES, Canvas, Dice, draw
from vitrail.data.open import open_dataset, open_splits
from vitrail.errors import DataError

SPELLING = "scenes:60,size=96x128,objects=5"


def test_the_spelling_opens_scenes_for_detection_in_parts():
    train, val, notes = open_splits(SPELLING)
    assert isinstance(train, Dataset)
    assert (len(train), len(val), notes) == (60, 12, [])
    assert (train.task, train.classes, train.class_ids) == ("detect", CLASSES, tuple(range(10)))
    assert train.labels() == [train[index].label for index in range(60)]
    counts = np.bincount([len(train[index].objects) for index in range(60)], minlength=6)
    assert counts[0] == 0
    assert (counts[1:] > 0).all()
    assert pickle.loads(pickle.dumps(train))[3].objects.ids == train[3].objects.ids
    assert check(SPELLING) == []


def test_boxes_are_tight_around_what_is_seen_and_masks_share_no_pixel():
    data = open_dataset(SPELLING, "train")
    ids = []
    for sample in (data[index] for index in range(60)):
        objects = sample.objects
        assert objects.masks.shape[1:] == sample.picture.size == (96, 128)
        assert int(objects.masks.sum(0).max()) == 1
        assert objects.areas.tolist() == objects.masks.sum((1, 2)).tolist()
        for box, mask in zip(objects.boxes_xyxy.tolist(), objects.masks, strict=True):
            rows, columns = mask.any(1).nonzero(), mask.any(0).nonzero()
            assert box == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        ids += objects.ids
    assert len(set(ids)) == len(ids)


def test_of_every_thing_half_is_seen_and_some_hide_others():
    scenes, hidden = CrowdedScenes(count=60, size=(96, 128)), 0
    for index in range(60):
        scene, drawing = scenes.draw(index)
        canvas = Canvas(scenes.size, 1)
        for thing, mask in zip(scene.things, drawing.masks, strict=True):
            if thing.shape in CLASSES:
                whole = (canvas.distance(thing) < 0).sum()
                assert mask.sum() >= max(LEAST, SHOWING * whole)
                hidden += mask.sum() < whole
    assert hidden > 10


def test_where_a_mask_is_there_is_the_thing():
    """Painted without the thing, the picture differs inside its mask, and only its shadow and rim lie outside."""
    scenes = CrowdedScenes(count=20, size=(96, 128))
    for index in range(20):
        scene, drawing = scenes.draw(index)
        without = draw(scene._replace(things=scene.things[:-1]), scenes.size, 3)
        changed = (without.image != drawing.image).any(-1)
        mask = drawing.masks[-1]
        assert changed[mask].mean() > 0.99
        assert changed.sum() < 2.5 * mask.sum()


def test_crowded_scenes_have_the_same_bytes_on_every_machine():
    """Written down on AVX-512; the same with numpy held to SSE4 (NPY_DISABLE_CPU_FEATURES)."""
    scenes = CrowdedScenes(count=12)
    images = b"".join(scenes[index].picture.read().tobytes() for index in range(12))
    masks = b"".join(scenes[index].objects.masks.numpy().tobytes() for index in range(12))
    assert hashlib.sha256(images + masks).hexdigest()[:16] == "72c57e25be4a021c"


def test_panoptic_scenes_name_every_pixel_once():
    data = open_dataset("scenes:40,size=64x80,objects=3,panoptic", "train")
    assert (data.task, data.classes[10:], data.things[9:]) == ("panoptic", STUFF, (True, False, False, False))
    seen = set()
    for index, labels in enumerate(data.labels()):
        objects = data[index].objects
        assert torch.equal(objects.masks.sum(0), torch.ones(64, 80, dtype=torch.int64))
        stuff = [label for label in objects.labels.tolist() if not data.things[label]]
        assert len(stuff) == len(set(stuff))
        assert labels == tuple(sorted(set(objects.labels.tolist())))
        seen.update(labels)
    assert seen == set(range(13))
    plain = open_dataset("scenes:40,size=64x80,objects=3", "train")
    assert np.array_equal(plain[7].picture.read(), data[7].picture.read()), "the same scene"


def test_a_thing_alone_is_drawn_from_the_same_numbers_as_before():
    one, other = (Dice(chance(Draw.SCENE, 1), (64, 64), 3) for _ in range(2))
    assert one.thing("ring").scale == other.thing("ring", (0.22, 0.32), 1.2).scale


@pytest.mark.parametrize(
    ("spelling", "sentence"),
    [
        ("scenes:5,objects=0", "objects=0 in a scene: at least one"),
        ("scenes:5,objects=many", "objects in 'scenes:5,objects=many' takes the most things in a scene, such as obj"),
        ("scenes:5,objects=101", "at most 100"),
        ("scenes:5,panoptics", "'panoptics' in 'scenes:5,panoptics' means nothing"),
        ("scenes:5,objects=2,size=8x8", "5 scenes of 8x8"),
    ],
)
def test_a_spelling_of_crowds_that_means_nothing_is_a_sentence(spelling, sentence):
    with pytest.raises(DataError, match=sentence):
        open_splits(spelling)


def test_classes_of_a_model_number_crowded_scenes_and_must_hold_all_shapes():
    turned = open_dataset("scenes:5,objects=2", "val", classes=CLASSES[::-1])
    straight = open_dataset("scenes:5,objects=2", "val")
    assert [9 - label for label in turned[0].objects.labels.tolist()] == straight[0].objects.labels.tolist()
    with pytest.raises(DataError, match="triangle, and the classes expected are arrow,"):
        open_dataset("scenes:5,objects=2", "val", classes=CLASSES[:-1])
    with pytest.raises(DataError, match="ground, patch, bar, and the classes expected are arrow,"):
        open_dataset("scenes:5,panoptic", "val", classes=CLASSES)
