"""CeiT (Yuan et al. 2021, arXiv:2103.11816, section 3): a ViT with convolutions in its stem and its MLPs.

CeiT-T: 12 layers of 192 channels and 3 heads. For 32 px the 7x7 convolution of the stem has stride 1 instead
of 2, and patches are 2x2 instead of 4x4, which gives 8x8 tokens and, as in the paper, a class token.
"""

import math

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ..core.contracts import Count
from ..core.errors import require
from ..core.registry import models
from .layers import DropPath, DropRate, conv, depthwise, drop_rates

DEPTH, WIDTH, HEADS, RATIO = 12, 192, 3, 4
STEM = 32  # channels of the map that is cut into patches


class Attention(nn.Module):
    """Self-attention; with `last_only` only the last token is a query."""

    def __init__(self, last_only: bool = False):
        super().__init__()
        self.last_only = last_only
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH)
        self.project = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:  # (B, N, D) -> (B, N or 1, D)
        q, k, v = rearrange(self.qkv(x), "b n (qkv h d) -> qkv b h n d", qkv=3, h=HEADS)
        if self.last_only:
            q = q[:, :, -1:]
        x = F.scaled_dot_product_attention(q, k, v)
        return self.project(rearrange(x, "b h n d -> b n (h d)"))


class LocalFeedForward(nn.Module):
    """LeFF: an MLP with a depthwise convolution over the image tokens; the class token skips it."""

    def __init__(self):
        super().__init__()
        hidden = RATIO * WIDTH
        self.layers = nn.Sequential(  # a 1x1 convolution is a linear layer of each token
            conv(WIDTH, hidden, 1), nn.BatchNorm2d(hidden), nn.GELU(),
            depthwise(hidden, 3),
            nn.BatchNorm2d(hidden), nn.GELU(),
            conv(hidden, WIDTH, 1), nn.BatchNorm2d(WIDTH), nn.GELU(),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:  # (B, 1 + N, D) -> (B, 1 + N, D)
        image = rearrange(x[:, 1:], "b (h w) d -> b d h w", h=math.isqrt(x.shape[1] - 1))
        # The slice without the class token is not contiguous, and each convolution would copy it.
        image = self.layers(image.contiguous(memory_format=torch.channels_last))
        image = rearrange(image, "b d h w -> b (h w) d")
        # Under autocast on a GPU a LayerNorm returns float32, which would make the whole sum float32.
        return torch.cat([x[:, :1].to(image.dtype), image], dim=1)


class Block(nn.Module):
    """The last layer has no LeFF, since only its class token is used, which skips LeFF."""

    def __init__(self, drop_path: float, last: bool):
        super().__init__()
        self.attention = nn.Sequential(nn.LayerNorm(WIDTH, eps=1e-6), Attention(), DropPath(drop_path))
        feed_forward = nn.Identity() if last else LocalFeedForward()
        self.mlp = nn.Sequential(nn.LayerNorm(WIDTH, eps=1e-6), feed_forward, DropPath(drop_path))

    def forward(self, x: Tensor) -> Tensor:  # (B, 1 + N, D) -> (B, 1 + N, D)
        x = x + self.attention(x)
        return x + self.mlp(x).to(x.dtype)  # under autocast a LayerNorm returns float32


class ClassTokenAttention(nn.Module):
    """LCA: the class token of the last layer attends to the class tokens of all layers."""

    def __init__(self):
        super().__init__()
        self.attention = nn.Sequential(nn.LayerNorm(WIDTH, eps=1e-6), Attention(last_only=True))
        self.mlp = nn.Sequential(
            nn.LayerNorm(WIDTH, eps=1e-6),
            nn.Linear(WIDTH, RATIO * WIDTH), nn.GELU(),
            nn.Linear(RATIO * WIDTH, WIDTH),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:  # (B, L, D) -> (B, 1, D)
        x = x[:, -1:] + self.attention(x)
        return x + self.mlp(x)


@models.register("ceit_32", params=5_635_370, paper="Yuan et al. 2021, arXiv:2103.11816")
class CeiT(nn.Module):
    def __init__(
        self,
        num_classes: int = 10,
        in_channels: int = 3,
        image_size: int = 32,  # half of it must be a multiple of the patch size
        patch_size: Count = 2,  # side of a patch in pixels of the stem's map; 4 in the paper
        drop_path: DropRate = 0.0,  # drop probability of the last layer's branches; linear from 0
    ):
        super().__init__()
        size = -(-image_size // 2)
        require(size % patch_size == 0, "patch_size", f"a divisor of half the image size, {size}", patch_size)
        self.stem = nn.Sequential(
            conv(in_channels, STEM, 7), nn.BatchNorm2d(STEM), nn.MaxPool2d(3, stride=2, padding=1),
            nn.Conv2d(STEM, WIDTH, patch_size, stride=patch_size),
        )  # fmt: skip
        self.class_token = nn.Parameter(torch.empty(1, 1, WIDTH))
        self.position = nn.Parameter(torch.empty(1, 1 + (size // patch_size) ** 2, WIDTH))
        rates = drop_rates(drop_path, DEPTH)
        self.blocks = nn.ModuleList(Block(rate, last=layer == DEPTH - 1) for layer, rate in enumerate(rates))
        self.gather = ClassTokenAttention()
        self.norm = nn.LayerNorm(WIDTH, eps=1e-6)
        self.head = nn.Linear(WIDTH, num_classes)
        nn.init.trunc_normal_(self.class_token, std=0.02)
        nn.init.trunc_normal_(self.position, std=0.02)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, K)
        x = rearrange(self.stem(x), "b d h w -> b (h w) d")
        x = torch.cat([self.class_token.to(x.dtype).expand(x.shape[0], -1, -1), x], dim=1)
        x = x + self.position.to(x.dtype)  # float32 positions would make the residual stream float32
        class_tokens = []
        for block in self.blocks:
            x = block(x)  # (B, 1 + N, D)
            class_tokens.append(x[:, 0])
        x = self.gather(torch.stack(class_tokens, dim=1))  # (B, 1, D)
        return self.head(self.norm(x[:, 0]))
