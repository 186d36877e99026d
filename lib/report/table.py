"""A table of settings from run records, as data: `summarise` gives numbers, lib.report.render draws them.

A row is a setting, that is all of a configuration but the seed, over the runs that ended well. A run that
diverged or was interrupted has no last epoch, so it is in no mean; it is counted in its row.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean

import numpy as np

from lib.errors import BadInput, nearest
from lib.report import statistics
from lib.report.measures import Column, accuracy_at, column, headline
from lib.report.naming import own_name, row_names, tick_columns
from lib.report.notes import notes
from lib.report.records import Records, RunRecord
from lib.report.select import by_setting, select, usable

HEADLINE = "test accuracy of the last epoch, %"


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
class Row:
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
    rows: tuple[Row, ...]  # the best first
    columns: dict[str, str]  # what the columns on demand are, by name
    detectable: Detectable | None
    left_out: tuple[tuple[str, str], ...]  # records that no row counts, and why
    notes: tuple[str, ...] = field(default=())  # what a reader must know


def summarise(
    records: Records,
    baseline: str | None = None,
    ticks: Sequence[str] = (),
    columns: Sequence[str] = (),
    published: Mapping[str, float] | None = None,
    paired: bool = False,
    match_compute: bool = False,
) -> Table:
    """The table of these records.

    Args:
        baseline: a row's name, its folder's, or its setting's hash.
        ticks: settings, by any spelling, that describe the rows.
        columns: what to show beside the headline, as lib.report.measures.column has it.
        published: in percent, by the rows' names.
    Raises:
        BadInput: the records are of several data sets, or a name fits no row, column or setting, or several.
    """
    runs, left_out = usable(records)
    home = _find(baseline, by_setting(runs)) if baseline else None
    chosen = select(runs, home)
    names = row_names(chosen.rows)
    left_out += chosen.left_out
    ended_well = [run for runs in chosen.rows.values() for run in runs if run.status == "ok"]
    wanted = [column(name, ended_well) for name in columns]
    ticked = tick_columns(ticks, chosen.rows)
    measure, label = headline, HEADLINE
    if match_compute:
        measure, label = _matched(ended_well)
        untold = [run for run in ended_well if measure(run) is None]
        left_out += [(str(run.folder), "it does not tell its accuracy at this budget") for run in untold]
    published = published or {}
    rows = [
        replace(
            _row(of, measure, wanted),
            name=names[setting],
            baseline=setting == home,
            ticks=ticked[setting],
            published=published.get(names[setting]),
        )
        for setting, of in chosen.rows.items()
    ]
    if home:
        rows = _compare(rows, paired)
    rows.sort(key=lambda row: -row.accuracy.mean if row.accuracy else np.inf)
    table = Table(
        headline=label,
        dataset=chosen.dataset,
        baseline=names[home] if home else None,
        paired=paired,
        rows=tuple(rows),
        columns={c.name: c.label for c in wanted},
        detectable=_detectable(rows),
        left_out=tuple(left_out),
    )
    return replace(table, notes=notes(table, ended_well, published))


def _find(name: str, rows: Mapping[str, Sequence[RunRecord]]) -> str:
    """The setting that `name` means."""
    names = row_names(rows)
    found = [setting for setting in rows if name in (names[setting], setting)]
    found = found or [s for s, runs in rows.items() if name in map(own_name, runs)]
    if len(found) > 1:
        fitting = ", ".join(f"{names[setting]!r} ({setting})" for setting in found)
        raise BadInput(
            f"baseline {name!r} fits {len(found)} settings: {fitting}; give the name or hash of one"
        )
    if not found:
        hint = nearest(name, names.values()) or f"the rows are {', '.join(names.values())}"
        raise BadInput(f"baseline {name!r} is no row: {hint}")
    return found[0]


def _row(runs: Sequence[RunRecord], measure: Callable, wanted: Sequence[Column]) -> Row:
    done = [run for run in runs if run.status == "ok" and measure(run) is not None]
    values = tuple(float(measure(run)) for run in done)
    extra = {c.name: [v for run in done if (v := c.read(run)) is not None] for c in wanted}
    return Row(
        name="",
        setting=runs[0].setting,
        baseline=False,
        ticks={},
        status=dict(Counter(run.status for run in runs)),
        seeds=tuple(run.seed for run in done),
        values=values,
        folders=tuple(str(run.folder) for run in done),
        accuracy=estimate(values),
        difference=None,
        columns={name: estimate(found) for name, found in extra.items() if found},
        seconds=_mean([run.result.get("seconds", {}).get("train") for run in done]),
        flops=_mean([run.result.get("train_flops") for run in done]),
    )


def estimate(values: Sequence[float]) -> Estimate | None:
    """The mean of runs as plain numbers; None of no run."""
    return Estimate(len(values), *map(_plain, statistics.student(values))) if len(values) else None


def _compare(rows: list[Row], paired: bool) -> list[Row]:
    """The rows with their differences to the baseline; the p-values are adjusted over all of them."""
    home = next(row for row in rows if row.baseline)
    differences = {row.setting: _difference(row, home, paired) for row in rows}
    adjusted = statistics.holm([np.nan if d is None else d.p for d in differences.values()])
    told = {}
    for (setting, d), p_holm in zip(differences.items(), map(_plain, adjusted), strict=True):
        told[setting] = d and Difference(
            *(_plain(x) for x in (d.mean, d.low, d.high, d.p)), p_holm, _verdict(d, p_holm)
        )
    return [replace(row, difference=told[row.setting]) for row in rows]


def _difference(row: Row, home: Row, paired: bool) -> statistics.Difference | None:
    if row.baseline or not row.values or not home.values:
        return None
    if not paired:
        return statistics.welch(row.values, home.values)
    mine, theirs = (dict(zip(r.seeds, r.values, strict=True)) for r in (row, home))
    common = [seed for seed in mine if seed in theirs]
    return statistics.paired([mine[s] for s in common], [theirs[s] for s in common]) if common else None


def _verdict(difference: statistics.Difference, p_holm: float | None) -> str:
    if p_holm is None:
        return "no interval"
    if difference.low <= 0 <= difference.high:
        return "no detectable difference"
    better = "better" if difference.mean > 0 else "worse"
    return better if p_holm < 1 - statistics.CONFIDENCE else f"{better}, but not after Holm"


def _detectable(rows: Sequence[Row]) -> Detectable | None:
    """At the number of runs that most rows have."""
    home = next((row for row in rows if row.baseline), None)
    others = [row for row in rows if row.difference and row.difference.p is not None]
    if home is None or len(home.values) < 2 or not others:
        return None
    n, m = Counter(len(row.values) for row in others).most_common(1)[0][0], len(home.values)
    sd = statistics.pooled_sd([row.values for row in (home, *others)])
    level = 1 - statistics.CONFIDENCE
    alone, among = (_plain(statistics.minimal_effect(sd, n, m, level / k)) for k in (1, len(others)))
    return Detectable(n, m, len(others), sd, alone, among) if alone and among else None


def _matched(runs: Sequence[RunRecord]) -> tuple[Callable[[RunRecord], float | None], str]:
    """Accuracy when training had cost as much as the cheapest run costs in all."""
    costs = [run.result["train_flops"] for run in runs if run.result.get("train_flops")]
    if not costs:
        raise BadInput(
            "no run says what its training cost (train_flops): there is no equal compute to compare at"
        )
    budget = min(costs)
    return lambda run: accuracy_at(
        run, budget
    ), f"test accuracy after {budget / 1e15:.3g} PFLOP of training, %"


def _mean(values: Sequence[float | None]) -> float | None:
    """The mean; None unless each run says its number."""
    return fmean(values) if values and None not in values else None


def _plain(number: float) -> float | None:
    return None if np.isnan(number) else float(number)
