"""This machine as vitrail meets it: versions, decoders, processor, memory, and what is missing."""

import importlib.metadata
import os
import platform
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from PIL import features

CODECS = {"libjpeg_turbo": "JPEG", "zlib": "PNG", "webp": "WebP", "libtiff": "TIFF"}  # libraries inside Pillow
FEATURES = ("avx2", "avx512_f", "avx512_bf16", "avx512_vnni", "amx_bf16")  # of a processor, that change what is fast
LITTLE_SHARED_MEMORY = 256 * 2**20  # bytes; worker processes hand batches over through it
LITTLE_DISK = 5 * 2**30  # bytes; a run keeps some copies of its model and of the optimiser's state


class Finding(NamedTuple):
    """One thing that was looked at.

    Attributes:
        subject: what.
        found: in words, with numbers.
        advice: what to type or do; empty where all is well.
        needed: whether vitrail cannot work before the advice is followed.
    """

    subject: str
    found: str
    advice: str = ""
    needed: bool = False


def numbers(version: str) -> tuple[int, ...]:
    """The leading numbers of a version: (2, 13, 0) for `2.13.0+cpu`."""
    found = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(number) for number in found.group().split(".")) if found else ()


def size(quantity: float) -> str:
    """Bytes in words: `12 MB`, `1.4 GB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if quantity < 1000:
            return f"{quantity:.3g} {unit}"
        quantity /= 1000
    return f"{quantity:.3g} TB"


def package(name: str, least: str) -> Finding:
    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return Finding(name, "missing", f'pip install "{name}>={least}"', needed=True)
    if numbers(version) < numbers(least):
        return Finding(name, f"{version}, older than {least}", f'pip install --upgrade "{name}>={least}"', needed=True)
    return Finding(name, version)


def packages() -> Iterator[Finding]:
    """Everything that vitrail is built on, with the oldest version that will do."""
    for requirement in importlib.metadata.requires("vitrail") or []:
        if "extra ==" not in requirement and (parts := re.match(r"([\w.-]+)>=([\d.]+)", requirement)):
            yield package(*parts.groups())


def gensim() -> Finding:
    """What trains word vectors, which nothing else needs."""
    try:
        return Finding("gensim", importlib.metadata.version("gensim"))
    except importlib.metadata.PackageNotFoundError:
        return Finding("gensim", "not here; only `vitrail train word2vec` needs it", "pip install vitrail[gensim]")


def codecs() -> Iterator[Finding]:
    """The image decoders inside Pillow, by version: they come with it and are mended with it."""
    for library, title in CODECS.items():
        if features.check(library):
            yield Finding(f"{title} decoder", f"{library} {features.version(library)}")
        else:
            yield Finding(f"{title} decoder", "missing", "pip install --force-reinstall pillow", needed=True)


def processor() -> Finding:
    capabilities = getattr(torch.cpu, "get_capabilities", dict)()
    known = [name for name in FEATURES if capabilities.get(name)]
    name = capabilities.get("cpu_name") or platform.processor() or platform.machine()
    return Finding("processor", f"{name}: {', '.join(known) or torch.backends.cpu.get_cpu_capability()}")


def threads() -> Finding:
    used, cores = torch.get_num_threads(), os.cpu_count() or 1
    advice = "" if used >= cores // 2 else f"export OMP_NUM_THREADS={cores}"
    return Finding("threads", f"{used} on {cores} cores", advice)


def accelerator() -> Finding:
    if torch.cuda.is_available():
        device = torch.cuda.get_device_properties(0)
        return Finding("GPU", f"{device.name}, {size(device.total_memory)}, CUDA {torch.version.cuda}")
    if torch.backends.mps.is_available():
        return Finding("GPU", "Apple (mps)")
    if Path("/proc/driver/nvidia").exists():
        return Finding("GPU", "there is one, and this torch cannot use it", "install torch for CUDA, see pytorch.org")
    return Finding("GPU", "none; the processor does the work")


def hub() -> Finding:
    from huggingface_hub import constants

    offline = "; offline, as HF_HUB_OFFLINE says" if constants.HF_HUB_OFFLINE else ""
    return Finding("hub cache", f"{constants.HF_HUB_CACHE}{offline}")


def storage() -> Iterator[Finding]:
    free = shutil.disk_usage(Path.cwd()).free
    yield Finding("disk, this folder", f"{size(free)} free", "" if free > LITTLE_DISK else "make room before you train")
    shared_memory = Path("/dev/shm")
    if shared_memory.exists():
        total = shutil.disk_usage(shared_memory).total
        advice = "" if total > LITTLE_SHARED_MEMORY else "train with --workers 0, or start docker with --shm-size 1g"
        yield Finding("shared memory", size(total), advice)


def examine() -> list[Finding]:
    """Look at everything that vitrail depends on; changes nothing and asks no network."""
    return [
        Finding("vitrail", importlib.metadata.version("vitrail")),
        Finding("Python", f"{platform.python_version()} on {platform.platform(terse=True)}"),
        *packages(),
        gensim(),
        *codecs(),
        processor(),
        threads(),
        accelerator(),
        hub(),
        *storage(),
    ]
