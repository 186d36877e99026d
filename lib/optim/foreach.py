"""The base of the optimizers written here: torch's multi-tensor operations on each parameter group."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.optim import Optimizer


class ForeachOptimizer(Optimizer):
    """An optimizer that defines in `move` how the parameters of one group move."""

    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:
        loss = closure() if closure else None
        with torch.no_grad():
            for group in self.param_groups:
                if params := [p for p in group["params"] if p.grad is not None]:
                    self.move(params, group)
        return loss

    def move(self, params: list[Tensor], group: dict) -> None:
        """Move parameters of `group`, all of which have a gradient."""
        raise NotImplementedError

    def moments(self, params: list[Tensor], gradients: list[Tensor], betas: tuple[float, float]):
        """Adam's two moments after these gradients, and the number of steps of each parameter."""
        for p in params:
            if not self.state[p]:
                self.state[p] = {"step": 0, "mean": torch.zeros_like(p), "square": torch.zeros_like(p)}
            self.state[p]["step"] += 1
        means, squares = ([self.state[p][key] for p in params] for key in ("mean", "square"))
        torch._foreach_lerp_(means, gradients, 1 - betas[0])
        torch._foreach_mul_(squares, betas[1])
        torch._foreach_addcmul_(squares, gradients, gradients, value=1 - betas[1])
        return means, squares, [self.state[p]["step"] for p in params]

    def velocities(self, params: list[Tensor]) -> list[Tensor]:
        """The momentum buffers of these parameters."""
        for p in params:
            if not self.state[p]:
                self.state[p]["velocity"] = torch.zeros_like(p)
        return [self.state[p]["velocity"] for p in params]
