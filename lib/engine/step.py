"""The training step: fix a finished batch, then hand the optimizer a closure that leaves the exact gradient.

Everything random or frozen is resolved into tensors before the closure exists; after that it is a function of
weights and batch, so the optimizer may call it as often as it likes. The only forward and backward of the
project.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from ..core.batch import Batch, Loss
from ..core.budget import Progress, in_steps
from ..core.dist import SINGLE, World
from ..core.precision import LossScaler, Overflow, Precision, autocast
from ..core.rng import Rng
from ..data.base import Split
from ..graph.cost import Cost
from .log import Clock
from .lr import OptimizerLike, set_progress


class Batches(Protocol):
    """Training batches as a function of the step."""

    split: Split
    batch_size: int
    steps_per_epoch: int

    def at(self, step: int) -> Batch: ...


class Average(Protocol):
    """Watches the weights, and gives a model of its own."""

    model: nn.Module
    needs_statistics: bool  # whether BatchNorm's must be measured before the model is used

    def update(self, model: nn.Module, step: int) -> None: ...
    def state_dict(self) -> dict: ...
    def load_state_dict(self, state: dict) -> None: ...


class Selector(Protocol):
    """Picks the images of a finished batch that the step learns from, and may itself learn to."""

    def kept(self, images: int) -> int: ...  # of a batch of so many images
    def __call__(self, batch: Batch, run: "Run", step: int) -> Batch: ...
    def state_dict(self) -> dict: ...
    def load_state_dict(self, state: dict) -> None: ...


def as_it_is(batch: Batch, rng: Rng) -> Batch:
    return batch


@dataclass
class Run:
    """What a training run is made of."""

    model: nn.Module
    data: Batches
    prepare: Callable[[Batch, Rng], Batch]  # augments the batch
    loss: Loss
    optimizer: OptimizerLike
    schedule: Callable[[float, float], float]  # (epoch, epochs) -> factor of the learning rate
    averages: dict[str, Average]
    views: dict[str, Callable[..., nn.Module]]  # `(model=...)` to test-time views of it, for the end
    scaler: LossScaler
    epochs: float
    seed: int
    precision: Precision
    accumulate: int
    clip: float | None
    clock: Clock
    cost: Cost
    normalize: Callable[[Tensor], Tensor]  # what evaluation does to pixels
    splits: dict[str, Split]  # what is evaluated: test, and val where a part of train is held out
    world: World = SINGLE  # the processes that train together
    selections: dict[str, Selector] = field(default_factory=dict)
    deal: Callable[[Batch, Rng], Batch] = as_it_is  # gives each process its share, and asks the teachers

    @property
    def total(self) -> int:
        """Steps in the whole budget."""
        return in_steps(self.epochs, self.data.steps_per_epoch)

    def progress(self, step: int) -> Progress:
        """The place of step number `step` in the budget."""
        return Progress(step, self.total, step / self.data.steps_per_epoch, self.epochs)

    @property
    def images(self) -> int:
        """Images that a step learns from: of the batch that is drawn, what the selections keep."""
        kept = self.data.batch_size
        for selection in self.selections.values():
            kept = selection.kept(kept)
        return kept

    @property
    def params(self) -> list[Tensor]:
        return [p for group in self.optimizer.param_groups for p in group["params"]]


def train_step(run: Run, step: int) -> Tensor:
    """Take step number `step` (from 0) and return the batch's mean loss, still on the device."""
    rng = Rng(run.seed, step, 0)  # all processes prepare one and the same batch
    with torch.no_grad(), run.clock("data"):
        batch = run.prepare(run.data.at(step), rng)  # nothing is random after this line
    for selection in run.selections.values():
        with run.clock("select"):
            batch = selection(batch, run, step)
    images = len(batch)  # in the shares of all processes
    with torch.no_grad(), run.clock("data"):
        batch = run.deal(batch, rng)
        run.cost.count_teacher(batch.x)
    loss = optimizer_step(run, batch, images, step)
    for average in run.averages.values():
        average.update(run.model, step)
    return loss


def optimizer_step(run: Run, batch: Batch, images: int, step: int) -> Tensor:
    """Let the optimizer take a step by the mean loss of so many images, of which `batch` is a share.

    A step whose gradient overflows is skipped: it changes no weight and no state of the optimizer.
    """
    noise = _noise(run, step)
    progress = run.progress(step)
    set_progress(run.optimizer, progress, run.schedule(progress.epoch, progress.epochs))

    losses: list[Tensor] = []  # of each call of the closure; the first is that of the weights before the step

    def closure() -> Tensor:
        """Leave the gradient of the batch's mean loss in every `p.grad`, or raise Overflow."""
        noise.seed_noise()  # dropout and shake-shake draw the same on every call
        run.optimizer.zero_grad(set_to_none=True)
        loss = torch.zeros((), device=batch.x.device)
        for part in batch.split(run.accumulate):
            with torch.enable_grad(), autocast(part.x.device, run.precision):
                share = run.loss(run.model(part.x), part).sum() / images
            run.scaler.backward(share)
            run.cost.count_backward(part.x)
            loss += share.detach()
        _add_up(run, loss)
        losses.append(loss)
        run.scaler.finish(run.params, run.clip)
        return loss

    with suppress(Overflow):
        run.optimizer.step(closure)
    return losses[0]


@torch.no_grad()
def forward_losses(run: Run, batch: Batch, step: int) -> Tensor:  # (B,)
    """The losses of a batch, in train mode and without a step."""
    _noise(run, step).seed_noise()
    with autocast(batch.x.device, run.precision):
        losses = run.loss(run.model(batch.x), batch)
    run.cost.count_forward(batch.x)
    return losses


def _noise(run: Run, step: int) -> Rng:
    """The numbers of what is random within the model, where each process has its own."""
    return Rng(run.seed, step, run.world.rank).fold("model")


def _add_up(run: Run, loss: Tensor) -> None:
    """The sums of the processes' losses and gradients, and the means of their running statistics.

    After this a network is the same in all of them, buffers included. It comes after the backward pass and
    not during it: small networks have little to send, and what calls the closure twice, or accumulates, or
    leaves a layer out, needs no care.
    """
    if run.world.size == 1:
        return
    norms = [m for m in run.model.modules() if isinstance(m, _NormBase) and m.running_mean is not None]
    statistics = [t for norm in norms for t in (norm.running_mean, norm.running_var)]
    if statistics:
        torch._foreach_div_(statistics, run.world.size)
    run.world.all_reduce([loss, *(p.grad for p in run.params if p.grad is not None), *statistics])
