"""ToyNet, a plain stack of convolutions, to study what depth, kernel and width cost on a device.

There is no paper. Nothing stands between the convolutions but BatchNorm and ReLU; each of four stages halves
the sides and doubles the channels, so that a layer costs the same in all of them.
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
        depth: Count = 4,  # convolutions of each of the four stages
        kernel: Count = 7,  # pixels on the side of every convolution's kernel
        width: Count = 64,  # channels of the first stage; each further stage has twice as many
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
