"""LookSAM (Liu et al. 2022, arXiv:2203.02714, algorithm 1): SAM that perturbs only every few steps.

The gradient at the perturbed weights differs from the plain one by a part orthogonal to it, which changes
slowly. That part is kept and added to the gradients of the steps in between, which cost one forward and
backward pass each. It is rescaled to the norm of the gradient, however small it was: with a small `rho` and
bf16 it is mostly rounding.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ..core.contracts import Count, NonNegative, Positive
from ..core.facts import WrapperOrder
from ..core.registry import wrappers
from .sam import SAM


@wrappers.register(
    "looksam",
    order=WrapperOrder.PERTURB,
    paper="Liu et al. 2022, arXiv:2203.02714",
    amplifies_rounding=True,  # the part that is kept is scaled up to the length of a gradient
)
class LookSAM(SAM):
    """SAM that perturbs only every few steps and reuses the result in between. Arguments as of SAM."""

    def __init__(
        self,
        base: Optimizer,
        model: nn.Module | None = None,
        rho: Positive = 0.05,  # radius of the neighbourhood, as of SAM
        every: Count = 5,  # steps from one perturbation to the next; 5 in the paper
        alpha: NonNegative = 0.7,  # norm of the reused part, relative to that of the gradient
    ):
        super().__init__(base, model, rho)
        self.every, self.alpha = every, alpha
        self.steps = 0
        self.kept: list[Tensor] | None = None  # the orthogonal part of the last perturbed gradient

    def step(self, closure: Callable[[], Tensor]) -> Tensor:
        """Call the closure once or twice and step once; returns the loss at the unperturbed weights."""
        loss = closure()
        params = [p for p in self.params if p.grad is not None]
        if not params:
            return loss
        if self.steps % self.every == 0:
            gradients = [p.grad for p in params]
            with self.perturbed(params):
                closure()
            self._keep(params, gradients)
        else:
            self._reuse(params)
        self.base.step()
        self.steps += 1
        return loss

    @torch.no_grad()
    def _keep(self, params: list[Tensor], gradients: list[Tensor]) -> None:
        """Keep s - (s . u) u, with s the perturbed gradient and u the direction of the plain one."""
        perturbed = [p.grad for p in params]
        products = torch._foreach_mul(perturbed, gradients)
        dot = torch.stack([product.sum() for product in products]).sum()
        scale = dot / (nn.utils.get_total_norm(gradients) ** 2 + 1e-24)
        orthogonal = torch._foreach_sub(perturbed, torch._foreach_mul(gradients, scale))
        found = dict(zip(params, orthogonal, strict=True))
        # A layer that was left out of this step has no gradient.
        self.kept = [found[p] if p in found else torch.zeros_like(p) for p in self.params]

    @torch.no_grad()
    def _reuse(self, params: list[Tensor]) -> None:
        """g += alpha * |g| / |kept| * kept"""
        gradients = [p.grad for p in params]
        kept = [k for p, k in zip(self.params, self.kept, strict=True) if p.grad is not None]
        scale = self.alpha * nn.utils.get_total_norm(gradients) / (nn.utils.get_total_norm(kept) + 1e-12)
        torch._foreach_add_(gradients, torch._foreach_mul(kept, scale))

    def state_dict(self) -> dict:
        return {"base": self.base.state_dict(), "steps": self.steps, "kept": self.kept}

    def load_state_dict(self, state: dict) -> None:
        self.base.load_state_dict(state["base"])
        self.steps, kept = state["steps"], state["kept"]
        pairs = zip(kept or [], self.params, strict=True) if kept else None
        self.kept = pairs and [torch.empty_like(p).copy_(k) for k, p in pairs]
