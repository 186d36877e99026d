"""Poly-1 (Leng et al. 2022, arXiv:2204.12511): cross-entropy with a different first coefficient.

Cross-entropy is the series sum_j (1 - p)^j / j. The paper finds that its first term matters most, and adds
`epsilon` to the coefficient of that term. With soft targets the term is sum_k y_k (1 - p_k).
"""

from dataclasses import dataclass
from typing import Annotated

import torch.nn.functional as F
from annotated_types import Ge
from torch import Tensor

from ..core.batch import Batch, accepts_targets
from ..core.registry import losses


@losses.register("poly1", aliases=("poly_1",), paper="Leng et al. 2022, arXiv:2204.12511")
@dataclass(frozen=True)
class Poly1:
    # Below -1 the first term would push the right class's probability down.
    epsilon: Annotated[float, Ge(-1)] = 1.0  # added to the coefficient 1 of (1 - p); 0 is cross-entropy

    @accepts_targets
    def __call__(self, logits: Tensor, batch: Batch) -> Tensor:  # (B, K) -> (B,)
        logits = logits.float()
        wrong = (batch.y * (1 - logits.softmax(1))).sum(1)
        return F.cross_entropy(logits, batch.y, reduction="none") + self.epsilon * wrong
