"""Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/): steps that are orthogonal matrices.

The momentum of each weight matrix is replaced by the nearest matrix whose singular values are all 1, by five
Newton-Schulz iterations. That suits matrices and filters between hidden layers; the head, embeddings, norm
layers and biases are left to AdamW or SGD. torch's Muon takes matrices only; timm's takes filters, but tells
the head from the rest by nothing, and neither treats matrices of one shape in one go.
"""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor
from torch.optim import SGD, AdamW, Optimizer

from ..core.errors import require
from ..core.registry import optimizers
from .foreach import ForeachOptimizer
from .optimizers import check
from .param_groups import GroupOptions

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # steepest at 0 of the quintics that stay near 1


class HiddenMuon(ForeachOptimizer):
    """Muon proper. A parameter may hold several matrices, one below the other (`GroupOptions.matrices`)."""

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

        # Matrices of one shape are orthogonalized together: a network has few shapes and many matrices.
        shapes: dict[tuple[int, int], list[tuple[Tensor, Tensor]]] = {}
        counts = dict(zip(group["params"], GroupOptions.of(group).matrices, strict=True))
        for p, direction in zip(params, directions, strict=True):
            stack = direction.reshape(counts[p], len(p) // counts[p], -1)
            shapes.setdefault(tuple(stack.shape[1:]), []).append((p, stack))
        for (rows, columns), members in shapes.items():
            steps = orthogonalized(torch.cat([stack for _, stack in members]), group["iterations"])
            # A tall matrix moves its many outputs by as much as a square one moves its own.
            steps *= max(1, rows / columns) ** 0.5
            parts = steps.split([len(stack) for _, stack in members])
            for (p, _), part in zip(members, parts, strict=True):
                p.add_(part.reshape(p.shape), alpha=-group["lr"])


def orthogonalized(matrices: Tensor, iterations: int) -> Tensor:
    """The matrices (N, rows, columns) with their singular values brought near 1: to some 0.7 to 1.2."""
    a, b, c = COEFFICIENTS
    # bf16 is exact enough for what only has to come near 1, and much faster on a GPU.
    x = matrices.bfloat16() if matrices.is_cuda else matrices
    wide = x.shape[1] <= x.shape[2]
    x = x if wide else x.mT
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)  # now no singular value exceeds 1
    for _ in range(iterations):
        square = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(square, square, square, beta=b, alpha=c), x, beta=a)
    return (x if wide else x.mT).to(matrices.dtype)


class Together:
    """Optimizers of different parameters, as one."""

    def __init__(self, parts: dict[str, Optimizer]):
        self.parts = parts

    @property
    def param_groups(self) -> list[dict]:
        return [group for part in self.parts.values() for group in part.param_groups]

    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:
        loss = closure() if closure else None
        for part in self.parts.values():
            part.step()
        return loss

    def zero_grad(self, set_to_none: bool = True) -> None:
        for part in self.parts.values():
            part.zero_grad(set_to_none)

    def state_dict(self) -> dict:
        return {name: part.state_dict() for name, part in self.parts.items()}

    def load_state_dict(self, state: dict) -> None:
        for name, part in self.parts.items():
            part.load_state_dict(state[name])


@optimizers.register("muon", paper="Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/")
def muon(
    params: list[dict],
    lr: float = 0.02,  # of the hidden matrices and filters; the schedule's factors multiply all rates
    momentum: float = 0.95,  # of their velocity
    nesterov: bool = True,  # look ahead by one velocity
    weight_decay: float = 0.01,  # they shrink by lr * weight_decay a step; all else as adamw or sgd has it
    iterations: int = 5,  # of Newton and Schulz
    fixed_norm: bool = False,  # before a step each weight gets the norm sqrt(outputs): for layers with norms
    rest: Literal["adamw", "sgd"] = "adamw",  # what moves the head, embeddings, norm layers and biases
    rest_lr: float | None = None,  # its rate; none: 3e-4 for adamw, 0.1 for sgd
    rest_momentum: float | None = None,  # of sgd's velocity; none: 0.9
    rest_decay: float | None = None,  # weight decay of the rest; none: weight_decay
    betas: tuple[float, float] = (0.9, 0.95),  # decay of adamw's two moments
) -> Together:
    """Momentum made an orthogonal matrix, for hidden layers; AdamW or SGD for all else."""
    check(lr, weight_decay, betas)
    require(0 <= momentum < 1, "momentum", "at least 0 and below 1", momentum)
    require(iterations >= 1, "iterations", "at least 1", iterations)
    require(rest_lr is None or rest_lr > 0, "rest_lr", "above 0", rest_lr)
    require(
        rest_momentum is None or rest == "sgd", "rest_momentum", "none where rest is adamw", rest_momentum
    )
    momentum_fits = rest_momentum is None or 0 < rest_momentum < 1
    require(momentum_fits, "rest_momentum", "above 0 and below 1", rest_momentum)
    require(rest_decay is None or rest_decay >= 0, "rest_decay", "at least 0", rest_decay)
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


def _split(groups: list[dict]) -> tuple[list[dict], list[dict]]:
    """The groups with their hidden matrices, and with all else; without a mark, every matrix is hidden."""
    hidden, others = [], []
    for group in groups:
        marks = GroupOptions.of(group).matrices or [int(p.ndim > 1) for p in group["params"]]
        pairs = list(zip(group["params"], marks, strict=True))
        for side, part in (
            (hidden, [(p, count) for p, count in pairs if count]),
            (others, [(p, count) for p, count in pairs if not count]),
        ):
            if part:
                found, counts = (list(column) for column in zip(*part, strict=True))
                side.append({**group, "params": found, "matrices": counts})
    return hidden, others
