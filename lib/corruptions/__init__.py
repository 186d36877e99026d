"""Corruptions of images: how far a network bears what it was not trained for.

The fifteen of Hendrycks & Dietterich 2019 (arXiv:1903.12261, section 3), each in five severities, with the
parameters that CIFAR-10-C was made with. They are made here, on the device and from a seed, in the style of
CIFAR-10-C: they are not its files, nor the same pixels. Frost is a procedural texture in place of
photographs, and values are rounded where the files are cut.

A corruption is a function of uint8 images (B, C, H, W), a severity from 1 to 5 and an Rng that gives uint8
images of the same shape.
"""

from torch import Tensor

from ..core.errors import require
from ..core.registry import corruptions
from ..core.rng import Rng

SEVERITIES = (1, 2, 3, 4, 5)


def corrupt(name: str, x: Tensor, severity: int, rng: Rng) -> Tensor:
    """The images (B, C, H, W) uint8 under the corruption `name`.

    Raises:
        ValueError: there is no such severity.
    """
    require(severity in SEVERITIES, "severity", "from 1 to 5", severity)
    return corruptions.function(name)(x, severity, rng)
