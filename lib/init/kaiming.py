"""Kaiming initialisation (He et al. 2015, arXiv:1502.01852, section 2.2, equations 10 and 14).

The variance is 2 / fan, since a ReLU halves the second moment: fan_in preserves the scale of activations,
fan_out that of gradients.
"""

from typing import Literal

from torch import nn

from ..core.facts import InitOrder
from ..core.registry import initialisations
from .layers import draw, fans, layers


@initialisations.register(
    "kaiming", aliases=("he",), order=InitOrder.DRAW, paper="He et al. 2015, arXiv:1502.01852"
)
def kaiming(
    model: nn.Module,
    mode: Literal["fan_in", "fan_out"] = "fan_in",  # preserve the scale of activations or of gradients
    distribution: Literal["normal", "uniform"] = "normal",  # of the weights; normal in the paper
) -> nn.Module:
    """Kaiming: convolutions and linear layers with variance 2 / fan, biases 0."""
    for layer in layers(model):
        fan_in, fan_out = fans(layer)
        draw(layer, (2 / (fan_in if mode == "fan_in" else fan_out)) ** 0.5, distribution)
    return model
