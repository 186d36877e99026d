"""ResNet in ResNet (Targ et al. 2016, arXiv:1603.08029, section 2): the wide 18-layer network for CIFAR.

Every layer has two streams of channels, which read each other: a residual stream with a shortcut across each
layer, and a transient stream without. Two such layers have the usual shortcut of a ResNet.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..core.registry import models
from .layers import basic_branch, conv, conv_bn_relu, init_he

WIDTHS = (96, 192, 384)  # channels of both streams together
BLOCKS = (2, 3, 3)


class Block(nn.Module):
    """relu(residual(x) + shortcut(x)), where the residual has two generalised layers.

    One convolution of all channels contains those of both streams (r -> r, r -> t, t -> r, t -> t). The
    shortcut across it is part of its weights: conv(r, W) + r = conv(r, W + 1), the paper's ResNet Init.
    """

    def __init__(self, in_channels: int, channels: int, stride: int):
        super().__init__()
        self.residual = basic_branch(in_channels, channels, stride)
        self.shortcut = nn.Identity()
        if stride != 1 or in_channels != channels:
            # 3x3, not 1x1: this gives the paper's 10.3 M parameters (1x1 gives 9.6 M).
            self.shortcut = nn.Sequential(conv(in_channels, channels, 3, stride), nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C', H/stride, W/stride)
        return F.relu(self.residual(x) + self.shortcut(x), inplace=True)


def add_identity(convolution: nn.Conv2d) -> None:
    """Add an identity for the residual stream, the first half of the channels; new channels have none."""
    outputs, inputs = convolution.weight.shape[:2]
    passing = torch.arange(min(outputs, inputs) // 2)
    with torch.no_grad():
        convolution.weight[passing, passing, 1, 1] += 1


@models.register("rir", params=10.3e6, paper="Targ et al. 2016, arXiv:1603.08029")
class RiR(nn.Module):
    def __init__(self, num_classes: int = 10, in_channels: int = 3):
        super().__init__()
        width = WIDTHS[0]
        self.stem = conv_bn_relu(in_channels, width, 3)
        stages = []
        for channels, blocks in zip(WIDTHS, BLOCKS, strict=True):
            for i in range(blocks):
                stages.append(Block(width, channels, 2 if i == 0 and channels > WIDTHS[0] else 1))
                width = channels
        self.stages = nn.Sequential(*stages)
        self.head = nn.Linear(width, num_classes)
        init_he(self)
        for block in self.stages:
            for layer in block.residual:
                if isinstance(layer, nn.Conv2d):
                    add_identity(layer)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, K)
        x = self.stages(self.stem(x))  # (B, 384, H/4, W/4)
        return self.head(x.mean((2, 3)))
