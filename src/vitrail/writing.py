"""Files that are written whole or not at all."""

import os
from pathlib import Path

MOST = 200  # letters of a name that its draft keeps: file systems end at 255 bytes


def sync(path: Path) -> None:
    """Make sure that a file, or the list of files in a folder, has reached the disk.

    Windows writes such lists by itself, and only files that are open for writing.
    """
    windows = os.name == "nt"
    if windows and path.is_dir():
        return
    handle = os.open(path, os.O_RDWR if windows else os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_whole(path: Path, content: str | bytes, *, durable: bool = False) -> Path:
    """Put a file in its place all at once, and give its path; what stood there stays until then, and if that fails.

    Text is written in UTF-8, and what UTF-8 cannot hold is spelled out.

    Args:
        path: where.
        content: what.
        durable: wait until it has reached the disk, so that it outlives a power cut too.

    Raises:
        OSError: it cannot be written; names the file.
    """
    draft = path.with_name(f".{path.name[:MOST]}.{os.getpid()}.tmp")
    try:
        draft.write_bytes(content.encode("utf-8", "backslashreplace") if isinstance(content, str) else content)
        if durable:
            sync(draft)
        draft.replace(path)
        if durable:
            sync(path.parent)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(path)) from error
    return path
