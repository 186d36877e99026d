"""DenseNet (Huang et al. 2016, arXiv:1608.06993, section 3): each layer reads all previous features.

The BC variants have bottlenecks and halve the channels between blocks. The activations stored for the
backward pass grow quadratically with the layers; `checkpointing` stores only the new features of each layer
and recomputes the rest (Pleiss et al. 2017, arXiv:1707.06990).
"""

from contextlib import nullcontext
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..core.contracts import Count
from ..core.registry import models
from .layers import DropRate, blocks_per_stage, conv, init_he


class BuffersAside:
    """A context in which a network works on copies of its buffers, so BatchNorm statistics do not change.

    A class and not a generator, because a graph that is run backward twice enters it twice.
    """

    def __init__(self, network: nn.Module):
        self.network = network

    def __enter__(self) -> None:
        modules = self.network.modules()
        self.buffers = [(m, name, tensor) for m in modules for name, tensor in m.named_buffers(recurse=False)]
        for module, name, tensor in self.buffers:
            setattr(module, name, tensor.clone())

    def __exit__(self, *_) -> None:
        for module, name, tensor in self.buffers:
            setattr(module, name, tensor)


def recomputed(layer: nn.Module, *inputs: Tensor) -> Tensor:
    """layer(*inputs), recomputed in the backward pass, for which only `inputs` are stored.

    The second run draws the same noise, and must not update the BatchNorm statistics again.
    """

    def contexts() -> tuple:
        return nullcontext(), BuffersAside(layer)

    if torch.compiler.is_compiling():  # statistics are then outputs, which a second run does not write
        return checkpoint(layer, *inputs, use_reentrant=False)
    return checkpoint(layer, *inputs, use_reentrant=False, context_fn=contexts)


def unit(in_channels: int, out_channels: int, kernel: int, dropout: float) -> list[nn.Module]:
    return [
        nn.BatchNorm2d(in_channels), nn.ReLU(inplace=True), conv(in_channels, out_channels, kernel),
        nn.Dropout(dropout),
    ]  # fmt: skip


class DenseLayer(nn.Module):
    """Compute `growth` new channels from all previous ones."""

    def __init__(self, in_channels: int, growth: int, bottleneck: bool, dropout: float):
        super().__init__()
        units = unit(in_channels, growth, 3, dropout)
        if bottleneck:
            units = [*unit(in_channels, 4 * growth, 1, dropout), *unit(4 * growth, growth, 3, dropout)]
        self.units = nn.Sequential(*units)

    def forward(self, *features: Tensor) -> Tensor:  # (B, C1, H, W), (B, C2, H, W)... -> (B, growth, H, W)
        x = features[0] if len(features) == 1 else torch.cat(features, dim=1)
        return self.units(x)


class DenseBlock(nn.Module):
    def __init__(
        self,
        layers: int,
        in_channels: int,
        growth: int,
        bottleneck: bool,
        dropout: float,
        checkpointing: bool,
    ):
        super().__init__()
        widths = [in_channels + growth * i for i in range(layers)]
        self.layers = nn.ModuleList(DenseLayer(width, growth, bottleneck, dropout) for width in widths)
        self.checkpointing = checkpointing

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C + layers * growth, H, W)
        if not self.checkpointing:
            for layer in self.layers:
                x = torch.cat([x, layer(x)], dim=1)
            return x
        features = [x]  # a list, because every concatenation would be stored as the input of a layer
        for layer in self.layers:
            features.append(recomputed(layer, *features))
        return torch.cat(features, dim=1)


class DenseNet(nn.Module):
    """Dense blocks with transitions between them.

    Args:
        layers: layers of each block.
        bottleneck: the BC variant: transitions halve the channels, and the stem has 2 * growth.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        layers: tuple[int, ...],
        growth: int,
        bottleneck: bool,
        dropout: float,
        checkpointing: bool,
    ):
        super().__init__()
        width = 2 * growth if bottleneck else 16
        self.stem = conv(in_channels, width, 3)
        stages = []
        for block, count in enumerate(layers):
            if block > 0:
                narrow = width // 2 if bottleneck else width
                stages += [*unit(width, narrow, 1, dropout), nn.AvgPool2d(2)]
                width = narrow
            stages.append(DenseBlock(count, width, growth, bottleneck, dropout, checkpointing))
            width += count * growth
        self.stages = nn.Sequential(*stages)
        self.norm = nn.BatchNorm2d(width)
        self.head = nn.Linear(width, num_classes)
        init_he(self)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, K)
        x = self.stages(self.stem(x))  # (B, C', H/4, W/4) with three blocks
        x = F.relu(self.norm(x), inplace=True)
        return self.head(x.mean((2, 3)))


def densenet(
    num_classes: int = 10,
    in_channels: int = 3,
    depth: int = 100,  # 6n + 4 with bottlenecks, 3n + 4 without
    growth: Count = 12,  # channels that each layer adds
    bottleneck: bool = True,  # the BC variant: 1x1 before 3x3, halving transitions
    dropout: DropRate = 0.0,  # after each convolution; the paper's 0.2 is for no augmentation
    checkpointing: bool = False,  # memory linear in the layers; recomputes most of them
) -> DenseNet:
    """DenseNet for CIFAR (Huang et al. 2016, arXiv:1608.06993): three blocks of n layers."""
    layers = blocks_per_stage(depth, 6 if bottleneck else 3, 4)
    return DenseNet(num_classes, in_channels, (layers,) * 3, growth, bottleneck, dropout, checkpointing)


def imagenet(
    num_classes: int = 10,
    in_channels: int = 3,
    layers: tuple[Count, ...] = (6, 12, 24, 16),  # of each block
    growth: Count = 32,  # channels that each layer adds
    dropout: DropRate = 0.0,  # drop probability after each convolution
    checkpointing: bool = False,  # memory linear in the layers; recomputes most of them
) -> DenseNet:
    """DenseNet-BC (Huang et al. 2016, arXiv:1608.06993) with the four blocks of the networks for ImageNet."""
    return DenseNet(num_classes, in_channels, layers, growth, True, dropout, checkpointing)


register = partial(models.register, paper="Huang et al. 2016, arXiv:1608.06993")
with_bottlenecks = partial(densenet, bottleneck=True)
without = partial(densenet, bottleneck=False)

for name, depth, growth, params, aliases in (
    ("densenet_bc_100_12", 100, 12, 769_162, ("densenet100bc",)),
    ("densenet_bc_190_40", 190, 40, 25_624_430, ("densenet190bc",)),
    ("densenet_bc_250_24", 250, 24, 15_324_406, ()),
):
    register(name, partial(with_bottlenecks, depth=depth, growth=growth), aliases=aliases, params=params)
register("densenet_100_12", partial(without, depth=100, growth=12), params=7.0e6)  # the paper's count
register("densenet_100_24", partial(without, depth=100, growth=24), params=27.2e6)
register("densenet_bc_<depth>_<growth>", with_bottlenecks)
register("densenet_<depth>_<growth>", without)


# Table 1, without the stem for large images: 3x3 instead of 7x7 and pooling.
for name, layers, growth, params in (
    ("densenet121", (6, 12, 24, 16), 32, 6_956_298),
    ("densenet161", (6, 12, 36, 24), 48, 26_482_378),
    ("densenet169", (6, 12, 32, 32), 32, 12_493_322),
    ("densenet201", (6, 12, 48, 32), 32, 18_104_330),
):
    register(name, partial(imagenet, layers=layers, growth=growth), params=params)
register(
    "densenet_cifar",
    partial(imagenet, layers=(6, 12, 24, 16), growth=12),
    aliases=("densenet",),
    params=1_000_618,
)
