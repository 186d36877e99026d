"""Knowledge distillation (Hinton et al. 2015, arXiv:1503.02531, section 2): learn a teacher's soft targets.

A teacher of the student's own architecture makes it a born-again network (Furlanello et al. 2018,
arXiv:1805.04770): `--kd --teacher <run of the same model>`, and again with that student as the next teacher.
"""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from ..core.batch import Batch, Loss
from ..core.errors import require
from ..core.registry import distillations


@distillations.register("kd", paper="Hinton et al. 2015, arXiv:1503.02531; Furlanello et al. 2018")
@dataclass(frozen=True)
class KD:
    temperature: float = 4.0  # what both networks' logits are divided by
    alpha: float = 0.9  # weight of the teacher's targets; all other loss keeps 1 - alpha

    def __post_init__(self):
        require(self.temperature > 0, "temperature", "above 0", self.temperature)
        require(0 <= self.alpha <= 1, "alpha", "between 0 and 1", self.alpha)

    def __call__(self, base: Loss, epochs: float) -> Loss:
        """(1 - alpha) base + alpha T^2 KL(teacher at T || student at T)"""

        def loss(logits: Tensor, batch: Batch) -> Tensor:  # (B, K) -> (B,)
            T = self.temperature
            student, teacher = (F.log_softmax(z.float() / T, 1) for z in (logits, batch.teacher))
            divergence = F.kl_div(student, teacher, reduction="none", log_target=True).sum(1)
            # Gradients of softened targets shrink as 1 / T^2; the factor keeps the balance at any T.
            return (1 - self.alpha) * base(logits, batch) + self.alpha * T**2 * divergence

        return loss
