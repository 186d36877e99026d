"""Stochastic weight averaging (Izmailov et al. 2018, arXiv:1803.05407, algorithm 1, a cycle being an epoch).

The rate is the schedule's: the average neither knows nor changes it. The paper's constant rate while the
average is taken is a schedule that ends flat, say at half the base rate from 0.75 of the budget on:
`--swa --schedule piecewise --points 0,0.4,0.7 --factors 1,1,0.5,0.5`. With a rate that falls to 0 (cosine)
the last weights hardly differ from one another, and their mean hardly from the last of them.
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
    """The plain mean of the weights at the ends of the last epochs, with BatchNorm statistics of its own."""

    # Its one number beside the weights, how many it is the mean of, is a function of the step.

    needs_statistics = True

    def __init__(
        self,
        model: nn.Module,
        steps_per_epoch: int,
        total: int,
        start: Time = 0.75,  # the first weights taken are those after it
    ):
        epochs = total / steps_per_epoch
        point = in_epochs(start, epochs)
        require(0 <= point <= epochs, "start", f"from 0 to the budget of {epochs:g} epochs", start)
        super().__init__(model, steps_per_epoch, total)
        self.first = max(1, math.ceil(point - 1e-9))  # 0.55 of 20 epochs is 11.000000000000002

    def update(self, model: nn.Module, step: int) -> None:
        steps = step + 1
        if steps % self.steps_per_epoch == 0 or steps == self.total:  # the last epoch may be cut short
            epoch = math.ceil(steps / self.steps_per_epoch)
            taken = max(0, epoch - self.first)  # none before the start: until then it is the latest weights
            self.move(model, 1 / (taken + 1))
