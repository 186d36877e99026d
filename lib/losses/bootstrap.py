"""Bootstrapping for noisy labels (Reed et al. 2014, arXiv:1412.6596).

The target is a weighted mean of the given label and the network's own prediction: its probabilities (soft) or
its most likely class (hard). Gradients flow through the soft prediction, as in the paper's objective, which
also sharpens it; the hard prediction is a constant.
"""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from ..core.batch import Batch, accepts_targets
from ..core.contracts import Probability
from ..core.registry import losses

PAPER = "Reed et al. 2014, arXiv:1412.6596"


@losses.register("bootstrap_soft", paper=PAPER)
@dataclass(frozen=True)
class SoftBootstrap:
    """Bootstrapping for noisy labels, by the network's probabilities."""

    trust: Probability = 0.95  # beta in the paper: weight of the given label; 1 is cross-entropy

    @accepts_targets
    def __call__(self, logits: Tensor, batch: Batch) -> Tensor:  # (B, K) -> (B,)
        log_p = logits.float().log_softmax(1)
        return -((self.trust * batch.y + (1 - self.trust) * log_p.exp()) * log_p).sum(1)


@losses.register("bootstrap_hard", paper=PAPER)
@dataclass(frozen=True)
class HardBootstrap:
    """Bootstrapping for noisy labels, by the network's most likely class."""

    trust: Probability = 0.8  # beta in the paper: weight of the given label; 1 is cross-entropy

    @accepts_targets
    def __call__(self, logits: Tensor, batch: Batch) -> Tensor:  # (B, K) -> (B,)
        logits = logits.float()
        given = F.cross_entropy(logits, batch.y, reduction="none")
        predicted = F.cross_entropy(logits, logits.argmax(1), reduction="none")
        return self.trust * given + (1 - self.trust) * predicted
