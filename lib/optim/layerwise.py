"""LARS, LARC and LAMB: each layer's step is in proportion to the norm of its weights, for large batches.

Tensors of one dimension (the scales of norm layers, biases) are not adapted, as in most recipes for large
batches: a bias begins at norm 0, which says nothing of the step that it needs. timm's classes decide this by
whether a group decays, so that without decay they adapt nothing, and with it biases too; and timm's LAMB
counts a step of a parameter without a gradient. Hence they are written out here.
"""

import torch
from torch import Tensor

from ..core.errors import require
from ..core.registry import optimizers
from .foreach import ForeachOptimizer
from .optimizers import check


@optimizers.register("lars", paper="You et al. 2017, arXiv:1708.03888")
class LARS(ForeachOptimizer):
    """SGD at a rate for each layer: `trust` times the norm of its weights over that of its gradient.

    You et al. 2017, arXiv:1708.03888, algorithm 1.
    """

    clipped = False

    def __init__(
        self,
        params: list[dict],
        lr: float = 1.0,  # the schedule's factors multiply it
        momentum: float = 0.9,  # of the velocity
        weight_decay: float = 5e-4,  # added to the gradient as weight_decay * weight
        trust: float = 1e-3,  # norm of a layer's step in norms of its weights, at lr 1
        eps: float = 1e-8,  # keeps the division finite
    ):
        check(lr, weight_decay)
        require(0 <= momentum < 1, "momentum", "at least 0 and below 1", momentum)
        require(trust > 0, "trust", "above 0", trust)
        defaults = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "trust": trust, "eps": eps}
        super().__init__(params, defaults)

    def move(self, params: list[Tensor], group: dict) -> None:
        layers, vectors = [p for p in params if p.ndim > 1], [p for p in params if p.ndim <= 1]
        if layers:
            self._move_by(self._rates(layers, group), layers, group)
        if vectors:
            self._move_by(group["lr"], vectors, group)

    def _rates(self, layers: list[Tensor], group: dict) -> list[Tensor]:
        """A rate, still on the device, for each of the layers."""
        weights = torch.stack(torch._foreach_norm(layers))
        slopes = torch.stack(torch._foreach_norm([p.grad for p in layers]))
        lr = group["lr"]
        local = group["trust"] * weights / (slopes + group["weight_decay"] * weights + group["eps"])
        rates = local.clamp(max=lr) if self.clipped else lr * local
        # A layer of zeros, or one without slope, has no measure of its own.
        return list(torch.where((weights > 0) & (slopes > 0), rates, lr).unbind())

    def _move_by(self, rates: list[Tensor] | float, params: list[Tensor], group: dict) -> None:
        changes = torch._foreach_add([p.grad for p in params], params, alpha=group["weight_decay"])
        torch._foreach_mul_(changes, rates)
        if not group["momentum"]:
            torch._foreach_sub_(params, changes)
            return
        # The velocity is in units of the weights, rates included: a change of rate leaves it alone.
        velocities = self.velocities(params)
        torch._foreach_mul_(velocities, group["momentum"])
        torch._foreach_add_(velocities, changes)
        torch._foreach_sub_(params, velocities)


@optimizers.register("larc", paper="You et al. 2017, arXiv:1708.03888; NVIDIA's apex")
class LARC(LARS):
    """LARS that no layer learns faster with than SGD would: a layer's rate is at most lr."""

    clipped = True

    def __init__(
        self,
        params: list[dict],
        lr: float = 0.1,  # largest rate of a layer; the schedule's factors multiply it
        momentum: float = 0.9,  # of the velocity
        weight_decay: float = 5e-4,  # added to the gradient as weight_decay * weight
        trust: float = 0.02,  # norm of a layer's step in norms of its weights, where lr allows it
        eps: float = 1e-8,  # keeps the division finite
    ):
        super().__init__(params, lr, momentum, weight_decay, trust, eps)


@optimizers.register("lamb", paper="You et al. 2019, arXiv:1904.00962")
class LAMB(ForeachOptimizer):
    """Adam whose step in each layer has the norm of the layer's weights, times lr.

    You et al. 2019, arXiv:1904.00962, algorithm 2, with the identity for the scaling function.
    """

    def __init__(
        self,
        params: list[dict],
        lr: float = 1e-3,  # the schedule's factors multiply it
        betas: tuple[float, float] = (0.9, 0.999),  # decay of the two moments
        eps: float = 1e-6,  # keeps the division finite
        weight_decay: float = 0.01,  # added to Adam's direction as weight_decay * weight
    ):
        check(lr, weight_decay, betas)
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    def move(self, params: list[Tensor], group: dict) -> None:
        lr, (beta1, beta2) = group["lr"], group["betas"]
        gradients = [p.grad for p in params]
        means, squares, steps = self.moments(params, gradients, group["betas"])

        spread = torch._foreach_sqrt(squares)
        torch._foreach_div_(spread, [(1 - beta2**t) ** 0.5 for t in steps])
        torch._foreach_add_(spread, group["eps"])
        directions = torch._foreach_div(means, spread)
        torch._foreach_div_(directions, [1 - beta1**t for t in steps])
        torch._foreach_add_(directions, params, alpha=group["weight_decay"])
        layers = [i for i, p in enumerate(params) if p.ndim > 1]
        if layers:
            weights = torch.stack(torch._foreach_norm([params[i] for i in layers]))
            lengths = torch.stack(torch._foreach_norm([directions[i] for i in layers]))
            ratios = torch.where((weights > 0) & (lengths > 0), weights / lengths, 1.0)
            torch._foreach_mul_([directions[i] for i in layers], list(ratios.unbind()))
        torch._foreach_add_(params, directions, alpha=-lr)
