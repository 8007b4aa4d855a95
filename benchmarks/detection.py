"""Detection on CPU: vitrail beside transformers, with the same weights, and what the set loss takes of a step.

    python benchmarks/detection.py [--rows 800] [--columns 1066] [--batch 1] [--threads 2] [--seconds 120]

DETR on a ResNet-50 with random weights: transformers writes them and vitrail reads them, so both have the same answers
to give; `apart` is the largest difference from transformers' boxes (parts of the picture) and class beliefs. Both are
told that all of the frame is picture. A step is layers, loss and backward, without an optimiser; the part of it that
is the set loss (matching, losses of all six decoder layers, and their gradient by the answers) is timed on answers
that are there already. Needs transformers (`pip install -e ".[dev]"`).
"""

import argparse
import tempfile

import torch
import transformers
from prediction import disturb
from side_by_side import Work, in_turns, ratios, show
from torch import Tensor, nn

import vitrail
from vitrail.core.precision import describe, fast_float32
from vitrail.models.detr import DETR
from vitrail.outputs import Detections
from vitrail.predict import Predictor
from vitrail.samples import Targets
from vitrail.tasks.set_loss import set_loss

BASE = "transformers eager, float32"
STEP, LOSS = "a step", "the set loss within it"
OBJECTS = 7  # in a picture of COCO, on average


def models() -> tuple[nn.Module, DETR]:
    """transformers' model, and ours with its weights."""
    torch.manual_seed(0)
    backbone = transformers.ResNetConfig(out_features=["stage4"])
    config = transformers.DetrConfig(use_timm_backbone=False, backbone_config=backbone, num_labels=91)
    theirs = transformers.DetrForObjectDetection(config)
    disturb(theirs)
    for name, values in theirs.named_buffers():
        if name.endswith("running_var"):
            values.uniform_(0.5, 1.5)
    theirs.set_attn_implementation("eager")
    with tempfile.TemporaryDirectory() as folder:
        theirs.save_pretrained(folder)
        ours = vitrail.from_pretrained(folder, announce=lambda sentence: None)
    assert isinstance(ours, DETR)
    return theirs.eval(), ours


def answering(theirs: nn.Module, ours: DETR, pixels: Tensor) -> dict[str, Work]:
    """Ways to answer the same pictures, as `Detections`."""
    valid = torch.ones(pixels.shape[0], *pixels.shape[2:], dtype=torch.bool)
    ask = Predictor(ours)

    def by_transformers() -> Detections:
        said = theirs(pixels, valid.long())
        return Detections(said.logits, said.pred_boxes)

    def as_predicted() -> Detections:
        with ask.speed():
            return ask.quick(pixels, valid)

    return {
        BASE: by_transformers,
        "vitrail, float32": lambda: ours(pixels, valid),
        "vitrail, as predict does": as_predicted,
    }


def apart(answer: Detections, base: Detections) -> str:
    """How far two answers are from each other."""
    boxes = (answer.boxes - base.boxes).abs().max()
    beliefs = (answer.logits.softmax(dim=-1) - base.logits.softmax(dim=-1)).abs().max()
    return f"apart {boxes:.1e} in boxes, {beliefs:.1e} in beliefs"


def learning(ours: DETR, pixels: Tensor) -> dict[str, Work]:
    """A step, and the loss alone."""
    targets = [
        Targets(torch.randint(0, 91, (OBJECTS,)), torch.rand(OBJECTS, 4) * 0.4 + 0.1) for _ in range(pixels.shape[0])
    ]
    with torch.no_grad():
        said = [Detections(*map(nn.Parameter, layer)) for layer in ours.layers(pixels)]

    def step() -> None:
        with fast_float32():
            set_loss(ours.layers(pixels), targets).total.backward()
        ours.zero_grad()

    return {STEP: step, LOSS: lambda: set_loss(said, targets).total.backward()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in (("rows", 800), ("columns", 1066), ("batch", 1), ("threads", 2)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--seconds", type=float, default=120)
    flags = parser.parse_args()
    torch.set_num_threads(flags.threads)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    print(describe())

    theirs, ours = models()
    pixels = torch.randn(flags.batch, 3, flags.rows, flags.columns)
    size = f"{flags.rows} x {flags.columns} pixels, batch {flags.batch}"
    with torch.inference_mode():
        work = answering(theirs, ours, pixels)
        base = work[BASE]()
        notes = {name: apart(way(), base) for name, way in work.items()}  # pyright: ignore[reportArgumentType]
        times = in_turns(work, flags.seconds)
    show(f"DETR on a ResNet-50, {size}", times, base=BASE, notes=notes)

    times = in_turns(learning(ours.train(), pixels), flags.seconds)
    share = sorted(1 / ratio for ratio in ratios(times, LOSS, STEP))[len(times[LOSS]) // 2]
    show(f"A step of training, {size}", times, base=STEP)
    print(f"\nThe set loss is {share:.1%} of a step.")


if __name__ == "__main__":
    main()
