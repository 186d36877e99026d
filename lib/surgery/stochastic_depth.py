"""Stochastic depth (Huang et al. 2016, arXiv:1603.09382, section 3) for any residual network.

Branch l of L is dropped with probability rate * l/L, equation 4, drawn per image. A branch is a module with
an output that is added to its input, counted in the order of the forward pass; a transformer layer has two.
"""

from typing import Annotated

import torch
from annotated_types import Interval
from torch import Tensor, nn

from ..core.facts import Part, SurgeryOrder
from ..core.registry import surgeries
from ..graph.branches import residual_branches
from .graft import insert_after

# class names of stochastic depth in other networks -> attributes that hold the drop probability
OWN = {"DropPath": ("rate", "drop_prob"), "StochasticDepth": ("p",)}


class DropBranch(nn.Module):
    """In training a kept branch is divided by its survival probability; evaluation is the identity."""

    def __init__(self, rate: float):
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:  # (B, ...) -> (B, ...)
        if not self.training:
            return x
        # In float32, because probabilities need its precision. The step seeds the generator.
        noise = torch.rand(len(x), *(1,) * (x.ndim - 1), device=x.device)
        return x * ((noise >= self.rate) / (1 - self.rate)).to(x.dtype)


@surgeries.register(
    "stochastic_depth",
    order=SurgeryOrder.DROPS,
    needs=Part.BRANCH,
    own=("drop_path", "drop_path_rate", "stochastic_depth_prob", "survival"),  # options of models
    paper="Huang et al. 2016, arXiv:1603.09382",
)
def stochastic_depth(
    model: nn.Module,
    shape: tuple[int, int, int],
    rate: Annotated[float, Interval(gt=0, lt=1)] = 0.5,  # drop probability of the last branch; linear from 0
) -> nn.Module:
    """Stochastic depth: drop whole residual branches in training, later ones more often."""
    branches = residual_branches(model, shape)
    if not branches:
        raise ValueError(
            "the model has no residual branch, that is no module with an output that is added to its input"
        )
    if any(_drops(module) for module in model.modules()):
        raise ValueError("the model already drops its branches")
    for i, branch in enumerate(branches, start=1):
        insert_after(branch.end, "stochastic_depth", DropBranch(rate * i / len(branches)))
    return model


def _drops(module: nn.Module) -> bool:
    names = OWN.get(type(module).__name__, ())
    return any((getattr(module, name, 0) or 0) > 0 for name in names)
