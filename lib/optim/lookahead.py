"""Lookahead (Zhang et al. 2019, arXiv:1907.08610, algorithm 1): k steps forward, 1 step back.

The optimizer moves the fast weights. Every few steps the slow weights move a fraction of the way to them, and
the fast weights restart from there. The model holds the fast weights, so what is evaluated equals the slow
weights after a multiple of `every` steps, and is up to `every` - 1 fast steps ahead otherwise. The base
optimizer's moments are kept, and so are buffers: the statistics of BatchNorm are already an average.

The fast recipes (airbench: Jordan 2024, arXiv:2404.00498) lower the fraction towards the end of the budget,
with the power `ramp`, average the statistics too, and end on the slow weights.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ..core.contracts import Count, Fraction, NonNegative
from ..core.errors import require
from ..core.facts import WrapperOrder
from ..core.registry import wrappers
from .wrapper import Wrapper


@wrappers.register("lookahead", order=WrapperOrder.SLOW, paper="Zhang et al. 2019, arXiv:1907.08610")
class Lookahead(Wrapper):
    """Every few steps, go back a part of the way to the slow weights.

    Args:
        base: the optimizer of the fast weights.
        model: needed for `statistics` only.
    """

    def __init__(
        self,
        base: Optimizer,
        model: nn.Module | None = None,
        total: Count | None = None,  # steps of the training, which ramp and finish need
        every: Count = 5,  # fast steps per slow step; 5 for CIFAR in the paper
        alpha: Fraction = 0.5,  # fraction of the way that the slow weights move; 0.5 in the paper
        ramp: NonNegative = 0.0,  # power with which that fraction falls from 1 to alpha; 0: always alpha
        statistics: bool = False,  # average the running statistics of BatchNorm too
        finish: bool = False,  # end the last step on the slow weights
    ):
        timed = total is not None or not (ramp or finish)
        require(timed, "total", "the number of training steps where ramp or finish is on", total)
        require(model is not None or not statistics, "statistics", "off without a model", statistics)
        super().__init__(base)
        self.every, self.alpha, self.ramp, self.finish, self.total = every, alpha, ramp, finish, total
        self.steps = 0
        self.buffers = [b for b in model.buffers() if b.is_floating_point()] if statistics else []
        self.slow = [t.detach().clone() for t in self.fast]

    @property
    def fast(self) -> list[Tensor]:
        return [*self.params, *self.buffers]

    @torch.no_grad()
    def _synchronize(self, weight: float) -> None:
        """Move the slow weights this fraction of the way to the fast ones, and restart these from there."""
        torch._foreach_lerp_(self.slow, self.fast, weight)
        torch._foreach_copy_(self.fast, self.slow)

    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:
        """A step of the base, and every few of them one of the slow weights."""
        try:
            loss = self.base.step(closure)
            self.steps += 1
            if self.steps % self.every == 0:
                self._synchronize(1 - (1 - self.alpha) * (self._spent() ** self.ramp if self.ramp else 1))
        finally:  # a last step that an fp16 overflow skips ends on the slow weights too
            if self.finish and self._spent() == 1:
                self._synchronize(0.0)
        return loss

    def _spent(self) -> float:
        """The fraction of the budget that is spent after this step.

        The training loop sets it in the groups. In a loop that does not, it follows from the steps taken.
        """
        return self.param_groups[0].get("progress", self.steps / self.total)

    def state_dict(self) -> dict:
        return {"base": self.base.state_dict(), "steps": self.steps, "slow": self.slow}

    def load_state_dict(self, state: dict) -> None:
        self.base.load_state_dict(state["base"])
        self.steps = state["steps"]
        for mine, saved in zip(self.slow, state["slow"], strict=True):
            mine.copy_(saved)
