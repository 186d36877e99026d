"""What a table of runs is, as plain numbers: accuracies in percent, differences in percentage points.

None stands for a number that there is not.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from . import statistics


@dataclass(frozen=True)
class Estimate:
    """A mean over runs. There is no interval of a single run, nor of runs that are all equal."""

    n: int
    mean: float
    sd: float | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Difference:
    """A row less the baseline."""

    mean: float
    low: float | None = None
    high: float | None = None
    p: float | None = None  # of this row alone
    p_holm: float | None = None  # adjusted for all the rows of the table
    verdict: str = ""


@dataclass(frozen=True)
class Detectable:
    """The smallest true difference that Welch's test would find in 80 % of such tables."""

    n: int  # runs of a row
    baseline_n: int
    rows: int  # that are tested
    sd: float  # of the runs, pooled over the rows
    alone: float  # for a row by itself, in points
    among: float  # for one of the rows, where its p-value is the first that Holm's procedure looks at


@dataclass(frozen=True)
class TableRow:
    name: str
    setting: str  # hash of the configuration but for the seed
    baseline: bool
    ticks: dict[str, str]  # by the names asked for
    status: dict[str, int]  # how many runs ended how
    seeds: tuple[int, ...]  # of the runs that ended well; `values` and `folders` are in their order
    values: tuple[float, ...]
    folders: tuple[str, ...]
    accuracy: Estimate | None  # of the headline; None where no run ended well
    difference: Difference | None  # None for the baseline
    columns: dict[str, Estimate]
    seconds: float | None  # of training, the mean of a run
    flops: float | None  # of training, the mean of a run
    published: float | None = None
    two_level: Estimate | None = None
    two_level_difference: Difference | None = None


@dataclass(frozen=True)
class Table:
    headline: str  # what `accuracy` is
    dataset: str
    baseline: str | None  # the row that the others are compared with
    paired: bool  # whether the differences are taken seed by seed
    rows: tuple[TableRow, ...]  # the best first
    columns: dict[str, str]  # what the columns on demand are, by name
    detectable: Detectable | None
    left_out: tuple[tuple[str, str], ...]  # records that no row counts, and why
    notes: tuple[str, ...] = ()  # what a reader must know


def estimate(values: Sequence[float]) -> Estimate | None:
    """The mean of runs; None of no run."""
    return Estimate(len(values), *map(plain, statistics.student(values))) if len(values) else None


def plain(number: float) -> float | None:
    return None if np.isnan(number) else float(number)
