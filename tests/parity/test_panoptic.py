"""Panoptic DETR against the published code, as the fixtures recorded it, and against transformers, built here."""

import json

import pytest
import torch
import transformers
from safetensors.torch import load_file

from parity.references import agree, disturbed, load, quiet, saved
from parity.test_detr import pictures
from vitrail.errors import ConfigError
from vitrail.loading import from_pretrained, save_pretrained
from vitrail.models.detr import DETRConfig
from vitrail.models.panoptic import Panoptic, PanopticConfig
from vitrail.models.panoptic_formats import FORMATS
from vitrail.models.resnet import ResNetConfig
from vitrail.outputs import Segmentations
from vitrail.samples import Targets
from vitrail.tasks.panoptic_merge import merge, object_masks, uncovered
from vitrail.tasks.set_loss import set_loss

FACEBOOK = FORMATS[-1]


@pytest.fixture
def published(shared) -> tuple[Panoptic, dict, dict]:
    """Our model with the fixture's weights, the fixture's tensors, and what is said of it."""
    told = json.loads((shared / "golden/detr/detr_segm.json").read_text())
    tensors, config = load_file(shared / "golden/detr/detr_segm.safetensors"), told["config"]
    backbone = ResNetConfig(
        stem=4, layers=(1, 1, 1, 1), widths=(4, 8, 16, 32), padding="original", norm="frozen", classes=0
    )
    ours = DETRConfig(
        backbone=backbone, queries=config["nq"], classes=config["ncls"], dim=config["hidden"], heads=config["heads"],
        encoder_depth=config["enc"], decoder_depth=config["dec"], mlp_dim=config["ff"],
    )  # fmt: skip
    model = Panoptic(PanopticConfig(detr=ours, classes=config["ncls"])).eval()
    weights = {key.removeprefix("weight."): value for key, value in tensors.items() if key.startswith("weight.")}
    model.load_state_dict(FACEBOOK.keymap.read(weights))
    return model, tensors, told


def test_masks_are_the_published_ones(published):
    model, tensors, _ = published
    pixels, valid = tensors["input.image"], ~tensors["input.mask"]
    memory = model.detr.encode(pixels, valid)
    looks = model.look(model.detr.decode(memory)[-1].x, memory)
    agree(looks, tensors["output.bbox_attention_mask"], precise=False)
    answer = model(pixels, valid)
    agree(answer.logits, tensors["output.pred_logits"], precise=False)
    agree(answer.boxes, tensors["output.pred_boxes"], precise=False)
    agree(answer.masks, tensors["output.pred_masks"], precise=False)


def test_losses_and_gradients_are_the_published_ones(published):
    model, tensors, told = published
    model.double()
    targets = [
        Targets(
            tensors[f"input.target{place}.labels"],
            tensors[f"input.target{place}.boxes"].double(),
            tensors[f"input.target{place}.masks"],
        )
        for place in range(2)
    ]
    loss = set_loss(model.layers(tensors["input.image"].double(), ~tensors["input.mask"]), targets)
    for theirs, ours in (("loss_mask", "focal"), ("loss_dice", "dice"), ("loss_giou", "giou")):
        torch.testing.assert_close(loss.parts[ours].float(), tensors[f"output.loss.{theirs}"], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(loss.total.float(), tensors["output.total_loss"], rtol=1e-5, atol=0)
    loss.total.backward()
    ours = {name: parameter.grad for name, parameter in model.named_parameters()}
    empty = {key: torch.zeros_like(value) for key, value in model.state_dict().items()}
    theirs = FACEBOOK.keymap.write({**empty, **ours})
    for key, norm in told["grad_l2_norms"]["values"].items():
        assert float(theirs[key].norm()) == pytest.approx(norm, rel=1e-4, abs=1e-4), key


def test_masks_of_objects_are_the_published_ones(published):
    model, tensors, told = published
    answer = model(tensors["input.image"], ~tensors["input.mask"])
    frame = tuple(tensors["input.image"].shape[2:])
    for place, size in enumerate(told["config"]["sizes"]):
        logits = uncovered(answer.masks[place], frame, tuple(size), bleeding=True)
        theirs = tensors[f"output.postprocess_segm.masks{place}"][:, 0]
        assert torch.equal(object_masks(logits, tuple(size)), theirs.bool())


def test_masks_of_objects_in_files_of_another_size_are_the_published_ones(shared):
    tensors = load_file(shared / "golden/detr/criterion_masks.safetensors")
    frame = tuple(tensors["output.max_target_sizes"].amax(dim=0).tolist())
    for place in range(2):
        size, target = (tuple(tensors[f"output.{name}_target_sizes"][place].tolist()) for name in ("max", "orig"))
        logits = uncovered(tensors["input.pred_masks"][place], frame, size, bleeding=True)
        assert torch.equal(object_masks(logits, target), tensors[f"output.postprocess_segm.masks{place}"][:, 0].bool())


def test_segments_are_the_published_ones(shared):
    told = json.loads((shared / "golden/detr/panoptic_postprocess.json").read_text())
    tensors, config = load_file(shared / "golden/detr/panoptic_postprocess.safetensors"), told["config"]
    things = [config["is_thing_map"][str(label)] for label in range(config["num_classes"])]
    for place, (size, target) in enumerate(zip(config["processed_sizes"], config["target_sizes"], strict=True)):
        found = merge(
            tensors["input.pred_logits"][place].softmax(dim=-1),
            uncovered(tensors["input.pred_masks"][place], tuple(size), tuple(size), bleeding=True),
            tuple(target),
            classes=[f"class {label}" for label in range(config["num_classes"])],
            things=things,
            threshold=config["threshold"],
        )
        assert torch.equal(found.numbers - 1, tensors[f"output.panoptic{place}.id_map"].long())
        theirs = told["segments_info"][place]
        assert [segment.number - 1 for segment in found.segments] == [one["id"] for one in theirs]
        assert [segment.label for segment in found.segments] == [one["category_id"] for one in theirs]
        assert found.areas == [one["area"] for one in theirs]


def build() -> transformers.DetrForSegmentation:
    """A small panoptic DETR of transformers with odd sizes."""
    backbone = transformers.ResNetConfig(
        embedding_size=6, hidden_sizes=[8, 12, 20, 24], depths=[1, 2, 1, 1],
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )  # fmt: skip
    config = transformers.DetrConfig(
        use_timm_backbone=False, backbone_config=backbone, d_model=128, encoder_layers=1, decoder_layers=2,
        encoder_attention_heads=8, decoder_attention_heads=8, encoder_ffn_dim=20, decoder_ffn_dim=20, num_queries=4,
        num_labels=5,
    )  # fmt: skip
    return disturbed(transformers.DetrForSegmentation(config))


@pytest.mark.parametrize("precise", [False, True])
def test_masks_are_those_of_transformers(tmp_path, precise):
    theirs = build()
    ours = load(saved(theirs, tmp_path), detr={"backbone": {"padding": "original"}})
    if precise:
        theirs, ours = theirs.double(), ours.double()
    pixels, valid = pictures((70, 101), (97, 64), dtype=torch.float64 if precise else torch.float32)
    told, answer = theirs(pixels, valid.long()), ours(pixels, valid)
    agree(answer.boxes, told.pred_boxes, precise)
    agree(answer.masks, told.pred_masks, precise)


def test_masks_of_other_stages_are_refused(tmp_path):
    folder = saved(build(), tmp_path)
    config = json.loads((folder / "config.json").read_text())
    config["backbone_config"]["out_features"].insert(0, "stem")
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError, match=r"stages \[0, 1, 2, 3, 4\] .* masks are made from \[1, 2, 3, 4\] here"):
        load(folder)


def test_names_in_memory_are_read_as_those_in_files(tmp_path):
    theirs = build()
    ours = load(saved(theirs, tmp_path)).state_dict()
    read = FORMATS[0].keymap.read(dict(theirs.state_dict()))
    assert read.keys() == ours.keys()
    assert all(torch.equal(read[name], ours[name]) for name in ours)


def test_transformers_reads_what_we_write(tmp_path):
    ours = load(saved(build(), tmp_path / "theirs"))
    save_pretrained(ours, tmp_path / "ours", "transformers", announce=quiet)
    theirs = transformers.DetrForSegmentation.from_pretrained(tmp_path / "ours").eval()
    pixels = torch.randn(1, 3, 64, 96)
    agree(theirs(pixels).pred_masks, ours(pixels).masks, precise=False)
    assert load(tmp_path / "ours").config == ours.config


def test_published_files_are_read_and_written_again(published, tmp_path):
    model, tensors, _ = published
    weights = {key.removeprefix("weight."): value for key, value in tensors.items() if key.startswith("weight.")}
    torch.save({"model": weights}, tmp_path / "segm.pth")
    read = from_pretrained(
        tmp_path / "segm.pth", format="facebook", model="detr-resnet-50-panoptic", announce=quiet,
        detr={"backbone": {"padding": "original"}},
    )  # fmt: skip
    assert read.config == model.config
    answer: Segmentations = read(tensors["input.image"], ~tensors["input.mask"])
    agree(answer.masks, tensors["output.pred_masks"], precise=False)
    written = FACEBOOK.keymap.write(dict(read.state_dict()))
    assert all(torch.equal(written[key], weights[key]) for key in written)
    assert written.keys() == {key for key in weights if not key.endswith("num_batches_tracked")}
