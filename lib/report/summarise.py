"""A table of settings from run records, as data; lib.report.render formats it.

A row is a setting (a configuration without the seed) over the runs that ended well. A run that diverged or
was interrupted has no last epoch, so it is left out of the mean and only counted in its row.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import inf
from statistics import fmean

from ..core.errors import BadInput, nearest
from .compare import compare, detectable
from .records import Records, RunRecord
from .run_filter import by_setting, comparable_runs, usable
from .run_metrics import RunMetric, accuracy_at, flops, headline, run_metric, seconds
from .setting_names import own_name, row_names, tick_columns
from .table import Table, TableRow, estimate
from .table_notes import notes
from .two_level import over_images

HEADLINE = "test accuracy of the last epoch, %"


def summarise(
    records: Records,
    baseline: str | None = None,
    ticks: Sequence[str] = (),
    columns: Sequence[str] = (),
    published: Mapping[str, float] | None = None,
    paired: bool = False,
    two_level: bool = False,
    match_compute: bool = False,
) -> Table:
    """The table of these records.

    Args:
        baseline: name of a row, of its folder, or hash of its setting.
        ticks: settings, in any spelling, that describe the rows.
        columns: additional columns, as lib.report.run_metrics.run_metric names them.
        published: accuracies in percent, by names of rows.
        paired: take differences seed by seed, on the seeds that both have.
        two_level: add intervals over seeds and test images together, from the runs' predictions.
        match_compute: compare accuracies at the total training cost of the cheapest run.
    Raises:
        BadInput: there are several data sets, a name matches nothing or several things, or the records do not
            contain what is needed.
    """
    if two_level and match_compute:
        raise BadInput("--two-level uses the predictions of the last epoch: remove --match-compute")
    runs, left_out = usable(records)
    home = _find(baseline, by_setting(runs)) if baseline else None
    chosen = comparable_runs(runs, home)
    names = row_names(chosen.rows)
    left_out, two_level_notes = left_out + chosen.left_out, []
    ended_well = [run for runs in chosen.rows.values() for run in runs if run.status == "ok"]
    wanted = [run_metric(name, ended_well) for name in columns]
    ticked = tick_columns(ticks, chosen.rows)
    measure, label = headline, HEADLINE
    if match_compute:
        measure, label = _matched(ended_well)
        unknown = [run for run in ended_well if measure(run) is None]
        left_out += [(str(run.folder), "its record has no accuracy at this budget") for run in unknown]
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
        rows = compare(rows, paired)
    if two_level:
        rows, two_level_notes = over_images(rows, ended_well, paired)
    rows.sort(key=lambda row: -row.accuracy.mean if row.accuracy else inf)
    table = Table(
        headline=label,
        dataset=chosen.dataset,
        baseline=names[home] if home else None,
        paired=paired,
        rows=tuple(rows),
        columns={c.name: c.label for c in wanted},
        detectable=detectable(rows, paired),
        left_out=tuple(left_out),
    )
    return replace(table, notes=(*notes(table, ended_well, published), *two_level_notes))


def _find(name: str, rows: Mapping[str, Sequence[RunRecord]]) -> str:
    """The setting with this name."""
    names = row_names(rows)
    found = [setting for setting in rows if name in (names[setting], setting)]
    found = found or [s for s, runs in rows.items() if name in map(own_name, runs)]
    if len(found) > 1:
        fitting = ", ".join(f"{names[setting]!r} ({setting})" for setting in found)
        raise BadInput(f"baseline {name!r} matches {len(found)} settings: {fitting}; give one name or hash")
    if not found:
        hint = nearest(name, names.values()) or f"the rows are {', '.join(names.values())}"
        raise BadInput(f"there is no row {name!r} for the baseline: {hint}")
    return found[0]


def _row(runs: Sequence[RunRecord], measure: Callable, wanted: Sequence[RunMetric]) -> TableRow:
    done = [run for run in runs if run.status == "ok" and measure(run) is not None]
    values = tuple(float(measure(run)) for run in done)
    extra = {c.name: [v for run in done if (v := c.read(run)) is not None] for c in wanted}
    return TableRow(
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
        seconds=_mean([seconds(run) for run in done]),
        flops=_mean([flops(run) for run in done]),
    )


def _matched(runs: Sequence[RunRecord]) -> tuple[Callable[[RunRecord], float | None], str]:
    """A measure of accuracy at the total training cost of the cheapest run, and its label."""
    costs = [cost for run in runs if (cost := flops(run))]
    if not costs:
        raise BadInput(
            "no record has the cost of training (train_flops), so runs cannot be compared at equal compute"
        )
    budget = min(costs)
    label = f"test accuracy after {budget / 1e15:.3g} PFLOP of training, %"
    return lambda run: accuracy_at(run, budget), label


def _mean(values: Sequence[float | None]) -> float | None:
    """The mean; None if any value is missing."""
    return fmean(values) if values and None not in values else None
