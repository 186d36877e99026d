"""A folder of images: `train/<class>/*` with `test/<class>/*` (or `val/<class>/*` without a `test/`).

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

import torch
from annotated_types import Ge
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
SAMPLE = 5_000  # images for mean and deviation, which for 1,000 classes are right to within 0.003
PART = 50  # images of the sample that a worker reads at once


# The numbers of images and classes are known only once the folder is read.
@datasets.register("folder:<path>", augment=("crop", "flip"))
def folder(
    root: Path,
    path: FilePath,  # folder with train/ and test/
    image_size: Count = 32,  # side of the square that the centre of an image is resized to
    workers: Annotated[int, Ge(0)] = 4,  # worker processes of a stream (0: none), else decoding threads
    stream: bool | None = None,  # read images when needed; none: if all take over 1/4 of the memory
    train_size: Count | None = None,  # streamed: side of training images before crops; none: image_size
    test_crop: Fraction = 1.0,  # streamed: fraction of the shorter side in evaluation; ImageNet's is 0.875
) -> Dataset:
    """Your own images: one sub-folder a class, in any format that Pillow reads.

    Mean and deviation are those of at most 5,000 training images, evenly spaced over the classes.

    Raises:
        ValueError: an option is out of range.
        BadInput: the folder has another structure, or an image cannot be read.
    """
    require(train_size is None or train_size >= image_size, "train_size", "at least image_size", train_size)
    crop, train_crop = CenterCrop(image_size, test_crop), CenterCrop(train_size or image_size)
    differ = crop != train_crop  # one tensor of decoded images cannot hold both
    rule = "true where train_size or test_crop is given"
    require(not differ or stream is not False, "stream", rule, stream)
    listing = list_images(Path(path).absolute())
    if stream is None:
        stream = differ or len(listing) * 3 * image_size**2 > MEMORY * memory()
    if stream:
        train, test, counts = _streamed(listing, root, crop, train_crop, workers)
    else:
        train, test, counts = _resident(listing, root, crop, workers)
    return Dataset(train, test, listing.classes, *statistics_of(counts), test_crop=test_crop)


def _resident(listing: Listing, root: Path, crop: CenterCrop, workers: int) -> tuple[Split, Split, Tensor]:
    """Both splits, and the level counts of the sample."""
    everything = torch.arange(len(listing))
    x = _cached("decoded", listing, root, everything, crop.size, partial(_decode_all, listing, crop, workers))
    count, y = listing.count, listing.y
    return Split(x[:count], y[:count]), Split(x[count:], y[count:]), level_counts(x[_sample(count)])


def _streamed(
    listing: Listing, root: Path, crop: CenterCrop, train_crop: CenterCrop, workers: int
) -> tuple[Files, Files, Tensor]:
    """Both splits, and the level counts of the sample."""
    everything = torch.arange(len(listing))
    checksums = partial(_checksums, listing, workers)
    contents = partial(_cached, "checksums", listing, root, everything, crop.size, checksums)
    files = Files(listing, everything, listing.y, crop, train_crop, workers, contents)
    train, test = files.take(slice(listing.count)), files.take(slice(listing.count, None))
    sample = _sample(listing.count)
    count_levels = partial(_count_levels, train.take(sample), CenterCrop(crop.size))
    return train, test, _cached("measured", listing, root, sample, crop.size, count_levels)


def _cached(
    what: str, listing: Listing, root: Path, places: Tensor, size: int, compute: Callable[[], Tensor]
) -> Tensor:
    """What `compute` gives for the files at these places: again where one of them or the decoder changes."""
    key = f"decoder {VERSION}: {listing.state(places, size)}"
    return cached(listing.base, root, f"{what}-{size}px", key, compute)


def _sample(count: int) -> Tensor:
    """The indices of SAMPLE training images, or of all, evenly spaced over the classes."""
    return torch.arange(min(count, SAMPLE)) * count // min(count, SAMPLE)


def _count_levels(split: Files, crop: CenterCrop) -> Tensor:
    parts = torch.arange(len(split)).split(PART)
    images = tqdm(split.read(parts, crop), "measuring", len(parts), unit=f"{PART} images", disable=None)
    return sum(map(level_counts, images))


def _checksums(listing: Listing, workers: int) -> Tensor:
    """(N,) CRC-32 of each file."""

    def checksum(place: int) -> int:
        try:
            return zlib.crc32(Path(listing.path(place)).read_bytes())
        except OSError as error:
            raise BadInput(f"cannot read {error.filename}: {error.strerror}; repair or remove it") from error

    with ThreadPoolExecutor(max(1, workers)) as pool:
        found = pool.map(checksum, range(len(listing)))
        return torch.tensor(list(tqdm(found, "checking", len(listing), unit="image", disable=None)))


def _decode_all(listing: Listing, crop: CenterCrop, workers: int) -> Tensor:
    x = torch.empty(len(listing), 3, crop.size, crop.size, dtype=torch.uint8)
    with ThreadPoolExecutor(max(1, workers)) as pool:
        files = (Path(listing.path(place)) for place in range(len(listing)))
        images = pool.map(partial(decode, crop=crop), files)
        for place, image in enumerate(tqdm(images, "decoding", len(x), unit="image", disable=None)):
            x[place] = image
    return x


def memory() -> float:
    """Bytes of memory that this machine has, or that its container may use; infinite where unknown."""
    if not hasattr(os, "sysconf"):  # Windows
        return math.inf
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = Path("/sys/fs/cgroup/memory.max")
    text = limit.read_text().strip() if limit.exists() else "max"
    return min(total, int(text)) if text.isdigit() else total
