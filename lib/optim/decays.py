"""Schedules that only fall: linear, polynomial, exponential, by steps, along a tanh, after a plateau."""

import math
from dataclasses import dataclass
from functools import partial
from typing import Literal

from ..core.budget import in_epochs
from ..core.contracts import PositiveTime, Time
from ..core.errors import require
from ..core.registry import schedules


@schedules.register("polynomial", aliases=("poly",), paper="Chen et al. 2016, arXiv:1606.00915")
@dataclass(frozen=True)
class Polynomial:
    """A fall from 1 to `end` along a power of the time that is left; linear is power 1."""

    power: float = 0.9  # 1 is a straight line; above, the rate falls fast at first
    end: float = 0.0  # the last factor

    def __post_init__(self):
        require(self.power > 0, "power", "above 0", self.power)
        require(self.end >= 0, "end", "at least 0", self.end)

    def __call__(self, epoch: float, epochs: float) -> float:
        return self.end + (1 - self.end) * max(0.0, 1 - epoch / epochs) ** self.power


schedules.register("linear", partial(Polynomial, power=1.0))


@schedules.register("exponential")
@dataclass(frozen=True)
class Exponential:
    """The same ratio in every epoch, from `start` to `end`; with `start` below `end` it is a rise."""

    start: float = 1.0  # the first factor
    end: float = 0.001  # the last factor

    def __post_init__(self):
        require(self.start > 0, "start", "above 0", self.start)
        require(self.end > 0, "end", "above 0", self.end)

    def __call__(self, epoch: float, epochs: float) -> float:
        return self.start * (self.end / self.start) ** (epoch / epochs)


@schedules.register("step")
@dataclass(frozen=True)
class Step:
    """A drop every so many epochs."""

    period: PositiveTime = 0.3  # time between two drops
    gamma: float = 0.1  # what the rate is multiplied by

    def __post_init__(self):
        require(self.period > 0, "period", "above 0", self.period)
        require(self.gamma > 0, "gamma", "above 0", self.gamma)

    def __call__(self, epoch: float, epochs: float) -> float:
        period = in_epochs(self.period, epochs)
        require(period <= epochs, "period", f"at most the budget of {epochs:g} epochs", self.period)
        # A share of a budget seldom is a number that floats hold, so a drop may seem to lie just ahead.
        return self.gamma ** math.floor(epoch / period + 1e-9)


@schedules.register("htd", aliases=("tanh",), paper="Hsueh et al. 2018, arXiv:1806.01593")
@dataclass(frozen=True)
class HyperbolicTangent:
    """A fall along the tanh of a line from `lower` to `upper`; neither end is quite reached."""

    lower: float = -6.0  # L of the paper: the further below 0, the longer the rate stays high
    upper: float = 3.0  # U of the paper: the further above 0, the lower it ends
    end: float = 0.0  # the factor that it falls towards

    def __post_init__(self):
        require(self.lower < self.upper, "lower", f"below upper {self.upper:g}", self.lower)
        require(self.end >= 0, "end", "at least 0", self.end)

    def __call__(self, epoch: float, epochs: float) -> float:
        place = self.lower + (self.upper - self.lower) * epoch / epochs
        return self.end + (1 - self.end) * (1 - math.tanh(place)) / 2


# The warm-up that is in its name is the section's own field, here with a default.
@schedules.register(
    "wsd",
    defaults={"warmup": 0.05},
    paper="Hu et al. 2024, arXiv:2404.06395; shapes: Hägele et al. 2024, arXiv:2405.18392",
)
@dataclass(frozen=True)
class WarmupStableDecay:
    """Warm-up, stable, decay: the base rate almost to the end, so that a budget may be prolonged."""

    cooldown: Time = 0.1  # length of the fall at the end
    end: float = 0.0  # the last factor
    shape: Literal["linear", "cosine", "sqrt"] = "linear"  # of the fall; sqrt is 1 - sqrt(share of it)

    def __post_init__(self):
        require(self.cooldown > 0, "cooldown", "above 0", self.cooldown)
        require(self.end >= 0, "end", "at least 0", self.end)

    def __call__(self, epoch: float, epochs: float) -> float:
        length = in_epochs(self.cooldown, epochs)
        require(length <= epochs, "cooldown", f"at most the budget of {epochs:g} epochs", self.cooldown)
        share = min(1.0, max(0.0, 1 - (epochs - epoch) / length))
        fallen = {"linear": share, "cosine": (1 - math.cos(math.pi * share)) / 2, "sqrt": math.sqrt(share)}
        return 1 + (self.end - 1) * fallen[self.shape]
