"""Columns of metrics.jsonl over the epochs, setting by setting."""

import statistics
from collections.abc import Sequence
from typing import Any

from ...core.errors import BadInput
from ..records import Records, RunRecord
from ..run_filter import LeftOut, by_setting, usable
from ..setting_names import row_names
from ..table import Table
from .lines import Line

Settings = dict[str, list[RunRecord]]  # the runs of each setting, by its name


def settings_of(records: Records, table: Table | None = None) -> tuple[Settings, list[LeftOut]]:
    """The runs with readable epochs, and the others with the reason; BadInput if there are none.

    Args:
        table: use its rows, in its order; else every setting, including runs that did not end well.
    """
    if table:
        by_folder = {str(run.folder): run for run in records.runs}
        named = {row.name: [by_folder[folder] for folder in row.folders] for row in table.rows}
        left_out = []
    else:
        runs, left_out = usable(records)
        rows = by_setting(runs)
        names = row_names(rows)
        named = {names[setting]: of for setting, of in rows.items()}
    settings: Settings = {}
    for name, runs in named.items():
        for run in runs:
            if why := fault(run):
                left_out.append((str(run.folder), why))
            else:
                settings.setdefault(name, []).append(run)
    if not settings:
        why = f": {left_out[0][0]}: {left_out[0][1]}" if left_out else ""
        raise BadInput(f"no run has readable epochs{why}; give folders with runs that ended well")
    return settings, left_out


def over_seeds(name: str, runs: Sequence[list[dict[str, Any]]], key: str) -> Line:
    """The mean, lowest and highest value of a column, at the epochs for which every run has it."""
    columns = [{at["epoch"]: at[key] for at in rows if isinstance(at.get(key), int | float)} for rows in runs]
    epochs = sorted(set.intersection(*map(set, columns)))
    values = [[column[epoch] for column in columns] for epoch in epochs]
    mean = [statistics.fmean(at) for at in values]
    if len(runs) == 1:
        return Line(name, epochs, mean)
    return Line(name, epochs, mean, [min(at) for at in values], [max(at) for at in values])


def fault(run: RunRecord) -> str | None:
    """The reason why a run's epochs cannot be drawn, or None."""
    try:
        epochs = [row["epoch"] for row in run.epochs]
        return None if epochs and min(epochs) > 0 else "its metrics.jsonl has no epoch"
    except (OSError, ValueError, LookupError, TypeError) as error:
        return f"its metrics.jsonl cannot be read ({type(error).__name__})"
