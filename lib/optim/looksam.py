"""LookSAM (Liu et al. 2022, arXiv:2203.02714, algorithm 1): SAM that climbs every few steps only.

What the climb adds to the gradient at home changes slowly in the direction orthogonal to it, so that part is
kept and added to the gradients of the steps in between, which cost one forward and backward each. The part is
added at the length of a gradient, however short it was: with a small `rho` and bf16 much of it is rounding.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ..core.errors import require
from ..core.facts import WrapperOrder
from ..core.registry import wrappers
from .sam import SAM


@wrappers.register("looksam", order=WrapperOrder.PERTURB, paper="Liu et al. 2022, arXiv:2203.02714")
class LookSAM(SAM):
    """SAM that climbs every few steps only, and in between reuses what the last climb has shown."""

    def __init__(
        self,
        base: Optimizer,
        model: nn.Module,
        rho: float = 0.05,  # radius of the neighbourhood, as of SAM
        every: int = 5,  # steps from one climb to the next; 5 in the paper
        alpha: float = 0.7,  # length of the part that is reused, in lengths of the gradient
    ):
        super().__init__(base, model, rho)
        require(every >= 1, "every", "at least 1", every)
        require(alpha >= 0, "alpha", "at least 0", alpha)
        self.every, self.alpha = every, alpha
        self.steps = 0
        # The part of the gradient at the top that is orthogonal to that at home.
        self.kept: list[Tensor] | None = None

    def step(self, closure: Callable[[], Tensor]) -> Tensor:
        """One gradient or two, and one step; returns the loss at home."""
        loss = closure()
        params = [p for p in self.params if p.grad is not None]
        if self.steps % self.every == 0:
            at_home = [p.grad for p in params]
            self._gradient_at_the_top(closure, params)
            self._keep(params, at_home)
        else:
            self._reuse(params)
        self.base.step()
        self.steps += 1
        return loss

    @torch.no_grad()
    def _keep(self, params: list[Tensor], at_home: list[Tensor]) -> None:
        """Keep g_top - (g_top . u) u, with u the direction of the gradient at home."""
        at_the_top = [p.grad for p in params]
        products = torch._foreach_mul(at_the_top, at_home)
        along = torch.stack([product.sum() for product in products]).sum()
        share = along / (nn.utils.get_total_norm(at_home) ** 2 + 1e-24)
        orthogonal = torch._foreach_sub(at_the_top, torch._foreach_mul(at_home, share))
        found = dict(zip(params, orthogonal, strict=True))
        # A layer that this step has left out has no gradient.
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
