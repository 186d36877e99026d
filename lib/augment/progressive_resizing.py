"""Progressive resizing: small images at first, which grow as training goes on, and whole ones in the end.

Tan & Le 2021 (EfficientNetV2, arXiv:2104.00298, section 4) study it as progressive learning; there stronger
augmentation goes with larger images, which is left to the other augmentations here.
"""

from dataclasses import dataclass, replace

import torch.nn.functional as F

from ..core.batch import Batch
from ..core.contracts import PositiveTime
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
    smallest: float = 0.5  # side in the first epoch, as a share of the full one
    epochs: PositiveTime = 0.8  # until the full side is reached
    multiple: int = 4  # sides before that are multiples of it

    def __post_init__(self):
        super().__post_init__()
        require(0 < self.smallest <= 1, "smallest", "above 0 and at most 1", self.smallest)
        require(self.epochs > 0, "epochs", "above 0", self.epochs)
        require(self.multiple >= 1, "multiple", "at least 1", self.multiple)

    def within(self, epochs: float) -> "ProgressiveResizing":
        growth = self.epochs * epochs if self.epochs < 1 else self.epochs
        require(growth <= epochs, "epochs", f"at most the run's {epochs:g}", self.epochs)
        return replace(super().within(epochs), epochs=growth)

    def __call__(self, batch: Batch, rng: Rng) -> Batch:
        full = tuple(batch.x.shape[-2:])
        sides = tuple(self.side(side, batch.epoch) for side in full)
        if sides == full:
            return batch
        return batch.replace(x=F.interpolate(batch.x, sides, mode="bilinear", antialias=True))

    def side(self, full: int, epoch: int) -> int:
        """What an image's side of `full` pixels is in an epoch."""
        if epoch >= self.epochs:
            return full
        share = self.smallest + (1 - self.smallest) * epoch / self.epochs
        return min(full, max(1, round(share * full / self.multiple)) * self.multiple)
