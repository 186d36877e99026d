"""CvT (Wu et al. 2021, arXiv:2103.15808, section 3, table 2): a transformer with convolutional projections.

CvT-13 for small images: the first token embedding has stride 1 instead of 4, so that at 32 px the three
stages have 32x32, 16x16 and 8x8 tokens. Keys and values have half as many rows and columns. Position
embeddings are not needed, since convolutions encode the position.
"""

import math

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ..core.registry import models
from .layers import DropPath, DropRate, depthwise, drop_rates

# of each stage: channels of a token, heads, layers, kernel and stride of the embedding
PLAN = ((64, 1, 1, 7, 1), (192, 3, 2, 3, 2), (384, 6, 10, 3, 2))


class Projection(nn.Module):
    """Queries, keys or values: a depthwise 3x3 convolution over the image, then a linear layer per token.

    A class token has no neighbours and skips the convolution.
    """

    def __init__(self, width: int, stride: int):
        super().__init__()
        self.convolve = nn.Sequential(depthwise(width, 3, stride), nn.BatchNorm2d(width))
        self.linear = nn.Linear(width, width)

    def forward(self, image: Tensor, token: Tensor) -> Tensor:  # (B, D, H, W), (B, T, D) -> (B, T + N, D)
        x = rearrange(self.convolve(image), "b d h w -> b (h w) d")
        return self.linear(torch.cat([token.to(x.dtype), x], dim=1))


class Attention(nn.Module):
    """Self-attention over `class_tokens` class tokens followed by the tokens of a square image."""

    def __init__(self, width: int, heads: int, class_tokens: int):
        super().__init__()
        self.heads, self.class_tokens = heads, class_tokens
        self.q, self.k, self.v = Projection(width, 1), Projection(width, 2), Projection(width, 2)
        self.project = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:  # (B, T + N, D) -> (B, T + N, D)
        token, image = x[:, : self.class_tokens], x[:, self.class_tokens :]
        image = rearrange(image, "b (h w) d -> b d h w", h=math.isqrt(image.shape[1]))
        # The slice without the class token is not contiguous, and each convolution would copy it.
        image = image.contiguous(memory_format=torch.channels_last)
        q, k, v = (
            rearrange(projection(image, token), "b n (g d) -> b g n d", g=self.heads)
            for projection in (self.q, self.k, self.v)
        )
        x = F.scaled_dot_product_attention(q, k, v)
        return self.project(rearrange(x, "b g n d -> b n (g d)"))


class Block(nn.Module):
    def __init__(self, width: int, heads: int, class_tokens: int, drop_path: float):
        super().__init__()
        self.attention = nn.Sequential(
            nn.LayerNorm(width), Attention(width, heads, class_tokens), DropPath(drop_path)
        )
        self.mlp = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width), DropPath(drop_path),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:  # (B, T + N, D) -> (B, T + N, D)
        x = x + self.attention(x)
        return x + self.mlp(x)


class Embedding(nn.Module):
    """Convolve the previous map and normalise, which gives the tokens of a stage."""

    def __init__(self, in_channels: int, width: int, kernel: int, stride: int):
        super().__init__()
        self.convolve = nn.Conv2d(in_channels, width, kernel, stride, padding=kernel // 2)
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, N, D)
        x = rearrange(self.convolve(x), "b d h w -> b (h w) d")
        # The residual stream starts here, and under autocast on a GPU a LayerNorm returns float32.
        return self.norm(x).to(x.dtype)


@models.register("cvt", aliases=("cvt_13",), params=19_616_330, paper="Wu et al. 2021, arXiv:2103.15808")
class CvT(nn.Module):
    def __init__(
        self,
        num_classes: int = 10,
        in_channels: int = 3,
        drop_path: DropRate = 0.0,  # drop probability of the last layer's branches; linear from 0
    ):
        super().__init__()
        rates = drop_rates(drop_path, sum(depth for _, _, depth, _, _ in PLAN))
        self.embeddings, self.stages = nn.ModuleList(), nn.ModuleList()
        before = in_channels
        for stage, (width, heads, depth, kernel, stride) in enumerate(PLAN):
            class_tokens = 1 if stage == len(PLAN) - 1 else 0
            self.embeddings.append(Embedding(before, width, kernel, stride))
            blocks = (Block(width, heads, class_tokens, rates.pop(0)) for _ in range(depth))
            self.stages.append(nn.Sequential(*blocks))
            before = width
        self.class_token = nn.Parameter(torch.empty(1, 1, before))
        self.norm = nn.LayerNorm(before)
        self.head = nn.Linear(before, num_classes)
        nn.init.trunc_normal_(self.class_token, std=0.02)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, K)
        *early, last = zip(self.embeddings, self.stages, strict=True)
        for embed, blocks in early:
            x = blocks(embed(x))  # (B, N, D)
            x = rearrange(x, "b (h w) d -> b d h w", h=math.isqrt(x.shape[1]))
        embed, blocks = last
        x = embed(x)
        x = torch.cat([self.class_token.to(x.dtype).expand(x.shape[0], -1, -1), x], dim=1)
        x = blocks(x)  # (B, 1 + N, D)
        return self.head(self.norm(x[:, 0]))
