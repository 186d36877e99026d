"""Batches of a split that is all on the device, as a function of (seed, step)."""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from ..core.batch import Batch
from ..core.rng import Rng
from .base import Split, check_batch


class Resident:
    """The training batches of a run: a new order every epoch, without the last incomplete batch.

    Args:
        split: the images, on the device of the batches.
        num_classes: width K of the targets.
        batch_size: images per step.
        seed: the run's seed.
    Raises:
        BadInput: the batch is larger than the split.
    """

    def __init__(self, split: Split, num_classes: int, batch_size: int, seed: int):
        check_batch(batch_size, len(split))
        self.split, self.batch_size, self.seed = split, batch_size, seed
        self._classes = torch.arange(num_classes, device=split.x.device)
        self._epoch, self._order = -1, torch.empty(0)

    @property
    def steps_per_epoch(self) -> int:
        return len(self.split) // self.batch_size

    def at(self, step: int) -> Batch:
        """The batch of one step: x (B, C, H, W) uint8 and y (B, K) probabilities, in any order."""
        epoch, place = divmod(step, self.steps_per_epoch)
        return self.of(self._order_of(epoch)[place * self.batch_size : (place + 1) * self.batch_size], epoch)

    def of(self, index: Tensor, epoch: int) -> Batch:
        """The batch of the images at `index` (B,), a tensor on their device."""
        part = self.split.take(index)
        y = one_hot(part.y, self._classes) if part.soft is None else part.soft
        return Batch(part.x, y, index, epoch)

    def each(self, parts: Iterable[Tensor], epoch: int) -> Iterator[Batch]:
        """The batches of the images at each of the parts (B,), in order."""
        return (self.of(index, epoch) for index in parts)

    def _order_of(self, epoch: int) -> Tensor:
        """The permutation of an epoch; the newest is cached."""
        if epoch != self._epoch:
            order = epoch_order(torch.arange(len(self.split)), self.seed, epoch)
            self._epoch, self._order = epoch, to_device(order, self.split.x.device)
        return self._order


def one_hot(y: Tensor, classes: Tensor) -> Tensor:
    """(B, K) float32 of y (B,) and the classes (K,) 0 to K - 1; a table of K rows would be large."""
    return (y[:, None] == classes).float()


def epoch_order(index: Tensor, seed: int, epoch: int) -> Tensor:
    """The indices (n,) in the order of an epoch; both on the CPU."""
    return index[Rng(seed, "order", epoch).permutation(len(index))]


def to_device(index: Tensor, device: torch.device) -> Tensor:
    """A copy on the device, made without synchronising."""
    if device.type == "cuda":
        index = index.pin_memory()  # a copy of pageable memory would wait for the queued steps
    return index.to(device, non_blocking=True)
