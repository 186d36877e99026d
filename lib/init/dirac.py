"""Dirac initialisation (Zagoruyko & Komodakis 2017, arXiv:1706.00388): convolutions that start as identities.

The first filters become the identity; with more filters than inputs the others keep their initialisation, as
in airbench (Jordan 2024, arXiv:2404.00498, section 3).
"""

import torch
from torch import nn

from ..core.facts import InitOrder
from ..core.registry import initialisations


@initialisations.register(
    "dirac", order=InitOrder.IDENTITY, paper="Zagoruyko & Komodakis 2017, arXiv:1706.00388"
)
@torch.no_grad()
def dirac(model: nn.Module) -> nn.Module:
    """Dirac: the first filters of a convolution copy its inputs, where it keeps their size."""
    found = [m for m in model.modules() if type(m) is nn.Conv2d and m.weight.requires_grad and _fits(m)]
    if not found:
        raise ValueError(
            "the model has no plain convolution, larger than 1x1, that keeps the size of the map and has as "
            "many outputs as inputs or more"
        )
    for layer in found:
        inputs, (height, width) = layer.in_channels // layer.groups, layer.kernel_size
        weight = layer.weight.view(layer.groups, -1, *layer.weight.shape[1:])  # (G, O/G, I/G, k, k)
        weight[:, :inputs] = 0
        channels = torch.arange(inputs)
        weight[:, channels, channels, height // 2, width // 2] = 1
        if layer.bias is not None:
            layer.bias.zero_()
    return model


def _fits(layer: nn.Conv2d) -> bool:
    """Whether the layer has a centre pixel, keeps the size of the map, and has a filter for each input."""
    kernel, padding = layer.kernel_size, layer.padding
    if not isinstance(padding, str):
        reach = tuple(d * (k - 1) for d, k in zip(layer.dilation, kernel, strict=True))
        padding = "same" if reach == tuple(2 * p for p in padding) else "valid"
    centred = padding == "same" and all(k % 2 for k in kernel) and max(kernel) > 1
    return centred and max(layer.stride) == 1 and layer.out_channels >= layer.in_channels
