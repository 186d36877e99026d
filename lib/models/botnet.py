"""BoTNet-50 (Srinivas et al. 2021, arXiv:2101.11605, section 3): ResNet-50 with attention in its last stage.

Self-attention replaces the 3x3 convolutions of the last three bottlenecks. For small images the stem is one
3x3 convolution of stride 1 without max-pooling: at 32 px the first attention has 8x8 pixels, and pooling
leaves 4x4 for the other two. With `last_stride` 1, the paper's BoTNet-S1, all three have 8x8.
"""

from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Interval
from einops import rearrange
from torch import Tensor, nn

from ..core.registry import models
from .layers import ResidualUnit, bottleneck_branch, conv, conv_bn_relu, init_he, projection

PLAN = ((64, 3), (128, 4), (256, 6), (512, 3))  # channels within the bottlenecks, blocks of each stage
HEADS = 4


class Attention(nn.Module):
    """Self-attention over all pixels: softmax(q (k + r) / sqrt(d)) v with relative positions r (figure 4).

    r is the sum of a vector for the row offset and one for the column offset, shared by all heads.
    """

    def __init__(self, channels: int, size: int):
        super().__init__()
        width = channels // HEADS
        self.qkv = conv(channels, 3 * channels, 1)
        self.rows = nn.Parameter(torch.randn(2 * size - 1, width) * width**-0.5)  # offsets 1 - H to H - 1
        self.columns = nn.Parameter(torch.randn(2 * size - 1, width) * width**-0.5)
        steps = torch.arange(size)
        self.register_buffer("distance", steps - steps[:, None] + size - 1, persistent=False)  # (query, key)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C, H, W)
        q, k, v = rearrange(self.qkv(x), "b (qkv g d) h w -> qkv b g (h w) d", qkv=3, g=HEADS)
        x = F.scaled_dot_product_attention(q, k, v, attn_mask=self.position_logits(q))
        # By way of (B, H, W, C), so that the map is channels-last in memory.
        return rearrange(x, "b g (h w) d -> b h w (g d)", h=len(self.distance)).movedim(-1, 1)

    def position_logits(self, q: Tensor) -> Tensor:  # (B, G, HW, D) -> (B, G, HW, HW)
        q = rearrange(q * q.shape[-1] ** -0.5, "b g (h w) d -> b g h w d", h=len(self.distance))
        rows = torch.einsum("bghwd,hyd->bghwy", q, self.rows[self.distance].to(q.dtype))
        columns = torch.einsum("bghwd,wxd->bghwx", q, self.columns[self.distance].to(q.dtype))
        return rearrange(rows[..., :, None] + columns[..., None, :], "b g h w y x -> b g (h w) (y x)")


def unit(in_channels: int, channels: int, stride: int, size: int | None) -> ResidualUnit:
    """A bottleneck; with attention over `size` x `size` pixels if a size is given."""
    if size is None:
        middle = conv(channels, channels, 3, stride)
    else:
        # Attention has no stride, so pooling follows; ceil: as a 3x3 convolution of stride 2 would give.
        pool = nn.AvgPool2d(2, ceil_mode=True) if stride == 2 else nn.Identity()
        middle = nn.Sequential(Attention(channels, size), pool)
    residual = bottleneck_branch(in_channels, middle, channels, channels * 4)
    return ResidualUnit(residual, projection(in_channels, channels * 4, stride))


@models.register("botnet", params=18_809_674, paper="Srinivas et al. 2021, arXiv:2101.11605")
class BoTNet(nn.Module):
    def __init__(
        self,
        num_classes: int = 10,
        in_channels: int = 3,
        image_size: int = 32,  # determines the number of relative positions
        last_stride: Annotated[int, Interval(ge=1, le=2)] = 2,  # 1 is the paper's BoTNet-S1
    ):
        super().__init__()
        self.stem = conv_bn_relu(in_channels, 64, 3)
        stages, width, size = [], 64, image_size
        for stage, (channels, blocks) in enumerate(PLAN):
            for i in range(blocks):
                stride = (1, 2, 2, last_stride)[stage] if i == 0 else 1
                stages.append(unit(width, channels, stride, size if stage == 3 else None))
                width, size = channels * 4, -(-size // stride)
        self.stages = nn.Sequential(*stages)
        self.head = nn.Linear(width, num_classes)
        init_he(self)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, K)
        x = self.stages(self.stem(x))  # (B, 2048, H/8, W/8)
        return self.head(x.mean((2, 3)))
