"""Dual Path Networks (Chen et al. 2017, arXiv:1707.01629, section 4, figure 2 and table 1), on small images.

Every unit adds to the channels of a residual path and appends channels to a dense path. BatchNorm and ReLU
precede each convolution, and the projection at the start of a stage has 2 * growth dense channels, as in the
authors' code. The stem is one 3x3 convolution of stride 1 without max-pooling: at 32 px the paper's stem
would leave 8x8 pixels. DPN-26 is DPN-92 with two units in each stage.
"""

from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..core.registry import models
from .layers import conv, conv_bn_relu, init_he

# depth -> units of each stage (table 1)
UNITS = {26: (2, 2, 2, 2), 92: (3, 4, 20, 3)}
# of each stage: channels of the 3x3 convolutions and of the residual path, growth of the dense path (table 1)
WIDTHS = ((96, 256, 16), (192, 512, 32), (384, 1024, 24), (768, 2048, 128))
GROUPS = 32


def activated(convolution: nn.Conv2d) -> nn.Sequential:
    return nn.Sequential(nn.BatchNorm2d(convolution.in_channels), nn.ReLU(inplace=True), convolution)


class DualPathUnit(nn.Module):
    """x holds the `residual` channels of the residual path, followed by those of the dense path.

    The first unit of a stage projects x to both paths, the dense one with 2 * growth channels.
    """

    def __init__(self, in_channels: int, width: int, residual: int, growth: int, stride: int, first: bool):
        super().__init__()
        self.residual = residual
        self.project = nn.Identity()
        if first:
            self.project = activated(conv(in_channels, residual + 2 * growth, 1, stride))
        self.new = nn.Sequential(
            activated(conv(in_channels, width, 1)),
            activated(conv(width, width, 3, stride, GROUPS)),
            activated(conv(width, residual + growth, 1)),
        )

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C', H/stride, W/stride)
        old, new = self.project(x), self.new(x)
        added = old[:, : self.residual] + new[:, : self.residual]
        return torch.cat([added, old[:, self.residual :], new[:, self.residual :]], dim=1)


class DPN(nn.Module):
    def __init__(
        self,
        num_classes: int = 10,
        in_channels: int = 3,
        depth: Literal[26, 92] = 92,
    ):
        super().__init__()
        self.stem = conv_bn_relu(in_channels, 64, 3)
        stages, before = [], 64
        for stage, units in enumerate(UNITS[depth]):
            width, residual, growth = WIDTHS[stage]
            for i in range(units):
                first = i == 0
                stride = 2 if first and stage > 0 else 1
                stages.append(DualPathUnit(before, width, residual, growth, stride, first))
                before = residual + (3 + i) * growth
        self.stages = nn.Sequential(*stages)
        self.norm = nn.BatchNorm2d(before)
        self.head = nn.Linear(before, num_classes)
        init_he(self)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, K)
        x = F.relu(self.norm(self.stages(self.stem(x))), inplace=True)  # (B, C', H/8, W/8)
        return self.head(x.mean((2, 3)))


register = partial(models.register, paper="Chen et al. 2017, arXiv:1707.01629")

register("dpn26", partial(DPN, depth=26), aliases=("dpn",), params=11_987_898)
register("dpn92", partial(DPN, depth=92), params=34_998_602)
