"""Queries in groups know nothing of each other; queries that are points begin where they stand."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from vitrail.errors import ConfigError
from vitrail.explain.recording import recording
from vitrail.loading import from_pretrained, save_pretrained
from vitrail.models.detr import DETR, VARIANTS

TINY = replace(
    VARIANTS["detr-tiny"], queries=5, classes=3, encoder_depth=1, decoder_depth=2, anchors=False, refined=False
)


def grouped(groups: int = 3) -> DETR:
    torch.manual_seed(0)
    return DETR(replace(TINY, query_groups=groups))


def test_a_group_answers_as_if_the_others_were_not_there():
    model, pixels = grouped().train(), torch.randn(2, 3, 64, 80)
    model.backbone.eval()  # whose norms otherwise look at the batch
    together = model.layers(pixels)
    assert len(together) == 3 * 2
    alone = DETR(TINY).train()
    alone.backbone.eval()
    for number in range(3):
        weights = dict(model.state_dict())
        weights["queries"] = weights["queries"][5 * number : 5 * number + 5]
        alone.load_state_dict(weights)
        for layer, answer in enumerate(alone.layers(pixels)):
            found = together[2 * (2 - number) + layer]
            torch.testing.assert_close(found.logits, answer.logits, atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(found.boxes, answer.boxes, atol=1e-5, rtol=1e-5)


def test_the_first_group_answers():
    model, pixels = grouped().eval(), torch.randn(1, 3, 64, 80)
    changed = grouped().eval()
    with torch.no_grad():
        changed.queries[5:] += 1
    assert torch.equal(model(pixels).logits, changed(pixels).logits)
    assert model(pixels).logits.shape == (1, 5, 4)
    assert torch.equal(model.layers(pixels)[-1].logits, model(pixels).logits)


def test_groups_can_be_left_out_and_taken_up(tmp_path):
    model, pixels = grouped().eval(), torch.randn(1, 3, 64, 80)
    save_pretrained(model, tmp_path / "three", announce=lambda words: None)
    one = from_pretrained(tmp_path / "three", query_groups=1, announce=lambda words: None)
    assert one.queries.shape[0] == 5
    torch.testing.assert_close(one(pixels).logits, model(pixels).logits)
    more = from_pretrained(tmp_path / "three", query_groups=4, announce=lambda words: None)
    assert more.queries.shape[0] == 20
    torch.testing.assert_close(more(pixels).logits, model(pixels).logits)


def test_queries_that_are_points_begin_to_look_at_what_is_near_them():
    torch.manual_seed(1)
    model = DETR(replace(TINY, anchors=True, queries=9)).eval()
    twin, records = recording(model, ["decoder.0.cross_attention"])
    found = twin(torch.zeros(1, 3, 160, 160))  # nothing is seen, so that only places speak
    points = model.queries.sigmoid()
    [map] = records["decoder.0.cross_attention"].maps
    grid = map.mean(dim=1).reshape(9, 10, 10)
    rows, columns = (torch.arange(10) + 0.5 for _ in range(2))
    down, across = (grid.sum(dim=2) * rows).sum(dim=1) / 10, (grid.sum(dim=1) * columns).sum(dim=1) / 10
    assert torch.corrcoef(torch.stack([across, points[:, 0]]))[0, 1] > 0.9
    assert torch.corrcoef(torch.stack([down, points[:, 1]]))[0, 1] > 0.9
    assert (found.boxes[0, :, :2] - points).abs().mean() < 0.2, "and their boxes begin there"


def test_points_are_told_from_the_weights_alone(tmp_path):
    model, pixels = DETR(replace(TINY, anchors=True)).eval(), torch.randn(1, 3, 64, 80)
    save_pretrained(model, tmp_path / "points", announce=lambda words: None)
    again = from_pretrained(tmp_path / "points", announce=lambda words: None)
    assert again.config.anchors
    assert torch.equal(again(pixels).boxes, model(pixels).boxes)
    with pytest.raises(ConfigError, match="position='sine'"):
        replace(TINY, anchors=True, position="learned")


def test_refined_points_move_to_where_the_box_was_seen():
    torch.manual_seed(2)
    model, pixels = DETR(replace(TINY, anchors=True, refined=True)).eval(), torch.randn(2, 3, 64, 80)
    memory = model.encode(pixels)
    first, second = model.decode(memory)
    torch.testing.assert_close(first.origin[0], F.pad(model.queries, (0, 2)), atol=0, rtol=0)
    torch.testing.assert_close(second.origin.sigmoid(), model.answer(first).boxes)
    assert second.origin.requires_grad, "so that an explanation sees the way through it"
    assert not model.train().decode(memory)[1].origin.requires_grad, "and each layer learns its own part"
    model.eval()
    asked = []
    model.decoder[1].register_forward_pre_hook(
        lambda _, given, named: asked.append(named["position"]), with_kwargs=True
    )
    model.decode(memory)
    torch.testing.assert_close(asked[0], model.positions.at(model.answer(first).boxes[..., :2]))
    still = DETR(replace(TINY, anchors=True)).eval()
    still.load_state_dict(model.state_dict())
    assert torch.equal(still.layers(pixels)[0].boxes, model.layers(pixels)[0].boxes), "the first layer is the same"
    assert not torch.equal(still(pixels).boxes, model(pixels).boxes)
    with pytest.raises(ConfigError, match="needs anchors=True"):
        replace(TINY, refined=True)


def test_refined_points_answer_alone_as_beside_others():
    torch.manual_seed(3)
    model = DETR(replace(TINY, anchors=True, refined=True)).eval().double()
    small, large = torch.randn(1, 3, 48, 64).double(), torch.randn(1, 3, 80, 96).double()
    pixels, valid = torch.zeros(2, 3, 80, 96).double(), torch.zeros(2, 80, 96, dtype=torch.bool)
    pixels[0, :, :48, :64], pixels[1] = small[0], large[0]
    valid[0, :48, :64], valid[1] = True, True
    together = model(pixels, valid)
    torch.testing.assert_close(
        together.boxes[:1], model(small, torch.ones(1, 48, 64, dtype=torch.bool)).boxes, atol=1e-9, rtol=0
    )


def test_other_libraries_have_no_groups(tmp_path):
    backbone = replace(VARIANTS["detr-resnet-50"].backbone, norm="frozen", layers=(1, 1, 1, 1), widths=(4, 4, 4, 4))
    model = DETR(replace(TINY, backbone=backbone, query_groups=2))
    with pytest.raises(ConfigError, match="query_groups"):
        save_pretrained(model, tmp_path / "foreign", format="transformers", announce=lambda words: None)
