"""RandAugment (Cubuk et al. 2019, arXiv:1909.13719, section 3): random operations of one strength."""

from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Interval

from ..core.contracts import Count
from ..core.facts import Stage
from ..core.registry import augmentations
from ..core.rng import Rng
from .policy import AUTOAUGMENT, ENHANCEMENTS, FOURTEEN, NUMBER, Drawn, Policy, Range, magnitudes

FULL = 10  # the magnitude at the end of AutoAugment's ranges

# Enhancements move away from the image in both directions, so that the strength grows with the magnitude.
RANGES = AUTOAUGMENT | dict.fromkeys(ENHANCEMENTS, Range(1, 1.9, signed=True))


@augmentations.register(
    "randaugment",
    stage=Stage.COLOR,
    aliases=("rand_augment",),
    paper="Cubuk et al. 2019, arXiv:1909.13719",
)
@dataclass(frozen=True)
class RandAugment(Policy):
    num_ops: Count = 2  # operations per image, one after the other
    magnitude: Annotated[float, Interval(ge=0, le=30)] = 9.0  # of all operations; 10 is AutoAugment's most

    def draw(self, count: int, rng: Rng) -> Drawn:
        numbers = torch.tensor([NUMBER[name] for name in FOURTEEN])
        operation = numbers[rng.host_integers(0, len(numbers), count, self.num_ops)]
        coin = rng.host_integers(0, 2, count, self.num_ops) == 1
        strength = torch.full(operation.shape, self.magnitude / FULL)
        return Drawn(operation, magnitudes(RANGES, operation, strength, coin))
