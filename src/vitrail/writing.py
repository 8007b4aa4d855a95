"""Files that are written whole or not at all."""

import os
from pathlib import Path


def write_whole(path: Path, content: str | bytes) -> Path:
    """Put a file in its place all at once, and give its path; what stood there stays until then, and if that fails.

    Text is written in UTF-8, and what UTF-8 cannot hold is spelled out.

    Raises:
        OSError: it cannot be written; names the file.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        draft.write_bytes(content.encode("utf-8", "backslashreplace") if isinstance(content, str) else content)
        draft.replace(path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(path)) from error
    return path
