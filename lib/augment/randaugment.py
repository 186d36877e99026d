"""RandAugment (Cubuk et al. 2019, arXiv:1909.13719, section 3): any few operations, one strength for all."""

from dataclasses import dataclass

import torch

from ..core.errors import require
from ..core.facts import Stage
from ..core.registry import augmentations
from ..core.rng import Rng
from .policy import (
    AUTOAUGMENT_COLOR,
    AUTOAUGMENT_GEOMETRY,
    ENHANCEMENTS,
    FOURTEEN,
    NUMBER,
    Drawn,
    Policy,
    Range,
    magnitudes,
)

FULL = 10  # the magnitude at the end of AutoAugment's ranges

# The strength is to grow with the magnitude, so enhancements go away from the image, either way.
RANGES = AUTOAUGMENT_GEOMETRY | AUTOAUGMENT_COLOR | dict.fromkeys(ENHANCEMENTS, Range(1, 1.9, signed=True))


@augmentations.register(
    "randaugment",
    stage=Stage.COLOR,
    aliases=("rand_augment",),
    paper="Cubuk et al. 2019, arXiv:1909.13719",
)
@dataclass(frozen=True)
class RandAugment(Policy):
    num_ops: int = 2  # operations for an image, one after the other (N)
    magnitude: float = 9.0  # of them all (M); 10 is the end of AutoAugment's ranges, more goes beyond it

    def __post_init__(self):
        super().__post_init__()
        require(self.num_ops > 0, "num_ops", "at least 1", self.num_ops)
        require(0 <= self.magnitude <= 30, "magnitude", "from 0 to 30", self.magnitude)

    def draw(self, count: int, rng: Rng) -> Drawn:
        numbers = torch.tensor([NUMBER[name] for name in FOURTEEN])
        operation = numbers[rng.host_integers(0, len(numbers), count, self.num_ops)]
        coin = rng.host_integers(0, 2, count, self.num_ops) == 1
        strength = torch.full(operation.shape, self.magnitude / FULL)
        return Drawn(operation, magnitudes(RANGES, operation, strength, coin))
