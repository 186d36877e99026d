"""Batches of made-up images for the tests of augmentations."""

from dataclasses import fields

import torch
import torch.nn.functional as F
from torch import Tensor

from lib.augment.pipeline import Augmentation
from lib.core.batch import Batch, PixelScale
from lib.core.facts import Stage
from lib.core.registry import Entry, augmentations

K = 5  # classes


def build(name: str, **options) -> Augmentation:
    return augmentations[name].build(**options)


def names_of(*stages: Stage) -> list[str]:
    """The augmentations of these stages."""
    return [entry.name for entry in augmentations.entries() if entry.facts.stage in stages]


def images(count: int, channels: int = 3, height: int = 32, width: int = 32, seed: int = 0) -> Tensor:
    """Random uint8 pixels, none of them black."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(1, 256, (count, channels, height, width), generator=generator).to(torch.uint8)


def numbered_pixels(count: int, channels: int = 1, height: int = 8, width: int = 8) -> Tensor:
    """Images (count, channels, height, width) of pixels 1, 2, 3... in reading order."""
    return torch.arange(1, height * width + 1).view(1, 1, height, width).repeat(count, channels, 1, 1)


def batch_of(x: Tensor, y: Tensor | None = None, epoch: int = 3) -> Batch:
    """A batch of images, with indices from 10 on. Black is -2 and white 2 for float images."""
    index = torch.arange(len(x))
    ends = torch.full((2, x.shape[1], 1, 1), 2.0)
    scale = PixelScale(black=-ends[0], white=ends[1]) if x.is_floating_point() else None
    y = F.one_hot(index % K, K).float() if y is None else y
    return Batch(x, y, index + 10, epoch, scale=scale)


def example(entry: Entry, count: int = 8, channels: int = 3, height: int = 32, width: int = 32) -> Batch:
    """A batch that suits the stage of an augmentation."""
    x = images(count, channels, height, width)
    return batch_of(x if entry.facts.stage < Stage.NORMALIZE else x.float() / 64 - 2)


def painted(colours: int = 3, count: int = 64, side: int = 32) -> Batch:
    """Images in the colour of their class: the mean colour is the right target, whatever is mixed."""
    y = torch.eye(colours)[torch.arange(count) % colours]
    return batch_of(y[:, :, None, None].expand(count, colours, side, side), y)


def same(one: Batch, other: Batch) -> bool:
    """Whether two batches are equal to the bit."""
    pairs = [(getattr(one, f.name), getattr(other, f.name)) for f in fields(Batch) if f.name != "scale"]
    return all(torch.equal(a, b) if isinstance(a, Tensor) else a == b for a, b in pairs)
