"""SqueezeNet 1.0 (Iandola et al. 2016, arXiv:1602.07360, section 3 and table 1), with BatchNorm.

The first convolution is 3x3 with stride 1 instead of 7x7 with stride 2, so that 32 px give features of 4x4.
BatchNorm replaces dropout (Ioffe & Szegedy 2015, arXiv:1502.03167, section 4.2.1).
"""

import torch
from torch import Tensor, nn

from ..core.registry import models
from .layers import init_he


class Fire(nn.Module):
    """Squeeze to few channels, then expand by parallel 1x1 and 3x3 convolutions (figure 1)."""

    def __init__(self, in_channels: int, squeezed: int, expanded: int):
        super().__init__()
        self.squeeze = nn.Sequential(
            nn.Conv2d(in_channels, squeezed, 1), nn.BatchNorm2d(squeezed), nn.ReLU(inplace=True)
        )
        self.expand1x1 = nn.Conv2d(squeezed, expanded, 1)
        self.expand3x3 = nn.Conv2d(squeezed, expanded, 3, padding=1)
        self.activate = nn.Sequential(nn.BatchNorm2d(2 * expanded), nn.ReLU(inplace=True))

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, 2 expanded, H, W)
        x = self.squeeze(x)
        return self.activate(torch.cat([self.expand1x1(x), self.expand3x3(x)], dim=1))


def pool() -> nn.MaxPool2d:
    return nn.MaxPool2d(3, 2, ceil_mode=True)  # ceil: the last window may extend over the border


@models.register("squeezenet", params=734_986, paper="Iandola et al. 2016, arXiv:1602.07360")
class SqueezeNet(nn.Module):
    def __init__(self, num_classes: int = 10, in_channels: int = 3):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(in_channels, 96, 3, padding=1), nn.BatchNorm2d(96), nn.ReLU(inplace=True), pool(),
            Fire(96, 16, 64), Fire(128, 16, 64), Fire(128, 32, 128), pool(),
            Fire(256, 32, 128), Fire(256, 48, 192), Fire(384, 48, 192), Fire(384, 64, 256), pool(),
            Fire(512, 64, 256),
        )  # fmt: skip
        self.head = nn.Linear(512, num_classes)
        init_he(self)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, K)
        x = self.features(x)  # (B, 512, H/8, W/8)
        # The paper classifies every pixel and then averages, which is equivalent and more expensive.
        return self.head(x.mean((2, 3)))
