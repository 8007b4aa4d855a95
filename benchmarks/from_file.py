"""From the file of one picture to its answer on CPU: vitrail's `Predictor` beside transformers.

    python benchmarks/from_file.py [--model vit-base-16] [--threads 2] [--seconds 60]

The picture is a JPEG of 375 x 500 from the generated world, the weights are random and the products the same. Each way
has a process of its own, since what one asks of the C library (`core/memory.py`) would help the other too. Needs
transformers (`pip install -e ".[dev]"`).
"""

import argparse
import tempfile
from pathlib import Path

import torch
import transformers
from pictures import write_pictures
from PIL import Image
from side_by_side import Work, apart, in_turns, show
from training_step import theirs

import vitrail
from vitrail.predict import Predictor

BASE = "transformers eager, float32"


def transformers_answers(name: str, file: Path) -> Work:
    """Opened, prepared by its own image processor, and its five likeliest classes."""
    config = vitrail.create_model(name).config
    model, size = theirs(config).eval(), dict(zip(("height", "width"), config.size, strict=True))
    model.set_attn_implementation("eager")
    prepare = transformers.ViTImageProcessorPil(size=size)

    @torch.inference_mode()
    def work() -> None:
        with Image.open(file) as image:
            inputs = prepare(image.convert("RGB"), return_tensors="pt")
        model(**inputs).logits.softmax(dim=-1).topk(5)

    return work


def vitrail_answers(name: str, file: Path, fast: bool) -> Work:
    ask = Predictor(vitrail.create_model(name), fast=fast)
    return lambda: ask(file)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="vit-base-16")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=60)
    flags = parser.parse_args()
    torch.set_num_threads(flags.threads)
    with tempfile.TemporaryDirectory() as folder:
        file = next(write_pictures(Path(folder), 1).rglob("*.jpg"))
        ways = {
            BASE: apart(transformers_answers, flags.model, file),
            "vitrail, fast=False": apart(vitrail_answers, flags.model, file, False),
            "vitrail, as predict does": apart(vitrail_answers, flags.model, file, True),
        }
        times = in_turns(ways, flags.seconds)
    show(f"From a JPEG to its answer, {flags.model}", times, base=BASE)


if __name__ == "__main__":
    main()
