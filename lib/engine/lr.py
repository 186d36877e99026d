"""What an optimizer is told of time: the rates of its groups, and which of them learn at all."""

from collections.abc import Callable
from typing import Protocol

from torch import Tensor

from ..core.budget import in_epochs


class OptimizerLike(Protocol):
    """An optimizer, or a wrapper around one."""

    param_groups: list[dict]

    def step(self, closure: Callable[[], Tensor]) -> Tensor: ...
    def zero_grad(self, set_to_none: bool = True) -> None: ...
    def state_dict(self) -> dict: ...
    def load_state_dict(self, state: dict) -> None: ...


def tell_time(optimizer: OptimizerLike, step: int, total: int) -> None:
    """Tell the optimizer that this is step number `step` (from 0) of `total`."""
    for group in optimizer.param_groups:
        group["time"] = (step, total)


def set_lr(optimizer: OptimizerLike, factor: float, epoch: float = 0.0, epochs: float = 1.0) -> None:
    """Set the rates of a point in time, at which the schedule has this factor."""
    for group in optimizer.param_groups:
        # A group that learns at another rate than the rest, or for a shorter time, has a factor of its own.
        own = max(0.0, 1 - epoch / _end(group, epochs)) if group.get("falls") else factor
        group["lr"] = group.setdefault("initial_lr", group["lr"]) * group.get("lr_scale", 1.0) * own


def freeze(optimizer: OptimizerLike, epoch: float, epochs: float) -> None:
    """Let the groups that learn at first only have gradients in their time, and none after it."""
    for group in optimizer.param_groups:
        if "learns_until" in group:
            for p in group["params"]:
                p.requires_grad_(epoch < _end(group, epochs))


def _end(group: dict, epochs: float) -> float:
    return in_epochs(group["learns_until"], epochs)


def current_lr(optimizer: OptimizerLike) -> float:
    """The rate of what has no factor of its own."""
    group = optimizer.param_groups[0]
    return group["lr"] / group.get("lr_scale", 1.0)
