"""ResNet for CIFAR (He et al. 2015, arXiv:1512.03385, section 4.2): three stages of 16, 32 and 64 channels.

ResNet-164 with bottlenecks has the depth of He et al. 2016, arXiv:1603.05027, with the units of 2015.
"""

from functools import partial
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from ..core.registry import models
from .layers import ResidualUnit, blocks_per_stage, conv_bn_relu, init_he, projection, residual_branch


class PaddedShortcut(nn.Module):
    """Option A: subsample by the stride and pad new channels with zeros; it has no parameters."""

    def __init__(self, in_channels: int, out_channels: int, stride: int):
        super().__init__()
        self.new_channels, self.stride = out_channels - in_channels, stride

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C', H/stride, W/stride)
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.new_channels))


SHORTCUTS = {"A": PaddedShortcut, "B": projection}


def unit(in_channels: int, channels: int, stride: int, bottleneck: bool, shortcut: str) -> ResidualUnit:
    out_channels = channels * 4 if bottleneck else channels
    residual = residual_branch(in_channels, channels, stride, bottleneck)
    changes = stride != 1 or in_channels != out_channels
    return ResidualUnit(
        residual, SHORTCUTS[shortcut](in_channels, out_channels, stride) if changes else nn.Identity()
    )


class ResNet(nn.Module):
    def __init__(
        self,
        num_classes: int = 10,
        in_channels: int = 3,
        depth: int = 110,  # 6n + 2, with bottlenecks 9n + 2
        bottleneck: bool = False,  # units of 1x1, 3x3 and 1x1 convolutions with 4x wider outputs
        shortcut: Literal["A", "B"] = "A",  # where the width changes: A pads with zeros, B projects
    ):
        super().__init__()
        blocks = blocks_per_stage(depth, 9 if bottleneck else 6, 2)
        self.stem = conv_bn_relu(in_channels, 16, 3)
        stages, width = [], 16
        for channels in (16, 32, 64):
            for i in range(blocks):
                stride = 2 if i == 0 and channels > 16 else 1
                stages.append(unit(width, channels, stride, bottleneck, shortcut))
                width = channels * 4 if bottleneck else channels
        self.stages = nn.Sequential(*stages)
        self.head = nn.Linear(width, num_classes)
        init_he(self)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, K)
        x = self.stages(self.stem(x))  # (B, 64, H/4, W/4)
        return self.head(x.mean((2, 3)))


register = partial(models.register, paper="He et al. 2015, arXiv:1512.03385")
basic = partial(ResNet, bottleneck=False)

register("resnet20", partial(basic, depth=20), params=269_722)
register("resnet32", partial(basic, depth=32), params=464_154)
register("resnet44", partial(basic, depth=44), params=658_586)
register("resnet56", partial(basic, depth=56), params=853_018)
register("resnet110", partial(basic, depth=110), params=1_727_962)
register("resnet1202", partial(basic, depth=1202), params=19_421_274)
models.register(
    "resnet164_bottleneck",
    partial(ResNet, depth=164, bottleneck=True),
    params=1.7e6,
    paper="He et al. 2015, arXiv:1512.03385; 2016, arXiv:1603.05027",
)
