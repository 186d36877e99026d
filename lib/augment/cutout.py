"""Cutout, and dual cutout: hide squares around random pixels, in one view of an image or in two."""

from dataclasses import dataclass
from functools import reduce
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from ..core.batch import Batch, Loss
from ..core.contracts import Count, Fraction, NonNegative
from ..core.errors import require
from ..core.facts import Stage
from ..core.registry import augmentations
from ..core.rng import Rng
from .erase import black, erased, noise, rectangle, within
from .pipeline import Augmentation


@augmentations.register("cutout", stage=Stage.ERASE, paper="DeVries & Taylor 2017, arXiv:1708.04552")
@dataclass(frozen=True)
class Cutout(Augmentation):
    """Cutout (DeVries & Taylor 2017, arXiv:1708.04552, section 3): hide squares around random pixels."""

    size: Count = 16  # side of a square in pixels; 16 for CIFAR-10 and 8 for CIFAR-100 in the paper
    holes: Count = 1  # squares per image; they may overlap
    prob: Fraction = 1.0  # of cutting an image
    inside: bool = False  # keep squares within the image; otherwise the border clips them
    fill: Literal["mean", "black", "noise"] = "mean"  # pixels of the squares

    def apply(self, batch: Batch, rng: Rng) -> Batch:
        x = batch.x
        B, _, H, W = x.shape
        rows, columns = (within(self._first(side, B, x, rng), self.size, side) for side in (H, W))
        rows = rows & (rng.fold("prob").uniform(B, 1, like=x) < self.prob)
        squares = (rectangle(*square, like=x) for square in zip(rows, columns, strict=True))
        return batch.replace(x=erased(x, reduce(torch.maximum, squares), self._fill(batch, rng)))

    def _first(self, side: int, images: int, x: Tensor, rng: Rng) -> Tensor:
        """(holes, images) the first pixel of each square along a side of `side` pixels."""
        if self.inside:
            require(self.size <= side, "size", f"at most the image's side {side} to lie inside", self.size)
            return rng.integers(0, side - self.size + 1, self.holes, images, like=x)
        # The centre is any pixel, so the border clips some squares; the paper found that to matter.
        return rng.integers(0, side, self.holes, images, like=x) - self.size // 2

    def _fill(self, batch: Batch, rng: Rng) -> Tensor | None:
        if self.fill == "noise":
            return noise(batch, rng, *batch.x.shape)
        return black(batch) if self.fill == "black" else None


@augmentations.register("dual_cutout", stage=Stage.ERASE)
@dataclass(frozen=True)
class DualCutout(Cutout):
    """Dual cutout: two views of each image, cut in different places, that should get the same logits.

    The loss is the mean of the two cross-entropies, plus alpha times the mean squared difference of logits.
    There is no paper; alpha is the default of hysts' pytorch_image_classification.
    """

    alpha: NonNegative = 0.1  # weight of the squared difference of the two views' logits

    def apply(self, batch: Batch, rng: Rng) -> Batch:
        return super().apply(batch.repeated(2), rng)

    def loss(self, base: Loss) -> Loss:
        def loss(logits: Tensor, batch: Batch) -> Tensor:  # (B, K) -> (B,)
            if batch.views == 1 or not self.is_active(batch.epoch):
                return base(logits, batch)
            one, other = logits.float().unflatten(0, (-1, 2)).unbind(1)  # (B / 2, K) each
            difference = F.mse_loss(one, other, reduction="none").mean(1)
            return base(logits, batch) + self.alpha * difference.repeat_interleave(2)

        return loss
