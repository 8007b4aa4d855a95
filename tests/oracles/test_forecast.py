"""Where a curve leads, where that is known."""

import math

import pytest

from vitrail.train.forecast import in_a_sentence, is_foretold, most_of, outlook


def test_a_straight_curve_goes_on_and_one_that_flattens_flattens_on():
    steps = [100, 200, 300]
    _, straight = outlook(steps, [0.1, 0.2, 0.3], 600, "max")
    flat, _ = outlook(steps, [0.1 * math.log(step) for step in steps], 600, "max")
    assert straight == pytest.approx(0.6)
    assert flat == pytest.approx(0.1 * math.log(600))


def test_what_is_small_and_good_goes_down():
    low, high = outlook([100, 200, 300], [9.0, 8.0, 7.0], 600, "min")
    assert low == pytest.approx(4.0)
    assert low < high < 7.0


@pytest.mark.parametrize(("scores", "end"), [([0.5, 0.4, 0.3], "max"), ([1.0, 2.0, 3.0], "min")])
def test_it_is_never_worse_than_the_best_so_far(scores, end):
    best = max(scores) if end == "max" else min(scores)
    assert outlook([10, 20, 30], scores, 100, end) == (best, best)


def test_no_score_is_larger_than_can_be_nor_below_nothing():
    assert outlook([1, 2, 3], [0.5, 0.7, 0.9], 100, "max", most_of("ap"))[1] == 1.0
    assert outlook([1, 2, 3], [3.0, 2.0, 1.0], 100, "min", most_of("perplexity"))[0] == 0.0


def test_what_a_detector_reached_lay_between_the_two_or_near():
    """detr-tiny on BCCD, every ten of 150 epochs: 5.5 and so on, and 33.4 at the end."""
    curve = [5.5, 3.5, 12.9, 13.3, 11.7, 16.3, 19.1, 20.1, 16.4, 26.0, 28.4, 30.5, 31.7, 33.2]
    epochs = [10 * number for number in range(1, len(curve) + 1)]
    for count in range(3, len(curve)):
        low, high = outlook(epochs[:count], [value / 100 for value in curve[:count]], 150, "max", 1.0)
        assert low < 0.334 < high + 0.025


def test_it_is_said_as_the_score_is():
    assert in_a_sentence("ap", 0.18, 0.36) == "at the end 18.0 to 36.0, if it goes on like this"
    assert in_a_sentence("top1", 0.5, 0.5) == "at the end 50.0%, if it goes on like this"


def test_only_scores_that_have_a_largest_value_are_foretold():
    assert all(map(is_foretold, ("ap", "pq", "top1", "bleu")))
    assert not any(map(is_foretold, ("perplexity", "loss")))
