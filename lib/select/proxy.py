"""Data filtering by a proxy (Jordan 2024, airbench96_faster of github.com/KellerJordan/cifar10-airbench).

A small network sees every batch first, and the run's own learns from the images with the largest losses
there. The small one learns from these too, but only from those of every fourth batch, and its norms see the
whole batch. Its loss, optimizer with wrappers and schedule are the run's, and so are filters that the data
give (whitening); teachers, surgery, other initial weights, averages and the freezing of the first block are
for the run's own network alone.

In the author's program the small network is trained first and its choices are kept. As it knows nothing of
the larger one, to train both at once gives the same.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ..core.batch import Batch
from ..core.errors import require
from ..core.registry import selections
from ..engine.step import Run, forward_losses, optimizer_step
from .learner import Learner


@selections.register("proxy", paper="Jordan 2024, airbench96_faster")
class Proxy:
    """A small network picks the images with the largest losses, which alone are learned from."""

    def __init__(
        self,
        learner: Callable[[str], Learner],
        model: str = "airbench96_proxy",  # the small network, by its name
        keep: float = 0.5,  # share of the images of a batch that is learned from
        every: int = 4,  # it takes a step on one of so many batches, and looks at the others
    ):
        require(0 < keep < 1, "keep", "above 0 and below 1", keep)
        require(every >= 1, "every", "at least 1", every)
        self.keep, self.every = keep, every
        self.learner = learner(model)

    def kept(self, images: int) -> int:
        count = round(self.keep * images)
        require(0 < count < images, "keep", f"a share that keeps some of {images} images, not all", self.keep)
        return count

    def __call__(self, batch: Batch, run: Run, step: int) -> Batch:
        count = self.kept(len(batch) // batch.views)
        picked = torch.empty(count, dtype=torch.int64, device=batch.x.device)
        if run.world.is_main:
            picked = self._pick(batch, self.learner.within(run), step, count)
        run.world.broadcast([picked])  # that all pick the same; and one alone has to look
        return batch.take(samples(picked, batch.views))

    def _pick(self, batch: Batch, run: Run, step: int, count: int) -> Tensor:  # (count,) images
        """The hardest images of the batch; every so often, a step that learns from them."""
        found: list[Tensor] = []

        def loss(logits: Tensor, batch: Batch) -> Tensor:  # (B, K) -> (count * views,)
            losses = run.loss(logits, batch)
            if not found:  # an optimizer that calls twice, as SAM does, learns from the same images
                found.append(hardest(losses.detach().unflatten(0, (-1, batch.views)).mean(1), count))
            return losses.index_select(0, samples(found[0], batch.views))

        picking = replace(run, loss=loss)
        if step % self.every == 0:
            optimizer_step(picking, batch, count * batch.views, step)
        else:
            forward_losses(picking, batch, step)
        return found[0]

    def state_dict(self) -> dict[str, Any]:
        return self.learner.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.learner.load_state_dict(state)


def hardest(losses: Tensor, count: int) -> Tensor:  # (B,) -> (count,)
    """The places of the largest losses, in their order in the batch."""
    return losses.argsort(descending=True, stable=True)[:count].sort().values


def samples(images: Tensor, views: int) -> Tensor:  # (N,) -> (N * views,)
    """The places of all views of these images."""
    return (images[:, None] * views + torch.arange(views, device=images.device)).flatten()
