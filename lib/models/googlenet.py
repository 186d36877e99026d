"""GoogLeNet (Szegedy et al. 2014, arXiv:1409.4842, section 5 and table 1), with BatchNorm.

The stem has its three convolutions, the first one 3x3 with stride 1, and no max-pooling: at 32 px the stages
have 32, 16 and 8 pixels a side. With BatchNorm, auxiliary classifiers and dropout are not needed (Ioffe &
Szegedy 2015, arXiv:1502.03167, section 4.2.1; Szegedy et al. 2015, arXiv:1512.00567, section 4).
"""

import torch
from torch import Tensor, nn

from ..core.registry import models
from .layers import conv_bn_relu, init_he


class Inception(nn.Module):
    """Four concatenated branches (figure 2b). The arguments are a row of table 1.

    Args:
        one: channels of the 1x1 branch.
        reduced_three: input channels of the 3x3 convolution; `three` are its output channels.
        reduced_five, five: the same for the 5x5 convolution.
        pooled: channels of the projection after max-pooling.
    """

    def __init__(
        self,
        in_channels: int,
        one: int,
        reduced_three: int,
        three: int,
        reduced_five: int,
        five: int,
        pooled: int,
    ):
        super().__init__()
        self.one = conv_bn_relu(in_channels, one, 1)
        self.three = nn.Sequential(
            conv_bn_relu(in_channels, reduced_three, 1), conv_bn_relu(reduced_three, three, 3)
        )
        self.five = nn.Sequential(
            conv_bn_relu(in_channels, reduced_five, 1), conv_bn_relu(reduced_five, five, 5)
        )
        self.pool = nn.Sequential(nn.MaxPool2d(3, 1, padding=1), conv_bn_relu(in_channels, pooled, 1))

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C', H, W)
        return torch.cat([self.one(x), self.three(x), self.five(x), self.pool(x)], dim=1)


def halve() -> nn.MaxPool2d:
    return nn.MaxPool2d(3, 2, ceil_mode=True)  # ceil: the last window may extend over the border


@models.register("googlenet", params=5_983_402, paper="Szegedy et al. 2014, arXiv:1409.4842")
class GoogLeNet(nn.Module):
    def __init__(self, num_classes: int = 10, in_channels: int = 3):
        super().__init__()
        self.stem = nn.Sequential(
            conv_bn_relu(in_channels, 64, 3), conv_bn_relu(64, 64, 1), conv_bn_relu(64, 192, 3)
        )
        self.stages = nn.Sequential(
            Inception(192, 64, 96, 128, 16, 32, 32),
            Inception(256, 128, 128, 192, 32, 96, 64),
            halve(),
            Inception(480, 192, 96, 208, 16, 48, 64),
            Inception(512, 160, 112, 224, 24, 64, 64),
            Inception(512, 128, 128, 256, 24, 64, 64),
            Inception(512, 112, 144, 288, 32, 64, 64),
            Inception(528, 256, 160, 320, 32, 128, 128),
            halve(),
            Inception(832, 256, 160, 320, 32, 128, 128),
            Inception(832, 384, 192, 384, 48, 128, 128),
        )
        self.head = nn.Linear(1024, num_classes)
        init_he(self)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, K)
        x = self.stages(self.stem(x))  # (B, 1024, H/4, W/4)
        return self.head(x.mean((2, 3)))
