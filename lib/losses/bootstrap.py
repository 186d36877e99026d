"""Bootstrapping of noisy labels (Reed et al. 2014, arXiv:1412.6596).

The target is part the given label and part what the network itself believes: its probabilities (soft) or its
most likely class (hard). The soft target is part of what is differentiated, as in the paper's objective, so
it also sharpens the network's belief; the hard one is a constant.
"""

import torch.nn.functional as F
from torch import Tensor

from ..core.batch import Batch
from ..core.errors import require
from ..core.registry import losses

PAPER = "Reed et al. 2014, arXiv:1412.6596"


@losses.register("bootstrap_soft", paper=PAPER)
def bootstrap_soft(
    trust: float = 0.95,  # beta of the paper: weight of the given label; 1 is cross-entropy
):
    """Bootstrapping of noisy labels by the network's probabilities."""
    require(0 <= trust <= 1, "trust", "from 0 to 1", trust)

    def loss(logits: Tensor, batch: Batch) -> Tensor:  # (B, K) -> (B,)
        log_p = logits.float().log_softmax(1)
        return -((trust * batch.y + (1 - trust) * log_p.exp()) * log_p).sum(1)

    return loss


@losses.register("bootstrap_hard", paper=PAPER)
def bootstrap_hard(
    trust: float = 0.8,  # beta of the paper: weight of the given label; 1 is cross-entropy
):
    """Bootstrapping of noisy labels by the network's most likely class."""
    require(0 <= trust <= 1, "trust", "from 0 to 1", trust)

    def loss(logits: Tensor, batch: Batch) -> Tensor:  # (B, K) -> (B,)
        logits = logits.float()
        given = F.cross_entropy(logits, batch.y, reduction="none")
        believed = F.cross_entropy(logits, logits.argmax(1), reduction="none")
        return trust * given + (1 - trust) * believed

    return loss
