"""Compare the rows of a table with its baseline: differences, p-values, minimal detectable effect."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from . import statistics
from .table import Detectable, Difference, TableRow, plain


def compare(rows: list[TableRow], paired: bool) -> list[TableRow]:
    """The rows with their differences to the baseline, with p-values adjusted for all of them."""
    home = next(row for row in rows if row.baseline)
    tests = [_test(row, home, paired) for row in rows]
    adjusted = map(plain, statistics.holm([test.p if test else np.nan for test in tests]))
    found = [
        t and Difference(*map(plain, t), p, _verdict(t, p)) for t, p in zip(tests, adjusted, strict=True)
    ]
    return [replace(row, difference=difference) for row, difference in zip(rows, found, strict=True)]


def _test(row: TableRow, home: TableRow, paired: bool) -> statistics.DifferenceTest | None:
    if row.baseline or not row.values or not home.values:
        return None
    if not paired:
        return statistics.welch(row.values, home.values)
    differences = _paired(row, home)
    return statistics.paired(differences, np.zeros(len(differences))) if differences else None


def _paired(row: TableRow, home: TableRow) -> list[float]:
    """The differences of runs with the seeds that both rows have."""
    theirs = dict(zip(home.seeds, home.values, strict=True))
    return [value - theirs[seed] for seed, value in zip(row.seeds, row.values, strict=True) if seed in theirs]


def _verdict(difference: statistics.DifferenceTest, p_holm: float | None) -> str:
    if p_holm is None:
        return "no interval"
    if difference.low <= 0 <= difference.high:
        return "no detectable difference"
    better = "better" if difference.mean > 0 else "worse"
    return better if p_holm < 1 - statistics.CONFIDENCE else f"{better}, but not after Holm"


def detectable(rows: Sequence[TableRow], paired: bool) -> Detectable | None:
    """The minimal detectable effect, at the number of runs, or of pairs, that most rows have."""
    home = next((row for row in rows if row.baseline), None)
    others = [row for row in rows if row.difference and row.difference.p is not None]
    if home is None or len(home.values) < 2 or not others:
        return None
    groups = [_paired(row, home) if paired else row.values for row in others]
    n, m = Counter(map(len, groups)).most_common(1)[0][0], None if paired else len(home.values)
    sd = statistics.pooled_sd(groups if paired else [*groups, home.values])
    level = 1 - statistics.CONFIDENCE
    alone, among = (plain(statistics.minimal_effect(sd, n, m, level / k)) for k in (1, len(others)))
    return Detectable(n, m, len(others), sd, alone, among) if alone and among else None
