"""Student's t distribution by numerical integration, as an oracle that shares no code with scipy.

With x = sqrt(df) tan(u) the density becomes cos(u)^(df - 1), which is smooth between two angles.
"""

import math
import statistics
from collections.abc import Sequence

import numpy as np

NODES, WEIGHTS = np.polynomial.legendre.leggauss(200)


def within(t: float, df: float) -> float:
    """The probability that |T| is at most t."""
    angle = math.atan(t / math.sqrt(df))
    inner = angle * (WEIGHTS * np.cos(angle * NODES) ** (df - 1)).sum()
    whole = math.sqrt(math.pi) * math.exp(math.lgamma(df / 2) - math.lgamma((df + 1) / 2))
    return inner / whole


def limit(probability: float, df: float) -> float:
    """The t for which `within(t, df)` is this probability, by bisection."""
    low, high = 0.0, 1e6
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if within(middle, df) < probability else (low, middle)
    return low


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Student's 95 % interval of a mean."""
    return _interval(statistics.fmean(values), _error(values), len(values) - 1)


def paired(values: Sequence[float], baseline: Sequence[float]) -> tuple[float, float, float]:
    """The 95 % interval and p-value of the mean of paired differences."""
    differences = [a - b for a, b in zip(values, baseline, strict=True)]
    mean, error, df = statistics.fmean(differences), _error(differences), len(differences) - 1
    return *_interval(mean, error, df), 1 - within(abs(mean) / error, df)


def welch(values: Sequence[float], baseline: Sequence[float]) -> tuple[float, float, float]:
    """The 95 % interval and p-value of a difference of means, with Satterthwaite's degrees of freedom."""
    mean = statistics.fmean(values) - statistics.fmean(baseline)
    a, b = _error(values) ** 2, _error(baseline) ** 2
    df = (a + b) ** 2 / (a**2 / (len(values) - 1) + b**2 / (len(baseline) - 1))
    return *_interval(mean, math.sqrt(a + b), df), 1 - within(abs(mean) / math.sqrt(a + b), df)


def _error(values: Sequence[float]) -> float:
    return statistics.stdev(values) / math.sqrt(len(values))


def _interval(mean: float, error: float, df: float) -> tuple[float, float]:
    half = limit(0.95, df) * error
    return mean - half, mean + half
