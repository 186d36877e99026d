"""Soft cross-entropy, -sum_k y_k log p_k, for targets that are probabilities."""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from ..core.batch import Batch, accepts_targets
from ..core.registry import losses


@losses.register("cross_entropy", aliases=("ce",))
@dataclass(frozen=True)
class CrossEntropy:
    @accepts_targets
    def __call__(self, logits: Tensor, batch: Batch) -> Tensor:  # (B, K) -> (B,)
        return F.cross_entropy(logits.float(), batch.y, reduction="none")
