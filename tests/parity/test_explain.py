"""Rollout and relevance agree with numbers of the published code."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from parity.references import agree, load
from vitrail.explain.attribution import attributed
from vitrail.explain.recording import recording
from vitrail.explain.relevance import relevance, spoke, traced
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


def followed(maps: list[Tensor], gradients: list[Tensor]) -> Tensor:
    """Relevance through all layers."""
    return relevance([spoke(one, gradient) for one, gradient in zip(maps, gradients, strict=True)])


def near(ours: Tensor, theirs: Tensor) -> None:
    """Theirs were computed in float32."""
    agree(ours.float(), theirs, precise=False)


def test_rollout_is_that_of_the_paper(case, precise):
    model, record = case("vit_rollout")
    twin, records = recording(model)
    images = record["input.image"].double() if precise else record["input.image"]
    near(twin.eval()(images), record["output.logits"])
    found = rollout([one.maps[0].mean(dim=1) for one in records.values()])
    near(found[0], record["output.abnar_rollout"])
    torch.testing.assert_close(found.sum(dim=-1), torch.ones_like(found[..., 0]))


def test_gradients_and_relevance_are_those_of_the_published_code(case, precise):
    model, record = case("vit_rollout")
    images = record["input.image"].double() if precise else record["input.image"]
    found = traced(model, images, lambda logits: logits[:, 2])
    for layer, (attention, gradient) in enumerate(zip(found.maps, found.gradients, strict=True)):
        near(attention.reshape(record[f"output.attn{layer}"].shape), record[f"output.attn{layer}"])
        near(gradient.reshape(record[f"output.attn_grad{layer}"].shape), record[f"output.attn_grad{layer}"])
    relevant = followed(found.maps, found.gradients)
    near(relevant.reshape(record["output.chefer_generic_R"].shape), record["output.chefer_generic_R"])
    near(relevant[:, 0, 1:].reshape(record["output.chefer_generic_cls"].shape), record["output.chefer_generic_cls"])


def test_attribution_is_that_of_the_published_code(shared, case, precise):
    model, record = case("chefer_lrp_vit")
    told = json.loads((shared / "golden/explain/chefer_lrp_vit.json").read_text())["tolerance"]
    images = record["input.image"].double() if precise else record["input.image"]

    def close(ours: Tensor, name: str) -> None:
        """Within what their float32 differs from their own float64: what is divided by may be near zero."""
        apart = (ours.double() - record[f"output.{name}"].double()).abs().max()
        assert apart <= 1.5 * told[name]["max_abs_diff_fp32_vs_fp64"], name

    top = int(record["output.logits"].argmax())
    found, other = (attributed(model, images, lambda logits, target=target: logits[:, target]) for target in (3, top))
    near(found.answer, record["output.logits"][:, 3])
    close(followed(found.maps, found.gradients)[:, 0, 1:], "transformer_attribution")
    close(followed(other.maps, other.gradients)[:, 0, 1:], "transformer_attribution.argmax")
    close(followed(found.maps[1:], found.gradients[1:])[:, 0, 1:], "transformer_attribution.start_layer")
    handed = [one.clamp(min=0).mean(dim=1)[0, 0, 1:] for one in found.maps]
    close(handed[-1], "last_layer")
    close(handed[1], "second_layer")
    weighed = (found.maps[-1] * found.gradients[-1]).clamp(min=0).mean(dim=1)
    close(weighed[0, 0, 1:], "last_layer.ablation")
    alone = [torch.ones_like(one) for one in found.maps]  # not weighed, only followed through the layers
    close(followed(found.maps, alone)[:, 0, 1:], "rollout")
