"""Progressive resizing: small images at first, which grow to their full size during training.

Tan & Le 2021 (EfficientNetV2, arXiv:2104.00298, section 4) study it as progressive learning. They also
strengthen the augmentation as the images grow, which this does not.
"""

from dataclasses import dataclass, replace
from typing import Self

import torch.nn.functional as F

from ..core.batch import Batch
from ..core.budget import in_epochs
from ..core.contracts import Count, Inside, PositiveTime
from ..core.errors import require
from ..core.facts import Stage
from ..core.registry import augmentations
from ..core.rng import Rng
from .pipeline import Augmentation


@augmentations.register(
    "progressive_resizing", stage=Stage.RESIZE, paper="Tan & Le 2021, arXiv:2104.00298, section 4"
)
@dataclass(frozen=True)
class ProgressiveResizing(Augmentation):
    smallest: Inside = 0.5  # side in the first epoch, as a fraction of the full one
    epochs: PositiveTime = 0.8  # time until the full size is reached
    multiple: Count = 4  # smaller sides are multiples of it

    def within(self, epochs: float) -> Self:
        growth = in_epochs(self.epochs, epochs)
        require(growth <= epochs, "epochs", f"at most the run's {epochs:g}", self.epochs)
        return replace(super().within(epochs), epochs=growth)

    def apply(self, batch: Batch, rng: Rng) -> Batch:
        full = tuple(batch.x.shape[-2:])
        sides = tuple(self.side(side, batch.epoch) for side in full)
        if sides == full:
            return batch
        return batch.replace(x=F.interpolate(batch.x, sides, mode="bilinear", antialias=True))

    def side(self, full: int, epoch: int) -> int:
        """The side, in pixels, of an image of `full` pixels in an epoch."""
        if epoch >= self.epochs:
            return full
        fraction = self.smallest + (1 - self.smallest) * epoch / self.epochs
        return min(full, max(1, round(fraction * full / self.multiple)) * self.multiple)
