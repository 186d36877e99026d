"""AdaBound and AdaBoundW (Luo et al. 2019, arXiv:1902.09843, algorithm 2): from Adam to SGD in one run.

The rate of each weight is Adam's, held between two bounds that close in on that of SGD. In the authors' code
these are `final_lr (1 - 1 / (gamma t + 1))` and `final_lr (1 + 1 / (gamma t))`, and Adam's rate has its bias
correction. Neither torch nor timm has it.
"""

import torch
from torch import Tensor

from ..core.errors import require
from ..core.registry import optimizers
from .foreach import ForeachOptimizer
from .optimizers import check


@optimizers.register("adabound", paper="Luo et al. 2019, arXiv:1902.09843")
class AdaBound(ForeachOptimizer):
    """Adam with bounds on each weight's rate that close in on SGD's; the decay is a part of the gradient."""

    decoupled = False

    def __init__(
        self,
        params: list[dict],
        lr: float = 1e-3,  # Adam's, of the first steps; the schedule's factors multiply it
        betas: tuple[float, float] = (0.9, 0.999),  # decay of the two moments
        final_lr: float = 0.1,  # SGD's, of the last steps; the schedule's factors multiply it too
        bound_gamma: float = 1e-3,  # how fast the bounds close in; 1e-3 in the paper
        eps: float = 1e-8,  # keeps the division finite
        weight_decay: float = 0.0,  # added to the gradient; by adaboundw taken off the weights, times lr
    ):
        check(lr, weight_decay, betas)
        require(final_lr > 0, "final_lr", "above 0", final_lr)
        require(0 < bound_gamma < 1, "bound_gamma", "above 0 and below 1", bound_gamma)
        defaults = {"lr": lr, "betas": betas, "final_lr": final_lr, "gamma": bound_gamma, "eps": eps}
        super().__init__(params, {**defaults, "weight_decay": weight_decay})
        for group in self.param_groups:
            group.setdefault("initial_lr", group["lr"])

    def move(self, params: list[Tensor], group: dict) -> None:
        lr, (beta1, beta2), decay = group["lr"], group["betas"], group["weight_decay"]
        gradients = [p.grad for p in params]
        if decay and self.decoupled:
            torch._foreach_mul_(params, 1 - lr * decay)
        elif decay:
            gradients = torch._foreach_add(gradients, params, alpha=decay)
        means, squares, steps = self.moments(params, gradients, group["betas"])

        rates = torch._foreach_sqrt(squares)
        torch._foreach_add_(rates, group["eps"])
        torch._foreach_reciprocal_(rates)
        torch._foreach_mul_(rates, [lr * (1 - beta2**t) ** 0.5 / (1 - beta1**t) for t in steps])
        # The schedule lowers SGD's rate as it lowers Adam's.
        final, gamma = group["final_lr"] * lr / group["initial_lr"], group["gamma"]
        torch._foreach_clamp_min_(rates, [final * (1 - 1 / (gamma * t + 1)) for t in steps])
        torch._foreach_clamp_max_(rates, [final * (1 + 1 / (gamma * t)) for t in steps])
        torch._foreach_addcmul_(params, rates, means, value=-1)


@optimizers.register("adaboundw", paper="Luo et al. 2019, arXiv:1902.09843")
class AdaBoundW(AdaBound):
    """AdaBound whose weights shrink by lr * weight_decay a step, as AdamW's do."""

    decoupled = True
