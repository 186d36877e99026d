"""Stochastic depth (Huang et al. 2016, arXiv:1603.09382, section 3): ResNets that skip blocks in training.

Block l of L survives with probability 1 - l/L * (1 - survival), equation 4, drawn per image.
"""

from functools import partial
from typing import Literal

from torch import nn

from ..core.contracts import Fraction
from ..core.registry import models
from .layers import DropPath
from .resnet import ResNet
from .resnet_imagenet import ImageNetResNet

register = partial(models.register, paper="Huang et al. 2016, arXiv:1603.09382")


def with_survival(network: nn.Module, survival: float) -> nn.Module:
    """Append a DropPath to the residual of each block of `network`, and return it.

    The paper multiplies a residual by its survival probability in evaluation; DropPath divides by it in
    training. Both give the same functions, since the scale of the last BatchNorm absorbs the factor.
    """
    for i, block in enumerate(network.stages, start=1):
        block.residual.append(DropPath((1 - survival) * i / len(network.stages)))
    return network


def imagenet(
    num_classes: int = 10,
    in_channels: int = 3,
    depth: Literal[18, 34, 50, 101, 152] = 50,
    survival: Fraction = 0.5,  # survival probability of the last block; linear from 1
) -> nn.Module:
    """ResNet with the stages of ImageNet and stochastic depth (Huang et al. 2016, arXiv:1603.09382)."""
    return with_survival(ImageNetResNet(num_classes, in_channels, depth), survival)


@register("stochastic_depth_resnet110", params=1.7e6)
def cifar(
    num_classes: int = 10,
    in_channels: int = 3,
    survival: Fraction = 0.5,  # survival probability of the last block; linear from 1
) -> nn.Module:
    """ResNet-110 for CIFAR with stochastic depth (Huang et al. 2016, arXiv:1603.09382, section 4)."""
    return with_survival(ResNet(num_classes, in_channels, depth=110), survival)


for depth, params in (
    (18, 11_173_962),
    (34, 21_282_122),
    (50, 23_520_842),
    (101, 42_512_970),
    (152, 58_156_618),
):
    name, aliases = f"stochastic_depth_resnet{depth}", (f"stochasticdepth{depth}",)
    register(name, partial(imagenet, depth=depth), aliases=aliases, params=params)
