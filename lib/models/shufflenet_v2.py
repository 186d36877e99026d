"""ShuffleNetV2 (Ma et al. 2018, arXiv:1807.11164, figure 3 and table 5), for small images.

The stem is a 3x3 convolution of stride 1 without max-pooling, so that 32 px give features of 4x4.
"""

from functools import partial

import torch
from einops import rearrange
from torch import Tensor, nn

from ..core.contracts import Count
from ..core.registry import models
from .layers import conv, conv_bn_relu, depthwise, init_he

UNITS = (4, 8, 4)  # of each stage


def interleave(x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C, H, W)
    """The channel shuffle with two groups: alternate between channels of the first and the second half."""
    if x.is_contiguous(memory_format=torch.channels_last):  # keep the memory format
        return rearrange(x, "b (half c) h w -> b h w (c half)", half=2).permute(0, 3, 1, 2)
    return rearrange(x, "b (half c) h w -> b (c half) h w", half=2)


class Unit(nn.Module):
    """Figure 3c: half of the channels are unchanged. Figure 3d, with stride 2: both halves are new."""

    def __init__(self, in_channels: int, out_channels: int, stride: int):
        super().__init__()
        half = out_channels // 2
        self.downsample = None
        if stride == 2:
            self.downsample = nn.Sequential(
                depthwise(in_channels, 3, stride=2), nn.BatchNorm2d(in_channels),
                conv(in_channels, half, 1), nn.BatchNorm2d(half), nn.ReLU(inplace=True),
            )  # fmt: skip
        self.branch = nn.Sequential(
            conv(in_channels if stride == 2 else half, half, 1), nn.BatchNorm2d(half), nn.ReLU(inplace=True),
            depthwise(half, 3, stride), nn.BatchNorm2d(half),
            conv(half, half, 1), nn.BatchNorm2d(half), nn.ReLU(inplace=True),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C', H/stride, W/stride)
        if self.downsample is None:
            unchanged, x = x.chunk(2, dim=1)
            # The clone is contiguous, which convolutions need, and keeps channels-last.
            return interleave(torch.cat([unchanged, self.branch(x.clone())], dim=1))
        return interleave(torch.cat([self.downsample(x), self.branch(x)], dim=1))


class ShuffleNetV2(nn.Module):
    def __init__(
        self,
        num_classes: int = 10,
        in_channels: int = 3,
        widths: tuple[Count, ...] = (116, 232, 464),  # output channels of each stage
        last: Count = 1024,  # output channels of the last convolution
    ):
        super().__init__()
        self.stem = conv_bn_relu(in_channels, 24, 3)
        stages, width = [], 24
        for channels, units in zip(widths, UNITS, strict=True):
            for i in range(units):
                stages.append(Unit(width, channels, 2 if i == 0 else 1))
                width = channels
        self.stages = nn.Sequential(*stages)
        self.last = conv_bn_relu(width, last, 1)
        self.head = nn.Linear(last, num_classes)
        init_he(self)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, K)
        x = self.last(self.stages(self.stem(x)))  # (B, 1024 or 2048, H/8, W/8)
        return self.head(x.mean((2, 3)))


register = partial(models.register, paper="Ma et al. 2018, arXiv:1807.11164")

for name, widths, last, params, aliases in (
    ("shufflenetv2_0_5", (48, 96, 192), 1024, 352_042, ("shufflenetv2", "shufflenetv2_x0_5")),
    ("shufflenetv2_1_0", (116, 232, 464), 1024, 1_263_854, ("shufflenetv2_x1_0",)),
    ("shufflenetv2_1_5", (176, 352, 704), 1024, 2_488_874, ("shufflenetv2_x1_5",)),
    ("shufflenetv2_2_0", (244, 488, 976), 2048, 5_365_486, ("shufflenetv2_x2_0",)),
):
    register(name, partial(ShuffleNetV2, widths=widths, last=last), aliases=aliases, params=params)
