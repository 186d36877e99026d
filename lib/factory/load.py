"""From a run folder back to its networks."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from ..config.schema import Config
from ..core.budget import in_steps
from ..core.precision import Precision
from ..data.base import Dataset
from ..data.images import Images
from ..engine.evaluate import networks, refresh_statistics
from ..store.checkpoint import Checkpoint
from .checks import try_views
from .data import build_data, build_dataset, build_normalize
from .device import build_device
from .model import restore_model, to_device
from .run import build_averages, build_views


@dataclass(frozen=True, eq=False)
class TrainedRun:
    """A trained run: its networks, and what they need to be evaluated."""

    checkpoint: Checkpoint
    config: Config
    dataset: Dataset
    device: torch.device
    models: dict[str, nn.Module]  # in eval mode: last, each average, and <average>_<view>
    images: dict[str, Images]  # train, test, and val where a part of train was held out

    @property
    def classes(self) -> tuple[str, ...]:
        return self.dataset.classes

    @property
    def precision(self) -> Precision:
        """The precision that it was trained and evaluated with."""
        return self.config.train.precision

    def read(self, path: str | Path) -> Tensor:
        """An image file as the evaluation of the run sees it, normalised: (C, S, S) float32 on the device.

        Raises:
            BadInput: it cannot be read.
        """
        pixels = self.dataset.read(path).to(self.device)
        return self.images["test"].normalize(pixels[None])[0]


def load(
    run: str | Path, *, device: str | torch.device = "auto", root: str | Path | None = None
) -> TrainedRun:
    """Load a trained run.

    Args:
        run: a run folder or a checkpoint.
        device: auto, cpu, cuda, cuda:<number> or mps.
        root: the folder of the data sets; by default as in the run.
    Raises:
        BadInput: the checkpoint is missing or damaged, or the data set cannot be had.
    """
    checkpoint = Checkpoint.read(run)
    config = checkpoint.config
    settings = {"run": replace(config.run, device=str(device))}
    if root is not None:
        settings["data"] = replace(config.data, root=str(root))
    return load_as(replace(config, settings=config.settings | settings), checkpoint)


def load_as(config: Config, checkpoint: Checkpoint) -> TrainedRun:
    """Load a trained run whose configuration was changed in settings of evaluation, such as device and views.

    Raises:
        BadInput: the checkpoint belongs to another configuration, or the data set cannot be had.
    """
    device, dataset = build_device(config.run.device), build_dataset(config)
    data, splits = build_data(config, dataset, device)
    normalize, precision = build_normalize(config, dataset, device).pixels, config.train.precision
    model = to_device(restore_model(config, checkpoint, dataset), config, device)
    total = in_steps(config.train.epochs, data.steps_per_epoch)
    averages = {}
    for name, average in build_averages(config, model, data.steps_per_epoch, total).items():
        if name in checkpoint.averages:  # a soup has none
            checkpoint.load_into(average.model, name)
            if average.needs_statistics and checkpoint.step < total:  # else they are in the checkpoint
                refresh_statistics(average.model, data.split, normalize, precision)
            averages[name] = average.model
    views = build_views(config)
    try_views(views, data)
    models = networks(model, averages, views)
    return TrainedRun(
        checkpoint=checkpoint,
        config=config,
        dataset=dataset,
        device=device,
        models={prefix.removesuffix("_") or "last": network.eval() for prefix, network in models.items()},
        images={name: Images(split, normalize) for name, split in {"train": data.split, **splits}.items()},
    )
