"""What takes long to make of a folder of images, kept in a file beside them for the next run."""

import hashlib
import io
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

from .lock import exclusive


def kept(base: Path, root: Path, name: str, key: str, make: Callable[[], Tensor]) -> Tensor:
    """What `make` gives: from the file `name`.pt, if that was made under the same key.

    Args:
        base: the folder of images; where it cannot be written to, the file lies under `root`.
    """
    place = base / f"{name}.pt"
    if not os.access(base, os.W_OK):
        owner = hashlib.blake2b(str(base).encode(), digest_size=4).hexdigest()
        place = root / f"{base.name}-{owner}-{name}.pt"
    x = None
    try:
        with exclusive(place) as file:
            if (x := _load(file, key)) is None:
                x = make()
                whole = io.BytesIO()  # in memory first, because torch.save hides what went wrong with a file
                torch.save({"key": key, "x": x}, whole)
                file.truncate(0)
                file.write(whole.getbuffer())
    except OSError as error:
        warnings.warn(
            f"the {name.partition('-')[0]} images are not kept: cannot write {place}: {error.strerror}",
            stacklevel=2,
        )
    return make() if x is None else x


def _load(file: BinaryIO, key: str) -> Tensor | None:
    file.seek(0)
    try:
        held = torch.load(file, weights_only=True)
    except Exception:  # empty, or cut off by the end of a run: whatever it is, it is made again
        return None
    return held["x"] if held.get("key") == key else None
