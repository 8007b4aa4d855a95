"""Evaluation on results whose scores are known beforehand, and the page that shows them."""

import copy
import csv
import functools
import json
import shlex
from html.parser import HTMLParser
from typing import NamedTuple

import matplotlib.text
import numpy as np
import pytest
import torch
import tyro
from PIL import Image
from torch import nn

from vitrail.cli.main import EVERY_VERB, find
from vitrail.core import packing
from vitrail.data.images import PictureArray
from vitrail.data.loader import Loader
from vitrail.data.transforms import eval_transform
from vitrail.errors import DataError
from vitrail.evaluate import page
from vitrail.evaluate.background import Background, read_records
from vitrail.evaluate.confusion import confusion, confusions, joined, printed, tinted
from vitrail.evaluate.evaluate import evaluate
from vitrail.evaluate.plots import Tile, curves, reliability, sheet
from vitrail.evaluate.readings import label_in_words
from vitrail.evaluate.report import beside, write_report
from vitrail.explain.figures import png
from vitrail.models.vit import ViT, ViTConfig
from vitrail.preprocessing import Preprocessing
from vitrail.samples import Sample
from vitrail.tasks.classify import Classify

SIZE = 16
PLAIN = Preprocessing(size=(SIZE, SIZE), resize=None, mean=(0.0,) * 3, std=(1.0,) * 3)


class Written(NamedTuple):
    """A data set in which the first pixel of a picture says what the model will answer, and how firmly."""

    truths: list
    answers: list[int]
    firmness: list[int]
    classes: tuple[str, ...]
    multi_label: bool = False
    task: str = "classify"
    channels: int = 3

    def __len__(self):
        return len(self.truths)

    def __getitem__(self, index):
        pixels = np.full((SIZE, SIZE, 3), 40, dtype=np.uint8)
        pixels[0, 0, :2] = self.answers[index], self.firmness[index]
        return Sample(PictureArray(pixels, f"folder/picture {index}.png"), self.truths[index])

    def labels(self):
        return list(self.truths)

    def fingerprint(self, index):
        return str(index).encode()


class Reader(nn.Module):
    """Answers what is written in the first pixel."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classes = classes
        self.drop = nn.Dropout(0.5)
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, images):
        written = (images[:, :2, 0, 0] * 255).round()
        return nn.functional.one_hot(written[:, 0].long(), self.classes) * written[:, 1:] / 10


def written(classes=("cat", "dog", "bird"), count=60, wrong=(), seed=0) -> Written:
    """Pictures of which those in `wrong` are taken for the next class, the later the more firmly."""
    truths = np.random.default_rng(seed).integers(0, len(classes), count).tolist()
    answers = [(truth + (index in wrong)) % len(classes) for index, truth in enumerate(truths)]
    firmness = [10 + index for index in range(count)]
    return Written(truths, answers, firmness, tuple(classes))


def judge(data: Written, model: nn.Module | None = None, batch: int = 7, **how):
    task = Classify(classes=data.classes, multi_label=data.multi_label)
    model = Reader(len(data.classes)) if model is None else model
    return evaluate(model, task, Loader(data, eval_transform(PLAIN), batch), **how)


class Page(HTMLParser):
    """Checks that every element is closed, and collects what a page would load and run."""

    VOID = frozenset({"meta", "img", "br", "link", "input"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open, self.tags, self.loaded, self.words, self.links = [], [], [], [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        addresses = [value for name, value in attrs if name in ("src", "href", "srcset", "data")]
        (self.links if tag == "a" else self.loaded).extend(addresses)  # a link loads nothing until it is followed
        assert not [name for name, _ in attrs if name.startswith("on")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def page_of(data: Written, folder, model: nn.Module | None = None, kept: int = 4) -> tuple[str, Page]:
    model = Reader(len(data.classes)) if model is None else model
    path = write_report(
        judge(data, model, kept=kept), folder, title="flowers", dataset=data, model=model, preprocessing=PLAIN
    )
    text = path.read_text(encoding="utf-8")
    return text, Page(text)


# the loop


def test_scores_are_those_counted_by_hand():
    report = judge(written(count=60, wrong=(3, 20, 41)))
    assert report.seen == 60
    assert report.scores["top1"] == pytest.approx(57 / 60)
    assert report.best == "top1"
    assert np.trace(report.details["confusion"]) == 57


@pytest.mark.parametrize("batch", [1, 7, 60, 100])
def test_the_worst_mistakes_are_kept_worst_first_whatever_the_batch(batch):
    wrong = (2, 9, 17, 33, 34, 50)
    report = judge(written(count=60, wrong=wrong), batch=batch, kept=4)
    assert [case.index for case in report.worst] == [50, 34, 33, 17]  # later pictures are answered more firmly
    mistakes = [case.mistake for case in report.worst]
    assert mistakes == sorted(mistakes, reverse=True)
    assert all(mistakes)


def test_the_predictions_shown_are_spread_over_the_whole_data_set():
    report = judge(written(count=200), batch=50, kept=16)
    shown = [case.index for case in report.shown]
    assert shown == sorted(set(shown))
    assert len(shown) == 16
    gaps = np.diff([0, *shown, 200])
    assert gaps.max() <= 25  # twice the even 12.5


def test_fewer_pictures_than_are_kept_are_all_shown():
    report = judge(written(count=5, wrong=(1,)), kept=16)
    assert [case.index for case in report.shown] == [0, 1, 2, 3, 4]
    assert [case.index for case in report.worst] == [1]


def test_the_model_is_judged_in_eval_mode_and_each_part_is_left_in_its_own():
    model = nn.Sequential(Reader(3), nn.BatchNorm1d(3))
    model.train()
    model[1].eval()  # a frozen part in a model that trains
    seen = []
    model[0].register_forward_hook(lambda *given: seen.append(model[0].drop.training))
    judge(written(), model)
    assert set(seen) == {False}
    assert model.training
    assert model[0].drop.training
    assert not model[1].training


class Linear(Reader):
    """The same, of which a linear layer makes no difference, and that says which of its kind has answered."""

    def __init__(self, classes: int, told: list[type]) -> None:
        super().__init__(classes)
        self.layer, self.told = nn.Linear(4, 4), told

    def __deepcopy__(self, memo):
        copied = Linear(self.classes, self.told)
        copied.layer = copy.deepcopy(self.layer, memo)
        return copied

    def forward(self, images):
        self.told.append(type(self.layer))
        return super().forward(images)


class NeverCopied(Linear):
    def __deepcopy__(self, memo):
        raise ValueError("ctypes objects containing pointers cannot be pickled")


@pytest.mark.skipif(not packing.available(), reason="this torch has no oneDNN products for this processor")
def test_a_packed_twin_is_judged_unless_somebody_listens_or_there_is_none():
    data, told, heard = written(wrong={3}), list[type](), list[nn.Module]()
    plain, stubborn = Linear(3, told), NeverCopied(3, told)
    scores = judge(data, plain).scores
    assert set(told) == {packing.PackedLinear}
    told.clear()
    assert judge(data, stubborn).scores == scores
    plain.register_forward_hook(lambda part, inputs, answer: heard.append(part))
    assert judge(data, plain).scores == scores
    assert set(told) == {nn.Linear}
    assert set(heard) == {plain}


def test_no_pictures_is_a_sentence():
    with pytest.raises(DataError, match="There is nothing to judge the model by"):
        judge(Written([], [], [], ("a", "b")))


def test_results_that_cannot_say_how_wrong_they_are_give_no_mistakes():
    class Count:
        name, best = "count", ("most", "max")

        def predict(self, model, inputs):
            return [3] * inputs.shape[0]

        def metrics(self):
            return self

        def update(self, results, batch):
            pass

        def compute(self):
            return {"most": 3.0}

        def details(self):
            return {}

        def loss(self, model, batch, generator=None): ...

        def after_step(self, model, step): ...

    report = evaluate(Reader(3), Count(), Loader(written(count=6), eval_transform(PLAIN), 4))
    assert report.scores == {"most": 3.0}
    assert report.worst == ()
    assert {case.mistake for case in report.shown} == {None}


def test_scores_and_tables_are_written_for_other_programs(tmp_path):
    data = written(classes=('a "quoted", class', "b;c", "d\ne"), wrong=(1, 2))
    report = judge(data)
    paths = report.save(tmp_path / "new")
    assert [path.name for path in paths] == ["scores.json", "per_class.csv"]
    read = json.loads(paths[0].read_text())
    assert read["scores"] == report.scores
    assert read["seen"] == 60
    with open(paths[1], newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["label"] for row in rows] == list(data.classes)
    assert sum(int(row["support"]) for row in rows) == 60


# the page


def test_the_page_needs_nothing_but_itself(tmp_path):
    text, page = page_of(written(wrong=(1, 5)), tmp_path)
    assert page.loaded
    assert all(address.startswith("data:image/") for address in page.loaded)
    assert "script" not in page.tags
    assert "link" not in page.tags
    assert "http" not in text.replace("http-equiv", "")
    assert "@import" not in text
    assert "url(" not in text


def test_strange_names_of_classes_and_files_are_words_and_nothing_else(tmp_path):
    names = (
        "<script>alert(1)</script>",
        "a\"b'&amp;<img src=x onerror=y>",
        "$x^2_$ \\frac{",
        "\u82b1\u3000\U0001f33b",
        "",
    )
    _text, page = page_of(written(classes=names, wrong=(1, 5)), tmp_path)
    assert "script" not in page.tags
    said = "".join(page.words)
    for name in names:
        assert name in said
    assert all(address.startswith("data:image/") for address in page.loaded)


def test_the_page_shows_the_figures_that_lie_beside_it(tmp_path):
    records = [{"step": step, "epoch": step / 10, "loss": 1 / step, "rate": 0.1} for step in range(1, 30)]
    records.append({"step": 30, "epoch": 3.0, "val_loss": 0.3, "val_top1": 0.9})
    lines = "".join(json.dumps(record) + "\n" for record in records)
    (tmp_path / "metrics.jsonl").write_text(lines + '{"step": 31, "epo')  # the process died here
    assert read_records(tmp_path / "metrics.jsonl") == records
    text, _ = page_of(written(wrong=(1, 5)), tmp_path)
    figures = {path.name for path in tmp_path.glob("*.png")}
    assert figures == {"curves.png", "confusion.png", "calibration.png", "predictions.png", "mistakes.png"}
    assert text.count('class="box" style="width') == 3
    assert "How training went" in text
    for path in tmp_path.glob("*.png"):
        with Image.open(path) as image:
            assert min(image.size) > 50


def test_mistakes_come_with_where_the_model_looked(tmp_path):
    torch.manual_seed(0)
    model = ViT(ViTConfig(image=16, patch=8, dim=24, depth=1, heads=4, mlp_dim=48, classes=3)).eval()
    text, _page = page_of(written(), tmp_path, model)
    assert "worst mistakes" in text
    assert "where the class token" in text
    wide = text.split('class="tiles wide"')[1]
    assert wide.count("<figure") == 4


def test_mistakes_of_a_model_without_attention_say_why_there_is_none(tmp_path):
    text, _ = page_of(written(wrong=(1, 5)), tmp_path)
    assert "The 2 worst mistakes" in text
    assert "Reader has no attention to show" in text


def test_a_model_that_is_never_wrong_is_told_so(tmp_path):
    text, _ = page_of(written(), tmp_path)
    assert "No mistakes" in text


def test_one_class_alone_is_judged_too(tmp_path):
    text, _ = page_of(written(classes=("only",)), tmp_path)
    assert "60 pictures judged" in text
    assert "1: only" in text


def test_several_labels_at_once_have_a_page_too(tmp_path):
    truths = [(0,), (0, 2), (), (1,), (2,), (0, 1, 2)]
    data = Written(truths, [0, 0, 1, 1, 0, 2], [50] * 6, ("cat", "dog", "bird"), multi_label=True)
    text, _ = page_of(data, tmp_path, kept=6)
    assert "truth: cat, bird" in text
    assert "truth: none" in text
    assert "What was taken for what" not in text


@pytest.mark.parametrize(("label", "words"), [(1, "dog"), ((0, 1), "cat, dog"), ((), "none"), (None, "unknown")])
def test_the_truth_is_said_in_words(label, words):
    assert label_in_words(label, ("cat", "dog")) == words


# what the page tells besides the numbers


def run_folder(folder, data: str = "flowers/"):
    """A folder as a run leaves it, without weights."""
    recipe = {"model": {"init": None}, "data": {"path": data}, "epochs": 3, "steps": None, "seed": 7}
    told = {"kept": "best", "average": False, "step": 20, "steps": 30}
    records = [{"step": 10 * epoch, "epoch": float(epoch), "val_top1": 0.5} for epoch in (1, 2, 3)]
    folder.mkdir(parents=True)
    (folder / "recipe.json").write_text(json.dumps(recipe))
    (folder / "run.json").write_text(json.dumps(told))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    return folder


def words_of(pictures: Written, folder, **more) -> tuple[str, Page]:
    model = Reader(len(pictures.classes))
    report = judge(pictures, model, kept=4)
    path = write_report(report, folder, title="flowers", dataset=pictures, model=model, preprocessing=PLAIN, **more)
    page = Page(path.read_text(encoding="utf-8"))
    return "".join(page.words), page


def test_the_page_tells_data_model_weights_and_recipe(tmp_path):
    said, page = words_of(written(wrong=(1, 5)), run_folder(tmp_path / "run"), learned=240)
    assert "flowers/: 60 pictures judged; 240 other pictures to learn from" in said
    assert "3: cat, dog, bird" in said
    assert "Reader: 1 parameters, reads 16 by 16 pixels of 3 channels" in said
    assert "kept from epoch 2 (step 20 of 30): the best on what was set aside" in said
    assert "began with fresh weights, 3 epochs, seed 7" in said
    assert page.links == ["recipe.json"]


def test_the_report_of_an_evaluation_leads_back_to_the_recipe_of_its_run(tmp_path):
    run = run_folder(tmp_path / "my run")
    said, page = words_of(written(), run / "evaluated-other", source=run, data="other/", part="its part val")
    assert page.links == ["../recipe.json"]
    assert "other/: 60 pictures judged (its part val)" in said
    assert "How training went" not in said
    said, page = words_of(written(), tmp_path / "elsewhere", source=run, data="other/")
    assert page.links == ["../my%20run/recipe.json"]


def test_the_commands_of_the_page_mean_something_with_any_path(tmp_path):
    commands = Background(run_folder(tmp_path / "my run"), tmp_path).commands(["PICTURE"], "timm")
    commands += Background("a/hub-id", tmp_path).commands([__file__], "transformers")
    for command in commands:
        _, verb, *words = shlex.split(command)
        tyro.cli(functools.wraps(find(verb))(lambda *given, **named: None), args=words, config=EVERY_VERB)
    assert shlex.split(commands[0])[2:] == [str(tmp_path / "my run"), "PICTURE"]
    assert commands[2].endswith("--data flowers/")
    assert shlex.split(commands[4])[2:] == ["a/hub-id", __file__]
    assert commands[6].endswith("--data DATA")


@pytest.mark.parametrize(("count", "shown"), [(2, False), (5, False), (6, True)])
def test_five_guesses_count_only_where_there_are_more_classes(count, shown, tmp_path):
    said, _ = words_of(written(classes=tuple(f"class {number}" for number in range(count))), tmp_path)
    assert ("top-5 accuracy" in said) == shown
    assert "top-1 accuracy" in said


def test_every_score_is_said_in_a_sentence(tmp_path):
    said, _ = words_of(written(), tmp_path / "one")
    assert "macro F1" in said
    assert "rare classes count as much as frequent ones" in said
    assert "How far scores lie from how often they are right" in said
    several = Written([(0,), (0, 1), (1,)], [0, 1, 1], [50] * 3, ("cat", "dog"), multi_label=True)
    said, _ = words_of(several, tmp_path / "several")
    assert "How well what has a label ranks above what has not" in said
    assert "A label holds from 50 % on" in said


def test_captions_are_explained_on_the_page_and_on_the_sheets(tmp_path):
    said, _ = words_of(written(wrong=(1, 5)), tmp_path)
    assert said.count("Below each picture: the model's answer with its scores") == 2
    assert "answer: cat" in said
    assert "the truth; then the file" in texts(sheet([], "Mistakes", "then the truth; then the file"))


def test_wide_pictures_are_put_one_below_the_other():
    assert beside(Image.new("RGB", (300, 50)), Image.new("RGB", (300, 50))).size == (300, 108)
    assert beside(Image.new("RGB", (50, 300)), Image.new("RGB", (50, 300))).size == (108, 300)


# the figures


def texts(figure) -> str:
    return " | ".join(text.get_text() for text in figure.findobj(matplotlib.text.Text) if text.get_text())


def cut_off(figure) -> list[str]:
    """The words that reach beyond the edge of a figure."""
    figure.draw_without_rendering()
    edge = figure.bbox
    found = []
    for text in figure.findobj(matplotlib.text.Text):
        box = text.get_window_extent()
        inside = edge.x0 <= box.x0 and box.x1 <= edge.x1 and edge.y0 <= box.y0 and box.y1 <= edge.y1
        if text.get_text().strip() and text.get_visible() and not inside:
            found.append(text.get_text())
    return found


def drawn(figure) -> np.ndarray:
    import io

    return np.asarray(Image.open(io.BytesIO(png(figure))).convert("RGB")).astype(int)


@pytest.mark.parametrize("count", [1, 2, 5, 100, 1000])
def test_confusion_is_readable_however_many_classes(count):
    counts = np.eye(count, dtype=int) * 20
    if count > 1:
        counts[0, count - 1] = 5
    names = [f"class {number}" for number in range(count)]
    figure = confusion(counts.tolist(), names)
    pixels = drawn(figure)
    orange = (pixels[..., 0] - pixels[..., 2] > 40).sum()
    teal = (pixels[..., 2] - pixels[..., 0] > 40).sum()
    assert teal > 200
    assert (orange > 200) == (count > 1)
    said = " ".join(text.get_text() for text in figure.findobj(lambda part: hasattr(part, "get_text")))
    assert ("class 0 \u2192" in said) == (count > 1)


def test_truth_stands_in_rows_and_agreement_in_another_colour():
    shares = np.zeros((3, 3))
    shares[1, 1] = shares[0, 2] = 1
    colours = tinted(shares)
    assert colours[1, 1, 2] > colours[1, 1, 0]  # teal
    assert colours[0, 2, 0] > colours[0, 2, 2]  # orange
    assert colours[2, 0].tolist() == [1, 1, 1]


def test_a_single_confusion_among_a_thousand_classes_is_not_lost():
    shares = np.zeros((1000, 1000))
    shares[997, 3] = 0.5
    small = joined(shares)
    assert small.shape == (200, 200)
    assert small[199, 0] == 0.5
    assert np.count_nonzero(small) == 1


def test_the_most_frequent_confusions_come_first_and_right_answers_do_not_count():
    counts = np.array([[50, 3, 0], [7, 10, 1], [0, 0, 90]])
    pairs = confusions(counts, ["a", "b", "c"])
    assert [(pair.truth, pair.said, pair.count, pair.of) for pair in pairs] == [
        ("b", "a", 7, 18),
        ("a", "b", 3, 53),
        ("b", "c", 1, 18),
    ]
    assert confusions(np.eye(3, dtype=int), ["a", "b", "c"]) == []


def test_the_reliability_diagram_prints_the_calibration_error_of_the_metrics():
    report = judge(written(wrong=(3, 20, 41)))
    figure = reliability(report.details["calibration"])
    titles = [axes.get_title(loc="left") for axes in figure.get_axes()]
    assert f"Off by {report.scores['ece']:.1%} on average" in titles[0]


def test_too_sure_and_too_modest_are_told_apart_and_reach_to_the_diagonal():
    bins = {"edges": [0.5, 1.0], "count": [3, 9], "confidence": [0.3, 0.9], "accuracy": [0.6, 0.5]}
    deserved, occurring = reliability(bins).get_axes()
    gaps = {line.get_label(): line for line in deserved.get_lines() if line.get_xdata()[0] == line.get_xdata()[1]}
    assert list(gaps["too sure of itself"].get_ydata()) == [0.5, 0.9]
    assert list(gaps["better than it believes"].get_ydata()) == [0.6, 0.3]
    assert list(gaps["too sure of itself"].get_xdata()) == [0.9, 0.9]
    colours = {line.get_color() for line in gaps.values()} | {bar.get_facecolor() for bar in deserved.patches}
    assert len(colours) == 3
    assert {"3", "9"} <= {text.get_text() for text in occurring.texts}


RECORDS = [
    {"step": 1, "epoch": 0.5, "loss": 1.4, "rate": 1e-4},
    {"step": 2, "epoch": 1.0, "loss": 1.3, "rate": 2e-4},
    {"step": 2, "epoch": 1.0, "val_loss": 1.2, "val_top1": 0.4},
]


def test_curves_begin_at_zero_and_count_whole_epochs():
    figure = curves(RECORDS, "top1", "classify")
    figure.draw_without_rendering()
    loss, score, rate = figure.get_axes()
    assert loss.get_ylim()[0] == rate.get_ylim()[0] == 0
    assert score.get_ylim() == pytest.approx((0, 1), abs=0.05)
    for axes in figure.get_axes():
        assert axes.get_xlim() == pytest.approx((0, 1), abs=0.05)
        assert all(float(tick).is_integer() for tick in axes.get_xticks())
        assert {line.get_marker() for line in axes.get_lines()} == {"o"}  # a single value is no line
    assert score.get_title(loc="left") == "top-1 accuracy, validation"


def test_what_was_never_written_down_has_no_empty_axes():
    assert [axes.get_title(loc="left") for axes in curves(RECORDS[:2], "top1", "classify").get_axes()] == [
        "Loss",
        "Learning rate",
    ]


LONG = tuple(f"a name of a class that goes on and on until it has sixty letters {end}" for end in "AB")
FOREIGN = ("G\u00e4nsebl\u00fcmchen", "\u96cf\u83ca", "\u73ab\u7470", "$x_1$ and $", "<script>", "")


@pytest.mark.parametrize("count", [2, 5, 10, 100])
@pytest.mark.parametrize("name", ["{}", "a long name of a class that many have, number {}"])
def test_a_confusion_matrix_of_any_size_holds_all_its_words(count, name):
    counts = np.eye(count, dtype=int) * 9 + np.eye(count, k=1, dtype=int)
    figure = confusion(counts.tolist(), [name.format(number) for number in range(count)])
    assert not cut_off(figure)
    matrix, bars = figure.get_axes()
    assert bars.get_position().x0 > matrix.get_position().x1
    step = -(-count // 40)
    assert len(matrix.get_yticklabels()) == -(-count // step)
    assert ("one name in" in matrix.get_title(loc="left")) == (count > 40)


def test_the_pairs_that_have_no_bar_are_counted():
    counts = np.eye(30, dtype=int) * 9 + np.eye(30, k=1, dtype=int) * 2
    names = [str(number) for number in range(30)]
    assert "and 30 more in 15 other pairs" in texts(confusion(counts.tolist(), names))
    assert "Never: none was taken for another class." in texts(confusion([[3, 0], [0, 4]], ["a", "b"]))


def test_names_stay_apart_that_are_long_or_that_the_font_lacks():
    assert len(set(printed(LONG))) == 2
    assert printed(("abcdefghij" * 4 + "1" + "k" * 9, "abcdefghij" * 4 + "2" + "k" * 9))[1].startswith("1: ")
    assert printed(FOREIGN)[:3] == [FOREIGN[0], "1: \u25a1\u25a1", "2: \u25a1\u25a1"]


def test_figures_of_strange_names_are_whole_and_warn_of_nothing(recwarn):
    names = FOREIGN + LONG
    counts = np.eye(len(names), dtype=int) * 5 + np.eye(len(names), k=2, dtype=int)
    assert not cut_off(confusion(counts.tolist(), names))
    tiles = [Tile(Image.new("RGB", (90, 15)), (f"answer: {name} 41.0%", name, name), False) for name in names]
    for wide in (False, True):
        assert not cut_off(sheet(tiles, "Pictures", "How to read them. " * 20, wide=wide))
    assert not recwarn.list


def test_words_stand_right_below_their_picture_and_rows_are_as_high_as_they_need():
    wide, tall = Image.new("RGB", (900, 150)), Image.new("RGB", (150, 900))
    low, high = (sheet([Tile(image, ("said", "truth"), True)] * 4, "Pictures") for image in (wide, tall))
    assert low.get_figheight() < high.get_figheight() - 1.5
    mixed = sheet([Tile(wide, ("said",), True), Tile(tall, ("said",), True)], "Pictures")
    for axes, text in zip(mixed.get_axes(), [text for text in mixed.texts if text.get_text() == "said"], strict=True):
        gap = (axes.get_position().y0 - text.get_position()[1]) * mixed.get_figheight()
        assert 0.1 < gap < 0.25
        width, height = axes.get_position().size * mixed.get_size_inches()
        assert max(width / height, height / width) == pytest.approx(6)


def test_figures_of_nothing_are_drawn_without_complaint(recwarn):
    empty = {"edges": [0.5, 1.0], "count": [0, 0], "confidence": [0.0, 0.0], "accuracy": [0.0, 0.0]}
    for figure in (
        confusion([[0, 0], [0, 0]], ["a", "b"]),
        reliability(empty),
        curves([], "top1", "classify"),
        curves([{"step": 1, "epoch": 0.1, "loss": float("nan"), "rate": 0.1}], "top1", "classify"),
        sheet([], "Nothing"),
    ):
        assert drawn(figure).size
    assert not recwarn.list


def test_a_sheet_says_what_a_box_in_its_words_is():
    said = "\u25a1 is a letter that this figure's font lacks."
    image = Image.new("RGB", (40, 30))
    foreign = [Tile(image, ("answer: \u83ca 90.0%", "truth: rose"), False)]
    assert said in texts(sheet(foreign, "Pictures", "How to read them."))
    assert said not in texts(sheet([Tile(image, ("answer: rose", "truth: rose"), True)], "Pictures"))


def test_a_sheet_holds_pictures_of_all_shapes():
    tiles = [
        Tile(Image.new("RGB", size, "navy"), ("said $a$", "truth"), right)
        for size, right in [((300, 10), True), ((10, 300), False), ((30, 30), None), ((1, 1), True), ((5, 5), True)]
    ]
    assert drawn(sheet(tiles, "Pictures")).shape[0] > drawn(sheet(tiles[:4], "Pictures")).shape[0]


def test_words_of_a_table_stand_left_and_share_its_width_and_numbers_end_right():
    both = page.table([{"class": "cat", "recall": 0.5, "support": 3}])
    assert '<th class="words">class</th><th>recall</th>' in both
    assert '<td class="words">cat</td>' in both
    assert "<td>3</td>" in both
    assert "<table>" in both
    assert '<table class="words">' in page.table([{"source": "ein Hund", "written": "a dog"}])


def test_scores_stand_in_percent_in_tables_and_thresholds_as_one_types_them():
    table = page.table([{"label": "cat", "ap50": 0.905, "ar": 0.5, "threshold": 0.87, "objects": 3}])
    assert ">90.5<" in table
    assert ">50.0<" in table
    assert ">0.870<" in table
    assert ">3<" in table
