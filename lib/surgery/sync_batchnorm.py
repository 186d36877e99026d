"""BatchNorm with statistics over all processes (Peng et al. 2017, MegDet, arXiv:1711.07240).

Each layer synchronises the processes twice per step, forward and backward. The statistics are those of the
whole batch, so that the network is the one that a single process would train.
"""

import torch
from torch import Tensor, nn

from ..core.dist import World
from ..core.errors import BadInput


class _Total(torch.autograd.Function):
    """The sum of a tensor over the processes; its gradient is the sum of their gradients."""

    @staticmethod
    def forward(ctx, x: Tensor, world: World) -> Tensor:
        ctx.world = world
        total = x.clone()
        world.all_reduce([total])
        return total

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        total = gradient.clone()
        ctx.world.all_reduce([total])
        return total, None


class _Synchronised:
    """The forward pass that replaces that of BatchNorm."""

    world: World

    def forward(self, x: Tensor) -> Tensor:  # (B, C, ...) -> (B, C, ...)
        # All processes get here together only in a training step. Other code that runs a network in train
        # mode computes no gradient, or runs on the meta device.
        if not self.training or not torch.is_grad_enabled() or x.is_meta:
            return super().forward(x)
        count, mean, variance = self._statistics(x)
        if self.running_mean is not None:
            self._follow(count, mean.detach(), variance.detach())
        scale = torch.rsqrt(variance + self.eps)
        scale = scale if self.weight is None else scale * self.weight
        shift = -mean * scale if self.bias is None else self.bias - mean * scale
        shape = (1, -1) + (1,) * (x.ndim - 2)
        return torch.addcmul(shift.view(shape), x.float(), scale.view(shape)).to(x.dtype)

    def _statistics(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The number of values of a channel over all processes, their mean and their variance."""
        variance, mean = torch.var_mean(x.float(), [0, *range(2, x.ndim)], correction=0)
        # In float64, where E[x^2] - E[x]^2 is exact to float32.
        variance, mean = variance.double(), mean.double()
        count = torch.full_like(mean[:1], x.numel() // x.shape[1])
        total = _Total.apply(torch.cat((count, count * mean, count * (variance + mean**2))), self.world)
        count, total = total[0].detach(), total[1:] / total[0]
        mean, square = total.chunk(2)
        return count, mean.float(), (square - mean**2).clamp(min=0).float()

    @torch.no_grad()
    def _follow(self, count: Tensor, mean: Tensor, variance: Tensor) -> None:
        self.num_batches_tracked += 1
        weight = 1 / self.num_batches_tracked if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, weight)
        self.running_var.lerp_(variance * (count / (count - 1)).float(), weight)


class SyncBatchNorm1d(_Synchronised, nn.BatchNorm1d):
    pass


class SyncBatchNorm2d(_Synchronised, nn.BatchNorm2d):
    pass


KINDS = {nn.BatchNorm1d: SyncBatchNorm1d, nn.BatchNorm2d: SyncBatchNorm2d}


def synchronise(model: nn.Module, world: World) -> None:
    """Make every BatchNorm of the network compute its statistics over all processes.

    Only the class of a module changes: its parameters, name and grafts stay the same.
    """
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    if foreign := {type(norm).__name__ for norm in norms if type(norm) not in KINDS}:
        kinds = ", ".join(sorted(foreign))
        raise BadInput(f"train.sync_bn cannot share the statistics of {kinds}; leave one out")
    for norm in norms:
        norm.__class__, norm.world = KINDS[type(norm)], world
