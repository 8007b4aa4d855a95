"""Benchmarks by name: scores that are known beforehand, beside published ones that are called so."""

import json
import re
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vitrail.cli.main import main
from vitrail.data.material import MarkedPictures, translating
from vitrail.data.open import open_dataset
from vitrail.errors import DataError
from vitrail.evaluate import benchmarks as module
from vitrail.evaluate.benchmarks import (
    Row,
    benchmarks,
    chart,
    costs,
    open_labelled,
    published,
    ranked,
    rows_of,
    run_benchmark,
)
from vitrail.evaluate.benchmarks import find_benchmark as find
from vitrail.evaluate.evaluate import evaluate
from vitrail.loading import create_model, save_pretrained
from vitrail.models.resnet import ResNetConfig
from vitrail.predict import Predictor
from vitrail.predict_texts import TextPredictor
from vitrail.preprocessing import Fitted
from vitrail.tasks.answers import exact_match, word_f1
from vitrail.tokenizing import train_joint, train_word_pieces


@pytest.fixture
def imagenet(tmp_path) -> Path:
    """A folder in ImageNet's form: a thousand classes of one tiny picture, grey of ten levels."""
    for number in range(1000):
        folder = tmp_path / "val" / f"n{10_000_000 + number:08d}"
        folder.mkdir(parents=True)
        pixels = np.full((8, 8, 3), 25 * (number % 10), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "a.png")
    return tmp_path / "val"


def constant(answer: int) -> Predictor:
    """A model that always gives one class."""
    model = create_model("vit-tiny-16", image=8, patch=8, dim=12, heads=3, mlp_dim=12, depth=1, classes=1000)
    with torch.no_grad():
        model.head.weight.zero_()
        model.head.bias.zero_()
        model.head.bias[answer] = 1.0
    return Predictor(model.eval())


TINY = {"dim": 8, "heads": 2, "encoder_depth": 1, "decoder_depth": 1, "mlp_dim": 8, "queries": 9}
RESNET = ResNetConfig(stem=4, widths=(4, 4, 4, 4), layers=(1, 1, 1, 1), norm="frozen", classes=0)


def detector(labels: tuple[str, ...], name: str = "detr-resnet-50") -> Predictor:
    """A tiny one that has learned nothing, under the name of a large one."""
    torch.manual_seed(0)
    model = create_model(name, backbone=RESNET, classes=len(labels), **TINY)
    model.card = replace(
        model.card, model=name, labels=labels, preprocessing=Fitted(shorter=32, longer=64), task="detect"
    )
    return Predictor(model.eval())


@pytest.fixture
def marked(tmp_path) -> Path:
    """Three pictures in COCO's form with one object each, of a cat and of a dog by turns, large and small."""
    categories = [{"id": 7, "name": "cat"}, {"id": 90, "name": "dog"}]
    images = [{"id": number, "file_name": f"{number}.png", "width": 48, "height": 40} for number in (1, 2, 3)]
    annotations = [
        {"id": n, "image_id": n, "category_id": (7, 90)[n % 2], "bbox": [0, 0, 40, 40 - n], "area": 40 * (40 - n)}
        | {"iscrowd": 0}
        for n in (1, 2, 3)
    ]
    for image in images:
        Image.new("RGB", (48, 40)).save(tmp_path / image["file_name"])
    file = tmp_path / "annotations.json"
    file.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return file


def test_imagenets_folders_are_numbered_in_their_order(imagenet):
    dataset = open_labelled(str(imagenet), constant(0), benchmarks()["imagenet"])
    assert [dataset[index].label for index in (0, 7, 999)] == [0, 7, 999]


def test_a_score_is_the_share_that_was_right_in_percent(imagenet):
    row = run_benchmark("imagenet", str(imagenet), constant(17), batch=250)
    assert row.score == pytest.approx(0.1)
    assert row.here
    assert row.source.endswith("1,000 pictures of 1,000 classes, not 50,000 of 1,000")
    assert not row.alike


def test_answers_are_scored_in_percent_with_their_exact_match(tmp_path):
    context = "Anna lives in Oslo."
    asked = {"id": "1", "question": "Where?", "answers": [{"text": "in Oslo", "answer_start": 11}]}
    text = json.dumps({"data": [{"title": "a", "paragraphs": [{"context": context, "qas": [asked]}]}]})
    (tmp_path / "dev-v1.1.json").write_text(text)
    reads = train_word_pieces([context, "Where?"] * 3, size=300)
    shape = {"dim": 8, "depth": 1, "heads": 1, "mlp_dim": 8, "vocabulary": reads.size}
    model = create_model("bert-tiny", head="answer", **shape)
    model.card = replace(model.card, preprocessing=reads)
    row = run_benchmark("squad", str(tmp_path / "dev-v1.1.json"), TextPredictor(model))
    said = TextPredictor(model)("Where?", context=context)[0].text
    assert row.score == pytest.approx(100 * word_f1(said, "in Oslo"))
    exact = f"exact match {100 * exact_match(said, 'in Oslo'):.2f}"
    assert row.source == f"computed here on 1 question, {exact}, which are not SQuAD 1.1's: 1 question, not 10,570"
    with pytest.raises(DataError, match="a model that reads texts is needed"):
        run_benchmark("squad", str(tmp_path / "dev-v1.1.json"), constant(0))
    with pytest.raises(DataError, match="has learned to answer"):
        run_benchmark("wmt14", str(tmp_path / "dev-v1.1.json"), TextPredictor(model))


def test_translations_are_scored_with_their_signature_and_only_in_the_benchmarks_direction(tmp_path):
    for language, line in (("en", "a dog runs"), ("de", "ein hund rennt")):
        (tmp_path / f"test.{language}").write_text(f"{line}\n" * 3)
    reads = train_joint(["a dog runs", "ein hund rennt"] * 3, size=300, max_tokens=16)
    sizes = {f"{side}_vocabulary": reads.size for side in ("source", "target")}
    model = create_model("transformer-tiny", dim=8, encoder_heads=1, decoder_heads=1, max_tokens=16, **sizes)
    model.card = replace(model.card, preprocessing=reads, generation=translating(reads), labels=("en", "de"))
    row = run_benchmark("wmt14", f"{tmp_path}:en-de", TextPredictor(model))
    assert 0 <= row.score <= 100
    assert "on 3 sentence pairs, sacrebleu nrefs:1|case:mixed|eff:no|tok:13a" in row.source
    with pytest.raises(DataError, match=r"goes from de to en. Type .*:en-de"):
        run_benchmark("wmt14", f"{tmp_path}:de-en", TextPredictor(model))
    model.card = replace(model.card, labels=("de", "en"))
    with pytest.raises(DataError, match="goes from de to en, and not as"):
        run_benchmark("wmt14", f"{tmp_path}:en-de", TextPredictor(model))


@pytest.mark.parametrize("name", benchmarks())
def test_every_published_row_says_who_published_it(name):
    rows = published(name)
    assert rows
    assert all(row.source and row.model and not row.here for row in rows)
    best = ranked(rows, replace(benchmarks()[name], costs=False))[0].score
    assert best == (min if benchmarks()[name].lower else max)(row.score for row in rows)
    chart(name, rows).canvas.draw()


def test_the_command_writes_a_chart_and_a_table(imagenet, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    save_pretrained(constant(17).model, tmp_path / "model", announce=lambda said: None)
    assert main(["benchmark", "imagenet", "--data", str(imagenet), "--model", "model", "--batch", "250"]) == 0
    said = capsys.readouterr().out
    assert "computed here on 1,000 pictures" in said
    assert "Dosovitskiy et al. 2021, table 2" in said
    assert Image.open(tmp_path / "benchmark-imagenet/imagenet.png").format == "PNG"
    told = json.loads((tmp_path / "benchmark-imagenet/imagenet.json").read_text())
    assert [row["score"] for row in told["rows"] if row["here"]] == [pytest.approx(0.1)]


def test_to_look_at_what_was_published_writes_nothing_unless_it_is_said_where(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["benchmark", "coco"]) == 0
    assert "DETR-R101" in capsys.readouterr().out
    assert not [*tmp_path.iterdir()]
    assert main(["benchmark", "coco", "--out", "kept"]) == 0
    assert sorted(path.name for path in (tmp_path / "kept").iterdir()) == ["coco.json", "coco.png"]


@pytest.mark.parametrize("name", benchmarks())
def test_a_chart_tells_scores_apart_and_says_where_its_axis_and_its_sources_are(name):
    rows = ranked(
        [*published(name), Row("\u6a21\u578b", 0.5 * published(name)[0].score, "here", here=True)], find(name)
    )
    [axes] = (figure := chart(name, rows)).axes
    low, high = axes.get_xlim()
    assert axes.collections[1].get_offsets()[:, 0].tolist() == [row.score for row in rows]
    assert low < min(row.score for row in rows) < max(row.score for row in rows) < high
    said = " ".join(text.get_text() for text in figure.texts)
    assert f"Sources are in {name}.json beside this chart." in said
    assert "Lower is better" in said if find(name).lower else "Higher is better" in said
    assert "\u25a1 is a letter that this figure's font lacks." in said
    assert "the axis does not begin at 0" in axes.get_xlabel()
    [alone] = chart(name, published(name)[:1]).axes
    assert alone.get_xlim()[0] < published(name)[0].score < alone.get_xlim()[1]


@pytest.mark.parametrize(
    ("typed", "sentence"),
    [
        (["imagnet"], "no benchmark called 'imagnet'. Did you mean imagenet"),
        (["imagenet", "--data", "x"], "Type both: vitrail benchmark imagenet --data imagenet/val --model vit-base-16"),
        (["librispeech", "--data", "x", "--model", "y"], "librispeech cannot be run here yet"),
        (["detr", "--data", "x"], "Type both: vitrail benchmark detr --data coco/ --model detr-resnet-50"),
        (["coco", "--data", "few", "--model", "model"], "has learned to classify, and COCO 2017"),
        (["imagenet", "--data", "few", "--model", "model"], "has 1 classes, and ImageNet-1k"),
    ],
)
def test_what_cannot_be_run_is_a_sentence(tmp_path, monkeypatch, capsys, typed, sentence):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "few" / "cat").mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(tmp_path / "few" / "cat" / "a.png")
    save_pretrained(constant(0).model, tmp_path / "model", announce=lambda said: None)
    assert main(["benchmark", *typed]) in (1, 2)
    assert sentence in capsys.readouterr().err


def test_the_table_of_detr_is_the_one_that_lectures_show(shared):
    """Ten rows of nine columns, as they stand in the slides."""
    text = next((shared / "lectures").glob("002_*.txt")).read_text()
    table = [line.strip("|\n").split("\t") for line in text.splitlines() if line.startswith(("Faster RCNN", "DETR"))]
    slides = {row[0]: row[1:] for row in table if len(row) == 9}
    ours = {row.model.replace("R-CNN", "RCNN"): row.numbers for row in published("detr")}
    assert list(slides) == list(ours)
    assert len(ours) == 10
    for model, (both, parameters, *scores) in slides.items():
        told = re.findall(r"[\d.]+", " ".join((both, parameters, *scores)))
        assert list(map(float, told)) == list(ours[model].values()), model


def test_what_detectors_cost_is_counted_as_in_the_paper():
    ask = detector(("cat", "dog"))
    small, large = (costs(ask, size) for size in ((64, 64), (128, 128)))
    learns = sum(
        values.numel()
        for name, values in ask.model.named_parameters()
        if not name.startswith(("backbone.stem", "backbone.stages.0"))
    )
    assert small.parameters == large.parameters == learns / 1e6
    assert 3.9 < large.gflops / small.gflops < 4.6, "four times the pixels, and more pairs of them"
    assert small.fps > 0
    assert "128 x 128 pixels, one picture at a time" in large.how
    assert "1 thread" in large.how


def test_costs_are_measured_below_the_rows_that_they_repeat(monkeypatch, capsys):
    monkeypatch.setattr(module, "create_model", lambda name: detector(("cat",), name).model)
    rows = ranked(rows_of("detr", size=(48, 64), device="cpu", announce=lambda said: None), find("detr"))
    assert [row.model for row in rows][6:10] == ["DETR", "detr-resnet-50", "DETR-DC5", "detr-resnet-50-dc5"]
    assert [row.here for row in rows] == [False] * 6 + [False, True] * 4
    assert all(row.numbers.keys() == {"gflops", "fps", "parameters"} for row in rows if row.here)
    assert len(chart("detr", rows).axes[0].get_yticks()) == 10, "what has no score is not drawn"
    monkeypatch.setattr(module, "rows_of", lambda *given, **named: rows)
    assert main(["benchmark", "detr"]) == 0
    said = capsys.readouterr().out
    assert re.search(r"GFLOPs/FPS +#params +AP +AP50 +AP75 +AP-S +AP-M +AP-L +source", said)
    assert "86/28" in said
    assert "166M" in said
    assert "Scores are published and were not computed here" in said


def test_a_detector_is_scored_by_the_twelve_numbers_and_what_is_not_coco_is_called_so(marked, tmp_path, monkeypatch):
    ask = detector(("cat", "N/A", "dog"))
    row = run_benchmark("coco", str(marked), ask)
    data = open_dataset(str(marked), None, ("cat", "N/A", "dog"))
    batches = MarkedPictures(path=str(marked)).judging(data, ask.card.preprocessing)
    scores = evaluate(ask.model, ask.task, batches).scores
    assert row.numbers == {name: 100 * score for name, score in scores.items() if score != -1}
    assert "ap_small" not in row.numbers, "there are none"
    assert row.score == row.numbers["ap"]
    assert row.source == (
        "computed here on 3 pictures, which are not COCO 2017's: 3 pictures of 2 classes, not 5,000 of 80"
    )
    like = replace(find("coco"), samples=3, classes=2)
    monkeypatch.setattr(module, "find_benchmark", lambda name: like)
    assert run_benchmark("coco", str(marked), ask).source == "computed here on 3 pictures"
    with pytest.raises(DataError, match="classes that are not among the 1 expected: dog"):
        run_benchmark("coco", str(marked), detector(("cat",)))


def test_a_detector_is_scored_and_measured_from_the_command_line(marked, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(module, "rows_of", partial(rows_of, size=(48, 64)))
    ask = detector(("cat", "dog"), "detr-resnet-50-dc5")
    save_pretrained(ask.model, tmp_path / "model", announce=lambda said: None)
    assert main(["benchmark", "detr", "--data", str(marked), "--model", "model", "--json"]) == 0
    [told] = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    names = [row["model"] for row in told["rows"]]
    assert names.index("detr-resnet-50-dc5") == names.index("DETR-DC5") + 1
    [row] = [row for row in told["rows"] if row["here"]]
    assert row["numbers"].keys() >= {"gflops", "fps", "parameters", "ap", "ap50", "ap_medium"}
    assert "not COCO 2017's" in row["source"]
    assert "costs measured here: 48 x 64 pixels" in row["source"]
    assert main(["benchmark", "coco", "--data", str(marked), "--model", "model", "--out", "kept"]) == 0
    assert "AR100" in capsys.readouterr().out
    assert sorted(path.name for path in (tmp_path / "kept").iterdir()) == ["coco.json", "coco.png"]
    assert main(["benchmark", "detr", "--model", "model"]) == 0, "what it costs, without data"
    assert "48 x 64 pixels" in capsys.readouterr().out
