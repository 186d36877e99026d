"""VAN, the Visual Attention Network (Guo et al. 2022, arXiv:2202.09741, section 3).

Large depthwise kernels compute a map that multiplies the features. The 7x7 stem has stride 2 instead of 4: at
32 px the stages have 16, 8, 4 and 2 pixels a side.
"""

import math
from functools import partial

import torch
from torch import Tensor, nn

from ..core.contracts import Count
from ..core.registry import models
from .layers import DropPath, DropRate, conv, drop_rates


class LargeKernelAttention(nn.Module):
    """x times a map of its surroundings, computed by a decomposed 21x21 convolution."""

    def __init__(self, width: int):
        super().__init__()
        self.near = nn.Conv2d(width, width, 5, padding=2, groups=width)
        self.far = nn.Conv2d(width, width, 7, padding=9, dilation=3, groups=width)
        self.mix = nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C, H, W)
        return x * self.mix(self.far(self.near(x)))


class Attention(nn.Module):
    """Large kernel attention between two 1x1 convolutions, with a shortcut."""

    def __init__(self, width: int):
        super().__init__()
        self.residual = nn.Sequential(
            nn.Conv2d(width, width, 1), nn.GELU(), LargeKernelAttention(width), nn.Conv2d(width, width, 1)
        )

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C, H, W)
        return x + self.residual(x)


class LayerScale(nn.Module):
    """A learned factor per channel (Touvron et al. 2021, arXiv:2103.17239, section 2)."""

    def __init__(self, width: int):
        super().__init__()
        self.scale = nn.Parameter(torch.full((width,), 0.01))

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C, H, W)
        return x * self.scale.to(x.dtype)[:, None, None]


class Block(nn.Module):
    def __init__(self, width: int, expansion: int, drop_path: float):
        super().__init__()
        wide = width * expansion
        self.attention = nn.Sequential(
            nn.BatchNorm2d(width), Attention(width), LayerScale(width), DropPath(drop_path)
        )
        self.mlp = nn.Sequential(
            nn.BatchNorm2d(width),
            nn.Conv2d(width, wide, 1),
            nn.Conv2d(wide, wide, 3, padding=1, groups=wide), nn.GELU(),
            nn.Conv2d(wide, width, 1), LayerScale(width), DropPath(drop_path),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C, H, W)
        x = x + self.attention(x)
        return x + self.mlp(x)


class ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of each pixel."""

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C, H, W)
        # In the dtype of x: under autocast on a GPU a LayerNorm returns float32.
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2).to(x.dtype)


class VAN(nn.Module):
    def __init__(
        self,
        num_classes: int = 10,
        in_channels: int = 3,
        widths: tuple[Count, ...] = (32, 64, 160, 256),  # channels of each stage
        blocks: tuple[Count, ...] = (3, 3, 5, 2),  # blocks of each stage
        drop_path: DropRate = 0.0,  # drop probability of the last block's branches; linear from 0
    ):
        super().__init__()
        rates = drop_rates(drop_path, sum(blocks))
        stages, before = [], in_channels
        for width, count, expansion in zip(widths, blocks, (8, 8, 4, 4), strict=True):
            kernel = 3 if stages else 7
            stages += [conv(before, width, kernel, 2), nn.BatchNorm2d(width)]
            stages += [Block(width, expansion, rates.pop(0)) for _ in range(count)]
            stages.append(ChannelNorm(width, eps=1e-6))
            before = width
        self.stages = nn.Sequential(*stages)
        self.head = nn.Linear(before, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                fan_out = math.prod(module.kernel_size) * module.out_channels // module.groups
                nn.init.normal_(module.weight, std=math.sqrt(2 / fan_out))
            elif isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
            if isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, K)
        x = self.stages(x)  # (B, C', H/16, W/16)
        return self.head(x.mean((2, 3)))


register = partial(models.register, paper="Guo et al. 2022, arXiv:2202.09741")

for name, widths, blocks, params in (
    ("van_tiny", (32, 64, 160, 256), (3, 3, 5, 2), 3_850_858),
    ("van_small", (64, 128, 320, 512), (2, 2, 4, 2), 13_352_906),
    ("van_base", (64, 128, 320, 512), (3, 3, 12, 3), 26_069_578),
    ("van_large", (64, 128, 320, 512), (3, 5, 27, 3), 44_256_714),
):
    register(name, partial(VAN, widths=widths, blocks=blocks), params=params)
