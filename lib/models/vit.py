"""Vision Transformer (Dosovitskiy et al. 2020, arXiv:2010.11929, section 3.1), with patches for small images.

`vit` has 7 layers, as is common on CIFAR; `vit_tiny` and `vit_small` have the sizes of DeiT (Touvron et al.
2020, arXiv:2012.12877, table 1) with 4x4 patches. The initialisation is that of DeiT.
"""

from functools import partial

import torch
from einops import rearrange
from torch import Tensor, nn

from ..core.contracts import Count
from ..core.errors import require
from ..core.registry import models
from .layers import DropPath, DropRate, SelfAttention, drop_rates, init_truncated


class Block(nn.Module):
    """Equations 2 and 3. Dropout follows the dense layers except q, k and v (appendix B.1)."""

    def __init__(self, width: int, heads: int, dropout: float, drop_path: float):
        super().__init__()
        self.attention = nn.Sequential(
            nn.LayerNorm(width, eps=1e-6),
            SelfAttention(width, heads),
            nn.Dropout(dropout),
            DropPath(drop_path),
        )
        self.mlp = nn.Sequential(
            nn.LayerNorm(width, eps=1e-6),
            nn.Linear(width, 4 * width), nn.GELU(), nn.Dropout(dropout),
            nn.Linear(4 * width, width), nn.Dropout(dropout), DropPath(drop_path),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:  # (B, N, D) -> (B, N, D)
        x = x + self.attention(x)
        return x + self.mlp(x)


class ViT(nn.Module):
    def __init__(
        self,
        num_classes: int = 10,
        in_channels: int = 3,
        image_size: int = 32,  # must be a multiple of the patch size
        depth: Count = 12,  # layers
        width: Count = 384,  # channels of a token
        heads: Count = 6,  # attention heads
        patch_size: Count = 4,  # side of a patch in pixels
        dropout: DropRate = 0.0,  # drop probability after dense layers
        drop_path: DropRate = 0.0,  # drop probability of the last layer's branches; linear from 0
    ):
        super().__init__()
        divides = image_size % patch_size == 0
        require(divides, "patch_size", f"a divisor of the image size, {image_size}", patch_size)
        tokens = (image_size // patch_size) ** 2
        self.class_token = nn.Parameter(torch.empty(1, 1, width))
        self.position = nn.Parameter(torch.empty(1, 1 + tokens, width))
        self.patches = nn.Conv2d(in_channels, width, patch_size, stride=patch_size)
        self.dropout = nn.Dropout(dropout)
        rates = drop_rates(drop_path, depth)
        self.blocks = nn.Sequential(*(Block(width, heads, dropout, rate) for rate in rates))
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.head = nn.Linear(width, num_classes)
        init_truncated(self)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, K)
        x = rearrange(self.patches(x), "b d h w -> b (h w) d")
        # In the dtype of x: float32 tokens would take the residual stream out of autocast's low precision.
        x = torch.cat([self.class_token.to(x.dtype).expand(x.shape[0], -1, -1), x], dim=1)
        x = self.blocks(self.dropout(x + self.position.to(x.dtype)))  # (B, 1 + N, D)
        return self.head(self.norm(x[:, 0]))


register = partial(models.register, paper="Dosovitskiy et al. 2020, arXiv:2010.11929")
vit = partial(ViT, depth=7, width=384, heads=8)

register("vit", vit, aliases=("vision_transformer",), params=12_470_026)
register("vit_tiny", partial(ViT, depth=12, width=192, heads=3), params=5_362_762)
register("vit_small", partial(ViT, depth=12, width=384, heads=6), params=21_342_346)
