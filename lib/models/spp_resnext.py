"""ResNeXt 16x8d (Xie et al. 2016, arXiv:1611.05431) with spatial pyramid pooling in its residuals.

The pooling (He et al. 2014, arXiv:1406.4729) has stride 1: the map and its maxima over windows of increasing
size are concatenated, and a 1x1 convolution mixes them. In `spp_d<depth>_p<pooling>` the pooling is a key of
WINDOWS.
"""

from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from ..core.registry import models
from .layers import conv
from .resnext import ResNeXt

# pooling -> sides of the windows
WINDOWS = {"N": (), "A": (3,), "B": (5,), "C": (7,), "D": (3, 5, 7)}


class PyramidPooling(nn.Module):
    """Max-pooling of half of the channels; BatchNorm and SiLU follow both 1x1 convolutions."""

    def __init__(self, channels: int, windows: tuple[int, ...]):
        super().__init__()
        half = channels // 2
        self.reduce = nn.Sequential(conv(channels, half, 1), nn.BatchNorm2d(half), nn.SiLU())
        # Pooling 3x3 maxima over 3x3 windows gives the maxima of 5x5 windows, at a lower cost.
        steps = [window - before + 1 for before, window in zip((1, *windows), windows, strict=False)]
        self.pools = nn.ModuleList(nn.MaxPool2d(step, stride=1, padding=step // 2) for step in steps)
        levels = 1 + len(windows)
        self.mix = nn.Sequential(conv(levels * half, channels, 1), nn.BatchNorm2d(channels), nn.SiLU())

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C, H, W)
        levels = [self.reduce(x)]
        for pool in self.pools:
            levels.append(pool(levels[-1]))
        return self.mix(torch.cat(levels, dim=1))


def spp_resnext(
    num_classes: int = 10,
    in_channels: int = 3,
    depth: int = 29,  # 9n + 2
    pooling: Literal["N", "A", "B", "C", "D"] = "A",
) -> ResNeXt:
    """ResNeXt 16x8d (Xie et al. 2016, arXiv:1611.05431) with spatial pyramid pooling in its residuals."""
    attend = partial(PyramidPooling, windows=WINDOWS[pooling]) if WINDOWS[pooling] else nn.Identity
    return ResNeXt(num_classes, in_channels, depth, cardinality=16, width=8, attend=attend)


register = partial(
    models.register, paper="Xie et al. 2016, arXiv:1611.05431; He et al. 2014, arXiv:1406.4729"
)

for depth, params in (  # with each pooling
    (11, {"N": 1_912_138, "A": 3_981_898, "B": 3_981_898, "C": 3_981_898, "D": 5_358_154}),
    (20, {"N": 3_489_098, "A": 7_628_618, "B": 7_628_618, "C": 7_628_618, "D": 10_381_130}),
    (29, {"N": 5_066_058, "A": 11_275_338, "B": 11_275_338, "C": 11_275_338, "D": 15_404_106}),
):
    for pooling in WINDOWS:
        network = partial(spp_resnext, depth=depth, pooling=pooling)
        register(f"spp_d{depth}_p{pooling}", network, params=params[pooling])
