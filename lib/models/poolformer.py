"""PoolFormer (Yu et al. 2021, arXiv:2111.11418, section 3 and table 1): a transformer that pools its tokens.

The stem is a 2x2 convolution of stride 2, so that at 32 px the stages have 16, 8, 4 and 2 pixels a side; the
paper's stem, `stem` imagenet, is 7x7 with stride 4. The head norms the map and then pools it, as in the
authors' code; their later MetaFormer baselines (arXiv:2210.13452) and timm pool first.
"""

from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..core.contracts import Count, Positive
from ..core.registry import models
from .layers import DropPath, DropRate, drop_rates, init_truncated


class ImageNorm(nn.Module):
    """The paper's modified LayerNorm: over all channels and pixels, with a scale per channel.

    It equals a GroupNorm with one group, but keeps channels-last on a GPU, which torch's does not.
    """

    def __init__(self, width: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C, H, W)
        rows = x.permute(0, 2, 3, 1)
        shape = rows.shape[1:]
        rows = F.layer_norm(rows, shape, self.weight.expand(shape), self.bias.expand(shape), eps=1e-5)
        # In the dtype of x: under autocast on a GPU a LayerNorm returns float32.
        return rows.permute(0, 3, 1, 2).to(x.dtype)


class Pooling(nn.Module):
    """3x3 average pooling that ignores the padding, minus the input, which the shortcut adds (equation 4)."""

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C, H, W)
        return F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False) - x


class LayerScale(nn.Module):
    """A learned factor per channel (Touvron et al. 2021, arXiv:2103.17239, section 2)."""

    def __init__(self, width: int, start: float):
        super().__init__()
        self.scale = nn.Parameter(torch.full((width,), start))

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C, H, W)
        return x * self.scale.to(x.dtype)[:, None, None]


class Block(nn.Module):
    """Equations 2 and 3."""

    def __init__(self, width: int, start: float, drop_path: float):
        super().__init__()
        self.mixer = nn.Sequential(ImageNorm(width), Pooling(), LayerScale(width, start), DropPath(drop_path))
        self.mlp = nn.Sequential(
            ImageNorm(width),
            nn.Conv2d(width, 4 * width, 1), nn.GELU(),
            nn.Conv2d(4 * width, width, 1), LayerScale(width, start), DropPath(drop_path),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C, H, W)
        x = x + self.mixer(x)
        return x + self.mlp(x)


STEMS = {"cifar": {"kernel_size": 2, "stride": 2}, "imagenet": {"kernel_size": 7, "stride": 4, "padding": 2}}


class PoolFormer(nn.Module):
    def __init__(
        self,
        num_classes: int = 10,
        in_channels: int = 3,
        widths: tuple[Count, ...] = (64, 128, 320, 512),  # channels of each stage
        blocks: tuple[Count, ...] = (2, 2, 6, 2),  # blocks of each stage
        start: Positive = 1e-5,  # initial LayerScale: 1e-5 up to 24 blocks, otherwise 1e-6
        stem: Literal["cifar", "imagenet"] = "cifar",  # a 2x2 convolution of stride 2, or 7x7 of stride 4
        drop_path: DropRate = 0.0,  # drop probability of the last block's branches; linear from 0
    ):
        super().__init__()
        rates = drop_rates(drop_path, sum(blocks))
        self.stem = nn.Conv2d(in_channels, widths[0], **STEMS[stem])
        stages, before = [], widths[0]
        for stage, (width, count) in enumerate(zip(widths, blocks, strict=True)):
            if stage > 0:
                stages.append(nn.Conv2d(before, width, 3, stride=2, padding=1))
            stages += [Block(width, start, rates.pop(0)) for _ in range(count)]
            before = width
        self.stages = nn.Sequential(*stages)
        self.norm = ImageNorm(before)
        self.head = nn.Linear(before, num_classes)
        init_truncated(self)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, K)
        x = self.stages(self.stem(x))  # (B, C', H/16, W/16)
        return self.head(self.norm(x).mean((2, 3)))


register = partial(models.register, paper="Yu et al. 2021, arXiv:2111.11418")

for name, widths, blocks, start, params in (
    ("poolformer_s12", (64, 128, 320, 512), (2, 2, 6, 2), 1e-5, 11_398_666),
    ("poolformer_s24", (64, 128, 320, 512), (4, 4, 12, 4), 1e-5, 20_872_458),
    ("poolformer_s36", (64, 128, 320, 512), (6, 6, 18, 6), 1e-6, 30_346_250),
    ("poolformer_m36", (96, 192, 384, 768), (6, 6, 18, 6), 1e-6, 55_398_250),
    ("poolformer_m48", (96, 192, 384, 768), (8, 8, 24, 8), 1e-6, 72_699_178),
):
    register(name, partial(PoolFormer, widths=widths, blocks=blocks, start=start), params=params)
