"""NASNet-A (Zoph et al. 2017, arXiv:1707.07012, figure 4) and PNASNet-5 (Liu et al. 2017, arXiv:1712.00559).

The networks for CIFAR. A cell reads the outputs of the two previous cells, `before` and `now`. An operation
is pooling, the identity, or twice a ReLU, a depthwise convolution, a 1x1 convolution and BatchNorm. Every
reader of a cell starts with a ReLU, so the cell ends with it and the result is stored once.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..core.registry import models
from .layers import DropPath, DropRate, conv, conv_bn_relu, depthwise, init_he


def separable(channels: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """Two separable convolutions; the first ReLU is shared by all operations that read the same features."""
    return nn.Sequential(
        depthwise(channels, kernel, stride), conv(channels, channels, 1), nn.BatchNorm2d(channels),
        nn.ReLU(inplace=True),
        depthwise(channels, kernel), conv(channels, channels, 1), nn.BatchNorm2d(channels),
    )  # fmt: skip


def average_pool(stride: int) -> nn.AvgPool2d:
    return nn.AvgPool2d(3, stride, padding=1, count_include_pad=False)  # ignore the padding


class FactorisedReduction(nn.Module):
    """Half of the channels read the even pixels and half the odd ones, so that a stride of 2 skips none."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.straight = conv(in_channels, out_channels // 2, 1, stride=2)
        self.shifted = conv(in_channels, out_channels // 2, 1, stride=2)
        self.norm = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C', H/2, W/2)
        shifted = F.pad(x, (-1, 1, -1, 1))  # shifted up and left by one pixel, padded with zeros
        return self.norm(torch.cat([self.straight(x), self.shifted(shifted)], dim=1))


class Cell(nn.Module):
    """The base of all cells: it projects both inputs to `channels` and the same size.

    Args:
        channels_before, channels_now: channels of the outputs of the two previous cells.
        halves_before: whether the output of `before` has twice the side of `now`.
        stride: stride of the operations that read the inputs of the cell.
        drop_path: probability that an operation is dropped for an image.
    """

    outputs: int  # number of concatenated states, each with `channels`

    def __init__(
        self,
        channels_before: int,
        channels_now: int,
        channels: int,
        halves_before: bool,
        stride: int,
        drop_path: float,
    ):
        super().__init__()
        self.fit_before = (
            FactorisedReduction(channels_before, channels)
            if halves_before
            else nn.Sequential(conv(channels_before, channels, 1), nn.BatchNorm2d(channels))
        )
        self.fit_now = nn.Sequential(conv(channels_now, channels, 1), nn.BatchNorm2d(channels))
        self.drop = DropPath(drop_path)
        self.add_ops(channels, stride)

    # (B, C, H or 2H, W or 2W), (B, C', H, W) -> (B, outputs * channels, H/stride, W/stride)
    def forward(self, before: Tensor, now: Tensor) -> Tensor:
        before, now = self.fit_before(before), self.fit_now(now)
        states = self.states(before, now, F.relu(before), F.relu(now))
        return F.relu(torch.cat(states, dim=1), inplace=True)


class NormalCell(Cell):
    """NASNet-A, figure 4 left; its output also contains its input `before`."""

    outputs = 6

    def add_ops(self, channels: int, stride: int) -> None:
        self.now_5x5 = separable(channels, 5)
        self.before_3x3 = separable(channels, 3)
        self.before_5x5 = separable(channels, 5)
        self.before_3x3_again = separable(channels, 3)
        self.average = average_pool(1)
        self.now_3x3 = separable(channels, 3)

    def states(self, before: Tensor, now: Tensor, before_relu: Tensor, now_relu: Tensor) -> list[Tensor]:
        drop, average_before = self.drop, self.average(before)
        return [
            before,
            drop(self.now_5x5(now_relu)) + drop(self.before_3x3(before_relu)),
            drop(self.before_5x5(before_relu)) + drop(self.before_3x3_again(before_relu)),
            drop(self.average(now)) + before,
            drop(average_before) + drop(average_before),
            drop(self.now_3x3(now_relu)) + now,
        ]


class ReductionCell(Cell):
    """NASNet-A, figure 4 right; two other states read the first one, which is not part of the output."""

    outputs = 4

    def add_ops(self, channels: int, stride: int) -> None:
        self.now_5x5 = separable(channels, 5, stride)
        self.before_7x7 = separable(channels, 7, stride)
        self.max = nn.MaxPool2d(3, stride, padding=1)
        self.before_7x7_again = separable(channels, 7, stride)
        self.average = average_pool(stride)
        self.before_5x5 = separable(channels, 5, stride)
        self.average_first = average_pool(1)
        self.first_3x3 = separable(channels, 3)

    def states(self, before: Tensor, now: Tensor, before_relu: Tensor, now_relu: Tensor) -> list[Tensor]:
        drop, max_now = self.drop, self.max(now)
        first = drop(self.now_5x5(now_relu)) + drop(self.before_7x7(before_relu))
        second = drop(max_now) + drop(self.before_7x7_again(before_relu))
        return [
            second,
            drop(self.average(now)) + drop(self.before_5x5(before_relu)),
            second + drop(self.average_first(first)),
            drop(self.first_3x3(F.relu(first))) + drop(max_now),
        ]


class ProgressiveCell(Cell):
    """PNASNet-5, figure 1 left; with stride 2 it is also the reduction cell."""

    outputs = 5

    def add_ops(self, channels: int, stride: int) -> None:
        self.before_5x5 = separable(channels, 5, stride)
        self.max = nn.MaxPool2d(3, stride, padding=1)
        self.now_7x7 = separable(channels, 7, stride)
        self.now_5x5 = separable(channels, 5, stride)
        self.now_3x3 = separable(channels, 3, stride)
        self.third_3x3 = separable(channels, 3)
        self.before_3x3 = separable(channels, 3, stride)
        self.smaller = None
        if stride == 2:
            self.smaller = nn.Sequential(conv(channels, channels, 1, stride), nn.BatchNorm2d(channels))

    def states(self, before: Tensor, now: Tensor, before_relu: Tensor, now_relu: Tensor) -> list[Tensor]:
        drop, max_now = self.drop, self.max(now)
        third = drop(self.now_5x5(now_relu)) + drop(self.now_3x3(now_relu))
        return [
            drop(self.before_5x5(before_relu)) + drop(self.max(before)),
            drop(self.now_7x7(now_relu)) + drop(max_now),
            third,
            drop(self.third_3x3(F.relu(third))) + drop(max_now),
            drop(self.before_3x3(before_relu)) + (now if self.smaller is None else self.smaller(now_relu)),
        ]


class CellNet(nn.Module):
    """A stem, three times as wide as the first cell, and the cells of `plan`: (type, channels, stride)."""

    def __init__(self, num_classes: int, in_channels: int, plan: list[tuple], drop_path: float):
        super().__init__()
        channels_before = channels_now = 3 * plan[0][1]
        self.stem = conv_bn_relu(in_channels, channels_now, 3)
        self.cells, halves_before = nn.ModuleList(), False
        for i, (cell, channels, stride) in enumerate(plan):
            rate = drop_path * (i + 1) / len(plan)
            self.cells.append(cell(channels_before, channels_now, channels, halves_before, stride, rate))
            channels_before, channels_now, halves_before = channels_now, cell.outputs * channels, stride == 2
        self.head = nn.Linear(channels_now, num_classes)
        init_he(self)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, K)
        before = now = self.stem(x)
        for cell in self.cells:
            before, now = now, cell(before, now)
        return self.head(now.mean((2, 3)))


@models.register("nasnet", params=3.3e6, paper="Zoph et al. 2017, arXiv:1707.07012")
def nasnet(
    num_classes: int = 10,
    in_channels: int = 3,
    drop_path: DropRate = 0.0,  # drop probability of the last cell's operations; linear from 0
) -> CellNet:
    """NASNet-A (6 @ 768) for CIFAR (Zoph et al. 2017, arXiv:1707.07012): three times 6 normal cells.

    The drop probability is constant in time; in the paper's ScheduledDropPath it also grows during training.
    """
    plan = []
    for channels in (32, 64, 128):  # 768 channels at the end are 6 states of 128
        plan += [(ReductionCell, channels, 2)] if plan else []
        plan += [(NormalCell, channels, 1)] * 6
    return CellNet(num_classes, in_channels, plan, drop_path)


@models.register(
    "pnasnet",
    aliases=("pnasneta", "pnasnetb"),
    params=3.2e6,
    paper="Liu et al. 2017, arXiv:1712.00559",
)
def pnasnet(
    num_classes: int = 10,
    in_channels: int = 3,
    drop_path: DropRate = 0.0,  # drop probability of the last cell's operations; linear from 0
) -> CellNet:
    """PNASNet-5 for CIFAR (Liu et al. 2017, arXiv:1712.00559, table 3: N = 3, F = 48): three times 3 cells.

    The first cell of the second and third group has stride 2; with additional cells for it the network would
    have 4.3 M parameters.
    """
    plan = []
    for channels in (48, 96, 192):
        plan += [(ProgressiveCell, channels, 2 if plan else 1)] + [(ProgressiveCell, channels, 1)] * 2
    return CellNet(num_classes, in_channels, plan, drop_path)
