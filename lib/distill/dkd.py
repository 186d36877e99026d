"""Decoupled knowledge distillation (Zhao et al. 2022, arXiv:2203.08679, section 3).

What a teacher says is parted in two: how sure it is of the target class against all others, and how it ranks
the others among themselves. In Hinton's loss the second part, which holds most of the knowledge, has the
weight 1 - p of the teacher's doubt; here it has one of its own.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..core.batch import Batch, Loss
from ..core.contracts import Time
from ..core.errors import require
from ..core.registry import distillations


@distillations.register("dkd", paper="Zhao et al. 2022, arXiv:2203.08679")
@dataclass(frozen=True)
class DKD:
    alpha: float = 1.0  # weight of the target class's part
    beta: float = 8.0  # weight of the other classes' part; the paper fits it to the teacher
    temperature: float = 4.0  # what both networks' logits are divided by
    warmup: Time = 0.08  # a linear rise of both weights (20 of 240 there)

    def __post_init__(self):
        require(self.alpha >= 0, "alpha", "at least 0", self.alpha)
        require(self.beta >= 0, "beta", "at least 0", self.beta)
        require(self.temperature > 0, "temperature", "above 0", self.temperature)
        require(self.warmup >= 0, "warmup", "at least 0", self.warmup)

    def __call__(self, base: Loss, epochs: float) -> Loss:
        """base + T^2 (alpha TCKD + beta NCKD), the second term rising from the first epoch on"""
        rise = self.warmup * epochs if self.warmup < 1 else self.warmup

        def loss(logits: Tensor, batch: Batch) -> Tensor:  # (B, K) -> (B,)
            # The paper has one class a sample; of a mixed target it is the class with the largest part.
            target = batch.y.argmax(1, keepdim=True)
            T = self.temperature
            tckd, nckd = parts(logits.float() / T, batch.teacher.float() / T, target)
            risen = min(1.0, (batch.epoch + 1) / rise) if rise else 1.0
            return base(logits, batch) + risen * T**2 * (self.alpha * tckd + self.beta * nckd)

        return loss


def parts(student: Tensor, teacher: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """TCKD and NCKD of logits (B, K) that are divided by the temperature, for targets (B, 1): each (B,)."""
    column = torch.arange(student.shape[1] - 1, device=student.device)
    others = column + (column >= target)  # (B, K - 1): all classes but the target
    binary, ranked = [], []
    for z in (student, teacher):
        log_p, rest = F.log_softmax(z, 1), z.gather(1, others)
        # The doubt 1 - p as the sum of the others, for p may be so near 1 that nothing is left of it.
        doubt = log_p.gather(1, others).logsumexp(1, keepdim=True)
        binary.append(torch.cat([log_p.gather(1, target), doubt], 1))
        ranked.append(F.log_softmax(rest, 1))
    return _divergence(*binary), _divergence(*ranked)


def _divergence(student: Tensor, teacher: Tensor) -> Tensor:
    """KL(teacher || student) of log-probabilities."""
    return F.kl_div(student, teacher, reduction="none", log_target=True).sum(1)
