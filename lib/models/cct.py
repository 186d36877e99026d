"""Compact Convolutional Transformer (Hassani et al. 2021, arXiv:2104.05704, section 3).

Convolutions with max-pooling replace the patches, and pooling over the sequence replaces the class token.
`cct_7_3x2_32` has 7 layers after two 3x3 convolutions, which leave 8x8 tokens of a 32 px image (one leaves
16x16). Names with `_sine` have fixed instead of learned position embeddings.
"""

from functools import partial

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ..core.contracts import Count
from ..core.registry import models
from .layers import DropPath, DropRate, conv, drop_rates


class Tokenizer(nn.Sequential):
    """Convolutions, each followed by max-pooling that halves the map."""

    def __init__(self, in_channels: int, width: int, convolutions: int):
        layers = []
        for i in range(convolutions):
            out_channels = width if i == convolutions - 1 else 64
            layers += [
                conv(in_channels, out_channels, 3),
                nn.ReLU(inplace=True),
                nn.MaxPool2d(3, stride=2, padding=1),
            ]
            in_channels = out_channels
        super().__init__(*layers)


class Attention(nn.Module):
    def __init__(self, width: int, heads: int, dropout: float, attention_dropout: float):
        super().__init__()
        self.heads, self.attention_dropout = heads, attention_dropout
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.project = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:  # (B, N, D) -> (B, N, D)
        q, k, v = rearrange(self.qkv(x), "b n (qkv h d) -> qkv b h n d", qkv=3, h=self.heads)
        rate = self.attention_dropout if self.training else 0.0
        x = F.scaled_dot_product_attention(q, k, v, dropout_p=rate)
        return self.dropout(self.project(rearrange(x, "b h n d -> b n (h d)")))


class Block(nn.Module):
    def __init__(
        self, width: int, heads: int, hidden: int, dropout: float, attention_dropout: float, drop_path: float
    ):
        super().__init__()
        self.attention = nn.Sequential(
            nn.LayerNorm(width), Attention(width, heads, dropout, attention_dropout), DropPath(drop_path)
        )
        self.mlp = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, hidden), nn.GELU(), nn.Dropout(dropout),
            nn.Linear(hidden, width), nn.Dropout(dropout), DropPath(drop_path),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:  # (B, N, D) -> (B, N, D)
        x = x + self.attention(x)
        return x + self.mlp(x)


class SequencePool(nn.Module):
    """The mean of the tokens, weighted by a softmax of learned scores."""

    def __init__(self, width: int):
        super().__init__()
        self.score = nn.Linear(width, 1)

    def forward(self, x: Tensor) -> Tensor:  # (B, N, D) -> (B, D)
        weights = self.score(x).softmax(dim=1)  # (B, N, 1)
        return (weights.mT.to(x.dtype) @ x).squeeze(1)


def sine_positions(tokens: int, width: int) -> Tensor:  # (1, N, D)
    """Sines and cosines of geometric wavelengths (Vaswani et al. 2017, arXiv:1706.03762, section 3.5)."""
    channel = torch.arange(width)
    rate = 10_000.0 ** (-2 * (channel // 2) / width)
    angle = torch.arange(tokens)[:, None] * rate
    return torch.where(channel % 2 == 0, angle.sin(), angle.cos())[None]


class CCT(nn.Module):
    def __init__(
        self,
        num_classes: int = 10,
        in_channels: int = 3,
        image_size: int = 32,  # determines the number of tokens
        depth: Count = 7,  # layers
        width: Count = 256,  # channels of a token
        heads: Count = 4,  # attention heads
        mlp_ratio: Count = 2,  # hidden channels over the channels of a token
        convolutions: Count = 1,  # convolutions of the tokenizer
        sine: bool = False,  # fixed sine position embeddings instead of learned ones
        dropout: DropRate = 0.0,  # drop probability of the tokens and after dense layers
        attention_dropout: DropRate = 0.1,  # drop probability of attention weights
        drop_path: DropRate = 0.1,  # drop probability of the last layer's branches; linear from 0
    ):
        super().__init__()
        size = -(-image_size // 2**convolutions)
        self.tokenizer = Tokenizer(in_channels, width, convolutions)
        if sine:
            self.register_buffer("position", sine_positions(size**2, width), persistent=False)
        else:
            self.position = nn.Parameter(torch.empty(1, size**2, width))
            nn.init.trunc_normal_(self.position, std=0.2)  # as in the authors' code
        self.dropout = nn.Dropout(dropout)
        rates = drop_rates(drop_path, depth)
        self.blocks = nn.Sequential(
            *(Block(width, heads, mlp_ratio * width, dropout, attention_dropout, rate) for rate in rates)
        )
        self.norm = nn.LayerNorm(width)
        self.pool = SequencePool(width)
        self.head = nn.Linear(width, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)
            elif isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, K)
        x = rearrange(self.tokenizer(x), "b d h w -> b (h w) d")
        # In the dtype of x: float32 positions would take the residual stream out of autocast's low precision.
        x = self.blocks(self.dropout(x + self.position.to(x.dtype)))  # (B, N, D)
        return self.head(self.pool(self.norm(x)))


register = partial(models.register, paper="Hassani et al. 2021, arXiv:2104.05704")
small = partial(CCT, width=128, heads=2, mlp_ratio=1)
large = partial(CCT, width=256, heads=4, mlp_ratio=2)

for name, network, depth, convolutions, tokens, params, aliases in (
    ("cct_2_3x2_32", small, 2, 2, 64, 283_723, ("cct_2",)),
    ("cct_4_3x2_32", small, 4, 2, 64, 482_123, ("cct_4",)),
    ("cct_6_3x1_32", large, 6, 1, 256, 3_233_803, ()),
    ("cct_6_3x2_32", large, 6, 2, 64, 3_326_923, ()),
    ("cct_7_3x1_32", large, 7, 1, 256, 3_760_139, ()),
    ("cct_7_3x2_32", large, 7, 2, 64, 3_853_259, ()),
):
    network = partial(network, depth=depth, convolutions=convolutions)
    register(name, partial(network, sine=False), aliases=aliases, params=params)
    learned = tokens * network.keywords["width"]  # positions
    register(f"{name}_sine", partial(network, sine=True), params=params - learned)
