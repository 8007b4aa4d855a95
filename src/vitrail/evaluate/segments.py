"""Pictures of a panoptic model's report: the segments that it says beside the true ones."""

import numpy as np
from PIL import Image

from vitrail.errors import many
from vitrail.evaluate.objects import GREY, Pair, colour
from vitrail.explain.boxes import colour_of
from vitrail.explain.segments import counted, draw_result, draw_segments
from vitrail.geometry.panoptic import numbered
from vitrail.samples import Truth
from vitrail.tasks.panoptic_quality import Compared
from vitrail.tasks.segmented import Segmented

WORDS = (
    "Left: what the model says. Right: the truth. Each class has its colour; what is untinted belongs to nothing. A "
    "segment is found that shares more than half with one of its class. A question mark stands behind what is said for "
    "nothing, and an exclamation mark behind what is missed; grey is a crowd, which need not be found. Below: how many "
    "are found and what is wrong, then the file."
)


def truth_drawn(image: Image.Image, result: Segmented, truth: Truth, found: Compared) -> Image.Image:
    """The picture with its true segments; those that are missed are marked."""
    objects = truth.objects
    assert objects.masks is not None, "there are no masks to judge by"
    labels, crowd = objects.labels.tolist(), objects.crowd.tolist()
    names = counted([result.classes[label] for label in labels], [result.things[label] for label in labels])
    names = [f"{name} !" if missed else name for name, missed in zip(names, found.missed, strict=True)]
    colours = [colour(GREY) if one else colour_of(label) for label, one in zip(labels, crowd, strict=True)]
    numbers = numbered(objects.masks.numpy())
    return draw_segments(image, numbers, list(range(1, len(labels) + 1)), names, colours)


def in_words(found: Compared, crowds: int) -> str:
    """How many segments are found, how well, and how many are said for nothing."""
    there = len(found.missed) - crowds
    said = f"{len(found.pairs)} of {many(there, 'segment')} found"
    said += f", sharing {np.mean(found.overlaps):.0%}" if len(found.pairs) else ""
    return f"{said}; {int(found.wrong.sum())} said for nothing" if found.wrong.any() else said


def side_by_side(image: Image.Image, result: Segmented, truth: Truth) -> Pair:
    """Draw what is said and what is true.

    Args:
        image: the picture, of any size.
        result: what was found in it, of the file's rows and columns.
        truth: what is true.
    """
    found = result.compared(truth)
    answer = draw_result(image, result, [" ?" if wrong else "" for wrong in found.wrong])
    words = in_words(found, int(truth.objects.crowd.sum()))
    right = not found.missed.any() and not found.wrong.any()
    return Pair(answer, truth_drawn(image, result, truth, found), words, right)
