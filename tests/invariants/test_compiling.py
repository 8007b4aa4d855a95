"""What we write can be exported with a free batch size, and compiled whole."""

import subprocess
import sys

import pytest
import torch

from vitrail.models.vit import ViT, ViTConfig

PARTS = [
    {},
    {"registers": 2, "pool": "class+mean"},
    {"stem": (4, 6, 8)},
    pytest.param({"position": "relative", "layer_scale": 0.1}, marks=pytest.mark.slow),
    {"distillation_token": True, "distillation_head": True},
]


def small(**changes) -> ViT:
    torch.manual_seed(0)
    shape = {"image": (16, 24), "patch": 8, "dim": 16, "depth": 2, "heads": 2, "mlp_dim": 32, "classes": 5}
    return ViT(ViTConfig(**shape | changes)).eval()


@pytest.mark.parametrize("changes", PARTS, ids=str)
def test_an_exported_model_takes_any_batch_and_answers_the_same(changes):
    model = small(**changes)
    batch = torch.export.Dim("batch")
    program = torch.export.export(model, (torch.randn(2, 3, 16, 24),), dynamic_shapes=({0: batch},)).module()
    for size in (1, 2, 5):
        images = torch.randn(size, 3, 16, 24)
        torch.testing.assert_close(program(images), model(images))


@pytest.mark.parametrize("backend", ["eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_models_compile_without_a_break_in_the_graph(backend):
    # in a process of its own: compiling fails under the hook that checks shapes in tests
    script = f"""
import torch, vitrail
small = {{"dim": 16, "depth": 2, "heads": 2, "mlp_dim": 32}}
vit = vitrail.create_model("vit-tiny-16", image=16, patch=8, classes=5, **small).eval()
bert = vitrail.create_model("bert-tiny", vocabulary=9, max_tokens=8, **small).eval()
for model, inputs in ((vit, torch.randn(2, 3, 16, 16)), (bert, torch.tensor([[1, 2, 3]]))):
    whole = torch.compile(model, fullgraph=True, backend="{backend}")
    torch.testing.assert_close(whole(inputs), model(inputs))
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=300)
