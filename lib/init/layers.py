"""What there is to initialise: convolutions and linear layers, with the inputs and outputs of each."""

from torch import nn


def layers(model: nn.Module) -> list[nn.Conv2d | nn.Linear]:
    """The convolutions and linear layers whose weights are trained, in the order of the network.

    Raises:
        ValueError: there are none.
    """
    found = [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear) and m.weight.requires_grad]
    if not found:
        raise ValueError("the model has no trained convolution or linear layer")
    return found


def fans(layer: nn.Conv2d | nn.Linear) -> tuple[int, int]:
    """How many inputs an output reads, and how many outputs read an input, up to the stride."""
    outputs, inputs, *kernel = layer.weight.shape
    area = kernel[0] * kernel[1] if kernel else 1
    # A group's inputs are read by its own outputs alone.
    return inputs * area, outputs // getattr(layer, "groups", 1) * area


def draw(layer: nn.Conv2d | nn.Linear, std: float, distribution: str) -> None:
    """Weights of mean 0 and this standard deviation, and no bias."""
    if distribution == "normal":
        nn.init.normal_(layer.weight, std=std)
    else:
        nn.init.uniform_(layer.weight, -(3**0.5) * std, 3**0.5 * std)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
