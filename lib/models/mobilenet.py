"""MobileNet and MobileNetV2 (Howard et al. 2017, arXiv:1704.04861; Sandler et al. 2018, arXiv:1801.04381).

The networks of table 1 in the first paper and of table 2 in the second, for small images: the stems and the
stage with 24 channels of MobileNetV2 have stride 1, so that 32 px give features of 2x2 and 4x4.
"""

from functools import partial

from torch import Tensor, nn

from ..core.contracts import Positive
from ..core.registry import models
from .layers import conv, depthwise, init_he

# output channels and stride of each pair of a depthwise and a 1x1 convolution; the stride of 2 that the table
# gives for the last pair is a misprint, since its output has the size of its input
PAIRS = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1))
# of each stage of MobileNetV2: expansion, output channels, units, stride of the first unit
STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 1),  # a stride of 2 in the paper
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


@models.register(
    "mobilenet", aliases=("mobilenetv1",), params=3_217_226, paper="Howard et al. 2017, arXiv:1704.04861"
)
class MobileNet(nn.Module):
    """MobileNet (Howard et al. 2017, arXiv:1704.04861): pairs of a depthwise 3x3 and a 1x1 convolution."""

    def __init__(self, num_classes: int = 10, in_channels: int = 3):
        super().__init__()
        layers, width = [conv(in_channels, 32, 3), nn.BatchNorm2d(32), nn.ReLU(inplace=True)], 32
        for channels, stride in PAIRS:
            layers += [
                depthwise(width, 3, stride), nn.BatchNorm2d(width), nn.ReLU(inplace=True),
                conv(width, channels, 1), nn.BatchNorm2d(channels), nn.ReLU(inplace=True),
            ]  # fmt: skip
            width = channels
        self.features = nn.Sequential(*layers)
        self.head = nn.Linear(width, num_classes)
        init_he(self)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, K)
        x = self.features(x)  # (B, 1024, H/16, W/16)
        return self.head(x.mean((2, 3)))


class InvertedResidual(nn.Module):
    """Table 1: wide inside, narrow outside, without a nonlinearity at the narrow end.

    The input is added where it has the shape of the output.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, expansion: int):
        super().__init__()
        wide = in_channels * expansion
        self.adds = stride == 1 and in_channels == out_channels
        self.residual = nn.Sequential()
        if expansion > 1:
            self.residual.extend([conv(in_channels, wide, 1), nn.BatchNorm2d(wide), nn.ReLU6(inplace=True)])
        self.residual.extend([
            depthwise(wide, 3, stride), nn.BatchNorm2d(wide), nn.ReLU6(inplace=True),
            conv(wide, out_channels, 1), nn.BatchNorm2d(out_channels),
        ])  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C', H/stride, W/stride)
        return x + self.residual(x) if self.adds else self.residual(x)


def eighths(width: float) -> int:
    """The nearest multiple of 8 that is at least 0.9 times the width, as in the authors' code."""
    near = max(8, int(width + 4) // 8 * 8)
    return near + 8 if near < 0.9 * width else near


class MobileNetV2(nn.Module):
    """MobileNetV2 (Sandler et al. 2018, arXiv:1801.04381): inverted residuals with linear bottlenecks."""

    def __init__(
        self,
        num_classes: int = 10,
        in_channels: int = 3,
        multiplier: Positive = 1.0,  # of all widths; above 1 of the last one too
    ):
        super().__init__()
        width, last = eighths(32 * multiplier), eighths(1280 * max(1.0, multiplier))
        self.stem = nn.Sequential(conv(in_channels, width, 3), nn.BatchNorm2d(width), nn.ReLU6(inplace=True))
        units = []
        for expansion, base, count, first_stride in STAGES:
            channels = eighths(base * multiplier)
            for i in range(count):
                units.append(InvertedResidual(width, channels, first_stride if i == 0 else 1, expansion))
                width = channels
        self.stages = nn.Sequential(*units)
        self.last = nn.Sequential(conv(width, last, 1), nn.BatchNorm2d(last), nn.ReLU6(inplace=True))
        self.head = nn.Linear(last, num_classes)
        init_he(self)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, K)
        x = self.stages(self.stem(x))  # (B, 320, H/8, W/8)
        return self.head(self.last(x).mean((2, 3)))


register = partial(models.register, paper="Sandler et al. 2018, arXiv:1801.04381")
for name, multiplier, params, aliases in (
    ("mobilenetv2_x0_5", 0.5, 700_490, ()),
    ("mobilenetv2_x0_75", 0.75, 1_368_234, ()),
    ("mobilenetv2", 1.0, 2_236_682, ("mobilenetv2_x1_0",)),
    ("mobilenetv2_x1_4", 1.4, 4_333_706, ()),
):
    register(name, partial(MobileNetV2, multiplier=multiplier), aliases=aliases, params=params)
