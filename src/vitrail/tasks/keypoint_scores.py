"""Scores of poses: how near keypoints are (OKS), and COCO's ten numbers.

The similarity of two poses (OKS) stands where detectors have the overlap of two boxes: each keypoint counts by its
distance, in sizes of the person and widths of that keypoint, as a bell. The rest is average precision and recall as of
detectors, of the twenty best answers of a picture; faster-coco-eval counts them.

Source: Ronchi and Perona, "Benchmarking and Error Diagnosis in Multi-Instance Pose Estimation", ICCV 2017, section 3,
and COCO's evaluation code.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from vitrail.tasks.detection_scores import annotations, coco

NAMES = ("ap", "ap50", "ap75", "ap_medium", "ap_large", "ar", "ar50", "ar75", "ar_medium", "ar_large")
# how far two people who mark the same picture differ, in sizes of the person: nose, eyes, ears, shoulders, elbows,
# wrists, hips, knees, ankles
COCO_SIGMAS = tuple(
    thousandths / 1000 for thousandths in (26, 25, 25, 35, 35, 79, 79, 72, 72, 62, 62, 107, 107, 87, 87, 89, 89)
)


@dataclass(frozen=True, slots=True, eq=False)
class TruePoses:
    """The people who are marked in a picture.

    Attributes:
        keypoints: x and y of each in pixels, and whether it is marked: 0 not, 1 hidden, 2 seen.
        boxes_xywh: left, top, width and height of each person, pixels.
        areas: pixels that each covers, as the data set says it.
        crowd: which are crowds, that need not be found.
        size: rows and columns of the picture.
    """

    keypoints: Float[np.ndarray, "people keypoints 3"]
    boxes_xywh: Float[np.ndarray, "people 4"]
    areas: Float[np.ndarray, " people"]
    crowd: Bool[np.ndarray, " people"]
    size: tuple[int, int]


@dataclass(frozen=True, slots=True, eq=False)
class FoundPoses:
    """The people whom a model finds in a picture.

    Attributes:
        keypoints: x and y of each in pixels.
        scores: how much each person is believed in.
    """

    keypoints: Float[np.ndarray, "people keypoints 2"]
    scores: Float[np.ndarray, " people"]


def similarity(
    found: FoundPoses, true: TruePoses, sigmas: Sequence[float]
) -> Float[np.ndarray, "found_people true_people"]:
    """Object keypoint similarity (OKS) of all pairs, from 0 to 1: the mean over the keypoints that are marked.

    Of a person without any, all keypoints count by how far they lie outside a box of twice the sides.

    Args:
        found, true: people in one picture.
        sigmas: of each keypoint, how far two people who mark it differ, in sizes of the person.
    """
    marked = true.keypoints[:, :, 2].astype(bool)
    apart = found.keypoints[:, None] - true.keypoints[None, :, :, :2]
    low, sides = true.boxes_xywh[:, None, :2], true.boxes_xywh[:, None, 2:]
    places = found.keypoints[:, None]
    outside = np.maximum(low - sides - places, 0) + np.maximum(places - (low + 2 * sides), 0)
    alone = marked.sum(axis=1) == 0
    apart = np.where(alone[:, None, None], outside, apart)
    variances = (2 * np.asarray(sigmas)) ** 2
    scale = 2 * variances * (true.areas[:, None] + np.spacing(1))
    bells = np.exp(-np.square(apart).sum(axis=-1) / scale)
    counted = marked | alone[:, None]
    return (bells * counted).sum(axis=-1) / counted.sum(axis=-1)


def keypoint_scores(
    pictures: Sequence[tuple[FoundPoses, TruePoses]], sigmas: Sequence[float] = COCO_SIGMAS
) -> dict[str, float]:
    """COCO's ten numbers, from 0 to 1; -1 where nobody of that size is marked.

    `ap`: average precision, the mean over ten similarities from 0.50 to 0.95; `ap50`, `ap75`: at one of them;
    `ap_medium`, `ap_large`: of people so large (from 32 x 32 pixels on, from 96 x 96 on). `ar`: the same for recall.

    Args:
        pictures: what was found, and what is marked, in each.
        sigmas: see `similarity`.
    """
    from faster_coco_eval import COCOeval_faster

    sizes = [true.size for _, true in pictures]
    said = coco([found_rows(found) for found, _ in pictures], sizes, 1)
    marked = coco([true_rows(true) for _, true in pictures], sizes, 1)
    engine = COCOeval_faster(marked, said, "keypoints", kpt_oks_sigmas=list(sigmas))
    engine.evaluate()
    engine.accumulate()
    engine.summarize()
    return dict(zip(NAMES, map(float, engine.stats[: len(NAMES)]), strict=True))


def found_rows(found: FoundPoses) -> list[dict[str, Any]]:
    """What was found, as annotations of COCO, which tell its size by the box around the keypoints."""
    people, keypoints = found.keypoints.shape[:2]
    low, high = found.keypoints.min(axis=1), found.keypoints.max(axis=1)
    triples = np.concatenate([found.keypoints, np.ones((people, keypoints, 1))], axis=2)
    columns = {
        "category_id": np.zeros(people, int),
        "keypoints": triples.reshape(people, 3 * keypoints),
        "score": found.scores,
        "bbox": np.concatenate([low, high - low], axis=1),
        "area": (high - low).prod(axis=1),
    }
    return annotations(columns, [])


def true_rows(true: TruePoses) -> list[dict[str, Any]]:
    """What is marked, as annotations of COCO."""
    people, keypoints = true.keypoints.shape[:2]
    columns = {
        "category_id": np.zeros(people, int),
        "keypoints": true.keypoints.reshape(people, 3 * keypoints),
        "num_keypoints": (true.keypoints[:, :, 2] > 0).sum(axis=1),
        "bbox": true.boxes_xywh,
        "area": true.areas,
        "iscrowd": true.crowd.astype(int),
    }
    return annotations(columns, [])
