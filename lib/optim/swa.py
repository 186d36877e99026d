"""Stochastic weight averaging (Izmailov et al. 2018, arXiv:1803.05407, algorithm 1, cycles of one epoch).

The average does not change the learning rate. The paper's constant learning rate during averaging is a
schedule that ends flat, for example at half the base learning rate from 0.75 of the budget on:
`--swa --schedule piecewise --points 0,0.4,0.7 --factors 1,1,0.5,0.5`. With a learning rate that falls to 0
(cosine) the last weights are almost equal, and so is their mean.
"""

import math

from torch import nn

from ..core.budget import in_epochs
from ..core.contracts import Time
from ..core.errors import require
from ..core.registry import averages
from .average import WeightAverage


@averages.register("swa", paper="Izmailov et al. 2018, arXiv:1803.05407")
class SWA(WeightAverage):
    """The mean of the weights at the ends of the last epochs, with BatchNorm statistics measured for it.

    Args:
        model: the one that is trained.
        total: updates in the whole training.
        steps_per_epoch: updates per epoch; 1 where `update` is called at the end of each epoch.
    """

    # The number of averaged weights is a function of the step, so it is not in the state.

    needs_statistics = True

    def __init__(
        self,
        model: nn.Module,
        total: int,
        steps_per_epoch: int = 1,
        start: Time = 0.75,  # weights are averaged from the first end of an epoch after this time
    ):
        epochs = total / steps_per_epoch
        point = in_epochs(start, epochs)
        require(point <= epochs, "start", f"within the budget of {epochs:g} epochs", start)
        super().__init__(model)
        self.total, self.steps_per_epoch = total, steps_per_epoch
        self.first = max(1, math.ceil(point - 1e-9))  # 0.55 of 20 epochs is 11.000000000000002

    def weight(self, step: int) -> float:
        steps = step + 1
        if steps % self.steps_per_epoch and steps != self.total:  # the last epoch may be incomplete
            return 0.0
        epoch = math.ceil(steps / self.steps_per_epoch)
        averaged = max(0, epoch - self.first)  # 0 before the start: until then, keep the latest weights
        return 1 / (averaged + 1)
