"""The layers to initialise, convolutions and linear layers, with their fans."""

from torch import nn


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
