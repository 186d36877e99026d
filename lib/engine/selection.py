"""Batch selection: a selector picks the images a step learns from, by the losses of a second network."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..core.batch import Batch
from ..select.selector import Selector
from .step import Learning, Run, forward_losses, optimizer_step


@dataclass
class NetworkSelection:
    """A selector, and the network that it learns with: on whole batches, in the main process."""

    selector: Selector
    learning: Learning

    def kept(self, images: int) -> int:
        return self.selector.kept(images)

    def __call__(self, batch: Batch, run: Run, step: int) -> Batch:
        picked = torch.empty(self.kept(batch.images), dtype=torch.int64, device=batch.x.device)
        if run.world.is_main:
            network = NetworkAtStep(run, self.learning, step, len(picked) * batch.views)
            picked = self.selector(batch, network, step)
        run.world.broadcast([picked])
        return batch.take(batch.samples(picked))


@dataclass(frozen=True)
class NetworkAtStep:
    """What a selector can do with its network."""

    run: Run
    learning: Learning
    step: int
    samples: int  # of those that are picked

    def losses(self, batch: Batch) -> Tensor:  # (B,)
        return forward_losses(self.run, self.learning, batch, self.step)

    def learn(self, batch: Batch, pick: Callable[[Tensor], Tensor]) -> Tensor:  # (N,) images
        picked: list[Tensor] = []

        def loss(logits: Tensor, batch: Batch) -> Tensor:  # (B, K) -> (N * views,)
            losses = self.learning.loss(logits, batch)
            if not picked:  # an optimizer that calls the closure twice, as SAM does, uses the same images
                picked.append(pick(losses.detach()))
            return losses.index_select(0, batch.samples(picked[0]))

        optimizer_step(self.run, replace(self.learning, loss=loss), batch, self.samples, self.step)
        return picked[0]
