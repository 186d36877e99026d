"""Lookahead (Zhang et al. 2019, arXiv:1907.08610, algorithm 1): k steps forward, one step back.

Slow weights follow the optimizer's fast ones: every few steps they move a part of the way to where those have
come, and the fast ones start anew from there. The model holds the fast weights; they are the slow ones just
after such a meeting, so what is evaluated is the slow weights if the steps until then are a multiple of
`every`, and up to `every` - 1 fast steps ahead of them otherwise. The inner optimizer's moments stay as they
are, and so do buffers: the statistics of BatchNorm are an average already.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from lib.errors import require
from lib.optim.order import Order
from lib.optim.wrapper import Wrapper
from lib.registry import wrappers


@wrappers.register("lookahead", order=Order.SLOW, paper="Zhang et al. 2019, arXiv:1907.08610")
class Lookahead(Wrapper):
    """Every few steps, go back a part of the way that the weights have come."""

    def __init__(
        self,
        base: Optimizer,
        model: nn.Module | None = None,
        every: int = 5,  # steps of the fast weights to one of the slow ones; 5 for CIFAR in the paper
        alpha: float = 0.5,  # share of the way that the slow weights go; 0.5 in the paper
    ):
        require(every >= 1, "every", "at least 1", every)
        require(0 < alpha <= 1, "alpha", "above 0 and at most 1", alpha)
        super().__init__(base)
        self.every, self.alpha = every, alpha
        self.steps = 0
        self.slow = [p.detach().clone() for p in self.params]

    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:
        """A step of the base, and every few of them one of the slow weights."""
        loss = self.base.step(closure)
        params = self.params
        if all(p.grad is None for p in params):  # fp16 overflow: nothing has moved
            return loss
        self.steps += 1
        if self.steps % self.every == 0:
            with torch.no_grad():
                torch._foreach_lerp_(self.slow, params, self.alpha)
                torch._foreach_copy_(params, self.slow)
        return loss

    def state_dict(self) -> dict:
        return {"base": self.base.state_dict(), "steps": self.steps, "slow": self.slow}

    def load_state_dict(self, state: dict) -> None:
        self.base.load_state_dict(state["base"])
        self.steps = state["steps"]
        for mine, saved in zip(self.slow, state["slow"], strict=True):
            mine.copy_(saved)
