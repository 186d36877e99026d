"""BlurPool (Zhang 2019, arXiv:1904.11486, section 3.2): blur before subsampling.

Modules of stride 2 get stride 1, and a blur of stride 2 follows: after a pooling, and after the norm and the
activation that follow a convolution where these are modules, otherwise directly after the convolution. The
blur of a 1x1 convolution, as in a shortcut, comes first: the result is the same at a quarter of the cost.
"""

from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Interval
from torch import Tensor, nn

from ..core.errors import require
from ..core.facts import Part, SurgeryOrder
from ..core.registry import surgeries
from ..graph.trace import Call, Trace, trace
from .graft import insert_after, insert_before
from .weight_standardization import StandardizedConv2d

POOLS = (nn.MaxPool2d, nn.AvgPool2d)
NORMS = (nn.BatchNorm2d, nn.GroupNorm, nn.InstanceNorm2d)
ACTIVATIONS = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.CELU, nn.GELU, nn.SiLU, nn.Hardswish, nn.Mish,
)  # fmt: skip


class Blur(nn.Module):
    """A binomial filter with stride 2. At the border the weights are renormalised to sum to 1."""

    def __init__(self, size: int):
        super().__init__()
        self.padding = size // 2
        row = torch.ones(1)
        for _ in range(size - 1):
            row = F.pad(row, (0, 1)) + F.pad(row, (1, 0))  # the next row of Pascal's triangle
        kernel = row[:, None] * row / row.sum() ** 2
        self.register_buffer("kernel", kernel[None, None], persistent=False)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C, H/2, W/2)
        C, H, W = x.shape[1:]
        inside = torch.ones(1, 1, H, W, device=x.device)
        kernel = self.kernel.to(x.dtype).expand(C, -1, -1, -1)
        blurred = F.conv2d(x, kernel, stride=2, padding=self.padding, groups=C)
        covered = F.conv2d(inside, self.kernel, stride=2, padding=self.padding)
        return blurred / covered.to(blurred.dtype)


@surgeries.register(
    "blurpool", order=SurgeryOrder.STRIDES, needs=Part.STRIDE, paper="Zhang 2019, arXiv:1904.11486"
)
def blurpool(
    model: nn.Module,
    shape: tuple[int, int, int],
    size: Annotated[int, Interval(ge=3, le=7)] = 3,  # taps: 3 for [1, 2, 1], 5 for [1, 4, 6, 4, 1]
) -> nn.Module:
    """BlurPool: convolutions and poolings of stride 2 blur before they subsample."""
    require(size % 2 == 1, "size", "odd", size)
    graph = trace(model, shape)
    strided = [(c, m) for c, m in graph.called(nn.Conv2d, *POOLS) if _pair(m.stride) == (2, 2)]
    if not strided:
        raise ValueError("the model has no Conv2d, MaxPool2d or AvgPool2d module of stride 2")
    known = (nn.Conv2d, StandardizedConv2d, *POOLS)
    if foreign := {type(m).__name__ for _, m in strided if type(m) not in known}:
        raise ValueError(f"the model has custom convolutions, {', '.join(sorted(foreign))}")
    if any(type(m) is nn.AvgPool2d and m.ceil_mode for _, m in strided):
        raise ValueError("the model has average pooling in ceil mode, with windows of different sizes")
    for call, module in strided:
        if _pair(module.stride) != (2, 2):  # called more than once, already done
            continue
        module.stride = (1, 1)
        if isinstance(module, nn.Conv2d) and _pair(module.kernel_size) == (1, 1) and not any(module.padding):
            insert_before(module, "blur", Blur(size))
        elif isinstance(module, nn.Conv2d):
            insert_after(_activated(graph, call), "blur", Blur(size))
        else:
            if module.ceil_mode:  # windows may extend over the edge by one pixel: pad it
                insert_before(module, "edge", nn.ConstantPad2d((0, 1, 0, 1), -torch.inf))
                module.ceil_mode = False
            insert_after(module, "blur", Blur(size))
    return model


def _pair(value: int | tuple[int, int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else tuple(value)


def _activated(graph: Trace, call: Call) -> nn.Module:
    """The activation, the norm or the convolution: the last of these modules that follow each other."""
    last, normalized = call, False
    while len(graph.readers[last.after]) == 1 and graph.times[call.name] == 1:
        reader = next((c for c in graph.calls if c.before == last.after and graph.times[c.name] == 1), None)
        if reader is None:
            break
        if isinstance(graph.module(reader), ACTIVATIONS):
            return graph.module(reader)
        if normalized or not isinstance(graph.module(reader), NORMS):
            break
        last, normalized = reader, True
    return graph.module(call)
