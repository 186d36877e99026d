"""Binary cross-entropy of each class (Wightman et al. 2021, arXiv:2110.00476).

The paper counts both classes of a mixed target as present. `threshold` does so.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

import torch.nn.functional as F
from annotated_types import Interval
from torch import Tensor

from ..core.batch import Batch, accepts_targets
from ..core.registry import losses


# The default is the sum over classes: its gradient in the right class's logit is p - 1, as for cross-entropy,
# so learning rates carry over. The mean is K times smaller, which matters unless the optimizer rescales.
@losses.register("bce", paper="Wightman et al. 2021, arXiv:2110.00476")
@dataclass(frozen=True)
class BinaryCrossEntropy:
    reduction: Literal["sum", "mean"] = "sum"  # over the classes; the mean is K times smaller
    threshold: Annotated[float, Interval(ge=0, lt=1)] | None = None  # targets above it become 1, others 0

    @accepts_targets
    def __call__(self, logits: Tensor, batch: Batch) -> Tensor:  # (B, K) -> (B,)
        y = batch.y if self.threshold is None else (batch.y > self.threshold).to(batch.y.dtype)
        each = F.binary_cross_entropy_with_logits(logits.float(), y, reduction="none")
        return each.sum(1) if self.reduction == "sum" else each.mean(1)
