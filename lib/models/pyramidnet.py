"""PyramidNet (Han et al. 2016, arXiv:1610.02915, section 2): the width grows with every unit.

The widths are the additive ones: they grow by `alpha` over the whole depth. ShakeDrop is optional (Yamada et
al. 2018, arXiv:1802.02375).
"""

from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..core.contracts import Count
from ..core.registry import models
from .layers import blocks_per_stage, conv, draw, init_he


class Scale(torch.autograd.Function):
    """x * forward_factor, with the gradient of x * backward_factor."""

    @staticmethod
    def forward(ctx, x: Tensor, forward_factor: Tensor, backward_factor: Tensor) -> Tensor:
        ctx.save_for_backward(backward_factor)  # (B, 1, 1, 1); x itself is not needed
        return x * forward_factor

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None, None]:
        return gradient * ctx.saved_tensors[0], None, None


class ShakeDrop(nn.Module):
    """Multiply a branch by b + (1 - b) alpha and its gradient by b + (1 - b) beta, with a random gate b.

    Args:
        survival: the probability of b = 1, which leaves the branch unchanged.
        gate_level: `image` draws b per image, `batch` once; alpha and beta are always drawn per image.
    """

    def __init__(self, survival: float, gate_level: str):
        super().__init__()
        self.survival, self.gate_per_image = survival, gate_level == "image"

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C, H, W)
        if not self.training:
            return x * self.survival  # the expectation: alpha has mean 0
        gate = draw(x, per_image=self.gate_per_image) < self.survival
        alpha, beta = draw(x, -1, 1), draw(x, 0, 1)
        return Scale.apply(x, alpha.masked_fill(gate, 1).to(x.dtype), beta.masked_fill(gate, 1).to(x.dtype))


class PyramidBlock(nn.Module):
    """Figure 6d: no ReLU before the first convolution, a BatchNorm after the last; new channels are zero."""

    def __init__(self, in_channels: int, channels: int, stride: int, bottleneck: bool, drop: nn.Module):
        super().__init__()
        out_channels = channels * 4 if bottleneck else channels
        if bottleneck:
            self.residual = nn.Sequential(
                nn.BatchNorm2d(in_channels), conv(in_channels, channels, 1),
                nn.BatchNorm2d(channels), nn.ReLU(inplace=True), conv(channels, channels, 3, stride),
                nn.BatchNorm2d(channels), nn.ReLU(inplace=True), conv(channels, out_channels, 1),
                nn.BatchNorm2d(out_channels),
            )  # fmt: skip
        else:
            self.residual = nn.Sequential(
                nn.BatchNorm2d(in_channels), conv(in_channels, channels, 3, stride),
                nn.BatchNorm2d(channels), nn.ReLU(inplace=True), conv(channels, out_channels, 3),
                nn.BatchNorm2d(out_channels),
            )  # fmt: skip
        self.drop = drop
        self.stride, self.new_channels = stride, out_channels - in_channels

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C', H/stride, W/stride)
        shortcut = F.avg_pool2d(x, 2, ceil_mode=True) if self.stride == 2 else x
        return self.drop(self.residual(x)) + F.pad(shortcut, (0, 0, 0, 0, 0, self.new_channels))


class PyramidNet(nn.Module):
    def __init__(
        self,
        num_classes: int = 10,
        in_channels: int = 3,
        depth: int = 110,  # 6n + 2, with bottlenecks 9n + 2
        alpha: Count = 48,  # additional channels of the last unit over the stem
        bottleneck: bool = False,  # units of 1x1, 3x3 and 1x1 convolutions with 4x wider outputs
        shakedrop: bool = False,  # ShakeDrop; its survival probability falls linearly to 0.5
        shakedrop_gate: Literal["image", "batch"] = "image",  # draw the gate per image or per batch
    ):
        super().__init__()
        blocks = blocks_per_stage(depth, 9 if bottleneck else 6, 2)
        self.stem = nn.Sequential(conv(in_channels, 16, 3), nn.BatchNorm2d(16))
        units, width, total = [], 16, 3 * blocks
        for unit in range(1, total + 1):
            channels = 16 + round(alpha * unit / total)  # floor in the paper, but its counts need round
            stride = 2 if unit in (blocks + 1, 2 * blocks + 1) else 1
            survival = 1 - 0.5 * unit / total
            drop = ShakeDrop(survival, shakedrop_gate) if shakedrop else nn.Identity()
            units.append(PyramidBlock(width, channels, stride, bottleneck, drop))
            width = channels * 4 if bottleneck else channels
        self.units = nn.Sequential(*units)
        self.norm = nn.BatchNorm2d(width)
        self.head = nn.Linear(width, num_classes)
        init_he(self)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, K)
        x = F.relu(self.norm(self.units(self.stem(x))), inplace=True)  # (B, C', H/4, W/4)
        return self.head(x.mean((2, 3)))


def pyramidnet_shakedrop(
    num_classes: int = 10,
    in_channels: int = 3,
    depth: int = 272,
    alpha: Count = 200,
    shakedrop: bool = True,  # ShakeDrop; its survival probability falls linearly to 0.5
    shakedrop_gate: Literal["image", "batch"] = "image",  # draw the gate per image or per batch
) -> PyramidNet:
    """PyramidNet with bottlenecks and ShakeDrop (Yamada et al. 2018, arXiv:1802.02375), unless turned off."""
    return PyramidNet(
        num_classes,
        in_channels,
        depth,
        alpha,
        bottleneck=True,
        shakedrop=shakedrop,
        shakedrop_gate=shakedrop_gate,
    )


register = partial(models.register, paper="Han et al. 2016, arXiv:1610.02915")
basic, bottleneck = partial(PyramidNet, bottleneck=False), partial(PyramidNet, bottleneck=True)

register("pyramidnet110_a48", partial(basic, depth=110, alpha=48), params=1_772_706)
register("pyramidnet110_a84", partial(basic, depth=110, alpha=84), params=3_904_446)
register("pyramidnet110_a270", partial(basic, depth=110, alpha=270), params=28_485_477)
register("pyramidnet164_a270_bottleneck", partial(bottleneck, depth=164, alpha=270), params=27_216_021)
register("pyramidnet272_a200_bottleneck", partial(bottleneck, depth=272, alpha=200), params=26_210_842)
register("pyramidnet<depth>_a<alpha>", basic)
register("pyramidnet<depth>_a<alpha>_bottleneck", bottleneck)
for depth, alpha, params in ((164, 270, 27_216_021), (272, 200, 26_210_842)):
    network = partial(pyramidnet_shakedrop, depth=depth, alpha=alpha)
    models.register(
        f"pyramidnet{depth}", network, params=params, paper="Yamada et al. 2018, arXiv:1802.02375"
    )
