"""ResNet in ResNet (Targ et al. 2016, arXiv:1603.08029, section 2): the 18-layer, wide network for CIFAR.

Every layer has two streams of channels that feed each other: a residual one, with a shortcut across each
single layer, and a transient one without. Around two such layers runs the usual shortcut of a ResNet.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..core.registry import models
from .layers import basic_branch, conv, conv_bn_relu, init_he

WIDTHS = (96, 192, 384)  # channels of both streams together
BLOCKS = (2, 3, 3)


class Block(nn.Module):
    """relu(residual(x) + shortcut(x)) with two generalised layers as the residual.

    One convolution of all channels holds the four of the streams (r -> r, r -> t, t -> r, t -> t), and the
    shortcut across it is part of its weights: conv(r, W) + r = conv(r, W + 1), the paper's ResNet Init.
    """

    def __init__(self, in_channels: int, channels: int, stride: int):
        super().__init__()
        self.residual = basic_branch(in_channels, channels, stride)
        self.shortcut = nn.Identity()
        if stride != 1 or in_channels != channels:
            # 3x3, not 1x1: so the network has the 10.3 M parameters of the paper (else 9.6 M).
            self.shortcut = nn.Sequential(conv(in_channels, channels, 3, stride), nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C', H/stride, W/stride)
        return F.relu(self.residual(x) + self.shortcut(x), inplace=True)


def add_identity(convolution: nn.Conv2d) -> None:
    """Let the residual stream, the first half of the channels, pass; new channels of it start without."""
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
