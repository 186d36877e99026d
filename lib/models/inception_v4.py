"""Inception-v4 and Inception-ResNet-v2 (Szegedy et al. 2016, arXiv:1602.07261, section 3), on small images.

Inception-ResNet-v2 has the stem, widths and scales of the authors' code, which partly differ from the figures
of the paper. The stems keep the resolution: all their layers have stride 1 and padding. At 32 px the modules
have 32x32, 15x15 and 7x7 pixels; in the paper they have 35x35, 17x17 and 8x8 at 299 px.
"""

from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor, nn

from ..core.registry import models
from .inception import Branches, chain, pooled
from .layers import DropRate, init_he

ROW, COLUMN = (1, 7), (7, 1)  # together they span 7x7 pixels
SHORT_ROW, SHORT_COLUMN = (1, 3), (3, 1)


class Residual(nn.Module):
    """relu(x + scale * residual(x)): wide residuals are unstable at full scale (section 3.3)."""

    def __init__(self, branches: Branches, width: int, channels: int, scale: float, last: bool = False):
        super().__init__()
        self.residual = nn.Sequential(branches, nn.Conv2d(width, channels, 1))
        self.scale = scale
        self.activate = nn.Identity() if last else nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C, H, W)
        return self.activate(torch.add(x, self.residual(x), alpha=self.scale))


class Inception(nn.Module):
    """Global pooling of the features, dropout, and a linear classifier."""

    def __init__(self, features: nn.Sequential, width: int, num_classes: int, dropout: float):
        super().__init__()
        self.features = features
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(width, num_classes)
        init_he(self)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, K)
        x = self.features(x)  # (B, 1536, about H/4 - 1, W/4 - 1)
        return self.head(self.dropout(x.mean((2, 3))))


# Inception-v4, section 3.1.


def stem_v4(in_channels: int) -> nn.Sequential:
    """Figure 3."""
    return nn.Sequential(
        chain(in_channels, (32, 3), (32, 3), (64, 3)),
        Branches(nn.MaxPool2d(3, stride=1, padding=1), chain(64, (96, 3))),
        Branches(chain(160, (64, 1), (96, 3)), chain(160, (64, 1), (64, ROW), (64, COLUMN), (96, 3))),
        Branches(chain(192, (192, 3)), nn.MaxPool2d(3, stride=1, padding=1)),
    )


def module_a() -> Branches:
    """Figure 4."""
    return Branches(
        chain(384, (96, 1)),
        chain(384, (64, 1), (96, 3)),
        chain(384, (64, 1), (96, 3), (96, 3)),
        pooled(384, 96),
    )


def module_b() -> Branches:
    """Figure 5."""
    return Branches(
        chain(1024, (384, 1)),
        chain(1024, (192, 1), (224, ROW), (256, COLUMN)),
        chain(1024, (192, 1), (192, COLUMN), (224, ROW), (224, COLUMN), (256, ROW)),
        pooled(1024, 128),
    )


def module_c() -> Branches:
    """Figure 6."""

    def fork(width: int) -> Branches:
        return Branches(chain(width, (256, SHORT_ROW)), chain(width, (256, SHORT_COLUMN)))

    return Branches(
        chain(1536, (256, 1)),
        nn.Sequential(chain(1536, (384, 1)), fork(384)),
        nn.Sequential(chain(1536, (384, 1), (448, SHORT_COLUMN), (512, SHORT_ROW)), fork(512)),
        pooled(1536, 256),
    )


def reduction_a(in_channels: int, widths: tuple[int, int, int, int]) -> Branches:
    """Figure 7; `widths` are k, l, m and n of table 1."""
    squeezed, between, reduced, alone = widths
    return Branches(
        chain(in_channels, (alone, 3, 2)),
        chain(in_channels, (squeezed, 1), (between, 3), (reduced, 3, 2)),
        nn.MaxPool2d(3, stride=2),
    )


def reduction_b() -> Branches:
    """Figure 8."""
    return Branches(
        chain(1024, (192, 1), (192, 3, 2)),
        chain(1024, (256, 1), (256, ROW), (320, COLUMN), (320, 3, 2)),
        nn.MaxPool2d(3, stride=2),
    )


@models.register("inceptionv4", params=41_158_186, paper="Szegedy et al. 2016, arXiv:1602.07261")
def inceptionv4(
    num_classes: int = 10,
    in_channels: int = 3,
    image_size: Annotated[int, Ge(7)] = 32,  # reduced twice without padding
    dropout: DropRate = 0.2,  # drop probability before the classifier
) -> Inception:
    """Inception-v4 (Szegedy et al. 2016, arXiv:1602.07261, figure 9)."""
    features = nn.Sequential(
        stem_v4(in_channels),
        *(module_a() for _ in range(4)),
        reduction_a(384, (192, 224, 256, 384)),
        *(module_b() for _ in range(7)),
        reduction_b(),
        *(module_c() for _ in range(3)),
    )
    return Inception(features, 1536, num_classes, dropout)


# Inception-ResNet-v2, section 3.2.


def first_module() -> Branches:
    """From the authors' code: a wider 35x35 module of Inception-v3 (arXiv:1512.00567)."""
    return Branches(
        chain(192, (96, 1)),
        chain(192, (48, 1), (64, 5)),
        chain(192, (64, 1), (96, 3), (96, 3)),
        pooled(192, 64),
    )


def residual_a() -> Residual:
    """Figure 16."""
    branches = Branches(
        chain(320, (32, 1)),
        chain(320, (32, 1), (32, 3)),
        chain(320, (32, 1), (48, 3), (64, 3)),
    )
    return Residual(branches, 128, 320, scale=0.17)


def residual_b() -> Residual:
    """Figure 17."""
    branches = Branches(chain(1088, (192, 1)), chain(1088, (128, 1), (160, ROW), (192, COLUMN)))
    return Residual(branches, 384, 1088, scale=0.1)


def residual_c(scale: float = 0.2, last: bool = False) -> Residual:
    """Figure 19."""
    branches = Branches(chain(2080, (192, 1)), chain(2080, (192, 1), (224, SHORT_ROW), (256, SHORT_COLUMN)))
    return Residual(branches, 448, 2080, scale, last)


def residual_reduction_b() -> Branches:
    """Figure 18."""
    return Branches(
        chain(1088, (256, 1), (384, 3, 2)),
        chain(1088, (256, 1), (288, 3, 2)),
        chain(1088, (256, 1), (288, 3), (320, 3, 2)),
        nn.MaxPool2d(3, stride=2),
    )


@models.register(
    "inception_resnet_v2",
    aliases=("inceptionresnetv2",),
    params=54_321_834,
    paper="Szegedy et al. 2016, arXiv:1602.07261",
)
def inception_resnet_v2(
    num_classes: int = 10,
    in_channels: int = 3,
    image_size: Annotated[int, Ge(7)] = 32,  # reduced twice without padding
    dropout: DropRate = 0.2,  # drop probability before the classifier
) -> Inception:
    """Inception-ResNet-v2 (Szegedy et al. 2016, arXiv:1602.07261, figure 15), as in the authors' code."""
    features = nn.Sequential(
        chain(in_channels, (32, 3), (32, 3), (64, 3), (80, 1), (192, 3)),
        first_module(),
        *(residual_a() for _ in range(10)),
        reduction_a(320, (256, 256, 384, 384)),
        *(residual_b() for _ in range(20)),
        residual_reduction_b(),
        *(residual_c() for _ in range(9)),
        residual_c(scale=1.0, last=True),
        chain(2080, (1536, 1)),
    )
    return Inception(features, 1536, num_classes, dropout)
