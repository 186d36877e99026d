"""Squeeze-and-excitation (Hu et al. 2017, arXiv:1709.01507, section 3) at the end of each residual branch."""

import torch
from torch import Tensor, nn

from ..core.contracts import Count
from ..core.facts import Part, SurgeryOrder
from ..core.registry import surgeries
from ..graph.branches import residual_branches
from .graft import insert_after


class SqueezeExcite(nn.Module):
    """Scale each channel by a gate that two dense layers compute from all channel means."""

    def __init__(self, channels: int, ratio: int):
        super().__init__()
        self.squeeze = nn.Linear(channels, max(1, channels // ratio))
        self.excite = nn.Linear(self.squeeze.out_features, channels)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C, H, W)
        gate = torch.sigmoid(self.excite(self.squeeze(x.mean((2, 3))).relu()))
        return x * gate.to(x.dtype)[:, :, None, None]


@surgeries.register(
    "squeeze_excite",
    order=SurgeryOrder.BRANCHES,
    needs=Part.CONVOLUTIONAL_BRANCH,
    paper="Hu et al. 2017, arXiv:1709.01507",
)
def squeeze_excite(
    model: nn.Module,
    shape: tuple[int, int, int],
    ratio: Count = 16,  # reduction between the two dense layers; 16 in the paper
) -> nn.Module:
    """Squeeze-and-excitation: a gate per channel at the end of each residual branch."""
    branches = [branch for branch in residual_branches(model, shape) if branch.is_map]
    if not branches:
        raise ValueError("the model has no residual branch that ends in a convolution")
    for branch in branches:
        insert_after(branch.end, "squeeze_excite", SqueezeExcite(branch.shape[0], ratio))
    return model
