"""The learning rates of an optimizer over time, and the groups that stop learning."""

from torch.optim import Optimizer

from ..core.budget import Progress
from ..optim.param_groups import GroupOptions


def set_progress(optimizer: Optimizer, progress: Progress, factor: float) -> None:
    """Set the learning rates of a step by the schedule's factor, and freeze groups that no longer learn."""
    for group in optimizer.param_groups:
        options = GroupOptions.of(group)
        base = group.setdefault("initial_lr", group["lr"])
        group["lr"] = base * options.lr_scale * options.factor(progress, factor)
        group["progress"] = progress.spent
        if options.learns_until is not None:
            for p in group["params"]:
                p.requires_grad_(options.learns(progress))


def current_lr(optimizer: Optimizer) -> float:
    """The learning rate that the schedule sets, before the scale of a group."""
    groups = [group for group in optimizer.param_groups if not GroupOptions.of(group).falls]
    group = (groups or optimizer.param_groups)[0]
    return group["lr"] / GroupOptions.of(group).lr_scale
