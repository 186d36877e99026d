"""Every model of timm (Wightman 2019, github.com/huggingface/pytorch-image-models), as `timm/<name>`.

Most of them are designed for 224 pixels, which their first layers reduce to 56, or to 14 with patches of 16.
Below 128 pixels the patches of a transformer shrink until the image has 8 of them a side. In other networks a
7x7 stem becomes a 3x3 convolution of stride 1 without max-pooling, and patches of 4 are halved. A network
that does not work with the new stem, because its modules depend on the size of their maps, keeps timm's stem.
Pretrained weights stay: then only strides and pooling change, and patches whose weights timm resamples.
"""

import contextlib
import urllib.error
import urllib.request
from functools import cache
from typing import Any, Literal, NamedTuple

from torch import nn

from ..core.contracts import Count
from ..core.errors import BadInput, nearest
from ..core.registry import models
from .layers import DropRate, try_image


class DataConfig(NamedTuple):
    mean: tuple[float, ...]
    std: tuple[float, ...]
    image_size: int


def names() -> list[str]:
    """The models of timm, without the tags of their weights."""
    import timm  # imported late: it takes seconds

    return timm.list_models()


@models.register("timm/<name>", listing=names, paper="Wightman 2019, PyTorch Image Models")
def timm_model(
    num_classes: int = 10,
    in_channels: int = 3,
    image_size: int = 32,  # passed on where the model takes an image size
    name: str = "resnet18",  # as in timm.list_models()
    drop_rate: DropRate | None = None,  # drop probability before the classifier
    drop_path_rate: DropRate | None = None,  # drop probability of residual branches
    patch_size: Count | None = None,  # side of a patch in pixels; none: from the image size
    stem: Literal["small", "original"] = "small",  # first layers for small images, or those of timm
    pretrained: bool = False,  # load timm's weights; images are normalised and sized for them by default
) -> nn.Module:
    """Any model of timm (Wightman 2019); an option left at None keeps timm's default.

    Raises:
        BadInput: timm has no model of this name, or its weights cannot be had.
        ValueError: the model does not take one of the options.
    """
    import timm

    name = name.lower()
    if not timm.is_model(name):
        hint = nearest(name, names())
        raise BadInput(f"unknown timm model {name!r}: {hint and hint + ' '}see timm.list_models()")
    options = {"drop_rate": drop_rate, "drop_path_rate": drop_path_rate, "patch_size": patch_size}
    options = {option: value for option, value in options.items() if value is not None}
    base = {"num_classes": num_classes, "in_chans": in_channels}
    base |= _weights(name) if pretrained else {"pretrained": False}
    try:
        network = _create(name, image_size, base, options)
    except Exception as error:  # files of weights fail in many ways
        if not pretrained or isinstance(error, BadInput):
            raise
        raise BadInput(
            f"the weights of timm's {name} cannot be loaded ({error}); leave out --model.pretrained"
        ) from error
    first = first_convolution(network)
    if stem == "original" or image_size >= 128 or not first:
        return network
    side, largest = first.kernel_size[0], image_size // 8
    if first.stride[0] == side > largest and patch_size is None:
        with contextlib.suppress(ValueError):  # the model may have no patch_size
            return _create(name, image_size, base, options | {"patch_size": largest})
    try:
        try_image(small_stem(network, keep_weights=pretrained), in_channels, image_size)
    except (AssertionError, RuntimeError, ValueError):
        return _create(name, image_size, base, options)
    return network


@cache
def data_config(name: str) -> DataConfig:
    """The images that timm's pretrained weights of a model were trained on.

    Raises:
        BadInput: timm has no weights of this model.
    """
    import timm

    config = timm.get_pretrained_cfg(name) if timm.is_model(name) else None
    if config is None or not config.has_weights:
        raise BadInput(f"timm has no pretrained weights of {name}; leave out --model.pretrained")
    return DataConfig(config.mean, config.std, config.input_size[-1])


def _weights(name: str) -> dict[str, Any]:
    """The arguments with which timm loads its weights: from the local cache, else from the network."""
    import timm
    from huggingface_hub import constants, try_to_load_from_cache

    data_config(name)
    config = timm.get_pretrained_cfg(name)
    for file in ("model.safetensors", "pytorch_model.bin"):
        held = try_to_load_from_cache(config.hf_hub_id, file) if config.hf_hub_id else None
        if isinstance(held, str):
            return {"pretrained": True, "pretrained_cfg_overlay": {"file": held, "hf_hub_id": None}}
    place = constants.ENDPOINT if config.hf_hub_id else config.url
    try:  # the hub retries for most of a minute where there is no network
        urllib.request.urlopen(urllib.request.Request(place, method="HEAD"), timeout=5).close()
    except urllib.error.HTTPError:
        pass  # a server answers
    except (OSError, ValueError) as error:
        raise BadInput(
            f"the weights of timm's {name} are not in {constants.HF_HUB_CACHE}, and {place} cannot be "
            f"reached ({error}); download {config.hf_hub_id or place} there, or leave out --model.pretrained"
        ) from error
    return {"pretrained": True}


def _create(name: str, image_size: int, base: dict, options: dict) -> nn.Module:
    """The model of timm, with the image size where it takes one."""
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
    """The first convolution, if timm's configuration of the network names one."""
    name = network.default_cfg.get("first_conv")
    found = dict(network.named_modules()).get(name) if isinstance(name, str) else None
    return found if isinstance(found, nn.Conv2d) else None


def small_stem(network: nn.Module, keep_weights: bool = False) -> nn.Module:
    """The network with first layers for small images.

    A new convolution has PyTorch's initialisation; the following norm absorbs its scale.
    """
    first = first_convolution(network)
    side, shape = first.kernel_size[0], None
    if keep_weights:
        if side == first.stride[0]:  # patches would overlap
            return network
    elif side == 7:
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
    """The error for a user, if the constructor rejected one of the options."""
    for option, value in options.items():
        if f"'{option}'" in str(error):
            return ValueError(f"{option} is not an option of timm's {name}, got {value}")
    return error
