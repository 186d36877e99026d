"""Every classification model of torchvision (github.com/pytorch/vision), as `torchvision/<name>`.

An ImageNet stem, a 7x7 convolution of stride 2 and max-pooling, becomes a 3x3 convolution of stride 1.
"""

from torch import nn

from ..core.errors import BadInput, nearest
from ..core.registry import models
from .layers import DropRate, try_image


def names() -> list[str]:
    """The classification models of torchvision, without detection, segmentation and quantised ones."""
    from torchvision import models as theirs  # imported late: it takes seconds

    return theirs.list_models(module=theirs)


@models.register("torchvision/<name>", listing=names, paper="TorchVision maintainers and contributors 2016")
def torchvision_model(
    num_classes: int = 10,
    in_channels: int = 3,
    image_size: int = 32,  # passed on where the model takes an image size
    name: str = "resnet18",  # as in torchvision.models.list_models()
    dropout: DropRate | None = None,  # drop probability, where the model has dropout
    stochastic_depth_prob: DropRate | None = None,  # drop probability of residual branches
) -> nn.Module:
    """Any classification model of torchvision, untrained; an option left at None keeps torchvision's default.

    Raises:
        BadInput: torchvision has no classification model of this name.
        ValueError: the model does not take one of the options, or images of this size.
    """
    from torchvision import models as theirs

    name = name.lower()
    if name not in names():
        hint = nearest(name, names())
        raise BadInput(
            f"unknown torchvision model {name!r}: {hint and hint + ' '}see torchvision.models.list_models()"
        )
    options = {"dropout": dropout, "stochastic_depth_prob": stochastic_depth_prob}
    options = {option: value for option, value in options.items() if value is not None}
    try:
        network = theirs.get_model(name, num_classes=num_classes, **needs(name, image_size), **options)
        network = small_stem(network, in_channels)
        try_image(network, in_channels, image_size)
    except TypeError as error:  # the constructor names an argument that it does not take
        for option, value in options.items():
            if f"'{option}'" in str(error):
                raise ValueError(f"{option} is not an option of torchvision's {name}, got {value}") from error
        raise
    except NotImplementedError:  # some models cannot be built on the meta device
        raise
    except (AssertionError, RuntimeError, ValueError) as error:
        rule = f"a size that torchvision's {name} can take"
        raise ValueError(f"image_size must be {rule}, got {image_size}") from error
    return network


def needs(name: str, image_size: int) -> dict[str, object]:
    """Arguments that some architectures need: an image size, or no auxiliary heads."""
    if name.startswith("vit_"):
        return {"image_size": image_size}
    if name == "maxvit_t":
        return {"input_size": (image_size, image_size)}
    if name in ("googlenet", "inception_v3"):
        return {"aux_logits": False, "init_weights": True}
    return {}


def small_stem(network: nn.Module, in_channels: int) -> nn.Module:
    """The network with a first convolution for `in_channels`; a 7x7 stem becomes 3x3 without max-pooling.

    A new convolution has PyTorch's initialisation; the following norm absorbs its scale.
    """
    layers = list(network.named_modules())
    name, first = next((name, layer) for name, layer in layers if isinstance(layer, nn.Conv2d))
    shape = first.kernel_size, first.stride, first.padding
    if first.kernel_size == (7, 7):
        shape = 3, 1, 1
        pool = next(name for name, layer in layers if isinstance(layer, nn.MaxPool2d))
        network.set_submodule(pool, nn.Identity())
    elif first.in_channels == in_channels:
        return network
    stem = nn.Conv2d(in_channels, first.out_channels, *shape, bias=first.bias is not None)
    network.set_submodule(name, stem)
    return network
