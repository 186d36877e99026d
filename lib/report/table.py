"""A table of runs as plain numbers: accuracies in percent, differences in points, None if unknown."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from . import statistics


@dataclass(frozen=True)
class Estimate:
    """A mean over runs. A single run, or runs that are all equal, have no interval."""

    n: int
    mean: float
    sd: float | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Difference:
    """A row minus the baseline."""

    mean: float
    low: float | None = None
    high: float | None = None
    p: float | None = None  # for this row alone
    p_holm: float | None = None  # adjusted for all rows of the table
    verdict: str = ""


@dataclass(frozen=True)
class Detectable:
    """The smallest true difference that the test finds in 80 % of such tables."""

    n: int  # runs of a row, or pairs of runs
    baseline_n: int | None  # None if the differences are taken seed by seed
    rows: int  # number of tested rows
    sd: float  # standard deviation of runs, or of the differences of pairs, pooled over the rows
    alone: float  # for a single test, in points
    among: float  # for one of the rows, if it has the smallest p-value, with Holm's correction


@dataclass(frozen=True)
class TableRow:
    name: str
    setting: str  # hash of the configuration without the seed
    baseline: bool
    ticks: dict[str, str]  # texts, by name of the column
    status: dict[str, int]  # numbers of runs, by how they ended
    seeds: tuple[int, ...]  # of the runs that ended well; `values` and `folders` have the same order
    values: tuple[float, ...]
    folders: tuple[str, ...]
    accuracy: Estimate | None  # None if no run ended well
    difference: Difference | None  # None for the baseline
    columns: dict[str, Estimate]
    seconds: float | None  # of training, mean over runs
    flops: float | None  # of training, mean over runs
    published: float | None = None
    two_level: Estimate | None = None
    two_level_difference: Difference | None = None


@dataclass(frozen=True)
class Table:
    headline: str  # label of `accuracy`
    dataset: str
    baseline: str | None  # name of the row that the others are compared with
    paired: bool  # whether the differences are taken seed by seed
    rows: tuple[TableRow, ...]  # best first
    columns: dict[str, str]  # labels of the columns on demand, by name
    detectable: Detectable | None
    left_out: tuple[tuple[str, str], ...]  # records that are not counted, and the reasons
    notes: tuple[str, ...] = ()  # shown below


def estimate(values: Sequence[float]) -> Estimate | None:
    """The mean of runs, or None if there are none."""
    return Estimate(len(values), *map(plain, statistics.student(values))) if len(values) else None


def plain(number: float) -> float | None:
    """A number, or None for nan."""
    return None if np.isnan(number) else float(number)
