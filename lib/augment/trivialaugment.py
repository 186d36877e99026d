"""TrivialAugmentWide (Müller & Hutter 2021, arXiv:2103.10158): one operation per image, of any strength."""

from dataclasses import dataclass

import torch

from ..core.facts import Stage
from ..core.registry import augmentations
from ..core.rng import Rng
from .policy import ENHANCEMENTS, FOURTEEN, NUMBER, Drawn, Policy, Range, magnitudes

STRENGTHS = 31  # 0 to 30, all equally likely

# The wide search space of the paper. Shifts are in pixels, whatever the size of the image.
RANGES = {
    "shear_x": Range(0, 0.99, signed=True),
    "shear_y": Range(0, 0.99, signed=True),
    "translate_x_pixels": Range(0, 32, signed=True),
    "translate_y_pixels": Range(0, 32, signed=True),
    "rotate": Range(0, 135, signed=True),
    "posterize": Range(8, 2),
    "solarize": Range(256, 0),
    **dict.fromkeys(ENHANCEMENTS, Range(0.01, 2)),
}

OPERATIONS = [f"{name}_pixels" if name.startswith("translate") else name for name in FOURTEEN]


@augmentations.register(
    "trivialaugment",
    stage=Stage.COLOR,
    aliases=("trivial_augment",),
    paper="Müller & Hutter 2021, arXiv:2103.10158",
)
@dataclass(frozen=True)
class TrivialAugment(Policy):
    def draw(self, count: int, rng: Rng) -> Drawn:
        numbers = torch.tensor([NUMBER[name] for name in OPERATIONS])
        operation = numbers[rng.host_integers(0, len(numbers), count, 1)]
        strength = rng.host_integers(0, STRENGTHS, count, 1) / (STRENGTHS - 1)
        coin = rng.host_integers(0, 2, count, 1) == 1
        return Drawn(operation, magnitudes(RANGES, operation, strength, coin))
