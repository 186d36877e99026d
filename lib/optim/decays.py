"""Schedules that only fall: linear, polynomial, exponential, step, tanh, and warm-up-stable-decay."""

import math
from dataclasses import dataclass
from functools import partial
from typing import Literal

from ..core.contracts import NonNegative, Positive, PositiveTime
from ..core.errors import require
from ..core.registry import schedules
from .schedules import WHOLE_RUN, in_budget


@schedules.register("polynomial", aliases=("poly",), paper="Chen et al. 2016, arXiv:1606.00915")
@dataclass(frozen=True)
class Polynomial:
    """A fall from 1 to `end` as a power of the remaining time."""

    power: Positive = 0.9  # 1 is linear; higher powers fall faster at first
    end: NonNegative = 0.0  # last factor

    def __call__(self, epoch: float, epochs: float) -> float:
        return self.end + (1 - self.end) * max(0.0, 1 - epoch / epochs) ** self.power


schedules.register("linear", partial(Polynomial, power=1.0))


@schedules.register("exponential")
@dataclass(frozen=True)
class Exponential:
    """The same ratio in every epoch, from `start` to `end`; it rises where `start` is below `end`."""

    start: Positive = 1.0  # first factor
    end: Positive = 0.001  # last factor

    def __call__(self, epoch: float, epochs: float) -> float:
        return self.start * (self.end / self.start) ** (epoch / epochs)


@schedules.register("step", defaults=WHOLE_RUN)
@dataclass(frozen=True)
class Step:
    """A drop after every period."""

    period: PositiveTime = 0.3  # time between two drops
    gamma: Positive = 0.1  # factor of each drop

    def __call__(self, epoch: float, epochs: float) -> float:
        period = in_budget("period", self.period, epochs)
        # Tolerance for rounding: a fraction of the budget is rarely exact in floating point.
        return self.gamma ** math.floor(epoch / period + 1e-9)


@schedules.register("htd", aliases=("tanh",), paper="Hsueh et al. 2018, arXiv:1806.01593")
@dataclass(frozen=True)
class HyperbolicTangent:
    """A fall along tanh from `lower` to `upper`, which reaches neither 1 nor `end` exactly."""

    lower: float = -6.0  # L in the paper: the lower, the longer the learning rate stays high
    upper: float = 3.0  # U in the paper: the higher, the lower the last factor
    end: NonNegative = 0.0  # limit of the factor

    def __post_init__(self):
        require(self.lower < self.upper, "lower", f"below upper {self.upper:g}", self.lower)

    def __call__(self, epoch: float, epochs: float) -> float:
        place = self.lower + (self.upper - self.lower) * epoch / epochs
        return self.end + (1 - self.end) * (1 - math.tanh(place)) / 2


# The warm-up in its name is a field of the section, with a default here.
@schedules.register(
    "wsd",
    defaults=WHOLE_RUN | {"warmup": 0.05},
    paper="Hu et al. 2024, arXiv:2404.06395; shapes: Hägele et al. 2024, arXiv:2405.18392",
)
@dataclass(frozen=True)
class WarmupStableDecay:
    """Warm-up, stable, decay: constant almost to the end, so that a budget can be extended."""

    cooldown: PositiveTime = 0.1  # length of the decay at the end
    end: NonNegative = 0.0  # last factor
    shape: Literal["linear", "cosine", "sqrt"] = "linear"  # of the decay; sqrt: 1 - sqrt of its fraction

    def __call__(self, epoch: float, epochs: float) -> float:
        length = in_budget("cooldown", self.cooldown, epochs)
        part = min(1.0, max(0.0, 1 - (epochs - epoch) / length))
        decayed = {"linear": part, "cosine": (1 - math.cos(math.pi * part)) / 2, "sqrt": math.sqrt(part)}
        return 1 + (self.end - 1) * decayed[self.shape]
