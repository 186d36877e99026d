"""Inception-v3 (Szegedy et al. 2015, arXiv:1512.00567, section 6 and table 1), on small images.

The paper does not give the widths inside the modules; they are those of the authors' code. There is no
auxiliary classifier. The stem keeps the resolution: all its convolutions have stride 1 and padding. At 32 px
the modules have 32x32, 15x15 and 7x7 pixels; in the paper they have 35x35, 17x17 and 8x8 at 299 px.
"""

from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor, nn

from ..core.registry import models
from .layers import DropRate, init_he


def chain(in_channels: int, *units: tuple) -> nn.Sequential:
    """Convolution, BatchNorm and ReLU for each (channels, kernel) or (channels, kernel, stride) of `units`.

    Convolutions with a stride are not padded, as in the paper.
    """
    layers = []
    for channels, kernel, *stride in units:
        height, width = kernel if isinstance(kernel, tuple) else (kernel, kernel)
        padding = 0 if stride else (height // 2, width // 2)
        layers += [
            nn.Conv2d(in_channels, channels, (height, width), *stride, padding=padding, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
        ]
        in_channels = channels
    return nn.Sequential(*layers)


class Branches(nn.Module):
    """Networks that read the same features; their outputs are concatenated."""

    def __init__(self, *branches: nn.Module):
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C1 + C2 + ..., H', W')
        return torch.cat([branch(x) for branch in self.branches], dim=1)


def pooled(in_channels: int, channels: int) -> nn.Sequential:
    """Average pooling that ignores the padding, then a 1x1 convolution."""
    pool = nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False)
    return nn.Sequential(pool, chain(in_channels, (channels, 1)))


def module_a(in_channels: int, pool_channels: int) -> Branches:
    """Figure 5, with one 5x5 convolution that is not factorised."""
    return Branches(
        chain(in_channels, (64, 1)),
        chain(in_channels, (48, 1), (64, 5)),
        chain(in_channels, (64, 1), (96, 3), (96, 3)),
        pooled(in_channels, pool_channels),
    )


def reduction_a(in_channels: int) -> Branches:
    """Figure 10."""
    return Branches(
        chain(in_channels, (384, 3, 2)),
        chain(in_channels, (64, 1), (96, 3), (96, 3, 2)),
        nn.MaxPool2d(3, stride=2),
    )


def module_b(in_channels: int, width: int) -> Branches:
    """Figure 6: 7x7 convolutions as 1x7 and 7x1."""
    row, column = (1, 7), (7, 1)
    return Branches(
        chain(in_channels, (192, 1)),
        chain(in_channels, (width, 1), (width, row), (192, column)),
        chain(in_channels, (width, 1), (width, column), (width, row), (width, column), (192, row)),
        pooled(in_channels, 192),
    )


def reduction_b(in_channels: int) -> Branches:
    return Branches(
        chain(in_channels, (192, 1), (320, 3, 2)),
        chain(in_channels, (192, 1), (192, (1, 7)), (192, (7, 1)), (192, 3, 2)),
        nn.MaxPool2d(3, stride=2),
    )


def module_c(in_channels: int) -> Branches:
    """Figure 7: 1x3 and 3x1 convolutions in parallel."""

    def fork() -> Branches:
        return Branches(chain(384, (384, (1, 3))), chain(384, (384, (3, 1))))

    return Branches(
        chain(in_channels, (320, 1)),
        nn.Sequential(chain(in_channels, (384, 1)), fork()),
        nn.Sequential(chain(in_channels, (448, 1), (384, 3)), fork()),
        pooled(in_channels, 192),
    )


@models.register("inceptionv3", params=21_806_058, paper="Szegedy et al. 2015, arXiv:1512.00567")
class InceptionV3(nn.Module):
    def __init__(
        self,
        num_classes: int = 10,
        in_channels: int = 3,
        image_size: Annotated[int, Ge(7)] = 32,  # reduced twice without padding
        dropout: DropRate = 0.0,  # drop probability before the classifier
    ):
        super().__init__()
        self.stem = chain(in_channels, (32, 3), (32, 3), (64, 3), (80, 1), (192, 3))
        self.stages = nn.Sequential(
            module_a(192, 32), module_a(256, 64), module_a(288, 64),
            reduction_a(288),
            *(module_b(768, width) for width in (128, 160, 160, 192)),
            reduction_b(768),
            module_c(1280), module_c(2048),
        )  # fmt: skip
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(2048, num_classes)
        init_he(self)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, K)
        x = self.stages(self.stem(x))  # (B, 2048, about H/4 - 1, W/4 - 1)
        return self.head(self.dropout(x.mean((2, 3))))
