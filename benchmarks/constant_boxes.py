"""What a detector scores that never looks: the same boxes for every picture, the likeliest ones of the training part.

Run:  python benchmarks/constant_boxes.py DATA [BOXES [PART]]

The boxes are the centres of a k-means over the training boxes of each class, each class with its share of them; a box
is believed in as much as its share of the pictures has an object near it. Judged by the validation part, or another.
"""

import sys

import numpy as np
import torch

from vitrail.data.open import open_dataset, open_splits
from vitrail.samples import Batch, Truth
from vitrail.tasks.detected import Detected
from vitrail.tasks.detection_scores import DetectionMetrics


def centres(boxes: np.ndarray, count: int, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Where boxes gather, and how many of them gather there."""
    found = boxes[random.choice(len(boxes), min(count, len(boxes)), replace=False)]
    nearest = np.zeros(len(boxes), int)
    for _ in range(50):
        nearest = ((boxes[:, None] - found[None]) ** 2).sum(axis=2).argmin(axis=1)
        found = np.stack([boxes[nearest == place].mean(axis=0) if (nearest == place).any() else found[place]
                          for place in range(len(found))])  # fmt: skip
    return found, np.bincount(nearest, minlength=len(found))


def main(data: str, count: int = 100, part: str = "val") -> None:
    """Print the twelve numbers."""
    splits, random = open_splits(data), np.random.default_rng(0)
    judged = splits.val if part == "val" else open_dataset(data, part, splits.train.classes)
    gathered: list[list[np.ndarray]] = [[] for _ in splits.train.classes]
    for index in range(len(splits.train)):
        sample = splits.train[index]
        rows, columns = sample.picture.size
        for box, label in zip(sample.objects.boxes_xyxy.numpy(), sample.objects.labels.tolist(), strict=True):
            gathered[label].append(box / np.array([columns, rows, columns, rows]))
    total, boxes, scores, labels = sum(map(len, gathered)), [], [], []
    for label, mine in enumerate(gathered):
        found, members = centres(np.stack(mine), max(round(count * len(mine) / total), 1), random)
        boxes.append(found)
        scores.append(members / len(splits.train))
        labels += [label] * len(found)
    told = torch.tensor(np.concatenate(boxes), dtype=torch.float32)
    belief = torch.tensor(np.concatenate(scores), dtype=torch.float32).clamp(max=1)
    metrics, classes = DetectionMetrics(judged.classes), torch.tensor(labels)
    for index in range(len(judged)):
        sample = judged[index]
        rows, columns = size = sample.picture.size
        scaled = told * told.new_tensor([columns, rows, columns, rows])
        result = Detected(scaled, belief, classes, torch.arange(len(belief)), judged.classes, size=size)
        truth = Truth(sample.objects, size, index)
        metrics.update([result], Batch(None, (None,), torch.tensor([index]), (truth,)))
    print(f"{len(told)} constant boxes on {data}, judged by {len(judged)} pictures:")
    print(", ".join(f"{name} {100 * value:.1f}" for name, value in metrics.compute().items()))


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:3]), *sys.argv[3:4])
