"""What pictures over the epochs take from records: the columns of metrics.jsonl, setting by setting."""

import statistics
from collections.abc import Sequence

from ...core.errors import BadInput
from ..naming import row_names
from ..records import Records, RunRecord
from ..select import LeftOut, by_setting, usable
from ..table import Table
from .lines import Line

Settings = dict[str, list[RunRecord]]  # the runs of each setting, by its name


def settings_of(records: Records, table: Table | None = None) -> tuple[Settings, list[LeftOut]]:
    """The runs whose epochs can be read, and the others with the reason.

    Args:
        table: whose rows are meant, in its order; else every setting, however its runs ended.
    Raises:
        BadInput: there are none.
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
            if why := _fault(run):
                left_out.append((str(run.folder), why))
            else:
                settings.setdefault(name, []).append(run)
    if not settings:
        why = f": {left_out[0][0]}: {left_out[0][1]}" if left_out else ""
        raise BadInput(f"no run tells its epochs{why}; give folders with runs that ended well")
    return settings, left_out


def over_seeds(name: str, runs: Sequence[RunRecord], key: str) -> Line:
    """The mean, the lowest and the highest of a column, at the epochs where every run has it."""
    columns = [{row["epoch"]: row[key] for row in run.epochs if key in row} for run in runs]
    epochs = sorted(set.intersection(*map(set, columns)))
    values = [[column[epoch] for column in columns] for epoch in epochs]
    mean = [statistics.fmean(at) for at in values]
    if len(runs) == 1:
        return Line(name, epochs, mean)
    return Line(name, epochs, mean, [min(at) for at in values], [max(at) for at in values])


def _fault(run: RunRecord) -> str | None:
    """Why a run's epochs cannot be drawn."""
    try:
        return None if run.epochs[0]["epoch"] else "its metrics.jsonl begins before the first epoch"
    except (OSError, ValueError, LookupError, TypeError) as error:
        return f"its metrics.jsonl cannot be read ({type(error).__name__})"
