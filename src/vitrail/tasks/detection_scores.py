"""Scores of detectors: the twelve numbers of COCO, each class by itself, and what they are lost by.

The numbers are those of pycocotools to the last digit; faster-coco-eval counts them. An answer may match one object of
its class, best answers first, where the two share enough: intersection over union from 0.50 to 0.95 in steps of 0.05.
What lies on a crowd, any number of answers, is neither right nor wrong. Small, medium and large are told by the areas
that the data set states: below 32 x 32 pixels, below 96 x 96, and above.

Source: Lin et al., "Microsoft COCO", ECCV 2014, and its evaluation code.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vitrail.errors import percent
from vitrail.samples import Batch, Truth
from vitrail.tasks.detected import Detected
from vitrail.tasks.detection_errors import RECALLS, RIGHT, Cut, Judged, best_cut, breakdown, judge, ranked, together
from vitrail.tasks.scores import DETECTION, UNDEFINED

if TYPE_CHECKING:
    from faster_coco_eval import COCO

RunLengths = dict[str, Any]  # a mask as COCO compresses it: `size` (rows and columns) and `counts`

IOU_50, IOU_75 = 0, 5  # places among the engine's ten thresholds of overlap
ALL, SMALL, MEDIUM, LARGE = range(4)  # places among its ranges of area
FIRST, TEN, HUNDRED = range(3)  # places among how many answers count, of each class and picture
MOST = 100  # answers that count at all, of each class and picture
SIZES = {"small": "below 32 x 32", "medium": "32 x 32 to 96 x 96", "large": "above 96 x 96"}  # pixels
DRAWN = slice(None, None, 2)  # of 101 recalls those that a curve is drawn through


def in_xywh(boxes_xyxy: Float[Tensor, "objects 4"]) -> Float[np.ndarray, "objects 4"]:
    """Left, top, width and height, in double precision."""
    corners = boxes_xyxy.detach().cpu().double().numpy()
    return np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)


def compressed(masks: Bool[Tensor, "objects rows columns"]) -> list[RunLengths]:
    """Masks as run lengths, which take a hundredth of the room."""
    from faster_coco_eval import mask

    layers = masks.cpu().numpy().astype(np.uint8).transpose(1, 2, 0)
    return list(mask.encode(np.asfortranarray(layers)))


class Compared(NamedTuple):
    """What scores need of one picture, and no more; boxes are left, top, width and height in pixels.

    Attributes:
        number: by what number the data set calls it.
        boxes, labels, scores: of what was found.
        true_boxes, true_labels, true_areas, crowd: of what is marked.
        masks, true_masks: of both; empty where boxes are judged.
    """

    number: int | str
    size: tuple[int, int]
    boxes: Float[np.ndarray, "found 4"]
    labels: Int[np.ndarray, " found"]
    scores: Float[np.ndarray, " found"]
    true_boxes: Float[np.ndarray, "objects 4"]
    true_labels: Int[np.ndarray, " objects"]
    true_areas: Float[np.ndarray, " objects"]
    crowd: Bool[np.ndarray, " objects"]
    masks: list[RunLengths]
    true_masks: list[RunLengths]

    @classmethod
    def of(cls, result: Detected, truth: Truth, *, masks: bool) -> "Compared":
        """Of one picture; `masks` says whether masks are judged, or boxes."""
        assert result.size == truth.size, f"{result.size} of what was found is not {truth.size} of the picture"
        objects = truth.objects
        assert not masks or (result.masks is not None and objects.masks is not None), "there are no masks to judge"
        return cls(
            truth.number,
            truth.size,
            in_xywh(result.boxes_xyxy),
            result.labels.cpu().numpy(),
            result.scores.cpu().double().numpy(),
            in_xywh(objects.boxes_xyxy),
            objects.labels.cpu().numpy(),
            objects.areas.cpu().double().numpy(),
            objects.crowd.cpu().numpy(),
            compressed(result.masks) if masks and result.masks is not None else [],
            compressed(objects.masks) if masks and objects.masks is not None else [],
        )

    def results(self, class_ids: Sequence[int]) -> Iterator[dict[str, Any]]:
        """What was found, as results of COCO under the data set's numbers; what is of a class without one is left out.

        Args:
            class_ids: by what numbers it calls the classes; -1 for one that it does not have.
        """
        for one in self.found():
            if (number := class_ids[one.pop("category_id")]) >= 0:
                del one["area"]
                if mask := one.pop("segmentation", None):
                    one["segmentation"] = {**mask, "counts": mask["counts"].decode("ascii")}
                yield {"image_id": self.number, "category_id": number, **one}

    def in_order(self) -> tuple[bool, int | str]:
        """Of equal scores in different pictures, COCO takes those of the lower number first."""
        return isinstance(self.number, str), self.number

    def found(self) -> list[dict[str, Any]]:
        """What was found, as annotations of COCO."""
        from faster_coco_eval import mask

        areas = mask.area(self.masks) if self.masks else self.boxes[:, 2] * self.boxes[:, 3]
        columns = {"bbox": self.boxes, "category_id": self.labels, "score": self.scores, "area": areas}
        return annotations(columns, self.masks)

    def true(self) -> list[dict[str, Any]]:
        """What is marked, as annotations of COCO."""
        columns = {"bbox": self.true_boxes, "category_id": self.true_labels, "area": self.true_areas}
        return annotations({**columns, "iscrowd": self.crowd.astype(int)}, self.true_masks)

    def shares(self, order: Int[np.ndarray, " chosen"]) -> Float[np.ndarray, "chosen objects"]:
        """Overlap of some of what was found with what is marked; of a crowd, the part of an answer that lies on it."""
        from faster_coco_eval import mask

        if not order.size or not self.crowd.size:
            return np.zeros((order.size, self.crowd.size))
        crowd = self.crowd.astype(int).tolist()
        if self.true_masks:
            return np.asarray(mask.iou([self.masks[place] for place in order], self.true_masks, crowd))
        return np.asarray(mask.iou(self.boxes[order], self.true_boxes, crowd))

    def judged(self) -> Judged:
        """Right and wrong in this picture."""
        order = np.argsort(-self.scores, kind="stable")
        ranks = np.zeros(len(order), int)
        for label in np.unique(self.labels):
            of_class = self.labels[order] == label
            ranks[of_class] = np.arange(of_class.sum())
        order = order[ranks < MOST]
        return judge(self.shares(order), self.labels[order], self.scores[order], self.true_labels, self.crowd)


def annotations(columns: Mapping[str, np.ndarray], masks: Sequence[RunLengths]) -> list[dict[str, Any]]:
    """One dictionary for each object, from one array for each key."""
    rows = zip(*(column.tolist() for column in columns.values()), strict=True)
    found = [dict(zip(columns, row, strict=True)) for row in rows]
    for one, mask in zip(found, masks, strict=False):
        one["segmentation"] = mask
    return found


def coco(pictures: Sequence[list[dict[str, Any]]], sizes: Sequence[tuple[int, int]], classes: int) -> "COCO":
    """Annotations of pictures, numbered from 1 (0 would mean that nothing matches), as the engine takes them."""
    from faster_coco_eval import COCO

    objects = [{**one, "image_id": place} for place, found in enumerate(pictures, start=1) for one in found]
    return COCO(
        {
            "images": [{"id": place, "height": high, "width": wide} for place, (high, wide) in enumerate(sizes, 1)],
            "categories": [{"id": place, "name": str(place)} for place in range(classes)],
            "annotations": [{**one, "id": place} for place, one in enumerate(objects, start=1)],
        }
    )


def mean_defined(values: np.ndarray) -> float:
    """The mean over those that are defined: classes without an object have no precision."""
    defined = values[values > UNDEFINED]
    return float(np.mean(defined)) if defined.size else UNDEFINED


def defined(score: float) -> float | None:
    """A score for JSON, which has nothing for what is undefined."""
    return None if score == UNDEFINED else score


class Counted(NamedTuple):
    """What the engine has counted; -1 where there is no object to find.

    Attributes:
        precision: the best precision that is reached with at least that recall.
        recall: the share of the objects that is found.
    """

    precision: Float[np.ndarray, "overlaps recalls classes areas most"]
    recall: Float[np.ndarray, "overlaps classes areas most"]

    @classmethod
    def of(cls, pictures: Sequence[Compared], classes: int, *, masks: bool) -> "Counted":
        """Of any number of pictures, in any order."""
        from faster_coco_eval import COCOeval_faster

        ordered = sorted(pictures, key=Compared.in_order)
        sizes = [one.size for one in ordered]
        true = coco([one.true() for one in ordered], sizes, classes)
        found = coco([one.found() for one in ordered], sizes, classes)
        engine = COCOeval_faster(true, found, "segm" if masks else "bbox")
        engine.evaluate()
        engine.accumulate()
        return cls(np.asarray(engine.eval["precision"]), np.asarray(engine.eval["recall"]))

    def average_precision(self, overlap: int | slice = slice(None), area: int = ALL) -> float:
        """The mean over recalls, classes and overlaps."""
        return mean_defined(self.precision[overlap, :, :, area, HUNDRED])

    def average_recall(self, area: int = ALL, most: int = HUNDRED) -> float:
        """The mean over classes and overlaps."""
        return mean_defined(self.recall[:, :, area, most])

    def scores(self) -> dict[str, float]:
        """The twelve numbers."""
        values = (
            self.average_precision(),
            self.average_precision(IOU_50),
            self.average_precision(IOU_75),
            *(self.average_precision(area=area) for area in (SMALL, MEDIUM, LARGE)),
            *(self.average_recall(most=most) for most in (FIRST, TEN, HUNDRED)),
            *(self.average_recall(area) for area in (SMALL, MEDIUM, LARGE)),
        )
        return dict(zip(DETECTION, values, strict=True))

    def of_class(self, label: int) -> "Counted":
        """The same of one class."""
        return Counted(self.precision[:, :, label : label + 1], self.recall[:, label : label + 1])


class DetectionMetrics:
    """The twelve numbers of COCO, from 0 to 1; -1 where a data set has no such objects.

    `ap`: average precision, the mean over classes and over ten overlaps; `ap50`, `ap75`: at one of them; `ap_small`,
    `ap_medium`, `ap_large`: of objects so large. `ar1`, `ar10`, `ar100`: the share of objects that is found with so
    many answers for each class and picture, the mean over classes and overlaps; `ar_small`, `ar_medium`, `ar_large`.

    Args:
        classes: their names, in the order of the labels.
        masks: judge by the overlap of masks; of boxes unless asked for.
        nms: what answers of one class may share, where others were left out.
    """

    def __init__(self, classes: tuple[str, ...], *, masks: bool = False, nms: float = 1.0) -> None:
        self.classes, self.masks, self.nms = classes, masks, nms
        self.pictures: list[Compared] = []
        self.counted: Counted | None = None

    def update(self, results: Sequence[Detected], batch: Batch) -> None:
        pairs = zip(results, batch.references, strict=True)
        self.pictures += [Compared.of(result, truth, masks=self.masks) for result, truth in pairs]
        self.counted = None

    def count(self) -> Counted:
        """All pictures so far."""
        if self.counted is None:
            self.counted = Counted.of(self.pictures, len(self.classes), masks=self.masks)
        return self.counted

    def compute(self) -> dict[str, float]:
        return self.count().scores()

    def judged(self) -> Judged:
        """Right and wrong in all pictures, at an overlap of one half."""
        return together([one.judged() for one in sorted(self.pictures, key=Compared.in_order)])

    def details(self) -> dict[str, Any]:
        judged = self.judged()
        objects = np.bincount(judged.true_labels, minlength=len(self.classes)).tolist()
        cuts = []
        for label, count in enumerate(objects):
            of_class = ranked(judged, label)
            cuts.append(best_cut(of_class.scores, of_class.verdicts == RIGHT, count))
        return {
            "classes": list(self.classes),
            "per_class": self.per_class(objects, cuts),
            "by_size": self.by_size(),
            "errors": breakdown(judged, cuts),
            "precision_recall": self.curves(),
            "remarks": self.remarks(),
        }

    def remarks(self) -> list[str]:
        """What has to be known beside the scores."""
        left_out = f"Boxes that share more than {percent(self.nms)} with a better one of their class are left out."
        return [left_out] if self.nms < 1 else []

    def per_class(self, objects: Sequence[int], cuts: Sequence[Cut]) -> list[dict[str, Any]]:
        """One row for each class; nothing is said where it has no objects."""
        rows = []
        for label, name in enumerate(self.classes):
            counted = self.count().of_class(label)
            scores = counted.average_precision(), counted.average_precision(IOU_50), counted.average_recall()
            ap, ap50, ar = map(defined, scores)
            row = {"label": name, "objects": objects[label], "ap": ap, "ap50": ap50, "ar": ar}
            rows.append(row | cuts[label]._asdict())
        return rows

    def by_size(self) -> list[dict[str, Any]]:
        """One row for small, medium and large objects each; the edges belong to both sides, as COCO has it."""
        areas = np.concatenate([np.zeros(0), *(one.true_areas[~one.crowd] for one in self.pictures)])
        rows = []
        for (name, pixels), (least, most), area in zip(
            SIZES.items(), pairwise((0, 32**2, 96**2, 1e10)), (SMALL, MEDIUM, LARGE), strict=True
        ):
            objects = int(((areas >= least) & (areas <= most)).sum())
            ap, ar = self.count().average_precision(area=area), self.count().average_recall(area)
            rows.append({"size": name, "pixels": pixels, "objects": objects, "ap": defined(ap), "ar": defined(ar)})
        return rows

    def curves(self) -> dict[str, Any]:
        """Precision over recall at an overlap of one half: of each class at some recalls, none where it has no objects.

        Each is the best precision that is reached with at least that recall, of which average precision is the mean.
        """
        curves = self.count().precision[IOU_50, :, :, ALL, HUNDRED].T
        return {
            "recall": RECALLS[DRAWN].round(2).tolist(),
            "precision": [None if curve[0] == UNDEFINED else curve[DRAWN].tolist() for curve in curves],
        }
