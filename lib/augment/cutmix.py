"""CutMix (Yun et al. 2019, arXiv:1905.04899, section 3.1): paste a box from another image."""

import math
from dataclasses import dataclass

import torch

from lib.augment.pipeline import Mix
from lib.augment.stage import Stage
from lib.batch import Batch
from lib.errors import require
from lib.registry import augmentations
from lib.rng import Rng


@augmentations.register("cutmix", stage=Stage.MIX, paper="Yun et al. 2019, arXiv:1905.04899")
@dataclass(frozen=True)
class CutMix(Mix):
    alpha: float = 1.0  # Beta(alpha, alpha) draws the kept area; 1.0 in the paper

    def __post_init__(self):
        super().__post_init__()
        require(self.alpha > 0, "alpha", "above 0", self.alpha)

    def __call__(self, batch: Batch, rng: Rng) -> Batch:
        other = batch.shuffled(rng)
        H, W = batch.x.shape[-2:]
        side = math.sqrt(1 - rng.host.betavariate(self.alpha, self.alpha))
        top, bottom = _span(rng.host.randrange(H), side * H, H)
        left, right = _span(rng.host.randrange(W), side * W, W)
        x = batch.x.clone()
        x[:, :, top:bottom, left:right] = other.x[:, :, top:bottom, left:right]
        # The border clips the box, so the label weight is its true area, not the drawn one.
        kept = 1 - (bottom - top) * (right - left) / (H * W)
        return batch.replace(x=x, y=torch.lerp(other.y, batch.y, kept))


def _span(centre: int, length: float, size: int) -> tuple[int, int]:
    """The pixels of a box side of this length around `centre`, clipped by the border."""
    half = int(length) // 2
    return max(centre - half, 0), min(centre + half, size)
