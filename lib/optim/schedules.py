"""Schedules: the factor of the learning rate as a pure function of time.

A schedule takes `(epoch, epochs)`: the time since the start and the whole budget, both in epochs and both
real numbers, since the learning rate is set at every step. Points in time are epochs or, below 1, fractions
of the budget, so that a recipe can be shortened. In a training loop of your own:

    LambdaLR(optimizer, lambda step: schedule(step / steps_per_epoch, epochs))
"""

import math
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from ..core.budget import in_epochs
from ..core.contracts import NonNegative, Positive, PositiveTime, Time, validated
from ..core.errors import require
from ..core.registry import schedules

Schedule = Callable[[float, float], float]


def in_budget(argument: str, length: float, epochs: float) -> float:
    """A length of time in epochs; a ValueError that names the argument if it exceeds the budget."""
    require(in_epochs(length, epochs) <= epochs, argument, f"at most the budget of {epochs:g} epochs", length)
    return in_epochs(length, epochs)


@schedules.register("constant")
@dataclass(frozen=True)
class Constant:
    """A constant learning rate."""

    def __call__(self, *_: float) -> float:
        return 1.0


# Points in time are those of the whole run, with a warm-up or without.
WHOLE_RUN = {"warmup_clock": "shared"}


@schedules.register(
    "multistep", defaults=WHOLE_RUN, paper="Zagoruyko & Komodakis 2016, arXiv:1605.07146, section 3"
)
@dataclass(frozen=True)
class MultiStep:
    """A constant learning rate that drops at given times."""

    milestones: tuple[PositiveTime, ...] = (0.3, 0.6, 0.8)  # times at which the learning rate drops
    gamma: Positive = 0.2  # factor of each drop

    def __call__(self, epoch: float, epochs: float) -> float:
        drops = [in_epochs(m, epochs) for m in self.milestones]
        require(max(drops, default=0) < epochs, "milestones", f"within {epochs:g} epochs", self.milestones)
        return self.gamma ** sum(epoch >= drop for drop in drops)


@schedules.register("cosine", paper="Loshchilov & Hutter 2016, arXiv:1608.03983, section 3")
@dataclass(frozen=True)
class Cosine:
    """Half a cosine from 1 to `end`: slow at first, fast in the middle, slow at the end."""

    end: NonNegative = 0.0  # last factor

    def __call__(self, epoch: float, epochs: float) -> float:
        return self.end + (1 - self.end) * (1 + math.cos(math.pi * epoch / epochs)) / 2


@schedules.register("piecewise", aliases=("piecewise_linear",), defaults=WHOLE_RUN)
@dataclass(frozen=True)
class PiecewiseLinear:
    """Linear interpolation between given factors at given times."""

    points: tuple[Time, ...] = (0.0, 0.2)  # times of all factors but the last
    factors: tuple[NonNegative, ...] = (0.0, 1.0, 0.0)  # factors at these points and at the end of the budget

    def __post_init__(self):
        require(len(self.factors) == len(self.points) + 1, "factors", "one more than points", self.factors)
        require(self.points[:1] == (0.0,), "points", "a list that starts with 0", self.points)

    def __call__(self, epoch: float, epochs: float) -> float:
        knots = [*(in_epochs(p, epochs) for p in self.points), epochs]
        require(knots == sorted(set(knots)), "points", f"rising and within {epochs:g} epochs", self.points)
        right = min(bisect_right(knots, epoch), len(knots) - 1)
        left = right - 1
        fraction = (epoch - knots[left]) / (knots[right] - knots[left])
        return self.factors[left] + (self.factors[right] - self.factors[left]) * fraction


# `warmup` is a field of the section, `Warmup` below; older projects have 20 epochs of 200.
schedules.register(
    "warmcosine",
    Cosine,
    defaults={"warmup": 0.1},
    paper="Goyal et al. 2017, arXiv:1706.02677; Loshchilov & Hutter 2016, arXiv:1608.03983",
)


Clock = Literal["rest", "shared", "delayed"]


@validated
@dataclass(frozen=True)
class Warmup:
    """A rise from `warmup_start` to the first factor of a schedule, which then follows.

    The clock decides which time it gets at t of T epochs, after a warm-up of w: rest, t - w of T - w, as in
    torch's SequentialLR; shared, t of T, as with timm's `warmup_prefix=False`; delayed, t - w of T.
    """

    warmup: Time = 0.0  # length of the warm-up
    warmup_start: NonNegative = 0.0  # first factor of the warm-up
    warmup_shape: Literal["linear", "exponential"] = "linear"  # of the rise: equal steps, or equal ratios
    warmup_clock: Clock = "rest"  # the schedule spans the rest, or includes the warm-up, or starts late

    def __post_init__(self):
        if self.warmup_shape == "exponential":
            rule = "above 0, such as 1e-3, for an exponential warm-up"
            require(self.warmup_start > 0, "warmup_start", rule, self.warmup_start)

    def __call__(self, schedule: Schedule) -> Schedule:
        """The schedule after a warm-up."""
        if self.warmup == 0:
            return schedule

        def warmed(epoch: float, epochs: float) -> float:
            length = in_epochs(self.warmup, epochs)
            require(length < epochs, "warmup", f"shorter than the budget of {epochs:g} epochs", self.warmup)
            span = epochs - length if self.warmup_clock == "rest" else epochs
            if epoch >= length:
                return schedule(epoch if self.warmup_clock == "shared" else epoch - length, span)
            start, goal, fraction = self.warmup_start, schedule(0.0, span), epoch / length
            if self.warmup_shape == "exponential":
                return start * (goal / start) ** fraction
            return start + (goal - start) * fraction

        return warmed
