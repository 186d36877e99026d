"""Atomic writes: files are written under a temporary name and renamed, so that readers never see a part."""

import contextlib
import os
from pathlib import Path

from .errors import BadInput


def write_atomic(path: Path, data: bytes | str) -> None:
    """Replace `path` by `data`, or leave it as it was: BadInput if it cannot be written."""
    data = data.encode() if isinstance(data, str) else data
    # A run folder has one writer, so a fixed name is enough, and a killed run leaves at most one such file.
    partial = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(partial, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise unwritable(path, error) from error


def unwritable(path: Path, error: OSError) -> BadInput:
    """The error for a file that cannot be written."""
    return BadInput(
        f"cannot write {path}: {error.strerror}; the earlier file is untouched. Free some space, or give "
        "another folder with --output-dir, and run the same command again"
    )
