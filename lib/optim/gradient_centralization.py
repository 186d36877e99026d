"""Gradient centralisation (Yong et al. 2020, arXiv:2004.01461, section 3)."""

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ..core.facts import WrapperOrder
from ..core.registry import wrappers
from .wrapper import GradientMap


@wrappers.register(
    "gradient_centralization",
    aliases=("gradient_centralisation", "gc"),
    order=WrapperOrder.CENTRE,
    paper="Yong et al. 2020, arXiv:2004.01461",
)
class GradientCentralization(GradientMap):
    """Give the gradient of each neuron's weights mean 0, in layers and filters alike."""

    def __init__(self, base: Optimizer, model: nn.Module):
        super().__init__(base)

    @torch.no_grad()
    def change(self, params: list[Tensor]) -> None:
        gradients = [p.grad for p in params if p.ndim > 1]  # a norm scale or a bias has one weight a neuron
        means = [g.mean(dim=tuple(range(1, g.ndim)), keepdim=True) for g in gradients]
        if gradients:
            torch._foreach_sub_(gradients, means)
