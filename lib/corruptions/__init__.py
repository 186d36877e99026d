"""Corruptions of test images, to measure robustness.

The fifteen of Hendrycks & Dietterich 2019 (arXiv:1903.12261), each in five severities, with the
parameters of CIFAR-10-C. They are computed on the device from a seed, so they have the style of CIFAR-10-C
and not its pixels. Frost is a procedural texture instead of photographs, and values are rounded, where
CIFAR-10-C truncates them.

A corruption is a function of uint8 images (B, C, H, W), a severity from 1 to 5 and, if it is random, an Rng.
It returns uint8 images of the same shape.
"""

from torch import Tensor

from ..core.registry import corruptions
from ..core.rng import Rng

SEVERITIES = (1, 2, 3, 4, 5)


def corrupt(name: str, x: Tensor, severity: int, rng: Rng) -> Tensor:
    """The images (B, C, H, W) uint8 under the corruption `name`."""
    return corruptions[name].build(x=x, severity=severity, rng=rng)
