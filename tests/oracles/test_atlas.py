"""The atlas of queries: of a planted detector it shows the corners, the dead, the doubles and what is image-wide."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from oracles.detectors import CORNERS, Cornered, batches, noise, small_detector
from vitrail.cli.main import main
from vitrail.errors import ExplanationError
from vitrail.explain.atlas import BLUE, GREEN, RED, Atlas, colours, draw_atlas, examine_queries
from vitrail.explain.objects import with_threshold
from vitrail.loading import save_pretrained
from vitrail.tasks.detect import Detect

TASK = Detect(classes=("cat", "dog"))
SMALL = [(x, y, 0.1, 0.1) for x, y in CORNERS]


def atlas(boxes, silent=(), pictures: int = 7, objects: int = 2, **told) -> Atlas:
    return examine_queries(Cornered(boxes, silent).eval(), TASK, batches(pictures, objects), **told)


def test_each_query_is_shown_in_its_corner():
    found = atlas(SMALL)
    assert found.pictures == 7
    for query, corner in enumerate(CORNERS):
        torch.testing.assert_close(found.boxes[:, query, :2], torch.tensor([corner]).expand(7, -1))
    figure = draw_atlas(found)
    squares = {axes.get_title(loc="left").split(":")[0]: axes for axes in figure.axes if axes.get_title(loc="left")}
    for query, corner in enumerate(CORNERS):
        [points] = squares[f"query {query}"].collections
        np.testing.assert_allclose(points.get_offsets(), [corner] * 7, atol=1e-6)
        assert squares[f"query {query}"].get_ylim() == (1, 0)  # as in pictures, y grows downwards


def test_the_dead_are_named_and_not_taken_for_doubles():
    found = atlas(SMALL * 2, silent=(1, 5, 6))
    assert found.dead == [1, 5, 6]
    assert found.uses.tolist() == [7, 0, 7, 7, 7, 0, 0, 7]
    assert "3 of 8 slots (38%) are dead: they never reach 70% in 7 pictures (1, 5, 6)." in found.sentences()
    assert [pair[:2] for pair in found.duplicates] == [(0, 4), (3, 7)]
    assert all(pair.together == 1 and pair.twice == 7 for pair in found.duplicates)
    assert "2 pairs of slots repeat each other" in " ".join(found.sentences())
    assert "both answered for one object 14 times" in " ".join(found.sentences())
    assert found.order[:5] == [0, 2, 3, 4, 7]


def test_doubles_are_those_that_overlap_by_half_in_half_of_the_pictures():
    boxes = torch.tensor([[0.5, 0.5, 0.4, 0.4], [0.5, 0.5, 0.4, 0.2], [0.5, 0.5, 0.4, 0.19]])  # by 50 %, and by 47 %
    moved = boxes.clone()
    moved[1, 0] = 0.1
    for often, together in ((4, True), (3, False)):
        shown = torch.stack([boxes] * often + [moved] * (8 - often))
        found = Atlas(boxes=shown, scores=torch.ones(8, 3), labels=torch.zeros(8, 3, dtype=torch.long), threshold=0.7)
        pairs = [(pair.first, pair.second) for pair in found.duplicates]
        assert ((0, 1) in pairs) == together
        assert (0, 2) not in pairs


def test_queries_that_repeat_others_are_in_the_atlas_though_not_in_answers():
    model = Cornered([(0.5, 0.2, 0.4, 0.3), (0.5, 0.2, 0.4, 0.31)]).eval()
    assert examine_queries(model, replace(TASK, nms=0.7), batches(2, 1)).boxes.shape == (2, 2, 4)


def test_image_wide_modes_are_counted_whatever_the_score():
    found = atlas([*SMALL[:3], (0.5, 0.5, 0.9, 0.9)], silent=(3,))
    assert found.image_wide == [3]
    assert "1 of 4 slots (25%) have an image-wide mode" in " ".join(found.sentences())


def test_as_many_queries_are_suggested_as_the_fullest_picture_asks_for():
    assert atlas(SMALL, objects=63).suggested == 110  # 1.6 times, in tens: the paper has 100 for COCO
    few = atlas(SMALL * 5, objects=1)
    assert few.suggested == 40  # 20 were found at once
    assert "queries=40 would do, more than the 20 there are" in few.sentences()[-1]
    nothing = atlas(SMALL, silent=(0, 1, 2, 3), objects=0)
    assert nothing.suggested is None
    assert "None of 4 slots ever reaches 70%, the best score is" in nothing.sentences()[0]


def test_small_is_green_wide_is_red_and_tall_is_blue():
    small, wide, tall = colours(np.array([[0, 0, 0.05, 0.1], [0, 0, 0.9, 0.3], [0, 0, 0.2, 0.8]]))
    assert (small, wide, tall) == (pytest.approx(GREEN), pytest.approx(RED), pytest.approx(BLUE))


def test_as_many_squares_are_drawn_as_asked_for_most_used_first():
    many = [(0.1 + 0.02 * number, 0.5, 0.05, 0.05) for number in range(30)]
    for squares, drawn in ((20, 20), (3, 3), (None, 30)):
        figure = draw_atlas(atlas(many, silent=range(5), squares=squares))
        titles = [axes.get_title(loc="left") for axes in figure.axes if axes.get_title(loc="left")]
        assert len(titles) == drawn
        assert titles[0] == "query 5: 100%"
        assert sum("dead" in title for title in titles) == max(drawn - 25, 0)


def test_pictures_in_any_order_of_batches_give_the_same_atlas():
    model = small_detector()
    whole = batches(5, 1, together=5)
    parts = [
        one._replace(
            inputs=type(one.inputs)(*(part[place : place + 1] for part in one.inputs)),
            target=one.target[place : place + 1],
            index=one.index[place : place + 1],
        )
        for one in whole
        for place in range(5)
    ]
    first, second = examine_queries(model, TASK, whole), examine_queries(model, TASK, parts)
    torch.testing.assert_close(first.boxes, second.boxes, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(first.scores, second.scores, rtol=1e-5, atol=1e-5)
    with torch.inference_mode():
        told = model(*parts[3].inputs)
    torch.testing.assert_close(first.boxes[3], told.boxes[0], rtol=1e-5, atol=1e-5)  # query by query, not best first


def test_no_pictures_and_results_without_queries_are_said():
    with pytest.raises(ExplanationError, match="There are no pictures"):
        examine_queries(Cornered(SMALL), TASK, [])

    class Silent(Detect):
        def predict(self, model, inputs):
            return ["nothing"]

    with pytest.raises(ExplanationError, match="str, does not say which query has found what"):
        examine_queries(small_detector(), Silent(classes=("cat",)), batches(1, 1))


def write_coco(folder):
    """Three pictures with an object each."""
    (folder / "images").mkdir(parents=True)
    told = {"images": [], "annotations": [], "categories": [{"id": 3, "name": "cat"}, {"id": 8, "name": "dog"}]}
    for number in range(3):
        noise(seed=number).save(folder / f"images/{number}.png")
        told["images"].append({"id": number, "file_name": f"{number}.png", "width": 90, "height": 60})
        box = {"bbox": [10, 10, 30, 20], "area": 600, "iscrowd": 0, "category_id": 3}
        told["annotations"].append({"id": number + 1, "image_id": number, **box})
    (folder / "annotations.json").write_text(json.dumps(told))
    return folder


def test_the_atlas_of_a_data_set_is_typed_in_one_line(tmp_path, capsys):
    save_pretrained(small_detector(), tmp_path / "model", announce=lambda sentence: None)
    data = write_coco(tmp_path / "data")
    out = tmp_path / "drawn/queries.png"
    typed = [
        "explain",
        str(tmp_path / "model"),
        "--queries",
        "--data",
        str(data),
        "--out",
        str(out),
        "--threshold",
        "0",
    ]
    assert main(typed) == 0
    printed = capsys.readouterr().out
    assert "All 7 slots are used: each reaches 0% in some picture." in printed
    assert "A picture has at most 1 object marked and at most 7 found" in printed
    assert str(out) in printed
    numbers = np.load(out.with_suffix(".npz"))
    assert numbers["boxes"].shape == (3, 7, 4)
    assert numbers["marked"].tolist() == [1, 1, 1]
    assert main(["explain", str(tmp_path / "model"), "--heads", "--data", str(data)]) == 1
    assert (
        "Heads are compared over pictures of one size, and this DETR reads each at its own" in capsys.readouterr().err
    )
    assert with_threshold(TASK, 0.2).threshold == 0.2
