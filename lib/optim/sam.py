"""SAM (Foret et al. 2020, arXiv:2010.01412, algorithm 1), and ASAM (Kwon et al. 2021, arXiv:2102.11600).

Climb to the highest loss nearby, and descend from home with the gradient found up there.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ..core.errors import require
from ..core.facts import WrapperOrder
from ..core.registry import wrappers
from .wrapper import Wrapper


@wrappers.register("sam", order=WrapperOrder.PERTURB, paper="Foret et al. 2020, arXiv:2010.01412")
class SAM(Wrapper):
    """Climb by rho along the gradient, take the gradient there, and step from home with it."""

    def __init__(
        self,
        base: Optimizer,
        model: nn.Module,
        rho: float = 0.05,  # radius of the neighbourhood; 0.05 in the paper
    ):
        require(rho > 0, "rho", "above 0", rho)
        super().__init__(base)
        self.model, self.rho = model, rho

    def step(self, closure: Callable[[], Tensor]) -> Tensor:
        """Two gradients and one step; returns the loss at home, not at the top."""
        loss = closure()
        self._gradient_at_the_top(closure, [p for p in self.params if p.grad is not None])
        self.base.step()
        return loss

    def _gradient_at_the_top(self, closure: Callable[[], Tensor], params: list[Tensor]) -> None:
        """Climb, leave the gradient found there in every `p.grad`, and come home."""
        with torch.no_grad():
            # Buffers too: the statistics of BatchNorm are updated once a step, with the weights that stay.
            tensors = [*params, *self.model.buffers()]
            home = [tensor.clone() for tensor in tensors]
            self._climb(params)
        try:
            closure()
        finally:  # after an fp16 overflow too
            with torch.no_grad():
                torch._foreach_copy_(tensors, home)  # copied, not subtracted: w + e - e != w

    def _climb(self, params: list[Tensor]) -> None:
        """w += rho * g / |g|"""
        gradients = [p.grad for p in params]
        steepness = nn.utils.get_total_norm(gradients)
        torch._foreach_add_(params, torch._foreach_mul(gradients, self.rho / (steepness + 1e-12)))


@wrappers.register("asam", order=WrapperOrder.PERTURB, paper="Kwon et al. 2021, arXiv:2102.11600")
class ASAM(SAM):
    """SAM in a neighbourhood that scales with each weight, so rescaling a layer changes nothing."""

    def __init__(
        self,
        base: Optimizer,
        model: nn.Module,
        rho: float = 0.5,  # radius of the neighbourhood; 0.5 for CIFAR-10 in the paper
        eta: float = 0.01,  # added to |w|, so that weights at zero can move too; 0.01 in the paper
    ):
        super().__init__(base, model, rho)
        require(eta >= 0, "eta", "at least 0", eta)
        self.eta = eta

    def _climb(self, params: list[Tensor]) -> None:
        """w += rho * T^2 g / |T g| with T = |w| + eta"""
        scales = torch._foreach_add(torch._foreach_abs(params), self.eta)
        scaled = torch._foreach_mul(scales, [p.grad for p in params])
        steepness = nn.utils.get_total_norm(scaled)
        ascent = torch._foreach_mul(scales, scaled)
        torch._foreach_add_(params, torch._foreach_mul(ascent, self.rho / (steepness + 1e-12)))
