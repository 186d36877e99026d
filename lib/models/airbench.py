"""The airbench networks (Jordan 2024, arXiv:2404.00498, section 3), designed to train on CIFAR-10 in seconds.

A frozen 2x2 convolution whitens the patches of the image; three groups of convolutions follow. They start as
partial identities, and their BatchNorms train the shift only.
"""

from functools import partial
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from annotated_types import Ge
from torch import Tensor, nn

from ..core.contracts import Count, Fraction
from ..core.registry import models
from .layers import conv


def whitening(in_channels: int) -> nn.Conv2d:
    """Project 2x2 patches onto their principal components and the negatives; only the bias is trained.

    The components depend on the data, which a model does not see, so this starts as a random rotation; the
    whitening initialisation replaces it.
    """
    size = 4 * in_channels
    convolution = nn.Conv2d(in_channels, 2 * size, 2)
    rotation = nn.init.orthogonal_(torch.empty(size, size)).view(size, in_channels, 2, 2)
    with torch.no_grad():
        convolution.weight.copy_(torch.cat([rotation, -rotation]))
    convolution.weight.requires_grad_(False)
    return convolution


def partial_identity(in_channels: int, channels: int) -> nn.Conv2d:
    """A 3x3 convolution: the first filters copy the inputs, the others have PyTorch's initialisation."""
    convolution = conv(in_channels, channels, 3)
    with torch.no_grad():
        nn.init.dirac_(convolution.weight[:in_channels])
    return convolution


def norm(channels: int, momentum: float) -> nn.BatchNorm2d:
    """A BatchNorm with a fixed scale of 1."""
    layer = nn.BatchNorm2d(channels, eps=1e-12, momentum=momentum)
    layer.weight.requires_grad_(False)
    return layer


class Group(nn.Module):
    """Two or three convolutions; the pooling precedes the first norm, which makes the norm cheaper.

    With three, a shortcut connects the output of the first activation to the input of the last one.
    """

    def __init__(
        self, in_channels: int, channels: int, convolutions: int, momentum: float, activation: nn.Module
    ):
        super().__init__()
        self.halve = nn.Sequential(
            partial_identity(in_channels, channels), nn.MaxPool2d(2), norm(channels, momentum), activation
        )
        layers = []
        for _ in range(convolutions - 1):
            layers += [partial_identity(channels, channels), norm(channels, momentum), activation]
        self.refine = nn.Sequential(*layers[:-1])
        self.activation = activation
        self.has_shortcut = convolutions == 3

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C', H/2, W/2)
        x = self.halve(x)
        refined = self.refine(x)
        return self.activation(refined + x if self.has_shortcut else refined)


ACTIVATIONS = {"gelu": nn.GELU, "silu": nn.SiLU}


class AirBench(nn.Module):
    def __init__(
        self,
        num_classes: int = 10,
        in_channels: int = 3,
        image_size: Annotated[int, Ge(9)] = 32,  # a 2x2 patch and three halvings must leave a pixel
        widths: tuple[Count, Count, Count] = (64, 256, 256),  # channels of the groups
        convolutions: Literal[2, 3] = 2,  # in each group; with 3 a shortcut spans the last two
        bn_momentum: Fraction | None = None,  # of BatchNorm's statistics; none: 0.4, or 0.1 with shortcuts
        activation: Literal["gelu", "silu"] = "gelu",  # in the groups; whitened patches always have GELU
        start: Literal["sgd", "muon"] = "sgd",  # initial head and bias of the recipe for this optimizer
        shift_patches: bool = True,  # train the bias of the whitening convolution
    ):
        super().__init__()
        self.whiten = whitening(in_channels)
        self.whiten.bias.requires_grad_(shift_patches)
        if bn_momentum is None:
            bn_momentum = 0.1 if convolutions == 3 else 0.4
        groups, width = [], self.whiten.out_channels
        for channels in widths:
            groups.append(Group(width, channels, convolutions, bn_momentum, ACTIVATIONS[activation]()))
            width = channels
        self.groups = nn.Sequential(*groups)
        self.head = nn.Linear(width, num_classes, bias=False)
        if start == "sgd":
            nn.init.zeros_(self.whiten.bias)
            self.logit_scale = 1 / 9
        else:
            with torch.no_grad():
                self.head.weight.div_(self.head.weight.std())
            self.logit_scale = 1 / width

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, K)
        x = self.groups(F.gelu(self.whiten(x)))  # (B, C', (H - 1)/8, (W - 1)/8)
        x = F.max_pool2d(x, x.shape[-2:])  # global; adaptive pooling is equivalent but slower
        return self.head(x.flatten(1)) * self.logit_scale


register = partial(models.register, paper="Jordan 2024, arXiv:2404.00498")

# The number is the accuracy in percent that the network reaches.
register("airbench93", partial(AirBench, widths=(64, 128, 128), convolutions=2), params=568_728)
register("airbench94", partial(AirBench, widths=(64, 256, 256), convolutions=2), params=1_971_352)
register("airbench95", partial(AirBench, widths=(128, 384, 384), convolutions=2), params=4_604_440)
register("airbench96", partial(AirBench, widths=(128, 384, 512), convolutions=3), params=9_915_416)

# It selects the images that airbench96 is trained on, in its author's airbench96_faster.
models.register(
    "airbench96_proxy",
    partial(AirBench, widths=(32, 64, 64), convolutions=2, bn_momentum=0.1, shift_patches=False),
    params=146_112,
    paper="Jordan 2024, airbench96_faster",
)
