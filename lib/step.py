"""The training step: fix a finished batch, then hand the optimizer a closure that leaves the exact gradient.

Everything random or frozen is resolved into tensors before the closure exists; after that it is a function of
weights and batch, so the optimizer may call it as often as it likes. The only forward and backward of the
project.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from lib.batch import Batch, Loss
from lib.cost import Cost
from lib.data.base import Split
from lib.dist import ALONE, World
from lib.log import Clock
from lib.optim.pace import Stepper, freeze, set_lr, tell_time
from lib.precision import LossScaler, Precision, autocast
from lib.rng import Rng


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


@dataclass
class Run:
    """What a training run is made of."""

    model: nn.Module
    data: Batches
    prepare: Callable[[Batch, Rng], Batch]
    loss: Loss
    optimizer: Stepper
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
    world: World = ALONE  # the processes that train together

    @property
    def total(self) -> int:
        """Steps in the whole budget."""
        return max(1, round(self.epochs * self.data.steps_per_epoch))

    @property
    def params(self) -> list[Tensor]:
        return [p for group in self.optimizer.param_groups for p in group["params"]]


def train_step(run: Run, step: int) -> Tensor:
    """Take step number `step` (from 0) and return the batch's mean loss, still on the device."""
    # All processes prepare one and the same batch; only the noise of the model is each one's own.
    rng, noise = Rng(run.seed, step, 0), Rng(run.seed, step, run.world.rank).fold("model")
    with torch.no_grad(), run.clock("data"):
        batch = run.prepare(run.data.at(step), rng)  # nothing is random after this line
        run.cost.taught(batch.x)
    images = run.data.batch_size * batch.views  # in the shares of all processes
    epoch = step / run.data.steps_per_epoch
    tell_time(run.optimizer, step, run.total)
    freeze(run.optimizer, epoch, run.epochs)
    set_lr(run.optimizer, run.schedule(epoch, run.epochs), epoch, run.epochs)

    def closure() -> Tensor:
        """Leave the gradient of the batch's mean loss in every `p.grad`, or None there on fp16 overflow."""
        noise.seed_noise()  # dropout and shake-shake draw the same on every call
        run.optimizer.zero_grad(set_to_none=True)
        loss = torch.zeros((), device=batch.x.device)
        for part in batch.split(run.accumulate):
            with torch.enable_grad(), autocast(part.x.device, run.precision):
                share = run.loss(run.model(part.x), part).sum() / images
            run.scaler.backward(share)
            run.cost.trained(part.x)
            loss += share.detach()
        _add_up(run, loss)
        run.scaler.finish(run.params, run.clip)
        return loss

    loss = run.optimizer.step(closure)
    for average in run.averages.values():
        average.update(run.model, step)
    return loss


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
    run.world.add_up([loss, *(p.grad for p in run.params if p.grad is not None), *statistics])
