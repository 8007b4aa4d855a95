"""Pictures of a detector's report: what it says beside what is true."""

from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from PIL import Image

from vitrail.errors import many
from vitrail.evaluate.plots import RIGHT as TEAL
from vitrail.evaluate.plots import WRONG as ORANGE
from vitrail.explain.boxes import Colour, draw_objects
from vitrail.samples import Objects
from vitrail.tasks.detected import Detected
from vitrail.tasks.detection_errors import CROWDED, ERRORS, RIGHT, Verdicts

GREY = "#8a8a8a"  # of crowds, and of what lies on them
WORDS = (
    "Left: what the model says, from the best threshold of each class on; teal is right and orange wrong. Right: the "
    "truth; teal is found and orange is not, grey is a crowd, which need not be. An answer is right that shares at "
    "least half with an object of its class. Below: how many are found and what is wrong, then the file."
)


def colour(code: str) -> Colour:
    """Red, green and blue of a colour as figures have it."""
    return int(code[1:3], 16), int(code[3:5], 16), int(code[5:7], 16)


def believed(result: Detected, details: Mapping[str, Any]) -> Detected:
    """What reaches the best threshold of its class; that of the task, where nothing of a class ever is right."""
    cuts = [row["threshold"] for row in details["per_class"]]
    least = result.scores.new_tensor([result.threshold if cut is None else cut for cut in cuts], dtype=torch.float64)
    return result.only(result.scores.double() >= least[result.labels])


def in_words(verdicts: Verdicts, objects: Objects) -> str:
    """How many objects are found, and how often each error is made."""
    found = int((verdicts.kinds == RIGHT).sum())
    wrong = Counter(ERRORS[kind] for kind in verdicts.kinds.tolist() if kind not in (RIGHT, CROWDED))
    errors = ", ".join(f"{count} {error}" for error, count in wrong.most_common())
    said = f"{found} of {many(int((~objects.crowd).sum()), 'object')} found"
    return f"{said}; wrong answers: {errors}" if errors else said


def answer_drawn(image: Image.Image, result: Detected, verdicts: Verdicts, scale: float) -> Image.Image:
    """What is said, right and wrong by its colour."""
    colours = [colour({RIGHT: TEAL, CROWDED: GREY}.get(kind, ORANGE)) for kind in verdicts.kinds.tolist()]
    names = [result.classes[label] for label in result.labels.tolist()]
    return draw_objects(image, result.boxes_xyxy * scale, names, colours, scores=result.scores.tolist())


def truth_drawn(
    image: Image.Image, objects: Objects, verdicts: Verdicts, classes: tuple[str, ...], scale: float
) -> Image.Image:
    """What is true, found and missed by its colour."""
    found = {
        place for place, kind in zip(verdicts.about.tolist(), verdicts.kinds.tolist(), strict=True) if kind == RIGHT
    }
    colours = [
        colour(GREY if crowd else TEAL if place in found else ORANGE)
        for place, crowd in enumerate(objects.crowd.tolist())
    ]
    return draw_objects(
        image, objects.boxes_xyxy * scale, [classes[label] for label in objects.labels.tolist()], colours
    )


class Pair(NamedTuple):
    """A picture twice, with what is said and with what is true, and what that comes to.

    Attributes:
        answer, truth: both of one size.
        words: how many are found and what is wrong.
        right: whether all is found and nothing else said.
    """

    answer: Image.Image
    truth: Image.Image
    words: str
    right: bool


def side_by_side(image: Image.Image, result: Detected, objects: Objects, details: Mapping[str, Any]) -> Pair:
    """Draw what is said and what is true.

    Args:
        image: the picture, of any size.
        result: what was found in it, in pixels of the file.
        objects: what is true, in pixels of the file.
        details: of `DetectionMetrics`; from the best threshold of its class on, an answer counts.
    """
    assert result.size is not None, "what was found is not placed yet"
    said, scale = believed(result, details), image.width / result.size[1]
    verdicts = said.compared(objects)
    right = bool((verdicts.kinds == CROWDED).sum() + (verdicts.kinds == RIGHT).sum() == len(said))
    return Pair(
        answer_drawn(image, said, verdicts, scale),
        truth_drawn(image, objects, verdicts, result.classes, scale),
        in_words(verdicts, objects),
        right and int((verdicts.kinds == RIGHT).sum()) == int((~objects.crowd).sum()),
    )
