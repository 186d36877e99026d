"""The public API of the data: the batches of train.py for your own training loop, and trained runs.

The images are on the device, or are read from the files of a streamed folder, and are augmented on the device
a batch at a time. A batch is a function of the seed, the epoch and its place in the epoch. docs/loader.md is
the guide, and examples/own_loop.py a short program.
"""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .augment.pipeline import describe, ordered, pipeline
from .config.compose import Layer, compose
from .config.sources import flatten, layer_of
from .core.batch import Batch
from .core.errors import require
from .core.registry import datasets
from .core.rng import Rng
from .data.images import Images
from .data.resident import epoch_order, to_device
from .data.subset import ImageSubset
from .factory import (
    augmenting,
    build_data,
    build_dataset,
    build_device,
    build_normalize,
    build_spec,
    build_steps,
    data_notes,
)
from .factory.learning import build_loss
from .factory.load import TrainedRun, load
from .run.predict import evaluate, predict

__all__ = ["Images", "Loader", "TrainedRun", "evaluate", "load", "predict"]


class Loader:
    """The training batches of a data set, and the images for evaluation.

    Args:
        data: name of the data set, as in `--dataset`.
        batch_size: images per batch.
        augment: names of augmentations, or a mapping of names to settings, as in a YAML file. By default
            those that train.py uses for the data set.
        epochs: the length of the training, for augmentations that depend on it.
        drop_last: leave out the last incomplete batch, as train.py does; other images in every epoch.
        seed: of all random numbers.
        device: auto, cpu, cuda, cuda:<number> or mps.
        root: the folder of the data sets; by default $DATA_DIR, else ./data.
        options: options of the data set, and settings of the section `data`, such as `val=0.1`.
    Attributes:
        train, test, val: the `Images`; val is None if nothing is held out.
        classes, shape: the names of the classes, and (C, H, W) of an image.
        device: of images and batches.
        notes: lines on the images that were found and left out, and on channels that are constant.
    Raises:
        BadInput: a name is unknown, a value is wrong, the data set is not available, or an augmentation does
            not support the shape of the images.
    """

    def __init__(
        self,
        data: str = "cifar10",
        *,
        batch_size: int = 128,
        augment: Iterable[str] | Mapping[str, Any] | None = None,
        epochs: float = 200.0,
        drop_last: bool = True,
        seed: int = 0,
        device: str | torch.device = "auto",
        root: str | Path | None = None,
        **options: Any,
    ):
        layer = _layer("data", {"root": root, **options})
        layer += _layer("train", {"batch_size": batch_size, "epochs": epochs, "seed": seed})
        named = layer_of([("data.name", data, "data")], "Loader")
        switched = [] if augment is None else _switched(str(data), augment)
        config = compose([named, *switched, layer])
        self.device, dataset = build_device(str(device)), build_dataset(config)
        self._data, splits = build_data(config, dataset, self.device)
        normalize = build_normalize(build_spec(config, dataset), self.device)
        parts = {"train": self._data.split, **splits}
        images = {name: Images(split, normalize.pixels) for name, split in parts.items()}
        self.train, self.test, self.val = images["train"], images["test"], images.get("val")
        self.notes = data_notes(config, dataset)
        self.name, self.classes, self.shape = data, dataset.classes, dataset.train.shape
        self.batch_size, self.seed, self.drop_last = config.train.batch_size, config.train.seed, drop_last
        self._steps = build_steps(config, normalize)
        self._prepare = pipeline(self._steps)
        self._loss = build_loss(config, self._steps)
        self._subset = ImageSubset.everything(len(self.train))
        with augmenting(self.shape):
            self._batch(self._data.of(torch.arange(self.batch_size, device=self.device), epoch=0), step=0)

    def __repr__(self) -> str:
        size = f"{len(self)} batches of {self.batch_size} from {len(self._subset.kept):,} images"
        return f"Loader({self.name}: {size}, {describe(ordered(self._steps))})"

    def __len__(self) -> int:
        """Batches per epoch."""
        whole, rest = divmod(len(self._subset.kept), self.batch_size)
        return whole + (rest > 0 and not self.drop_last)

    def epoch(self, number: int) -> Iterator[Batch]:
        """The batches of epoch `number`, from 0. Later calls of `keep` and `weigh` do not change them.

        A batch has x (B, C, H, W) float32, normalised; y (B, K) probabilities; and index (B,), the indices of
        the images in `train`; all on the device. B is the batch size, and H and W are those of the images,
        unless an augmentation makes several views of an image, or another size.

        Raises:
            ValueError: the number is negative or not an integer.
        """
        require(number >= 0 and number == int(number), "number", "a whole number from 0", number)
        number, steps, size = int(number), len(self), self.batch_size
        order = to_device(epoch_order(self._subset.drawn(self.seed, number), self.seed, number), self.device)
        parts = (order[place * size : (place + 1) * size] for place in range(steps))
        batches = self._data.each(parts, number)
        return (self._batch(batch, number * steps + place) for place, batch in enumerate(batches))

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """The loss (B,) of logits (B, K): cross-entropy, and terms of augmentations that compare views."""
        return self._loss(logits, batch)

    def keep(self, images: Any) -> None:
        """Train on these images only, from the next call of `epoch` on; None is all images.

        An epoch is then that of a training set with only these images.

        Args:
            images: a mask (N,) of bools over `train`, or indices into it.
        Raises:
            ValueError: it is neither, has an index twice, or too few images or no weight above 0 are left.
        """
        least = self.batch_size if self.drop_last else 1
        self._subset = self._subset.keeping(images, least)

    def weigh(self, weights: Any) -> None:
        """Draw the images in proportion to weights, from the next call of `epoch` on; None is equal weights.

        The length of an epoch does not change; `lib.data.subset` has the rule.

        Args:
            weights: (N,) numbers of at least 0, over `train`; 0 leaves an image out.
        Raises:
            ValueError: they are not, or all are 0 on the images that are kept.
        """
        self._subset = self._subset.weighing(weights)

    @torch.no_grad()
    def _batch(self, batch: Batch, step: int) -> Batch:
        """The finished batch, with the random numbers of that step of train.py."""
        return self._prepare(batch, Rng(self.seed, step, 0))


def _layer(section: str, settings: Mapping[str, Any]) -> Layer:
    return layer_of([(f"{section}.{key}", value, key) for key, value in settings.items()], "Loader")


def _switched(data: str, augment: Iterable[str] | Mapping[str, Any]) -> list[Layer]:
    """The settings that switch the data set's default augmentations off, and the given ones on."""
    names = [augment] if isinstance(augment, str) else augment
    require(isinstance(names, Iterable), "augment", "names, or a mapping of names to settings", augment)
    asked = names if isinstance(names, Mapping) else dict.fromkeys(names, True)
    asked = {name: True if settings == {} else settings for name, settings in asked.items()}
    usual = datasets[data].facts.augment if data in datasets else ()
    on = [(key, value, key) for key, value in flatten({"augment": asked})]
    return [_layer("augment", dict.fromkeys(usual, False)), layer_of(on, "Loader")]
