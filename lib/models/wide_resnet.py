"""Wide ResNet (Zagoruyko & Komodakis 2016, arXiv:1605.07146, table 1): fewer, wider layers."""

from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from ..core.contracts import Count
from ..core.registry import models
from .layers import DropRate, blocks_per_stage, conv, init_he


class WideBlock(nn.Module):
    """B(3,3) with dropout between its convolutions (figure 1d).

    Where the width changes, the 1x1 shortcut reads the pre-activation, as in the authors' code.
    """

    def __init__(self, in_channels: int, channels: int, stride: int, dropout: float):
        super().__init__()
        self.norm = nn.BatchNorm2d(in_channels)
        self.residual = nn.Sequential(
            conv(in_channels, channels, 3, stride), nn.BatchNorm2d(channels), nn.ReLU(inplace=True),
            nn.Dropout(dropout) if dropout else nn.Identity(),
            conv(channels, channels, 3),
        )  # fmt: skip
        changes = stride != 1 or in_channels != channels
        self.shortcut = conv(in_channels, channels, 1, stride) if changes else None

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C', H/stride, W/stride)
        activated = F.relu(self.norm(x), inplace=True)
        return self.residual(activated) + (x if self.shortcut is None else self.shortcut(activated))


class WideResNet(nn.Module):
    def __init__(
        self,
        num_classes: int = 10,
        in_channels: int = 3,
        depth: int = 28,  # 6n + 4
        widen: Count = 10,  # widening factor, the paper's k
        dropout: DropRate = 0.0,  # drop probability between the convolutions of a block
    ):
        super().__init__()
        blocks = blocks_per_stage(depth, 6, 4)
        self.stem = conv(in_channels, 16, 3)
        stages, width = [], 16
        for stage, channels in enumerate((16 * widen, 32 * widen, 64 * widen)):
            for i in range(blocks):
                stages.append(WideBlock(width, channels, 2 if i == 0 and stage > 0 else 1, dropout))
                width = channels
        self.stages = nn.Sequential(*stages)
        self.norm = nn.BatchNorm2d(width)
        self.head = nn.Linear(width, num_classes)
        init_he(self)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, K)
        x = F.relu(self.norm(self.stages(self.stem(x))), inplace=True)  # (B, 64 * widen, H/4, W/4)
        return self.head(x.mean((2, 3)))


register = partial(models.register, paper="Zagoruyko & Komodakis 2016, arXiv:1605.07146")

register("wrn_16_8", partial(WideResNet, depth=16, widen=8), params=10_961_370)
register("wrn_16_10", partial(WideResNet, depth=16, widen=10), params=17_116_634)
register("wrn_28_2", partial(WideResNet, depth=28, widen=2), params=1_467_610)
register("wrn_28_10", partial(WideResNet, depth=28, widen=10), params=36_479_194)
register("wrn_28_20", partial(WideResNet, depth=28, widen=20), params=145_815_514)
register("wrn_40_4", partial(WideResNet, depth=40, widen=4), params=8_949_210)
register("wrn_40_10", partial(WideResNet, depth=40, widen=10), params=55_841_754)
register("wrn_40_14", partial(WideResNet, depth=40, widen=14), params=109_416_410)
register("wrn_<depth>_<widen>", WideResNet)


@register("wideresnet", aliases=("wideresnet28_10",), params=36_479_194)
def wideresnet(
    num_classes: int = 10,
    in_channels: int = 3,
    dropout: DropRate = 0.3,  # drop probability between the convolutions of a block
) -> WideResNet:
    """WRN-28-10 with the dropout of the RICAP experiments (Takahashi et al. 2018, arXiv:1811.09030)."""
    return WideResNet(num_classes, in_channels, depth=28, widen=10, dropout=dropout)
