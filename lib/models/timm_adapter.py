"""Every model of timm (Wightman 2019, github.com/huggingface/pytorch-image-models), as `timm/<name>`."""

from torch import nn

from lib.errors import BadInput, nearest
from lib.registry import models


@models.register("timm/<name>", paper="Wightman 2019, PyTorch Image Models")
def timm_model(
    num_classes: int = 10,
    in_channels: int = 3,
    image_size: int = 32,  # handed on where the model takes an image size
    name: str = "resnet18",  # as in timm.list_models()
    drop_rate: float | None = None,  # dropout before the classifier
    drop_path_rate: float | None = None,  # stochastic depth
    patch_size: int | None = None,  # pixels on the side of a patch
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
    try:
        return timm.create_model(name, **base, **options, img_size=image_size)
    except TypeError as error:
        if "img_size" not in str(error):
            raise _explained(error, name, options) from error
    try:
        return timm.create_model(name, **base, **options)
    except TypeError as error:
        raise _explained(error, name, options) from error


def _explained(error: TypeError, name: str, options: dict[str, float]) -> Exception:
    """A constructor names the first argument that it does not know."""
    for option, value in options.items():
        if f"'{option}'" in str(error):
            return ValueError(f"{option} is no option of timm's {name}, got {value}")
    return error
