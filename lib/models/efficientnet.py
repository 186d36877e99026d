"""EfficientNet-B0 (Tan & Le 2019, arXiv:1905.11946, table 1), for small images.

The stem and the stage with 24 channels have stride 1 instead of 2, so that 32 px give features of 4x4.
"""

from torch import Tensor, nn

from ..core.registry import models
from .layers import DropPath, DropRate, SqueezeExcite, conv, depthwise, drop_rates, init_he

# of each stage: expansion, kernel, output channels, units, stride of the first unit
STAGES = (
    (1, 3, 16, 1, 1),
    (6, 3, 24, 2, 1),  # a stride of 2 in the paper
    (6, 5, 40, 2, 2),
    (6, 3, 80, 3, 2),
    (6, 5, 112, 3, 1),
    (6, 5, 192, 4, 2),
    (6, 3, 320, 1, 1),
)


class MBConv(nn.Module):
    """An inverted residual with a gate; the input is added where it has the shape of the output."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int, stride: int, expansion: int, drop_path: float
    ):
        super().__init__()
        wide = in_channels * expansion
        self.adds = stride == 1 and in_channels == out_channels
        self.residual = nn.Sequential()
        if expansion > 1:
            self.residual.extend([conv(in_channels, wide, 1), nn.BatchNorm2d(wide), nn.SiLU()])
        self.residual.extend([
            depthwise(wide, kernel, stride),
            nn.BatchNorm2d(wide), nn.SiLU(),
            SqueezeExcite(wide, in_channels // 4, nn.SiLU()),  # a quarter of the block's input channels
            conv(wide, out_channels, 1), nn.BatchNorm2d(out_channels),
        ])  # fmt: skip
        if self.adds:
            self.residual.append(DropPath(drop_path))

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C', H/stride, W/stride)
        return x + self.residual(x) if self.adds else self.residual(x)


@models.register(
    "efficientnet_b0",
    aliases=("efficientnetb0",),
    params=4_020_358,
    paper="Tan & Le 2019, arXiv:1905.11946",
)
class EfficientNet(nn.Module):
    def __init__(
        self,
        num_classes: int = 10,
        in_channels: int = 3,
        dropout: DropRate = 0.2,  # drop probability before the classifier
        drop_path: DropRate = 0.2,  # drop probability of the last unit's residual; linear from 0
    ):
        super().__init__()
        self.stem = nn.Sequential(conv(in_channels, 32, 3), nn.BatchNorm2d(32), nn.SiLU())
        rates = drop_rates(drop_path, sum(count for _, _, _, count, _ in STAGES))
        units, width = [], 32
        for expansion, kernel, channels, count, first_stride in STAGES:
            for i in range(count):
                stride = first_stride if i == 0 else 1
                units.append(MBConv(width, channels, kernel, stride, expansion, rates.pop(0)))
                width = channels
        self.stages = nn.Sequential(*units)
        self.last = nn.Sequential(conv(width, 1280, 1), nn.BatchNorm2d(1280), nn.SiLU())
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(1280, num_classes)
        init_he(self)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, K)
        x = self.last(self.stages(self.stem(x)))  # (B, 1280, H/8, W/8)
        return self.head(self.dropout(x.mean((2, 3))))
