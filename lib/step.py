"""The training step: fix a finished batch, then hand the optimizer a closure that leaves the exact gradient.

Everything random or frozen is resolved into tensors before the closure exists; after that it is a function of
weights and batch, so the optimizer may call it as often as it likes. The only forward and backward of the
project.
"""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from lib.batch import Batch, Loss
from lib.cost import Cost
from lib.data.base import Split
from lib.dist import ALONE, World
from lib.log import Clock
from lib.optim.schedules import in_epochs
from lib.rng import Rng

Precision = Literal["fp32", "bf16", "fp16"]


class Batches(Protocol):
    """Training batches as a function of the step."""

    split: Split
    batch_size: int
    steps_per_epoch: int

    def at(self, step: int) -> Batch: ...


class Stepper(Protocol):
    """An optimizer, or a wrapper around one."""

    param_groups: list[dict]

    def step(self, closure: Callable[[], Tensor]) -> Tensor: ...
    def zero_grad(self, set_to_none: bool = True) -> None: ...
    def state_dict(self) -> dict: ...
    def load_state_dict(self, state: dict) -> None: ...


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
    scaler: "LossScaler"
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


def tell_time(optimizer: Stepper, step: int, total: int) -> None:
    """Tell the optimizer that this is step number `step` (from 0) of `total`."""
    for group in optimizer.param_groups:
        group["time"] = (step, total)


def set_lr(optimizer: Stepper, factor: float, epoch: float = 0.0, epochs: float = 1.0) -> None:
    """Set the rates of a point in time, at which the schedule has this factor."""
    for group in optimizer.param_groups:
        # A group that learns at another rate than the rest, or for a shorter time, has a factor of its own.
        own = max(0.0, 1 - epoch / _end(group, epochs)) if group.get("falls") else factor
        group["lr"] = group.setdefault("initial_lr", group["lr"]) * group.get("lr_scale", 1.0) * own


def freeze(optimizer: Stepper, epoch: float, epochs: float) -> None:
    """Let the groups that learn at first only have gradients in their time, and none after it."""
    for group in optimizer.param_groups:
        if "learns_until" in group:
            for p in group["params"]:
                p.requires_grad_(epoch < _end(group, epochs))


def _end(group: dict, epochs: float) -> float:
    return in_epochs(group["learns_until"], epochs)


def current_lr(optimizer: Stepper) -> float:
    """The rate of what has no factor of its own."""
    group = optimizer.param_groups[0]
    return group["lr"] / group.get("lr_scale", 1.0)


def autocast(device: torch.device, precision: Precision) -> contextlib.AbstractContextManager:
    """Convolutions and matrix products in `precision`; weights, losses and sums that need it stay in fp32."""
    if precision == "fp32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, {"bf16": torch.bfloat16, "fp16": torch.float16}[precision])


class LossScaler:
    """Keeps small fp16 gradients from vanishing (Micikevicius et al. 2017, arXiv:1710.03740, section 3.2).

    With other precisions the scale is 1 and stays so.
    """

    growth_interval = 2000  # gradients without overflow before the scale doubles

    def __init__(self, precision: Precision):
        self.dynamic = precision == "fp16"
        self.scale = 2.0**16 if self.dynamic else 1.0
        self.good_steps = 0

    def backward(self, loss: Tensor) -> None:
        (loss * self.scale if self.dynamic else loss).backward()

    def finish(self, params: list[Tensor], clip: float | None) -> None:
        """Unscale the gradients, drop them all if one overflowed, then clip their common norm."""
        gradients = [p.grad for p in params if p.grad is not None]
        if self.dynamic:
            torch._foreach_div_(gradients, self.scale)
            # The one synchronisation with the device: whether to step at all is a decision of the host.
            if not torch.isfinite(nn.utils.get_total_norm(gradients)):
                for p in params:
                    p.grad = None
                self.scale, self.good_steps = self.scale / 2, 0
                return
            self.good_steps += 1
            if self.good_steps % self.growth_interval == 0:
                self.scale *= 2
        if clip is not None:
            nn.utils.clip_grad_norm_(params, clip)

    def state_dict(self) -> dict:
        return {"scale": self.scale, "good_steps": self.good_steps}

    def load_state_dict(self, state: dict) -> None:
        self.scale, self.good_steps = state["scale"], state["good_steps"]
