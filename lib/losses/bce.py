"""Binary cross-entropy: each class a yes or no of its own (Wightman et al. 2021, arXiv:2110.00476).

A target below 1 is not a doubt between classes but the presence of several, as after a mix: there the paper
counts each of the mixed classes as present, which `threshold` does.
"""

from typing import Literal

import torch.nn.functional as F
from torch import Tensor

from ..core.batch import Batch
from ..core.errors import require
from ..core.registry import losses


# The sum over classes is the default: its gradient in the right class's logit is p - 1, as cross-entropy's,
# so learning rates carry over. The mean is K times smaller, which only optimizers that rescale do not mind.
@losses.register("bce", paper="Wightman et al. 2021, arXiv:2110.00476")
def binary_cross_entropy(
    reduction: Literal["sum", "mean"] = "sum",  # over the classes; the mean is K times smaller
    threshold: float | None = None,  # targets above it count as 1 and all others as 0; none: as they are
):
    """Binary cross-entropy: each class a yes or no of its own."""
    rule = "at least 0 and below 1"
    require(threshold is None or 0 <= threshold < 1, "threshold", rule, threshold)

    def loss(logits: Tensor, batch: Batch) -> Tensor:  # (B, K) -> (B,)
        y = batch.y if threshold is None else (batch.y > threshold).to(batch.y.dtype)
        each = F.binary_cross_entropy_with_logits(logits.float(), y, reduction="none")
        return each.sum(1) if reduction == "sum" else each.mean(1)

    return loss
