"""The soft cross-entropy -sum_k y_k log p_k, for targets that are probabilities."""

import torch.nn.functional as F
from torch import Tensor

from ..core.batch import Batch
from ..core.registry import losses


@losses.register("cross_entropy", aliases=("ce",))
def cross_entropy():
    """The soft cross-entropy -sum_k y_k log p_k, for targets that are probabilities."""

    def loss(logits: Tensor, batch: Batch) -> Tensor:  # (B, K) -> (B,)
        return F.cross_entropy(logits.float(), batch.y, reduction="none")

    return loss
