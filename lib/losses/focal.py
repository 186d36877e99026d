"""Focal loss (Lin et al. 2017, arXiv:1708.02002): down-weights samples that are classified well.

The paper has two classes and p from a sigmoid. Here p is the softmax, which is the same for two classes, and
targets may be soft: -sum_k y_k (1 - p_k)^gamma log p_k.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..core.batch import Batch, accepts_targets
from ..core.contracts import NonNegative
from ..core.registry import losses


@losses.register("focal", paper="Lin et al. 2017, arXiv:1708.02002")
@dataclass(frozen=True)
class Focal:
    focusing: NonNegative = 2.0  # gamma in the paper: strength of the down-weighting; 0 is cross-entropy

    @accepts_targets
    def __call__(self, logits: Tensor, batch: Batch) -> Tensor:  # (B, K) -> (B,)
        log_p = logits.float().log_softmax(1)
        # 1 - p without cancellation, and never 0, where powers below 1 have no finite gradient.
        miss = (-torch.expm1(log_p)).clamp_min(torch.finfo(log_p.dtype).tiny)
        return -(batch.y * miss**self.focusing * log_p).sum(1)
