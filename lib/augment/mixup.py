"""mixup (Zhang et al. 2017, arXiv:1710.09412, section 2): weighted means of images and labels."""

from dataclasses import dataclass

import torch

from ..core.batch import Batch
from ..core.errors import require
from ..core.facts import Stage
from ..core.registry import augmentations
from ..core.rng import Rng
from .mixing import draws
from .pipeline import Mix


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
