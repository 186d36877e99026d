"""From a run folder back to its networks."""

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor, nn

from ..config.schema import Config
from ..core.budget import in_steps
from ..core.errors import BadInput, nearest
from ..core.precision import Precision, autocast
from ..data.base import DataSpec
from ..data.images import Images
from ..engine.evaluate import networks, refresh_statistics
from ..graph.features import penultimate
from ..store.checkpoint import Checkpoint
from .checks import try_views
from .data import build_data, build_dataset, build_normalize, build_spec, learned_data
from .device import build_device
from .model import restore_model, to_device
from .run import build_averages, build_views


@dataclass(frozen=True, eq=False)
class TrainedRun:
    """A trained run: its networks, and its images, which are read only where they are asked for."""

    checkpoint: Checkpoint
    config: Config
    device: torch.device

    @cached_property
    def data(self) -> DataSpec:
        """What the networks need to know of their data set."""
        return learned_data(self.checkpoint)

    @property
    def classes(self) -> tuple[str, ...]:
        return self.data.classes

    @cached_property
    def normalize(self) -> Callable[[Tensor], Tensor]:
        """The map of pixels (B, C, H, W) uint8 to the float32 that the networks take."""
        return build_normalize(self.data, self.device).pixels

    @property
    def precision(self) -> Precision:
        """The precision that it was trained and evaluated with."""
        return self.config.train.precision

    @cached_property
    def models(self) -> dict[str, nn.Module]:
        """The networks in eval mode: last, each average, and <average>_<view>.

        An average whose statistics must be measured is left out, with a warning, where the images are gone.
        """
        model = to_device(restore_model(self.config, self.checkpoint, self.data), self.config, self.device)
        views = build_views(self.config)
        try_views(views, self.data.shape, self.device)
        found = networks(model, self._averages(model), views)
        return {prefix.removesuffix("_") or "last": network.eval() for prefix, network in found.items()}

    def _averages(self, model: nn.Module) -> dict[str, nn.Module]:
        found = {}
        # They are not updated, so any number of steps will do.
        epochs = math.ceil(self.config.train.epochs)
        for name, average in build_averages(self.config, model, steps_per_epoch=1, total=epochs).items():
            if name not in self.checkpoint.averages:  # a soup has none
                continue
            self.checkpoint.load_into(average.model, name)
            try:
                if average.needs_statistics and not self._complete:  # else they are in the checkpoint
                    train = self.images["train"]
                    refresh_statistics(average.model, train.split, train.normalize, self.precision)
            except BadInput as error:
                warnings.warn(
                    f"{name} is left out, because its statistics need the images: {error}", stacklevel=2
                )
                continue
            found[name] = average.model
        return found

    @property
    def _complete(self) -> bool:
        """Whether it was trained to the end."""
        checkpoint, budget = self.checkpoint, self.config.train
        per_epoch = len(self.images["train"]) // budget.batch_size if checkpoint.total is None else 0
        return checkpoint.step >= (checkpoint.total or in_steps(budget.epochs, per_epoch))

    @cached_property
    def images(self) -> dict[str, Images]:
        """The images to evaluate: train, test, and val where a part of train was held out.

        Raises:
            BadInput: the data set cannot be had, or has other classes or shapes than the networks learned.
        """
        dataset = build_dataset(self.config)
        if differs := self.data.differences(build_spec(self.config, dataset)):
            name = self.config.chosen["data"].entry.name
            raise BadInput(f"{name} is not what {self.checkpoint.path} learned: {differs}; restore it")
        data, splits = build_data(self.config, dataset, self.device)
        return {
            name: Images(split, self.normalize) for name, split in {"train": data.split, **splits}.items()
        }

    def read(self, path: str | Path) -> Tensor:
        """An image file as the evaluation of the run sees it, normalised: (C, S, S) float32 on the device.

        Raises:
            BadInput: it cannot be read.
        """
        pixels = self.data.read(path).to(self.device)
        return self.normalize(pixels[None])[0]

    def network(self, name: str) -> nn.Module:
        """One of `models`.

        Raises:
            BadInput: there is none of this name.
        """
        if name not in self.models:
            hint = nearest(name, self.models) or f"it has {', '.join(self.models)}"
            raise BadInput(f"{self.checkpoint.path} has no network {name!r}; {hint}")
        return self.models[name]

    @torch.no_grad()
    def features(self, x: Tensor, network: str = "last") -> Tensor:
        """Penultimate features (B, D) float32 of normalised images (B, C, H, W): the input of the last layer.

        Raises:
            BadInput: there is no such network.
        """
        with autocast(self.device, self.precision):
            return penultimate(self.network(network), x).float()


def load(
    run: str | Path, *, device: str | torch.device = "auto", root: str | Path | None = None
) -> TrainedRun:
    """Load a trained run.

    Args:
        run: a run folder or a checkpoint; nothing else is needed, except by `images`.
        device: auto, cpu, cuda, cuda:<number> or mps.
        root: the folder of the data sets; by default as in the run.
    Raises:
        BadInput: the checkpoint is missing or damaged.
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
        BadInput: the checkpoint belongs to another configuration.
    """
    run = TrainedRun(checkpoint, config, build_device(config.run.device))
    run.models  # noqa: B018  (built now, so that errors come from here)
    return run
