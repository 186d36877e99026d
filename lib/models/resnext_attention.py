"""ResNeXt-29 for CIFAR (Xie et al. 2016, arXiv:1611.05431) with attention to channels or positions.

`se_`, `cbam_` and `ge_` networks apply a gate to each residual before the sum: squeeze-and-excitation (Hu et
al. 2017, arXiv:1709.01507, section 3), CBAM (Woo et al. 2018, arXiv:1807.06521, section 3) and gather-excite
(Hu et al. 2018, arXiv:1810.12348). `sk_` networks have selective kernels (Li et al. 2019, arXiv:1903.06586,
section 3.1) instead of the grouped convolution.
"""

from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from ..core.contracts import Count
from ..core.registry import models
from .resnext import ResNeXt


def bottleneck_mlp(channels: int, bias: bool = True) -> nn.Sequential:
    """Two dense layers with a sixteenth of the channels between them."""
    return nn.Sequential(
        nn.Linear(channels, channels // 16, bias=bias),
        nn.ReLU(inplace=True),
        nn.Linear(channels // 16, channels, bias=bias),
    )


class ChannelGate(nn.Module):
    """A gate per channel from the means of all channels and, in CBAM (equation 2), from their maxima."""

    def __init__(self, channels: int, maxima: bool = False):
        super().__init__()
        self.mlp = bottleneck_mlp(channels)
        self.maxima = maxima

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C, H, W)
        gate = self.mlp(x.mean((2, 3)))
        if self.maxima:
            gate = gate + self.mlp(x.amax((2, 3)))
        return x * gate.sigmoid()[:, :, None, None]


class SpatialGate(nn.Module):
    """A gate per position from the channel mean and maximum of its surroundings (CBAM, equation 3)."""

    def __init__(self):
        super().__init__()
        self.gate = nn.Sequential(nn.Conv2d(2, 1, 7, padding=3, bias=False), nn.BatchNorm2d(1), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C, H, W)
        # Stacked as the last dimension, so that a channels-last network keeps its memory format.
        summary = torch.stack([x.mean(1), x.amax(1)], dim=-1).movedim(-1, 1)  # (B, 2, H, W)
        return x * self.gate(summary)


class GatherExcite(nn.Module):
    """A gate per channel, gathered by a depthwise convolution of the size of the map, with BatchNorm.

    This is the paper's parametrised gather with global extent; the excitation is two 1x1 convolutions.
    """

    def __init__(self, channels: int, size: int):
        super().__init__()
        self.gather = nn.Parameter(torch.empty(channels, size, size))
        self.norm = nn.BatchNorm1d(channels)
        self.mlp = bottleneck_mlp(channels, bias=False)
        nn.init.normal_(self.gather, std=1 / size)  # keeps unit variance

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C, H, W)
        # A kernel of the size of the map is a weighted sum, which is faster than a convolution.
        gathered = (x * self.gather.to(x.dtype)).sum((2, 3))  # (B, C)
        return x * self.mlp(self.norm(gathered)).sigmoid()[:, :, None, None]


class SelectiveKernels(nn.Module):
    """Grouped 1x1 and 3x3 convolutions, mixed per channel with weights computed from the means of both.

    With kernels of 3x3 and 5x5 the 16x32d network would have 36 M parameters; the paper reports 27.7 M on
    CIFAR.
    """

    def __init__(self, channels: int, groups: int, stride: int):
        super().__init__()
        squeezed = max(channels // 32, 32)  # equation 4 with r = 32 and L = 32
        # Biases have no effect before BatchNorm, but are part of the published parameter count.
        self.small, self.large = (
            nn.Sequential(
                nn.Conv2d(channels, channels, kernel, stride, padding=kernel // 2, groups=groups),
                nn.BatchNorm2d(channels), nn.ReLU(inplace=True),
            )
            for kernel in (1, 3)
        )  # fmt: skip
        self.squeeze = nn.Sequential(nn.Linear(channels, squeezed), nn.ReLU(inplace=True))
        self.select = nn.Linear(squeezed, 2 * channels)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C, H/stride, W/stride)
        small, large = self.small(x), self.large(x)
        means = small.mean((2, 3)) + large.mean((2, 3))  # (B, C): the mean of small + large
        for_small, for_large = self.select(self.squeeze(means)).chunk(2, dim=1)
        weight = (for_large - for_small).sigmoid()  # the softmax of two logits
        return torch.lerp(small, large, weight[:, :, None, None])


GATES = {
    "se": ChannelGate,
    "cbam": lambda channels: nn.Sequential(ChannelGate(channels, maxima=True), SpatialGate()),
}


def gated_resnext29(
    num_classes: int = 10,
    in_channels: int = 3,
    cardinality: Count = 8,
    width: Count = 64,
    gate: Literal["se", "cbam"] = "se",
) -> ResNeXt:
    """ResNeXt-29 for CIFAR with a gate on each residual."""
    return ResNeXt(num_classes, in_channels, 29, cardinality, width, attend=GATES[gate])


def ge_resnext29(
    num_classes: int = 10,
    in_channels: int = 3,
    image_size: int = 32,  # the network takes images of this size only
    cardinality: Count = 8,
    width: Count = 64,
) -> ResNeXt:
    """ResNeXt-29 for CIFAR with a gather-excite gate on each residual (Hu et al. 2018, arXiv:1810.12348)."""

    def gate(channels: int) -> GatherExcite:
        return GatherExcite(channels, size=-(-image_size * 256 // channels))  # rounded up

    return ResNeXt(num_classes, in_channels, 29, cardinality, width, attend=gate)


def sk_resnext29(
    num_classes: int = 10,
    in_channels: int = 3,
    cardinality: Count = 16,
    width: Count = 32,
) -> ResNeXt:
    """ResNeXt-29 for CIFAR with selective kernels (Li et al. 2019, arXiv:1903.06586)."""
    return ResNeXt(num_classes, in_channels, 29, cardinality, width, transform=SelectiveKernels)


SE, CBAM = "Hu et al. 2017, arXiv:1709.01507", "Woo et al. 2018, arXiv:1807.06521"
GE, SK = "Hu et al. 2018, arXiv:1810.12348", "Li et al. 2019, arXiv:1903.06586"
se, cbam = partial(gated_resnext29, gate="se"), partial(gated_resnext29, gate="cbam")

for name, network, cardinality, width, params, paper in (
    ("se_resnext29_8x64d", se, 8, 64, 34_948_506, SE),
    ("se_resnext29_16x64d", se, 16, 64, 68_677_018, SE),
    ("cbam_resnext29_8x64d", cbam, 8, 64, 34_949_406, CBAM),
    ("cbam_resnext29_16x64d", cbam, 16, 64, 68_677_918, CBAM),
    ("cbam_resnext29_16x8d", cbam, 16, 8, 5_588_766, CBAM),
    ("cbam_resnext29_16x16d", cbam, 16, 16, 11_117_854, CBAM),
    ("cbam_resnext29_16x32d", cbam, 16, 32, 25_659_678, CBAM),
    ("ge_resnext29_8x64d", ge_resnext29, 8, 64, 36_329_802, GE),
    ("ge_resnext29_16x64d", ge_resnext29, 16, 64, 70_058_314, GE),
    ("sk_resnext29_16x32d", sk_resnext29, 16, 32, 27_877_578, SK),
    ("sk_resnext29_16x64d", sk_resnext29, 16, 64, 78_649_834, SK),
):
    models.register(name, partial(network, cardinality=cardinality, width=width), params=params, paper=paper)
