"""Cutout (DeVries & Taylor 2017, arXiv:1708.04552, section 3): hide a square around a random pixel."""

from dataclasses import dataclass

import torch

from lib.augment.pipeline import Augmentation
from lib.augment.stage import Stage
from lib.batch import Batch
from lib.errors import require
from lib.registry import augmentations
from lib.rng import Rng


@augmentations.register("cutout", stage=Stage.ERASE, paper="DeVries & Taylor 2017, arXiv:1708.04552")
@dataclass(frozen=True)
class Cutout(Augmentation):
    size: int = 16  # side of the square in pixels; the paper has 16 for CIFAR-10 and 8 for CIFAR-100

    def __post_init__(self):
        super().__post_init__()
        require(self.size > 0, "size", "at least 1", self.size)

    def __call__(self, batch: Batch, rng: Rng) -> Batch:
        # The centre is any pixel, so the border clips some squares; the paper found that to matter.
        B, _, H, W = batch.x.shape
        rows = self._span(rng.integers(0, H, B, like=batch.x), H)  # (B, H)
        columns = self._span(rng.integers(0, W, B, like=batch.x), W)  # (B, W)
        hidden = rows[:, None, :, None] & columns[:, None, None, :]
        return batch.replace(x=batch.x.masked_fill(hidden, 0.0))  # after NORMALIZE, 0 is the mean colour

    def _span(self, centre: torch.Tensor, length: int) -> torch.Tensor:
        first = centre[:, None] - self.size // 2
        pixel = torch.arange(length, device=centre.device)
        return (first <= pixel) & (pixel < first + self.size)
