"""Every model of timm (Wightman 2019, github.com/huggingface/pytorch-image-models), as `timm/<name>`.

Most of them are made for 224 pixels, of which their first layers leave 56, or 14 with patches of 16. At less
than 128 pixels the patches of a transformer shrink until the image has 8 on its side. Otherwise a first 7x7
convolution becomes a 3x3 one, its stride goes, and the max-pool behind it too; patches of 4 are halved. A
network that cannot do with that, because its parts know the size of their maps, stays as timm makes it.
"""

import contextlib
from typing import Literal

from torch import nn

from ..core.contracts import Count
from ..core.errors import BadInput, nearest
from ..core.registry import models
from .layers import DropRate, try_image


@models.register("timm/<name>", paper="Wightman 2019, PyTorch Image Models")
def timm_model(
    num_classes: int = 10,
    in_channels: int = 3,
    image_size: int = 32,  # handed on where the model takes an image size
    name: str = "resnet18",  # as in timm.list_models()
    drop_rate: DropRate | None = None,  # dropout before the classifier
    drop_path_rate: DropRate | None = None,  # stochastic depth
    patch_size: Count | None = None,  # pixels on the side of a patch; none fits it to the image
    stem: Literal["small", "original"] = "small",  # first layers for small images, or timm's own
) -> nn.Module:
    """Any model of timm (Wightman 2019), untrained; an option left at None keeps timm's default.

    Raises:
        BadInput: timm has no model of this name.
        ValueError: the model does not take one of the options.
    """
    import timm  # 3.8 seconds, which only those who ask for it should wait

    if not timm.is_model(name):
        hint = nearest(name, timm.list_models())
        raise BadInput(f"unknown timm model {name!r}: {hint and hint + ' '}see timm.list_models()")
    options = {"drop_rate": drop_rate, "drop_path_rate": drop_path_rate, "patch_size": patch_size}
    options = {option: value for option, value in options.items() if value is not None}
    base = {"pretrained": False, "num_classes": num_classes, "in_chans": in_channels}
    network = _create(name, image_size, base, options)
    first = first_convolution(network)
    if stem == "original" or image_size >= 128 or not first:
        return network
    side, largest = first.kernel_size[0], image_size // 8
    if first.stride[0] == side > largest and patch_size is None:
        with contextlib.suppress(ValueError):  # patches may be no option of it
            return _create(name, image_size, base, options | {"patch_size": largest})
    try:
        try_image(small_stem(network), in_channels, image_size)
    except (AssertionError, RuntimeError, ValueError):
        return _create(name, image_size, base, options)
    return network


def _create(name: str, image_size: int, base: dict, options: dict) -> nn.Module:
    """timm's model, told of the image size where it asks for one."""
    import timm

    try:
        return timm.create_model(name, **base, **options, img_size=image_size)
    except TypeError as error:
        if "img_size" not in str(error):
            raise _explained(error, name, options) from error
    try:
        return timm.create_model(name, **base, **options)
    except TypeError as error:
        raise _explained(error, name, options) from error


def first_convolution(network: nn.Module) -> nn.Conv2d | None:
    """The convolution that meets the image, which timm names where there is one."""
    name = network.default_cfg.get("first_conv")
    found = dict(network.named_modules()).get(name) if isinstance(name, str) else None
    return found if isinstance(found, nn.Conv2d) else None


def small_stem(network: nn.Module) -> nn.Module:
    """The network with first layers for small images.

    A new convolution has PyTorch's initialisation: its scale is taken up by the norm behind it.
    """
    first = first_convolution(network)
    side, shape = first.kernel_size[0], None
    if side == 7:
        shape = 3, 1, 1
    elif side >= 4 and first.stride[0] == side:
        shape = side // 2, side // 2, 0
    if shape:
        changed = nn.Conv2d(first.in_channels, first.out_channels, *shape, bias=first.bias is not None)
        network.set_submodule(network.default_cfg["first_conv"], changed)
    else:
        first.stride = (1, 1)
    named = dict(network.named_modules())
    for pool in ("maxpool", "stem.pool"):
        if isinstance(named.get(pool), nn.MaxPool2d):
            network.set_submodule(pool, nn.Identity())
    return network


def _explained(error: TypeError, name: str, options: dict[str, float]) -> Exception:
    """A constructor names the first argument that it does not know."""
    for option, value in options.items():
        if f"'{option}'" in str(error):
            return ValueError(f"{option} is no option of timm's {name}, got {value}")
    return error
