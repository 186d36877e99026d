"""The penultimate features of any network: what its last layer classifies."""

from torch import Tensor, nn


def penultimate(model: nn.Module, x: Tensor) -> Tensor:
    """The input (B, D) of the last linear or convolutional layer that `model` calls for images (B, C, H, W).

    An input with positions or tokens is averaged over them, as such a network averages its logits.
    """
    last: list[tuple[nn.Module, Tensor]] = []

    def remember(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        last[:] = [(layer, inputs[0])]

    layers = [layer for layer in model.modules() if isinstance(layer, nn.Linear | nn.Conv2d)]
    hooks = [layer.register_forward_pre_hook(remember) for layer in layers]
    try:
        model(x)
    finally:
        for hook in hooks:
            hook.remove()
    layer, features = last[0]
    channels = 1 if isinstance(layer, nn.Conv2d) else -1
    return features.movedim(channels, 1).reshape(len(x), features.shape[channels], -1).mean(2)
