"""Decoupled knowledge distillation (Zhao et al. 2022, arXiv:2203.08679, section 3).

The divergence from the teacher has two parts: the target class against all others (TCKD), and the ranking of
the others among themselves (NCKD). In Hinton's loss NCKD, which holds most of the knowledge, is weighted by
1 - p of the teacher's target class; here it has an independent weight.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..core.batch import Batch, Loss, accepts_targets
from ..core.budget import in_epochs
from ..core.contracts import NonNegative, Positive, Time
from ..core.registry import distillations


@distillations.register("dkd", paper="Zhao et al. 2022, arXiv:2203.08679")
@dataclass(frozen=True)
class DKD:
    base: Loss
    alpha: NonNegative = 1.0  # weight of the target class's part
    beta: NonNegative = 8.0  # weight of the other classes' part; the paper fits it to the teacher
    temperature: Positive = 4.0  # divisor of the student's and the teacher's logits
    warmup: Time = 0.08  # linear rise of both weights; 20 of 240 epochs in the paper
    epochs: float = 240.0  # budget of the run, of which a warmup below 1 is a fraction

    @accepts_targets
    def __call__(self, logits: Tensor, batch: Batch) -> Tensor:  # (B, K) -> (B,)
        """base + T^2 (alpha TCKD + beta NCKD), both weights rising from the first epoch on"""
        # The paper has one class per sample; of a mixed target, take the class with the largest weight.
        target = batch.y.argmax(1, keepdim=True)
        T, warmup = self.temperature, in_epochs(self.warmup, self.epochs)
        tckd, nckd = parts(logits.float() / T, batch.teacher.float() / T, target)
        weight = min(1.0, (batch.epoch + 1) / warmup) if warmup else 1.0
        return self.base(logits, batch) + weight * T**2 * (self.alpha * tckd + self.beta * nckd)


def parts(student: Tensor, teacher: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """TCKD and NCKD, each (B,), of logits (B, K) already divided by the temperature; targets are (B, 1)."""
    column = torch.arange(student.shape[1] - 1, device=student.device)
    others = column + (column >= target)  # (B, K - 1): all classes but the target
    binary, ranked = [], []
    for z in (student, teacher):
        log_p, rest = F.log_softmax(z, 1), z.gather(1, others)
        # 1 - p as the sum over the other classes: p may be so near 1 that 1 - p rounds to 0.
        log_rest = log_p.gather(1, others).logsumexp(1, keepdim=True)
        binary.append(torch.cat([log_p.gather(1, target), log_rest], 1))
        ranked.append(F.log_softmax(rest, 1))
    return _divergence(*binary), _divergence(*ranked)


def _divergence(student: Tensor, teacher: Tensor) -> Tensor:
    """KL(teacher || student) of log-probabilities."""
    return F.kl_div(student, teacher, reduction="none", log_target=True).sum(1)
