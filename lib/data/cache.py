"""A cache of what is slow to compute from a folder of images, in a file next to them."""

import hashlib
import io
import os
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from filelock import FileLock
from torch import Tensor

from ..core.files import load_archive


def cached(base: Path, root: Path, name: str, key: str, compute: Callable[[], Tensor]) -> Tensor:
    """The tensor in the file `name`.pt if it was computed under the same key, else a new one, stored there.

    Runs that start together wait for the first of them, which computes it.

    Args:
        base: the folder of images; where it is read-only, the file is under `root`.
    """
    path = base / f"{name}.pt"
    if not os.access(base, os.W_OK):
        digest = hashlib.blake2b(str(base).encode(), digest_size=4).hexdigest()
        path = root / f"{base.name}-{digest}-{name}.pt"
    x = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_name(f".{path.name}.lock")):
            if (x := _load(path, key)) is None:
                x = compute()
                buffer = io.BytesIO()  # in memory first, because torch.save hides the errors of a file
                torch.save({"key": key, "x": x}, buffer)
                path.write_bytes(buffer.getbuffer())
    except OSError as error:
        warnings.warn(
            f"the {name.partition('-')[0]} images are not cached: cannot write {path}: {error.strerror}",
            stacklevel=2,
        )
    return compute() if x is None else x


def _load(path: Path, key: str) -> Tensor | None:
    try:
        cache = load_archive(path)
    except Exception:  # missing, or damaged: either way it is computed again
        return None
    return cache["x"] if cache.get("key") == key else None
