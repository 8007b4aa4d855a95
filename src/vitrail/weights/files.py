"""Files of tensors, read so that nothing in them can run, mislead or stall, and written so that nothing is half there.

Whatever is wrong with a file is one `CheckpointError`: it is a device or a pipe, cut short, has a header that is too
large, holds objects instead of tensors, or numbers that are not numbers.
"""

import hashlib
import json
import math
import os
import re
import shutil
import stat
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from vitrail.errors import CheckpointError
from vitrail.writing import sync

HEADER_LIMIT = 8 * 2**20  # bytes; an 89 MB header of empty tensors costs safetensors 25 s
JSON_LIMIT = 8 * 2**20  # bytes; the labels of ImageNet-21k take 1.5 MB
DEEPEST = 8  # dictionaries around the tensors; a file can hold one that holds itself
TENSOR_LIMIT = 10_000  # ViT-g has 720
EXPANSION_LIMIT = 100  # how much a compressed archive may grow

WRAPPERS = (  # under which training scripts put the tensors; averaged ones first, as timm takes them
    *("state_dict_ema", "model_ema"),
    *("model", "state_dict", "model_state_dict", "module"),
)
FORBIDDEN = re.compile(r"GLOBAL ([\w.]+)")  # what a pickle wanted to make, in the words of torch
PREFIXES = ("module.", "_orig_mod.")  # which DataParallel and torch.compile put in front of every name


def regular(path: Path) -> Path:
    """The same path, when it is a file that can be read to its end.

    Raises:
        CheckpointError: there is nothing, or a folder, a pipe or a device.
    """
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}.") from error
    if not stat.S_ISREG(mode):
        kind = "a folder" if stat.S_ISDIR(mode) else "a device, pipe or socket"
        raise CheckpointError(f"{path} is {kind}, not a file of weights.")
    return path


def sha256(path: Path) -> str:
    """The fingerprint of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object, unless a key stands in it twice."""
    values = dict(pairs)
    if len(values) != len(pairs):
        raise ValueError("a key stands there twice")
    return values


def refuse_constant(word: str) -> None:
    """NaN and Infinity are not JSON, and no configuration means them."""
    raise ValueError(f"{word} is not a number")


def parse_json(text: bytes, name: str) -> dict[str, Any]:
    """A JSON object from bytes.

    Raises:
        CheckpointError: it is not JSON, not an object, has a key twice or is nested too deep.
    """
    try:
        values = json.loads(text, object_pairs_hook=unique, parse_constant=refuse_constant)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{name} is not valid JSON: {str(error)[:120]}.") from error
    if not isinstance(values, dict):
        raise CheckpointError(f"{name} should hold a JSON object, and holds {type(values).__name__}.")
    return values


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a small file.

    Raises:
        CheckpointError: as `regular` and `parse_json`, or the file is too large to be a configuration.
    """
    size = regular(path).stat().st_size
    if size > JSON_LIMIT:
        raise CheckpointError(f"{path} has {size:,} bytes; a configuration has at most {JSON_LIMIT:,}.")
    return parse_json(path.read_bytes(), str(path))


def check_header(path: Path) -> None:
    """Look at the header of a safetensors file before anything parses it in earnest.

    Raises:
        CheckpointError: it is longer than the file or than any real one, is not JSON, or names too many tensors.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        length = int.from_bytes(start, "little")
        if len(start) < 8 or length > size - 8:
            if start[:2] in (b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"):
                raise CheckpointError(
                    f"{path} is a pickle or zip file, not safetensors. Name it .pt if it holds only tensors."
                )
            raise CheckpointError(f"{path} is cut short or no safetensors file: {size:,} bytes hold no such header.")
        if length > HEADER_LIMIT:
            raise CheckpointError(f"{path} has a header of {length:,} bytes; at most {HEADER_LIMIT:,} are read.")
        header = file.read(length)
    if (count := header.count(b'"data_offsets"')) > TENSOR_LIMIT:
        raise CheckpointError(f"{path} names {count:,} tensors; at most {TENSOR_LIMIT:,} are read.")
    parse_json(header, f"The header of {path}")


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a safetensors file."""
    check_header(path)
    try:
        return load_file(path)
    except (SafetensorError, ValueError, KeyError, RuntimeError, OverflowError, MemoryError) as error:
        raise CheckpointError(
            f"{path} is damaged or cut short: its header lists other tensors than follow it. Copy or download it again."
        ) from error


def check_archive(path: Path) -> None:
    """Refuse a zip file that would grow out of proportion when it is opened."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise CheckpointError(f"{path} is damaged or cut short: {str(error)[:160]}.") from error
    grown = sum(member.file_size for member in members)
    if grown > EXPANSION_LIMIT * path.stat().st_size or len(members) > 2 * TENSOR_LIMIT:
        raise CheckpointError(
            f"{path} would grow to {grown:,} bytes in {len(members):,} parts when opened; it is not read."
        )


def unwrap(values: Any, path: Path) -> dict[str, Tensor]:
    """The tensors by name, out of the dictionaries that training scripts put around them."""
    for _ in range(DEEPEST):
        if not isinstance(values, dict) or any(isinstance(value, Tensor) for value in values.values()):
            break
        values = next((values[name] for name in WRAPPERS if isinstance(values.get(name), dict)), values)
    if not isinstance(values, dict) or not values:
        raise CheckpointError(f"{path} holds {type(values).__name__}, not tensors by name. Save `model.state_dict()`.")
    odd = [name for name, value in values.items() if not (isinstance(name, str) and isinstance(value, Tensor))]
    if odd:
        raise CheckpointError(f"{path} holds {odd[0]!r}, which is no tensor. Save `model.state_dict()` alone.")
    return values


def unprefixed(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors without what training wrappers put in front of every name."""
    for prefix in PREFIXES:
        if all(name.startswith(prefix) for name in tensors):
            tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    return dict(tensors)


def read_pickle(path: Path) -> dict[str, Tensor]:
    """All tensors of a file that torch saved; anything else in it is refused and nothing in it is run."""
    if zipfile.is_zipfile(path):
        check_archive(path)
    try:
        values = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the restricted unpickler raises whatever a broken or forbidden program runs into
        if (object := FORBIDDEN.search(str(error))) is None:
            raise CheckpointError(
                f"{path} is damaged, cut short, or no file that torch saved. Copy or download it again."
            ) from error
        raise CheckpointError(
            f"{path} holds {object[1]:.80}, and nothing but tensors is ever opened. On a machine you trust, load it "
            f"and save `model.state_dict()` as safetensors."
        ) from error
    tensors = unwrap(values, path)
    for name, tensor in tensors.items():
        plain = tensor.layout is torch.strided and not tensor.is_quantized and tensor.device.type == "cpu"
        if not plain or tensor.untyped_storage().nbytes() < tensor.numel() * tensor.element_size():
            raise CheckpointError(f"{path}: {name!r} is sparse, quantised or larger than its numbers; it is not read.")
    return {name: tensor.detach().contiguous() for name, tensor in tensors.items()}


def read_npz(path: Path) -> dict[str, Tensor]:
    """All arrays of a numpy archive, as the JAX checkpoints of Google are published."""
    check_archive(path)
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: from_numpy(archive[name]) for name in archive.files}
    except (ValueError, OSError, EOFError, KeyError, TypeError, MemoryError, zipfile.BadZipFile) as error:
        raise CheckpointError(f"{path} is damaged, cut short or holds objects: {str(error)[:160]}.") from error


def from_numpy(array: np.ndarray) -> Tensor:
    """A tensor; two nameless bytes are how numpy holds JAX's bfloat16."""
    if array.dtype == np.dtype("V2"):
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(np.ascontiguousarray(array.astype(array.dtype.newbyteorder("="))).reshape(array.shape))


READERS: dict[str, Callable[[Path], dict[str, Tensor]]] = {
    ".safetensors": read_safetensors,
    ".pt": read_pickle,
    ".pth": read_pickle,
    ".bin": read_pickle,
    ".npz": read_npz,
}


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a file, by their names in it.

    Raises:
        CheckpointError: it is none of the kinds we read, or not what it seems.
    """
    if path.suffix not in READERS:
        ending = f"ends in {path.suffix}" if path.suffix else "has no ending"
        raise CheckpointError(f"{path} {ending}; weights are read from {', '.join(READERS)}.")
    return READERS[path.suffix](regular(path))


def shard_names(index: Path) -> list[str]:
    """The files that an index lists.

    Raises:
        CheckpointError: it lists none, or one that is not beside it.
    """
    places = read_json(index).get("weight_map")
    if not isinstance(places, dict) or not all(isinstance(shard, str) for shard in places.values()):
        raise CheckpointError(f"{index} has no 'weight_map' of tensor names to files.")
    shards = sorted(set(places.values()))
    for shard in shards:
        if Path(shard).name != shard or shard in ("", ".", ".."):
            raise CheckpointError(
                f"{index} points at {shard!r:.80}, outside its folder; only files beside it are read."
            )
    return shards


def read_shards(index: Path) -> dict[str, Tensor]:
    """All tensors of a checkpoint in several files, which an index beside them lists.

    Raises:
        CheckpointError: a shard that is missing, outside the folder, or does not hold what the index says.
    """
    shards, places = shard_names(index), read_json(index)["weight_map"]
    beside = os.listdir(index.parent)
    for shard in shards:
        if shard not in beside:
            raise CheckpointError(f"{index} lists {shard:.80}, and it is not in the folder. Download it again.")
    tensors: dict[str, Tensor] = {}
    for shard in shards:
        held = read_tensors(index.parent / shard)
        if held.keys() != {name for name, place in places.items() if place == shard}:
            raise CheckpointError(
                f"{index.parent / shard} does not hold the tensors that {index.name} says. Download both again."
            )
        tensors |= held
    return tensors


def check_finite(tensors: Mapping[str, Tensor], source: str) -> None:
    """Refuse weights with a NaN or an infinity in them, as a diverged run leaves behind.

    Raises:
        CheckpointError: names the first tensor and how many of its numbers are bad.
    """
    for name, tensor in tensors.items():
        if not tensor.is_floating_point():
            continue
        summed = torch.float64 if tensor.dtype == torch.float64 else torch.float32  # others would be copied first
        if math.isfinite(tensor.sum(dtype=summed).item()):
            continue  # a sum with a NaN or an infinity in it is one, and needs no copy; a large sum is looked into
        if bad := int((~tensor.isfinite()).sum()):
            raise CheckpointError(f"{source}: {bad} of the {tensor.numel():,} numbers in {name!r} are NaN or infinite.")


def write_json(path: Path, values: Any) -> None:
    """JSON that a person can read."""
    path.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def write_safetensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Tensors with a header; each gets storage of its own."""
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    owners: set[int] = set()
    for name, tensor in plain.items():
        if tensor.untyped_storage().data_ptr() in owners:
            plain[name] = tensor.clone()
        owners.add(plain[name].untyped_storage().data_ptr())
    path.touch()
    readers = path.stat().st_mode  # as the umask has it; safetensors would let nobody but the owner read
    save_file(plain, path, dict(metadata or {}))
    path.chmod(stat.S_IMODE(readers))


def write_folder(folder: Path, write: Callable[[Path], None], last: str) -> None:
    """Make a folder of files appear at once.

    The files are written beside it, reach the disk, and only then take their place: by one rename where the folder is
    new or holds nothing but files of these names, else file by file, `last` at the end; other files stay.

    Args:
        folder: where they go.
        write: writes them into the folder it is given.
        last: the file without which the others are not believed.

    Raises:
        CheckpointError: the disk is full, or the place cannot be written to.
    """
    folder = folder.resolve()
    draft = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".tmp", dir=folder.parent))
        draft.chmod(0o755)
        write(draft)
        for path in draft.iterdir():
            sync(path)
        sync(draft)
        put_in_place(draft, folder, last)
        sync(folder.parent)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"{folder} could not be written: {error}. What was there before is still there."
        ) from error
    finally:
        if draft is not None:
            shutil.rmtree(draft, ignore_errors=True)


def put_in_place(draft: Path, folder: Path, last: str) -> None:
    """Rename what is written to where it belongs."""
    names = {path.name for path in draft.iterdir()}
    if not folder.exists():
        draft.rename(folder)
    elif {path.name for path in folder.iterdir()} <= names:
        old = draft.with_suffix(".old")
        folder.rename(old)
        draft.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
    else:
        for name in sorted(names, key=lambda name: name == last):
            (draft / name).replace(folder / name)
        sync(folder)
