"""Batches of images in files, as a function of (seed, step): for data sets larger than memory."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import count

import torch
from torch import Tensor

from ..core.batch import Batch
from ..core.dist import SINGLE, World
from .base import check_batch
from .files import Files
from .resident import epoch_order, one_hot, to_device


class Streamed:
    """The training batches of a run: those of `Resident`, read ahead by worker processes.

    Reading starts at the step that is requested; consecutive steps are read ahead. With several training
    processes each reads a part of the batch and gathers the rest from the others.

    Args:
        split: the images; batches are on the device of its classes.
        num_classes: width K of the targets.
        batch_size: images per step.
        seed: the run's seed.
        world: the processes that train together; all must request the same steps.
    Raises:
        BadInput: the batch is larger than the split.
    """

    def __init__(self, split: Files, num_classes: int, batch_size: int, seed: int, world: World = SINGLE):
        check_batch(batch_size, len(split))
        self.split, self.batch_size, self.seed, self.world = split, batch_size, seed, world
        self._classes = torch.arange(num_classes, device=split.y.device)
        self._epoch, self._order = -1, torch.empty(0)
        self._step: int | None = None  # of `_images`
        self._images = torch.empty(0)
        self._ahead: Iterator[Tensor] = iter(())  # the images of the steps after it

    @property
    def steps_per_epoch(self) -> int:
        return len(self.split) // self.batch_size

    def at(self, step: int) -> Batch:
        """The batch of one step: x (B, 3, S, S) uint8 and y (B, K) one-hot. Steps may be in any order.

        Raises:
            BadInput: an image cannot be read.
            ProcessLost: a worker process has died.
        """
        epoch, place = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            self._epoch, self._order = epoch, epoch_order(torch.arange(len(self.split)), self.seed, epoch)
        index = self._order[place * self.batch_size : (place + 1) * self.batch_size]
        return self._batch(self._images_of(step), to_device(index, self.split.y.device), epoch)

    def of(self, index: Tensor, epoch: int) -> Batch:
        """The batch of the images at `index` (B,), read now and by this process."""
        split = replace(self.split, workers=0)
        return self._batch(next(split.read([index], split.train_crop)), index, epoch)

    def each(self, parts: Iterable[Tensor], epoch: int) -> Iterator[Batch]:
        """The batches of the images at each of the parts (B,), in order and read ahead."""
        parts = list(parts)
        places = torch.cat(parts).cpu().split([len(part) for part in parts])  # synchronises only once
        images = self.split.read(places, self.split.train_crop)
        return (self._batch(x, index, epoch) for x, index in zip(images, parts, strict=True))

    def _batch(self, x: Tensor, index: Tensor, epoch: int) -> Batch:
        return Batch(x, one_hot(self.split.y[index], self._classes), index, epoch)

    def _images_of(self, step: int) -> Tensor:
        if step != self._step:
            consecutive = self._step is not None and step == self._step + 1
            self._step = None
            if not consecutive:
                self._ahead = iter(())  # ends the workers that read the wrong steps
                shards = _shards(step, len(self.split), self.batch_size, self.seed, self.world)
                self._ahead = self.split.read(shards, self.split.train_crop)
            self._images, self._step = self.world.all_gather(next(self._ahead), self.batch_size), step
        return self._images


def _shards(step: int, images: int, batch_size: int, seed: int, world: World) -> Iterator[Tensor]:
    """The indices that this process reads for the batches of this step and of all later ones.

    A function, because a method would make a reference cycle of the reader and the batches, and the workers
    would end late.

    Args:
        images: number of images in the split.
    """
    shard = torch.arange(-(-batch_size // world.size)) * world.size + world.rank
    shard.clamp_(max=batch_size - 1)  # all shards have the same length
    epoch, first = divmod(step, images // batch_size)
    for number in count(epoch):
        parts = epoch_order(torch.arange(images), seed, number).split(batch_size)[: images // batch_size]
        yield from (part[shard] for part in parts[first:])
        first = 0
