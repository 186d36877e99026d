"""Deep Layer Aggregation (Yu et al. 2017, arXiv:1707.06484, section 3 and table 1), for small images.

A stage is a tree of blocks; its roots combine the outputs of the blocks below them. The stem is 3x3 instead
of 7x7, and the first three levels have stride 1: at 32 px the four stages have 32, 16, 8 and 4 pixels a side.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..core.registry import models
from .layers import basic_branch, conv, conv_bn_relu, init_he


def halve(stride: int) -> nn.Module:
    # ceil: a convolution of stride 2 also maps 7 pixels to 4.
    return nn.MaxPool2d(2, ceil_mode=True) if stride == 2 else nn.Identity()


class Block(nn.Module):
    """A basic ResNet block; its shortcut is max-pooled, and projected where the width changes."""

    def __init__(self, in_channels: int, channels: int, stride: int):
        super().__init__()
        self.shortcut = nn.Sequential(halve(stride))
        if in_channels != channels:
            self.shortcut.extend([conv(in_channels, channels, 1), nn.BatchNorm2d(channels)])
        self.residual = basic_branch(in_channels, channels, stride)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C', H/stride, W/stride)
        return F.relu(self.residual(x) + self.shortcut(x), inplace=True)


class Tree(nn.Module):
    """Hierarchical deep aggregation (section 3.2) of 2 ** height blocks.

    The right half follows the left one. The root of the right half is the root of the whole tree; it also
    reads the output of the left half, so that at every height it combines all left halves.

    Args:
        handed_on: channels of the tensors that the trees above pass to the root.
    """

    def __init__(self, height: int, in_channels: int, channels: int, stride: int = 1, handed_on: int = 0):
        super().__init__()
        self.is_lowest = height == 1
        if self.is_lowest:
            self.left = Block(in_channels, channels, stride)
            self.right = Block(channels, channels, 1)
            self.root = conv_bn_relu(2 * channels + handed_on, channels, 1)
        else:
            self.left = Tree(height - 1, in_channels, channels, stride)
            self.right = Tree(height - 1, channels, channels, handed_on=handed_on + channels)

    def forward(self, x: Tensor, *handed_on: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C', H/stride, W/stride)
        left = self.left(x)
        if self.is_lowest:
            return self.root(torch.cat([self.right(left), left, *handed_on], dim=1))
        return self.right(left, *handed_on, left)


class Stage(nn.Module):
    """A tree whose root also reads the max-pooled input: iterative aggregation (section 3.1)."""

    def __init__(self, height: int, in_channels: int, channels: int):
        super().__init__()
        self.halve = halve(2)
        self.tree = Tree(height, in_channels, channels, stride=2, handed_on=in_channels)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C', H/2, W/2)
        return self.tree(x, self.halve(x))


@models.register("dla34", aliases=("dla",), params=15_232_314, paper="Yu et al. 2017, arXiv:1707.06484")
class DLA34(nn.Module):
    def __init__(self, num_classes: int = 10, in_channels: int = 3):
        super().__init__()
        self.stem = nn.Sequential(
            conv_bn_relu(in_channels, 16, 3), conv_bn_relu(16, 16, 3), conv_bn_relu(16, 32, 3)
        )
        self.stages = nn.Sequential(
            Tree(1, 32, 64),
            Stage(2, 64, 128),
            Stage(2, 128, 256),
            Stage(1, 256, 512),
        )
        self.head = nn.Linear(512, num_classes)
        init_he(self)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, K)
        x = self.stages(self.stem(x))  # (B, 512, H/8, W/8)
        return self.head(x.mean((2, 3)))
