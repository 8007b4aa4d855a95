"""The generated world: what its shapes are, and that nothing but the shape gives a class away."""

import hashlib
from itertools import combinations

import numpy as np
import pytest

from vitrail.data.chance import Draw, chance
from vitrail.data.check import check
from vitrail.data.datasets.scenes import CLASSES, Dice, Scenes, read_spelling
from vitrail.data.datasets.shapes import PATTERNS, SHAPES, unit_area
from vitrail.data.open import open_dataset, open_splits
from vitrail.errors import DataError


def signature(scenes, count=12):
    return hashlib.sha256(b"".join(scenes.draw(index).image.tobytes() for index in range(count))).hexdigest()


@pytest.fixture(scope="module")
def drawings():
    """Sixty scenes of each class."""
    scenes = Scenes(count=600)
    return [scenes.draw(index) for index in range(600)]


def test_a_scene_has_the_same_bytes_for_the_same_seed_in_any_order():
    forwards = [Scenes(count=20).draw(index).image for index in range(20)]
    backwards = [Scenes(count=20).draw(index).image for index in reversed(range(20))][::-1]
    assert all(np.array_equal(one, other) for one, other in zip(forwards, backwards, strict=True))


def test_scenes_have_the_same_bytes_on_every_machine():
    """Written down on AVX-512; the same with numpy held to SSE4 (NPY_DISABLE_CPU_FEATURES) and libm without FMA."""
    assert signature(Scenes(count=500)) == "72f6bc30846b0e3f6464ab906806ccd0759cd29095a52bd5a5bce1a708106029"


def test_seeds_and_parts_are_different_worlds():
    worlds = [Scenes(), Scenes(seed=1), Scenes(part="val"), Scenes(part="test")]
    assert len({signature(world) for world in worlds}) == 4


def test_masks_show_where_the_thing_is_and_what_hides_it():
    for index in range(40):
        sample, drawing = Scenes()[index], Scenes().draw(index)
        (mask,) = sample.extras["masks"]
        assert mask.shape == drawing.image.shape[:2]
        assert 0.08 < mask.mean() < 0.33
        assert sample.label == index % 10


def test_nothing_but_the_shape_depends_on_the_class():
    def scene(shape):
        return Dice(chance(Draw.SCENE, 5), (48, 64), 3).scene(shape)

    def alike(one, other):
        """The same numbers, in whatever tuples, lists and arrays."""
        if isinstance(one, tuple | list):
            return len(one) == len(other) and all(map(alike, one, other))
        return np.array_equal(one, other)

    one, other = scene("heart"), scene("ring")
    assert alike(one.ground, other.ground)
    assert alike(one.grain, other.grain)
    assert len(one.things) == len(other.things)
    for thing, twin in zip(one.things, other.things, strict=True):
        if thing.shape == "heart":
            area, its_area = (unit_area(t.shape) * t.scale[0] * t.scale[1] for t in (thing, twin))
            assert area == pytest.approx(its_area, rel=1e-4)
            twin = twin._replace(shape="heart", scale=thing.scale)
        assert alike(thing, twin)


@pytest.mark.parametrize("name", SHAPES)
def test_the_middle_of_a_shape_is_inside_and_its_surroundings_are_not(name):
    ticks = np.linspace(-3, 3, 301, dtype=np.float32)
    distance = SHAPES[name](ticks[None], ticks[:, None])
    assert distance.shape == (301, 301)
    assert distance.dtype == np.float32
    reach = np.hypot(*np.meshgrid(ticks, ticks))
    assert (distance[reach > 1.9] > 0).all()
    slope = np.hypot(*np.gradient(distance, 0.02))
    assert np.median(slope[np.abs(distance) < 0.1]) == pytest.approx(1, abs=0.1), "about a distance, near the edge"


def test_areas_are_those_of_geometry():
    assert unit_area("circle") == pytest.approx(np.pi, rel=0.01)
    assert unit_area("square") == pytest.approx(1.8**2, rel=0.01)
    assert unit_area("triangle") == pytest.approx(3 * np.sqrt(3) * 0.6**2, rel=0.01)
    assert unit_area("cross") == pytest.approx(4 * (2 * 1.1 * 0.38) - 4 * 0.38**2, rel=0.01)


def test_all_classes_have_the_same_area_on_average(drawings):
    areas = np.array([drawing.masks[0].mean() for drawing in drawings]).reshape(60, 10)
    assert areas.mean(0).std() < 0.1 * areas.mean()


@pytest.mark.parametrize("pattern", PATTERNS)
def test_patterns_lie_between_their_two_colours(pattern):
    u, v = np.meshgrid(np.linspace(-3, 3, 99, dtype=np.float32), np.linspace(-2, 2, 55, dtype=np.float32))
    level = pattern(u, v)
    assert level.shape == u.shape
    assert level.min() >= 0
    assert level.max() <= 1
    assert np.ptp(level) > 0.5


def colour_features(image):
    """Means, deviations and a histogram of colours: all that a picture tells without saying where."""
    pixels = image.reshape(-1, 3).astype(np.float64) / 255
    histogram, _ = np.histogramdd(pixels, bins=4, range=[(0, 1)] * 3)
    return np.concatenate([pixels.mean(0), pixels.std(0), histogram.ravel() / len(pixels)])


def test_colours_do_not_give_the_class_away(drawings):
    features = np.stack([colour_features(drawing.image) for drawing in drawings])
    features = np.hstack([(features - features.mean(0)) / (features.std(0) + 1e-9), np.ones((600, 1))])
    wanted = np.eye(10)[np.arange(600) % 10]
    learned, judged = slice(0, 400), slice(400, 600)
    ridge = features[learned].T @ features[learned] + 10 * np.eye(features.shape[1])
    answers = features[judged] @ np.linalg.solve(ridge, features[learned].T @ wanted[learned])
    accuracy = (answers.argmax(1) == wanted[judged].argmax(1)).mean()
    assert accuracy < 0.17, "chance is 0.1, and its deviation here 0.021"


def test_the_shape_does_give_the_class_away(drawings):
    """How far the pixels of a mask lie from their middle finds most classes, by the nearest neighbour."""

    def distances(mask):
        rows, columns = np.nonzero(mask)
        offset = np.hypot(rows - rows.mean(), columns - columns.mean()) / np.sqrt(mask.sum())
        return np.histogram(offset, bins=24, range=(0, 1.2))[0] / mask.sum()

    features, labels = np.stack([distances(drawing.masks[0]) for drawing in drawings]), np.arange(600) % 10
    difference = np.abs(features[400:, None] - features[None, :400]).sum(2)
    assert (labels[:400][difference.argmin(1)] == labels[400:]).mean() > 0.5


def test_the_spelling_says_size_channels_count_and_seed():
    scenes = read_spelling("scenes:50,size=32x48,channels=1,seed=7")
    assert (scenes.count, scenes.size, scenes.channels, scenes.seed) == (50, (32, 48), 1, 7)
    assert scenes.draw(0).image.shape == (32, 48, 1)
    assert scenes[0].picture.size == (32, 48)
    assert read_spelling("scenes:").count == 4000


@pytest.mark.parametrize(
    ("spelling", "sentence"),
    [
        ("scenes:many", "'many' in 'scenes:many' means nothing"),
        ("scenes:10,size=8x8", "10 scenes of 8x8"),
        ("scenes:0", "0 scenes"),
        ("scenes:5,channels=0", "at least one channel"),
        ("scenes:5,channels=99999", "at most 64 million values"),
        ("scenes:5,size=64", "size in 'scenes:5,size=64' takes rows x columns, such as size=48x96, not '64'"),
        ("scenes:5,seed=", "seed in 'scenes:5,seed=' takes a whole number, such as seed=7, and none is given"),
        ("scenes:5,channels=three", "channels=1, not 'three'"),
        ("scenes:5,sise=32x32", "'sise=32x32' in 'scenes:5,sise=32x32' means nothing"),
    ],
)
def test_a_spelling_that_means_nothing_is_a_sentence(spelling, sentence):
    with pytest.raises(DataError, match=sentence):
        open_splits(spelling)
    with pytest.raises(DataError, match=sentence):
        check(spelling)


def test_scenes_open_as_a_data_set_in_parts():
    splits = open_splits("scenes:100")
    assert (len(splits.train), len(splits.val)) == (100, 20)
    assert splits.train.classes == CLASSES == tuple(sorted(CLASSES))
    assert splits.train.labels() == list(range(10)) * 10
    turned = open_dataset("scenes:100", "test", classes=CLASSES[::-1])
    assert turned.labels()[:2] == [turned[0].label, turned[1].label] == [9, 8]
    with pytest.raises(DataError, match="triangle, and the classes expected are arrow,"):
        open_dataset("scenes:100", "val", classes=CLASSES[:-1])
    assert check("scenes:100") == []
    with pytest.raises(DataError, match="99,999,999,999 scenes: at most 10,000,000"):
        open_dataset("scenes:99999999999", "val")


def test_scenes_in_many_channels_are_scenes_and_no_channel_is_anothers_copy():
    scenes = read_spelling("scenes:5,size=32x32,channels=6")
    first, again = scenes.draw(3), read_spelling("scenes:5,size=32x32,channels=6").draw(3)
    assert first.image.shape == (32, 32, 6)
    assert np.array_equal(first.image, again.image)
    assert np.array_equal(first.masks, read_spelling("scenes:5,size=32x32").draw(3).masks), "the same scene"
    channels = first.image.transpose(2, 0, 1).astype(float)
    assert all(channel.std() > 10 for channel in channels)
    assert all(np.abs(one - other).mean() > 1 for one, other in combinations(channels, 2))
