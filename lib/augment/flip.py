"""Flips: mirror an image, or turn it upside down."""

from dataclasses import dataclass

import torch

from ..core.batch import Batch
from ..core.contracts import Fraction
from ..core.errors import require
from ..core.facts import Stage
from ..core.registry import augmentations
from ..core.rng import Rng
from .pipeline import Augmentation


@augmentations.register("flip", stage=Stage.GEOMETRY, aliases=("hflip", "random_horizontal_flip"))
@dataclass(frozen=True)
class Flip(Augmentation):
    """Horizontal flip: at random, or alternating from epoch to epoch (Jordan 2024, arXiv:2404.00498, 3.6)."""

    prob: Fraction = 0.5  # of mirroring an image
    alternating: bool = False  # mirror each image in every other epoch, half of them in odd ones

    def __post_init__(self):
        super().__post_init__()
        holds = self.prob == 0.5 or not self.alternating
        require(holds, "prob", "left at 0.5 with alternating flips", self.prob)

    def apply(self, batch: Batch, rng: Rng) -> Batch:
        if self.alternating:
            require(batch.index is not None, "index", "given for alternating flips", batch.index)
            # Only the parity of the epoch may matter, so the draw of an image must not depend on the step.
            drawn = Rng(rng.key[0], "flip").per_image(batch.index) < 0.5
            mirrored = drawn ^ (batch.epoch % 2 == 1)
        else:
            mirrored = rng.uniform(len(batch), like=batch.x) < self.prob
        # XOR with the bits that differ, where mirrored: torch.where takes three times as long on bytes.
        differ = batch.x.flip(-1).bitwise_xor_(batch.x)
        chosen = differ.bitwise_and_(-mirrored.to(torch.uint8)[:, None, None, None])
        return batch.replace(x=chosen.bitwise_xor_(batch.x))


@augmentations.register("vertical_flip", stage=Stage.GEOMETRY, aliases=("vflip", "random_vertical_flip"))
@dataclass(frozen=True)
class VerticalFlip(Augmentation):
    """Vertical flip: turn an image upside down, for data without a natural orientation."""

    prob: Fraction = 0.5  # of turning an image upside down

    def apply(self, batch: Batch, rng: Rng) -> Batch:
        flipped = rng.uniform(len(batch), like=batch.x) < self.prob
        return batch.replace(x=torch.where(flipped[:, None, None, None], batch.x.flip(-2), batch.x))
