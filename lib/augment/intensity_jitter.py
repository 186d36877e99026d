"""Jitter of brightness and contrast on normalised pixels, as the 2-second CIFAR-10 trainings have it.

It is the colour jitter of Hiverge's cifar10-speedrun (2025): a shift and a factor for each image, all its
channels alike. Normalised pixels have the data's mean at 0, so the factor changes contrast and not
brightness, and nothing is clipped: that makes it a single pass, where `color_jitter` takes several.
"""

from dataclasses import dataclass

import torch

from ..core.batch import Batch
from ..core.errors import require
from ..core.facts import Stage
from ..core.registry import augmentations
from ..core.rng import Rng
from .pipeline import Augmentation


@augmentations.register("intensity_jitter", stage=Stage.TONE, paper="Hiverge 2025, cifar10-speedrun")
@dataclass(frozen=True)
class IntensityJitter(Augmentation):
    shift: float = 0.1399  # largest, either way, in standard deviations of the data
    factor: float = 0.1308  # largest change of the contrast: drawn from 1 - factor to 1 + factor

    def __post_init__(self):
        super().__post_init__()
        require(self.shift >= 0, "shift", "at least 0", self.shift)
        require(0 <= self.factor < 1, "factor", "at least 0 and below 1", self.factor)

    def __call__(self, batch: Batch, rng: Rng) -> Batch:
        drawn = 2 * rng.uniform(2, len(batch), 1, 1, 1, like=batch.x) - 1
        factor = 1 + self.factor * drawn[0]
        return batch.replace(x=torch.addcmul(factor * self.shift * drawn[1], batch.x, factor))
