"""What a detector costs, counted as DETR's paper counts it, and measured on this machine.

Source: Carion et al., "End-to-End Object Detection with Transformers", ECCV 2020, table 1.
"""

import copy
import time
from statistics import median
from typing import NamedTuple

import torch
from torch import nn

from vitrail.description import count_operations
from vitrail.environment import processor
from vitrail.errors import many
from vitrail.predict import Predictor
from vitrail.tasks.task import ask as answer

PICTURE = (800, 1130)  # rows and columns that need what the paper's 100 photographs need on average
ROUNDS = 3  # timed pictures, after one that warms up
HELD = ("backbone.stem.", "backbone.stages.0.")  # what does not learn in the paper, and is not counted there


class Costs(NamedTuple):
    """What one picture costs.

    Attributes:
        gflops: billions of products; a product and its sum count once, as in the paper.
        fps: pictures a second, one at a time, from prepared pixels to boxes; the median of a few.
        parameters: millions of numbers that learn; the paper holds the stem and the first stage as they are.
        how: it was measured, in words.
    """

    gflops: float
    fps: float
    parameters: float
    how: str

    @property
    def numbers(self) -> dict[str, float]:
        """By the names of a benchmark's columns."""
        return {"gflops": self.gflops, "fps": self.fps, "parameters": self.parameters}


def learned(model: nn.Module) -> int:
    """How many numbers learn in the paper's training."""
    return sum(values.numel() for name, values in model.named_parameters() if not name.startswith(HELD))


def frames_per_second(ask: Predictor, size: tuple[int, int], rounds: int = ROUNDS) -> float:
    """How many pictures a second a model answers, as a predictor runs it; one at a time."""
    like, preprocessing = next(ask.model.parameters()), ask.card.preprocessing
    pixels = torch.rand(preprocessing.channels, *size)
    inputs = preprocessing.together([pixels]).to(like.device, like.dtype)
    taken = []
    with torch.inference_mode(), ask.speed():
        for _ in range(rounds + 1):
            started = time.perf_counter()
            answer(ask.quick, inputs)[0].sum().item()  # reading a number waits for the device
            taken.append(time.perf_counter() - started)
    return 1 / median(taken[1:])


def where(ask: Predictor) -> str:
    """What a model runs on."""
    device = next(ask.model.parameters()).device
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type != "cpu":
        return device.type
    return f"{processor().found.partition(';')[0]}, {many(torch.get_num_threads(), 'thread')}"


def costs(ask: Predictor, size: tuple[int, int] = PICTURE) -> Costs:
    """What a picture of this many rows and columns costs."""
    model = copy.deepcopy(ask.model).to("meta")
    products = count_operations(model, torch.empty(1, ask.card.preprocessing.channels, *size, device="meta")) / 2
    how = f"costs measured here: {size[0]} x {size[1]} pixels, one picture at a time, {where(ask)}"
    return Costs(products / 1e9, frames_per_second(ask, size), learned(ask.model) / 1e6, how)
