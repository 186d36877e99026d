"""The training step: fix a finished batch, then hand the optimizer a closure that leaves the exact gradient.

Everything random or frozen is resolved into tensors before the closure exists; after that it is a function of
weights and batch, so the optimizer may call it as often as it likes. The only forward and backward of the
project.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import reduce
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.optim import Optimizer

from ..core.batch import Batch, Loss
from ..core.budget import Progress, in_steps
from ..core.dist import SINGLE, World
from ..core.precision import LossScaler, Overflow, Precision, autocast
from ..core.rng import Rng
from ..data.base import DataSpec, Split
from ..graph.cost import Cost
from ..optim.average import WeightAverage
from .log import Clock
from .lr import set_progress
from .metrics import TrainAccuracy


class Batches(Protocol):
    """Training batches as a function of the step."""

    split: Split
    batch_size: int
    steps_per_epoch: int

    def at(self, step: int) -> Batch: ...


class Selection(Protocol):
    """Picks the images of a finished batch that the step learns from, with a network that learns to."""

    learning: "Learning"

    def kept(self, images: int) -> int: ...  # of a batch of this many images
    def __call__(self, batch: Batch, run: "Run", step: int) -> Batch: ...


@dataclass
class Learning:
    """A network, and how it learns from a batch."""

    model: nn.Module
    loss: Loss
    optimizer: Optimizer
    scaler: LossScaler
    cost: Cost
    accumulate: int = 1  # micro-batches of a step
    world: World = SINGLE  # the processes that share a batch
    accuracy: TrainAccuracy = field(default_factory=TrainAccuracy)

    @property
    def params(self) -> list[Tensor]:
        return [p for group in self.optimizer.param_groups for p in group["params"]]

    def state_dict(self) -> dict[str, Any]:
        parts = {"model": self.model, "optimizer": self.optimizer, "scale": self.scaler}
        return {name: part.state_dict() for name, part in parts.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scale"])


@dataclass
class Run:
    """What a training run is made of."""

    learning: Learning
    data: Batches
    prepare: Callable[[Batch, Rng], Batch]  # augments the batch
    finalize: Callable[[Batch, Rng], Batch]  # shards it across processes, and adds the teachers' logits
    schedule: Callable[[float, float], float]  # (epoch, epochs) -> factor of the learning rate
    averages: dict[str, WeightAverage]
    views: dict[str, Callable[..., nn.Module]]  # `(model=...)` to test-time views of it, for the end
    epochs: float
    seed: int
    precision: Precision
    clip: float | None
    clock: Clock
    spec: DataSpec  # what the networks need to know of the data
    normalize: Callable[[Tensor], Tensor]  # what evaluation does to pixels
    splits: dict[str, Split]  # what is evaluated: test, and val where a part of train is held out
    selections: dict[str, Selection] = field(default_factory=dict)

    @property
    def model(self) -> nn.Module:
        return self.learning.model

    @property
    def optimizer(self) -> Optimizer:
        return self.learning.optimizer

    @property
    def params(self) -> list[Tensor]:
        return self.learning.params

    @property
    def world(self) -> World:
        return self.learning.world

    @property
    def learners(self) -> list[Learning]:
        """All networks that are trained: the run's own, and those of selections."""
        return [self.learning, *(selection.learning for selection in self.selections.values())]

    @property
    def images(self) -> int:
        """Images that a step learns from: those of a batch that the selections keep."""
        selections = self.selections.values()
        return reduce(lambda images, selection: selection.kept(images), selections, self.data.batch_size)

    @property
    def total(self) -> int:
        """Steps in the whole budget."""
        return in_steps(self.epochs, self.data.steps_per_epoch)

    def progress(self, step: int) -> Progress:
        """The place of step number `step` in the budget."""
        return Progress(step, self.total, step / self.data.steps_per_epoch, self.epochs)


def train_step(run: Run, step: int) -> Tensor:
    """Take step number `step` (from 0) and return the batch's mean loss, still on the device."""
    rng = Rng(run.seed, step, 0)  # all processes prepare the same batch
    with torch.no_grad(), run.clock("data"):
        batch = run.prepare(run.data.at(step), rng)  # nothing is random after this line
    for selection in run.selections.values():
        with run.clock("select"):
            batch = selection(batch, run, step)
    images = len(batch)  # in all processes
    with torch.no_grad(), run.clock("data"):
        batch = run.finalize(batch, rng)
        run.learning.cost.count_teacher(batch.x)
    loss = optimizer_step(run, run.learning, batch, images, step)
    for average in run.averages.values():
        average.update(run.model, step)
    return loss


def optimizer_step(run: Run, learning: Learning, batch: Batch, images: int, step: int) -> Tensor:
    """Take a step of the optimizer along the mean loss, and return the loss before it.

    A step with an overflowing gradient is skipped: it changes no weight and no state of the optimizer.

    Args:
        batch: what this process has of the images.
        images: the number of images in all processes, over which the loss is averaged.
    """
    model, optimizer, scaler = learning.model, learning.optimizer, learning.scaler
    noise, progress = _noise(run, learning, step), run.progress(step)
    set_progress(optimizer, progress, run.schedule(progress.epoch, progress.epochs))
    losses: list[Tensor] = []  # of each call of the closure; the first is that before the step

    def closure() -> Tensor:
        """Leave the gradient of the mean loss in every `p.grad`, or raise Overflow."""
        noise.seed_noise()  # dropout and shake-shake draw the same on every call
        optimizer.zero_grad(set_to_none=True)
        loss = torch.zeros((), device=batch.x.device)
        for part in batch.split(learning.accumulate):
            with torch.enable_grad(), autocast(part.x.device, run.precision):
                logits = model(part.x)
                fraction = learning.loss(logits, part).sum() / images
            scaler.backward(fraction)
            learning.cost.count_backward(part.x)
            if not losses:
                learning.accuracy.add(logits, part.y)
            loss += fraction.detach()
        _reduce(learning, loss)
        losses.append(loss)
        scaler.finish(learning.params, run.clip)
        return loss

    with suppress(Overflow):
        optimizer.step(closure)
    return losses[0]


@torch.no_grad()
def forward_losses(run: Run, learning: Learning, batch: Batch, step: int) -> Tensor:  # (B,)
    """The losses of a batch, in train mode and without a step."""
    _noise(run, learning, step).seed_noise()
    with autocast(batch.x.device, run.precision):
        losses = learning.loss(learning.model(batch.x), batch)
    learning.cost.count_forward(batch.x)
    return losses


def _noise(run: Run, learning: Learning, step: int) -> Rng:
    """The random numbers within the model, which differ from process to process."""
    return Rng(run.seed, step, learning.world.rank).fold("model")


def _reduce(learning: Learning, loss: Tensor) -> None:
    """Sum losses and gradients over the processes, and average running statistics.

    After this a network is the same in all of them, buffers included. It follows the backward pass instead of
    overlapping with it: small networks have little to send, and a closure that is called twice, accumulates
    or leaves out a layer needs no special case.
    """
    if learning.world.size == 1:
        return
    norms = [m for m in learning.model.modules() if isinstance(m, _NormBase) and m.running_mean is not None]
    # Frozen ones are in eval mode, and stay the same to the last bit.
    statistics = [t for norm in norms if norm.training for t in (norm.running_mean, norm.running_var)]
    if statistics:
        torch._foreach_div_(statistics, learning.world.size)
    gradients = [p.grad for p in learning.params if p.grad is not None]
    learning.world.all_reduce([loss, *gradients, *statistics])
