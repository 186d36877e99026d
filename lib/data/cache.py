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

from ..core.files import load_archive, replace_file


def cached(
    base: Path, root: Path, name: str, key: str, compute: Callable[[], dict[str, Tensor]]
) -> dict[str, Tensor]:
    """The tensors in the file `name`.pt if they have the same key, else new ones, stored there.

    Runs that start together wait for the first of them, which computes them.

    Args:
        base: the folder of images; where it is read-only, the file is under `root`.
    """
    path = base / f"{name}.pt"
    if not os.access(base, os.W_OK):
        digest = hashlib.blake2b(os.fsencode(base), digest_size=4).hexdigest()
        path = root / f"{base.name}-{digest}-{name}.pt"
    tensors = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_name(f".{path.name}.lock")):
            if (tensors := _load(path, key)) is None:
                tensors = compute()
                buffer = io.BytesIO()  # in memory first, because torch.save hides the errors of a file
                torch.save({"key": key, "tensors": tensors}, buffer)
                replace_file(path, buffer.getbuffer())
    except OSError as error:
        warnings.warn(
            f"the {name.partition('-')[0]} images are not cached: cannot write {path}: {error.strerror}",
            stacklevel=2,
        )
    return compute() if tensors is None else tensors


def _load(path: Path, key: str) -> dict[str, Tensor] | None:
    try:
        cache = load_archive(path)
    except Exception:  # missing, or damaged: either way it is computed again
        return None
    return cache["tensors"] if cache.get("key") == key else None
