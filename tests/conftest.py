"""What all tests share: the fixtures folder, checked shapes, one thread, products by oneDNN, and no hub."""

import os
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"  # read once, when huggingface_hub is imported

import pytest
import torch

import typechecker

typechecker.install("vitrail")
torch.set_num_threads(1)  # the machine is shared by two test processes

from vitrail.core import packing  # noqa: E402 - once its shapes are checked

packing.LITTLE = packing.LITTLE_WITH_TILES = 0  # the models of tests are small, and torch would multiply for them

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of fixtures and real data beside the clone; tests that read it step aside where there is none."""
    if not SHARED.is_dir():
        pytest.skip("needs the folder ../shared beside the clone")
    return SHARED
