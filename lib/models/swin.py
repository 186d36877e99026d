"""Swin Transformer (Liu et al. 2021, arXiv:2103.14030, section 3), with patches and windows for small images.

Patches of 2x2 pixels and windows of 4x4 tokens: at 32 px the stages have 16, 8, 4 and 2 tokens a side, so
that the first two have several windows and the last two a single one.
"""

from functools import partial

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ..core.contracts import Count
from ..core.errors import require
from ..core.registry import models
from .layers import DropPath, DropRate, drop_rates, init_truncated


class WindowAttention(nn.Module):
    """Self-attention in windows of a square grid, with a bias per relative position (equation 4).

    Shifted windows roll the grid up and left by half a window, and mask pairs of tokens that are not
    neighbours in the image (figure 4). A grid that is not a multiple of the window is padded with zeros.
    """

    def __init__(self, width: int, heads: int, side: int, window: int, shifted: bool):
        super().__init__()
        self.heads, self.side, self.window = heads, side, min(window, side)
        self.padding = -side % self.window
        self.shift = self.window // 2 if shifted and side > self.window else 0
        self.table = nn.Parameter(torch.empty((2 * self.window - 1) ** 2, heads))
        self.qkv = nn.Linear(width, 3 * width)
        self.project = nn.Linear(width, width)
        self.register_buffer("index", relative_index(self.window), persistent=False)
        self.register_buffer("mask", self.separated(), persistent=False)

    def separated(self) -> Tensor:  # (windows, N, N)
        """Minus infinity for pairs of tokens of a window that do not attend to each other, otherwise 0."""
        place = torch.arange(self.side + self.padding)
        # Rolled rows come from the opposite edge of the image, padded rows from outside of it.
        part = ((place < self.shift) + 2 * (place >= self.side)).roll(-self.shift)
        parts = 4 * part[:, None] + part
        parts = rearrange(parts, "(i p) (j q) -> (i j) (p q)", p=self.window, q=self.window)
        apart = parts[:, :, None] != parts[:, None, :]
        return torch.zeros(apart.shape).masked_fill(apart, float("-inf"))

    def forward(self, x: Tensor) -> Tensor:  # (B, S, S, D) -> (B, S, S, D)
        if self.padding:
            x = F.pad(x, (0, 0, 0, self.padding, 0, self.padding))
        if self.shift:
            x = x.roll((-self.shift, -self.shift), (1, 2))
        # Windows and heads share a dimension: each pair has its bias and mask, the same for all images.
        split = {"p": self.window, "q": self.window, "h": self.heads}
        q, k, v = rearrange(self.qkv(x), "b (i p) (j q) (t h d) -> t b (i j h) (p q) d", t=3, **split)
        bias = self.table[self.index].permute(2, 0, 1) + self.mask[:, None]  # (windows, heads, N, N)
        x = F.scaled_dot_product_attention(q, k, v, attn_mask=bias.to(q.dtype).flatten(0, 1)[None])
        windows = (self.side + self.padding) // self.window
        x = rearrange(x, "b (i j h) (p q) d -> b (i p) (j q) (h d)", i=windows, j=windows, **split)
        if self.shift:
            x = x.roll((self.shift, self.shift), (1, 2))
        return self.project(x[:, : self.side, : self.side])


def relative_index(side: int) -> Tensor:  # (N, N)
    """The row of the bias table for each pair of query and key in a square of N = side * side tokens."""
    place = torch.cartesian_prod(torch.arange(side), torch.arange(side))
    offset = place[:, None] - place + side - 1
    return offset[..., 0] * (2 * side - 1) + offset[..., 1]


class Block(nn.Module):
    """Equation 3."""

    def __init__(self, width: int, side: int, window: int, shifted: bool, drop_path: float):
        super().__init__()
        self.attention = nn.Sequential(
            nn.LayerNorm(width),
            WindowAttention(width, width // 32, side, window, shifted),
            DropPath(drop_path),
        )
        self.mlp = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, 4 * width), nn.GELU(),
            nn.Linear(4 * width, width), DropPath(drop_path),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:  # (B, S, S, D) -> (B, S, S, D)
        x = x + self.attention(x)
        return x + self.mlp(x)


class PatchMerging(nn.Module):
    """Merge 2x2 neighbours into one token: half the side and twice the width."""

    def __init__(self, width: int):
        super().__init__()
        self.norm = nn.LayerNorm(4 * width)
        self.reduce = nn.Linear(4 * width, 2 * width, bias=False)

    def forward(self, x: Tensor) -> Tensor:  # (B, S, S, D) -> (B, S/2, S/2, 2D)
        if x.shape[1] % 2:
            x = F.pad(x, (0, 0, 0, 1, 0, 1))
        x = rearrange(x, "b (h p) (w q) d -> b h w (q p d)", p=2, q=2)
        return self.reduce(self.norm(x))


class SwinTransformer(nn.Module):
    def __init__(
        self,
        num_classes: int = 10,
        in_channels: int = 3,
        image_size: int = 32,  # must be a multiple of the patch size
        width: Count = 96,  # channels of the first stage, 32 per head; then doubled
        blocks: tuple[Count, ...] = (2, 2, 6, 2),  # blocks of each stage
        patch_size: Count = 2,  # side of a patch in pixels; 4 in the paper
        window: Count = 4,  # side of a window in tokens; 7 in the paper
        drop_path: DropRate = 0.0,  # drop probability of the last block's branches; linear from 0
    ):
        super().__init__()
        divides = image_size % patch_size == 0
        require(divides, "patch_size", f"a divisor of the image size, {image_size}", patch_size)
        rates = drop_rates(drop_path, sum(blocks))
        self.patches = nn.Conv2d(in_channels, width, patch_size, stride=patch_size)
        self.patch_norm = nn.LayerNorm(width)
        stages, side = [], image_size // patch_size
        for stage, count in enumerate(blocks):
            if stage > 0:
                stages.append(PatchMerging(width))
                width, side = 2 * width, (side + 1) // 2
            stages += [Block(width, side, window, i % 2 == 1, rates.pop(0)) for i in range(count)]
        self.stages = nn.Sequential(*stages)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, num_classes)
        init_truncated(self)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, K)
        x = rearrange(self.patches(x), "b d h w -> b h w d")
        # In the dtype of x: under autocast on a GPU a LayerNorm returns float32.
        x = self.stages(self.patch_norm(x).to(x.dtype))  # (B, S/8, S/8, 8D)
        return self.head(self.norm(x).mean((1, 2)))


register = partial(models.register, paper="Liu et al. 2021, arXiv:2103.14030")

for name, width, blocks, params, aliases in (
    ("swin_t", 96, (2, 2, 6, 2), 27_505_108, ("swin_tiny",)),
    ("swin_s", 96, (2, 2, 18, 2), 48_805_732, ("swin_small",)),
    ("swin_b", 128, (2, 2, 18, 2), 86_701_186, ()),
    ("swin_l", 192, (2, 2, 18, 2), 194_932_414, ()),
):
    register(name, partial(SwinTransformer, width=width, blocks=blocks), aliases=aliases, params=params)
