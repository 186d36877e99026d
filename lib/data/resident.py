"""Batches from a split that lies whole on the device, as a function of (seed, step)."""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from ..core.batch import Batch
from ..core.rng import Rng
from .base import Split, check_batch


class Resident:
    """The training batches of a run: every epoch a new order, the last incomplete batch left out.

    Args:
        split: the images, on the device where batches are wanted.
        num_classes: width K of the targets.
        batch_size: images a step.
        seed: the run's seed.
    Raises:
        BadInput: the batch is larger than the split.
    """

    def __init__(self, split: Split, num_classes: int, batch_size: int, seed: int):
        check_batch(batch_size, len(split))
        self.split, self.batch_size, self.seed = split, batch_size, seed
        self._one_hot = torch.eye(num_classes, device=split.x.device)
        self._epoch, self._order = -1, torch.empty(0)

    @property
    def steps_per_epoch(self) -> int:
        return len(self.split) // self.batch_size

    def at(self, step: int) -> Batch:
        """The batch of one step: x (B, C, H, W) uint8 and y (B, K) one-hot, whatever was asked before."""
        epoch, place = divmod(step, self.steps_per_epoch)
        return self.of(self._order_of(epoch)[place * self.batch_size : (place + 1) * self.batch_size], epoch)

    def of(self, index: Tensor, epoch: int) -> Batch:
        """The batch of the images at `index` (B,), which lies on their device."""
        part = self.split.take(index)
        return Batch(part.x, self._one_hot[part.y], index, epoch)

    def each(self, parts: Iterable[Tensor], epoch: int) -> Iterator[Batch]:
        """The batches of the images at each of the parts (B,) in turn."""
        return (self.of(index, epoch) for index in parts)

    def _order_of(self, epoch: int) -> Tensor:
        """The permutation of one epoch, kept while the epoch lasts."""
        if epoch != self._epoch:
            order = epoch_order(torch.arange(len(self.split)), self.seed, epoch)
            self._epoch, self._order = epoch, to_device(order, self.split.x.device)
        return self._order


def epoch_order(places: Tensor, seed: int, epoch: int) -> Tensor:
    """The places (n,) in the order in which an epoch has them; both on the CPU."""
    return places[Rng(seed, "order", epoch).permutation(len(places))]


def to_device(places: Tensor, device: torch.device) -> Tensor:
    """A copy on the device."""
    if device.type == "cuda":
        places = places.pin_memory()  # else the copy would wait for all the steps that are queued there
    return places.to(device, non_blocking=True)
