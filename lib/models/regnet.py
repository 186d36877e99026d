"""RegNet (Radosavovic et al. 2020, arXiv:2003.13678, sections 3.3 and 4), for small images.

Four numbers define a network: the widths of its blocks grow linearly and are then quantised, which forms the
stages. The numbers are those of the authors' code; the paper prints some with fewer digits. The stem and the
first two stages have stride 1 instead of 2, as in the CIFAR models of kuangliu, so that 32 px give features
of 8x8.
"""

import math
from functools import partial
from itertools import groupby
from typing import Annotated

import torch.nn.functional as F
from annotated_types import Gt
from torch import Tensor, nn

from ..core.contracts import Count, Positive
from ..core.registry import models
from .layers import SqueezeExcite, conv, conv_bn_relu, init_he


def quantised_widths(
    depth: int, first_width: float, slope: float, multiplier: float, group_width: int
) -> list[int]:
    """The width of each block, equations 2 to 4: powers of `multiplier` nearest to a line.

    Widths are rounded to multiples of 8, then of `group_width`. Halves are rounded to even, which the
    published widths depend on: 392 channels are 24.5 groups of 16 and become 384.
    """
    widths = []
    for block in range(depth):
        power = round(math.log((first_width + slope * block) / first_width, multiplier))
        multiple_of_8 = 8 * round(first_width * multiplier**power / 8)
        widths.append(group_width * round(multiple_of_8 / group_width))
    return widths


class Block(nn.Module):
    """The X block: a bottleneck with a grouped convolution; with a gate, the Y block."""

    def __init__(
        self, in_channels: int, channels: int, stride: int, group_width: int, gated: bool, first: bool
    ):
        super().__init__()
        self.shortcut = nn.Identity()
        if first:  # of its stage
            self.shortcut = nn.Sequential(conv(in_channels, channels, 1, stride), nn.BatchNorm2d(channels))
        groups = channels // group_width
        self.residual = nn.Sequential(
            conv(in_channels, channels, 1), nn.BatchNorm2d(channels), nn.ReLU(inplace=True),
            conv(channels, channels, 3, stride, groups),
            nn.BatchNorm2d(channels), nn.ReLU(inplace=True),
        )  # fmt: skip
        if gated:
            squeezed = in_channels // 4  # a quarter of the block's input channels
            self.residual.append(SqueezeExcite(channels, squeezed, nn.ReLU(inplace=True)))
        self.residual.extend([conv(channels, channels, 1), nn.BatchNorm2d(channels)])

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C', H/stride, W/stride)
        return F.relu(self.residual(x) + self.shortcut(x), inplace=True)


class RegNet(nn.Module):
    def __init__(
        self,
        num_classes: int = 10,
        in_channels: int = 3,
        depth: Count = 13,  # d: blocks
        first_width: Count = 24,  # w_0: channels at the start of the line
        slope: Positive = 36.44,  # w_a: additional channels per block
        multiplier: Annotated[float, Gt(1)] = 2.49,  # w_m: ratio of the widths of successive stages
        group_width: Count = 8,  # g: channels of a group
        gated: bool = False,  # Y blocks instead of X blocks
    ):
        super().__init__()
        self.stem = conv_bn_relu(in_channels, 32, 3)
        stages, width = [], 32
        plan = groupby(quantised_widths(depth, first_width, slope, multiplier, group_width))
        for stage, (channels, blocks) in enumerate(plan):
            for i, _ in enumerate(blocks):
                stride = 2 if i == 0 and stage >= 2 else 1
                stages.append(Block(width, channels, stride, group_width, gated, first=i == 0))
                width = channels
        self.stages = nn.Sequential(*stages)
        self.head = nn.Linear(width, num_classes)
        init_he(self)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, K)
        x = self.stages(self.stem(x))  # (B, C', H/4, W/4)
        return self.head(x.mean((2, 3)))


x_200 = partial(RegNet, depth=13, first_width=24, slope=36.44, multiplier=2.49, group_width=8, gated=False)
x_400 = partial(RegNet, depth=22, first_width=24, slope=24.48, multiplier=2.54, group_width=16, gated=False)
y_400 = partial(RegNet, depth=16, first_width=48, slope=27.89, multiplier=2.09, group_width=8, gated=True)
register = partial(models.register, paper="Radosavovic et al. 2020, arXiv:2003.13678")

register("regnetx_200mf", x_200, aliases=("regnet",), params=2_319_482)
register("regnetx_400mf", x_400, params=4_776_362)
register("regnety_400mf", y_400, params=3_907_554)
