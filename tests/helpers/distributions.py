"""Checks of drawn numbers against their distributions, each wrong for one seed in a thousand."""

import numpy as np
from scipy import stats

LEVEL = 1e-3


def is_uniform(values, low: float = 0, high: float = 1) -> bool:
    return stats.kstest(np.asarray(values), stats.uniform(low, high - low).cdf).pvalue > LEVEL


def fits(counts, probabilities) -> bool:
    """Whether counts agree with the probabilities of their categories."""
    total = sum(counts)
    if len(counts) == 1:  # nothing is left to vary
        return list(probabilities) == [1]
    return stats.chisquare(counts, [total * p for p in probabilities]).pvalue > LEVEL


def has_fraction(count: int, total: int, fraction: float) -> bool:
    """Whether `count` of `total` agree with a probability."""
    return stats.binomtest(int(count), total, fraction).pvalue > LEVEL
