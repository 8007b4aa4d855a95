"""Where a detector looked for its boxes: a planted one whose looks are known, and a small DETR asked in every way."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from oracles.detectors import CORNERS, Cornered, noise, small_detector
from vitrail.cli.main import main
from vitrail.data.images import PictureArray
from vitrail.errors import ExplanationError
from vitrail.explain.attention import look
from vitrail.explain.kinds import kinds
from vitrail.explain.objects import MOST, ObjectLook, ObjectSheet, every_query, look_for_objects
from vitrail.explain.recording import recording
from vitrail.loading import create_model, save_pretrained
from vitrail.models.vit import ViTConfig
from vitrail.predict import predictor
from vitrail.preprocessing import Fitted
from vitrail.tasks.detect import Detect

READS = Fitted(shorter=40, longer=56)
TASK = Detect(classes=("cat", "dog"))


@pytest.fixture(scope="module")
def ask():
    return predictor(small_detector())


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A detector and a classifier on disk, and a picture."""
    folder = tmp_path_factory.mktemp("explained")
    save_pretrained(small_detector(), folder / "detector", announce=lambda sentence: None)
    classifier = create_model("vit-tiny-16", image=32, patch=8, dim=24, depth=1, heads=2, mlp_dim=24, classes=3)
    save_pretrained(classifier, folder / "classifier", announce=lambda sentence: None)
    noise().save(folder / "a.png")
    return folder


@pytest.mark.parametrize("size", [(40, 56), (100, 110), (61, 83)])
def test_a_query_looks_where_it_is_planted_to(size):
    """In every shape, also where cells reach beyond the picture."""
    model = Cornered([(x, y, 0.4, 0.3) for x, y in CORNERS])
    picture = PictureArray(np.zeros((*size, 3), np.uint8))
    for query, (x, y) in enumerate(CORNERS):
        seen = look_for_objects(model, TASK, READS, picture, queries=[query])
        assert isinstance(seen, ObjectLook)
        assert seen.found.box_xyxy == pytest.approx(
            [(x - 0.2) * size[1], (y - 0.15) * size[0], (x + 0.2) * size[1], (y + 0.15) * size[0]], abs=1e-3
        )
        row, column = divmod(int(seen.map.argmax()), seen.grid[1])
        middle = torch.tensor([column + 0.5, row + 0.5], dtype=torch.float64) * 8
        across, down = seen.placement.back(middle).tolist()
        assert ((across > size[1] / 2), (down > size[0] / 2)) == (x > 0.5, y > 0.5)
        assert float(seen.map.sum()) == pytest.approx(1)


def test_cells_cover_the_whole_picture_and_the_one_under_a_pixel_is_asked():
    model, picture = Cornered([(0.5, 0.2, 0.1, 0.1)]), PictureArray(np.zeros((61, 83, 3), np.uint8))
    for x, y in ((0, 0), (82, 60), (41, 12), (82, 0)):
        [seen] = look(model, READS, picture, at=[(x, y)])
        assert (seen.of, seen.unit) == ("encoder", "cell")
        (left, top), (right, bottom) = seen.asked.mark.patch.amin(0).tolist(), seen.asked.mark.patch.amax(0).tolist()
        assert left <= x + 0.5 <= right
        assert top <= y + 0.5 <= bottom
        rows, columns = seen.grid
        assert seen.placement.size == (8 * rows, 8 * columns)


def test_a_query_that_repeats_another_can_be_asked_and_is_not_asked_unless_named():
    model = Cornered([(0.5, 0.2, 0.4, 0.3), (0.5, 0.2, 0.4, 0.31), (0.2, 0.5, 0.1, 0.1)])
    picture, task = PictureArray(np.zeros((61, 83, 3), np.uint8)), replace(TASK, nms=0.7)
    assert len(task.predict(model, torch.zeros(1, 3, 64, 88))[0]) == 2
    assert look_for_objects(model, task, READS, picture, queries=[1]).found.query == 1
    sheet = look_for_objects(model, task, READS, picture)
    assert [look.found.query for look in sheet.looks] == [0, 2]
    assert list(every_query(task).predict(model, torch.zeros(1, 3, 64, 88))[0].queries) == [0, 1, 2]


def test_without_a_query_the_objects_that_were_found_are_asked_best_first(ask):
    found = ask(noise())[0]
    sheet = ask.look_for(noise(), threshold=0.0)
    assert isinstance(sheet, ObjectSheet)
    assert [look.found.query for look in sheet.looks] == found.queries.tolist()[:MOST]
    assert sheet.best_of == len(found)
    for look_, one in zip(sheet.looks, found.found(), strict=False):
        assert look_.found.label == one.label
        assert look_.found.score == pytest.approx(one.score, abs=1e-5)
        assert look_.found.box_xyxy == pytest.approx(one.box_xyxy, abs=1e-3)
    few = ask.look_for(noise(), threshold=0.0, most=3, layers=None)
    assert [(look.found.query, look.layer) for look in few.looks] == [
        (query, layer) for query in found.queries.tolist()[:3] for layer in range(3)
    ]
    assert "the 3 best of 7 objects" in few.caption().question


def test_what_is_shown_is_the_row_of_that_query_and_head(ask):
    model, inputs = ask.model, ask.card.preprocessing.together([ask.card.preprocessing(noise()).pixels])
    twin, records = recording(model, kinds(model)["cross"])
    with torch.inference_mode():
        answer = twin.eval()(*inputs)
        plain = model(*inputs)
    assert torch.equal(answer.boxes, plain.boxes)
    assert torch.equal(answer.logits, plain.logits)
    for query in range(7):
        for layer, record in enumerate(records.values()):
            seen = ask.explain(noise(), query=query, layer=layer, head=1)
            torch.testing.assert_close(seen.weights[0].float(), record.maps[0][0, 1, query])
            assert seen.heads == (1,)


def test_a_query_costs_one_row(ask, monkeypatch):
    kept = []
    monkeypatch.setattr(
        "vitrail.explain.objects.recording",
        lambda model, names, rows, heads: kept.append((names, rows, heads)) or recording(model, names, rows, heads),
    )
    ask.explain(noise(), query=5)
    assert kept == [(["decoder.2.cross_attention"], [5], None)]


def test_the_attention_of_a_backbone_is_neither_the_encoders_nor_the_decoders():
    vit = ViTConfig(
        image=32, patch=8, dim=12, depth=2, heads=2, mlp_dim=24, classes=0, class_token=False, pool="mean",
        position="none",
    )  # fmt: skip
    model = create_model("detr-resnet-50", backbone=vit, dim=16, heads=2, encoder_depth=1, decoder_depth=2, queries=3)
    assert kinds(model) == {
        "cross": ["decoder.0.cross_attention", "decoder.1.cross_attention"],
        "encoder": ["encoder.0.attention"],
        "decoder": ["decoder.0.attention", "decoder.1.attention"],
        "backbone": ["backbone.blocks.0.attention", "backbone.blocks.1.attention"],
    }


def test_a_model_built_on_a_detector_is_asked_through_it():
    class Around(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.detr = Cornered([(x, y, 0.4, 0.3) for x, y in CORNERS])

        def forward(self, pixels, valid=None):
            return self.detr(pixels, valid)

    picture = PictureArray(np.zeros((40, 56, 3), np.uint8))
    torch.nn.Module.register_parameter(model := Around(), "unused", torch.nn.Parameter(torch.zeros(1)))
    inside = look_for_objects(model.detr, TASK, READS, picture, queries=[2])
    assert torch.equal(look_for_objects(model, TASK, READS, picture, queries=[2]).map, inside.map)


def test_the_gradient_of_a_query_is_that_of_its_class(ask):
    found = ask(noise())[0].found()[2]
    seen = ask.explain(noise(), query=found.query, method="gradient")
    pixels = ask.card.preprocessing(noise()).pixels[None].requires_grad_()
    place = ask.card.labels.index(found.label)
    [gradient] = torch.autograd.grad(ask.model(pixels).logits[0, found.query, place], pixels)
    torch.testing.assert_close(seen.map.float(), gradient[0].abs().amax(0))
    assert seen.caption().title == f"Gradient of {found.label} by query {found.query}"


def test_a_gradient_is_drawn_by_cells_and_kept_by_pixels(ask):
    found = ask.explain(noise(), query=2, method="gradient")
    (rows, columns), step = found.map.shape, ask.model.stride[0]
    assert (-rows % step, -columns % step) != (0, 0), "cells reach beyond this picture"
    assert found.drawn.shape == (-(-rows // step), -(-columns // step))
    assert float(found.drawn.sum()) == pytest.approx(1)
    corner = found.shares[(rows - 1) // step * step :, (columns - 1) // step * step :]
    assert float(found.drawn[-1, -1]) == pytest.approx(float(corner.sum()))
    assert found.covered.size == tuple(cells * step for cells in found.drawn.shape)
    assert torch.equal(torch.from_numpy(found.arrays()["map"]), found.map)
    assert f"sums over {found.drawn.shape[0]} by {found.drawn.shape[1]} cells" in found.fineness


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"query": 7}, r"There is no query 7: this model has queries 0 to 6, counted from 0\."),
        ({"query": -1}, "There is no query -1"),
        ({"query": 1, "at": (3, 4)}, "at asks the encoder and query the decoder"),
        ({"query": 1, "layer": 3}, "There is no layer 3. This model has layers 0 to 2"),
        ({"query": 1, "head": 2}, "There is no head 2"),
        ({"at": (3, 4), "layer": 2}, "There is no layer 2. This model has layers 0 to 1"),
        ({"at": (90, 4)}, "There is no pixel x=90, y=4"),
        ({"query": 1, "method": "attribution"}, "attribution was published for one stack of blocks"),
        ({"query": 1, "method": "rollout", "target": "dog"}, "rollout does not depend on a class"),
        ({"query": 1, "target": "dog"}, "attention is that of one layer, and rests on no class"),
        ({"query": 1, "method": "gradient", "target": "cow"}, "There is no class called 'cow'"),
    ],
)
def test_what_cannot_be_asked_of_a_detector_is_said(ask, asked, said):
    with pytest.raises(ExplanationError, match=said):
        ask.explain(noise(), **asked)


def test_where_nothing_was_found_the_best_query_is_named(ask):
    best = ask(noise())[0].found()[0]
    with pytest.raises(ExplanationError, match=f"the best is {best.label} .* --query {best.query}, or lower --thresh"):
        ask.look_for(noise(), threshold=1.0)


def test_a_model_without_queries_says_so(place):
    with pytest.raises(ExplanationError, match="ViT has no object queries"):
        predictor(place / "classifier").explain(noise(), query=3)


def explain(place, model: str, typed: str) -> int:
    return main(["explain", str(place / model), *typed.replace("PICTURE", str(place / "a.png")).split()])


@pytest.mark.parametrize(
    ("typed", "title"),
    [
        ("PICTURE --query 5", "Cross-attention in layer 3 of 3. Where query 5 ("),
        ("PICTURE --query 5 --query 0 --layers 1 2", "Cross-attention in layers 1, 2 of 3. Where query 5 ("),
        ("PICTURE --threshold 0", "Cross-attention in layer 3 of 3. Where the queries of 7 objects looked, in a.png"),
        ("PICTURE --threshold 0 --top 2 --heads all", "Where the queries of the 2 best of 7 objects looked"),
        ("PICTURE --at 10 20", "Self-attention of the encoder in layer 2 of 2, asked about the cell at x = 10, y = 20"),
        ("PICTURE --query 2 --method gradient", "by query 2."),
        ("PICTURE --query 2 --method relevance", "by query 2."),
        ("PICTURE --query 2 --method relevance --target dog", "Relevance for dog by query 2."),
        ("PICTURE --query 2 --method relevance --faithful", "Hiding its strongest parts first leaves the score of "),
        ("PICTURE --query 3 --method rollout", "Attention through all layers (rollout)."),
    ],
)
def test_what_is_typed_is_drawn(place, tmp_path, capsys, typed, title):
    assert explain(place, "detector", f"{typed} --out {tmp_path}/drawn.png") == 0
    assert title in capsys.readouterr().out
    told = np.load(tmp_path / "drawn.npz")
    assert {"maps", "map"} & set(told)
    asked = {int(one) for one in re.findall(r"--query (\d)", typed)}
    assert not asked or set(told["queries"].tolist()) == asked
    assert (tmp_path / "drawn.png").stat().st_size > 10_000


def test_numbers_beside_a_drawing_say_what_each_query_answered(place, tmp_path, ask):
    assert explain(place, "detector", f"PICTURE --query 4 --query 1 --out {tmp_path}/drawn.png") == 0
    told, found = np.load(tmp_path / "drawn.npz"), {one.query: one for one in ask(noise())[0].found()}
    assert told["queries"].tolist() == [4, 1]
    assert told["labels"].tolist() == [found[4].label, found[1].label]
    np.testing.assert_allclose(told["boxes_xyxy"][1], found[1].box_xyxy, atol=1e-3)
    assert told["maps"].shape == (2, 2, 3, 5)


@pytest.mark.parametrize(
    ("model", "typed", "said"),
    [
        ("detector", "PICTURE --query 7", "There is no query 7: this model has queries 0 to 6"),
        ("detector", "PICTURE --query x", "--query takes a whole number counted from 0"),
        ("detector", "PICTURE --query 1 --at 2 3", "--at asks the encoder and --query the decoder"),
        ("detector", "PICTURE --query 1 --top 3", "--top says how many objects are drawn where none is asked for"),
        ("detector", "PICTURE --layers 4", "--layers 4: this model has layers 1 to 3"),
        ("detector", "PICTURE --at 1 1 --layers 3", "--layers 3: this model has layers 1 to 2"),
        ("detector", "PICTURE --method relevance --threshold 0.3", "--method explains one: leave them out"),
        ("detector", "PICTURE --faithful", "attention is that of one layer"),
        ("detector", "PICTURE --method attribution", "attribution was published for one stack"),
        ("detector", "PICTURE --threshold 3", "--threshold takes a number from 0 to 1"),
        ("detector", "PICTURE --queries", "--positions, --queries and --heads alone are about the model"),
        ("detector", "--queries --layers 2", "--queries is about the model, and --layers would say nothing beside it"),
        ("detector", "--queries", "measured on pictures: vitrail explain"),
        ("detector", "--positions", "counts the cells of each picture"),
        ("classifier", "PICTURE --query 3", "--query is for models that find objects by queries"),
        ("classifier", "PICTURE --threshold 0.5 --top 3", "--top and --threshold are for models that find objects"),
        ("classifier", "--queries", "--queries is for models that find objects by queries"),
    ],
)
def test_what_makes_no_sense_is_one_sentence(place, capsys, model, typed, said):
    assert explain(place, model, typed) in (1, 2)
    told = capsys.readouterr().err
    assert said in told
    assert len(told.splitlines()) == 1
