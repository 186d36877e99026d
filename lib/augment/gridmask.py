"""GridMask (Chen et al. 2020, arXiv:2001.04086, section 3): hide squares that form a regular grid."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..core.batch import Batch
from ..core.contracts import Count, Epoch, Fraction, Inside
from ..core.facts import Stage
from ..core.registry import augmentations
from ..core.rng import Rng
from .erase import erased, rectangle
from .pipeline import Augmentation


@augmentations.register("gridmask", stage=Stage.ERASE, paper="Chen et al. 2020, arXiv:2001.04086")
@dataclass(frozen=True)
class GridMask(Augmentation):
    ratio: Inside = 0.4  # r: visible part of a unit's side; keeps 2r - r^2
    unit_min: Count = 24  # smallest side of the grid's units in pixels (d)
    unit_max: Count = 32  # largest side
    prob: Fraction = 1.0  # of masking an image
    ramp: Epoch = 0  # epochs in which prob rises from 0, as in the paper; 0: it does not rise

    def apply(self, batch: Batch, rng: Rng) -> Batch:
        x = batch.x
        B, _, H, W = x.shape
        unit = rng.integers(self.unit_min, self.unit_max + 1, B, like=x)
        side = ((1 - self.ratio) * unit).round()
        first = (rng.uniform(2, B, like=x) * unit).floor()  # the place of the first pixel in its unit
        rows, columns = _stripes(first[0], unit, side, H), _stripes(first[1], unit, side, W)
        prob = self.prob * min(1, batch.epoch / self.ramp) if self.ramp else self.prob
        rows = rows & (rng.fold("prob").uniform(B, 1, like=x) < prob)
        return batch.replace(x=erased(x, rectangle(rows, columns, like=x)))


def _stripes(first: Tensor, unit: Tensor, side: Tensor, size: int) -> Tensor:
    """(B, size) the pixels in the first `side` of their unit; all but `size` are (B,)."""
    pixel = torch.arange(size, device=first.device)
    return (first[:, None] + pixel) % unit[:, None] < side[:, None]
