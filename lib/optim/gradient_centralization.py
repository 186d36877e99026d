"""Gradient centralization (Yong et al. 2020, arXiv:2004.01461)."""

import torch
from torch import Tensor

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
    """Subtract from the gradient of each neuron's weights their mean, in linear layers and convolutions."""

    @torch.no_grad()
    def change(self, params: list[Tensor]) -> None:
        gradients = [p.grad for p in params if p.ndim > 1]  # a norm scale or a bias has one weight per neuron
        means = [g.mean(dim=tuple(range(1, g.ndim)), keepdim=True) for g in gradients]
        if gradients:
            torch._foreach_sub_(gradients, means)
