"""Every model for `torch.hub.load(<checkout>, <name>, source="local")`; see docs/after-training.md."""

from collections.abc import Callable as _Callable
from typing import Any as _Any

from torch import nn as _nn

import lib as _lib
from lib.core.registry import Entry as _Entry
from lib.core.registry import models as _models

dependencies = ["torch", "torchvision", "timm", "einops", "numpy", "annotated_types", "filelock", "yaml"]


def _entry_point(entry: _Entry) -> _Callable[..., _nn.Module]:
    def build(run: str | None = None, network: str = "last", **options: _Any) -> _nn.Module:
        if run is None:
            return _lib.create_model(entry.name, **options)
        trained = _lib.load(run, device="cpu")
        held = trained.config.chosen["model"].entry.name
        if held != entry.name or options:
            given = f"{entry.name} with {', '.join(options)}" if options else entry.name
            raise _lib.BadInput(f"{run} is a run of {held}, not of {given}; its options are those of the run")
        return trained.network(network)

    build.__name__ = entry.name
    build.__doc__ = f"""{entry.about}

    Args:
        run: a run folder or checkpoint with the weights to load; None is an untrained model.
        network: of the run: last, or an average such as ema.
        options: of an untrained model: num_classes, in_channels, image_size, {", ".join(entry.fields)}.
    """
    return build


# torch.hub lists the names that do not begin with _.
globals().update({name: _entry_point(_models[name]) for name in _models.names()})
