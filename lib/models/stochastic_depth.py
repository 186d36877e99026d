"""Stochastic depth (Huang et al. 2016, arXiv:1603.09382, section 3): ResNets that skip blocks in training.

Block l of L survives with probability 1 - l/L * (1 - survival), equation 4, drawn for each image on its own.
"""

from functools import partial
from typing import Literal

from torch import nn

from ..core.contracts import Fraction
from ..core.registry import models
from .layers import DropPath
from .resnet import ResNet
from .resnet_imagenet import PLANS, ImageNetResNet


def with_survival(network: nn.Module, survival: float) -> nn.Module:
    """A ResNet, built for this, whose blocks now drop their residuals.

    The paper multiplies a residual by its survival probability in evaluation. Here it is divided by it in
    training: the same family of functions, as the scale of the BatchNorm in front takes up the factor.
    """
    for i, block in enumerate(network.stages, start=1):
        block.residual.append(DropPath((1 - survival) * i / len(network.stages)))
    return network


def imagenet(
    num_classes: int = 10,
    in_channels: int = 3,
    depth: Literal[18, 34, 50, 101, 152] = 50,
    survival: Fraction = 0.5,  # probability that the last block is kept; the first ones' are near 1
) -> nn.Module:
    """ResNet with the stages of ImageNet and stochastic depth (Huang et al. 2016, arXiv:1603.09382)."""
    return with_survival(ImageNetResNet(num_classes, in_channels, depth), survival)


@models.register("stochastic_depth_resnet110", params=1.7e6, paper="Huang et al. 2016, arXiv:1603.09382")
def cifar(
    num_classes: int = 10,
    in_channels: int = 3,
    survival: Fraction = 0.5,  # probability that the last block is kept; the first ones' are near 1
) -> nn.Module:
    """ResNet-110 for CIFAR with stochastic depth (Huang et al. 2016, arXiv:1603.09382, section 4)."""
    return with_survival(ResNet(num_classes, in_channels, depth=110), survival)


for depth, (_, _, count) in PLANS.items():
    models.register(
        f"stochastic_depth_resnet{depth}",
        partial(imagenet, depth=depth),
        params=count,
        paper="Huang et al. 2016, arXiv:1603.09382",
    )
