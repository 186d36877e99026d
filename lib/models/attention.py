"""Residual Attention Network (Wang et al. 2017, arXiv:1704.06904, sections 3 and 4.1), for CIFAR.

Each of three stages is a residual unit, which sets the width, and m attention modules; three residual units
follow the last stage. The network has 36m + 20 layers. The widths are those of the pre-activation ResNet with
bottlenecks (64, 128 and 256 channels on 32x32, 16x16 and 8x8 pixels), and every mask reduces its map to 4x4;
both were chosen to match the paper's parameter count, 1.9 million for m = 2.
"""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..core.contracts import Count
from ..core.registry import models
from .layers import conv, init_he

WIDTHS = (64, 128, 256)
# how many times the mask of each stage halves its map: from 32, 16 and 8 pixels to 4
MASK_DEPTHS = (3, 2, 1)


class Unit(nn.Module):
    """A pre-activation bottleneck (He et al. 2016, arXiv:1603.05027); a projection is pre-activated too."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1):
        super().__init__()
        channels = out_channels // 4
        self.activate = nn.Sequential(nn.BatchNorm2d(in_channels), nn.ReLU(inplace=True))
        self.residual = nn.Sequential(
            conv(in_channels, channels, 1), nn.BatchNorm2d(channels), nn.ReLU(inplace=True),
            conv(channels, channels, 3, stride), nn.BatchNorm2d(channels), nn.ReLU(inplace=True),
            conv(channels, out_channels, 1),
        )  # fmt: skip
        self.projection = None
        if stride != 1 or in_channels != out_channels:
            self.projection = conv(in_channels, out_channels, 1, stride)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C', H/stride, W/stride)
        activated = self.activate(x)
        return self.residual(activated) + (x if self.projection is None else self.projection(activated))


class Hourglass(nn.Module):
    """The mask of figure 2 without its last layers: max-pooling, units at each size, bilinear upsampling.

    With a depth above 1 it contains an hourglass at half the size, with a skip connection around it.
    """

    def __init__(self, channels: int, depth: int):
        super().__init__()
        self.down = Unit(channels, channels)
        self.inner = Hourglass(channels, depth - 1) if depth > 1 else None
        self.up = Unit(channels, channels)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C, H, W)
        below = self.down(F.max_pool2d(x, 3, 2, padding=1))  # (B, C, H/2, W/2)
        if self.inner is not None:
            below = below + self.inner(below)
        return F.interpolate(self.up(below), x.shape[-2:], mode="bilinear")


class AttentionModule(nn.Module):
    """(1 + mask) * trunk (section 3.1), with one unit before and one after it (p = 1, t = 2, r = 1)."""

    def __init__(self, channels: int, mask_depth: int):
        super().__init__()
        self.before = Unit(channels, channels)
        self.trunk = nn.Sequential(Unit(channels, channels), Unit(channels, channels))
        self.mask = nn.Sequential(
            Hourglass(channels, mask_depth),
            nn.BatchNorm2d(channels), nn.ReLU(inplace=True), conv(channels, channels, 1),
            nn.BatchNorm2d(channels), nn.ReLU(inplace=True), conv(channels, channels, 1),
            nn.Sigmoid(),
        )  # fmt: skip
        self.behind = Unit(channels, channels)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C, H, W)
        x = self.before(x)
        trunk = self.trunk(x)
        return self.behind(torch.addcmul(trunk, trunk, self.mask(x)))


class ResidualAttentionNetwork(nn.Module):
    def __init__(
        self,
        num_classes: int = 10,
        in_channels: int = 3,
        modules: Count = 1,  # attention modules in each stage
    ):
        super().__init__()
        stages, before = [], 16
        for stage, width in enumerate(WIDTHS):
            stages.append(Unit(before, width, stride=2 if stage > 0 else 1))
            stages += [AttentionModule(width, MASK_DEPTHS[stage]) for _ in range(modules)]
            before = width
        self.stem = conv(in_channels, 16, 3)
        self.stages = nn.Sequential(*stages, *(Unit(before, before) for _ in range(3)))
        self.norm = nn.BatchNorm2d(before)
        self.head = nn.Linear(before, num_classes)
        init_he(self)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, K)
        x = F.relu(self.norm(self.stages(self.stem(x))), inplace=True)  # (B, 256, H/4, W/4)
        return self.head(x.mean((2, 3)))


register = partial(models.register, paper="Wang et al. 2017, arXiv:1704.06904")

register("attention56", partial(ResidualAttentionNetwork, modules=1), params=1_121_946)
register("attention92", partial(ResidualAttentionNetwork, modules=2), params=1.9e6)
