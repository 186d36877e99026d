"""Dual cutout: two views of each image, cut in different places, that should get the same logits.

The loss is the mean of the two cross-entropies, plus alpha times the mean squared difference of the logits.
There is no paper; alpha is the default of hysts' pytorch_image_classification.
"""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from ..core.batch import Batch, Loss
from ..core.contracts import NonNegative
from ..core.facts import Stage
from ..core.registry import augmentations
from ..core.rng import Rng
from .cutout import Cutout


@augmentations.register("dual_cutout", stage=Stage.ERASE)
@dataclass(frozen=True)
class DualCutout(Cutout):
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
