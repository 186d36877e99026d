"""Schedules that rise: warm restarts (SGDR), cyclic learning rates, one cycle."""

import math
from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Interval

from ..core.budget import in_epochs
from ..core.contracts import Fraction, NonNegative, PositiveTime
from ..core.errors import require
from ..core.registry import schedules
from .schedules import Cosine, in_budget


@schedules.register("sgdr", paper="Loshchilov & Hutter 2016, arXiv:1608.03983, section 3")
@dataclass(frozen=True)
class SGDR:
    """A cosine that restarts, each cycle longer than the last."""

    first: PositiveTime = 10.0  # length of the first cycle
    growth: Annotated[float, Ge(1)] = 2.0  # ratio of the lengths of successive cycles
    end: NonNegative = 0.0  # last factor of every cycle

    def __call__(self, epoch: float, epochs: float) -> float:
        length = in_budget("first", self.first, epochs)
        while epoch >= length:
            epoch, length = epoch - length, length * self.growth
        return Cosine(self.end)(epoch, length)


@schedules.register("cyclic", paper="Smith 2015, arXiv:1506.01186, section 3")
@dataclass(frozen=True)
class Cyclic:
    """A learning rate that rises and falls linearly, in cycles."""

    half: PositiveTime = 0.1  # length of a rise, and of a fall
    start: Annotated[float, Interval(ge=0, lt=1)] = 0.1  # lowest factor, from which every cycle rises
    policy: Literal["triangular", "triangular2", "exp_range"] = "triangular"  # height of the peaks over time
    gamma: Fraction = 0.99  # decay of the peaks per epoch, for exp_range

    def __call__(self, epoch: float, epochs: float) -> float:
        half = in_budget("half", self.half, epochs)
        cycle, place = divmod(epoch / half, 2)
        height = {"triangular": 1.0, "triangular2": 0.5**cycle, "exp_range": self.gamma**epoch}[self.policy]
        return self.start + (1 - self.start) * height * (1 - abs(place - 1))


@schedules.register("onecycle", aliases=("one_cycle", "custom"), paper="Smith & Topin 2017, arXiv:1708.07120")
@dataclass(frozen=True)
class OneCycle:
    """One rise to the base learning rate, and one fall to the end of the budget."""

    peak: PositiveTime = 0.3  # time of the highest learning rate
    start: NonNegative = 0.04  # first factor
    end: NonNegative = 0.0  # last factor
    shape: Literal["linear", "cosine"] = "linear"  # of the rise and the fall

    def __call__(self, epoch: float, epochs: float) -> float:
        peak = in_epochs(self.peak, epochs)
        require(peak < epochs, "peak", f"within the budget of {epochs:g} epochs", self.peak)
        if epoch < peak:
            first, last, part = self.start, 1.0, epoch / peak
        else:
            first, last, part = 1.0, self.end, (epoch - peak) / (epochs - peak)
        if self.shape == "cosine":
            part = (1 - math.cos(math.pi * part)) / 2
        return first + (last - first) * part
