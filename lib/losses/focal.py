"""Focal loss (Lin et al. 2017, arXiv:1708.02002, section 3.2): what is known already counts less.

The paper's classes are two and its p a sigmoid; here p is the softmax, which for two classes is the same, and
targets may be soft: -sum_k y_k (1 - p_k)^gamma log p_k.
"""

import torch
from torch import Tensor

from ..core.batch import Batch
from ..core.errors import require
from ..core.registry import losses


@losses.register("focal", paper="Lin et al. 2017, arXiv:1708.02002, section 3.2")
def focal(
    focusing: float = 2.0,  # gamma of the paper: how much less; 0 is cross-entropy
):
    """Focal loss: what is known already counts less."""
    require(focusing >= 0, "focusing", "at least 0", focusing)

    def loss(logits: Tensor, batch: Batch) -> Tensor:  # (B, K) -> (B,)
        log_p = logits.float().log_softmax(1)
        # 1 - p without cancellation, and never 0, where powers below 1 have no slope.
        doubt = (-torch.expm1(log_p)).clamp_min(torch.finfo(log_p.dtype).tiny)
        return -(batch.y * doubt**focusing * log_p).sum(1)

    return loss
