"""Lookahead (Zhang et al. 2019, arXiv:1907.08610, algorithm 1): k steps forward, one step back.

Slow weights follow the optimizer's fast ones: every few steps they move a part of the way to where those have
come, and the fast ones start anew from there. The model holds the fast weights; they are the slow ones just
after such a meeting, so what is evaluated is the slow weights if the steps until then are a multiple of
`every`, and up to `every` - 1 fast steps ahead of them otherwise. The inner optimizer's moments stay as they
are, and so do buffers: the statistics of BatchNorm are an average already.

The fast recipes (airbench: Jordan 2024, arXiv:2404.00498) hold back ever more as the budget runs out: `ramp`
is the power of that growth. They take the statistics along, and end on the slow weights.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ..core.contracts import Count
from ..core.errors import require
from ..core.facts import WrapperOrder
from ..core.registry import wrappers
from .wrapper import Wrapper


@wrappers.register("lookahead", order=WrapperOrder.SLOW, paper="Zhang et al. 2019, arXiv:1907.08610")
class Lookahead(Wrapper):
    """Every few steps, go back a part of the way that the weights have come."""

    def __init__(
        self,
        base: Optimizer,
        model: nn.Module | None = None,
        total: Count | None = None,  # steps of the training, which ramp and finish need
        every: int = 5,  # steps of the fast weights to one of the slow ones; 5 for CIFAR in the paper
        alpha: float = 0.5,  # share of the way that the slow weights go; 0.5 in the paper
        ramp: float = 0.0,  # that share falls from 1 to alpha with this power of the time; 0 for alpha always
        statistics: bool = False,  # take BatchNorm's statistics along
        finish: bool = False,  # the last step ends on the slow weights
    ):
        require(every >= 1, "every", "at least 1", every)
        require(0 < alpha <= 1, "alpha", "above 0 and at most 1", alpha)
        require(ramp >= 0, "ramp", "at least 0", ramp)
        timed = total is not None or not (ramp or finish)
        require(timed, "total", "the number of training steps where ramp or finish is on", total)
        super().__init__(base)
        self.every, self.alpha, self.ramp, self.finish, self.total = every, alpha, ramp, finish, total
        self.steps = 0
        buffers = model.buffers() if statistics and model is not None else ()
        self.buffers = [b for b in buffers if b.is_floating_point()]
        self.slow = [t.detach().clone() for t in self.fast]

    @property
    def fast(self) -> list[Tensor]:
        return [*self.params, *self.buffers]

    @torch.no_grad()
    def _meet(self, share: float) -> None:
        """Slow weights go this share of the way to the fast ones, which start anew from there."""
        torch._foreach_lerp_(self.slow, self.fast, share)
        torch._foreach_copy_(self.fast, self.slow)

    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:
        """A step of the base, and every few of them one of the slow weights."""
        try:
            loss = self.base.step(closure)
            self.steps += 1
            if self.steps % self.every == 0:
                self._meet(1 - (1 - self.alpha) * (self._spent() ** self.ramp if self.ramp else 1))
        finally:  # a last step that an fp16 overflow skips ends on the slow weights too
            if self.finish and self._spent() == 1:
                self._meet(0.0)
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
