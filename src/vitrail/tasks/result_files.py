"""What detectors and panoptic models have found, as the files that other tools read.

COCO results (one JSON list of objects), YOLO (one text file for each picture) and COCO panoptic (a JSON file, and a PNG
for each picture in a folder of the same name). Classes and pictures have the numbers of the user's data set.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image

from vitrail.errors import DataError
from vitrail.geometry.boxes import to_cxcywh
from vitrail.geometry.panoptic import from_colours, in_colours
from vitrail.tasks.detected import Detected
from vitrail.tasks.detection_scores import compressed
from vitrail.tasks.segmented import Segment, Segmented
from vitrail.writing import write_whole

DIGITS = 4  # behind the point of a pixel; YOLO's are of the whole picture, and have two more


class Seen(NamedTuple):
    """What was found in one picture.

    Attributes:
        number: by what number the data set calls the picture.
        name: of its file, without the ending.
    """

    number: int | str
    name: str
    result: Any


def class_numbers(classes: Sequence[str], class_ids: Sequence[int]) -> tuple[int, ...]:
    """By what numbers the user's data set calls the classes: their places, where it has none."""
    return tuple(class_ids) or tuple(range(len(classes)))


def coco_results(result: Detected, number: int | str) -> list[dict[str, Any]]:
    """The objects of one picture as COCO's results, in its pixels; with their masks, where there are some.

    Args:
        result: placed in pixels of the file; all that is in it is written, whatever its score.
        number: `image_id` of the picture.
    """
    assert result.size is not None, "what was found is not placed yet"
    numbers = class_numbers(result.classes, result.class_ids)
    corners = result.boxes_xyxy.double()
    boxes = torch.cat([corners[:, :2], corners[:, 2:] - corners[:, :2]], dim=1)
    rows = [
        {
            "image_id": number,
            "category_id": numbers[label],
            "bbox": [round(side, DIGITS) for side in box],
            "score": score,
        }
        for label, box, score in zip(result.labels.tolist(), boxes.tolist(), result.scores.tolist(), strict=True)
    ]
    if result.masks is not None:
        for row, mask in zip(rows, compressed(result.masks), strict=True):
            row["segmentation"] = {"size": list(mask["size"]), "counts": mask["counts"].decode("ascii")}
    return rows


def write_results(path: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    """COCO's results as a file: one JSON list, an object on each line."""
    return write_whole(path, "[" + ",\n".join(map(json.dumps, rows)) + "]\n")


def yolo_numbers(classes: Sequence[str], class_ids: Sequence[int]) -> tuple[int, ...]:
    """The user's numbers if they count from 0, as YOLO's do; those of COCO begin with 1, and give way to places."""
    numbers = class_numbers(classes, class_ids)
    return numbers if min(numbers) == 0 else tuple(range(len(classes)))


def yolo_lines(result: Detected) -> str:
    """The objects of one picture as labels of YOLO: class, centre x and y, width, height; 1 is the picture."""
    assert result.size is not None, "what was found is not placed yet"
    rows, columns = result.size
    numbers = yolo_numbers(result.classes, result.class_ids)
    boxes = to_cxcywh(result.boxes_xyxy.double()) / torch.tensor([columns, rows, columns, rows])
    lines = [
        f"{numbers[label]} {' '.join(f'{side:.{DIGITS + 2}f}' for side in box)}\n"
        for label, box in zip(result.labels.tolist(), boxes.tolist(), strict=True)
        if min(box[2:]) >= 10 ** -(DIGITS + 2)  # a label has an area
    ]
    return "".join(lines)


def refuse_labels_at(path: Path) -> None:
    """Refuse to write where labels may be that somebody drew.

    Raises:
        DataError: there is such a file.
    """
    if path.exists():
        raise DataError(f"{path} is there already, and labels are not overwritten. Name a new folder with --out.")


def write_yolo(folder: Path, found: Iterable[Seen]) -> list[Path]:
    """Write a text file for each picture, empty where nothing was found, and `classes.txt` with a name for each number.

    Raises:
        DataError: two pictures have one name, or there is a file of that name already: labels are never lost.
    """
    texts, names = dict[Path, str](), dict[int, str]()
    refuse_labels_at(folder / "classes.txt")
    for seen in found:
        path = folder / f"{seen.name}.txt"
        if path in texts:
            raise DataError(f"Two pictures are called {seen.name}, and would share {path.name}. Give one a new name.")
        refuse_labels_at(path)
        texts[path] = yolo_lines(seen.result)
        names |= dict(zip(yolo_numbers(seen.result.classes, seen.result.class_ids), seen.result.classes, strict=True))
    lines = [names.get(number, f"class {number}") for number in range(max(names, default=-1) + 1)]
    folder.mkdir(parents=True, exist_ok=True)
    for path, text in texts.items():
        path.write_text(text, encoding="utf-8")
    (folder / "classes.txt").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return list(texts)


def write_panoptic(path: Path, found: Iterable[Seen]) -> Path:
    """Write segments as COCO does: this JSON file, and a PNG for each picture in the folder of its name."""
    folder = path.with_suffix("")
    folder.mkdir(parents=True, exist_ok=True)
    annotations, categories = [], dict[int, dict[str, Any]]()
    for seen in found:
        result: Segmented = seen.result
        numbers = class_numbers(result.classes, result.class_ids)
        segments = [
            {"id": segment.number, "category_id": numbers[segment.label], "score": segment.score, "area": area}
            for segment, area in zip(result.segments, result.areas, strict=True)
        ]
        name = f"{seen.name}.png"
        annotations.append({"image_id": seen.number, "file_name": name, "segments_info": segments})
        Image.fromarray(in_colours(result.numbers.cpu().numpy())).save(folder / name)
        for number, label, thing in zip(numbers, result.classes, result.things, strict=True):
            categories[number] = {"id": number, "name": label, "isthing": int(thing)}
    told = {"annotations": annotations, "categories": list(categories.values())}
    path.write_text(json.dumps(told) + "\n", encoding="utf-8")
    return path


def read_panoptic(path: Path) -> list[Seen]:
    """What `write_panoptic` has written.

    Raises:
        DataError: the file, or one of its pictures, is missing or something else.
    """
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        categories = told["categories"]
        place = {category["id"]: number for number, category in enumerate(categories)}
        classes = tuple(str(category["name"]) for category in categories)
        things, class_ids = tuple(bool(category["isthing"]) for category in categories), tuple(place)
        found = []
        for row in told["annotations"]:
            with Image.open(path.with_suffix("") / Path(row["file_name"]).name) as image:
                numbers = torch.from_numpy(from_colours(np.asarray(image.convert("RGB"))))
            segments = tuple(
                Segment(one["id"], place[one["category_id"]], one.get("score", 1.0)) for one in row["segments_info"]
            )
            result = Segmented(numbers, segments, classes, things, class_ids)
            found.append(Seen(row["image_id"], Path(row["file_name"]).stem, result))
    except (OSError, KeyError, TypeError, AttributeError, ValueError) as error:
        raise DataError(f"{path} does not hold segments as COCO writes them: {error!r}.") from error
    return found
