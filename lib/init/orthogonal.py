"""Orthogonal initialisation (Saxe et al. 2013, arXiv:1312.6120).

Each weight is a matrix of outputs by inputs, drawn uniformly among those whose rows, or columns where these
are fewer, are orthonormal. A convolution with groups has one matrix for each.
"""

import torch
from torch import Tensor, nn

from ..core.contracts import Positive
from ..core.facts import InitOrder
from ..core.registry import initialisations
from .layers import layers


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
    """(count, rows, columns): random matrices whose shorter sides are orthonormal."""
    q, r = torch.linalg.qr(torch.randn(count, max(rows, columns), min(rows, columns)))
    # QR leaves the signs to chance of the algorithm; those of r's diagonal make q uniform (Mezzadri 2006).
    q = q * r.diagonal(dim1=1, dim2=2).sign()[:, None]
    return q if rows >= columns else q.mT
