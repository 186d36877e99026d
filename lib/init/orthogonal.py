"""Orthogonal initialisation (Saxe et al. 2013, arXiv:1312.6120).

Each weight is a matrix of outputs by inputs, drawn uniformly from the matrices with orthonormal rows, or
columns if these are fewer. A convolution with groups has one matrix per group.
"""

import torch
from torch import Tensor, nn

from ..core.contracts import Positive
from ..core.facts import InitOrder
from ..core.registry import initialisations
from .scaling import layers


@initialisations.register("orthogonal", order=InitOrder.DRAW, paper="Saxe et al. 2013, arXiv:1312.6120")
@torch.no_grad()
def orthogonal(
    model: nn.Module,
    gain: Positive = 1.0,  # factor of the matrices; sqrt(2) compensates for ReLUs
) -> nn.Module:
    """Orthogonal: convolutions and linear layers as random orthonormal matrices, biases 0."""
    for layer in layers(model):
        groups = getattr(layer, "groups", 1)
        outputs, inputs = layer.weight.shape[0] // groups, layer.weight[0].numel()
        matrices = gain * orthonormal(groups, outputs, inputs)
        layer.weight.copy_(matrices.reshape(layer.weight.shape))
        if layer.bias is not None:
            layer.bias.zero_()
    return model


def orthonormal(count: int, rows: int, columns: int) -> Tensor:
    """Random matrices (count, rows, columns) with orthonormal rows or, if these are fewer, columns."""
    q, r = torch.linalg.qr(torch.randn(count, max(rows, columns), min(rows, columns)))
    # QR leaves the signs undefined; the signs of r's diagonal make q uniform (Mezzadri 2006).
    q = q * r.diagonal(dim1=1, dim2=2).sign()[:, None]
    return q if rows >= columns else q.mT
