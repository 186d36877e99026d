"""ConViT (d'Ascoli et al. 2021, arXiv:2103.10697, section 3), with patches for small images.

The first ten of twelve layers have gated positional self-attention, initialised as a convolution; the class
token is added after them. Patches of 4x4 pixels give 64 tokens at 32 px.
"""

import math
from functools import partial
from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Interval
from einops import rearrange
from torch import Tensor, nn

from ..core.contracts import Count
from ..core.errors import require
from ..core.registry import models
from .layers import DropPath, DropRate, SelfAttention, drop_rates, init_truncated


class GatedPositionalAttention(nn.Module):
    """Content attention and positional attention, combined by a gate per head.

    The bias of `position` shifts all keys equally, so it has no effect; the authors' network has it too.
    """

    def __init__(self, width: int, heads: int, side: int):
        super().__init__()
        self.heads = heads
        self.gate = nn.Parameter(torch.ones(heads))
        self.qk = nn.Linear(width, 2 * width, bias=False)
        self.value = nn.Linear(width, width, bias=False)
        self.project = nn.Linear(width, width)
        self.position = nn.Linear(3, heads)
        self.register_buffer("offsets", offsets(side), persistent=False)

    def start_as_convolution(self) -> None:
        """Initialise each head to attend to one pixel of a square around the query, and to copy it."""
        side = math.isqrt(self.heads)
        places = torch.arange(side) - (side - 1) / 2
        x, y = torch.cartesian_prod(places, places).T
        with torch.no_grad():
            # Up to a constant, 2 * centre * offset - offset^2 is minus the squared distance to the centre.
            self.position.weight.copy_(torch.stack([2 * x, 2 * y, -torch.ones_like(x)], dim=1))
        nn.init.eye_(self.value.weight)

    def forward(self, x: Tensor) -> Tensor:  # (B, N, D) -> (B, N, D)
        q, k = rearrange(self.qk(x), "b n (t h d) -> t b h n d", t=2, h=self.heads)
        v = rearrange(self.value(x), "b n (h d) -> b h n d", h=self.heads)
        # The gated sum is taken after the values are applied, so no (heads, N, N) is stored per image.
        content = F.scaled_dot_product_attention(q, k, v)
        near = self.position(self.offsets).softmax(dim=1).to(v.dtype)  # (N, N, heads), for all images
        position = torch.einsum("nmh,bhmd->bhnd", near, v)
        gate = self.gate.sigmoid().to(v.dtype)[:, None, None]
        x = torch.lerp(content, position, gate)
        return self.project(rearrange(x, "b h n d -> b n (h d)"))


def offsets(side: int) -> Tensor:  # (N, N, 3)
    """The offset from each query to each key of a square grid: x, y and squared distance."""
    y, x = torch.cartesian_prod(torch.arange(side), torch.arange(side)).float().T
    x, y = x - x[:, None], y - y[:, None]
    return torch.stack([x, y, x**2 + y**2], dim=-1)


class Block(nn.Module):
    def __init__(self, attention: nn.Module, width: int, drop_path: float):
        super().__init__()
        self.attention = nn.Sequential(nn.LayerNorm(width, eps=1e-6), attention, DropPath(drop_path))
        self.mlp = nn.Sequential(
            nn.LayerNorm(width, eps=1e-6),
            nn.Linear(width, 4 * width), nn.GELU(),
            nn.Linear(4 * width, width), DropPath(drop_path),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:  # (B, N, D) -> (B, N, D)
        x = x + self.attention(x)
        return x + self.mlp(x)


class ConViT(nn.Module):
    def __init__(
        self,
        num_classes: int = 10,
        in_channels: int = 3,
        image_size: int = 32,  # must be a multiple of the patch size
        heads: Count = 4,  # attention heads of 48 channels; must be a square number
        patch_size: Count = 4,  # side of a patch in pixels; 16 in the paper
        local_layers: Annotated[int, Interval(ge=0, lt=12)] = 10,  # of 12; then the class token is added
        drop_path: DropRate = 0.0,  # drop probability of the last layer's branches; linear from 0
    ):
        super().__init__()
        divides = image_size % patch_size == 0
        require(divides, "patch_size", f"a divisor of the image size, {image_size}", patch_size)
        width, side = 48 * heads, image_size // patch_size
        self.class_token = nn.Parameter(torch.empty(1, 1, width))
        self.position = nn.Parameter(torch.empty(1, side * side, width))
        self.patches = nn.Conv2d(in_channels, width, patch_size, stride=patch_size)
        local = [GatedPositionalAttention(width, heads, side) for _ in range(local_layers)]
        attentions = [*local, *(SelfAttention(width, heads, bias=False) for _ in range(12 - local_layers))]
        rates = drop_rates(drop_path, 12)
        blocks = [Block(attention, width, rate) for attention, rate in zip(attentions, rates, strict=True)]
        self.local_blocks = nn.Sequential(*blocks[:local_layers])
        self.blocks = nn.Sequential(*blocks[local_layers:])
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.head = nn.Linear(width, num_classes)
        init_truncated(self)
        for attention in local:
            attention.start_as_convolution()

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, K)
        x = rearrange(self.patches(x), "b d h w -> b (h w) d")
        # In the dtype of x: float32 positions would take the residual stream out of autocast's low precision.
        x = self.local_blocks(x + self.position.to(x.dtype))  # (B, N, D)
        x = torch.cat([self.class_token.to(x.dtype).expand(x.shape[0], -1, -1), x], dim=1)
        x = self.blocks(x)  # (B, 1 + N, D)
        return self.head(self.norm(x[:, 0]))


register = partial(models.register, paper="d'Ascoli et al. 2021, arXiv:2103.10697")

register("convit_tiny", partial(ConViT, heads=4), params=5_355_858)
register("convit_small", partial(ConViT, heads=9), params=26_980_588)
register("convit_base", partial(ConViT, heads=16), params=85_124_394)
