"""The CIFAR tricks zoo: models, augmentations and training tricks.

They compose from the command line, and each can be used alone in a training loop of your own:

    import cifar_zoo
    from cifar_zoo.optim.sam import SAM

    model = cifar_zoo.create_model("wrn_16_2", num_classes=100)
    loader = cifar_zoo.Loader("cifar100", batch_size=128)
    optimizer = SAM(torch.optim.SGD(model.parameters(), lr=0.1), rho=0.05)

docs/library.md has an example of every kind. Nothing here imports torch until it is used.
"""

import importlib
from typing import TYPE_CHECKING, Any

from .core.errors import BadInput  # which needs no other package

if TYPE_CHECKING:
    from torch import nn

    from .loader import Images, Loader, TrainedRun, evaluate, load, predict

__all__ = [
    "BadInput",
    "Images",
    "Loader",
    "TrainedRun",
    "create_model",
    "evaluate",
    "list_models",
    "load",
    "predict",
]


def create_model(
    name: str, num_classes: int = 10, in_channels: int = 3, image_size: int = 32, **options: Any
) -> "nn.Module":
    """A new, untrained model: (B, in_channels, image_size, image_size) to logits (B, num_classes).

    Args:
        name: as `list_models` and `python train.py --list models` show it, or `timm/<name>`.
        options: the model's own, as `python train.py --help <name>` shows them.
    Raises:
        BadInput: there is no such model; the message holds the nearest names.
        ValueError: an option has a value out of its bounds.
    """
    from .core import registry  # not its `models`: the package lib/models would take that name

    return registry.models[name].build(
        num_classes=num_classes, in_channels=in_channels, image_size=image_size, **options
    )


def list_models(pattern: str = "*") -> list[str]:
    """The names of the models that match a shell pattern, such as `wrn*`."""
    from .core import registry

    return [entry.name for entry in registry.models.entries(pattern)]


def __getattr__(name: str) -> Any:
    """The other public names, whose module imports torch."""
    if name in __all__:
        return getattr(importlib.import_module(".loader", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
