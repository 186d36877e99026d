"""ShuffleNet (Zhang et al. 2017, arXiv:1707.01083, figure 2 and table 1), with 2 and 3 groups.

The stem is a 1x1 convolution of stride 1 instead of a 3x3 convolution and max-pooling: 32 px give features of
4x4.
"""

from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ..core.registry import models
from .layers import conv, conv_bn_relu, depthwise, init_he

# groups -> output channels of each stage
WIDTHS = {2: (200, 400, 800), 3: (240, 480, 960)}
UNITS = (4, 8, 4)  # of each stage


def shuffle(x: Tensor, groups: int) -> Tensor:  # (B, C, H, W) -> (B, C, H, W)
    """Reorder channels from (group, c) to (c, group), so that each group of the next layer reads all."""
    if x.is_contiguous(memory_format=torch.channels_last):  # keep the memory format
        return rearrange(x, "b (g c) h w -> b h w (c g)", g=groups).permute(0, 3, 1, 2)
    return rearrange(x, "b (g c) h w -> b (c g) h w", g=groups)


class Unit(nn.Module):
    """relu(x + residual(x)), figure 2b; with a stride of 2 relu(cat(residual(x), pool(x))), figure 2c.

    The residual is four times narrower inside. Its first convolution has groups unless the input is narrow.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, groups: int, first_groups: int):
        super().__init__()
        new = out_channels - in_channels if stride == 2 else out_channels  # the rest is the pooled input
        inner = new // 4
        self.groups = groups
        self.compress = nn.Sequential(
            conv(in_channels, inner, 1, groups=first_groups),
            nn.BatchNorm2d(inner),
            nn.ReLU(inplace=True),
        )
        self.expand = nn.Sequential(
            depthwise(inner, 3, stride),
            nn.BatchNorm2d(inner),
            conv(inner, new, 1, groups=groups),
            nn.BatchNorm2d(new),
        )
        self.pool = nn.AvgPool2d(3, 2, padding=1) if stride == 2 else None

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C', H/stride, W/stride)
        residual = self.expand(shuffle(self.compress(x), self.groups))
        joined = x + residual if self.pool is None else torch.cat([residual, self.pool(x)], dim=1)
        return F.relu(joined, inplace=True)


class ShuffleNet(nn.Module):
    def __init__(
        self,
        num_classes: int = 10,
        in_channels: int = 3,
        groups: Literal[2, 3] = 2,  # of the 1x1 convolutions
    ):
        super().__init__()
        self.stem = conv_bn_relu(in_channels, 24, 1)
        stages, width = [], 24
        for channels, units in zip(WIDTHS[groups], UNITS, strict=True):
            for i in range(units):
                first_groups = groups if stages else 1  # the stem has too few channels for groups
                stages.append(Unit(width, channels, 2 if i == 0 else 1, groups, first_groups))
                width = channels
        self.stages = nn.Sequential(*stages)
        self.head = nn.Linear(width, num_classes)
        init_he(self)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, K)
        x = self.stages(self.stem(x))  # (B, 800 or 960, H/8, W/8)
        return self.head(x.mean((2, 3)))


register = partial(models.register, paper="Zhang et al. 2017, arXiv:1707.01083")
g2, g3 = partial(ShuffleNet, groups=2), partial(ShuffleNet, groups=3)

register("shufflenet_g2", g2, aliases=("ShuffleNetG2", "shufflenet"), params=887_582)
register("shufflenet_g3", g3, aliases=("ShuffleNetG3",), params=862_768)
