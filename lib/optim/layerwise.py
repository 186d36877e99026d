"""LARS, LARC and LAMB: steps in proportion to the norm of each layer's weights, for large batches.

Tensors of one dimension (the scales of norm layers, biases) are not adapted, as in most recipes for large
batches: a bias starts at norm 0, from which no step size follows. timm decides this by the weight decay of a
group: without decay it adapts nothing, with decay it adapts biases too. Hence these are written out here.
"""

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from ..core.contracts import Decay, NonNegative, Positive
from ..core.registry import optimizers
from .arguments import Betas, Epsilon, LearningRate
from .foreach import ForeachOptimizer


@optimizers.register("lars", paper="You et al. 2017, arXiv:1708.03888")
class LARS(ForeachOptimizer):
    """SGD with a learning rate for each layer: `trust` times the norm of its weights over its gradient's."""

    clipped = False

    def __init__(
        self,
        params: ParamsT,
        lr: LearningRate = 1.0,
        momentum: Decay = 0.9,  # decay of the velocity
        weight_decay: NonNegative = 5e-4,  # added to the gradient as weight_decay * weight
        trust: Positive = 1e-3,  # ratio of the norms of a layer's step and weights, at lr 1
        eps: Epsilon = 1e-8,
    ):
        defaults = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "trust": trust, "eps": eps}
        super().__init__(params, defaults)

    def move(self, params: list[Tensor], group: dict) -> None:
        layers, vectors = [p for p in params if p.ndim > 1], [p for p in params if p.ndim <= 1]
        if layers:
            self._move_with(self._layer_lrs(layers, group), layers, group)
        if vectors:
            self._move_with(group["lr"], vectors, group)

    def _layer_lrs(self, layers: list[Tensor], group: dict) -> list[Tensor]:
        """A learning rate, still on the device, for each of the layers."""
        weights = torch.stack(torch._foreach_norm(layers))
        gradients = torch.stack(torch._foreach_norm([p.grad for p in layers]))
        lr = group["lr"]
        local = group["trust"] * weights / (gradients + group["weight_decay"] * weights + group["eps"])
        lrs = local.clamp(max=lr) if self.clipped else lr * local
        # With a norm of 0 the ratio is meaningless.
        return list(torch.where((weights > 0) & (gradients > 0), lrs, lr).unbind())

    def _move_with(self, lrs: list[Tensor] | float, params: list[Tensor], group: dict) -> None:
        changes = torch._foreach_add([p.grad for p in params], params, alpha=group["weight_decay"])
        torch._foreach_mul_(changes, lrs)
        if not group["momentum"]:
            torch._foreach_sub_(params, changes)
            return
        # The velocity includes the learning rate, so a change of the rate does not rescale it.
        velocities = self.velocities(params)
        torch._foreach_mul_(velocities, group["momentum"])
        torch._foreach_add_(velocities, changes)
        torch._foreach_sub_(params, velocities)


@optimizers.register("larc", paper="You et al. 2017, arXiv:1708.03888; NVIDIA's apex")
class LARC(LARS):
    """LARS with the learning rate of each layer clipped at lr."""

    clipped = True

    def __init__(
        self,
        params: ParamsT,
        lr: LearningRate = 0.1,  # upper bound of the layers' learning rates; the schedule multiplies it
        momentum: Decay = 0.9,  # decay of the velocity
        weight_decay: NonNegative = 5e-4,  # added to the gradient as weight_decay * weight
        trust: Positive = 0.02,  # ratio of the norms of a layer's step and weights, below the bound
        eps: Epsilon = 1e-8,
    ):
        super().__init__(params, lr, momentum, weight_decay, trust, eps)


@optimizers.register("lamb", paper="You et al. 2019, arXiv:1904.00962")
class LAMB(ForeachOptimizer):
    """Adam whose step in each layer has lr times the norm of the layer's weights.

    The algorithm of the paper, with the identity as its scaling function.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: LearningRate = 1e-3,
        betas: Betas = (0.9, 0.999),
        eps: Epsilon = 1e-6,
        weight_decay: NonNegative = 0.01,  # added to Adam's direction as weight_decay * weight
    ):
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    def move(self, params: list[Tensor], group: dict) -> None:
        lr, (beta1, beta2) = group["lr"], group["betas"]
        gradients = [p.grad for p in params]
        means, squares, steps = self.moments(params, gradients, group["betas"])

        denominators = torch._foreach_sqrt(squares)
        torch._foreach_div_(denominators, [(1 - beta2**t) ** 0.5 for t in steps])
        torch._foreach_add_(denominators, group["eps"])
        directions = torch._foreach_div(means, denominators)
        torch._foreach_div_(directions, [1 - beta1**t for t in steps])
        torch._foreach_add_(directions, params, alpha=group["weight_decay"])
        layers = [i for i, p in enumerate(params) if p.ndim > 1]
        if layers:
            weights = torch.stack(torch._foreach_norm([params[i] for i in layers]))
            norms = torch.stack(torch._foreach_norm([directions[i] for i in layers]))
            ratios = torch.where((weights > 0) & (norms > 0), weights / norms, 1.0)
            torch._foreach_mul_([directions[i] for i in layers], list(ratios.unbind()))
        torch._foreach_add_(params, directions, alpha=-lr)
