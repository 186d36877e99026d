"""A folder of images: `train/<class>/*` with `test/<class>/*`, or a `labels.csv` (docs/data.md).

If they fit into memory, the images are decoded once and cached as one tensor in the folder, so that the next
run starts at once. Otherwise they are streamed: worker processes decode them ahead of their use. Both ways
give bit-identical batches.
"""

import math
import os
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Annotated

import PIL
import torch
from annotated_types import Ge, Lt
from torch import Tensor
from tqdm import tqdm

from ..core.contracts import Count, FilePath, Fraction
from ..core.errors import BadInput, require
from ..core.registry import datasets
from .base import Dataset, Split, level_counts, statistics_of
from .cache import cached
from .decoding import VERSION, CenterCrop, decode
from .files import Files
from .listing import Listing, list_images

MEMORY = 1 / 4  # fraction that the images may take: working with them takes as much again, for a while
PART = 50  # images that are measured at once


# The numbers of images and classes are known only once the folder is read.
@datasets.register("folder:<path>", augment=("crop", "flip"))
def folder(
    root: Path,
    path: FilePath,  # folder with train/ and test/, or with a labels.csv
    image_size: Count = 32,  # side of the square that the centre of an image is resized to
    workers: Annotated[int, Ge(0)] = 4,  # worker processes of a stream (0: none), else decoding threads
    stream: bool | None = None,  # read images when needed; none: if all take over 1/4 of the memory
    train_size: Count | None = None,  # streamed: side of training images before crops; none: image_size
    test_crop: Fraction = 1.0,  # streamed: fraction of the shorter side in evaluation; ImageNet's is 0.875
    test_part: Annotated[float, Ge(0), Lt(1)] = 0.0,  # fraction to test on where there is no test set
) -> Dataset:
    """Your own images: one sub-folder a class, in any format that Pillow reads.

    Mean and deviation are those of all training images.

    Raises:
        ValueError: an option is out of range.
        BadInput: the folder has another structure, or an image cannot be read.
    """
    require(train_size is None or train_size >= image_size, "train_size", "at least image_size", train_size)
    crop, train_crop = CenterCrop(image_size, test_crop), CenterCrop(train_size or image_size)
    differ = crop != train_crop  # one tensor of decoded images cannot hold both
    rule = "true where train_size or test_crop is given"
    require(not differ or stream is not False, "stream", rule, stream)
    listing = list_images(Path(path).absolute(), test_part)
    if stream is None:
        stream = differ or len(listing) * 3 * image_size**2 > MEMORY * memory()
    if stream:
        contents = partial(
            _cached, "checksums", listing, root, crop.size, partial(_checksums, listing, workers)
        )
        places = torch.arange(len(listing))
        whole = Files(listing, places, listing.y, crop, train_crop, workers, contents)
        counts = _cached("measured", listing, root, crop.size, partial(_measure, whole))["counts"]
    else:
        decoded = _cached("decoded", listing, root, crop.size, partial(_decode, listing, crop, workers))
        whole, counts = Split(decoded["x"], listing.y), decoded["counts"]
    splits = {part: whole.take(places) for part, places in listing.places().items()}
    mean, std = statistics_of(counts)
    return Dataset(
        classes=listing.classes, mean=mean, std=std, test_crop=test_crop, notes=(listing.summary(),), **splits
    )


def _cached(
    what: str, listing: Listing, root: Path, size: int, compute: Callable[[], dict[str, Tensor]]
) -> dict[str, Tensor]:
    """What `compute` gives for the files: again where one of them or the decoder changes."""
    places = listing.places()["train"] if what == "measured" else slice(None)
    key = f"decoder {VERSION}, Pillow {PIL.__version__}: {listing.state(places, size)}"
    return cached(listing.base, root, f"{what}-{size}px", key, compute)


def _measure(whole: Files) -> dict[str, Tensor]:
    """The level counts of all training images."""
    train = whole.take(whole.listing.places()["train"])
    parts = torch.arange(len(train)).split(PART)
    images = train.read(parts, CenterCrop(train.crop.size))
    images = tqdm(images, "measuring", len(parts), unit=f"{PART} images", disable=None)
    return {"counts": sum(map(level_counts, images))}


def _checksums(listing: Listing, workers: int) -> dict[str, Tensor]:
    """CRC-32 of each file."""

    def checksum(place: int) -> int:
        try:
            return zlib.crc32(Path(listing.path(place)).read_bytes())
        except OSError as error:
            raise BadInput(f"cannot read {error.filename}: {error.strerror}; repair or remove it") from error

    with ThreadPoolExecutor(max(1, workers)) as pool:
        found = pool.map(checksum, range(len(listing)))
        found = list(tqdm(found, "checking", len(listing), unit="image", disable=None))
    return {"checksums": torch.tensor(found)}


def _decode(listing: Listing, crop: CenterCrop, workers: int) -> dict[str, Tensor]:
    """All images, and the level counts of those for training."""
    x = torch.empty(len(listing), 3, crop.size, crop.size, dtype=torch.uint8)
    with ThreadPoolExecutor(max(1, workers)) as pool:
        files = (Path(listing.path(place)) for place in range(len(listing)))
        images = pool.map(partial(decode, crop=crop), files)
        for place, image in enumerate(tqdm(images, "decoding", len(x), unit="image", disable=None)):
            x[place] = image
    return {"x": x, "counts": sum(map(level_counts, x[listing.places()["train"]].split(PART)))}


def memory() -> float:
    """Bytes of memory that this machine has, or that its container may use; infinite where unknown."""
    if not hasattr(os, "sysconf"):  # Windows
        return math.inf
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = Path("/sys/fs/cgroup/memory.max")
    text = limit.read_text().strip() if limit.exists() else "max"
    return min(total, int(text)) if text.isdigit() else total
