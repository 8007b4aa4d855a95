"""DETR against the published code, as the fixtures recorded it, and against transformers, built here."""

import json
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file

from parity.references import agree, disturbed, load, saved
from vitrail.models.detr import DETR, DETRConfig
from vitrail.models.detr_formats import FORMATS
from vitrail.models.resnet import ResNetConfig
from vitrail.samples import Targets
from vitrail.tasks.set_loss import set_loss

CASES = ["detr_bottleneck_sine", "detr_dc5_sine", "detr_prenorm_learned"]
FACEBOOK = FORMATS[-1]


def published(shared: Path, name: str) -> tuple[DETR, dict, dict]:
    """Our model with a fixture's weights, the fixture's tensors, and what is said of it."""
    told = json.loads((shared / f"golden/detr/{name}.json").read_text())
    tensors, config = load_file(shared / f"golden/detr/{name}.safetensors"), told["config"]
    width = config["width"]
    ours = DETRConfig(
        backbone=ResNetConfig(
            stem=width, layers=tuple(config["layers"]), widths=tuple(width * 2**stage for stage in range(4)),
            dilated=config["dc5"], padding="original", norm="frozen", classes=0,
        ),
        queries=config["nq"], classes=config["ncls"], dim=config["hidden"], heads=config["heads"],
        encoder_depth=config["enc"], decoder_depth=config["dec"], mlp_dim=config["ff"], position=config["pos"],
        norm="before" if config["pre"] else "after", activation=config.get("act", "relu"),
    )  # fmt: skip
    weights = {key.removeprefix("weight."): value for key, value in tensors.items() if key.startswith("weight.")}
    model = DETR(ours).eval()
    model.load_state_dict(FACEBOOK.keymap.read(weights))
    return model, tensors, told


@pytest.mark.parametrize("name", CASES)
def test_every_layer_answers_as_the_published_code(shared, name):
    model, tensors, _ = published(shared, name)
    pixels, valid = tensors["input.image"], ~tensors["input.mask"]
    seen = model.see(pixels, valid)
    memory = model.read(seen)
    assert torch.equal(seen.valid, ~tensors["output.feature_mask"])
    agree(memory.position.expand(2, -1, -1), tensors["output.pos"].flatten(2).mT, precise=False)
    shown = seen.valid.flatten(1)  # nobody looks at what either makes of padding
    agree(memory.tokens.x[shown], tensors["output.memory"].flatten(2).mT[shown], precise=False)
    agree(torch.stack(model.decode(memory)), tensors["output.hs"], precise=False)
    layers = model.layers(pixels, valid)
    for layer, answer in enumerate(layers):
        prefix = "output." if layer == len(layers) - 1 else f"output.aux{layer}."
        agree(answer.logits, tensors[f"{prefix}pred_logits"], precise=False)
        agree(answer.boxes, tensors[f"{prefix}pred_boxes"], precise=False)
    answer = model(pixels, valid)
    assert all(torch.equal(one, other) for one, other in zip(answer, layers[-1], strict=True))


@pytest.mark.parametrize("name", CASES)
def test_gradients_are_those_of_the_published_code(shared, name):
    model, tensors, told = published(shared, name)
    model.double()
    targets = [
        Targets(tensors[f"input.target{place}.labels"], tensors[f"input.target{place}.boxes"].double())
        for place in range(2)
    ]
    loss = set_loss(model.layers(tensors["input.image"].double(), ~tensors["input.mask"]), targets)
    torch.testing.assert_close(loss.total.float(), tensors["output.total_loss"], rtol=1e-5, atol=0)
    loss.total.backward()
    ours = {name: parameter.grad for name, parameter in model.named_parameters()}
    theirs = FACEBOOK.keymap.write({**{key: torch.zeros_like(x) for key, x in model.state_dict().items()}, **ours})
    for key, norm in told["grad_l2_norms"]["values"].items():
        assert float(theirs[key].norm()) == pytest.approx(norm, rel=1e-4, abs=1e-4), key


def build(**changes) -> transformers.DetrForObjectDetection:
    """A small DETR of transformers with odd sizes."""
    backbone = transformers.ResNetConfig(
        embedding_size=6, hidden_sizes=[8, 12, 20, 24], depths=[1, 2, 1, 1], out_features=["stage4"],
    )  # fmt: skip
    config = transformers.DetrConfig(
        use_timm_backbone=False, backbone_config=backbone, d_model=24, encoder_layers=2, decoder_layers=3,
        encoder_attention_heads=3, decoder_attention_heads=3, encoder_ffn_dim=20, decoder_ffn_dim=20, num_queries=7,
        num_labels=5, **changes,
    )  # fmt: skip
    return disturbed(transformers.DetrForObjectDetection(config))


def pictures(*sizes: tuple[int, int], dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, torch.Tensor]:
    """Noise of several sizes, side by side in one frame."""
    generator = torch.Generator().manual_seed(5)
    rows, columns = (max(size[side] for size in sizes) for side in (0, 1))
    pixels = torch.zeros(len(sizes), 3, rows, columns, dtype=dtype)
    valid = torch.zeros(len(sizes), rows, columns, dtype=torch.bool)
    for place, (high, wide) in enumerate(sizes):
        pixels[place, :, :high, :wide] = torch.randn(3, high, wide, generator=generator, dtype=dtype)
        valid[place, :high, :wide] = True
    return pixels, valid


@pytest.mark.parametrize("changes", [{}, {"position_embedding_type": "learned", "activation_function": "gelu"}])
@pytest.mark.parametrize("precise", [False, True])
def test_detr_answers_as_transformers_does(tmp_path, changes, precise):
    theirs = build(**changes)
    ours = load(saved(theirs, tmp_path), backbone={"padding": "original"})
    if precise:
        theirs, ours = theirs.double(), ours.double()
    pixels, valid = pictures((70, 101), (97, 64), (33, 90), dtype=torch.float64 if precise else torch.float32)
    told = theirs(pixels, valid.long())
    answer = ours(pixels, valid)
    agree(answer.logits, told.logits, precise)
    agree(answer.boxes, told.pred_boxes, precise)
    alone = ours(pixels[:1])
    agree(alone.boxes, theirs(pixels[:1]).pred_boxes, precise)
