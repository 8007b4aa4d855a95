"""Small data sets with one thing wrong each, and what `check` must say about them."""

import gzip
import json
import os
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from oracles.test_text_check import DAMAGED
from vitrail.cli.main import main
from vitrail.data.check import check
from vitrail.data.checks.faults import ERRORS, MARKED_ERRORS, MARKED_NOTES, MARKED_WARNINGS, NOTES, SEVERITIES, WARNINGS
from vitrail.data.checks.pictures import clashes
from vitrail.errors import DataError


def picture(seed, size=(40, 32), mode="RGB"):
    """Noise, so that every seed is another picture."""
    bands = len(Image.new(mode, (1, 1)).getbands())
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], bands), dtype=np.uint8)
    return Image.fromarray(pixels.squeeze(), mode)


@pytest.fixture
def root(tmp_path):
    """Two classes in two parts, two pictures each, with nothing wrong."""
    for number, part in enumerate(("train", "val")):
        for other, name in enumerate(("cat", "dog")):
            folder = tmp_path / "set" / part / name
            folder.mkdir(parents=True)
            for place in range(2):
                picture(100 * number + 10 * other + place).save(folder / f"{place}.png")
    return tmp_path / "set"


def test_a_sound_folder_has_no_fault(root):
    assert check(root) == []


def test_a_photograph_with_more_views_behind_it_is_a_jpeg(root):
    picture(7).save(root / "train/cat/drone.jpg", format="MPO", save_all=True, append_images=[picture(8)])
    assert check(root) == []


def truncate(root):
    path = root / "train/cat/1.png"
    path.write_bytes(path.read_bytes()[:900])


def save(name, image, **options):
    """A picture added under a name."""

    def spoil(root):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        image.save(root / name, **options)

    return spoil


def write(name, content=b"words"):
    """Any file added under a name."""

    def spoil(root):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)

    return spoil


def copy(source, target):
    def spoil(root):
        (root / target).parent.mkdir(exist_ok=True)
        shutil.copy(root / source, root / target)

    return spoil


def link(name, target):
    return lambda root: (root / name).symlink_to(target)


def remove(name):
    return lambda root: shutil.rmtree(root / name)


def rename(name, target):
    return lambda root: (root / name).rename(root / target)


def fill(name, count):
    def spoil(root):
        for number in range(count):
            picture(1000 + number).save(root / name / f"more-{number}.png")

    return spoil


TURNED = Image.Exif()
TURNED[0x0112] = 6

FOLDERS = [
    ("truncated", "train/cat/1.png", truncate),
    ("format", "train/cat/x.jpg", write("train/cat/x.jpg", b"<html>not found</html>")),
    ("empty", "train/cat/x.jpg", write("train/cat/x.jpg", b"")),
    ("missing", "val/cat/x.png", link("val/cat/x.png", "nowhere.png")),
    ("not-a-file", "train/cat/x.png", lambda root: os.mkfifo(root / "train/cat/x.png")),
    ("empty-class", "train/emu", lambda root: (root / "train/emu").mkdir()),
    ("class-case-clash", "train/cat", save("train/Cat/x.png", picture(1))),
    ("class-case-clash", "train/öwe", lambda root: [
        save(f"train/{name}/x.png", picture(7))(root) for name in ("öwe", "o\u0308we")]),
    ("class-name", "train/caf\\xe9", lambda root: save("train/caf\udce9/x.png", picture(1))(root)),
    ("class-not-in-train", "", save("val/emu/x.png", picture(1))),
    ("duplicate-across-parts", "val/cat/x.png", copy("train/cat/0.png", "val/cat/x.png")),
    ("one-class", "", lambda root: [remove("train/dog")(root), remove("val/dog")(root)]),
    ("no-pictures", "val", lambda root: [path.unlink() for path in (root / "val").glob("*/*")]),
    ("duplicate", "train/cat/x.png", copy("train/cat/0.png", "train/cat/x.png")),
    ("duplicate-across-classes", "train/dog/x.png", copy("train/cat/0.png", "train/dog/x.png")),
    ("one-picture-class", "", save("train/emu/x.png", picture(1))),
    ("class-only-in-train", "", save("train/emu/x.png", picture(1))),
    ("file-case-clash", "train/cat/x.png", lambda root: [
        save(f"train/cat/{name}.png", picture(ord(name)))(root) for name in "Xx"]),
    ("hidden-file", "train/cat/.DS_Store", write("train/cat/.DS_Store")),
    ("hidden-file", "train/.ipynb_checkpoints", save("train/.ipynb_checkpoints/x.png", picture(1))),
    ("not-a-picture", "train/cat/notes.txt", write("train/cat/notes.txt")),
    ("loose-picture", "train/x.png", save("train/x.png", picture(1))),
    ("loose-picture", "x.png", save("x.png", picture(1))),
    ("beside-parts", "extra", save("extra/x.png", picture(1))),
    ("beside-parts", "valid", save("valid/cat/x.png", picture(1))),
    ("nested-folder", "train/cat/more", save("train/cat/more/x.png", picture(1))),
    ("outside-root", "train/cat/x.png", lambda root: [picture(1).save(root.parent / "x.png"),
                                                      link("train/cat/x.png", root.parent / "x.png")(root)]),
    ("space-in-name", "train/dog ", rename("train/dog", "train/dog ")),
    ("wrong-extension", "train/cat/x.jpg", save("train/cat/x.jpg", picture(1), format="PNG")),
    ("tiny", "train/cat/x.png", save("train/cat/x.png", picture(1, (5, 5)))),
    ("extreme-aspect", "train/cat/x.png", save("train/cat/x.png", picture(1, (400, 20)))),
    ("huge", "train/cat/x.png", save("train/cat/x.png", Image.new("1", (6000, 5000)))),
    ("imbalance", "", fill("train/cat", 20)),
    ("rotated", "train/cat/x.jpg", save("train/cat/x.jpg", picture(1), exif=TURNED)),
    ("grey", "train/cat/x.png", save("train/cat/x.png", picture(1, mode="L"))),
    ("cmyk", "train/cat/x.jpg", save("train/cat/x.jpg", picture(1, mode="CMYK"))),
    ("deep", "train/cat/x.png", save("train/cat/x.png", Image.new("I;16", (40, 40), 500))),
    ("transparent", "train/cat/x.png", save("train/cat/x.png", picture(1, mode="RGBA"))),
    ("long", "train/cat/x.png", save("train/cat/x.png", picture(1, (60, 32)))),
    ("animated", "train/cat/x.gif", save("train/cat/x.gif", picture(1), save_all=True, append_images=[picture(2)])),
]  # fmt: skip


@pytest.mark.parametrize(("code", "name", "spoil"), FOLDERS, ids=[f"{code}-{name}" for code, name, _ in FOLDERS])
def test_a_fault_in_a_folder_is_found_where_it_is(root, code, name, spoil):
    spoil(root)
    before = {path: path.lstat() for path in root.rglob("*")}
    faults = check(root)
    assert (code, str(root / name)) in [(fault.code, fault.path) for fault in faults]
    assert {path: path.lstat() for path in root.rglob("*")}.keys() == before.keys()
    for fault in faults:
        assert fault.severity == SEVERITIES[fault.code]
        assert fault.reason.endswith(".")
        f"{fault.path}{fault.reason}".encode()  # can be printed


def test_a_fault_brings_no_others(root):
    """What each kind of damage gives besides itself would hide it in a long list."""
    truncate(root)
    write("train/cat/.hidden")(root)
    copy("train/dog/0.png", "val/dog/x.png")(root)
    assert [(fault.code, fault.severity) for fault in check(root)] == [
        ("duplicate-across-parts", "error"),
        ("truncated", "error"),
        ("hidden-file", "warning"),
    ]


def test_lines_are_told_in_the_order_in_which_they_stand(root):
    (root / "labels.csv").write_text("path,label\n" + "".join(f"{number}.png,cat\n" for number in range(12)))
    assert [fault.path.rpartition(":")[2] for fault in check(root / "labels.csv")][:12] == [*map(str, range(2, 14))]


def test_many_notes_of_one_kind_are_one_line(root):
    for number in range(5):
        picture(number, mode="L").save(root / "train/cat" / f"grey-{number}.png")
    (fault,) = check(root)
    assert (fault.code, fault.path) == ("grey", str(root / "train/cat/grey-0.png"))
    assert fault.reason == "5 pictures are grey, this one first."


def test_an_alpha_that_hides_nothing_is_not_transparent(root):
    for number, alpha in enumerate((255, 255, 254)):
        image = picture(number)
        image.putalpha(alpha)
        image.save(root / "train/cat" / f"alpha-{number}.png")
    picture(9, mode="L").save(root / "val/cat/grey.png", transparency=300)  # a grey that no pixel has
    faults = {fault.code: fault.reason for fault in check(root)}
    assert faults == {"transparent": "1 picture is transparent, and laid on white.", "grey": "1 picture is grey."}


def test_pictures_of_which_a_square_shows_the_middle_only_are_counted(root, capsys):
    for number, size in enumerate([(48, 32), (500, 333), (32, 60), (61, 32)]):
        picture(number, size).save(root / "train/cat" / f"long-{number}.png")
    assert main(["check", "--data", str(root)]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == (
        f"{root / 'train/cat/long-2.png'}: note: 2 of 12 pictures are longer than 3:2; a model that reads squares sees "
        "their middle only. `--set model.image=ROWSxCOLUMNS` reads rectangles. [long]"
    )
    assert printed[-1] == f"{root}: ready to train on, with the above in mind."
    (root / "train/cat/long-2.png").unlink()
    assert next(fault.reason for fault in check(root)).startswith("1 of 11 pictures is longer than 3:2; a model that")


def test_a_folder_that_is_no_data_set_is_a_fault(tmp_path):
    (tmp_path / "empty").mkdir()
    assert [fault.code for fault in check(tmp_path / "empty")] == ["no-data"]
    with pytest.raises(DataError, match="There is no data set at"):
        check(tmp_path / "missing")


# manifests


GOOD = "path,label,split\nset/train/cat/0.png,cat,train\nset/train/dog/0.png,dog,train\nset/val/cat/0.png,cat,val\n"
MANIFESTS = [
    ("missing-column", "labels.csv:1", GOOD.replace("label", "kind")),
    ("missing-file", "labels.csv:5", GOOD + "set/train/cat/9.png,cat,train\n"),
    ("duplicate-row", "labels.csv:5", GOOD + "./set/train/cat/0.png,cat,train\n"),
    ("conflicting-rows", "labels.csv:5", GOOD + "set/train/cat/0.png,dog,train\n"),
    ("conflicting-rows", "labels.csv:5", GOOD + "set/train/cat/0.png,cat,val\n"),
    ("empty-label", "labels.csv:5", GOOD + "set/train/cat/1.png,,train\n"),
    ("wrong-columns", "labels.csv:5", GOOD + "set/train/cat/1.png,cat, or dog,train\n"),
    ("unknown-split", "labels.csv:5", GOOD + "set/train/cat/1.png,cat,dev\n"),
    ("no-part", "labels.csv:5", GOOD + "set/train/cat/1.png,cat,\n"),
    ("wrong-columns", "labels.csv:1", "path,label,Label\nset/train/cat/0.png,cat,dog\n"),
    ("encoding", "labels.csv", GOOD.replace("cat", "caf\xe9").encode("latin-1")),
    ("encoding", "labels.csv", GOOD.encode("utf-16")),
    ("bom", "labels.csv", GOOD.encode("utf-8-sig")),
    ("empty", "labels.csv", ""),
    ("no-pictures", "labels.csv", "path,label\n"),
    ("class-not-in-train", "labels.csv", GOOD + "set/val/dog/0.png,emu,val\n"),
    ("bad-csv", "labels.csv:5", GOOD + f"set/{'x' * 200_000}.png,cat,train\n"),
    ("bad-csv", "labels.csv:5", GOOD + 'set/train/cat/1.png,"cat,train\nset/train/dog/1.png,dog,train\n'),
    ("bad-json", "labels.jsonl:2", '{"path": "set/train/cat/0.png", "label": "cat"}\n{"path": "set/trai\n'),
    ("bad-json", "labels.jsonl:1", "[1, 2]\n"),
    ("bad-json", "labels.jsonl:1", "[" * 100_000),
    ("missing-file", "labels.jsonl:1", '{"path": 5, "label": "cat"}\n'),
    ("empty-label", "labels.jsonl:1", '{"path": "set/train/cat/0.png", "label": null}\n'),
    ("missing-column", "labels.jsonl:1", '{"label": "cat"}\n'),
    ("class-case-clash", "labels.csv", GOOD + "set/train/cat/1.png,Cat,train\n"),
    ("comma-in-label", "labels.csv", GOOD + 'set/train/cat/1.png,"cat,dog",train\n'),
    ("wrong-columns", "labels.csv:1", "path,label,labels\nset/train/cat/0.png,cat,cat;dog\n"),
    ("cannot-open", "labels.csv", "path,labels\nset/train/cat/0.png,\nset/train/dog/0.png,\nset/train/cat/1.png,\n"),
    ("cannot-open", "labels.csv", "path,label\nset/train/cat/0.png,cat\nset/train/dog/0.png,dog\n"),
]


@pytest.mark.parametrize(("code", "place", "text"), MANIFESTS)
def test_a_fault_in_a_table_is_found_in_its_line(root, code, place, text):
    table = root.parent / place.split(":")[0]
    table.write_bytes(text if isinstance(text, bytes) else text.encode())
    faults = check(table)
    assert (code, str(root.parent / place)) in [(fault.code, fault.path) for fault in faults]
    assert all(fault.severity == SEVERITIES[fault.code] for fault in faults)


def test_a_sound_table_has_no_fault_but_that_of_its_sizes(root):
    table = root.parent / "labels.csv"
    table.write_text(GOOD + "set/train/cat/1.png,cat,\nset/train/dog/1.png,dog,train\nset/val/dog/0.png,dog,val\n")
    table.write_text(table.read_text().replace("cat,\n", "cat,train\n"))
    assert check(table) == []


def test_pictures_in_a_table_are_opened(root):
    truncate(root)
    table = root.parent / "labels.jsonl"
    rows = [{"path": f"set/train/{name}/{place}.png", "label": name} for name in ("cat", "dog") for place in range(2)]
    table.write_text("\n".join(map(json.dumps, rows)))
    assert [(fault.code, Path(fault.path).name) for fault in check(table)] == [("truncated", "1.png")]


# idx


def idx_bytes(values):
    return b"\0\0\x08" + bytes([values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape) + values.tobytes()


PICTURES = np.random.default_rng(0).integers(0, 256, (6, 16, 16), dtype=np.uint8)
LABELS = np.array([0, 1, 2, 0, 1, 2], np.uint8)
COPIED = {
    "t10k-images-idx3-ubyte": idx_bytes(np.stack([255 - PICTURES[5], PICTURES[3]])),
    "t10k-labels-idx1-ubyte": idx_bytes(LABELS[:2]),
}
CUT = gzip.compress(idx_bytes(PICTURES))[:-30]
IMAGES_FILE, LABELS_FILE = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
IDX = [
    ("wrong-magic", IMAGES_FILE, {IMAGES_FILE: b"PNG" + idx_bytes(PICTURES)}),
    ("wrong-magic", IMAGES_FILE, {IMAGES_FILE: b"\0\0\x0d\x03" + idx_bytes(PICTURES)[4:]}),
    ("wrong-magic", LABELS_FILE, {LABELS_FILE: b""}),
    ("truncated", IMAGES_FILE, {IMAGES_FILE: idx_bytes(PICTURES)[:-1]}),
    ("truncated", IMAGES_FILE, {IMAGES_FILE: idx_bytes(PICTURES)[:9]}),
    ("truncated", f"{IMAGES_FILE}.gz", {IMAGES_FILE: None, f"{IMAGES_FILE}.gz": CUT}),
    ("unreadable", f"{IMAGES_FILE}.gz", {IMAGES_FILE: None, f"{IMAGES_FILE}.gz": idx_bytes(PICTURES)}),
    ("trailing-bytes", IMAGES_FILE, {IMAGES_FILE: idx_bytes(PICTURES) + b"x"}),
    ("count-mismatch", LABELS_FILE, {LABELS_FILE: idx_bytes(LABELS[:5])}),
    ("wrong-shape", IMAGES_FILE, {IMAGES_FILE: idx_bytes(PICTURES.reshape(6, 256))}),
    ("too-large", IMAGES_FILE, {IMAGES_FILE: b"\0\0\x08\3" + b"\xff" * 12}),
    ("too-large", IMAGES_FILE, {IMAGES_FILE: b"\0\0\x08\3" + b"\xff" * 4 + b"\0" * 8}),  # pictures of nothing
    ("wrong-shape", IMAGES_FILE, {IMAGES_FILE: b"\0\0\x08\3" + b"\0\0\0\6" + b"\0" * 8}),
    ("missing-file", "", {LABELS_FILE: None}),
    ("duplicate-across-parts", "t10k-images-idx3-ubyte[1]", COPIED),
    ("one-class", "", {LABELS_FILE: idx_bytes(0 * LABELS)}),
]  # fmt: skip


@pytest.mark.parametrize(("code", "name", "files"), IDX)
def test_a_fault_in_idx_files_is_found(tmp_path, code, name, files):
    for file, content in ({IMAGES_FILE: idx_bytes(PICTURES), LABELS_FILE: idx_bytes(LABELS)} | files).items():
        if content is not None:
            (tmp_path / file).write_bytes(content)
    faults = check(tmp_path)
    assert (code, str(tmp_path / name)) in [(fault.code, fault.path) for fault in faults]


def test_sound_idx_files_have_no_fault(tmp_path):
    (tmp_path / f"{IMAGES_FILE}.gz").write_bytes(gzip.compress(idx_bytes(PICTURES)))
    (tmp_path / LABELS_FILE).write_bytes(idx_bytes(LABELS))
    assert check(tmp_path) == []


# the table of codes, and real data


def test_every_code_weighs_one_thing_and_is_tried_here():
    marked = {**MARKED_ERRORS, **MARKED_WARNINGS, **MARKED_NOTES}
    assert len(SEVERITIES) == len(ERRORS) + len(WARNINGS) + len(NOTES) + len(marked)
    tried = {case[0] for case in FOLDERS + MANIFESTS + IDX} | {"no-data"}
    tried |= {"same-text", "uneven-pair"} | {case[2] for case in DAMAGED} - {None}
    tried |= set(marked)  # in test_check_marked.py
    # these need a file that a test running as root cannot make, or are tried with the images
    assert set(SEVERITIES) - tried == {"unreadable", "damaged", "directory"} - tried


def test_real_pictures_have_the_faults_that_are_known(shared):
    classification = shared / "data/classification"
    (fault,) = check(classification / "flowers5")
    assert fault.code == "duplicate-across-classes"
    assert fault.path.endswith("train/tulip/17104364030_ee31ee279b_n.jpg")
    assert "train/rose/17104364030_ee31ee279b_n.jpg" in fault.reason
    assert check(classification / "cifar10/small") == []
    assert check(classification / "mnist_sample") == []


@pytest.mark.parametrize("text", ["", "path,cat,dog\n0.png,1,0\n"])
def test_a_table_that_cannot_be_read_has_that_one_fault(tmp_path, text):
    (tmp_path / "labels.csv").write_text(text)
    [fault] = check(tmp_path / "labels.csv")
    assert "path and labels where a picture can have several (1.jpg,cat;dog)" in fault.reason


def test_many_findings_of_a_kind_are_summed_up_and_the_last_line_counts(root, capsys):
    for number in range(13):
        shutil.copy(root / "train/cat/0.png", root / f"train/cat/copy-{number:02d}.png")
    assert main(["check", "--data", str(root)]) == 1
    printed = capsys.readouterr().out
    assert printed.count("[duplicate]") == 11
    assert "... and 3 more [duplicate]; --json lists them all." in printed
    assert printed.splitlines()[-1] == f"{root}: 21 pictures, 17 to learn from and 4 to be judged by, in 2 classes."
    main(["check", "--data", str(root), "--json"])
    assert len(capsys.readouterr().out.splitlines()) == 13


def test_what_cannot_be_opened_is_not_counted(root, capsys):
    shutil.rmtree(root / "train" / "cat")
    (root / "train" / "cat").mkdir()
    assert main(["check", "--data", str(root)]) == 1
    assert "to learn from" not in capsys.readouterr().out


def test_names_that_look_the_same_are_told_apart():
    assert list(clashes(["Cat", "cat", "o\u0308we", "Öwe"])) == [
        ("cat", "Cat"),
        ("Öwe", "o\u0308we (whose accents are written otherwise)"),
    ]
