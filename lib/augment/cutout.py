"""Cutout (DeVries & Taylor 2017, arXiv:1708.04552, section 3): hide squares around random pixels."""

from dataclasses import dataclass
from functools import reduce
from typing import Literal

import torch
from torch import Tensor

from ..core.batch import Batch
from ..core.errors import require
from ..core.facts import Stage
from ..core.registry import augmentations
from ..core.rng import Rng
from .erase import erased, noise, rectangle, within
from .pipeline import Augmentation


@augmentations.register("cutout", stage=Stage.ERASE, paper="DeVries & Taylor 2017, arXiv:1708.04552")
@dataclass(frozen=True)
class Cutout(Augmentation):
    size: int = 16  # side of the square in pixels; the paper has 16 for CIFAR-10 and 8 for CIFAR-100
    holes: int = 1  # squares an image; they may overlap
    prob: float = 1.0  # of cutting an image
    inside: bool = False  # squares lie in the image as a whole; else the border clips them
    fill: Literal["mean", "black", "noise"] = "mean"  # what the squares hold

    def __post_init__(self):
        super().__post_init__()
        require(self.size > 0, "size", "at least 1", self.size)
        require(self.holes > 0, "holes", "at least 1", self.holes)
        require(0 <= self.prob <= 1, "prob", "between 0 and 1", self.prob)

    def __call__(self, batch: Batch, rng: Rng) -> Batch:
        x = batch.x
        B, _, H, W = x.shape
        rows, columns = (within(self._first(side, B, x, rng), self.size, side) for side in (H, W))
        rows = rows & (rng.fold("prob").uniform(B, 1, like=x) < self.prob)
        squares = (rectangle(*square, like=x) for square in zip(rows, columns, strict=True))
        return batch.replace(x=erased(x, reduce(torch.maximum, squares), self._filling(batch, rng)))

    def _first(self, side: int, images: int, x: Tensor, rng: Rng) -> Tensor:
        """(holes, images) the squares' first pixels along a side of the image, which has `side` of them."""
        if self.inside:
            require(self.size <= side, "size", f"at most the image's side {side} to lie inside", self.size)
            return rng.integers(0, side - self.size + 1, self.holes, images, like=x)
        # The centre is any pixel, so the border clips some squares; the paper found that to matter.
        return rng.integers(0, side, self.holes, images, like=x) - self.size // 2

    def _filling(self, batch: Batch, rng: Rng) -> Tensor | None:
        if self.fill == "noise":
            return noise(batch, rng, *batch.x.shape)
        return batch.scale.black if self.fill == "black" else None
