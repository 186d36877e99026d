"""mixup (Zhang et al. 2017, arXiv:1710.09412, section 2): weighted means of images and labels."""

from dataclasses import dataclass

import torch

from ..core.batch import Batch
from ..core.contracts import Positive
from ..core.facts import Stage
from ..core.registry import augmentations
from ..core.rng import Rng
from .mixing import draws
from .pipeline import Mix


@augmentations.register("mixup", stage=Stage.MIX, paper="Zhang et al. 2017, arXiv:1710.09412")
@dataclass(frozen=True)
class Mixup(Mix):
    alpha: Positive = 1.0  # Beta(alpha, alpha) draws the weight of the first image; 1.0 in the paper

    def apply(self, batch: Batch, rng: Rng) -> Batch:
        other = batch.shuffled(rng)
        lam = draws(self.per_sample, batch, rng).beta(self.alpha)
        x = torch.lerp(other.x, batch.x, lam[:, None].to(batch.x.dtype))
        return batch.replace(x=x, y=torch.lerp(other.y, batch.y, lam[:, :, 0].to(batch.y.dtype)))
