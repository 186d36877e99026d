"""ToyNet, a plain stack of convolutions, to measure the cost of depth, kernel size and width on a device.

There is no paper. BatchNorm and ReLU follow each convolution. Each of four stages halves the resolution and
doubles the channels, so that a layer has the same cost in all of them.
"""

from torch import Tensor, nn

from ..core.contracts import Count
from ..core.errors import require
from ..core.registry import models
from .layers import conv, init_he

STAGES = 4


@models.register("toynet", aliases=("ToyNet_S",), params=59_631_306)
class ToyNet(nn.Module):
    def __init__(
        self,
        num_classes: int = 10,
        in_channels: int = 3,
        depth: Count = 4,  # convolutions of each stage
        kernel: Count = 7,  # kernel size of every convolution; odd
        width: Count = 64,  # channels of the first stage; each further stage doubles them
    ):
        super().__init__()
        require(kernel % 2 == 1, "kernel", "odd", kernel)
        layers, before = [], in_channels
        for stage in range(STAGES):
            channels = width * 2**stage
            for i in range(depth):
                stride = 2 if i == 0 and stage > 0 else 1
                layers += [conv(before, channels, kernel, stride), nn.BatchNorm2d(channels)]
                layers.append(nn.ReLU(inplace=True))
                before = channels
        self.features = nn.Sequential(*layers)
        self.head = nn.Linear(before, num_classes)
        init_he(self)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, K)
        x = self.features(x)  # (B, 8 width, H/8, W/8)
        return self.head(x.mean((2, 3)))
