"""mixup (Zhang et al. 2017, arXiv:1710.09412, section 2): weighted means of images and labels."""

from dataclasses import dataclass

import torch

from lib.augment.mixing import draws
from lib.augment.pipeline import Mix
from lib.augment.stage import Stage
from lib.batch import Batch
from lib.errors import require
from lib.registry import augmentations
from lib.rng import Rng


@augmentations.register("mixup", stage=Stage.MIX, paper="Zhang et al. 2017, arXiv:1710.09412")
@dataclass(frozen=True)
class Mixup(Mix):
    alpha: float = 1.0  # Beta(alpha, alpha) draws the weight of the first image; 1.0 in the paper

    def __post_init__(self):
        super().__post_init__()
        require(self.alpha > 0, "alpha", "above 0", self.alpha)

    def __call__(self, batch: Batch, rng: Rng) -> Batch:
        other = batch.shuffled(rng)
        weight = draws(self.per_sample, batch, rng).beta(self.alpha)
        x = torch.lerp(other.x, batch.x, weight[:, None].to(batch.x.dtype))
        return batch.replace(x=x, y=torch.lerp(other.y, batch.y, weight[:, :, 0].to(batch.y.dtype)))
