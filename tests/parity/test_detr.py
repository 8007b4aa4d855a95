"""DETR against the published code, as the fixtures recorded it, and against transformers, built here."""

import json
import re
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch.utils.flop_counter import FlopCounterMode

from parity.references import agree, disturbed, load, quiet, saved
from vitrail.errors import ConfigError
from vitrail.loading import from_pretrained, save_pretrained
from vitrail.models.detr import DETR, SMALL, VARIANTS, DETRConfig, resnet
from vitrail.models.detr_formats import BODIES, FORMATS, IN_TRANSFORMERS
from vitrail.models.resnet import ResNetConfig
from vitrail.models.vit import ViTConfig
from vitrail.preprocessing import Fitted
from vitrail.samples import Targets
from vitrail.tasks.set_loss import set_loss
from vitrail.weights.card import Card
from vitrail.weights.keymap import KeyMap

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
    agree(torch.stack([layer.x for layer in model.decode(memory)]), tensors["output.hs"], precise=False)
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


@pytest.mark.parametrize(
    "changes",
    [{}, {"position_embedding_type": "learned", "activation_function": "gelu"}, {"auxiliary_loss": True}],
)
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


def says(folder: Path, **told) -> Path:
    """The same folder, whose configuration says something else."""
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | told))
    return folder


def as_timm(folder: Path, **told) -> Path:
    """The same folder with the backbone's names as timm has them, which older folders use."""
    tensors = load_file(folder / "model.safetensors")
    own, timm = (within_transformers(body) for body in ("own", "timm"))
    save_file(timm.write(own.read(tensors)), folder / "model.safetensors", {"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    del config["backbone_config"]
    (folder / "config.json").write_text(json.dumps(config | {"use_timm_backbone": True, "backbone": "resnet18"} | told))
    return folder


def within_transformers(body: str) -> KeyMap:
    """The table for a backbone of transformers' own, or of timm."""
    return KeyMap((*BODIES[body], *IN_TRANSFORMERS))


def full_size(**changes) -> transformers.DetrForObjectDetection:
    """A small transformer of transformers on a whole ResNet-18, as timm knows no smaller by name."""
    backbone = transformers.ResNetConfig(
        hidden_sizes=[64, 128, 256, 512], depths=[2, 2, 2, 2], layer_type="basic", out_features=["stage4"]
    )
    config = transformers.DetrConfig(
        use_timm_backbone=False, backbone_config=backbone, d_model=24,
        encoder_layers=1, decoder_layers=1, encoder_attention_heads=3, decoder_attention_heads=3, encoder_ffn_dim=20,
        decoder_ffn_dim=20, num_queries=7, num_labels=5, **changes,
    )  # fmt: skip
    return transformers.DetrForObjectDetection(config).eval()


def test_folders_with_timms_names_are_read(tmp_path):
    theirs = full_size()
    folder = as_timm(saved(theirs, tmp_path))
    pixels = torch.randn(1, 3, 64, 80)
    ours = load(folder)
    agree(ours(pixels).boxes, theirs(pixels).pred_boxes, precise=False)
    assert ours.config.backbone == resnet("resnet-18")
    assert load(says(folder, dilation=True)).config.backbone == resnet("resnet-18", dilated=True)
    layers = {"out_features": ["layer1", "layer2", "layer3", "layer4"], "out_indices": [1, 2, 3, 4]}
    newer = {"model_type": "timm_backbone", "backbone": "resnet18", "num_channels": 3}  # as transformers 5 writes it
    assert load(says(folder, dilation=False, backbone_config=newer | layers)).config.backbone == resnet("resnet-18")
    third = newer | {"out_features": ["layer3"], "out_indices": [3]}
    with pytest.raises(ConfigError, match=r"hands on its stages \[3\]"):
        load(says(folder, backbone_config=third))


def test_names_in_memory_are_read_as_those_in_files():
    theirs = build(position_embedding_type="learned")
    table = within_transformers("own")
    ours = table.read(dict(theirs.state_dict()))
    assert torch.equal(ours["positions.rows"], theirs.model.position_embedding.row_embeddings.weight)
    assert torch.equal(ours["decoder.1.mlp.expand.bias"], theirs.model.decoder.layers[1].mlp.fc1.bias)


@pytest.mark.parametrize("position", ["sine", "learned"])
def test_transformers_reads_what_we_write(tmp_path, position):
    torch.manual_seed(1)
    backbone = ResNetConfig(
        stem=6, block="basic", layers=(1, 2, 1, 1), widths=(8, 12, 20, 24), norm="frozen", classes=0
    )
    sizes = SMALL | {"dim": 24, "heads": 3, "renormed": position == "learned"}
    ours = disturbed(DETR(DETRConfig(backbone=backbone, **sizes, position=position, classes=4)))
    ours.card = Card(
        model="detr", task="detect", labels=("N/A", "cat", "N/A", "dog"), preprocessing=Fitted(shorter=600)
    )
    save_pretrained(ours, tmp_path, "transformers", announce=quiet)
    theirs = transformers.DetrForObjectDetection.from_pretrained(tmp_path).eval()
    pixels = torch.randn(2, 3, 70, 90)
    agree(theirs(pixels).pred_boxes, ours(pixels).boxes, precise=False)
    agree(theirs(pixels).logits, ours(pixels).logits, precise=False)
    assert theirs.config.id2label[3] == "dog"
    again = load(tmp_path)
    assert again.config == ours.config
    assert again.card.labels == ours.card.labels
    assert again.card.preprocessing == ours.card.preprocessing


def test_what_transformers_has_no_words_for_is_refused(tmp_path):
    for changes in ({"norm": "before"}, {"backbone": ViTConfig(classes=0)}):
        model = DETR(DETRConfig(**SMALL | changes))
        with pytest.raises(ConfigError, match=next(iter(changes))):
            save_pretrained(model, tmp_path / "out", "transformers", announce=quiet)


@pytest.mark.parametrize("name", CASES)
def test_published_files_are_read_by_what_they_are_called_and_written_again(shared, tmp_path, name):
    _, tensors, told = published(shared, name)
    weights = {key.removeprefix("weight."): value for key, value in tensors.items() if key.startswith("weight.")}
    torch.save({"model": weights, "epoch": 3}, tmp_path / "detr.pth")
    model = from_pretrained(
        tmp_path / "detr.pth", format="facebook", model="detr-resnet-50", heads=4, announce=quiet,
        backbone={"dilated": told["config"]["dc5"], "padding": "original"},
        activation=told["config"].get("act", "relu"),
    )  # fmt: skip
    answer = model(tensors["input.image"], ~tensors["input.mask"])
    agree(answer.boxes, tensors["output.pred_boxes"], precise=False)
    written = FACEBOOK.keymap.write(dict(model.state_dict()))
    assert written.keys() == {key for key in weights if not key.endswith("num_batches_tracked")}
    assert all(torch.equal(written[key], weights[key]) for key in written)


@pytest.mark.parametrize(
    ("told", "read"),
    [
        ({"out_features": ["stage3"]}, [3]),
        ({"out_features": ["stage1", "stage2"]}, [1, 2]),
        ({"out_features": None, "out_indices": [-1, -2]}, [4, 3]),
    ],
)
def test_a_transformer_that_looks_at_another_stage_is_refused(tmp_path, told, read):
    folder = saved(build(), tmp_path)
    backbone = json.loads((folder / "config.json").read_text())["backbone_config"]
    with pytest.raises(ConfigError, match=re.escape(f"hands on its stages {read} ") + ".* looks at the last, 4, here"):
        load(says(folder, backbone_config=backbone | told))


@pytest.mark.parametrize("told", [{"out_features": ["stem", "stage4"]}, {"out_features": None, "out_indices": [1, -1]}])
def test_stages_that_nothing_looks_at_may_be_handed_on(tmp_path, told):
    folder = saved(build(), tmp_path)
    backbone = json.loads((folder / "config.json").read_text())["backbone_config"]
    before = load(folder)(torch.ones(1, 3, 64, 64))
    assert torch.equal(
        load(says(folder, backbone_config=backbone | told))(torch.ones(1, 3, 64, 64)).boxes, before.boxes
    )


def test_sizes_of_one_stack_alone_are_refused(tmp_path):
    folder = saved(build(), tmp_path)
    says(folder, decoder_ffn_dim=30)
    with pytest.raises(ConfigError, match=r"config\.json: encoder_ffn_dim=20 and decoder_ffn_dim=30 are different"):
        load(folder)


def test_published_sizes_have_the_papers_numbers_of_parameters_and_products():
    """Table 1: 41 M, 41 M, 60 M, 60 M, which learn while the stem and the first stage are frozen; 86, 187, 152, 253
    GFLOPs, a product and its sum counted once, on average over 100 photographs. One of 800 x 1130 pixels needs these.
    """
    paper = {
        "detr-resnet-50": (41.3, 86),
        "detr-resnet-50-dc5": (41.3, 187),
        "detr-resnet-101": (60.2, 152),
        "detr-resnet-101-dc5": (60.2, 253),
    }
    for name, (millions, products) in paper.items():
        with torch.device("meta"):
            model = DETR(VARIANTS[name]).eval()
        learned = [
            parameter.numel()
            for part, parameter in model.named_parameters()
            if not part.startswith(("backbone.stem.", "backbone.stages.0."))
        ]
        assert round(sum(learned) / 1e6, 1) == millions
        with FlopCounterMode(display=False) as counter:
            model(torch.empty(1, 3, 800, 1130, device="meta"))
        assert counter.get_total_flops() / 2e9 == pytest.approx(products, rel=0.01)


def test_other_classes_make_a_new_head_and_keep_the_rest(tmp_path):
    folder = saved(build(), tmp_path)
    told = []
    model = from_pretrained(folder, classes=2, announce=told.append)
    assert model.class_head.weight.shape == (3, 24)
    assert any("new: class_head.weight (3, 24), class_head.bias (3,)" in note for note in told)
    torch.testing.assert_close(model.box_head.layers[0].weight, load(folder).box_head.layers[0].weight)
