"""Transformers in computer vision: readable as the papers, equal to the published models, and see-through.

    import vitrail

    predict = vitrail.predictor("runs/classify/flowers5")
    [rose] = predict("rose.jpg")
    print(rose.summary())
    predict.explain("rose.jpg", at=(410, 37)).save("attention.png")

Names are found on first use, so that importing vitrail does not import torch.
"""

import importlib
import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vitrail.data.images import read_image
    from vitrail.data.open import open_dataset
    from vitrail.description import describe
    from vitrail.errors import (
        CheckpointError,
        ConfigError,
        DataError,
        ExplanationError,
        ImageError,
        TrainingError,
        UsageError,
        VitrailError,
    )
    from vitrail.loading import create_model, from_pretrained, list_models, register_family, save_pretrained
    from vitrail.predict import predictor

if sys.platform == "darwin":  # what torch has not written for Apple's GPUs is computed by the processor
    os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")  # which torch reads when it is imported

__all__ = [
    "CheckpointError",
    "ConfigError",
    "DataError",
    "ExplanationError",
    "ImageError",
    "TrainingError",
    "UsageError",
    "VitrailError",
    "create_model",
    "describe",
    "from_pretrained",
    "list_models",
    "open_dataset",
    "predictor",
    "read_image",
    "register_family",
    "save_pretrained",
]

ELSEWHERE = {  # what other libraries have: what to type here
    "AutoModel": "vitrail.from_pretrained(FOLDER)",
    "register_model": "vitrail.register_family",
    "load": "vitrail.from_pretrained(FOLDER), or vitrail.predictor(FOLDER) to ask it",
    "pipeline": "vitrail.predictor(FOLDER)",
    "train": "from vitrail.train.start import train",
    "Trainer": "from vitrail.train.start import train",
    "fit": "from vitrail.train.start import train, or from vitrail.train.fit import fit for a recipe of your own",
    "evaluate": "from vitrail.evaluate.judge import judge",
}
HOMES = {
    "create_model": "vitrail.loading",
    "describe": "vitrail.description",
    "from_pretrained": "vitrail.loading",
    "list_models": "vitrail.loading",
    "open_dataset": "vitrail.data.open",
    "predictor": "vitrail.predict",
    "read_image": "vitrail.data.images",
    "register_family": "vitrail.loading",
    "save_pretrained": "vitrail.loading",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return importlib.import_module("importlib.metadata").version("vitrail")
    if name not in __all__:
        hint = f" Type {ELSEWHERE[name]}." if name in ELSEWHERE else ""
        raise AttributeError(f"vitrail has no {name!r}.{hint} It has: {', '.join(__all__)}.")
    return getattr(importlib.import_module(HOMES.get(name, "vitrail.errors")), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
