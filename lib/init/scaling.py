"""Kaiming and Xavier initialisation: the variance of the weights follows from the fans of a layer."""

from typing import Literal

from torch import nn

from ..core.facts import InitOrder
from ..core.registry import initialisations


@initialisations.register(
    "kaiming", aliases=("he",), order=InitOrder.DRAW, paper="He et al. 2015, arXiv:1502.01852"
)
def kaiming(
    model: nn.Module,
    mode: Literal["fan_in", "fan_out"] = "fan_in",  # preserve the scale of activations or of gradients
    distribution: Literal["normal", "uniform"] = "normal",  # of the weights; normal in the paper
) -> nn.Module:
    """Kaiming: convolutions and linear layers with variance 2 / fan, biases 0.

    Section 2.2, equations 10 and 14: a ReLU halves the second moment. fan_in preserves the scale of
    activations, fan_out that of gradients.
    """
    for layer in layers(model):
        fan_in, fan_out = fans(layer)
        draw(layer, (2 / (fan_in if mode == "fan_in" else fan_out)) ** 0.5, distribution)
    return model


@initialisations.register(
    "xavier", aliases=("glorot",), order=InitOrder.DRAW, paper="Glorot & Bengio 2010, AISTATS"
)
def xavier(
    model: nn.Module,
    distribution: Literal["uniform", "normal"] = "uniform",  # of the weights; uniform in the paper
) -> nn.Module:
    """Xavier: convolutions and linear layers with variance 2 / (fan in + fan out), biases 0.

    Section 4.2.1, equations 12 and 16: a compromise that preserves the scale of activations and gradients.
    """
    for layer in layers(model):
        draw(layer, (2 / sum(fans(layer))) ** 0.5, distribution)
    return model


def layers(model: nn.Module) -> list[nn.Conv2d | nn.Linear]:
    """The convolutions and linear layers with trained weights, in the order of the network."""
    found = [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear) and m.weight.requires_grad]
    if not found:
        raise ValueError("the model has no trained convolution or linear layer")
    return found


def fans(layer: nn.Conv2d | nn.Linear) -> tuple[int, int]:
    """The inputs of each output (fan in) and the outputs of each input (fan out), ignoring the stride."""
    outputs, inputs, *kernel = layer.weight.shape
    area = kernel[0] * kernel[1] if kernel else 1
    # Only the outputs of a group read its inputs.
    return inputs * area, outputs // getattr(layer, "groups", 1) * area


def draw(layer: nn.Conv2d | nn.Linear, std: float, distribution: str) -> None:
    """Draw weights with mean 0 and standard deviation `std`; set the bias to 0."""
    if distribution == "normal":
        nn.init.normal_(layer.weight, std=std)
    else:
        nn.init.uniform_(layer.weight, -(3**0.5) * std, 3**0.5 * std)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
