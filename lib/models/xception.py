"""Xception (Chollet 2016, arXiv:1610.02357, section 3 and figure 5), on small images.

The first convolution and the first block have stride 1 instead of 2, and the second convolution is padded: at
32 px the middle flow has 8x8 pixels and the exit flow ends with 4x4 instead of 1x1.
"""

from itertools import pairwise

from torch import Tensor, nn

from ..core.registry import models
from .layers import DropRate, conv, depthwise, init_he


def separable(in_channels: int, out_channels: int) -> nn.Sequential:
    """A depthwise 3x3 and a 1x1 convolution with nothing in between (section 4.7)."""
    filters = depthwise(in_channels, 3)
    return nn.Sequential(filters, conv(in_channels, out_channels, 1), nn.BatchNorm2d(out_channels))


class Block(nn.Module):
    """Separable convolutions through `widths`, each preceded by a ReLU, plus a shortcut.

    Max-pooling after them has the stride.
    """

    def __init__(self, *widths: int, stride: int = 1, relu_first: bool = True):
        super().__init__()
        self.shortcut = nn.Identity()
        if stride != 1 or widths[0] != widths[-1]:
            self.shortcut = nn.Sequential(conv(widths[0], widths[-1], 1, stride), nn.BatchNorm2d(widths[-1]))
        layers = []
        for i, (before, after) in enumerate(pairwise(widths)):
            if i > 0 or relu_first:
                layers.append(nn.ReLU(inplace=i > 0))  # the shortcut reads the input of the first one
            layers.append(separable(before, after))
        if stride != 1:
            layers.append(nn.MaxPool2d(3, stride, padding=1))
        self.residual = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C', H/stride, W/stride)
        return self.residual(x) + self.shortcut(x)


@models.register("xception", params=20_827_442, paper="Chollet 2016, arXiv:1610.02357")
class Xception(nn.Module):
    def __init__(
        self,
        num_classes: int = 10,
        in_channels: int = 3,
        dropout: DropRate = 0.5,  # drop probability before the classifier
    ):
        super().__init__()
        self.stem = nn.Sequential(
            conv(in_channels, 32, 3), nn.BatchNorm2d(32), nn.ReLU(inplace=True),
            conv(32, 64, 3), nn.BatchNorm2d(64), nn.ReLU(inplace=True),
        )  # fmt: skip
        self.entry = nn.Sequential(
            Block(64, 128, 128, relu_first=False),
            Block(128, 256, 256, stride=2),
            Block(256, 728, 728, stride=2),
        )
        self.middle = nn.Sequential(*(Block(728, 728, 728, 728) for _ in range(8)))
        self.exit = nn.Sequential(
            Block(728, 728, 1024, stride=2),
            separable(1024, 1536), nn.ReLU(inplace=True),
            separable(1536, 2048), nn.ReLU(inplace=True),
        )  # fmt: skip
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(2048, num_classes)
        init_he(self)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, K)
        x = self.middle(self.entry(self.stem(x)))  # (B, 728, H/4, W/4)
        x = self.exit(x)  # (B, 2048, H/8, W/8)
        return self.head(self.dropout(x.mean((2, 3))))
