"""Detectors whose answers are known, and a small one with a card and a run."""

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from vitrail.core.attention import Attention
from vitrail.core.tokens import Tokens
from vitrail.loading import create_model
from vitrail.models.detr import Memory
from vitrail.outputs import Detections
from vitrail.samples import Batch, Images, Targets

CLASSES = ("cat", "dog")
CORNERS = ((0.25, 0.25), (0.75, 0.25), (0.25, 0.75), (0.75, 0.75))
CELL = 8  # pixels of a planted detector
SURE, SILENT = 9.0, -9.0


class Cornered(nn.Module):
    """Query k answers in the box that it is given, where it answers at all, and looks at the cell in its middle."""

    attention_kinds: ClassVar[dict[str, str]] = {"look": "cross", "read": "encoder"}
    stride = (CELL, CELL)

    def __init__(self, boxes: Sequence[tuple[float, float, float, float]], silent: Sequence[int] = ()) -> None:
        super().__init__()
        self.register_buffer("boxes", torch.tensor(boxes))
        logits = torch.zeros(len(boxes), len(CLASSES) + 1)
        logits[:, 0] = SURE
        logits[list(silent), 0] = SILENT
        self.register_buffer("logits", logits)
        self.read, self.look = (Attention(2, heads=1, scale=1.0) for _ in range(2))
        for part in (self.read, self.look):
            for parameter in part.parameters():
                nn.init.zeros_(parameter)
            part.query.weight.data, part.key.weight.data = torch.eye(2), 2000 * torch.eye(2)

    def encode(self, pixels: Tensor, valid: Tensor | None = None) -> Memory:
        rows, columns = (-(-side // CELL) for side in pixels.shape[2:])
        y, x = ((torch.arange(count) + 0.5) / count * 2 - 1 for count in (rows, columns))
        places = torch.cartesian_prod(y, x).flip(1).expand(pixels.shape[0], -1, -1)
        around = nn.functional.normalize(places, dim=-1)  # whoever lies in the same direction is looked at
        return Memory(Tokens(around + self.read(around, around, around), (rows, columns), 0), places)

    def decode(self, memory: Memory) -> list[Tensor]:
        asked = nn.functional.normalize(self.boxes[:, :2] * 2 - 1, dim=-1)[None].expand(
            memory.tokens.x.shape[0], -1, -1
        )
        return [self.look(asked, memory.tokens.x, memory.tokens.x)]

    def forward(self, pixels: Tensor, valid: Tensor | None = None) -> Detections:
        self.decode(self.encode(pixels, valid))
        count = pixels.shape[0]
        return Detections(self.logits.expand(count, -1, -1), self.boxes.expand(count, -1, -1))


def batches(count: int, objects: int, size: tuple[int, int] = (32, 48), together: int = 3) -> list[Batch]:
    """Pictures without a sign of what is in them, in each of which so many objects are marked."""
    found = []
    for first in range(0, count, together):
        inside = range(first, min(first + together, count))
        inputs = Images(torch.rand(len(inside), 3, *size), torch.ones(len(inside), *size, dtype=torch.bool))
        target = tuple(Targets(torch.zeros(objects, dtype=torch.long), torch.full((objects, 4), 0.5)) for _ in inside)
        found.append(Batch(inputs, target, torch.tensor(list(inside))))
    return found


def small_detector(seed: int = 0, **changes) -> nn.Module:
    """A tiny DETR with a card, in which every number says something."""
    sizes = {"dim": 16, "heads": 2, "encoder_depth": 2, "decoder_depth": 3, "mlp_dim": 24, "queries": 7, "classes": 2}
    torch.manual_seed(seed)
    model = create_model("detr-tiny", backbone={"stem": 4, "widths": (4, 6, 8)}, **sizes | changes)
    for name, parameter in model.named_parameters():
        if not name.startswith("backbone"):
            parameter.data += 0.3 * torch.randn_like(parameter)
    reads = replace(model.card.preprocessing, shorter=48, longer=96)
    model.card = replace(model.card, labels=CLASSES, class_ids=(3, 8), preprocessing=reads)
    return model.eval()


def noise(rows: int = 60, columns: int = 90, seed: int = 0) -> Image.Image:
    """A picture of coarse noise."""
    small = np.random.default_rng(seed).integers(0, 256, (rows // 10, columns // 10, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((columns, rows), Image.Resampling.BICUBIC)
