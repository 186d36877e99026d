"""Synthetic images, a smooth pattern for each class with noise: for tests and first trials."""

from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Ge
from torch import Tensor

from ..core.contracts import Count, Probability
from ..core.errors import require
from ..core.registry import datasets
from ..core.rng import Rng
from .base import Dataset, Split, channel_statistics


# Shape and numbers of images and classes are options, so they are not stated as facts.
@datasets.register("synthetic", augment=("crop", "flip"))
def synthetic(
    size: int = 1024,  # training images; the test part has a quarter as many
    classes: Annotated[int, Ge(2)] = 10,  # number of classes
    channels: Count = 3,  # channels of an image
    image_size: Annotated[int, Ge(4)] = 32,  # side of an image
    noise: Probability = 0.5,  # weight of the noise: 0 is the pattern alone, 1 is noise alone
) -> Dataset:
    """Synthetic images that a model can learn, the same in every run.

    Raises:
        ValueError: an option is out of range.
    """
    # The test part must have an image of every class.
    require(size >= 4 * classes, "size", f"at least {4 * classes}", size)
    coarse = Rng("synthetic", "pattern").uniform(classes, channels, 4, 4, like=torch.empty(0))
    patterns = F.interpolate(coarse, size=(image_size, image_size), mode="bilinear", align_corners=False)
    train, test = (
        _draw(patterns, noise, count, name) for name, count in (("train", size), ("test", size // 4))
    )
    return Dataset(train, test, tuple(f"class {k}" for k in range(classes)), *channel_statistics(train.x))


def _draw(patterns: Tensor, noise: float, count: int, name: str) -> Split:
    y = torch.arange(count) % len(patterns)
    x = patterns[y]
    x = x.lerp(Rng("synthetic", name).uniform(*x.shape, like=x), noise)
    return Split((x * 255).round().to(torch.uint8), y)
