"""How much memory there is, and memory on CPU that is kept for the next step instead of being handed back.

Linux's C library gives large pieces of memory back as soon as they are free, and asks for them again at the next
layer; the system clears every page first. In a step of ViT-S/16 in float32 that took a sixth of the time (benchmarks/).
"""

import ctypes
import os
import sys
from functools import cache
from pathlib import Path

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # what malloc.h calls them
LIMIT = Path("/sys/fs/cgroup/memory.max")  # of a container; "max" where there is none
LARGEST_BLOCK = 2**25  # bytes; glibc takes no larger threshold


def physical_memory() -> int | None:
    """Bytes of memory of this machine, or of the container around us, where the system says so (Linux, macOS)."""
    names = getattr(os, "sysconf_names", {})
    if not {"SC_PHYS_PAGES", "SC_PAGE_SIZE"} <= set(names):
        return None
    whole = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        limit = LIMIT.read_text(encoding="ascii").strip()
    except OSError:
        return whole
    return min(whole, int(limit)) if limit.isdecimal() else whole


@cache
def keep_freed_memory() -> bool:
    """Ask the C library to keep what is freed, for the rest of the process.

    Leaves alone whoever has set `MALLOC_TRIM_THRESHOLD_` or another of the allocator's settings by hand.

    Returns:
        Whether the C library is one that takes such wishes (glibc).
    """
    by_hand = any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ)
    if not sys.platform.startswith("linux") or by_hand:
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and bool(mallopt(MMAP_THRESHOLD, LARGEST_BLOCK) and mallopt(TRIM_THRESHOLD, 2**31 - 1))
