"""Poly-1 (Leng et al. 2022, arXiv:2204.12511): cross-entropy with another first coefficient.

Cross-entropy is the series sum_j (1 - p)^j / j. The paper finds its first term to matter most, and adds
`epsilon` to that one coefficient; with soft targets each class has its share of the term.
"""

import torch.nn.functional as F
from torch import Tensor

from ..core.batch import Batch
from ..core.errors import require
from ..core.registry import losses


@losses.register("poly1", aliases=("poly_1",), paper="Leng et al. 2022, arXiv:2204.12511")
def poly1(
    epsilon: float = 1.0,  # added to the coefficient 1 of (1 - p); 0 is cross-entropy
):
    """Poly-1: cross-entropy with another first coefficient."""
    # Below -1 the first term would push the right class's probability down.
    require(epsilon >= -1, "epsilon", "at least -1", epsilon)

    def loss(logits: Tensor, batch: Batch) -> Tensor:  # (B, K) -> (B,)
        logits = logits.float()
        wrong = (batch.y * (1 - logits.softmax(1))).sum(1)
        return F.cross_entropy(logits, batch.y, reduction="none") + epsilon * wrong

    return loss
