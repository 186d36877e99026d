"""Knowledge distillation (Hinton et al. 2015, arXiv:1503.02531, section 2): learn a teacher's soft targets.

A teacher with the student's own architecture makes a born-again network (Furlanello et al. 2018,
arXiv:1805.04770): `--kd --teacher <run of the same model>`, and again with that student as the next teacher.
"""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from ..core.batch import Batch, Loss, accepts_targets
from ..core.contracts import Positive, Probability
from ..core.registry import distillations


@distillations.register("kd", paper="Hinton et al. 2015, arXiv:1503.02531; Furlanello et al. 2018")
@dataclass(frozen=True)
class KD:
    base: Loss
    temperature: Positive = 4.0  # divisor of the student's and the teacher's logits
    alpha: Probability = 0.9  # weight of the teacher's targets; the base loss gets 1 - alpha

    @accepts_targets
    def __call__(self, logits: Tensor, batch: Batch) -> Tensor:  # (B, K) -> (B,)
        """(1 - alpha) base + alpha T^2 KL(teacher at T || student at T)"""
        T = self.temperature
        student, teacher = (F.log_softmax(z.float() / T, 1) for z in (logits, batch.teacher))
        divergence = F.kl_div(student, teacher, reduction="none", log_target=True).sum(1)
        # Gradients of softened targets shrink as 1 / T^2; the factor keeps the balance at any T.
        return (1 - self.alpha) * self.base(logits, batch) + self.alpha * T**2 * divergence
