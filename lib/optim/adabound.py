"""AdaBound and AdaBoundW (Luo et al. 2019, arXiv:1902.09843, algorithm 2): from Adam to SGD in one run.

The learning rate of each weight is Adam's, clipped between two bounds that converge to SGD's. In the authors'
code these are `final_lr (1 - 1 / (gamma t + 1))` and `final_lr (1 + 1 / (gamma t))`, and Adam's learning rate
has its bias correction. Neither torch nor timm has this optimizer.
"""

from typing import Annotated

import torch
from annotated_types import Interval
from torch import Tensor
from torch.optim.optimizer import ParamsT

from ..core.contracts import NonNegative, Positive
from ..core.registry import optimizers
from .arguments import Betas, Epsilon, LearningRate
from .foreach import ForeachOptimizer


@optimizers.register("adabound", paper="Luo et al. 2019, arXiv:1902.09843")
class AdaBound(ForeachOptimizer):
    """Adam whose learning rates converge to SGD's; the weight decay is added to the gradient."""

    decoupled = False

    def __init__(
        self,
        params: ParamsT,
        lr: LearningRate = 1e-3,  # Adam's, of the first steps; the schedule multiplies it
        betas: Betas = (0.9, 0.999),
        final_lr: Positive = 0.1,  # SGD's, of the last steps; the schedule multiplies it too
        bound_gamma: Annotated[float, Interval(gt=0, lt=1)] = 1e-3,  # speed of convergence; 1e-3 in the paper
        eps: Epsilon = 1e-8,
        weight_decay: NonNegative = 0.0,  # added to the gradient; adaboundw: weights shrink by lr times it
    ):
        defaults = {"lr": lr, "betas": betas, "final_lr": final_lr, "gamma": bound_gamma, "eps": eps}
        super().__init__(params, {**defaults, "weight_decay": weight_decay})

    def add_param_group(self, group: dict) -> None:
        super().add_param_group(group)
        group.setdefault("initial_lr", group["lr"])

    def move(self, params: list[Tensor], group: dict) -> None:
        lr, (beta1, beta2), decay = group["lr"], group["betas"], group["weight_decay"]
        gradients = [p.grad for p in params]
        if decay and self.decoupled:
            torch._foreach_mul_(params, 1 - lr * decay)
        elif decay:
            gradients = torch._foreach_add(gradients, params, alpha=decay)
        means, squares, steps = self.moments(params, gradients, group["betas"])

        lrs = torch._foreach_sqrt(squares)
        torch._foreach_add_(lrs, group["eps"])
        torch._foreach_reciprocal_(lrs)
        torch._foreach_mul_(lrs, [lr * (1 - beta2**t) ** 0.5 / (1 - beta1**t) for t in steps])
        # The schedule lowers SGD's learning rate as it lowers Adam's.
        final, gamma = group["final_lr"] * lr / group["initial_lr"], group["gamma"]
        torch._foreach_clamp_min_(lrs, [final * (1 - 1 / (gamma * t + 1)) for t in steps])
        torch._foreach_clamp_max_(lrs, [final * (1 + 1 / (gamma * t)) for t in steps])
        torch._foreach_addcmul_(params, lrs, means, value=-1)


@optimizers.register("adaboundw", paper="Luo et al. 2019, arXiv:1902.09843")
class AdaBoundW(AdaBound):
    """AdaBound with decoupled weight decay, as AdamW has it."""

    decoupled = True
