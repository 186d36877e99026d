"""Vertical flip: turn an image upside down, for data without a natural orientation."""

from dataclasses import dataclass

import torch

from ..core.batch import Batch
from ..core.contracts import Probability
from ..core.facts import Stage
from ..core.registry import augmentations
from ..core.rng import Rng
from .pipeline import Augmentation


@augmentations.register("vertical_flip", stage=Stage.GEOMETRY, aliases=("vflip", "random_vertical_flip"))
@dataclass(frozen=True)
class VerticalFlip(Augmentation):
    prob: Probability = 0.5  # of turning an image upside down

    def apply(self, batch: Batch, rng: Rng) -> Batch:
        flipped = rng.uniform(len(batch), like=batch.x) < self.prob
        return batch.replace(x=torch.where(flipped[:, None, None, None], batch.x.flip(-2), batch.x))
