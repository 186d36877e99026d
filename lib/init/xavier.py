"""Xavier initialisation (Glorot & Bengio 2010, AISTATS, section 4.2.1, equations 12 and 16).

The variance is 2 / (fan in + fan out), a compromise that preserves the scale of activations and gradients.
"""

from typing import Literal

from torch import nn

from ..core.facts import InitOrder
from ..core.registry import initialisations
from .layers import draw, fans, layers


@initialisations.register(
    "xavier", aliases=("glorot",), order=InitOrder.DRAW, paper="Glorot & Bengio 2010, AISTATS"
)
def xavier(
    model: nn.Module,
    distribution: Literal["uniform", "normal"] = "uniform",  # of the weights; uniform in the paper
) -> nn.Module:
    """Xavier: convolutions and linear layers with variance 2 / (fan in + fan out), biases 0."""
    for layer in layers(model):
        draw(layer, (2 / sum(fans(layer))) ** 0.5, distribution)
    return model
