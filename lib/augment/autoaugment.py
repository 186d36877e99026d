"""AutoAugment (Cubuk et al. 2018, arXiv:1805.09501): one of 25 learned pairs of operations for each image.

Pairs, operations and ranges are those of the paper's appendix. Ten levels divide a range evenly. Brightness,
colour, contrast and sharpness go from 0.1 to 1.9: levels below 4.5 weaken them, higher ones strengthen them.
"""

from dataclasses import dataclass
from functools import cache
from typing import Literal

import torch
from torch import Tensor

from ..core.facts import Stage
from ..core.registry import augmentations
from ..core.rng import Rng
from .policy import AUTOAUGMENT, ENHANCEMENTS, NUMBER, Drawn, Policy, Range, magnitudes

LEVELS = 10

# A line is a pair: for each operation its probability, and its level where it has magnitudes.
CIFAR10 = """
    invert 0.1, contrast 0.2 6
    rotate 0.7 2, translate_x 0.3 9
    sharpness 0.8 1, sharpness 0.9 3
    shear_y 0.5 8, translate_y 0.7 9
    autocontrast 0.5, equalize 0.9
    shear_y 0.2 7, posterize 0.3 7
    color 0.4 3, brightness 0.6 7
    sharpness 0.3 9, brightness 0.7 9
    equalize 0.6, equalize 0.5
    contrast 0.6 7, sharpness 0.6 5
    color 0.7 7, translate_x 0.5 8
    equalize 0.3, autocontrast 0.4
    translate_y 0.4 3, sharpness 0.2 6
    brightness 0.9 6, color 0.2 8
    solarize 0.5 2, invert 0.0
    equalize 0.2, autocontrast 0.6
    equalize 0.2, equalize 0.6
    color 0.9 9, equalize 0.6
    autocontrast 0.8, solarize 0.2 8
    brightness 0.1 3, color 0.7 0
    solarize 0.4 5, autocontrast 0.9
    translate_y 0.9 9, translate_y 0.7 9
    autocontrast 0.9, solarize 0.8 3
    equalize 0.8, invert 0.1
    translate_y 0.7 9, autocontrast 0.9
"""

SVHN = """
    shear_x 0.9 4, invert 0.2
    shear_y 0.9 8, invert 0.7
    equalize 0.6, solarize 0.6 6
    invert 0.9, equalize 0.6
    equalize 0.6, rotate 0.9 3
    shear_x 0.9 4, autocontrast 0.8
    shear_y 0.9 8, invert 0.4
    shear_y 0.9 5, solarize 0.2 6
    invert 0.9, autocontrast 0.8
    equalize 0.6, rotate 0.9 3
    shear_x 0.9 4, solarize 0.3 3
    shear_y 0.8 8, invert 0.7
    equalize 0.9, translate_y 0.6 6
    invert 0.9, equalize 0.6
    contrast 0.3 3, rotate 0.8 4
    invert 0.8, translate_y 0.0 2
    shear_y 0.7 6, solarize 0.4 8
    invert 0.6, rotate 0.8 4
    shear_y 0.3 7, translate_x 0.9 3
    shear_x 0.1 6, invert 0.6
    solarize 0.7 2, translate_y 0.6 7
    shear_y 0.8 4, invert 0.8
    shear_x 0.7 9, translate_y 0.8 3
    shear_y 0.8 5, autocontrast 0.7
    shear_x 0.7 2, invert 0.1
"""

IMAGENET = """
    posterize 0.4 8, rotate 0.6 9
    solarize 0.6 5, autocontrast 0.6
    equalize 0.8, equalize 0.6
    posterize 0.6 7, posterize 0.6 6
    equalize 0.4, solarize 0.2 4
    equalize 0.4, rotate 0.8 8
    solarize 0.6 3, equalize 0.6
    posterize 0.8 5, equalize 1.0
    rotate 0.2 3, solarize 0.6 8
    equalize 0.6, posterize 0.4 6
    rotate 0.8 8, color 0.4 0
    rotate 0.4 9, equalize 0.6
    equalize 0.0, equalize 0.8
    invert 0.6, equalize 1.0
    color 0.6 4, contrast 1.0 8
    rotate 0.8 8, color 1.0 2
    color 0.8 8, solarize 0.8 7
    sharpness 0.4 7, invert 0.6
    shear_x 0.6 5, equalize 1.0
    color 0.4 0, equalize 0.6
    equalize 0.4, solarize 0.2 4
    solarize 0.6 5, autocontrast 0.6
    invert 0.6, equalize 1.0
    color 0.6 4, contrast 1.0 8
    equalize 0.8, equalize 0.6
"""

PAIRS = {"cifar10": CIFAR10, "svhn": SVHN, "imagenet": IMAGENET}

PAPER = AUTOAUGMENT | dict.fromkeys(ENHANCEMENTS, Range(0.1, 1.9))

# A widely copied PyTorch port of 2018: rotation is never negative, shear is bicubic, and enhancements both
# weaken and strengthen with the level.
PORT = (
    AUTOAUGMENT
    | {"rotate": Range(0, 30), "bicubic_shear_x": Range(0, 0.3, True), "bicubic_shear_y": Range(0, 0.3, True)}
    | dict.fromkeys(ENHANCEMENTS, Range(1, 1.9, signed=True))
)


@augmentations.register(
    "autoaugment",
    stage=Stage.COLOR,
    aliases=("autoaugmentation", "auto_augment", "cifar10policy"),
    paper="Cubuk et al. 2018, arXiv:1805.09501",
    compat={"pprp-2021": {"variant": "port", "fill": 128}},
)
@dataclass(frozen=True)
class AutoAugment(Policy):
    policy: Literal["cifar10", "svhn", "imagenet"] = "cifar10"  # data set that it was learned on
    variant: Literal["paper", "port"] = "paper"  # port: one-way rotation, bicubic shear

    def draw(self, count: int, rng: Rng) -> Drawn:
        operation, prob, level = _table(self.policy, self.variant)  # (25, 2) each
        pair = rng.host_integers(0, len(operation), count)
        applied = rng.host_uniform(count, 2) < prob[pair]
        coin = rng.host_integers(0, 2, count, 2) == 1
        operation = torch.where(applied, operation[pair], NUMBER["identity"])
        ranges = PAPER if self.variant == "paper" else PORT
        return Drawn(operation, magnitudes(ranges, operation, level[pair] / (LEVELS - 1), coin))


@cache
def _table(policy: str, variant: str) -> tuple[Tensor, Tensor, Tensor]:
    """The number, probability and level of each operation of each pair; level 0 for those without one."""
    lines = PAIRS[policy].strip().splitlines()
    items = [[item.split() for item in line.split(",")] for line in lines]
    shear = "bicubic_shear" if variant == "port" else "shear"
    number = [[NUMBER[name.replace("shear", shear)] for name, *_ in pair] for pair in items]
    prob, level = ([[float((*i, 0)[place]) for i in pair] for pair in items] for place in (1, 2))
    return torch.tensor(number), torch.tensor(prob, dtype=torch.float64), torch.tensor(level)
