"""ConvNeXt (Liu et al. 2022, arXiv:2201.03545, section 2 and figure 4; the sizes of section 3).

The stem is a 2x2 convolution of stride 2, so that at 32 px the stages have 16, 8, 4 and 2 pixels a side. With
the paper's 4x4 stem of stride 4, `patch_size` 4, the last stage would have a single pixel.
"""

from functools import partial

import torch
from torch import Tensor, nn

from ..core.contracts import Count
from ..core.errors import require
from ..core.registry import models
from .layers import DropPath, DropRate, drop_rates, init_truncated


class ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of each pixel."""

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C, H, W)
        # In the dtype of x: under autocast on a GPU a LayerNorm returns float32.
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2).to(x.dtype)


class Block(nn.Module):
    """A depthwise 7x7 convolution and an MLP per pixel, scaled by channel and added (figure 4)."""

    def __init__(self, width: int, drop_path: float):
        super().__init__()
        self.scale = nn.Parameter(torch.full((width,), 1e-6))
        self.depthwise = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.mlp = nn.Sequential(
            nn.LayerNorm(width, eps=1e-6),
            nn.Linear(width, 4 * width), nn.GELU(),
            nn.Linear(4 * width, width),
        )  # fmt: skip
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C, H, W)
        residual = self.mlp(self.depthwise(x).permute(0, 2, 3, 1))  # (B, H, W, C): a view of channels-last
        residual = residual * self.scale.to(residual.dtype)
        return x + self.drop_path(residual.permute(0, 3, 1, 2))


class ConvNeXt(nn.Module):
    def __init__(
        self,
        num_classes: int = 10,
        in_channels: int = 3,
        image_size: int = 32,  # must have at least eight patches a side
        widths: tuple[Count, ...] = (96, 192, 384, 768),  # channels of each stage
        blocks: tuple[Count, ...] = (3, 3, 9, 3),  # blocks of each stage
        patch_size: Count = 2,  # kernel size and stride of the stem; 4 in the paper
        drop_path: DropRate = 0.0,  # drop probability of the last block; linear from 0
    ):
        super().__init__()
        require(patch_size <= image_size // 8, "patch_size", f"at most an eighth of {image_size}", patch_size)
        rates = drop_rates(drop_path, sum(blocks))
        self.stem = nn.Sequential(
            nn.Conv2d(in_channels, widths[0], patch_size, stride=patch_size), ChannelNorm(widths[0], eps=1e-6)
        )
        stages, before = [], widths[0]
        for stage, (width, count) in enumerate(zip(widths, blocks, strict=True)):
            if stage > 0:
                stages += [ChannelNorm(before, eps=1e-6), nn.Conv2d(before, width, 2, stride=2)]
            stages += [Block(width, rates.pop(0)) for _ in range(count)]
            before = width
        self.stages = nn.Sequential(*stages)
        self.norm = nn.LayerNorm(before, eps=1e-6)
        self.head = nn.Linear(before, num_classes)
        init_truncated(self)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, K)
        x = self.stages(self.stem(x))  # (B, C', H/16, W/16)
        return self.head(self.norm(x.mean((2, 3))))


register = partial(models.register, paper="Liu et al. 2022, arXiv:2201.03545")

for name, widths, blocks, params in (
    ("convnext_tiny", (96, 192, 384, 768), (3, 3, 9, 3), 27_824_362),
    ("convnext_small", (96, 192, 384, 768), (3, 3, 27, 3), 49_458_922),
    ("convnext_base", (128, 256, 512, 1024), (3, 3, 27, 3), 87_572_106),
    ("convnext_large", (192, 384, 768, 1536), (3, 3, 27, 3), 196_238_794),
    ("convnext_xlarge", (256, 512, 1024, 2048), (3, 3, 27, 3), 348_159_242),
):
    register(name, partial(ConvNeXt, widths=widths, blocks=blocks), params=params)
