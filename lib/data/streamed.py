"""Batches from images in files, as a function of (seed, step): for data sets that are larger than memory."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import count

import torch
from torch import Tensor

from ..core.batch import Batch
from ..core.dist import SINGLE, World
from .base import check_batch
from .files import Files
from .resident import epoch_order, to_device


class Streamed:
    """The training batches of a run, which are those of `Resident`, read ahead by other processes.

    Whatever step is asked for, reading begins with it; asked for one after the other, they are read ahead.
    Of several processes each reads its share of a batch, and has the rest from the others.

    Args:
        split: the images; batches come to the device of its classes.
        num_classes: width K of the targets.
        batch_size: images a step.
        seed: the run's seed.
        world: the processes that train together, all of which ask for the same steps.
    Raises:
        BadInput: the batch is larger than the split.
    """

    def __init__(self, split: Files, num_classes: int, batch_size: int, seed: int, world: World = SINGLE):
        check_batch(batch_size, len(split))
        self.split, self.batch_size, self.seed, self.world = split, batch_size, seed, world
        self._one_hot = torch.eye(num_classes, device=split.y.device)
        self._epoch, self._order = -1, torch.empty(0)
        self._step: int | None = None  # that of the newest images
        self._images = torch.empty(0)
        self._ahead: Iterator[Tensor] = iter(())  # those of the steps after it

    @property
    def steps_per_epoch(self) -> int:
        return len(self.split) // self.batch_size

    def at(self, step: int) -> Batch:
        """The batch of one step: x (B, 3, S, S) uint8 and y (B, K) one-hot, whatever was asked before.

        Raises:
            BadInput: an image cannot be read.
            Lost: a process that reads has ended.
        """
        epoch, place = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            self._epoch, self._order = epoch, epoch_order(torch.arange(len(self.split)), self.seed, epoch)
        index = self._order[place * self.batch_size : (place + 1) * self.batch_size]
        return self._batch(self._images_of(step), to_device(index, self.split.y.device), epoch)

    def of(self, index: Tensor, epoch: int) -> Batch:
        """The batch of the images at `index` (B,), read at once and by this process."""
        alone = replace(self.split, workers=0)
        return self._batch(next(alone.read([index], self.split.training)), index, epoch)

    def each(self, parts: Iterable[Tensor], epoch: int) -> Iterator[Batch]:
        """The batches of the images at each of the parts (B,) in turn, read ahead."""
        parts = list(parts)
        places = torch.cat(parts).cpu().split([len(part) for part in parts])  # waits for the device only once
        images = self.split.read(places, self.split.training)
        return (self._batch(x, index, epoch) for x, index in zip(images, parts, strict=True))

    def _batch(self, x: Tensor, index: Tensor, epoch: int) -> Batch:
        return Batch(x, self._one_hot[self.split.y[index]], index, epoch)

    def _images_of(self, step: int) -> Tensor:
        if step != self._step:
            follows = self._step is not None and step == self._step + 1
            self._step = None
            if not follows:
                self._ahead = iter(())  # ends the processes that read what is not asked for
                shares = _shares(step, len(self.split), self.batch_size, self.seed, self.world)
                self._ahead = self.split.read(shares, self.split.training)
            self._images, self._step = self.world.all_gather(next(self._ahead), self.batch_size), step
        return self._images


def _shares(step: int, images: int, batch_size: int, seed: int, world: World) -> Iterator[Tensor]:
    """Of the batch of this step and of all after it, what this process reads of so many images.

    No method: what is read ahead would hold the batches that hold it, and its processes would end late.
    """
    share = torch.arange(-(-batch_size // world.size)) * world.size + world.rank
    share.clamp_(max=batch_size - 1)  # all shares are of one length
    epoch, first = divmod(step, images // batch_size)
    for number in count(epoch):
        parts = epoch_order(torch.arange(images), seed, number).split(batch_size)[: images // batch_size]
        yield from (part[share] for part in parts[first:])
        first = 0
