"""Prediction on CPU: vitrail beside transformers, with the same weights, and how far each is from float64.

    python benchmarks/prediction.py [--model vit-base-16] [--batch 1] [--threads 2] [--seconds 60]

transformers writes the weights and vitrail reads them, so both have the same answers to give. `error` is that of the
logits against the same network in float64, as a share of their length. The products alone are what no way of answering
in float32 can undercut. Needs transformers (`pip install -e ".[dev]"`).
"""

import argparse
import copy
import tempfile

import torch
import transformers
from products import of_prediction
from side_by_side import Work, in_turns, show
from torch import Tensor, nn
from training_step import bfloat16, theirs

import vitrail
from vitrail.core.packing import packed
from vitrail.core.precision import describe, fast_float32

BASE = "transformers eager, float32"
PRODUCTS = "the products of packed() alone"


def disturb(model: nn.Module) -> None:
    """Move every parameter away from its gentle start, so that the answers differ from each other."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.02)


def models(name: str) -> tuple[nn.Module, nn.Module]:
    """transformers' model, and ours with its weights."""
    torch.manual_seed(0)
    model = theirs(vitrail.create_model(name).config)
    disturb(model)
    model.set_attn_implementation("eager")
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        return model.eval(), vitrail.from_pretrained(folder, announce=lambda sentence: None)


def ways(their_model: nn.Module, our_model: nn.Module, images: Tensor) -> dict[str, Work]:
    sdpa = copy.deepcopy(their_model)
    sdpa.set_attn_implementation("sdpa")
    twin, half = packed(our_model), copy.deepcopy(our_model).bfloat16()

    def with_fast_float32() -> Tensor:
        with fast_float32():
            return our_model(images)

    def with_autocast() -> Tensor:
        with bfloat16():
            return our_model(images)

    return {
        BASE: lambda: their_model(images).logits,
        "transformers sdpa, float32": lambda: sdpa(images).logits,
        "vitrail, float32": lambda: our_model(images),
        "vitrail, fast_float32()": with_fast_float32,
        "vitrail, packed()": lambda: twin(images),
        "vitrail, bfloat16 autocast": with_autocast,
        "vitrail, bfloat16 weights": lambda: half(images.bfloat16()),
        PRODUCTS: of_prediction(our_model, images),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="vit-base-16")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=60)
    flags = parser.parse_args()
    torch.set_num_threads(flags.threads)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    print(describe())

    their_model, our_model = models(flags.model)
    images = torch.randn(flags.batch, 3, *our_model.config.size)
    with torch.inference_mode():
        exact = copy.deepcopy(our_model).double()(images.double())
        work = ways(their_model, our_model, images)
        answers = {name: way() for name, way in work.items() if name != PRODUCTS}
        errors = {name: f"error {(one.double() - exact).norm() / exact.norm():.1e}" for name, one in answers.items()}
        times = in_turns(work, flags.seconds)
    show(f"Prediction, {flags.model}, batch {flags.batch}", times, base=BASE, notes=errors)


if __name__ == "__main__":
    main()
