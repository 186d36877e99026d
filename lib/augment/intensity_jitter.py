"""Jitter of brightness and contrast on normalised pixels, as in the 2-second trainings of CIFAR-10.

This is the colour jitter of Hiverge's cifar10-speedrun (2025): one shift and one factor for all channels of
an image. The mean of normalised pixels is 0, so the factor changes the contrast and not the brightness.
Nothing is clipped, so it takes a single pass, where `color_jitter` takes several.
"""

from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Interval

from ..core.batch import Batch
from ..core.contracts import NonNegative
from ..core.facts import Stage
from ..core.registry import augmentations
from ..core.rng import Rng
from .pipeline import Augmentation


@augmentations.register("intensity_jitter", stage=Stage.TONE, paper="Hiverge 2025, cifar10-speedrun")
@dataclass(frozen=True)
class IntensityJitter(Augmentation):
    shift: NonNegative = 0.1399  # largest, in both directions, in standard deviations of the data
    factor: Annotated[float, Interval(ge=0, lt=1)] = 0.1308  # f: contrast is drawn from 1 - f to 1 + f

    def apply(self, batch: Batch, rng: Rng) -> Batch:
        drawn = 2 * rng.uniform(2, len(batch), 1, 1, 1, like=batch.x) - 1
        factor = 1 + self.factor * drawn[0]
        return batch.replace(x=torch.addcmul(factor * self.shift * drawn[1], batch.x, factor))
