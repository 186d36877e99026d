"""Small runs of a dense network, and an optimizer that records the gradients that the step leaves."""

from dataclasses import fields

import torch
from torch import Tensor, nn

from lib.augment.pipeline import Normalize, Step, pipeline
from lib.core.facts import Stage
from lib.core.precision import LossScaler
from lib.core.registry import augmentations, losses, optimizers, schedules, wrappers
from lib.data.base import DataSpec, Split
from lib.data.resident import Resident
from lib.engine.log import Clock
from lib.engine.step import Learning, Run, train_step
from lib.graph.cost import Cost

K, SIDE = 3, 8
CPU = torch.device("cpu")
NORMALIZE = Normalize(torch.full((3, 1, 1), 0.5), torch.full((3, 1, 1), 0.25))


def split_of(count: int = 48) -> Split:
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, (count, 3, SIDE, SIDE), generator=generator).to(torch.uint8)
    return Split(x, torch.arange(count) % K)


def dense(*between: nn.Module) -> nn.Module:
    """A small network, without BatchNorm unless it is put between."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * SIDE * SIDE, 16), nn.Tanh(), *between, nn.Linear(16, K))


# A dense layer takes images of one size only.
SIZE_KEPT = [name for name in augmentations.names() if augmentations[name].facts.stage is not Stage.RESIZE]


def run_of(model: nn.Module, *tricks: str, wrapper: str | None = None, batch_size: int = 8, **changes) -> Run:
    """A run of plain SGD with these augmentations; `changes` are fields of Run or Learning."""
    optimizer = optimizers["sgd"].build(params=[{"params": list(model.parameters())}], lr=0.05)
    if wrapper:
        optimizer = wrappers[wrapper].build(base=optimizer, model=model)
    steps = [Step(name, augmentations[name].facts.stage, augmentations[name].build()) for name in tricks]
    precision = changes.get("precision", "fp32")
    learning = {
        "model": model,
        "loss": losses["cross_entropy"].build(),
        "optimizer": optimizer,
        "scaler": LossScaler(precision),
        "cost": Cost(model),
    }
    learning |= {f.name: changes.pop(f.name) for f in fields(Learning) if f.name in changes}
    run = {
        "data": Resident(split_of(), K, batch_size, changes.get("seed", 0)),
        "prepare": pipeline([*steps, Step("normalize", Stage.NORMALIZE, NORMALIZE)]),
        "finalize": pipeline([]),
        "schedule": schedules["constant"].build(),
        "averages": {},
        "views": {},
        "epochs": 4.0,
        "seed": 0,
        "precision": precision,
        "clip": None,
        "clock": Clock(CPU),
        "spec": DataSpec((3, SIDE, SIDE), tuple("abc"), (0.5,) * 3, (0.25,) * 3),
        "normalize": NORMALIZE.pixels,
        "splits": {},
    }
    return Run(learning=Learning(**learning), **run | changes)


class Watcher:
    """An optimizer that takes no step: it calls the closure and keeps the gradients that it leaves."""

    def __init__(self, model: nn.Module, calls: int = 1):
        self.params, self.calls = list(model.parameters()), calls
        self.param_groups = [{"params": self.params, "lr": 1.0}]
        self.losses: list[Tensor] = []
        self.gradients: list[list[Tensor | None]] = []

    def zero_grad(self, set_to_none: bool = True) -> None:
        for p in self.params:
            p.grad = None

    def step(self, closure) -> Tensor:
        for _ in range(self.calls):
            self.losses.append(closure())
            self.gradients.append([None if p.grad is None else p.grad.clone() for p in self.params])
        return self.losses[0]


def gradient_of(model: nn.Module, *tricks: str, step: int = 0, **changes) -> list[Tensor]:
    watcher = Watcher(model)
    train_step(run_of(model, *tricks, optimizer=watcher, **changes), step)
    return watcher.gradients[0]


def state_of(model: nn.Module) -> list[Tensor]:
    return [tensor.clone() for tensor in model.state_dict().values()]


def equal(one: list[Tensor], other: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def norm_of(gradients: list[Tensor]) -> float:
    return torch.cat([g.flatten() for g in gradients]).double().norm().item()
