"""SAM (Foret et al. 2020, arXiv:2010.01412, algorithm 1), and ASAM (Kwon et al. 2021, arXiv:2102.11600).

Sharpness-aware minimization: perturb the weights towards the highest loss nearby, take the gradient there,
and apply it to the original weights.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ..core.contracts import NonNegative, Positive
from ..core.errors import require
from ..core.facts import WrapperOrder
from ..core.registry import wrappers
from .wrapper import Wrapper


@wrappers.register("sam", order=WrapperOrder.PERTURB, paper="Foret et al. 2020, arXiv:2010.01412")
class SAM(Wrapper):
    """Step with the gradient at weights perturbed by rho along the gradient.

    Args:
        base: the optimizer that applies the gradient.
        model: its buffers are restored with the weights, so that the running statistics of BatchNorm are
            updated once per step; without a model they are updated at the perturbed weights too.
    """

    def __init__(
        self,
        base: Optimizer,
        model: nn.Module | None = None,
        rho: Positive = 0.05,  # radius of the neighbourhood; 0.05 in the paper
    ):
        super().__init__(base)
        self.model, self.rho = model, rho

    def step(self, closure: Callable[[], Tensor]) -> Tensor:
        """Call the closure twice and step once; returns the loss at the unperturbed weights."""
        loss = closure()
        if params := [p for p in self.params if p.grad is not None]:
            with self.perturbed(params):
                closure()
        self.base.step()
        return loss

    @contextlib.contextmanager
    def perturbed(self, params: list[Tensor]) -> Iterator[None]:
        """Perturb the weights, and restore them and the buffers at the end; gradients are kept."""
        tensors = [*params, *(self.model.buffers() if self.model is not None else ())]
        with torch.no_grad():
            saved = [tensor.clone() for tensor in tensors]
            self.perturb(params)
        try:
            yield
        finally:  # after an fp16 overflow too
            with torch.no_grad():
                torch._foreach_copy_(tensors, saved)  # copied, not subtracted: w + e - e != w

    def perturb(self, params: list[Tensor]) -> None:
        """w += rho * g / |g|"""
        gradients = [p.grad for p in params]
        grad_norm = nn.utils.get_total_norm(gradients)
        torch._foreach_add_(params, torch._foreach_mul(gradients, self.rho / (grad_norm + 1e-12)))


@wrappers.register("asam", order=WrapperOrder.PERTURB, paper="Kwon et al. 2021, arXiv:2102.11600")
class ASAM(SAM):
    """SAM with a neighbourhood proportional to each weight, so that rescaling a layer changes nothing.

    The paper scales all parameters. Its authors' code scales those with "weight" in their names, and perturbs
    the others, such as biases, as SAM does.
    """

    def __init__(
        self,
        base: Optimizer,
        model: nn.Module | None = None,
        rho: Positive = 0.5,  # radius of the neighbourhood; 0.5 for CIFAR-10 in the paper
        eta: NonNegative = 0.01,  # added to |w|, so that weights at zero can move too; 0.01 in the paper
        adaptive: Literal["all", "weights"] = "all",  # scaled parameters; weights: biases as in SAM
    ):
        super().__init__(base, model, rho)
        require(adaptive == "all" or model is not None, "adaptive", "all without a model", adaptive)
        self.eta, self.adaptive = eta, adaptive

    def perturb(self, params: list[Tensor]) -> None:
        """w += rho * T^2 g / |T g| with T = |w| + eta, or 1 for a parameter that is not scaled"""
        scales = torch._foreach_add(torch._foreach_abs(params), self.eta)
        named = self.model.named_parameters() if self.adaptive == "weights" else ()
        plain = {parameter for name, parameter in named if "weight" not in name}
        for parameter, scale in zip(params, scales, strict=True):
            if parameter in plain:
                scale.fill_(1.0)
        scaled = torch._foreach_mul(scales, [p.grad for p in params])
        grad_norm = nn.utils.get_total_norm(scaled)
        ascent = torch._foreach_mul(scales, scaled)
        torch._foreach_add_(params, torch._foreach_mul(ascent, self.rho / (grad_norm + 1e-12)))
