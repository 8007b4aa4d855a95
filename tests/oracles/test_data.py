"""Data sets whose content is known, opened, split, augmented and mixed."""

import gzip
import itertools
import json
import re
import struct
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vitrail.data import randaugment
from vitrail.data.aside import choose_validation
from vitrail.data.balance import balanced_order, class_counts, class_weights
from vitrail.data.chance import Draw, chance
from vitrail.data.classes import class_order
from vitrail.data.dataset import PictureFiles, Subset
from vitrail.data.images import PictureArray, picture_of
from vitrail.data.loader import Loader
from vitrail.data.mixing import Mixing
from vitrail.data.open import open_dataset, open_splits, parts
from vitrail.data.randaugment import TIMM, TIMM_INCREASING, TORCHVISION, Look, RandAugment, posterize, shear_x
from vitrail.data.transforms import Augment, draw_crop, draw_view, erase, eval_transform, train_transform
from vitrail.errors import ConfigError, DataError, ImageError
from vitrail.preprocessing import Preprocessing
from vitrail.samples import Batch, Sample


def paint(path, colour, size=(24, 20)):
    """A file with one colour, and one pixel that depends on its name, so that no two are alike."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new("RGB", size, colour)
    image.putpixel((0, 0), tuple(zlib.crc32("/".join(path.parts[-2:]).encode()).to_bytes(4, "big")[:3]))
    image.save(path)
    return path


@pytest.fixture
def flowers(tmp_path):
    """Ten roses and five tulips, in no parts."""
    for number in range(10):
        paint(tmp_path / "rose" / f"{number}.png", "red")
    for number in range(5):
        paint(tmp_path / "tulip" / f"{number}.png", "yellow")
    return tmp_path


def write_idx(path, values):
    header = b"\0\0\x08" + bytes([values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape)
    data = header + values.astype(np.uint8).tobytes()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


# folders


def test_classes_are_folders_sorted_by_name_and_files_sorted_inside(tmp_path):
    for name in ("b 10/2.jpg", "b 10/1.jpg", "b 10/deep/3.jpg", "B/1.jpg", "a/x.PNG", "a/notes.txt", "a/.hidden.png"):
        if name.endswith("txt"):
            (tmp_path / name).write_text("no picture")
        else:
            paint(tmp_path / name, "red")
    dataset = open_dataset(tmp_path)
    assert dataset.classes == ("B", "a", "b 10")
    assert [Path(path).relative_to(tmp_path).as_posix() for path in dataset.paths] == [
        "B/1.jpg", "a/x.PNG", "b 10/1.jpg", "b 10/2.jpg", "b 10/deep/3.jpg",
    ]  # fmt: skip
    assert dataset.labels() == [0, 1, 2, 2, 2]
    assert dataset[1].picture.read().size == (24, 20)


@pytest.mark.parametrize("name", ["val", "valid", "validation", "VAL"])
def test_a_validation_part_is_found_under_its_usual_names(tmp_path, name):
    for part, classes in {"train": ("cat", "dog"), name: ("dog",)}.items():
        for label in classes:
            paint(tmp_path / part / label / "1.png", "red")
    splits = open_splits(tmp_path)
    assert splits.train.classes == splits.val.classes == ("cat", "dog")
    assert splits.val.labels() == [1], "numbered as in train, though cat is missing"
    assert not splits.notes
    assert parts(tmp_path) == ("train", "val")


def test_a_folder_called_train_beside_other_classes_is_a_class(tmp_path):
    for label in ("bus", "train"):
        paint(tmp_path / label / "1.png", "red")
    assert open_dataset(tmp_path).classes == ("bus", "train")


def test_a_test_part_is_never_made_into_a_validation_part(tmp_path):
    for part in ("train", "test"):
        for number in range(8):
            for label in ("cat", "dog"):
                paint(tmp_path / part / label / f"{number}.png", "red")
    splits = open_splits(tmp_path)
    assert len(splits.train) + len(splits.val) == 16
    assert "no validation part" in splits.notes[0]
    assert len(open_dataset(tmp_path, "test")) == 16
    assert open_dataset(tmp_path, "val").labels() == splits.val.labels()
    with pytest.raises(DataError, match="in parts: train, test"):
        open_dataset(tmp_path)


def test_a_class_of_val_that_train_lacks_is_named(tmp_path):
    for name in ("train/cat", "train/dog", "val/cat", "val/emu"):
        paint(tmp_path / name / "1.png", "red")
    with pytest.raises(DataError, match=r"not among the 2 expected: emu\. Expected: cat, dog"):
        open_splits(tmp_path)


@pytest.mark.slow
def test_ten_thousand_classes_open(tmp_path):
    for number in range(10_000):
        (tmp_path / f"{number:05d}").mkdir()
        (tmp_path / f"{number:05d}" / "1.jpg").touch()
    dataset = open_dataset(tmp_path)
    assert len(dataset.classes) == len(dataset) == 10_000


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        ("flowrs", "{root} holds no flowrs. Did you mean flowers? "),
        ("Flowers/train", "{root} holds no Flowers. Did you mean flowers? "),
        ("flowers/tulip", "{root}/flowers holds no tulip. `"),
        ("flowers/../nothing", "{root} holds no nothing. `"),
        ("flowers/a.txt/train", "{root}/flowers/a.txt is a file and not a folder. `"),
    ],
)
def test_where_a_path_goes_wrong_is_said(tmp_path, typed, told):
    (tmp_path / "flowers").mkdir()
    (tmp_path / "flowers/a.txt").touch()
    with pytest.raises(DataError, match=re.escape(f": {told.format(root=tmp_path)}")):
        open_dataset(tmp_path / typed)


def test_of_two_tables_for_one_part_the_one_that_is_called_so_is_read(tmp_path):
    for name in ("train", "val", "valid"):
        (tmp_path / f"{name}.csv").write_text(f"path,label\n{name}.png,cat\n")
    read = open_dataset(tmp_path, "val")
    assert [Path(read[number].picture.name).name for number in range(len(read))] == ["val.png"]


def test_folders_that_are_no_data_set_are_sentences(tmp_path):
    with pytest.raises(DataError, match="There is no data set at"):
        open_dataset(tmp_path / "missing")
    with pytest.raises(DataError, match="no pictures and no folder with pictures"):
        open_dataset(tmp_path)
    paint(tmp_path / "loose.png", "red")
    (tmp_path / "cat").mkdir()
    with pytest.raises(DataError, match=r"1 picture and no folder with pictures, and nothing that says .* YOLO \(.txt"):
        open_dataset(tmp_path)
    paint(tmp_path / "dog" / "1.png", "red")
    with pytest.raises(DataError, match="no picture in 1 of its 2 classes: cat"):
        open_dataset(tmp_path)
    (tmp_path / "notes.odt").write_text("")
    with pytest.raises(DataError, match="is not a data set"):
        open_dataset(tmp_path / "notes.odt")


def test_a_class_whose_name_is_not_utf8_is_a_printable_sentence(tmp_path):
    paint(tmp_path / "dog" / "1.png", "red")
    (tmp_path / "dog").rename(tmp_path / "caf\udce9")
    with pytest.raises(DataError, match=r"caf\\xe9 has a name that is not UTF-8") as caught:
        open_dataset(tmp_path)
    str(caught.value).encode()


# splitting


def test_a_split_depends_on_content_and_not_on_names(flowers):
    first = open_splits(flowers, seed=3)
    chosen = {first.val[index].picture.path.read_bytes() for index in range(len(first.val))}
    for number, path in enumerate(sorted((flowers / "rose").iterdir())):
        path.rename(path.with_name(f"renamed-{9 - number}.png"))
    again = open_splits(flowers, seed=3)
    assert {again.val[index].picture.path.read_bytes() for index in range(len(again.val))} == chosen
    assert set(first.val.labels()) == set(first.train.labels()) == {0, 1}
    other = open_splits(flowers, seed=4)
    assert {other.val[index].picture.path.read_bytes() for index in range(len(other.val))} != chosen


def test_a_split_keeps_copies_on_one_side_and_every_class_on_both():
    rng = np.random.default_rng(0)
    contents = [rng.bytes(16) for _ in range(400)]
    contents += contents[:50]  # copies, under other labels
    labels = [number % 40 for number in range(400)] + [(number + 7) % 40 for number in range(50)]
    chosen = choose_validation(contents, labels, seed=0, share=0.1)
    validation = {contents[index] for index in chosen}
    assert all((content in validation) == (index in chosen) for index, content in enumerate(contents))
    assert {labels[index] for index in chosen} == set(range(40))
    assert {labels[index] for index in range(450) if index not in chosen} == set(range(40))
    assert 30 < len(chosen) < 90


def test_a_picture_stays_on_its_side_when_others_come():
    rng = np.random.default_rng(1)
    contents = [rng.bytes(16) for _ in range(1000)]
    few = choose_validation(contents[:500], [0] * 500, seed=0, share=0.2)
    many = choose_validation(contents, [0] * 1000, seed=0, share=0.2)
    assert few == {index for index in many if index < 500}
    assert 150 < len(many) < 250


def test_a_class_with_one_picture_stays_in_train():
    assert choose_validation([b"a", b"b", b"c"], [0, 0, 1], seed=0, share=0.99).isdisjoint({2})


# manifests


def test_a_csv_with_one_label_reads_relative_paths(tmp_path):
    paint(tmp_path / "pictures" / "1.png", "red")
    table = tmp_path / "labels.csv"
    table.write_text('file_name;Label;who\npictures/1.png;"a;b";me\nother/2.png;10;you\n\n')
    dataset = open_dataset(table)
    assert dataset.classes == ("10", "a;b")
    assert not dataset.multi_label
    assert dataset.labels() == [1, 0]
    assert dataset[0].picture.read().size == (24, 20)
    assert dataset.paths[1] == str(tmp_path / "other" / "2.png"), "not looked at before it is read"


def test_a_table_that_names_a_missing_file_cannot_be_split(tmp_path):
    paint(tmp_path / "1.png", "red")
    (tmp_path / "labels.csv").write_text("path,label\n1.png,a\ngone.png,b\n")
    with pytest.raises(ImageError, match=r"gone\.png: There is no such file"):
        open_splits(tmp_path / "labels.csv")


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("boxes.csv", "filename,class,xmin,ymin,xmax,ymax\n1.png,cat,1,2,3,4\n", "xmin, ymin, xmax and ymax are of"),
        ("train.txt", "images/1.png\nimages/2.png\n", "lists pictures, as a part of YOLO's data does. Name the folder"),
    ],
)
def test_files_about_objects_that_are_not_read_are_told_from_others(tmp_path, name, text, said):
    paint(tmp_path / "1.png", "red")
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=said):
        open_splits(tmp_path / name)


def test_what_only_looks_like_files_about_objects_is_read(tmp_path):
    for number in range(4):
        paint(tmp_path / f"{number}.png", "red" if number % 2 else "blue")
    rows = "".join(f"{number}.png,{'ab'[number % 2]},7\n" for number in range(4))
    (tmp_path / "labels.csv").write_text(f"path,label,bbox\n{rows}")
    assert open_dataset(tmp_path / "labels.csv", "train").classes == ("a", "b")
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "diary.txt").write_text("Look at holiday.jpg\n\nIt is of the sea.\n")
    assert len(open_dataset(tmp_path / "text" / "diary.txt")) == 1


def test_a_csv_with_several_labels_may_have_none(tmp_path):
    table = tmp_path / "labels.csv"
    table.write_text("path,labels\n1.png,dog|cat\n2.png,\n3.png, cat ; cat\n", encoding="utf-8-sig")
    dataset = open_dataset(table)
    assert dataset.multi_label
    assert dataset.classes == ("cat", "dog")
    assert dataset.labels() == [(0, 1), (), (0,)]


def test_json_lines_with_lists_are_several_labels_and_splits_are_read(tmp_path):
    rows = [
        {"image": "1.png", "label": ["2", "10"], "split": "training"},
        {"image": "2.png", "label": 2, "split": "valid"},
        {"image": "3.png", "label": [], "split": "train"},
    ]
    (tmp_path / "labels.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    splits = open_splits(tmp_path / "labels.jsonl")
    assert splits.train.classes == ("2", "10"), "numbers in the order of numbers"
    assert splits.train.labels() == [(0, 1), ()]
    assert splits.val.multi_label
    assert splits.val.labels() == [(0,)]


def test_a_folder_of_tables_has_parts(tmp_path):
    (tmp_path / "train.csv").write_text("path,label\n1.png,a\n2.png,b\n")
    (tmp_path / "val.tsv").write_text("path\tlabel\n3.png\tb\n")
    splits = open_splits(tmp_path)
    assert (splits.train.labels(), splits.val.labels()) == ([0, 1], [1])


def test_class_order_is_by_number_only_if_all_are_numbers():
    assert class_order(["10", "9", "-1"]) == ("-1", "9", "10")
    assert class_order(["10", "9", "a"]) == ("10", "9", "a")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "file is empty"),
        ("file,kind\n1.png,a\n", "no column called label or labels, only file, kind"),
        ("path,cat,dog\n1.png,1,0\n", r"labels where a picture can have several \(1.jpg,cat;dog\); columns of 0 and 1"),
        ("1.png,cat\n2.png,dog\n", "no column called path, only 1.png, cat"),
        ("path,label\n1.png,\n", r"labels.csv:2: the label is empty"),
        ("path,label\n1.png,a\n2.png,a,b\n3.png,\n", r"labels.csv:3: 3 columns .* 1 more lines"),
        ("path,label,split\n1.png,a,dev\n", "'dev' is not a part"),
        ("path,label\n", "names no pictures"),
    ],
)
def test_a_bad_table_is_a_sentence(tmp_path, text, sentence):
    (tmp_path / "labels.csv").write_text(text)
    with pytest.raises(DataError, match=sentence):
        open_dataset(tmp_path / "labels.csv")


# idx


def test_idx_files_are_read_with_and_without_gzip(tmp_path):
    pictures = np.arange(4 * 5 * 6).reshape(4, 5, 6)
    write_idx(tmp_path / "train-images-idx3-ubyte", pictures)
    write_idx(tmp_path / "train-labels-idx1-ubyte.gz", np.array([3, 0, 1, 3]))
    write_idx(tmp_path / "t10k-images-idx3-ubyte.gz", pictures[:1])
    write_idx(tmp_path / "t10k-labels-idx1-ubyte", np.array([2]))
    train, test = open_dataset(tmp_path, "train"), open_dataset(tmp_path, "test", classes=tuple("abcd"))
    assert (len(train), len(test)) == (3, 1), "one picture of train is set aside for validation"
    assert train.classes == ("0", "1", "2", "3")
    assert train.channels == 1
    assert test.labels() == [2]
    assert np.array_equal(np.asarray(test[0].picture.read()), pictures[0])
    assert test[0].picture.name.endswith("t10k-images-idx3-ubyte.gz[0]")


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5, 7])
def test_idx_pictures_may_have_any_number_of_channels(tmp_path, channels):
    pictures = np.random.default_rng(0).integers(0, 256, (6, 5, 7, channels)).astype(np.uint8)
    write_idx(tmp_path / "train-images-idx4-ubyte", pictures)
    write_idx(tmp_path / "train-labels-idx1-ubyte", np.arange(6) % 2)
    write_idx(tmp_path / "val-images-idx4-ubyte", pictures[:2])
    write_idx(tmp_path / "val-labels-idx1-ubyte", np.arange(2))
    train = open_splits(tmp_path).train
    assert train.channels == channels
    picture, plain = (
        train[3].picture,
        Preprocessing(size=(5, 7), resize=None, mean=(0.0,) * channels, std=(1.0,) * channels),
    )
    expected = torch.from_numpy(pictures[3]).permute(2, 0, 1) / 255
    assert picture.size == (5, 7)
    assert torch.equal(plain(picture).pixels, expected)
    whole = train_transform(plain, Augment(scale=(1.0, 1.0), ratio=(1.0, 1.0), horizontal_flip=1.0, vertical_flip=1.0))
    assert torch.equal(whole(train[3], (0, 0, 3)), expected.flip(1, 2))
    seen = np.asarray(picture.read((1, 2, 5, 4)))
    assert np.array_equal(np.atleast_3d(seen), pictures[3, 2:4, 1:5, : {1: 1, 2: 1, 4: 4}.get(channels, 3)])


def test_a_crop_of_many_channels_is_the_crop_of_each():
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 6)).astype(np.uint8)
    six, one = Preprocessing.imagenet(8).for_channels(6), Preprocessing.imagenet(8).for_channels(1)
    augment = Augment(scale=(0.3, 0.7))
    together = train_transform(six, augment)(Sample(picture_of(pixels, "bands"), 0), (1, 2, 3))
    for channel in range(6):
        alone = train_transform(one, augment)(Sample(picture_of(pixels[:, :, channel], "band"), 0), (1, 2, 3))
        assert torch.equal(together[channel], alone[0])


def test_the_mnist_sample_opens(shared):
    splits = open_splits(shared / "data/classification/mnist_sample")
    assert len(splits.train) + len(splits.val) == 1600
    assert splits.train.classes == tuple("0123456789")
    assert splits.train[0].picture.size == (28, 28)


# crops and other augmentation


def test_crops_lie_in_the_picture_with_the_area_and_ratio_asked_for():
    random, augment = np.random.default_rng(0), Augment(scale=(0.2, 0.6))
    boxes = np.array([draw_crop((300, 400), augment, 1.0, random) for _ in range(4000)])
    left, top, right, bottom = boxes.T
    assert boxes.min() >= 0
    assert right.max() <= 400
    assert bottom.max() <= 300
    area, ratio = (right - left) * (bottom - top) / 120_000, (right - left) / (bottom - top)
    assert area.min() > 0.19
    assert area.max() < 0.61
    assert ratio.min() > 0.74
    assert ratio.max() < 1.35
    assert abs(area.mean() - 0.4) < 0.01, "areas are drawn evenly, and few are drawn again"
    assert abs(np.log(ratio).mean()) < 0.01, "as often wide as tall"
    assert abs((left / (400 - right + left)).mean() - 0.5) < 0.02, "anywhere"


def test_a_crop_for_a_wide_model_is_wide():
    random = np.random.default_rng(0)
    boxes = [draw_view((300, 300), (64, 128), Augment(scale=(0.1, 0.3)), random).box for _ in range(200)]
    ratios = [(right - left) / (bottom - top) for left, top, right, bottom in boxes]
    assert min(ratios) > 1.45
    assert max(ratios) < 2.75


def test_a_picture_too_thin_for_any_crop_gives_its_middle():
    assert draw_crop((10, 1000), Augment(scale=(0.9, 1.0)), 1.0, np.random.default_rng(0)) == (493, 0, 506, 10)


def test_a_one_pixel_picture_can_be_cropped():
    assert draw_crop((1, 1), Augment(), 1.0, np.random.default_rng(0)) == (0, 0, 1, 1)


def test_flips_come_as_often_as_asked():
    random, augment = np.random.default_rng(0), Augment(horizontal_flip=0.5, vertical_flip=0.1)
    views = [draw_view((30, 30), (8, 8), augment, random) for _ in range(4000)]
    assert abs(np.mean([view.mirrored for view in views]) - 0.5) < 0.03
    assert abs(np.mean([view.upside_down for view in views]) - 0.1) < 0.02


GREY = Preprocessing(size=(16, 16), resize=16, mean=(0.5,) * 3, std=(0.5,) * 3)


def ramp(rows=40, columns=50):
    """A picture whose red grows to the right and whose green grows downwards."""
    pixels = np.zeros((rows, columns, 3), np.uint8)
    pixels[..., 0] = np.linspace(0, 255, columns)[None]
    pixels[..., 1] = np.linspace(0, 255, rows)[:, None]
    return Sample(PictureArray(pixels), 0)


def test_without_augmentation_training_shows_the_whole_picture_as_it_is():
    seen = train_transform(GREY, Augment.none())(ramp(), (0, 0, 0))
    assert seen.shape == (3, 16, 16)
    assert seen[0, 0, 0] < -0.9
    assert seen[0, 0, -1] > 0.9
    assert seen[1, -1, 0] > 0.9
    assert (seen[2] == -1).all()


def test_flipped_pixels_are_the_other_way_round():
    plain = train_transform(GREY, Augment.none())(ramp(), (0, 0, 0))
    turned = train_transform(GREY, replace(Augment.none(), horizontal_flip=1.0, vertical_flip=1.0))
    torch.testing.assert_close(turned(ramp(), (0, 0, 0)), plain.flip(1, 2), rtol=0, atol=0.02)


def test_what_is_drawn_depends_on_seed_epoch_and_index_and_nothing_else():
    augment = Augment(randaugment="rand-m9-mstd0.5-inc1", jitter=(0.4, 0.4, 0.4, 0.1), erase=0.5)
    transform = train_transform(GREY, augment)
    first = {key: transform(ramp(), key) for key in [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)]}
    np.random.seed(7)
    torch.manual_seed(7)
    for key in reversed(first):
        assert torch.equal(transform(ramp(), key), first[key])
    assert len({pixels.numpy().tobytes() for pixels in first.values()}) == 4


def test_evaluation_pixels_are_those_of_the_preprocessing():
    assert torch.equal(eval_transform(GREY)(ramp(), (1, 2, 3)), GREY(ramp().picture).pixels)


def test_erasing_leaves_all_but_one_rectangle():
    for seed in range(50):
        pixels = torch.full((3, 32, 48), 7.0)
        erase(pixels, np.random.default_rng(seed))
        gone = (pixels != 7).all(0)
        rows, columns = gone.any(1).sum(), gone.any(0).sum()
        assert gone.sum() == rows * columns
        assert 0.01 < gone.float().mean() < 0.37
    assert abs(pixels[:, gone].mean()) < 0.5, "noise around the mean of normalised pixels"


@pytest.mark.parametrize(
    "wrong",
    [
        {"scale": (0.5, 0.1)},
        {"ratio": (0.0, 1.0)},
        {"erase": 1.5},
        {"jitter": (0.0, 0.0, 0.0, 0.6)},
        {"scale": (0.5, 2.0)},
    ],
)
def test_an_augmentation_that_makes_no_sense_is_refused(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        Augment(**wrong)


# RandAugment


def test_policies_are_read_in_their_dialect():
    deit = RandAugment.parse("rand-m9-mstd0.5-inc1")
    assert (deit.number, deit.level, deit.deviation, deit.most, deit.chance) == (2, 0.9, 0.05, 1.0, 0.5)
    assert deit.operations is TIMM_INCREASING
    assert RandAugment.parse("rand-m7-n3-p0.3").operations is TIMM
    assert RandAugment.parse("rand-m5-mstd101").deviation == float("inf")
    theirs = RandAugment.parse("torchvision-n1-m15")
    assert (theirs.number, theirs.level, theirs.chance, theirs.operations) == (1, 0.5, 1.0, TORCHVISION)


@pytest.mark.parametrize("policy", ["augmix-m3", "rand-x3", "rand-m", "torchvision-m31", "rand-mstdinf"])
def test_a_policy_in_no_dialect_is_refused(policy):
    with pytest.raises(ConfigError, match=policy.split("-")[1][:2]):
        RandAugment.parse(policy)


# mean, deviation of red, mean of the upper half and of the left half of what timm 1.0.31 (strength 7 of 10, bicubic,
# filled with 124, 116, 104) and torchvision 0.28.0 (strength 9 of 30, on Pillow) make of the picture of `face`
FROM_TIMM = {
    randaugment.auto_contrast: (121.59, 75.05, 96.1, 96.36),
    randaugment.equalize: (138.94, 80.38, 111.45, 111.67),
    randaugment.invert: (138.24, 72.15, 161.96, 162.63),
    randaugment.rotate: (117.26, 62.09, 107.19, 92.18),
    randaugment.posterize: (87.35, 70.3, 64.26, 63.57),
    randaugment.solarize: (74.7, 49.64, 74.06, 75.55),
    randaugment.solarize_add: (159.21, 43.37, 148.61, 148.68),
    randaugment.color: (117.37, 92.41, 98.63, 92.07),
    randaugment.contrast: (118.67, 97.31, 85.49, 85.0),
    randaugment.brightness: (165.62, 86.39, 135.72, 136.24),
    randaugment.sharpness: (116.81, 72.15, 93.08, 92.39),
    randaugment.shear_x: (119.6, 63.83, 96.2, 102.62),
    randaugment.shear_y: (120.13, 67.05, 107.38, 97.16),
    randaugment.translate_x: (126.58, 43.89, 111.53, 124.56),
    randaugment.translate_y: (126.26, 59.29, 124.7, 110.84),
}
FROM_TORCHVISION = {
    randaugment.shear_x: (114.61, 72.36, 92.56, 97.82),
    randaugment.shear_y: (112.92, 75.3, 100.82, 91.55),
    randaugment.translate_x_whole: (97.87, 69.05, 76.85, 64.85),
    randaugment.translate_y_whole: (97.32, 78.72, 64.29, 75.77),
    randaugment.rotate: (109.59, 73.78, 92.54, 84.67),
    randaugment.brightness: (143.04, 84.03, 114.4, 114.22),
    randaugment.color: (116.64, 83.18, 95.69, 91.43),
    randaugment.contrast: (117.39, 86.84, 88.52, 87.85),
    randaugment.sharpness: (116.76, 72.15, 93.04, 92.36),
    randaugment.posterize: (116.51, 72.14, 92.79, 92.13),
    randaugment.solarize: (73.76, 49.64, 65.86, 67.66),
    randaugment.auto_contrast: (121.59, 75.05, 96.1, 96.36),
    randaugment.equalize: (138.94, 80.38, 111.45, 111.67),
}


def face():
    y, x = np.mgrid[0:40, 0:50]
    return Image.fromarray(np.stack([x * 5, y * 6, x * y % 256], -1).astype(np.uint8))


def moments(image):
    pixels = np.asarray(image).astype(float)
    return pixels.mean(), pixels[..., 0].std(), pixels[:20].mean(), pixels[:, :25].mean()


@pytest.mark.parametrize("operation", TIMM_INCREASING, ids=lambda operation: operation.change.__name__)
def test_operations_of_the_timm_dialect_do_what_timm_does(operation):
    look = Look((124, 116, 104), Image.Resampling.BICUBIC)
    changed = operation.change(face(), operation.amount(0.7), look)
    assert moments(changed) == pytest.approx(FROM_TIMM[operation.change], abs=0.02)


@pytest.mark.parametrize("operation", TORCHVISION[1:], ids=lambda operation: operation.change.__name__)
def test_operations_of_the_torchvision_dialect_do_what_torchvision_does(operation):
    level = -0.3 if "translate" in operation.change.__name__ else 0.3  # it says where to, and we say where from
    changed = operation.change(face(), operation.amount(level), Look(None, Image.Resampling.NEAREST))
    assert moments(changed) == pytest.approx(FROM_TORCHVISION[operation.change], abs=0.02)


def test_full_strength_means_what_the_dialects_say():
    """Published: timm's auto_augment.py (posterize 0 to 4 bits, shear 0.3), torchvision's (posterize 8 to 4 bits)."""

    def amount(table, change, level):
        return next(operation.amount(level) for operation in table if operation.change is change)

    assert [amount(TIMM, posterize, level) for level in (0, 0.5, 1)] == [0, 2, 4]
    assert [amount(TIMM_INCREASING, posterize, level) for level in (0, 0.5, 1)] == [4, 2, 0]
    assert [amount(TORCHVISION, posterize, level) for level in (0, 0.5, 1)] == [8, 6, 4]
    assert amount(TIMM, shear_x, 1) == amount(TORCHVISION, shear_x, 1) == 0.3
    assert (len(TIMM), len(TIMM_INCREASING), len(TORCHVISION)) == (15, 15, 14)


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("policy", ["rand-m9-mstd0.5-inc1", "rand-m10-n4-p1", "torchvision-n3-m30"])
def test_policies_keep_size_and_mode(policy, mode):
    image = ramp().picture.read().convert(mode)
    changed = 0
    for seed in range(40):
        after = RandAugment.parse(policy)(image, np.random.default_rng(seed), fill=(1, 2, 3) if mode == "RGB" else (1,))
        assert (after.mode, after.size) == (image.mode, image.size)
        changed += after.tobytes() != image.tobytes()
    assert changed > 20


def test_timm_does_each_operation_half_of_the_time():
    image, policy = ramp().picture.read(), RandAugment.parse("rand-m9-n1")
    untouched = sum(policy(image, np.random.default_rng(seed)).tobytes() == image.tobytes() for seed in range(600))
    assert 0.4 < untouched / 600 < 0.62  # some operations change nothing in a ramp


# mixing


def batch_of(count=4, classes=3):
    inputs = torch.arange(count, dtype=torch.float32)[:, None, None, None].expand(count, 1, 20, 30).clone()
    return Batch(inputs, torch.arange(count) % classes, torch.arange(count))


def test_mixup_mixes_pixels_and_labels_alike():
    mixed = Mixing(cutmix=0.0)(batch_of(), 3, (0, 0, 0))
    share = mixed.target[0, 0].item()
    assert 0 < share < 1
    torch.testing.assert_close(mixed.inputs[0], torch.full((1, 20, 30), 1 - share))
    torch.testing.assert_close(mixed.target[0], torch.tensor([share, 1 - share, 0]))
    torch.testing.assert_close(mixed.target.sum(1), torch.ones(4))
    assert torch.equal(mixed.index, torch.arange(4))


def test_cutmix_labels_are_the_share_of_pixels():
    for number in range(20):
        mixed = Mixing(mixup=0.0)(batch_of(), 3, (0, 0, number))
        pasted = (mixed.inputs[0] == 1).float().mean()
        assert set(mixed.inputs[0].unique().tolist()) <= {0.0, 1.0}
        torch.testing.assert_close(mixed.target[0, 1], pasted)


def test_the_share_that_mixup_keeps_follows_its_distribution():
    shares = [Mixing(mixup=0.8, cutmix=0.0)(batch_of(2), 3, (0, 0, n)).target[0, 0].item() for n in range(800)]
    assert abs(np.mean(shares) - 0.5) < 0.03
    assert abs(np.var(shares) - 0.25 / (2 * 0.8 + 1)) < 0.01  # of a beta distribution with both parameters 0.8


def test_mixing_happens_as_often_as_asked_and_leaves_shares():
    mixing = Mixing(chance=0.25)
    alone = sum(torch.equal(mixing(batch_of(), 3, (0, 0, n)).inputs, batch_of().inputs) for n in range(400))
    assert 0.65 < alone / 400 < 0.85
    assert mixing(batch_of(), 3, (0, 0, 0)).target.shape == (4, 3)


def test_the_last_of_an_odd_batch_is_left_alone():
    mixed = Mixing(cutmix=0.0)(batch_of(3), 3, (0, 0, 0))
    assert mixed.target[2].tolist() == [0, 0, 1]
    assert (mixed.inputs[2] == 2).all()


def test_mixing_that_mixes_nothing_is_refused():
    with pytest.raises(ConfigError, match=r"data\.mixing=none"):
        Mixing(mixup=0.0, cutmix=0.0)


# balance


def uneven(labels, classes=3, multi_label=False):
    return PictureFiles(["unread.png"] * len(labels), labels, tuple(map(str, range(classes))), multi_label)


def test_class_weights_make_every_class_count_the_same():
    dataset = uneven([0] * 8 + [1] * 2)
    weights = class_weights(dataset)
    torch.testing.assert_close(weights, torch.tensor([10 / 16, 10 / 4, 0]))
    assert class_counts(uneven([(0, 1), (1,), ()], multi_label=True)).tolist() == [1, 2, 0]
    assert class_weights(uneven([(), ()], multi_label=True)).tolist() == [1, 1, 1]


def test_a_balanced_epoch_shows_every_class_equally_and_every_picture_before_any_twice():
    dataset = uneven([0] * 90 + [1] * 7 + [2] * 23)
    order = balanced_order(dataset, chance(Draw.ORDER, 0, 0))
    labels = np.array(dataset.labels())[order]
    assert np.bincount(labels).tolist() == [40, 40, 40]
    assert len(set(order[labels == 0])) == 40
    assert set(np.bincount(order[labels == 1])[90:97]) == {5, 6}
    with pytest.raises(ConfigError, match=r"one label.*--set task\.weights=balanced"):
        balanced_order(uneven([(0, 1)], multi_label=True), chance(Draw.ORDER, 0, 0))


def test_a_picture_that_comes_again_in_an_epoch_is_varied_anew(tmp_path):
    for label, count in (("common", 12), ("rare", 2)):
        for number in range(count):
            noise = np.random.default_rng([count, number]).integers(0, 256, (24, 24, 3), dtype=np.uint8)
            (tmp_path / label).mkdir(exist_ok=True)
            Image.fromarray(noise).save(tmp_path / label / f"{number}.png")
    varied = train_transform(Preprocessing.imagenet(16), Augment())
    loaders = [Loader(open_dataset(tmp_path), varied, size, seed=3, balanced=True) for size in (14, 3)]
    whole, *_ = loaders[0].epoch(0)
    assert torch.equal(whole.inputs, torch.cat([batch.inputs for batch in loaders[1].epoch(0)]))
    shown = {index: list(whole.inputs[whole.index == index]) for index in whole.index.unique().tolist()}
    assert max(map(len, shown.values())) == 4
    for times in shown.values():
        assert all(not torch.equal(one, other) for one, other in itertools.combinations(times, 2))


def test_a_subset_is_the_samples_it_names():
    subset = Subset(uneven([0, 1, 2, 1]), [3, 0])
    assert subset.labels() == [1, 0]
    assert len(subset) == 2
    assert subset.classes == ("0", "1", "2")


def test_a_data_set_is_printed_in_brief(tmp_path):
    files = PictureFiles([f"{number}.jpg" for number in range(5000)], [0] * 5000, ("cat", "dog"))
    assert repr(files) == "<PictureFiles: 5,000 samples for classify, 2 classes>"
    assert repr(Subset(files, range(7))) == "<Subset: 7 samples for classify, 2 classes>"
