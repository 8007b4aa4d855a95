"""Rollout and relevance agree with numbers of the published code."""

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from parity.references import agree, load
from vitrail.explain.recording import recording
from vitrail.explain.relevance import relevance, traced
from vitrail.explain.rollout import rollout


@pytest.fixture(params=[False, True], ids=["float32", "float64"])
def precise(request) -> bool:
    return request.param


@pytest.fixture
def case(shared, tmp_path, precise):
    """A fixture: the model that it is about, and its numbers."""

    def found(name: str) -> tuple[torch.nn.Module, dict[str, Tensor]]:
        tensors = load_file(shared / "golden/explain" / f"{name}.safetensors")
        weights = {key.removeprefix("weight."): value for key, value in tensors.items() if key.startswith("weight.")}
        save_file(weights, tmp_path / "model.safetensors")
        model = load(tmp_path / "model.safetensors", format="timm", model="vit-tiny-16", heads=4, image=32)
        return model.to(torch.float64 if precise else torch.float32), tensors

    return found


def near(ours: Tensor, theirs: Tensor) -> None:
    """Theirs were computed in float32."""
    agree(ours.float(), theirs, precise=False)


def test_rollout_is_that_of_the_paper(case, precise):
    model, record = case("vit_rollout")
    twin, records = recording(model)
    images = record["input.image"].double() if precise else record["input.image"]
    near(twin.eval()(images), record["output.logits"])
    found = rollout([one.maps[0] for one in records.values()])
    near(found[0], record["output.abnar_rollout"])
    torch.testing.assert_close(found.sum(dim=-1), torch.ones_like(found[..., 0]))


def test_gradients_and_relevance_are_those_of_the_published_code(case, precise):
    model, record = case("vit_rollout")
    images = record["input.image"].double() if precise else record["input.image"]
    found = traced(model, images, lambda logits: logits[:, 2])
    for layer, (attention, gradient) in enumerate(zip(found.maps, found.gradients, strict=True)):
        near(attention.reshape(record[f"output.attn{layer}"].shape), record[f"output.attn{layer}"])
        near(gradient.reshape(record[f"output.attn_grad{layer}"].shape), record[f"output.attn_grad{layer}"])
    relevant = relevance(found.maps, found.gradients)
    near(relevant.reshape(record["output.chefer_generic_R"].shape), record["output.chefer_generic_R"])
    near(relevant[:, 0, 1:].reshape(record["output.chefer_generic_cls"].shape), record["output.chefer_generic_cls"])
