"""Damaged, hostile and mistaken checkpoints: one sentence each, at once, and never a partly loaded model."""

import dataclasses
import json
import os
import pickle
import random
import shutil
import struct
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some
from safetensors.torch import load_file, save_file
from torch import nn

from vitrail.errors import CheckpointError, ConfigError, VitrailError
from vitrail.loading import create_model, from_pretrained, save_pretrained
from vitrail.weights import files

SLOW = 5.0  # seconds of computing; every refusal takes milliseconds


def quiet(sentence: str) -> None:
    """An announcement nobody reads."""


def tiny() -> nn.Module:
    torch.manual_seed(0)
    return create_model("vit-tiny-16", dim=16, heads=2, mlp_dim=24, depth=2, image=16, patch=8, classes=3)


@pytest.fixture(scope="module")
def originals(tmp_path_factory) -> dict[str, Path]:
    """One folder in each format."""
    root = tmp_path_factory.mktemp("originals")
    return {
        format: save_pretrained(tiny(), root / format, format=format, announce=quiet)
        for format in ("vitrail", "transformers", "timm")
    }


@pytest.fixture
def folders(originals, tmp_path) -> dict[str, Path]:
    """Copies of them, to be damaged."""
    return {format: Path(shutil.copytree(folder, tmp_path / format)) for format, folder in originals.items()}


def refused(monkeypatch, source: Path, sentence: str = "", **how) -> str:
    """What is said instead of loading; nothing was put into any model, and it did not take long."""
    loads = []
    monkeypatch.setattr(nn.Module, "load_state_dict", lambda *_, **__: loads.append(1))
    start = time.process_time()
    with pytest.raises(VitrailError, match=sentence or ".") as raised:
        from_pretrained(source, announce=quiet, **how)
    assert time.process_time() - start < SLOW
    assert not loads
    said = str(raised.value)
    assert "\n" not in said
    assert len(said) < 2000
    return said


# our own folder: who may read it, and a single bit


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002], ids=oct)
def test_weights_may_be_read_by_whoever_may_read_what_lies_beside_them(tmp_path, umask):
    before = os.umask(umask)
    try:
        model = create_model("vit-tiny-16", image=8, patch=8, dim=12, heads=3, mlp_dim=12, depth=1, classes=2)
        save_pretrained(model, tmp_path / "model", announce=quiet)
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "model").iterdir()}
    assert modes == dict.fromkeys(modes, 0o666 & ~umask)


def flip(path: Path, bit: int) -> None:
    content = bytearray(path.read_bytes())
    content[bit // 8 % len(content)] ^= 1 << bit % 8
    path.write_bytes(content)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "card.json", "manifest.json"])
def test_a_flipped_bit_in_our_own_folder_is_found(monkeypatch, folders, name):
    path = folders["vitrail"] / name
    whole = path.read_bytes()
    chance = random.Random(name)
    for bit in [chance.randrange(8 * len(whole)) for _ in range(40)]:
        flip(path, bit)
        refused(monkeypatch, folders["vitrail"])
        path.write_bytes(whole)


@pytest.mark.parametrize("name", ["model.safetensors", "card.json", "manifest.json", "config.json"])
def test_a_file_missing_from_our_own_folder_is_named(monkeypatch, folders, name):
    (folders["vitrail"] / name).unlink()
    refused(monkeypatch, folders["vitrail"], name)


def resigned(folder: Path) -> Path:
    """The folder with a manifest that fits what is in it now, as someone who means harm would leave it."""
    prints = {name: files.sha256(folder / name) for name in ("config.json", "card.json", "model.safetensors")}
    files.write_json(folder / "manifest.json", {"format": "vitrail", "sha256": prints})
    return folder


@pytest.mark.parametrize(
    ("file", "change", "sentence"),
    [
        ("config.json", {"_target_": "os.system"}, "fields we do not know: _target_"),
        ("config.json", {"auto_map": {"AutoModel": "evil.Model"}}, "fields we do not know: auto_map"),
        ("config.json", {"family": "../../vit"}, "no family called '../../vit'"),
        ("config.json", {"family": "os:system"}, "no family called"),
        ("config.json", {"config": {"__class__": "x"}}, "no field called '__class__'"),
        ("config.json", {"config": {"depth": 999}}, "depth=999, and the weights have 2"),
        ("config.json", {"config": {"depth": 10**9}}, "depth=1000000000 must be at least 1 and at most 1,000"),
        ("config.json", {"config": {"depth": "2"}}, "depth='2' is not a whole number"),
        ("config.json", {"config": {"image": 10**9, "position": "sinusoidal"}}, "at most 16,777,216"),
        ("config.json", {"config": {"image": 10**6, "position": "sinusoidal"}}, "at most 16,777,216 are read"),
        ("config.json", {"config": []}, "should be an object"),
        ("config.json", {"config": {"dialect": "martian"}}, "no dialect"),
        ("card.json", {"_target_": "os.system"}, "no field called '_target_'"),
        ("card.json", {"labels": [1, 2, 3]}, "labels"),
        ("card.json", {"preprocessing": {"mean": ["0.5"]}}, "mean"),
        ("card.json", {"preprocessing": {"resampler": "os.system"}}, "resampler"),
        ("card.json", {"scores": {"top1": "very good"}}, "scores should be numbers"),
    ],
)  # fmt: skip
def test_what_is_injected_into_our_configs_is_refused(monkeypatch, folders, file, change, sentence):
    folder = folders["vitrail"]
    values = json.loads((folder / file).read_text())
    inner = {
        name: values[name] | value for name, value in change.items() if isinstance(values.get(name), dict) and value
    }
    files.write_json(folder / file, values | change | inner)
    refused(monkeypatch, resigned(folder), sentence)


@pytest.mark.parametrize(
    "change",
    [
        {"auto_map": {"AutoModel": "evil--Model"}},
        {"_attn_implementation_internal": "evil/kernel"},
        {"_target_": "os.system"},
        {"trust_remote_code": True},
    ],
    ids=str,
)
def test_foreign_configs_are_read_for_the_fields_we_know_alone(folders, change):
    path = folders["transformers"] / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    assert isinstance(from_pretrained(folders["transformers"], announce=quiet), nn.Module)


@pytest.mark.parametrize(
    ("format", "change", "sentence"),
    [
        ("transformers", {"architectures": ["SwinForImageClassification"]}, "SwinForImageClassification"),
        ("transformers", {"architectures": ["os.system"]}, "os.system"),
        ("transformers", {"architectures": 7}, "cannot be read"),
        ("transformers", {"num_hidden_layers": 999}, "depth=999, and the weights have 2"),
        ("transformers", {"num_hidden_layers": 10**9}, "depth=1000000000 must be at least 1 and at most 1,000"),
        ("transformers", {"hidden_size": -16}, "dim"),
        ("transformers", {"id2label": {"0": "a"}}, "classes=1, and the weights have 3"),
        ("transformers", {"patch_size": {"height": 8}}, "patch"),
        ("timm", {"architecture": "densenet121"}, "densenet121"),
        ("timm", {"architecture": None}, "None"),
        ("timm", {"model_args": {"block_fn": "os.system"}}, "block_fn='os.system'"),
        ("timm", {"model_args": {"qk_norm": True}}, "qk_norm=True is not supported"),
        ("timm", {"model_args": {"unheard_of": 1}}, "unheard_of=1 is not supported"),
        ("timm", {"model_args": 3}, "wrong kind"),
        ("timm", {"pretrained_cfg": "x"}, "wrong kind"),
        ("timm", {"num_classes": 4}, "classes=4, and the weights have 3"),
    ],
)
def test_a_foreign_config_that_cannot_be_is_a_sentence(monkeypatch, folders, format, change, sentence):
    path = folders[format] / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    refused(monkeypatch, folders[format], sentence)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "not valid JSON"),
        (b"{", "not valid JSON"),
        (b"[1]", "should hold a JSON object"),
        (b'{"a": 1, "a": 2}', "twice"),
        (b"[" * 100_000, "not valid JSON"),
        (b'{"architectures": ["ViTModel"], "layer_norm_eps": NaN}', "NaN is not a number"),
        (b"\xff\xfe\x00", "not valid JSON"),
        (b'{"a": 1}', "not one of vitrail, transformers or timm"),
        (b" " * (files.JSON_LIMIT + 1), "at most"),
    ],
    ids=["empty", "cut", "list", "twice", "deep", "nan", "utf-16", "unknown", "huge"],
)
def test_a_config_that_is_no_config_is_a_sentence(monkeypatch, folders, content, sentence):
    (folders["transformers"] / "config.json").write_bytes(content)
    refused(monkeypatch, folders["transformers"], sentence)


# files of tensors


def header(path: Path) -> tuple[dict, bytes]:
    content = path.read_bytes()
    length = struct.unpack("<Q", content[:8])[0]
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def with_header(path: Path, text: bytes, payload: bytes) -> None:
    path.write_bytes(struct.pack("<Q", len(text)) + text + payload)


def test_a_truncated_file_is_refused_wherever_it_is_cut(monkeypatch, folders):
    path = folders["transformers"] / "model.safetensors"
    whole = path.read_bytes()
    for length in [0, 1, 7, 8, 9, *range(20, len(whole), len(whole) // 40), len(whole) - 1]:
        path.write_bytes(whole[:length])
        refused(monkeypatch, folders["transformers"], "cut short|damaged|not valid JSON")


def lying_header(change) -> bytes:
    """A header with something wrong in it, as bytes."""

    def text(tensors: dict) -> bytes:
        change(tensors)
        return json.dumps(tensors).encode()

    return text


def huge_shape(tensors: dict) -> None:
    tensors["vit.embeddings.cls_token"]["shape"] = [2**40, 2**40]


def overlap(tensors: dict) -> None:
    tensors["vit.embeddings.cls_token"]["data_offsets"] = [0, 64]


def backwards(tensors: dict) -> None:
    tensors["vit.embeddings.cls_token"]["data_offsets"] = [64, 0]


def strange_dtype(tensors: dict) -> None:
    tensors["vit.embeddings.cls_token"]["dtype"] = "os.system"


def negative(tensors: dict) -> None:
    tensors["vit.embeddings.cls_token"]["shape"] = [-1, 1, 16]


def no_dtype(tensors: dict) -> None:
    del tensors["vit.embeddings.cls_token"]["dtype"]


@pytest.mark.parametrize("change", [huge_shape, overlap, backwards, strange_dtype, negative, no_dtype])
def test_a_header_that_lies_is_refused(monkeypatch, folders, change):
    path = folders["transformers"] / "model.safetensors"
    tensors, payload = header(path)
    change(tensors)
    with_header(path, json.dumps(tensors).encode(), payload)
    refused(monkeypatch, folders["transformers"], "damaged")


@pytest.mark.parametrize("length", [0x4B50, 0x280, 0x8000280])  # bytes that read "PK", or as a pickle begins
def test_a_header_as_long_as_another_files_mark_is_read(tmp_path, length):
    path = tmp_path / "model.safetensors"
    header = b'{"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'.ljust(length)
    if length > files.HEADER_LIMIT:
        path.write_bytes(struct.pack("<Q", length))
        with pytest.raises(CheckpointError, match="pickle"):
            files.read_tensors(path)
        return
    path.write_bytes(struct.pack("<Q", length) + header + struct.pack("<f", 2.5))
    assert files.read_tensors(path)["x"].item() == 2.5


def test_a_header_with_a_name_twice_is_refused(monkeypatch, folders):
    path = folders["transformers"] / "model.safetensors"
    tensors, payload = header(path)
    again = json.dumps({"classifier.bias": tensors["classifier.bias"]})
    with_header(path, (json.dumps(tensors)[:-1] + "," + again[1:]).encode(), payload)
    refused(monkeypatch, folders["transformers"], "twice")


def test_a_header_without_end_is_refused_before_it_is_read(monkeypatch, folders):
    path = folders["transformers"] / "model.safetensors"
    for claimed in (2**63, 2**64 - 1, 10**12):
        path.write_bytes(struct.pack("<Q", claimed) + b"{}" * 100)
        refused(monkeypatch, folders["transformers"], "cut short")


def test_a_header_of_a_million_and_a_half_tensors_is_refused_at_once(monkeypatch, folders):
    path = folders["transformers"] / "model.safetensors"
    entry = '"t{}":{{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}'
    text = ("{" + ",".join(entry.format(number) for number in range(1_500_000)) + "}").encode()
    with_header(path, text, b"")
    del text
    refused(monkeypatch, folders["transformers"], "has a header of .* bytes; at most")
    text = ("{" + ",".join(entry.format(number) for number in range(100_000)) + "}").encode()
    with_header(path, text, b"")
    refused(monkeypatch, folders["transformers"], "names 100,000 tensors")


def test_a_deeply_nested_header_is_refused(monkeypatch, folders):
    path = folders["transformers"] / "model.safetensors"
    with_header(path, b'{"a":' + b"[" * 200_000 + b"]" * 200_000 + b"}", b"")
    refused(monkeypatch, folders["transformers"], "not valid JSON")


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("format", ["vitrail", "transformers", "timm"])
def test_numbers_that_are_none_are_counted_and_refused(monkeypatch, folders, format, bad):
    path = folders[format] / "model.safetensors"
    tensors = load_file(path)
    name = next(name for name in tensors if "norm" in name)
    tensors[name][3:5] = bad
    save_file(tensors, path, {"format": "pt"})
    if format == "vitrail":
        resigned(folders[format])
    refused(monkeypatch, folders[format], r"2 of the 16 numbers in .* are NaN or infinite")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda t: t.pop("vit.layernorm.weight"), r"fills 39 of 40 tensors; missing: norm\.weight \(16,\)"),
        (lambda t: t.update({"vit.extra": torch.zeros(2)}), r"1 of 41 tensors have no meaning .*: vit\.extra"),
        (lambda t: t.update({"vit.layernorm.weight": torch.zeros(17)}), r"shape \(17,\) and should have \(16,\)"),
        (lambda t: t.update({"vit.layernorm.weight": torch.zeros(16).long()}), "is torch.int64 and should be"),
        (lambda t: t.update({"vit.layernorm.weight": torch.zeros(16).bool()}), "is torch.bool and should be"),
        (lambda t: t.update({"vit.layernorm.weight": torch.zeros(16).to(torch.float8_e4m3fn)}), "fewer than 16 bits"),
        (lambda t: t.update({"vit.embeddings.position_embeddings": torch.zeros(1, 4, 16)}), "position"),
        (lambda t: t.update({"vit.embeddings.position_embeddings": torch.zeros(5)}), "unexpected|shapes"),
        (lambda t: t.update({"classifier.weight": torch.zeros(3)}), "shapes"),
        (lambda t: t.update({"vit.encoder.layer.0.attention.attention.query.weight": torch.zeros(())}), "shapes"),
        (lambda t: [t.pop(name) for name in list(t) if "layer.1" in name], "depth=2, and the weights have 1"),
        (lambda t: t.clear() or t.update({"a": torch.zeros(1)}), "no meaning"),
    ],
)  # fmt: skip
def test_tensors_that_do_not_fit_are_named(monkeypatch, folders, change, sentence):
    path = folders["transformers"] / "model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, {"format": "pt"})
    refused(monkeypatch, folders["transformers"], sentence)


def test_what_may_be_missing_is_made_anew_when_it_is_named(folders):
    path = folders["transformers"] / "model.safetensors"
    tensors = load_file(path)
    del tensors["vit.layernorm.weight"]
    save_file(tensors, path, {"format": "pt"})
    heard = []
    model = from_pretrained(folders["transformers"], missing=("norm.*",), announce=heard.append)
    assert heard[-1] == "kept 39 of 40 tensors; new: norm.weight (16,)"
    assert torch.equal(model.norm.weight, torch.ones(16))


# pickles

pytestmark = pytest.mark.filterwarnings("ignore:Detected pickle protocol")


class Exploit:
    """What a hostile file does when it is unpickled carelessly."""

    def __init__(self, call, *arguments) -> None:
        self.call, self.arguments = call, arguments

    def __reduce__(self):
        return self.call, self.arguments


def exploits(canary: Path) -> dict[str, Exploit]:
    import pkgutil
    import subprocess

    touch = f"open({str(canary)!r}, 'w').close()"
    return {
        "system": Exploit(os.system, f"touch {canary}"),
        "eval": Exploit(eval, touch),
        "exec": Exploit(exec, touch),
        "subprocess": Exploit(subprocess.call, ["touch", str(canary)]),
        "resolve_name": Exploit(pkgutil.resolve_name, "os:system"),
        "import": Exploit(__import__, "os"),
    }


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.safetensors"])
@pytest.mark.parametrize("wrapped", [True, False], ids=["among tensors", "alone"])
@pytest.mark.parametrize("kind", list(exploits(Path("x"))))
def test_nothing_in_a_pickle_runs(monkeypatch, folders, tmp_path, kind, wrapped, name):
    canary = tmp_path / "canary"
    payload = exploits(canary)[kind]
    (folders["transformers"] / "model.safetensors").unlink()
    value = {"vit.embeddings.cls_token": torch.zeros(1, 1, 16), "x": payload} if wrapped else payload
    for protocol in (2, 4):
        torch.save(value, folders["transformers"] / name, pickle_protocol=protocol)
        refused(monkeypatch, folders["transformers"])
        torch.save(
            value, folders["transformers"] / name, pickle_protocol=protocol, _use_new_zipfile_serialization=False
        )
        refused(monkeypatch, folders["transformers"])
        with (folders["transformers"] / name).open("wb") as file:
            pickle.dump(payload, file, protocol)
        refused(monkeypatch, folders["transformers"])
    assert not canary.exists()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PK\x03\x04",
        b"7z\xbc\xaf\x27\x1c" + b"\0" * 100,
        b"\x80\x02.",
        b"\x80\x02}q\x00.",
        b"hello" * 100,
        b"\x1f\x8b\x08",
    ],
    ids=["empty", "zip", "7z", "nothing", "empty dictionary", "text", "gzip"],
)
@pytest.mark.parametrize("suffix", [".pt", ".pth", ".bin", ".npz", ".safetensors"])
def test_a_file_of_another_kind_is_a_sentence(monkeypatch, tmp_path, suffix, content):
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(content)
    refused(monkeypatch, path, format="timm", model="vit-tiny-16")


@pytest.mark.parametrize(
    ("save", "sentence"),
    [
        (lambda path: path.write_text("hello, I am text"), "is damaged, cut short, or no file that torch saved."),
        (lambda path: path.write_text("epoch 1 loss 2"), "is damaged, cut short, or no file that torch saved."),
        (lambda path: torch.save({"x": Exploit(os.getcwd)}, path), f"holds {os.getcwd.__module__}.getcwd, and nothing"),
        (lambda path: torch.save({"x": torch.nn.Linear(1, 1)}, path), "holds torch.nn.modules.linear.Linear, and noth"),
    ],
    ids=["text", "other text", "function", "module"],
)
def test_what_is_in_a_file_of_torch_is_said_in_plain_words(tmp_path, save, sentence):
    save(tmp_path / "weights.pt")
    with pytest.raises(CheckpointError) as raised:
        files.read_tensors(tmp_path / "weights.pt")
    assert str(raised.value).startswith(f"{tmp_path / 'weights.pt'} {sentence}")
    assert ".." not in str(raised.value)


def test_a_header_that_does_not_fit_is_said_in_plain_words(monkeypatch, folders):
    path = folders["transformers"] / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    said = "cut short: its header lists other tensors than follow it. Copy or download it again."
    refused(monkeypatch, folders["transformers"], said)


def test_a_folder_without_architectures_is_called_by_its_type(monkeypatch, folders):
    path = folders["transformers"] / "config.json"
    config = {name: value for name, value in json.loads(path.read_text()).items() if name != "architectures"}
    path.write_text(json.dumps(config | {"model_type": "swin"}))
    refused(monkeypatch, folders["transformers"], "describes transformers's model of type 'swin', with no architecture")


def test_a_truncated_pickle_is_a_sentence(monkeypatch, tmp_path):
    path = tmp_path / "weights.pt"
    torch.save(tiny().state_dict(), path)
    whole = path.read_bytes()
    for length in range(0, len(whole), len(whole) // 25):
        path.write_bytes(whole[:length])
        refused(monkeypatch, path, format="timm", model="vit-tiny-16")


def test_a_dictionary_that_holds_itself_is_a_sentence(monkeypatch, tmp_path):
    loop = {}
    loop["model"] = loop
    torch.save(loop, tmp_path / "loop.pth")
    refused(monkeypatch, tmp_path / "loop.pth", "'model', which is no tensor", format="timm", model="vit-tiny-16")


def test_a_tensor_larger_than_its_numbers_is_refused(monkeypatch, tmp_path):
    path = tmp_path / "weights.pt"
    torch.save({"cls_token": torch.zeros(1).expand(10**12)}, path)
    refused(monkeypatch, path, "larger than its numbers", format="timm", model="vit-tiny-16")


def test_a_zip_that_grows_out_of_proportion_is_refused(monkeypatch, tmp_path):
    path = tmp_path / "weights.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("cls.npy", b"\0" * 50_000_000)
    refused(monkeypatch, path, "would grow to", format="google", model="vit-base-16")


def test_objects_in_an_npz_are_refused(monkeypatch, tmp_path):
    path, canary = tmp_path / "weights.npz", tmp_path / "canary"
    np.savez(path, cls=np.array([exploits(canary)["system"]], dtype=object))
    refused(monkeypatch, path, "objects", format="google", model="vit-base-16")
    assert not canary.exists()


def test_an_npz_that_claims_more_than_it_holds_is_refused(monkeypatch, tmp_path):
    path = tmp_path / "weights.npz"
    np.savez(path, cls=np.zeros(3, dtype="f4"))
    with zipfile.ZipFile(path) as archive:
        content = archive.read("cls.npy").replace(b"(3,)", b"(3000000000,)".ljust(4))
    content = content.replace(b"(3000000000,), }" + b" " * 9, b"(3000000000,), }")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("cls.npy", content)
    refused(monkeypatch, path, format="google", model="vit-base-16")


# places that are no files


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "preprocessor_config.json"])
@pytest.mark.parametrize("kind", ["fifo", "device", "folder", "dangling"])
def test_what_is_no_file_is_never_read(monkeypatch, folders, name, kind):
    path = folders["transformers"] / name
    path.unlink()
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("nowhere")
    if (kind, name) == ("dangling", "preprocessor_config.json"):
        return  # a file that is not there is not needed
    refused(monkeypatch, folders["transformers"], name.split(".")[0])


@pytest.mark.parametrize("kind", ["fifo", "device"])
def test_a_bare_source_that_is_no_file_is_never_read(monkeypatch, tmp_path, kind):
    path = tmp_path / "weights.safetensors"
    os.mkfifo(path) if kind == "fifo" else path.symlink_to("/dev/zero")
    refused(monkeypatch, path, "device, pipe or socket", format="timm", model="vit-tiny-16")


def shard(folder: Path) -> dict[str, str]:
    """Make a folder a sharded one; gives its map of names to files."""
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(tensors)
    parts = {"model-00001-of-00002.safetensors": names[:20], "model-00002-of-00002.safetensors": names[20:]}
    for file, held in parts.items():
        save_file({name: tensors[name] for name in held}, folder / file, {"format": "pt"})
    return {name: file for file, held in parts.items() for name in held}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda places: places | {"x": "../../etc/passwd"}, r"points at '\.\./\.\./etc/passwd', outside its folder"),
        (lambda places: places | {"x": "/etc/passwd"}, "outside its folder"),
        (lambda places: places | {"x": ".."}, "outside its folder"),
        (lambda places: places | {"x": "model-00003.safetensors"}, "lists model-00003.safetensors, and it is not"),
        (lambda places: places | {"x": "m" * 5000 + ".safetensors"}, "lists mmm.*, and it is not"),
        (lambda places: places | {"x": 3}, "no 'weight_map'"),
        (lambda places: [], "no 'weight_map'"),
        (lambda places: dict(list(places.items())[1:]), "does not hold the tensors"),
        (lambda places: dict.fromkeys(places, "model-00001-of-00002.safetensors"), "does not hold the tensors"),
    ],
)  # fmt: skip
def test_an_index_that_points_wrong_is_refused(monkeypatch, folders, change, sentence):
    folder = folders["transformers"]
    places = shard(folder)
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": places}))
    assert isinstance(from_pretrained(folder, announce=quiet), nn.Module)
    index.write_text(json.dumps({"weight_map": change(places)}))
    refused(monkeypatch, folder, sentence)


def test_a_folder_without_weights_or_config_says_what_is_expected(monkeypatch, folders, tmp_path):
    (folders["transformers"] / "model.safetensors").unlink()
    refused(monkeypatch, folders["transformers"], "has no weights. Expected one of model.safetensors")
    refused(monkeypatch, tmp_path, "has no config.json. For a weights file alone, give the file")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(some.lists(some.tuples(some.integers(0, 3000), some.integers(0, 255)), min_size=1, max_size=8))
def test_bytes_changed_at_random_are_read_or_refused(folders, changes):
    path = folders["transformers"] / "model.safetensors"
    whole = path.read_bytes()
    content = bytearray(whole)
    for place, value in changes:
        content[place] = value
    path.write_bytes(content)
    try:
        from_pretrained(folders["transformers"], announce=quiet)
    except VitrailError:
        pass
    finally:
        path.write_bytes(whole)


# precision


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_loaded_as_float32_and_says_so(folders, dtype):
    path = folders["transformers"] / "model.safetensors"
    save_file({name: tensor.to(dtype) for name, tensor in load_file(path).items()}, path, {"format": "pt"})
    heard = []
    assert from_pretrained(folders["transformers"], announce=heard.append).norm.weight.dtype == torch.float32
    assert f"The weights are {str(dtype).removeprefix('torch.')}; they are loaded as float32." in heard
    kept = from_pretrained(folders["transformers"], dtype=dtype, announce=quiet)
    assert {parameter.dtype for parameter in kept.parameters()} == {dtype}


def test_a_precision_without_fractions_is_refused(monkeypatch, folders):
    refused(monkeypatch, folders["transformers"], "holds no fractions", dtype=torch.int8)


# writing


def test_a_save_that_fails_leaves_what_was_there(monkeypatch, folders):
    folder = folders["vitrail"]
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    other = create_model("vit-tiny-16", dim=16, heads=2, mlp_dim=24, depth=1, image=16, patch=8, classes=3)

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    for step in ("write_safetensors", "sync", "put_in_place"):
        with monkeypatch.context() as patch:
            patch.setattr(files, step, full)
            patch.setattr("vitrail.weights.folders.write_safetensors", files.write_safetensors)
            with pytest.raises(CheckpointError, match="No space left on device"):
                save_pretrained(other, folder, announce=quiet)
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
        assert [path.name for path in folder.parent.iterdir() if path.name.startswith(".")] == []


def test_a_save_replaces_a_model_in_the_same_format(folders):
    other = create_model("vit-tiny-16", dim=16, heads=2, mlp_dim=24, depth=1, image=16, patch=8, classes=3)
    for format, folder in folders.items():
        save_pretrained(other, folder, format=format, announce=quiet)
        assert from_pretrained(folder, announce=quiet).config.depth == 1


def test_a_save_into_a_folder_of_other_things_leaves_them(folders):
    (folders["vitrail"] / "metrics.jsonl").write_text("{}\n")
    other = create_model("vit-tiny-16", dim=16, heads=2, mlp_dim=24, depth=1, image=16, patch=8, classes=3)
    save_pretrained(other, folders["vitrail"], announce=quiet)
    assert from_pretrained(folders["vitrail"], announce=quiet).config.depth == 1
    assert (folders["vitrail"] / "metrics.jsonl").read_text() == "{}\n"


def test_a_crash_between_two_files_leaves_a_folder_that_is_refused(monkeypatch, folders):
    folder = folders["vitrail"]
    (folder / "metrics.jsonl").write_text("{}\n")
    other = create_model("vit-tiny-16", dim=16, heads=2, mlp_dim=24, depth=1, image=16, patch=8, classes=4)
    other.card = dataclasses.replace(other.card, notes="another")
    whole = {path.name: path.read_bytes() for path in folder.iterdir()}
    replace = Path.replace
    for survived in range(1, 4):
        done = []

        def crash(path: Path, target: Path, done=done, survived=survived) -> Path:
            if len(done) == survived:
                raise KeyboardInterrupt
            done.append(target)
            return replace(path, target)

        with monkeypatch.context() as patch:
            patch.setattr(Path, "replace", crash)
            with pytest.raises(KeyboardInterrupt):
                save_pretrained(other, folder, announce=quiet)
        with monkeypatch.context() as patch:
            refused(patch, folder, "not as it was written")
        for name, content in whole.items():
            (folder / name).write_bytes(content)


def test_a_folder_that_holds_another_format_is_left_alone(folders):
    with pytest.raises(ConfigError, match="already holds a model in the format transformers"):
        save_pretrained(tiny(), folders["transformers"], announce=quiet)


def test_a_place_that_cannot_be_written_is_a_sentence(tmp_path):
    (tmp_path / "file").write_text("x")
    for target in (tmp_path / "file", tmp_path / "file" / "deeper"):
        with pytest.raises(CheckpointError, match="could not be written"):
            save_pretrained(tiny(), target, announce=quiet)
    assert (tmp_path / "file").read_text() == "x"


def test_a_format_that_nobody_writes_lists_those_that_are(tmp_path):
    with pytest.raises(ConfigError, match=r"no format called 'onnx'.*There are: timm, transformers, vitrail"):
        save_pretrained(tiny(), tmp_path / "x", format="onnx", announce=quiet)
