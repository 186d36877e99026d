"""A folder of images: `train/<class>/*` with `test/<class>/*` (or `val/<class>/*` without a `test/`).

The images are decoded once and kept as one tensor beside them, so that the next run starts at once.
"""

import hashlib
import io
import os
import warnings
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from tqdm import tqdm

from lib.data.base import Dataset, Split, channel_statistics
from lib.data.lock import exclusive
from lib.errors import BadInput
from lib.registry import datasets


# How many images and classes there are is known only from the folder itself.
@datasets.register("folder:<path>", augment=("crop", "flip"))
def folder(
    root: Path,
    offline: bool,
    path: str,  # the folder that holds train/ and test/
    image_size: int = 32,  # side of the square: the shorter side is resized to it, then a centre crop
    workers: int = 4,  # threads that decode
) -> Dataset:
    """Your own images: one sub-folder a class, in any format that Pillow reads.

    Raises:
        ValueError: an option is below 1.
        BadInput: the folder is not of this form, or an image cannot be read.
    """
    for name, value in (("image_size", image_size), ("workers", workers)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    base = Path(path).expanduser().absolute()
    try:
        train, test = (_classes(part) for part in _parts(base))
        _check(base, train, test)
        files = [file for part in (train, test) for images in part.values() for file in images]
        stats = [
            (str(file.relative_to(base)), file.stat().st_size, file.stat().st_mtime_ns) for file in files
        ]
    except OSError as error:
        raise BadInput(f"cannot read {error.filename}: {error.strerror}; repair or remove it") from error
    key = hashlib.blake2b(repr((image_size, stats)).encode(), digest_size=16).hexdigest()
    x = _cached(base, root, key, files, image_size, workers)
    y = torch.tensor(
        [label for part in (train, test) for label, images in enumerate(part.values()) for _ in images]
    )
    count = sum(map(len, train.values()))
    splits = Split(x[:count], y[:count]), Split(x[count:], y[count:])
    return Dataset(*splits, tuple(train), *channel_statistics(x[:count]))


def _parts(base: Path) -> tuple[Path, Path]:
    test = base / "test" if (base / "test").is_dir() else base / "val"
    for part, names in ((base / "train", "train/"), (test, "test/ or val/")):
        if not part.is_dir():
            raise BadInput(
                f"{base} has no folder {names}; an image folder holds train/<class>/* and test/<class>/*"
            )
    return base / "train", test


def _classes(part: Path) -> dict[str, list[Path]]:
    """The files of each class. Hidden ones are those of file managers; any other must be an image."""
    names = sorted(entry.name for entry in part.iterdir() if entry.is_dir() and entry.name[0] != ".")
    return {
        name: sorted(file for file in (part / name).rglob("*") if not file.is_dir() and file.name[0] != ".")
        for name in names
    }


def _check(base: Path, train: dict[str, list[Path]], test: dict[str, list[Path]]) -> None:
    if differing := sorted(train.keys() ^ test.keys()):
        raise BadInput(
            f"the classes of the training and test images under {base} differ: "
            f"{', '.join(differing[:5])} of {len(differing)} in one only; make the sub-folders the same"
        )
    if len(train) < 2:
        raise BadInput(
            f"{base / 'train'} has {len(train)} class folders; to tell classes apart takes at least 2"
        )
    for part in (train, test):
        if empty := [name for name, images in part.items() if not images]:
            kind = "training" if part is train else "test"
            raise BadInput(
                f"class {empty[0]} has no {kind} images under {base}; add some, or remove the class"
            )


def _cached(base: Path, root: Path, key: str, files: list[Path], image_size: int, workers: int) -> Tensor:
    """The decoded images: from the cache, if it was made of the same files."""
    place = base / f"decoded-{image_size}px.pt"
    if not os.access(base, os.W_OK):
        owner = hashlib.blake2b(str(base).encode(), digest_size=4).hexdigest()
        place = root / f"{base.name}-{owner}-{image_size}px.pt"
    x = None
    try:
        with exclusive(place) as file:
            if (x := _load(file, key)) is None:
                x = _decode_all(files, image_size, workers)
                whole = io.BytesIO()  # in memory first, because torch.save hides what went wrong with a file
                torch.save({"key": key, "x": x}, whole)
                file.truncate(0)
                file.write(whole.getbuffer())
    except OSError as error:
        warnings.warn(
            f"the decoded images are not kept: cannot write {place}: {error.strerror}", stacklevel=2
        )
    return _decode_all(files, image_size, workers) if x is None else x


def _load(file: BinaryIO, key: str) -> Tensor | None:
    file.seek(0)
    try:
        kept = torch.load(file, weights_only=True)
    except Exception:  # empty, or cut off by the end of a run: whatever it is, the images are decoded again
        return None
    return kept["x"] if kept.get("key") == key else None


def _decode_all(files: list[Path], image_size: int, workers: int) -> Tensor:
    x = torch.empty(len(files), 3, image_size, image_size, dtype=torch.uint8)
    with ThreadPoolExecutor(workers) as pool:
        images = pool.map(partial(decode, image_size=image_size), files)
        for place, image in enumerate(tqdm(images, "decoding", len(files), unit="image", disable=None)):
            x[place] = image
    return x


def decode(path: Path, image_size: int) -> Tensor:
    """(3, S, S) uint8: the image as RGB, its shorter side resized to S, and the centre of it."""
    try:
        with Image.open(path) as image:
            if image.mode.startswith("I"):  # 16 bits, which Pillow cuts off at 255 instead of scaling them
                image = image.point(lambda level: level / 256).convert("L")
            image = ImageOps.fit(image.convert("RGB"), (image_size, image_size), Image.Resampling.BILINEAR)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise BadInput(f"cannot read {path} as an image ({error}); repair or remove it") from error
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)
