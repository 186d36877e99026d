"""Fast AutoAugment (Lim et al. 2019, arXiv:1905.00397): one of 493 pairs, found on a part of CIFAR-10.

The pairs in fast_autoaugment.csv are the authors' `fa_reduced_cifar10` (kakaobrain/fast-autoaugment, MIT
licence, copyright 2019 Ildoo Kim), taken from the package archai 1.0.0. Ranges and levels are those of the
authors' code: levels from 0 to 1 go from one end of a range to the other, and geometry is mirrored at random.
"""

import csv
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from ..core.facts import Stage
from ..core.registry import augmentations
from ..core.rng import Rng
from .policy import ENHANCEMENTS, NUMBER, Drawn, Policy, Range, geometry, magnitudes

GEOMETRY = geometry(shear=0.3, shift=0.45, rotation=30)
RANGES = {
    **GEOMETRY,
    "posterize": Range(4, 8),
    "solarize": Range(0, 256),
    "cut_square": Range(0, 0.2),
    **dict.fromkeys(ENHANCEMENTS, Range(0.1, 1.9)),
}


@augmentations.register("fast_autoaugment", stage=Stage.COLOR, paper="Lim et al. 2019, arXiv:1905.00397")
@dataclass(frozen=True)
class FastAutoAugment(Policy):
    def draw(self, count: int, rng: Rng) -> Drawn:
        operation, prob, strength = _table()  # (493, 2) each
        pair = rng.host_integers(0, len(operation), count)
        applied = rng.host_uniform(count, 2) < prob[pair]
        coin = rng.host_integers(0, 2, count, 2) == 1
        magnitude = magnitudes(RANGES, operation[pair], strength[pair], coin)
        # The authors truncate the number of bits, and do not round it.
        magnitude = torch.where(operation[pair] == NUMBER["posterize"], magnitude.floor(), magnitude)
        place = rng.host_uniform(count, 2, 2)
        return Drawn(torch.where(applied, operation[pair], NUMBER["identity"]), magnitude, place)


@cache
def _table() -> tuple[Tensor, Tensor, Tensor]:
    """The number, probability and strength of each operation of each pair."""
    with Path(__file__).with_suffix(".csv").open(newline="") as file:
        pairs = [[row[:3], row[3:]] for row in list(csv.reader(file))[1:]]
    number = torch.tensor([[NUMBER[name] for name, *_ in pair] for pair in pairs])
    values = [[[float(value) for value in item[1:]] for item in pair] for pair in pairs]
    prob, level = torch.tensor(values, dtype=torch.float64).unbind(-1)
    # Levels of geometric operations go from the negative end of a range to the positive one.
    centred = torch.isin(number, torch.tensor([NUMBER[name] for name in GEOMETRY]))
    return number, prob, torch.where(centred, 2 * level - 1, level)
