"""A run that was trained, rebuilt from its folder: its networks with their weights, and what images need."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from ..config.schema import Config
from ..core.errors import BadInput
from ..core.precision import Precision
from ..data.base import Split
from ..engine.evaluate import networks, refresh_statistics
from ..store import checkpoint
from . import (
    build_averages,
    build_data,
    build_dataset,
    build_device,
    build_model,
    build_normalize,
    build_views,
    try_views,
)


@dataclass(frozen=True)
class Trained:
    models: dict[str, nn.Module]  # `last`, the averages, and views of each, as <average>_<view>
    normalize: Callable[[Tensor], Tensor]  # uint8 pixels to what the networks take
    precision: Precision
    splits: dict[str, Split]  # what the run evaluated: test, and val where a part of train was held out
    classes: tuple[str, ...]
    shape: tuple[int, int, int]  # of an image: C, H, W
    device: torch.device
    step: int  # steps that the weights were trained for
    code: str  # the version of the code that trained them


def load_trained(config: Config, folder: Path) -> Trained:
    """The networks of a run folder.

    Args:
        config: the run's own, but for what may differ where its networks are only looked at.
    Raises:
        BadInput: the folder's checkpoint is missing, damaged, or belongs to another configuration.
    """
    device = build_device(config.run.device)
    path = folder / "last.pt"
    state = checkpoint.load(path)
    dataset = build_dataset(config)
    data, splits = build_data(config, dataset, device)
    shape = dataset.train.shape
    model = build_model(config, shape, len(dataset.classes))
    layout = torch.channels_last if config.train.channels_last else torch.preserve_format
    model.to(device, memory_format=layout)
    checkpoint.load_weights(model, state["model"], path)
    total = max(1, round(config.train.epochs * data.steps_per_epoch))
    averages = build_averages(config, model, data.steps_per_epoch, total)
    for name, average in averages.items():
        try:
            average.load_state_dict(state["averages"][name])
        except (KeyError, ValueError, RuntimeError) as error:
            raise BadInput(f"{path} holds no average {name} of this model ({error})") from error
    normalize = build_normalize(config, dataset, device).pixels
    for average in averages.values():
        if average.needs_statistics and state["step"] < total:  # else those in the checkpoint are measured
            refresh_statistics(average.model, data.split, normalize, config.train.precision)
    views = build_views(config)
    try_views(views, data)
    models = networks(model, {name: average.model for name, average in averages.items()}, views)
    return Trained(
        models={prefix.removesuffix("_") or "last": network.eval() for prefix, network in models.items()},
        normalize=normalize,
        precision=config.train.precision,
        splits=splits,
        classes=dataset.classes,
        shape=shape,
        device=device,
        step=state["step"],
        code=state["code"],
    )
