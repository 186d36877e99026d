"""Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/): steps that are orthogonal matrices.

Five Newton-Schulz iterations replace the momentum of each weight matrix by the nearest matrix whose singular
values are all 1. That suits the matrices and filters of hidden layers; the head, embeddings, norm layers and
biases are left to AdamW or SGD. torch's Muon takes matrices only; timm's takes filters, but does not exclude
the head; and neither treats matrices of the same shape together.
"""

from collections.abc import Callable
from typing import Annotated, Any, Literal

import torch
from annotated_types import Interval
from torch import Tensor
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.optimizer import ParamsT

from ..core.contracts import Count, Decay, NonNegative, Positive
from ..core.errors import require
from ..core.registry import optimizers
from .arguments import LearningRate
from .foreach import ForeachOptimizer
from .param_groups import GroupOptions
from .wrapper import Composite

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # steepest at 0 of the quintics that stay near 1


class HiddenMuon(ForeachOptimizer):
    """Muon itself. A parameter may hold several stacked matrices (`GroupOptions.matrices`)."""

    def __init__(
        self,
        params: list[dict],
        lr: float,
        momentum: float,
        nesterov: bool,
        weight_decay: float,
        iterations: int,
        fixed_norm: bool,
    ):
        defaults = {"lr": lr, "momentum": momentum, "nesterov": nesterov, "weight_decay": weight_decay}
        super().__init__(params, {**defaults, "iterations": iterations, "fixed_norm": fixed_norm})

    def move(self, params: list[Tensor], group: dict) -> None:
        gradients, velocities = [p.grad for p in params], self.velocities(params)
        torch._foreach_lerp_(velocities, gradients, 1 - group["momentum"])
        if group["nesterov"]:
            directions = torch._foreach_lerp(gradients, velocities, group["momentum"])
        else:
            directions = velocities
        torch._foreach_mul_(params, 1 - group["lr"] * group["weight_decay"])
        if group["fixed_norm"]:
            sizes = torch.tensor([len(p) ** 0.5 for p in params])
            norms = torch.stack(torch._foreach_norm(params)).clamp(min=1e-7)
            torch._foreach_mul_(params, list((sizes.to(norms) / norms).unbind()))

        # Matrices of the same shape are orthogonalized together: a network has few shapes and many matrices.
        shapes: dict[tuple[int, int], list[tuple[Tensor, Tensor]]] = {}
        counts = dict(zip(group["params"], GroupOptions.of(group).matrices, strict=True))
        for p, direction in zip(params, directions, strict=True):
            stack = direction.reshape(counts[p], len(p) // counts[p], -1)
            shapes.setdefault(tuple(stack.shape[1:]), []).append((p, stack))
        for (rows, columns), members in shapes.items():
            steps = orthogonalized(torch.cat([stack for _, stack in members]), group["iterations"])
            # So that each output of a tall matrix moves by as much as one of a square matrix.
            steps *= max(1, rows / columns) ** 0.5
            parts = steps.split([len(stack) for _, stack in members])
            for (p, _), part in zip(members, parts, strict=True):
                p.add_(part.reshape(p.shape), alpha=-group["lr"])


def orthogonalized(matrices: Tensor, iterations: int) -> Tensor:
    """The matrices (N, rows, columns) with their singular values moved close to 1: about 0.7 to 1.2."""
    a, b, c = COEFFICIENTS
    # bf16 is precise enough, as the result is only close to 1, and much faster on a GPU.
    x = matrices.bfloat16() if matrices.is_cuda else matrices
    wide = x.shape[1] <= x.shape[2]
    x = x if wide else x.mT
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)  # now no singular value exceeds 1
    for _ in range(iterations):
        square = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(square, square, square, beta=b, alpha=c), x, beta=a)
    return (x if wide else x.mT).to(matrices.dtype)


class Together(Composite):
    """Optimizers of different parameters as one, by name."""

    def __init__(self, parts: dict[str, Optimizer]):
        self.parts = parts
        super().__init__()

    @property
    def param_groups(self) -> list[dict]:
        return [group for part in self.parts.values() for group in part.param_groups]

    @property
    def state(self) -> dict[Tensor, Any]:
        return {p: state for part in self.parts.values() for p, state in part.state.items()}

    @property
    def defaults(self) -> dict[str, Any]:
        return {name: value for part in self.parts.values() for name, value in part.defaults.items()}

    def add_param_group(self, param_group: dict) -> None:
        raise NotImplementedError("give all parameters to muon() when it is built")

    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:
        loss = closure() if closure else None
        for part in self.parts.values():
            part.step()
        return loss

    def state_dict(self) -> dict:
        return {name: part.state_dict() for name, part in self.parts.items()}

    def load_state_dict(self, state: dict) -> None:
        for name, part in self.parts.items():
            part.load_state_dict(state[name])


@optimizers.register("muon", paper="Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/")
def muon(
    params: ParamsT,
    lr: LearningRate = 0.02,  # of hidden layers; the schedule multiplies all learning rates
    momentum: Decay = 0.95,  # decay of their velocity
    nesterov: bool = True,  # Nesterov momentum
    weight_decay: NonNegative = 0.01,  # weights shrink by lr * weight_decay per step; rest: as adamw or sgd
    iterations: Count = 5,  # Newton-Schulz iterations
    fixed_norm: bool = False,  # scale weights to norm sqrt(outputs) before each step
    rest: Literal["adamw", "sgd"] = "adamw",  # optimizer of the head, embeddings, norm layers and biases
    rest_lr: Positive | None = None,  # its learning rate; none: 3e-4 for adamw, 0.1 for sgd
    rest_momentum: Annotated[float, Interval(gt=0, lt=1)] | None = None,  # sgd's momentum; none: 0.9
    rest_decay: NonNegative | None = None,  # weight decay of the rest; none: weight_decay
    betas: tuple[Decay, Decay] = (0.9, 0.95),  # decay of adamw's two moments
) -> Together:
    """Orthogonalized momentum for hidden layers; AdamW or SGD for the rest.

    Args:
        params: groups from `ParamGroups()(model)`, which mark the hidden layers. Of plain parameters, all
            with two dimensions or more count as hidden, the head and embeddings included.
    """
    holds = rest_momentum is None or rest == "sgd"
    require(holds, "rest_momentum", "none where rest is adamw", rest_momentum)
    rest_decay = weight_decay if rest_decay is None else rest_decay
    hidden, others = _split(params)
    parts: dict[str, Optimizer] = {}
    if hidden:
        parts["hidden"] = HiddenMuon(hidden, lr, momentum, nesterov, weight_decay, iterations, fixed_norm)
    if others and rest == "adamw":
        parts["rest"] = AdamW(others, lr=rest_lr or 3e-4, betas=betas, weight_decay=rest_decay)
    elif others:
        options = {"momentum": rest_momentum or 0.9, "nesterov": True, "weight_decay": rest_decay}
        parts["rest"] = SGD(others, lr=rest_lr or 0.1, **options)
    return Together(parts)


def _split(params: ParamsT) -> tuple[list[dict], list[dict]]:
    """The groups with their hidden matrices, and the groups with the rest."""
    hidden, others, groups = [], [], list(params)
    for group in groups if not groups or isinstance(groups[0], dict) else [{"params": groups}]:
        counts = GroupOptions.of(group).matrices or [int(p.ndim > 1) for p in group["params"]]
        pairs = list(zip(group["params"], counts, strict=True))
        for side, part in (
            (hidden, [(p, count) for p, count in pairs if count]),
            (others, [(p, count) for p, count in pairs if not count]),
        ):
            if part:
                found, counts = (list(column) for column in zip(*part, strict=True))
                side.append({**group, "params": found, "matrices": counts})
    return hidden, others
