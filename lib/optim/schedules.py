"""Schedules: the factor of the learning rate, a pure function of time.

A schedule takes `(epoch, epochs)`: the time since the start and the whole budget, both in epochs and both
real numbers (the rate is set at every step). Its points in time are epochs, or, below 1, shares of the
budget, so that a recipe can be shortened.
"""

import math
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from ..core.budget import in_epochs
from ..core.contracts import PositiveTime, Time
from ..core.errors import require
from ..core.registry import schedules

Schedule = Callable[[float, float], float]


@schedules.register("constant")
@dataclass(frozen=True)
class Constant:
    """The base rate throughout."""

    def __call__(self, epoch: float, epochs: float) -> float:
        return 1.0


@schedules.register("multistep", paper="Zagoruyko & Komodakis 2016, arXiv:1605.07146, section 3")
@dataclass(frozen=True)
class MultiStep:
    """The same rate between given times, and at each of them a drop."""

    milestones: tuple[PositiveTime, ...] = (0.3, 0.6, 0.8)  # when the learning rate drops
    gamma: float = 0.2  # what it is multiplied by

    def __post_init__(self):
        require(all(m > 0 for m in self.milestones), "milestones", "above 0", self.milestones)
        require(self.gamma > 0, "gamma", "above 0", self.gamma)

    def __call__(self, epoch: float, epochs: float) -> float:
        drops = [in_epochs(m, epochs) for m in self.milestones]
        require(max(drops, default=0) < epochs, "milestones", f"within {epochs:g} epochs", self.milestones)
        return self.gamma ** sum(epoch >= drop for drop in drops)


@schedules.register("cosine", paper="Loshchilov & Hutter 2016, arXiv:1608.03983, section 3")
@dataclass(frozen=True)
class Cosine:
    """Half a cosine, from 1 to `end`: slow at first, fast in the middle, slow at the end."""

    end: float = 0.0  # the last factor

    def __post_init__(self):
        require(self.end >= 0, "end", "at least 0", self.end)

    def __call__(self, epoch: float, epochs: float) -> float:
        return self.end + (1 - self.end) * (1 + math.cos(math.pi * epoch / epochs)) / 2


@schedules.register("piecewise", aliases=("piecewise_linear",))
@dataclass(frozen=True)
class PiecewiseLinear:
    """Straight lines between given factors at given times."""

    points: tuple[Time, ...] = (0.0, 0.2)  # the knots before the end
    factors: tuple[float, ...] = (0.0, 1.0, 0.0)  # the factors at the knots and at the end of the budget

    def __post_init__(self):
        require(len(self.factors) == len(self.points) + 1, "factors", "one more than points", self.factors)
        require(self.points[:1] == (0.0,), "points", "a list that starts with 0", self.points)
        require(min(self.factors) >= 0, "factors", "at least 0", self.factors)

    def __call__(self, epoch: float, epochs: float) -> float:
        knots = [*(in_epochs(p, epochs) for p in self.points), epochs]
        require(knots == sorted(set(knots)), "points", f"rising and within {epochs:g} epochs", self.points)
        right = min(bisect_right(knots, epoch), len(knots) - 1)
        left = right - 1
        share = (epoch - knots[left]) / (knots[right] - knots[left])
        return self.factors[left] + (self.factors[right] - self.factors[left]) * share


# `warmup` is the default of the section's own field below, here the 20 epochs of 200 of older projects.
schedules.register(
    "warmcosine",
    Cosine,
    defaults={"warmup": 0.1},
    paper="Goyal et al. 2017, arXiv:1706.02677, section 2.2; 1608.03983",
)


@dataclass(frozen=True)
class Warmup:
    warmup: Time = 0.0  # a rise to the schedule
    warmup_start: float = 0.0  # the factor that it starts from
    warmup_shape: Literal["linear", "exponential"] = "linear"  # of the rise: the same step, or the same ratio

    def __post_init__(self):
        require(self.warmup >= 0, "warmup", "at least 0", self.warmup)
        require(self.warmup_start >= 0, "warmup_start", "at least 0", self.warmup_start)
        if self.warmup_shape == "exponential":
            rule = "above 0, as 1e-3, for a rise by ratios"
            require(self.warmup_start > 0, "warmup_start", rule, self.warmup_start)

    def __call__(self, schedule: Schedule) -> Schedule:
        """The schedule with its beginning replaced by the rise; its own clock does not move."""
        if self.warmup == 0:
            return schedule

        def warmed(epoch: float, epochs: float) -> float:
            length = in_epochs(self.warmup, epochs)
            require(length < epochs, "warmup", f"shorter than the budget of {epochs:g} epochs", self.warmup)
            if epoch >= length:
                return schedule(epoch, epochs)
            start, goal, share = self.warmup_start, schedule(length, epochs), epoch / length
            if self.warmup_shape == "exponential":
                return start * (goal / start) ** share
            return start + (goal - start) * share

        return warmed
