"""Pictures in, answers out, as somebody in a notebook does it."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import vitrail
from vitrail import predict
from vitrail.cli.main import main
from vitrail.data.images import ImageFile
from vitrail.errors import ConfigError, DataError, ImageError
from vitrail.evaluate.judge import judge, open_numbered
from vitrail.loading import create_model, save_pretrained
from vitrail.predict import Predictor, pictures, predictor
from vitrail.preprocessing import Fitted

CLASSES = ("cat", "dog", "bird", "fish")


def quiet(sentence: str) -> None:
    """An announcement nobody reads."""


def small(seed: int = 0, **changes) -> nn.Module:
    """A tiny model with a card, far enough from its start that pictures get different answers."""
    shape = {"image": 32, "patch": 8, "dim": 24, "depth": 2, "heads": 4, "mlp_dim": 48, "classes": len(CLASSES)}
    torch.manual_seed(seed)
    model = create_model("vit-tiny-16", **shape | changes)
    for parameter in model.parameters():
        parameter.data += 0.2 * torch.randn_like(parameter)
    labels = CLASSES if model.config.classes == len(CLASSES) else ()
    model.card = replace(model.card, labels=labels)
    return model


def noise(number: int, rows: int = 40, columns: int = 50) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (rows, columns, 3), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path) -> Path:
    """Eleven pictures in two levels, and a file that is none."""
    for number in range(11):
        place = tmp_path / "pictures" / ("more" if number > 6 else "")
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise(number)).save(place / f"{number:02}.png")
    (tmp_path / "pictures" / "notes.txt").write_text("not a picture")
    return tmp_path / "pictures"


def scores(results) -> torch.Tensor:
    return torch.stack([result.scores for result in results])


def test_from_a_saved_model_and_a_file_to_a_label(folder, tmp_path):
    save_pretrained(small(), tmp_path / "model", announce=quiet)
    predict = vitrail.predictor(tmp_path / "model", announce=quiet)
    [result] = predict(folder / "00.png")
    assert result.record()["label"] in CLASSES
    assert result.top(1)[0].label == result.record()["label"]
    assert result.summary().startswith(result.record()["label"])
    assert result.scores.sum() == pytest.approx(1)


def test_every_way_to_name_a_picture_gives_the_same_answer(folder):
    predict = predictor(small())
    files = sorted(folder.rglob("*.png"))
    arrays = [noise(number) for number in range(11)]
    expected = scores(predict(files))
    ways = {
        "paths as text": [str(file) for file in files],
        "a folder": folder,
        "a pattern": str(folder / "**" / "*.png"),
        "patterns and folders": [folder / "0[0-6].png", folder / "more"],
        "Pillow images": [Image.fromarray(array) for array in arrays],
        "arrays": arrays,
        "an array of arrays": np.stack(arrays),
        "tensors": [torch.from_numpy(array).permute(2, 0, 1) for array in arrays],
        "a tensor of tensors": torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2),
        "pictures": [ImageFile(file) for file in files],
        "a generator": (file for file in files),
        "lists in lists": [files[:3], [files[3:7], [folder / "more"]]],
    }
    for way, images in ways.items():
        torch.testing.assert_close(scores(predict(images)), expected, rtol=0, atol=1e-6, msg=way)


def test_results_come_in_the_order_of_the_pictures(folder):
    predict = predictor(small())
    files = sorted(folder.rglob("*.png"))
    forward, backward = scores(predict(files, batch=4)), scores(predict(files[::-1], batch=4))
    torch.testing.assert_close(forward, backward.flip(0), rtol=0, atol=1e-6)
    assert (forward[:-1] - forward[1:]).abs().amax(dim=1).min() > 1e-4  # all different, so order can be told
    assert [picture.name for picture in pictures(folder)] == list(map(str, files))


def test_the_answer_for_a_picture_does_not_depend_on_its_neighbours():
    predict = predictor(small())
    picture, black, white = noise(0), np.zeros((9, 90, 3), np.uint8), np.full((90, 9, 3), 255, np.uint8)
    alone = scores(predict(picture))[0]
    for others in ([black] * 31, [white] * 7, [noise(number, 20, 33) for number in range(1, 20)]):
        torch.testing.assert_close(scores(predict([*others, picture]))[-1], alone, rtol=0, atol=1e-6)
        torch.testing.assert_close(scores(predict([picture, *others]))[0], alone, rtol=0, atol=1e-6)
    for batch in (1, 2, 5, 32):
        many = predict([noise(number) for number in range(8)], batch=batch)
        torch.testing.assert_close(scores(many)[0], alone, rtol=0, atol=1e-6)


def test_a_bad_file_is_an_error_that_names_it_or_a_row_beside_the_others(folder):
    (folder / "05.png").write_bytes((folder / "05.png").read_bytes()[:200])
    (folder / "06.png").write_text("hello")
    predict = predictor(small())
    with pytest.raises(ImageError, match=r"05\.png"):
        predict(folder)

    results = predict(folder, batch=3, on_error="keep")
    assert len(results) == 11
    bad = {number: result for number, result in enumerate(results) if isinstance(result, ImageError)}
    assert list(bad) == [5, 6]
    assert bad[5].path.endswith("05.png")
    assert bad[6].code
    good = [number for number in range(11) if number not in bad]
    expected = scores(predict([noise(number) for number in good]))
    torch.testing.assert_close(scores([results[number] for number in good]), expected, rtol=0, atol=1e-6)


def test_nothing_but_bad_files_gives_nothing_but_rows(tmp_path):
    for number in range(3):
        (tmp_path / f"{number}.jpg").write_text("hello")
    assert all(isinstance(result, ImageError) for result in predictor(small())(tmp_path, on_error="keep"))


def test_a_missing_file_and_an_empty_folder_are_sentences(tmp_path):
    predict = predictor(small())
    with pytest.raises(ImageError, match=r"nowhere\.jpg"):
        predict(tmp_path / "nowhere.jpg")
    with pytest.raises(DataError, match="There are no pictures in"):
        predict(tmp_path)
    with pytest.raises(DataError, match=r"No picture matches .*\*\.png"):
        predict(str(tmp_path / "*.png"))
    with pytest.raises(ConfigError, match="float32"):
        predict(torch.rand(3, 32, 32))
    with pytest.raises(ConfigError, match="int is no picture"):
        predict([3])
    with pytest.raises(ConfigError, match="batch=0"):
        predict([noise(0)], batch=0)
    assert predict([]) == []


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(tmp_path):
    Image.fromarray(noise(0)).save(tmp_path / "rose[1].png")
    assert len(predictor(small())(tmp_path / "rose[1].png")) == 1


def test_features_are_what_the_head_reads_and_can_be_learned_from():
    model = small()
    predict = predictor(model)
    arrays = [noise(number) for number in range(5)]
    features = torch.stack(predict.features(arrays, batch=2))
    assert features.shape == (5, 24)
    logits = model.head(features)
    torch.testing.assert_close(logits.softmax(dim=1), scores(predict(arrays)), rtol=0, atol=1e-6)
    model.head(predict.features(arrays[0])[0]).sum().backward()  # not possible with a tensor of inference mode
    assert model.head.weight.grad is not None


def test_a_model_without_classes_gives_features_and_says_why_it_gives_no_labels():
    predict = predictor(small(classes=0))
    assert predict.features(noise(0))[0].shape == (24,)
    with pytest.raises(ConfigError, match="Ask it for features instead"):
        predict(noise(0))


def test_classes_whose_names_are_not_known_are_numbered():
    [result] = predictor(small(classes=7))(noise(0))
    assert result.classes == ("0", "1", "2", "3", "4", "5", "6")


def test_a_model_in_training_mode_answers_without_chance_and_without_gradients():
    predict = predictor(small(dropout=0.5, drop_path=0.5).train())
    first, second = predict(noise(0)), predict(noise(0))
    assert torch.equal(first[0].scores, second[0].scores)
    assert not first[0].scores.requires_grad


@pytest.mark.parametrize("channels", [1, 4, 6])
def test_pictures_with_any_number_of_channels(channels):
    predict = predictor(small(channels=channels))
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (3, channels, 40, 50), dtype=torch.uint8, generator=generator)
    together = scores(predict(pixels))
    torch.testing.assert_close(together, scores(predict([pixels[0], pixels[1], pixels[2]])), rtol=0, atol=1e-6)
    assert (together[0] - together[1]).abs().max() > 1e-4
    assert predict.explain(pixels[0]).map.shape == (4, 4)


def test_a_picture_alone_is_prepared_by_whoever_asks(monkeypatch):
    ask, threads = predictor(small()), list[threading.Thread]()
    prepare = ask.prepare
    monkeypatch.setattr(ask, "prepare", lambda *asked: threads.append(threading.current_thread()) or prepare(*asked))
    ask(noise(0))
    assert threads == [threading.current_thread()]
    ask([noise(0), noise(1)])
    assert len(threads) == 3
    assert threading.current_thread() not in threads[1:]


def test_the_default_device_of_torch_is_not_asked_where_pixels_go():
    ask = predictor(small())
    told = scores(ask(noise(0)))
    with torch.device("meta"):
        asked = scores(ask(noise(0)))
    assert torch.equal(asked, told)


@pytest.mark.parametrize("fast", [True, False])
def test_freed_memory_is_kept_where_pictures_have_one_size(monkeypatch, fast):
    asked, model = list[str](), small()
    monkeypatch.setattr(predict, "keep_freed_memory", lambda: asked.append("kept"))
    Predictor(model, fast=fast)
    assert asked == ["kept"] * fast
    model.card = replace(model.card, preprocessing=Fitted(shorter=32, longer=64))
    Predictor(model, fast=fast)
    assert asked == ["kept"] * fast


def test_several_threads_get_the_answers_that_one_gets():
    predict = predictor(small())
    arrays = [noise(number) for number in range(12)]
    expected = scores(predict(arrays))

    def ask(number: int) -> None:
        for _ in range(5):
            chosen = [number, (number + 5) % 12]
            got = scores(predict([arrays[place] for place in chosen]))
            torch.testing.assert_close(got, expected[chosen], rtol=0, atol=1e-6)
            assert predict.explain(arrays[number], at=(20, 20 + number)).asked.words.endswith(f"y = {20 + number}")

    with ThreadPoolExecutor(6) as threads:
        list(threads.map(ask, range(6)))


def test_an_answer_can_be_asked_what_it_looked_at(folder, tmp_path):
    predict = predictor(small())
    explanation = predict.explain(folder / "00.png", at=(25, 20), layer=0, head="all")
    assert explanation.maps.shape == (4, 4, 4)
    path = explanation.save(tmp_path / "seen" / "rose.png")
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert image.width > 800


def test_the_fast_way_gives_the_numbers_of_the_plain_one():
    model = small()
    fast, slow = predictor(model), predictor(model, fast=False)
    arrays = [noise(number) for number in range(5)]
    torch.testing.assert_close(scores(fast(arrays)), scores(slow(arrays)), rtol=0, atol=2e-6)
    with torch.no_grad():
        plain = model(torch.stack([model.card.preprocessing(array).pixels for array in arrays])).softmax(dim=1)
    assert torch.equal(scores(slow(arrays)), plain)
    assert type(model.head) is nn.Linear  # the model itself stays as it was


@pytest.mark.parametrize("fast", [True, False])
def test_a_model_in_double_precision_is_shown_pictures_in_double_precision(fast):
    model = small().double()
    predict, arrays = predictor(model, fast=fast), [noise(number) for number in range(3)]
    with torch.no_grad():
        pixels = torch.stack([model.card.preprocessing(array).pixels for array in arrays]).double()
        expected = model(pixels).softmax(dim=1)
    torch.testing.assert_close(scores(predict(arrays)).double(), expected, rtol=0, atol=1e-7)
    assert predict.features(arrays)[0].dtype == torch.float64
    assert predict.explain(arrays[0], at=(25, 20)).map.shape == (4, 4)


def test_only_one_picture_is_explained_at_a_time(folder):
    ask = predictor(small())
    with pytest.raises(ConfigError, match=r"pictures has 11 pictures, and .* Name one, such as .*00\.png\."):
        ask.explain(folder)
    with pytest.raises(ConfigError, match=r"0\*\.png matches 7 pictures, and one is explained at a time\. Name one"):
        ask.explain(str(folder / "0*.png"))
    with pytest.raises(ConfigError, match="and 2 were given"):
        ask.explain([folder / "00.png", folder / "01.png"])
    with pytest.raises(ConfigError, match="and 0 were given"):
        ask.explain([])


def test_a_name_that_means_no_picture_is_a_row_and_the_others_are_answered(folder, tmp_path, monkeypatch, capsys):
    save_pretrained(small(), tmp_path / "model", announce=quiet)
    (tmp_path / "bare").mkdir()
    monkeypatch.chdir(tmp_path)
    typed = ["predict", "model", "zz*.png", "pictures/00.png", "bare", "nowhere.jpg", "pictures/more"]
    assert main([*typed, "--json"]) == 1
    said = capsys.readouterr()
    rows = [json.loads(line) for line in said.out.splitlines()]
    assert [row["file"] for row in rows][:4] == ["zz*.png", "pictures/00.png", "bare", "nowhere.jpg"]
    assert [row.get("error") for row in rows] == ["no-picture", None, "no-picture", "missing", None, None, None, None]
    assert rows[0]["reason"] == "No picture matches zz*.png."
    assert said.err.splitlines()[-1] == "vitrail: 3 rows have no answer, and say why."
    assert main(["predict", "model", "nowhere.jpg"]) == 1
    said = capsys.readouterr()
    assert said.out.rstrip().endswith("not read: There is no such file or folder.")
    assert said.err.splitlines()[-1] == "vitrail: 1 row has no answer, and says why."


def test_texts_are_told_from_pictures(folder, tmp_path, monkeypatch, capsys):
    save_pretrained(small(), tmp_path / "model", announce=quiet)
    monkeypatch.chdir(tmp_path)
    for text in ("what is to be seen here", "It rained. I liked it a lot."):
        assert main(["explain", "model", text]) == 1
        assert (
            "There is no such file or folder. Name a picture, if this was meant as a text." in capsys.readouterr().err
        )
    Path("texts.csv").write_text("text,label\nquite good,yes\nnot good,no\n")
    for verb in (["evaluate", "model"], ["explain", "model", "--heads"]):
        assert main([*verb, "--data", "texts.csv"]) == 1
        assert "texts.csv holds texts, and this vit-tiny-16 reads pictures. Name pictures." in capsys.readouterr().err


@pytest.mark.parametrize("classes", [("Platelets",), ("emu",)])
def test_data_for_another_task_is_refused_by_what_it_is_for(classes, tmp_path):
    Image.fromarray(noise(0)).save(tmp_path / "1.png")
    marked = [{"image_id": 1, "category_id": 1, "bbox": [1, 1, 9, 9], "area": 81, "iscrowd": 0, "id": 1}]
    pictures = [{"id": 1, "file_name": "1.png", "width": 50, "height": 40}]
    names = [{"id": 1, "name": "Platelets"}]
    coco = tmp_path / "marks.json"
    coco.write_text(json.dumps({"images": pictures, "annotations": marked, "categories": names}))
    with pytest.raises(DataError, match="data to detect objects in pictures, and this model needs data to classify"):
        open_numbered(str(coco), None, classes, ("classify",))
    if classes == ("Platelets",):
        assert len(open_numbered(str(coco), None, classes, ("detect", "panoptic"))) == 1


def test_evaluate_says_what_data_is_for(tmp_path, monkeypatch, capsys):
    save_pretrained(small(), tmp_path / "model", announce=quiet)
    monkeypatch.chdir(tmp_path)
    assert main(["evaluate", "model", "--data", "scenes:8,size=16x16,objects=2"]) == 1
    assert "is data to detect objects in pictures, and this model needs data to classify" in capsys.readouterr().err


def test_a_report_is_never_written_among_other_files(folder, tmp_path, monkeypatch, capsys):
    save_pretrained(small(), tmp_path / "model", announce=quiet)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "scores.json").write_text("mine")
    for verb in (["evaluate", "model", "--data", "scenes:8,size=16x16"], ["benchmark", "imagenet"]):
        assert main([*verb, "--out", "mine"]) == 2
        assert "mine holds something else already (scores.json), and a report needs" in capsys.readouterr().err
        assert main([*verb, "--out", "mine/scores.json"]) == 2
        assert "mine/scores.json is a file, and a report needs a folder." in capsys.readouterr().err
    assert (tmp_path / "mine" / "scores.json").read_text() == "mine"
    for _ in range(2):  # over an earlier one
        assert main(["benchmark", "imagenet", "--out", "new"]) == 0


def test_the_arrays_of_an_explanation_are_not_taken_for_weights(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("attention.npz").write_bytes(b"")
    Path("attention.png").write_bytes(b"")
    assert main(["info", "."]) == 1
    assert "weights" not in capsys.readouterr().err.split("A model is expected")[0]


def test_several_labels_can_hold_where_the_card_says_so():
    model = small()
    model.card = replace(model.card, multi_label=True)
    [result] = predictor(model)(noise(0))
    logits = model(model.card.preprocessing(noise(0)).pixels[None])
    torch.testing.assert_close(result.scores, logits.sigmoid()[0].detach(), rtol=0, atol=1e-6)
    assert "labels" in result.record()


@pytest.mark.parametrize(("device", "words"), [("cuda:3", "no device cuda:3"), ("gpu", "no device called 'gpu'")])
def test_a_device_that_there_is_not_is_a_sentence(device, words, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match=words):
        predictor(small(), device=device)


def test_a_model_of_somebody_else_without_a_card_is_told_what_it_lacks():
    with pytest.raises(ConfigError, match="This Linear has no card"):
        predictor(nn.Linear(3, 3))


def test_a_card_with_a_task_that_there_is_not_names_those_that_there_are():
    model = small()
    model.card = replace(model.card, task="clasify")
    with pytest.raises(ConfigError, match=r"There is no task called 'clasify'\. Did you mean classify"):
        predictor(model)(noise(0))


def test_folders_called_as_imagenet_calls_them_are_numbered_in_their_order(tmp_path):
    model = small()
    save_pretrained(model, tmp_path / "model", announce=quiet)
    for number in range(len(CLASSES)):
        home = tmp_path / "val" / f"n{number:08}"
        home.mkdir(parents=True)
        for again in range(2):
            Image.fromarray(noise(10 * number + again)).save(home / f"{again}.png")
    assert open_numbered(str(tmp_path / "val"), None, CLASSES).labels() == [0, 0, 1, 1, 2, 2, 3, 3]
    judged = judge(tmp_path / "model", tmp_path / "val", workers=0, announce=quiet)
    assert judged.report.seen == 2 * len(CLASSES)
    (tmp_path / "val" / "n00000000").rename(tmp_path / "val" / "rose")
    with pytest.raises(DataError, match="that are not among the"):
        judge(tmp_path / "model", tmp_path / "val", workers=0, announce=quiet)
