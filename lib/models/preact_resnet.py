"""Pre-activation ResNet (He et al. 2016, arXiv:1603.05027, figure 4e), with the stages of CIFAR and ImageNet.

The options of the units are from the PyramidNet paper (Han et al. 2016, arXiv:1610.02915, figure 6).
"""

from functools import partial
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from ..core.contracts import Count
from ..core.errors import require
from ..core.registry import models
from .layers import blocks_per_stage, conv, init_he
from .resnet_imagenet import PLANS

register = partial(models.register, paper="He et al. 2016, arXiv:1603.05027")


class PreActBlock(nn.Module):
    """residual(a) + shortcut(x), or shortcut(a) where the pre-activation a of x is `shared` by both paths.

    In the paper it is shared in the first unit, directly after the stem (appendix). A shared pre-activation
    always has its ReLU, whatever `remove_first_relu` is, since the shortcut reads it too.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        stride: int,
        bottleneck: bool,
        shared: bool,
        remove_first_relu: bool,
        add_last_bn: bool,
    ):
        super().__init__()
        out_channels = channels * 4 if bottleneck else channels
        changes = stride != 1 or in_channels != out_channels
        self.shared = shared
        self.shortcut = conv(in_channels, out_channels, 1, stride) if changes else nn.Identity()
        self.activate = nn.Sequential(nn.BatchNorm2d(in_channels))
        if shared or not remove_first_relu:
            self.activate.append(nn.ReLU(inplace=True))
        if bottleneck:
            self.residual = nn.Sequential(
                conv(in_channels, channels, 1), nn.BatchNorm2d(channels), nn.ReLU(inplace=True),
                conv(channels, channels, 3, stride), nn.BatchNorm2d(channels), nn.ReLU(inplace=True),
                conv(channels, out_channels, 1),
            )  # fmt: skip
        else:
            self.residual = nn.Sequential(
                conv(in_channels, channels, 3, stride), nn.BatchNorm2d(channels), nn.ReLU(inplace=True),
                conv(channels, out_channels, 3),
            )  # fmt: skip
        if add_last_bn:
            self.residual.append(nn.BatchNorm2d(out_channels))

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C', H/stride, W/stride)
        activated = self.activate(x)
        return self.residual(activated) + self.shortcut(activated if self.shared else x)


class PreActResNet(nn.Module):
    """A stem of one 3x3 convolution, stages of units, BatchNorm and ReLU, global pooling.

    Args:
        widths: channels of each stage before the expansion of bottlenecks; the stem has the first.
        blocks: units of each stage.
        preact_stage: for each stage, whether the first unit shares its pre-activation with the shortcut.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        widths: tuple[int, ...],
        blocks: tuple[int, ...],
        bottleneck: bool,
        preact_stage: tuple[bool, ...],
        remove_first_relu: bool,
        add_last_bn: bool,
    ):
        super().__init__()
        rule = f"{len(widths)} values, one a stage"
        require(len(preact_stage) == len(widths), "preact_stage", rule, preact_stage)
        self.stem = conv(in_channels, widths[0], 3)
        stages, width = [], widths[0]
        for stage, channels in enumerate(widths):
            for i in range(blocks[stage]):
                stride = 2 if i == 0 and stage > 0 else 1
                shared = i == 0 and preact_stage[stage]
                stages.append(
                    PreActBlock(width, channels, stride, bottleneck, shared, remove_first_relu, add_last_bn)
                )
                width = channels * 4 if bottleneck else channels
        self.stages = nn.Sequential(*stages)
        self.norm = nn.BatchNorm2d(width)
        self.head = nn.Linear(width, num_classes)
        init_he(self)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, K)
        x = F.relu(self.norm(self.stages(self.stem(x))), inplace=True)
        return self.head(x.mean((2, 3)))


@register("resnet_preact", params=1_730_522)
def resnet_preact(
    num_classes: int = 10,
    in_channels: int = 3,
    depth: int = 110,  # 6n + 2, with bottlenecks 9n + 2
    block_type: Literal["basic", "bottleneck"] = "basic",  # two 3x3 convolutions, or 1x1, 3x3 and 1x1
    initial_channels: Count = 16,  # channels of the first stage; each further stage doubles them
    preact_stage: tuple[bool, ...] = (True, True, True),  # first units that pre-activate their shortcut
    remove_first_relu: bool = False,  # no ReLU before the first convolution of a unit
    add_last_bn: bool = False,  # a BatchNorm after the last convolution of a unit
) -> PreActResNet:
    """Pre-activation ResNet for CIFAR (He et al. 2016, arXiv:1603.05027): three stages of n units."""
    bottleneck = block_type == "bottleneck"
    blocks = (blocks_per_stage(depth, 9 if bottleneck else 6, 2),) * 3
    widths = (initial_channels, initial_channels * 2, initial_channels * 4)
    return PreActResNet(
        num_classes, in_channels, widths, blocks, bottleneck, preact_stage, remove_first_relu, add_last_bn
    )


def imagenet_preact(
    num_classes: int = 10,
    in_channels: int = 3,
    depth: Literal[18, 34, 50, 101, 152] = 18,
    preact_stage: tuple[bool, ...] = (True, True, True, True),  # first units that pre-activate their shortcut
    remove_first_relu: bool = False,  # no ReLU before the first convolution of a unit
    add_last_bn: bool = False,  # a BatchNorm after the last convolution of a unit
) -> PreActResNet:
    """Pre-activation ResNet with the stages of ImageNet (table 1 of arXiv:1512.03385) and a 3x3 stem."""
    widths, (bottleneck, blocks) = (64, 128, 256, 512), PLANS[depth]
    return PreActResNet(
        num_classes, in_channels, widths, blocks, bottleneck, preact_stage, remove_first_relu, add_last_bn
    )


for depth, params in (
    (18, 11_172_170),
    (34, 21_280_330),
    (50, 23_513_162),
    (101, 42_505_290),
    (152, 58_148_938),
):
    aliases = (f"PreActResNet{depth}", *(("preact_resnet",) if depth == 18 else ()))
    register(f"preact_resnet{depth}", partial(imagenet_preact, depth=depth), aliases=aliases, params=params)

for depth, unit, params in (
    (20, "basic", 272_282),
    (32, "basic", 466_714),
    (44, "basic", 661_146),
    (56, "basic", 855_578),
    (110, "basic", 1_730_522),
    (164, "bottleneck", 1.70e6),
    (1001, "bottleneck", 10.2e6),
    (1202, "basic", 19_423_834),
):
    network = partial(resnet_preact, depth=depth, block_type=unit, initial_channels=16)
    basic_names = (f"resnet_preact_{depth}", f"preresnet{depth}")
    aliases = basic_names if unit == "basic" else (f"resnet_preact_{depth}_bottleneck",)
    register(f"preact_resnet{depth}", network, aliases=aliases, params=params)
