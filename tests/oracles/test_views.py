"""What a detector is shown: boxes and masks go where the pixels go, and the sizes are the published ones."""

import numpy as np
import pytest
import torch
from transformers.image_transforms import get_size_with_aspect_ratio

from vitrail.data.images import PictureArray
from vitrail.data.loader import Loader
from vitrail.data.views import MarkedBatches, ObjectAugment, ObjectTransform, draw_window, move
from vitrail.data.workers import Shelf, packed, unpacked
from vitrail.errors import ConfigError
from vitrail.geometry.boxes import to_xyxy
from vitrail.preprocessing import Fitted
from vitrail.samples import Batch, Images, Objects, Sample, Targets, Truth

PLAIN = Fitted(shorter=96, longer=160, mean=(0.0,) * 3, std=(1.0,) * 3, interpolation="bilinear")


def painted(seed: int, size=(90, 130), count=3) -> Sample:
    """A black picture with rectangles, each in a colour channel of its own, and what is marked in it."""
    random = np.random.default_rng(seed)
    pixels = np.zeros((*size, 3), np.uint8)
    boxes = []
    masks = np.zeros((count, *size), bool)
    for number in range(count):
        left, top = random.integers(0, size[1] - 30), random.integers(0, size[0] - 30)
        right, bottom = left + random.integers(12, 30), top + random.integers(12, 30)
        pixels[top:bottom, left:right, number] = 255
        masks[number, top:bottom, left:right] = True
        boxes.append([left, top, right, bottom])
    objects = Objects(
        torch.tensor(boxes, dtype=torch.float64).reshape(-1, 4),
        torch.arange(count),
        torch.zeros(count, dtype=torch.bool),
        torch.ones(count, dtype=torch.float64),
        torch.from_numpy(masks),
        tuple(range(count)),
    )
    return Sample(PictureArray(pixels, f"picture {seed}"), objects=objects, number=seed)


def seen_box(channel: torch.Tensor) -> torch.Tensor:
    """Left, top, right, bottom of what is bright."""
    rows, columns = (channel > 0.5).nonzero(as_tuple=True)
    return torch.tensor([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]).float()


@pytest.mark.parametrize("seed", range(12))
def test_boxes_and_masks_go_where_the_pixels_go(seed):
    augment = ObjectAugment(vertical_flip=0.5, crop=0.7)
    pixels, targets, _ = ObjectTransform(PLAIN, augment)(painted(seed), (1, 2, seed))
    rows, columns = pixels.shape[1:]
    boxes = to_xyxy(targets.boxes) * torch.tensor([columns, rows, columns, rows])
    assert len(targets.labels) == len(targets.boxes) == len(targets.masks)
    for label, box, mask in zip(targets.labels, boxes, targets.masks, strict=True):
        if min(box[2] - box[0], box[3] - box[1]) > 3:  # of a sliver hardly a pixel is bright
            torch.testing.assert_close(seen_box(pixels[label]), box, atol=1.5, rtol=0)
            torch.testing.assert_close(seen_box(mask.float()), box, atol=1.5, rtol=0)
    assert targets.masks.shape[1:] == pixels.shape[1:]


def test_a_picture_without_objects_can_have_masks_of_none():
    sample = painted(0, count=0)
    assert sample.objects.masks.shape[0] == 0
    for augment in (None, ObjectAugment()):
        targets = ObjectTransform(PLAIN, augment)(sample, (0, 0, 0)).targets
        assert targets.boxes.shape == (0, 4)
        assert targets.masks.shape[0] == 0


def test_windows_differ_with_the_key_and_with_nothing_else():
    transform = ObjectTransform(PLAIN, ObjectAugment())
    first = [transform(painted(3), (0, epoch, 3)) for epoch in range(8)]
    again = [transform(painted(3), (0, epoch, 3)) for epoch in range(8)]
    assert all(torch.equal(one.pixels, other.pixels) for one, other in zip(first, again, strict=True))
    assert len({tuple(one.pixels.shape) for one in first}) > 1


def test_sizes_and_crops_are_those_of_the_published_code():
    """Of 800: shorter sides of 480 to 800 in steps of 32, and parts of 384 to 600 out of 400, 500 or 600."""
    fitted, random = Fitted(), np.random.default_rng(0)
    whole = [draw_window((500, 640), fitted, ObjectAugment(crop=0.0), random) for _ in range(400)]
    assert {min(window.size) for window in whole} == {480 + 32 * step for step in range(11)}
    assert all(window.box == (0, 0, 640, 500) for window in whole)
    parts = [draw_window((500, 640), fitted, ObjectAugment(crop=1.0), random) for _ in range(400)]
    widths = [window.box[2] - window.box[0] for window in parts]
    assert min(widths) >= 384 * 500 / 600 - 1
    assert max(widths) <= 600 * 500 / 400 + 1
    assert all(0 <= box[0] < box[2] <= 640 and 0 <= box[1] < box[3] <= 500 for box in (one.box for one in parts))


@pytest.mark.parametrize(("shorter", "longer"), [(800, 1333), (256, 426), (97, 101)])
def test_a_fitted_picture_has_the_size_that_transformers_gives_it(shorter, longer):
    fitted, random = Fitted(shorter=shorter, longer=longer), np.random.default_rng(1)
    for _ in range(200):
        source = (int(random.integers(20, 2000)), int(random.integers(20, 2000)))
        assert fitted.resized(source) == get_size_with_aspect_ratio(source, shorter, longer)


def test_crowds_and_what_is_cut_away_are_nothing_to_find():
    sample = painted(5)
    crowd = sample.objects.crowd.clone()
    crowd[1] = True
    objects = Objects(*[getattr(sample.objects, name) for name in ("boxes_xyxy", "labels")], crowd, *[
        getattr(sample.objects, name) for name in ("areas", "masks", "ids")
    ])  # fmt: skip
    window = draw_window((90, 130), PLAIN, ObjectAugment.none(), np.random.default_rng(0))
    assert move(objects, window, (90, 130)).labels.tolist() == [0, 2]
    left = int(objects.boxes_xyxy[0, 2]) + 1  # all to the right of the first object
    part = window._replace(box=(left, 0, 130, 90), size=(90, 130 - left))
    assert 0 not in move(objects, part, (90, 130)).labels


class Painted:
    """A data set of painted pictures of different sizes."""

    task, classes, multi_label, channels = "detect", ("red", "green", "blue"), False, 3

    def __len__(self) -> int:
        return 5

    def __getitem__(self, index):
        return painted(index, size=(60 + 10 * index, 120 - 10 * index))

    def labels(self):
        return [(0, 1, 2)] * 5

    def fingerprint(self, index):
        return bytes([index] * 16)


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_put_pictures_of_different_sizes_side_by_side(workers):
    def batches(workers):
        return list(
            Loader(
                Painted(), ObjectTransform(PLAIN, None), 2, workers=workers, assemble=MarkedBatches(PLAIN, judging=True)
            ).epoch(0)
        )

    found = batches(workers)
    assert [len(batch.index) for batch in found] == [2, 2, 1]
    for batch, plain in zip(found, batches(0), strict=True):
        assert isinstance(batch.inputs, Images)
        assert torch.equal(batch.inputs.pixels, plain.inputs.pixels)
        assert (batch.inputs.pixels.abs().sum(dim=1)[~batch.inputs.valid] == 0).all()
        for target, other in zip(batch.target, plain.target, strict=True):
            assert isinstance(target, Targets)
            assert torch.equal(target.boxes, other.boxes)
            assert torch.equal(target.masks, other.masks)
        for truth, index in zip(batch.references, batch.index.tolist(), strict=True):
            assert isinstance(truth, Truth)
            assert truth.number == index
            assert truth.size == (60 + 10 * index, 120 - 10 * index)


def test_a_batch_is_the_same_after_it_was_sent():
    batch = next(
        Loader(Painted(), ObjectTransform(PLAIN, None), 3, assemble=MarkedBatches(PLAIN, judging=True)).epoch(0)
    )
    again = unpacked(packed(batch, Shelf()))
    assert isinstance(again, Batch)
    assert type(again.references[0].objects) is Objects
    assert torch.equal(again.references[2].objects.boxes_xyxy, batch.references[2].objects.boxes_xyxy)
    assert again.references[1].objects.ids == batch.references[1].objects.ids


def test_bounds_that_contradict_each_other_are_refused():
    with pytest.raises(ConfigError, match="change places"):
        Fitted(shorter=900, longer=600)
    with pytest.raises(ConfigError, match=r"data\.augment\.scales=0\.5,0\.9"):
        ObjectAugment(scales=(0.9, 0.5))
