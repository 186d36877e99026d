"""ResNeXt for CIFAR (Xie et al. 2016, arXiv:1611.05431, section 5.3): bottlenecks with grouped convolutions.

`resnext29_8x64d` has 29 layers, and the 3x3 convolutions of its first stage have 8 groups of 64 channels.
"""

from collections.abc import Callable
from functools import partial

from torch import Tensor, nn

from ..core.contracts import Count
from ..core.registry import models
from .layers import ResidualUnit, blocks_per_stage, bottleneck_branch, conv, conv_bn_relu, init_he, projection

Transform = Callable[[int, int, int], nn.Module]  # channels, groups, stride -> a module from C to C channels
Attend = Callable[[int], nn.Module]  # channels -> a module from C to C channels


def grouped(channels: int, groups: int, stride: int) -> nn.Module:
    return conv(channels, channels, 3, stride, groups)


class ResNeXt(nn.Module):
    """Three stages that end in 256, 512 and 1024 channels.

    Args:
        depth: 9n + 2 for n blocks in each stage.
        cardinality: groups of the 3x3 convolutions.
        width: channels of a group in the first stage; each further stage doubles them.
        transform: builds the module between the 1x1 convolutions of a block.
        attend: builds the last module of each residual, before the sum.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        depth: int,
        cardinality: int,
        width: int,
        transform: Transform = grouped,
        attend: Attend = nn.Identity,
    ):
        super().__init__()
        blocks = blocks_per_stage(depth, 9, 2)
        self.stem = conv_bn_relu(in_channels, 64, 3)
        stages, before, inner = [], 64, cardinality * width
        for channels in (256, 512, 1024):
            for i in range(blocks):
                stride = 2 if i == 0 and channels > 256 else 1
                middle, gate = transform(inner, cardinality, stride), attend(channels)
                residual = bottleneck_branch(before, middle, inner, channels).append(gate)  # figure 3c
                stages.append(ResidualUnit(residual, projection(before, channels, stride)))
                before = channels
            inner *= 2
        self.stages = nn.Sequential(*stages)
        self.head = nn.Linear(before, num_classes)
        init_he(self)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, K)
        x = self.stages(self.stem(x))  # (B, 1024, H/4, W/4)
        return self.head(x.mean((2, 3)))


def resnext29(
    num_classes: int = 10,
    in_channels: int = 3,
    cardinality: Count = 8,
    width: Count = 64,
) -> ResNeXt:
    """ResNeXt-29 for CIFAR (Xie et al. 2016, arXiv:1611.05431, section 5.3)."""
    return ResNeXt(num_classes, in_channels, 29, cardinality, width)


register = partial(models.register, paper="Xie et al. 2016, arXiv:1611.05431")

for cardinality, width, params in (
    (2, 64, 9_130_314),
    (4, 64, 17_562_442),
    (8, 64, 34_426_698),
    (16, 64, 68_155_210),
    (16, 8, 5_066_058),
    (16, 16, 10_595_146),
    (16, 32, 25_136_970),
    (32, 4, 4_775_754),
):
    plan = f"29_{cardinality}x{width}d"
    aliases = (f"norm_resnext{plan}", *(("resnext",) if plan == "29_2x64d" else ()))
    network = partial(resnext29, cardinality=cardinality, width=width)
    register(f"resnext{plan}", network, aliases=aliases, params=params)
