"""Blocks that three or more families share: convolutions, residual units, initialisations, noise."""

from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Interval
from einops import rearrange
from torch import Tensor, nn

from ..core.errors import require

DropRate = Annotated[float, Interval(ge=0, lt=1)]  # probability of a zero


def conv(in_channels: int, out_channels: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    """A padded convolution without a bias, since a BatchNorm follows it."""
    padding = kernel // 2
    return nn.Conv2d(in_channels, out_channels, kernel, stride, padding, groups=groups, bias=False)


def depthwise(channels: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    """A convolution that filters each channel separately."""
    return conv(channels, channels, kernel, stride, groups=channels)


def conv_bn_relu(in_channels: int, out_channels: int, kernel: int, stride: int = 1) -> nn.Sequential:
    convolution = conv(in_channels, out_channels, kernel, stride)
    return nn.Sequential(convolution, nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True))


def init_he(network: nn.Module) -> None:
    """Draw convolutions as in He et al. 2015, arXiv:1502.01852, section 2.2; set all biases to zero.

    The variance is 2 / (kernel area * output channels), equation 14, as in the authors' ResNets.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        if isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)


def init_truncated(network: nn.Module) -> None:
    """Draw matrices and kernels from a truncated normal of std 0.02, as DeiT does; set all biases to zero."""
    for name, parameter in network.named_parameters():
        if name.endswith("bias"):
            nn.init.zeros_(parameter)
        elif parameter.ndim > 1:
            nn.init.trunc_normal_(parameter, std=0.02)


def basic_branch(in_channels: int, channels: int, stride: int) -> nn.Sequential:
    """Two 3x3 convolutions (He et al. 2015, arXiv:1512.03385, figure 2)."""
    return nn.Sequential(
        conv(in_channels, channels, 3, stride), nn.BatchNorm2d(channels), nn.ReLU(inplace=True),
        conv(channels, channels, 3), nn.BatchNorm2d(channels),
    )  # fmt: skip


def bottleneck_branch(in_channels: int, middle: nn.Module, width: int, out_channels: int) -> nn.Sequential:
    """1x1 convolutions around `middle`, which maps `width` channels to `width` channels (figure 5 there).

    `middle` has the stride, so that every pixel is used; in the paper it is the first 1x1 convolution.
    """
    return nn.Sequential(
        conv(in_channels, width, 1), nn.BatchNorm2d(width), nn.ReLU(inplace=True),
        middle, nn.BatchNorm2d(width), nn.ReLU(inplace=True),
        conv(width, out_channels, 1), nn.BatchNorm2d(out_channels),
    )  # fmt: skip


def residual_branch(in_channels: int, channels: int, stride: int, bottleneck: bool) -> nn.Sequential:
    """A basic branch, or a bottleneck branch with 4 * `channels` outputs."""
    if bottleneck:
        middle = conv(channels, channels, 3, stride)
        return bottleneck_branch(in_channels, middle, channels, 4 * channels)
    return basic_branch(in_channels, channels, stride)


def projection(in_channels: int, out_channels: int, stride: int) -> nn.Module:
    """The shortcut: a 1x1 convolution where the shape changes, otherwise the identity (option B there)."""
    if stride == 1 and in_channels == out_channels:
        return nn.Identity()
    return nn.Sequential(conv(in_channels, out_channels, 1, stride), nn.BatchNorm2d(out_channels))


class ResidualUnit(nn.Module):
    """relu(residual(x) + shortcut(x))."""

    def __init__(self, residual: nn.Module, shortcut: nn.Module):
        super().__init__()
        self.residual, self.shortcut = residual, shortcut

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C', H/stride, W/stride)
        # In place: the residual ends in a norm or a gate, and neither needs its output for the backward pass.
        return F.relu(self.residual(x).add_(self.shortcut(x)), inplace=True)


class SqueezeExcite(nn.Module):
    """Scale each channel by a gate computed from all channel means (Hu et al. 2017, arXiv:1709.01507)."""

    def __init__(self, channels: int, squeezed: int, activation: nn.Module):
        super().__init__()
        self.gate = nn.Sequential(
            nn.Conv2d(channels, squeezed, 1), activation, nn.Conv2d(squeezed, channels, 1), nn.Sigmoid()
        )

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C, H, W)
        return x * self.gate(x.mean((2, 3), keepdim=True))


class SelfAttention(nn.Module):
    def __init__(self, width: int, heads: int, bias: bool = True):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=bias)
        self.project = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:  # (B, N, D) -> (B, N, D)
        q, k, v = rearrange(self.qkv(x), "b n (qkv h d) -> qkv b h n d", qkv=3, h=self.heads)
        x = F.scaled_dot_product_attention(q, k, v)
        return self.project(rearrange(x, "b h n d -> b n (h d)"))


def draw(x: Tensor, low: float = 0.0, high: float = 1.0, per_image: bool = True) -> Tensor:
    """Uniform numbers in [low, high) that broadcast over x: (B, 1, ..., 1), or (1, ..., 1) for the batch.

    They are float32, because probabilities need its precision; cast a factor of x to `x.dtype`, otherwise the
    residual stream leaves the low precision of autocast. The generator is torch's global one, seeded per
    step.
    """
    shape = (len(x) if per_image else 1, *(1,) * (x.ndim - 1))
    return torch.empty(shape, device=x.device).uniform_(low, high)


class DropPath(nn.Module):
    """Stochastic depth (Huang et al. 2016, arXiv:1603.09382, section 3), drawn per image.

    In training a kept branch is divided by its survival probability, so that evaluation is the identity.
    """

    def __init__(self, rate: float):
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:  # (B, ...) -> (B, ...)
        if not self.training or self.rate == 0:
            return x
        kept = (draw(x) >= self.rate) / (1 - self.rate)
        return x * kept.to(x.dtype)


def drop_rates(last: float, count: int) -> list[float]:
    """The drop rates of `count` layers, which grow linearly from 0 to `last`."""
    return [last * i / max(count - 1, 1) for i in range(count)]


def blocks_per_stage(depth: int, layers: int, others: int) -> int:
    """The number n of blocks in each stage of a network of `layers` n + `others` layers.

    Raises:
        ValueError: no network of that form has `depth` layers.
    """
    blocks, rest = divmod(depth - others, layers)
    require(blocks >= 1 and rest == 0, "depth", f"{layers}n + {others} with n >= 1", depth)
    return blocks


@torch.no_grad()
def try_image(network: nn.Module, in_channels: int, image_size: int) -> None:
    """Run one image: many models are too deep for 32 px, and not all of them say so when they are built."""
    device = next(network.parameters()).device
    network.eval()(torch.zeros(1, in_channels, image_size, image_size, device=device))
    network.train()
