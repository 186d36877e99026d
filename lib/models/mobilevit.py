"""MobileViT (Mehta & Rastegari 2021, arXiv:2110.02178, section 3 and the table of its appendix A).

The stem and the first stage with transformers have stride 1, so that at 32 px the transformers have 16, 8 and
4 pixels a side: 64, 16 and 4 patches of 2x2.
"""

from functools import partial

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ..core.contracts import Count
from ..core.registry import models
from .layers import DropRate, SelfAttention, conv, init_he


def unit(in_channels: int, out_channels: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """A convolution with BatchNorm and SiLU."""
    convolution = conv(in_channels, out_channels, kernel, stride, groups)
    return nn.Sequential(convolution, nn.BatchNorm2d(out_channels), nn.SiLU())


class InvertedResidual(nn.Module):
    """Widen, depthwise 3x3, narrow (MobileNetV2, arXiv:1801.04381, section 3.3)."""

    def __init__(self, in_channels: int, channels: int, stride: int, expansion: int):
        super().__init__()
        wide = in_channels * expansion
        self.residual = nn.Sequential(
            unit(in_channels, wide, 1),
            unit(wide, wide, 3, stride, groups=wide),
            conv(wide, channels, 1), nn.BatchNorm2d(channels),
        )  # fmt: skip
        self.has_shortcut = stride == 1 and in_channels == channels

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C', H/stride, W/stride)
        return x + self.residual(x) if self.has_shortcut else self.residual(x)


class Transformer(nn.Module):
    def __init__(self, width: int, dropout: float):
        super().__init__()
        self.attention = nn.Sequential(
            nn.LayerNorm(width), SelfAttention(width, heads=4), nn.Dropout(dropout)
        )
        self.mlp = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, 2 * width), nn.SiLU(), nn.Dropout(dropout),
            nn.Linear(2 * width, width), nn.Dropout(dropout),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:  # (B, N, D) -> (B, N, D)
        x = x + self.attention(x)
        return x + self.mlp(x)


class MobileViTBlock(nn.Module):
    """Figure 1b: convolution, attention among pixels at the same position of all 2x2 patches, fusion."""

    def __init__(self, channels: int, width: int, depth: int, dropout: float):
        super().__init__()
        self.local = nn.Sequential(unit(channels, channels, 3), conv(channels, width, 1))
        layers = [Transformer(width, dropout) for _ in range(depth)]
        self.everywhere = nn.Sequential(*layers, nn.LayerNorm(width))
        self.narrow = unit(width, channels, 1)
        self.fuse = unit(2 * channels, channels, 3)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C, H, W)
        size = x.shape[-2:]
        even = tuple(n + n % 2 for n in size)
        y = self.local(x)
        if even != size:  # resized to whole patches, as in the authors' code
            y = F.interpolate(y, even, mode="bilinear")
        y = rearrange(y, "b d (i p) (j q) -> (b p q) (i j) d", p=2, q=2)
        y = self.everywhere(y)
        y = rearrange(y, "(b p q) (i j) d -> b (i p) (j q) d", p=2, q=2, i=even[0] // 2)
        y = y.permute(0, 3, 1, 2)  # channels-last, as a view
        if even != size:
            y = F.interpolate(y, size, mode="bilinear")
        return self.fuse(torch.cat([x, self.narrow(y)], dim=1))


class MobileViT(nn.Module):
    def __init__(
        self,
        num_classes: int = 10,
        in_channels: int = 3,
        channels: tuple[Count, ...] = (16, 32, 64, 96, 128, 160),  # channels of the stem and the stages
        widths: tuple[Count, ...] = (144, 192, 240),  # channels of the transformers
        expansion: Count = 4,  # expansion of the inverted residuals
        dropout: DropRate = 0.0,  # drop probability after dense layers of the transformers
    ):
        super().__init__()
        stem, first, second, *rest = channels
        stages = [
            unit(in_channels, stem, 3),
            InvertedResidual(stem, first, 1, expansion),
            InvertedResidual(first, second, 2, expansion),
            InvertedResidual(second, second, 1, expansion),
            InvertedResidual(second, second, 1, expansion),
        ]
        before = second
        for after, width, depth, stride in zip(rest, widths, (2, 4, 3), (1, 2, 2), strict=True):
            stages.append(InvertedResidual(before, after, stride, expansion))
            stages.append(MobileViTBlock(after, width, depth, dropout))
            before = after
        self.stages = nn.Sequential(*stages, unit(before, 4 * before, 1))
        self.head = nn.Linear(4 * before, num_classes)
        init_he(self)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, K)
        x = self.stages(x)  # (B, 4C', H/8, W/8)
        return self.head(x.mean((2, 3)))


register = partial(models.register, paper="Mehta & Rastegari 2021, arXiv:2110.02178")

for name, channels, widths, expansion, params in (
    ("mobilevit_xxs", (16, 16, 24, 48, 64, 80), (64, 80, 96), 2, 954_234),
    ("mobilevit_xs", (16, 32, 48, 64, 80, 96), (96, 120, 144), 4, 1_936_698),
    ("mobilevit_s", (16, 32, 64, 96, 128, 160), (144, 192, 240), 4, 4_944_042),
):
    network = partial(MobileViT, channels=channels, widths=widths, expansion=expansion)
    register(name, network, params=params)
