"""Schedules that rise: warm restarts (SGDR), cyclic rates, one cycle."""

import math
from dataclasses import dataclass
from typing import Literal

from ..core.budget import in_epochs
from ..core.contracts import PositiveTime
from ..core.errors import require
from ..core.registry import schedules
from .schedules import Cosine


@schedules.register("sgdr", paper="Loshchilov & Hutter 2016, arXiv:1608.03983, section 3")
@dataclass(frozen=True)
class SGDR:
    """Cosines one after another, each longer than the last: the rate restarts warm."""

    first: PositiveTime = 10.0  # length of the first cosine
    growth: float = 2.0  # each one is that much longer than the one before
    end: float = 0.0  # the last factor of every cosine

    def __post_init__(self):
        require(self.first > 0, "first", "above 0", self.first)
        require(self.growth >= 1, "growth", "at least 1", self.growth)
        require(self.end >= 0, "end", "at least 0", self.end)

    def __call__(self, epoch: float, epochs: float) -> float:
        length = in_epochs(self.first, epochs)
        require(length <= epochs, "first", f"at most the budget of {epochs:g} epochs", self.first)
        while epoch >= length:
            epoch, length = epoch - length, length * self.growth
        return Cosine(self.end)(epoch, length)


@schedules.register("cyclic", paper="Smith 2015, arXiv:1506.01186, section 3")
@dataclass(frozen=True)
class Cyclic:
    """A rate that goes up and down in straight lines, again and again."""

    half: PositiveTime = 0.1  # length of a rise, and of a fall
    start: float = 0.1  # the lowest factor, from which every cycle rises
    policy: Literal["triangular", "triangular2", "exp_range"] = "triangular"  # whether the peaks get lower
    gamma: float = 0.99  # with exp_range: what the height is multiplied by, each epoch

    def __post_init__(self):
        require(self.half > 0, "half", "above 0", self.half)
        require(0 <= self.start <= 1, "start", "from 0 to 1", self.start)
        require(0 < self.gamma <= 1, "gamma", "above 0 and at most 1", self.gamma)

    def __call__(self, epoch: float, epochs: float) -> float:
        half = in_epochs(self.half, epochs)
        require(half <= epochs, "half", f"at most the budget of {epochs:g} epochs", self.half)
        cycle, place = divmod(epoch / half, 2)
        height = {"triangular": 1.0, "triangular2": 0.5**cycle, "exp_range": self.gamma**epoch}[self.policy]
        return self.start + (1 - self.start) * height * (1 - abs(place - 1))


@schedules.register("onecycle", aliases=("one_cycle", "custom"), paper="Smith & Topin 2017, arXiv:1708.07120")
@dataclass(frozen=True)
class OneCycle:
    """Up to the base rate, and down again to the end of the budget."""

    peak: PositiveTime = 0.3  # when the rate is highest
    start: float = 0.04  # the first factor
    end: float = 0.0  # the last factor
    shape: Literal["linear", "cosine"] = "linear"  # of the way up and the way down

    def __post_init__(self):
        require(self.start >= 0, "start", "at least 0", self.start)
        require(self.end >= 0, "end", "at least 0", self.end)

    def __call__(self, epoch: float, epochs: float) -> float:
        peak = in_epochs(self.peak, epochs)
        require(0 <= peak < epochs, "peak", f"within the budget of {epochs:g} epochs", self.peak)
        if epoch < peak:
            first, last, share = self.start, 1.0, epoch / peak
        else:
            first, last, share = 1.0, self.end, (epoch - peak) / (epochs - peak)
        if self.shape == "cosine":
            share = (1 - math.cos(math.pi * share)) / 2
        return first + (last - first) * share
