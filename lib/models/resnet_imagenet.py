"""The ImageNet ResNets (He et al. 2015, arXiv:1512.03385, section 3.3 and table 1), on small images.

The stem is one 3x3 convolution of stride 1, without max-pool: at 32 px the paper's stem would leave 8x8.
"""

from functools import partial
from typing import Literal

from torch import Tensor, nn

from ..core.registry import models
from .layers import ResidualUnit, basic_branch, bottleneck_branch, conv, init_he, projection

# depth -> has bottlenecks, blocks of each stage (table 1), parameters
PLANS = {
    18: (False, (2, 2, 2, 2), 11_173_962),
    34: (False, (3, 4, 6, 3), 21_282_122),
    50: (True, (3, 4, 6, 3), 23_520_842),
    101: (True, (3, 4, 23, 3), 42_512_970),
    152: (True, (3, 8, 36, 3), 58_156_618),
}


def unit(in_channels: int, channels: int, stride: int, bottleneck: bool) -> ResidualUnit:
    if bottleneck:
        middle, out_channels = conv(channels, channels, 3, stride), channels * 4
        residual = bottleneck_branch(in_channels, middle, channels, out_channels)
    else:
        residual, out_channels = basic_branch(in_channels, channels, stride), channels
    return ResidualUnit(residual, projection(in_channels, out_channels, stride))


class ImageNetResNet(nn.Module):
    def __init__(
        self,
        num_classes: int = 10,
        in_channels: int = 3,
        depth: Literal[18, 34, 50, 101, 152] = 18,
    ):
        super().__init__()
        bottleneck, plan, _ = PLANS[depth]
        self.stem = nn.Sequential(conv(in_channels, 64, 3), nn.BatchNorm2d(64), nn.ReLU(inplace=True))
        stages, width = [], 64
        for channels, blocks in zip((64, 128, 256, 512), plan, strict=True):
            for i in range(blocks):
                stride = 2 if i == 0 and channels > 64 else 1
                stages.append(unit(width, channels, stride, bottleneck))
                width = channels * 4 if bottleneck else channels
        self.stages = nn.Sequential(*stages)
        self.head = nn.Linear(width, num_classes)
        init_he(self)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, K)
        x = self.stages(self.stem(x))  # (B, 512 or 2048, H/8, W/8)
        return self.head(x.mean((2, 3)))


for depth, (_, _, count) in PLANS.items():
    models.register(
        f"resnet{depth}",
        partial(ImageNetResNet, depth=depth),
        aliases=(f"ResNet{depth}",),
        params=count,
        paper="He et al. 2015, arXiv:1512.03385",
    )
