"""CoAtNet (Dai et al. 2021, arXiv:2106.04803, section 2 and table 3), with strides for small images.

Two stages of MBConv blocks and two of transformers with relative attention. The stem and the first stage keep
the image size, so that at 32 px the stages have 32, 16, 8 and 4 pixels a side. The head has the hidden layer
of the related MaxViT (arXiv:2204.01697), with which CoAtNet-0 has the 25 M parameters of the table.
"""

from functools import partial

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ..core.contracts import Count
from ..core.registry import models
from .layers import DropPath, DropRate, SqueezeExcite, conv, depthwise, drop_rates, init_he


class MBConv(nn.Module):
    """A pre-norm inverted residual: widen by four, depthwise 3x3, gate, narrow; plus a pooled shortcut.

    The 3x3 convolution has the stride, so that every pixel is used; in the paper it is the first 1x1.
    """

    def __init__(self, in_channels: int, channels: int, stride: int, drop_path: float):
        super().__init__()
        wide = 4 * channels
        self.shortcut = nn.Sequential()
        if stride == 2:
            self.shortcut.append(nn.MaxPool2d(2, ceil_mode=True))  # ceil: odd sizes, like the convolution
        if in_channels != channels:
            self.shortcut.append(nn.Conv2d(in_channels, channels, 1))
        self.residual = nn.Sequential(
            nn.BatchNorm2d(in_channels),
            conv(in_channels, wide, 1), nn.BatchNorm2d(wide), nn.GELU(),
            depthwise(wide, 3, stride),
            nn.BatchNorm2d(wide), nn.GELU(),
            SqueezeExcite(wide, channels // 4, nn.GELU()),
            nn.Conv2d(wide, channels, 1), DropPath(drop_path),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C', H/stride, W/stride)
        return self.shortcut(x) + self.residual(x)


class RelativeAttention(nn.Module):
    """Self-attention with a bias per relative position and head inside the softmax (equation 3)."""

    def __init__(self, in_width: int, width: int, side: int):
        super().__init__()
        self.heads = width // 32
        self.table = nn.Parameter(torch.empty((2 * side - 1) ** 2, self.heads))
        self.qkv = nn.Linear(in_width, 3 * width)
        self.project = nn.Linear(width, width)
        self.register_buffer("index", relative_index(side), persistent=False)

    def forward(self, x: Tensor) -> Tensor:  # (B, S, S, D) -> (B, S, S, D')
        side = x.shape[1]
        q, k, v = rearrange(self.qkv(x), "b i j (t h d) -> t b h (i j) d", t=3, h=self.heads)
        bias = self.table[self.index].permute(2, 0, 1)  # (heads, N, N)
        x = F.scaled_dot_product_attention(q, k, v, attn_mask=bias.to(q.dtype)[None])
        return self.project(rearrange(x, "b h (i j) d -> b i j (h d)", i=side))


def relative_index(side: int) -> Tensor:  # (N, N)
    """The row of the bias table for each pair of query and key in a square of N = side * side pixels."""
    place = torch.cartesian_prod(torch.arange(side), torch.arange(side))
    offset = place[:, None] - place + side - 1
    return offset[..., 0] * (2 * side - 1) + offset[..., 1]


class Pool(nn.Module):
    def forward(self, x: Tensor) -> Tensor:  # (B, S, S, D) -> (B, S/2, S/2, D)
        return F.max_pool2d(x.permute(0, 3, 1, 2), 2, ceil_mode=True).permute(0, 2, 3, 1)


class Transformer(nn.Module):
    """Relative attention and an MLP; the first block of a stage pools its input and widens it."""

    def __init__(self, in_width: int, width: int, side: int, stride: int, drop_path: float):
        super().__init__()
        halves = stride == 2
        self.shortcut = nn.Sequential(Pool(), nn.Linear(in_width, width)) if halves else nn.Identity()
        self.attention = nn.Sequential(
            nn.LayerNorm(in_width, eps=1e-6),
            Pool() if halves else nn.Identity(),
            RelativeAttention(in_width, width, side),
            DropPath(drop_path),
        )
        self.mlp = nn.Sequential(
            nn.LayerNorm(width, eps=1e-6),
            nn.Linear(width, 4 * width), nn.GELU(),
            nn.Linear(4 * width, width), DropPath(drop_path),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:  # (B, S, S, D) -> (B, S/stride, S/stride, D')
        x = self.shortcut(x) + self.attention(x)
        return x + self.mlp(x)


class CoAtNet(nn.Module):
    def __init__(
        self,
        num_classes: int = 10,
        in_channels: int = 3,
        image_size: int = 32,  # determines the number of biases; the network takes no other size
        widths: tuple[Count, ...] = (64, 96, 192, 384, 768),  # channels of the stem and the stages
        blocks: tuple[Count, ...] = (2, 3, 5, 2),  # blocks of the stages
        drop_path: DropRate = 0.0,  # drop probability of the last block's branches; linear from 0
    ):
        super().__init__()
        rates = drop_rates(drop_path, sum(blocks))
        before = widths[0]
        self.stem = nn.Sequential(
            conv(in_channels, before, 3), nn.BatchNorm2d(before), nn.GELU(), conv(before, before, 3)
        )
        stages, side = [], image_size
        for stage, (width, count) in enumerate(zip(widths[1:], blocks, strict=True)):
            side = side if stage == 0 else (side + 1) // 2
            for i in range(count):
                stride = 2 if i == 0 and stage > 0 else 1
                if stage < 2:
                    stages.append(MBConv(before, width, stride, rates.pop(0)))
                else:
                    stages.append(Transformer(before, width, side, stride, rates.pop(0)))
                before = width
        self.convolutions = nn.Sequential(*stages[: blocks[0] + blocks[1]])
        self.transformers = nn.Sequential(*stages[blocks[0] + blocks[1] :])
        self.hidden = nn.Sequential(nn.LayerNorm(before, eps=1e-6), nn.Linear(before, before), nn.Tanh())
        self.head = nn.Linear(before, num_classes)
        init_he(self)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
            elif isinstance(module, RelativeAttention):
                nn.init.trunc_normal_(module.table, std=0.02)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, K)
        x = self.convolutions(self.stem(x)).permute(0, 2, 3, 1)  # (B, H/2, W/2, D)
        x = self.transformers(x)  # (B, H/8, W/8, D')
        return self.head(self.hidden(x.mean((1, 2))))


register = partial(models.register, paper="Dai et al. 2021, arXiv:2106.04803")

for name, widths, blocks, params in (
    ("coatnet_0", (64, 96, 192, 384, 768), (2, 3, 5, 2), 24_239_510),
    ("coatnet_1", (64, 96, 192, 384, 768), (2, 6, 14, 2), 41_374_034),
    ("coatnet_2", (128, 128, 256, 512, 1024), (2, 6, 14, 2), 73_549_418),
    ("coatnet_3", (192, 192, 384, 768, 1536), (2, 6, 14, 2), 165_263_770),
    ("coatnet_4", (192, 192, 384, 768, 1536), (2, 12, 28, 2), 273_553_450),
):
    register(name, partial(CoAtNet, widths=widths, blocks=blocks), params=params)
