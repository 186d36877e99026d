"""VGG (Simonyan & Zisserman 2014, arXiv:1409.1556, table 1, columns A, B, D and E), for small images.

BatchNorm (Ioffe & Szegedy 2015, arXiv:1502.03167) follows every convolution; the classifier is one linear
layer.
"""

from functools import partial
from typing import Literal

from torch import Tensor, nn

from ..core.registry import models
from .layers import init_he

WIDTHS = (64, 128, 256, 512, 512)
# layers in the paper's count, which includes its three linear layers -> convolutions of each stage
CONVOLUTIONS = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}


class VGG(nn.Module):
    def __init__(
        self,
        num_classes: int = 10,
        in_channels: int = 3,
        depth: Literal[11, 13, 16, 19] = 16,
    ):
        super().__init__()
        layers, before = [], in_channels
        for width, convolutions in zip(WIDTHS, CONVOLUTIONS[depth], strict=True):
            for _ in range(convolutions):
                layers += [
                    nn.Conv2d(before, width, 3, padding=1),
                    nn.BatchNorm2d(width),
                    nn.ReLU(inplace=True),
                ]
                before = width
            layers.append(nn.MaxPool2d(2, ceil_mode=True))  # ceil: 28 px are halved five times
        self.features = nn.Sequential(*layers)
        self.head = nn.Linear(before, num_classes)
        init_he(self)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, K)
        x = self.features(x)  # (B, 512, H/32, W/32)
        return self.head(x.mean((2, 3)))


register = partial(models.register, paper="Simonyan & Zisserman 2014, arXiv:1409.1556")

register("vgg11", partial(VGG, depth=11), aliases=("vgg",), params=9_231_114)
register("vgg13", partial(VGG, depth=13), params=9_416_010)
register("vgg16", partial(VGG, depth=16), aliases=("vgg15_bn",), params=14_728_266)
register("vgg19", partial(VGG, depth=19), params=20_040_522)
