"""A network that learns beside the run's own, from the same batches, in the same way and at the same time."""

from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from ..core.batch import Loss
from ..core.dist import SINGLE
from ..core.precision import LossScaler
from ..engine.lr import OptimizerLike
from ..engine.step import Run
from ..graph.cost import Cost


@dataclass(frozen=True)
class Learner:
    model: nn.Module
    loss: Loss
    optimizer: OptimizerLike
    scaler: LossScaler
    cost: Cost

    def within(self, run: Run) -> Run:
        """The run as this network has it: whole batches at once, in one process, and nothing else beside."""
        mine = {"model": self.model, "loss": self.loss, "optimizer": self.optimizer}
        mine |= {"scaler": self.scaler, "cost": self.cost}
        return replace(run, **mine, averages={}, selections={}, accumulate=1, world=SINGLE)

    def state_dict(self) -> dict[str, Any]:
        parts = {"model": self.model, "optimizer": self.optimizer, "scale": self.scaler}
        return {name: part.state_dict() for name, part in parts.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scale"])
