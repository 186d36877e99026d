"""A folder of images: `train/<class>/*` with `test/<class>/*` (or `val/<class>/*` without a `test/`).

Where they fit into memory the images are decoded once and kept as one tensor beside them, so that the next
run starts at once. Else they are streamed: decoded by processes that run ahead, whenever they are needed.
Either way a run learns the same, bit for bit.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from ..core.errors import require
from ..core.registry import datasets
from .base import Dataset, Split, level_counts, statistics_of
from .cache import kept
from .decoding import View, decode
from .files import Files
from .listing import Listing, list_images

SHARE = 1 / 4  # of the memory: what else is done with the images takes as much again, for a while
SAMPLE = 5_000  # images whose mean and deviation stand for all: those of 1,000 classes to within 0.003
PART = 50  # images of the sample that a process reads at once


# How many images and classes there are is known only from the folder itself.
@datasets.register("folder:<path>", augment=("crop", "flip"))
def folder(
    root: Path,
    offline: bool,
    path: str,  # the folder that holds train/ and test/
    image_size: int = 32,  # side of the square: the shorter side is resized to it, then a centre crop
    workers: int = 4,  # processes that read streamed images ahead (0: none), or threads that decode all once
    stream: bool | None = None,  # read images as they are needed; none: if all take over 1/4 of the memory
    train_size: int | None = None,  # streamed: side of the squares that training cuts from; none: image_size
    test_crop: float = 1.0,  # streamed: part of the shorter side that evaluation sees; ImageNet's is 0.875
) -> Dataset:
    """Your own images: one sub-folder a class, in any format that Pillow reads.

    Mean and deviation are those of at most 5,000 training images, evenly spaced over the classes.

    Raises:
        ValueError: an option is out of its range.
        BadInput: the folder is not of this form, or an image cannot be read.
    """
    require(image_size >= 1, "image_size", "at least 1", image_size)
    require(workers >= 0, "workers", "at least 0", workers)
    require(train_size is None or train_size >= image_size, "train_size", "at least image_size", train_size)
    require(0 < test_crop <= 1, "test_crop", "above 0 and at most 1", test_crop)
    view, training = View(image_size, test_crop), View(train_size or image_size)
    by_need = view != training  # then an image is not the same in training and evaluation
    rule = "true where train_size or test_crop is given"
    require(not by_need or stream is not False, "stream", rule, stream)
    listing = list_images(Path(path).expanduser().absolute())
    if stream is None:
        stream = by_need or len(listing) * 3 * image_size**2 > SHARE * memory()
    build = _streamed if stream else _resident
    train, test, counts = build(listing, root, view, training, workers)
    return Dataset(train, test, listing.classes, *statistics_of(counts))


def _resident(listing: Listing, root: Path, view: View, training: View, workers: int) -> tuple:
    """Both splits, and the counts of the levels in the sample."""
    key = listing.state(torch.arange(len(listing)), view.side)
    make = partial(_decode_all, listing, view.side, workers)
    x = kept(listing.base, root, f"decoded-{view.side}px", key, make)
    count, y = listing.count, listing.y
    return Split(x[:count], y[:count]), Split(x[count:], y[count:]), level_counts(x[_sample(count)])


def _streamed(listing: Listing, root: Path, view: View, training: View, workers: int) -> tuple:
    """Both splits, and the counts of the levels in the sample."""
    whole = Files(listing, torch.arange(len(listing)), listing.y, view, training, workers)
    train, test = whole.take(slice(listing.count)), whole.take(slice(listing.count, None))
    sample = _sample(listing.count)
    key = listing.state(sample, view.side)
    make = partial(_count_levels, train.take(sample), view.side)
    return train, test, kept(listing.base, root, f"measured-{view.side}px", key, make)


def _sample(count: int) -> Tensor:
    """The places of SAMPLE training images, or of all, from all over the set, which is sorted by classes."""
    return torch.arange(min(count, SAMPLE)) * count // min(count, SAMPLE)


def _count_levels(split: Files, side: int) -> Tensor:
    parts = torch.arange(len(split)).split(PART)
    images = tqdm(split.read(parts, View(side)), "measuring", len(parts), unit=f"{PART} images", disable=None)
    return sum(map(level_counts, images))


def _decode_all(listing: Listing, image_size: int, workers: int) -> Tensor:
    x = torch.empty(len(listing), 3, image_size, image_size, dtype=torch.uint8)
    with ThreadPoolExecutor(max(1, workers)) as pool:
        files = (Path(listing.path(place)) for place in range(len(listing)))
        images = pool.map(partial(decode, image_size=image_size), files)
        for place, image in enumerate(tqdm(images, "decoding", len(x), unit="image", disable=None)):
            x[place] = image
    return x


def memory() -> int:
    """Bytes of memory that this machine has, or that its container may use."""
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = Path("/sys/fs/cgroup/memory.max")
    text = limit.read_text().strip() if limit.exists() else "max"
    return min(whole, int(text)) if text.isdigit() else whole
