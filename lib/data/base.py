"""What a dataset is, and the parts that are cut from one: a validation part, a fraction."""

import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..core.errors import BadInput
from ..core.rng import Rng


@dataclass(frozen=True)
class Split:
    """Images and their classes, whole in memory; `lib.data.files` has those that are read from files."""

    x: Tensor  # (N, C, H, W) uint8
    y: Tensor  # (N,) int64

    def __len__(self) -> int:
        return len(self.x)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of an image: C, H, W."""
        return tuple(self.x.shape[1:])

    def take(self, index: Tensor | slice) -> "Split":
        return Split(self.x[index], self.y[index])

    def to(self, device: torch.device | str) -> "Split":
        return Split(self.x.to(device), self.y.to(device))

    def read(self, parts: Iterable[Tensor | slice]) -> Iterator[Tensor]:
        """The images of each part of the split, (n, C, H, W) uint8 on their device."""
        return (self.x[part] for part in parts)

    def evidence(self) -> Iterator[bytes | np.ndarray]:
        """What tells this split from any other."""
        return (tensor.cpu().contiguous().numpy() for tensor in (self.x, self.y))


def fingerprint(split: Split) -> str:
    """Sixteen hexadecimal digits of the images and classes, in their order.

    Of images in files it is made of the files' names and sizes, for to read all of them takes too long.
    """
    digest = hashlib.sha256()
    for part in split.evidence():
        digest.update(part)
    return digest.hexdigest()[:16]


def check_batch(batch_size: int, images: int) -> None:
    """Refuse a batch that cannot be drawn from so many images."""
    if not 0 < batch_size <= images:
        raise BadInput(
            f"a batch of {batch_size} images cannot be drawn from a training set of {images}; "
            f"give a --batch-size from 1 to {images}, or a larger fraction of the data"
        )


@dataclass(frozen=True)
class Dataset:
    train: Split
    test: Split
    classes: tuple[str, ...]
    mean: tuple[float, ...]  # of each channel of the training images, on the scale 0 to 1
    std: tuple[float, ...]


def data_root(root: str | None) -> Path:
    """Where data are kept: `root` if given, else $DATA_DIR, else ./data."""
    return Path(root or os.environ.get("DATA_DIR") or "data").expanduser()


def hold_out(split: Split, val: float, num_classes: int) -> tuple[Split, Split]:
    """Split off a validation part that holds each class in its share and is the same whatever the run's seed.

    Args:
        val: a share if below 1, else a number of images; 0 holds out nothing.
    Returns:
        The images that stay and those held out, both in their original order.
    Raises:
        ValueError: `val` is no number of images, or leaves either part too small for one image a class.
    """
    count = round(val * len(split)) if val < 1 else val
    if val and (count != int(count) or not num_classes <= count <= len(split) - num_classes):
        raise ValueError(
            f"val must be 0, a share below 1 or a number of images, and leave an image a class to both parts "
            f"({num_classes} to {len(split) - num_classes} of {len(split)} images), got {val}"
        )
    if not count:  # not even a copy: several runs on one device share the images
        return split, split.take(slice(0))
    order = stratified_order(split.y)
    held, kept = order[: int(count)], order[int(count) :]
    return split.take(kept.sort().values), split.take(held.sort().values)


def fraction(split: Split, share: float) -> Split:
    """The same part of a split in every run, with each class in its share; smaller parts lie within larger.

    Raises:
        ValueError: `share` is not in (0, 1], or leaves no image.
    """
    count = round(share * len(split))
    if not 0 < share <= 1 or not count:
        raise ValueError(f"share must be above 0, at most 1 and leave an image of {len(split)}, got {share}")
    return split.take(stratified_order(split.y)[:count].sort().values) if share < 1 else split


def channel_statistics(x: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel of (N, C, H, W) uint8 images, on the scale 0 to 1."""
    return statistics_of(level_counts(x))


def level_counts(x: Tensor) -> Tensor:
    """(C, 256) how many values of each channel of (N, C, H, W) uint8 images are at each level."""
    # Counted and not cast: a float copy would be four times the data.
    return torch.stack([torch.bincount(channel.flatten(), minlength=256) for channel in x.unbind(1)])


def statistics_of(counts: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel, on the scale 0 to 1, from the counts of its levels."""
    levels = torch.arange(256, dtype=torch.float64) / 255
    means, stds = [], []
    for channel in counts:
        share = channel.double() / channel.sum()
        mean = (share * levels).sum()
        means.append(mean.item())
        stds.append((share * (levels - mean) ** 2).sum().sqrt().item())
    return tuple(means), tuple(stds)


def stratified_order(y: Tensor) -> Tensor:
    """A fixed permutation of the images, of which any first part holds each class in its share."""
    shuffled = Rng("stratify").permutation(len(y))
    by_class = shuffled[y[shuffled].argsort(stable=True)]
    sizes = y.bincount()
    starts = sizes.cumsum(0) - sizes
    labels = y[by_class]
    # Image r of a class of n stands at (r + 1/2) / n: wherever it is cut, shares are right to half an image.
    place = (torch.arange(len(y)) - starts[labels] + 0.5).double() / sizes[labels]
    return by_class[place.argsort(stable=True)]
