"""The ImageNet ResNets (He et al. 2015, arXiv:1512.03385, section 3.3 and table 1), on small images.

The stem is one 3x3 convolution of stride 1 without max-pooling: at 32 px the paper's stem would leave 8x8.
"""

from functools import partial
from typing import Literal

from torch import Tensor, nn

from ..core.registry import models
from .layers import ResidualUnit, conv_bn_relu, init_he, projection, residual_branch

# depth -> has bottlenecks, blocks of each stage (table 1)
PLANS = {
    18: (False, (2, 2, 2, 2)),
    34: (False, (3, 4, 6, 3)),
    50: (True, (3, 4, 6, 3)),
    101: (True, (3, 4, 23, 3)),
    152: (True, (3, 8, 36, 3)),
}


def unit(in_channels: int, channels: int, stride: int, bottleneck: bool) -> ResidualUnit:
    out_channels = channels * 4 if bottleneck else channels
    residual = residual_branch(in_channels, channels, stride, bottleneck)
    return ResidualUnit(residual, projection(in_channels, out_channels, stride))


class ImageNetResNet(nn.Module):
    def __init__(
        self,
        num_classes: int = 10,
        in_channels: int = 3,
        depth: Literal[18, 34, 50, 101, 152] = 18,
    ):
        super().__init__()
        bottleneck, plan = PLANS[depth]
        self.stem = conv_bn_relu(in_channels, 64, 3)
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


register = partial(models.register, paper="He et al. 2015, arXiv:1512.03385")

register("resnet18", partial(ImageNetResNet, depth=18), params=11_173_962)
register("resnet34", partial(ImageNetResNet, depth=34), params=21_282_122)
register("resnet50", partial(ImageNetResNet, depth=50), params=23_520_842)
register("resnet101", partial(ImageNetResNet, depth=101), params=42_512_970)
register("resnet152", partial(ImageNetResNet, depth=152), params=58_156_618)
