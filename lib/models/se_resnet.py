"""Squeeze-and-excitation ResNets (Hu et al. 2017, arXiv:1709.01507, section 3 and figure 3).

A gate scales each channel of a residual before the sum. `seresnet<depth>` has the stages of ImageNet, with a
3x3 stem without max-pooling for small images; `senet18` and `se_resnet_preact110` have pre-activation units.
"""

from functools import partial
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from ..core.registry import models
from .layers import ResidualUnit, conv, conv_bn_relu, init_he, projection, residual_branch
from .resnet_imagenet import PLANS


class SqueezeExcite(nn.Module):
    """Scale each channel by a gate that dense layers compute from all channel means.

    `layers.SqueezeExcite` has 1x1 convolutions, so the two cannot load each other's weights.
    """

    def __init__(self, channels: int):
        super().__init__()
        squeezed = channels // 16
        self.gate = nn.Sequential(
            nn.Linear(channels, squeezed), nn.ReLU(inplace=True), nn.Linear(squeezed, channels), nn.Sigmoid()
        )

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C, H, W)
        return x * self.gate(x.mean((2, 3)))[:, :, None, None]


def se_unit(in_channels: int, channels: int, stride: int, bottleneck: bool) -> ResidualUnit:
    """A ResNet unit with a gate at the end of its residual."""
    out_channels = channels * 4 if bottleneck else channels
    residual = residual_branch(in_channels, channels, stride, bottleneck)
    residual.append(SqueezeExcite(out_channels))
    return ResidualUnit(residual, projection(in_channels, out_channels, stride))


class SEResNet(nn.Module):
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
                stages.append(se_unit(width, channels, stride, bottleneck))
                width = channels * 4 if bottleneck else channels
        self.stages = nn.Sequential(*stages)
        self.head = nn.Linear(width, num_classes)
        init_he(self)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, K)
        x = self.stages(self.stem(x))  # (B, 512 or 2048, H/8, W/8)
        return self.head(x.mean((2, 3)))


class SEPreActBlock(nn.Module):
    """residual(a) + shortcut(x), or shortcut(a) where the pre-activation a of x is `shared` by both paths."""

    def __init__(self, in_channels: int, channels: int, stride: int, shared: bool, last_norm: bool):
        super().__init__()
        self.shared = shared
        changes = stride != 1 or in_channels != channels
        self.shortcut = conv(in_channels, channels, 1, stride) if changes else nn.Identity()
        self.activate = nn.Sequential(nn.BatchNorm2d(in_channels), nn.ReLU(inplace=True))
        self.residual = nn.Sequential(
            conv(in_channels, channels, 3, stride), nn.BatchNorm2d(channels), nn.ReLU(inplace=True),
            conv(channels, channels, 3),
        )  # fmt: skip
        if last_norm:
            self.residual.append(nn.BatchNorm2d(channels))
        self.residual.append(SqueezeExcite(channels))

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C', H/stride, W/stride)
        activated = self.activate(x)
        return self.residual(activated) + self.shortcut(activated if self.shared else x)


class SEPreActResNet(nn.Module):
    """Pre-activation ResNet (He et al. 2016, arXiv:1603.05027) with gates.

    Args:
        widths: channels of each stage; the stem has the first.
        blocks: units of each stage.
        stem_norm: BatchNorm and ReLU after the convolution of the stem.
        last_norm: a BatchNorm after the last convolution of a unit, before the gate.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        widths: tuple[int, ...],
        blocks: int,
        stem_norm: bool = False,
        last_norm: bool = False,
    ):
        super().__init__()
        self.stem = nn.Sequential(conv(in_channels, widths[0], 3))
        if stem_norm:
            self.stem.extend([nn.BatchNorm2d(widths[0]), nn.ReLU(inplace=True)])
        stages, width = [], widths[0]
        for stage, channels in enumerate(widths):
            for i in range(blocks):
                stride = 2 if i == 0 and stage > 0 else 1
                # The first unit of a stage shares it, unless the stem has already activated x.
                shared = i == 0 and (stage > 0 or not stem_norm)
                stages.append(SEPreActBlock(width, channels, stride, shared, last_norm))
                width = channels
        self.stages = nn.Sequential(*stages)
        self.norm = nn.BatchNorm2d(width)
        self.head = nn.Linear(width, num_classes)
        init_he(self)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, K)
        x = F.relu(self.norm(self.stages(self.stem(x))), inplace=True)
        return self.head(x.mean((2, 3)))


register = partial(models.register, paper="Hu et al. 2017, arXiv:1709.01507")

register("seresnet18", partial(SEResNet, depth=18), params=11_263_042)
register("seresnet34", partial(SEResNet, depth=34), params=21_443_318)
register("seresnet50", partial(SEResNet, depth=50), params=26_051_834)
register("seresnet101", partial(SEResNet, depth=101), params=47_290_682)
register("seresnet152", partial(SEResNet, depth=152), params=64_785_658)


@register("senet18", aliases=("senet",), params=11_261_378)
def senet18(num_classes: int = 10, in_channels: int = 3) -> SEPreActResNet:
    """SE-ResNet-18 (Hu et al. 2017, arXiv:1709.01507) with pre-activation units and a normalised stem."""
    return SEPreActResNet(num_classes, in_channels, (64, 128, 256, 512), blocks=2, stem_norm=True)


@register("se_resnet_preact110", params=1_748_792)
def se_resnet_preact110(num_classes: int = 10, in_channels: int = 3) -> SEPreActResNet:
    """SE-ResNet-110 for CIFAR (Hu et al. 2017, arXiv:1709.01507): pre-activation units, a last BatchNorm."""
    return SEPreActResNet(num_classes, in_channels, (16, 32, 64), blocks=18, last_norm=True)
