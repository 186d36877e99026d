"""Images made from nothing: a smooth pattern for each class under noise. For tests and first tries."""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from ..core.registry import datasets
from ..core.rng import Rng
from .base import Dataset, Split, channel_statistics


# The number of classes and images and their shape are options, so no fact tells them beforehand.
@datasets.register("synthetic", augment=("crop", "flip"))
def synthetic(
    root: Path,
    offline: bool,
    size: int = 1024,  # training images; the test part has a quarter as many
    classes: int = 10,  # number of classes
    channels: int = 3,  # channels of an image
    image_size: int = 32,  # side of an image
    noise: float = 0.5,  # share of noise in an image: 0 is the pure pattern, 1 tells nothing of the class
) -> Dataset:
    """Made-up images that a model can learn, the same in every run.

    Raises:
        ValueError: an option is out of range.
    """
    for name, value, low in (
        ("size", size, 4 * classes),  # so that the test part holds every class
        ("classes", classes, 2),
        ("channels", channels, 1),
        ("image_size", image_size, 4),
    ):
        if value < low:
            raise ValueError(f"{name} must be at least {low}, got {value}")
    if not 0 <= noise <= 1:
        raise ValueError(f"noise must be from 0 to 1, got {noise}")
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
