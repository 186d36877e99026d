"""The types of a data set, and parts of one: a validation part, a fraction."""

import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from ..core.contracts import Fraction, validated
from ..core.errors import BadInput, require
from ..core.files import user_path
from ..core.rng import Rng
from .decoding import MODES, CenterCrop, decode

MIN_STD = 1 / 255  # one level: the deviation of a channel that has the same level in all images is 0


@dataclass(frozen=True)
class Split:
    """Images and their classes, all in memory; `lib.data.files` has splits that are read from files."""

    identity: ClassVar[str] = "pixels"  # what `evidence` gives

    x: Tensor  # (N, C, H, W) uint8
    y: Tensor  # (N,) int64
    soft: Tensor | None = None  # (N, K) probabilities where annotators disagree; y then holds the likeliest

    def __len__(self) -> int:
        return len(self.x)

    @property
    def _tensors(self) -> tuple[Tensor, ...]:
        return (self.x, self.y) if self.soft is None else (self.x, self.y, self.soft)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of an image."""
        return tuple(self.x.shape[1:])

    def take(self, index: Tensor | slice) -> "Split":
        return Split(*(tensor[index] for tensor in self._tensors))

    def to(self, device: torch.device | str) -> "Split":
        return Split(*(tensor.to(device) for tensor in self._tensors))

    def read(self, parts: Iterable[Tensor | slice]) -> Iterator[Tensor]:
        """The images of each part of the split, (n, C, H, W) uint8 on their device."""
        return (self.x[part] for part in parts)

    def evidence(self) -> Iterator[bytes | np.ndarray]:
        """The bytes that identify the split."""
        return (tensor.cpu().contiguous().numpy() for tensor in self._tensors)


def fingerprint(split: Split) -> str:
    """Sixteen hexadecimal digits of the images and classes, in their order."""
    digest = hashlib.sha256()
    for part in split.evidence():
        digest.update(part)
    return digest.hexdigest()[:16]


def check_batch(batch_size: int, images: int) -> None:
    """Raise BadInput unless a batch of this size can be drawn from this number of images."""
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
    test_crop: float = 1.0  # fraction of an image file's shorter side that evaluation sees
    val: Split | None = None  # images for validation, where the data set has them
    notes: tuple[str, ...] = ()  # lines on what was read and what was left out


@dataclass(frozen=True)
class DataSpec:
    """What a network needs to know of its data set to be used without it."""

    shape: tuple[int, int, int]  # (C, H, W) of an image
    classes: tuple[str, ...]  # in the order of the logits
    mean: tuple[float, ...]  # of each channel: what pixels are normalised with, on the scale 0 to 1
    std: tuple[float, ...]
    test_crop: float = 1.0  # as in `Dataset`

    def read(self, path: str | Path) -> Tensor:
        """The image in a file as evaluation sees those of the data set: (C, S, S) uint8.

        Raises:
            BadInput: it cannot be read, or the images of the data set are neither square RGB nor grey.
        """
        channels, height, width = self.shape
        if channels not in MODES or height != width:
            raise BadInput(f"{path} cannot be turned into an image of shape {self.shape}")
        return decode(path, CenterCrop(height, self.test_crop), channels)

    def differences(self, other: "DataSpec") -> str:
        """How the classes and images of another data set differ from these, in words; "" if they do not."""
        found = []
        for kind, mine, theirs in (
            ("missing", self.classes, other.classes),
            ("new", other.classes, self.classes),
        ):
            if names := [name for name in mine if name not in theirs]:
                more = f" and {len(names) - 5} more" if len(names) > 5 else ""
                found.append(f"{kind} classes: {', '.join(names[:5])}{more}")
        if self.classes != other.classes and not found:
            found.append(f"another order of the classes: {', '.join(other.classes[:5])}...")
        if self.shape != other.shape:
            found.append(f"images of {other.shape} instead of {self.shape}")
        return "; ".join(found)


def data_root(root: str | None) -> Path:
    """The folder of the data sets: `root` if given, else $DATA_DIR, else ./data."""
    return user_path(root or os.environ.get("DATA_DIR") or "data")


def hold_out(split: Split, val: float, num_classes: int) -> tuple[Split, Split]:
    """Split off a stratified validation part, which is the same for every seed of a run.

    Args:
        val: a fraction if below 1, else a number of images; 0 holds out nothing.
    Returns:
        The remaining images and those held out, both in their original order.
    Raises:
        ValueError: `val` is not a number of images, or leaves either part too small for one image per class.
    """
    count = round(val * len(split)) if val < 1 else val
    if val and (count != int(count) or not num_classes <= count <= len(split) - num_classes):
        raise ValueError(
            "val must be 0, a fraction below 1 or a number of images, and leave an image per class in both "
            f"({num_classes} to {len(split) - num_classes} of {len(split)} images), got {val}"
        )
    if not count:  # no copy: several runs on one device share the images
        return split, split.take(slice(0))
    order = stratified_order(split.y)
    held, kept = order[: int(count)], order[int(count) :]
    return split.take(kept.sort().values), split.take(held.sort().values)


@validated
def fraction(split: Split, fraction: Fraction) -> Split:
    """A stratified part of a split, the same in every run; a smaller part lies within every larger one.

    Raises:
        ValueError: `fraction` is not in (0, 1], or leaves no image.
    """
    count = round(fraction * len(split))
    require(count > 0, "fraction", f"large enough to leave one of {len(split)} images", fraction)
    return split.take(stratified_order(split.y)[:count].sort().values) if fraction < 1 else split


def channel_statistics(x: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel of (N, C, H, W) uint8 images, on the scale 0 to 1."""
    return statistics_of(level_counts(x))


def level_counts(x: Tensor) -> Tensor:
    """(C, 256) histogram of each channel of (N, C, H, W) uint8 images."""
    # Counted, because a float copy would take four times the memory.
    return torch.stack([torch.bincount(channel.flatten(), minlength=256) for channel in x.unbind(1)])


def statistics_of(counts: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel, on the scale 0 to 1, from the counts of its levels.

    The deviation is at least MIN_STD, because pixels are divided by it.
    """
    levels = torch.arange(256, dtype=torch.float64) / 255
    means, stds = [], []
    for channel in counts:
        density = channel.double() / channel.sum()
        mean = (density * levels).sum()
        means.append(mean.item())
        stds.append((density * (levels - mean) ** 2).sum().sqrt().clamp(min=MIN_STD).item())
    return tuple(means), tuple(stds)


def stratified_order(y: Tensor) -> Tensor:
    """A fixed permutation of the images of which every prefix is stratified by class."""
    shuffled = Rng("stratify").permutation(len(y))
    by_class = shuffled[y[shuffled].argsort(stable=True)]
    sizes = y.bincount()
    starts = sizes.cumsum(0) - sizes
    labels = y[by_class]
    # Image r of the n of a class is at (r + 1/2) / n: in every prefix each class is right to half an image.
    place = (torch.arange(len(y)) - starts[labels] + 0.5).double() / sizes[labels]
    return by_class[place.argsort(stable=True)]
