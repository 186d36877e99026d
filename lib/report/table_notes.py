"""The notes below a table: the meaning of its numbers, and what limits them."""

from collections.abc import Mapping, Sequence

from .records import RunRecord
from .table import Table, TableRow


def notes(table: Table, runs: Sequence[RunRecord], published: Mapping[str, float]) -> tuple[str, ...]:
    """The notes of a table over these runs, all of which ended well."""
    found = [_numbers(table), *_differences(table), *_columns(table), *_runs(table, runs)]
    if lost := [name for name in published if name not in {row.name for row in table.rows}]:
        found.append(f"Published values without a row here: {', '.join(lost)}.")
    return tuple(found)


def _numbers(table: Table) -> str:
    last = "last epoch" in table.headline
    epoch = "that of the last epoch" if last else "interpolated between evaluated epochs"
    return (
        f"Mean ± standard deviation over n seeds, with Student's 95 % interval; the accuracy is {epoch}. "
        "A single run has no interval."
    )


def _differences(table: Table) -> list[str]:
    if table.baseline is None:
        return []
    test = (
        "by Student's paired test, on the seeds that both have"
        if table.paired
        else "by Welch's test, which allows unequal variances"
    )
    found = [
        f"Differences to {table.baseline} with their 95 % interval {test}. Each interval is for its row "
        "alone; p is adjusted for all tested rows by Holm's procedure. An interval that contains 0 shows no "
        "detectable difference, which does not mean that there is none."
    ]
    if effect := table.detectable:
        one_of = f" alone, or {effect.among:.2f} as one of {effect.rows} rows" if effect.rows > 1 else ""
        runs, of, test = (
            (f"{effect.n} pairs of runs", " of their differences", "the paired test")
            if table.paired
            else (f"{effect.n} runs against {effect.baseline_n}", "", "Welch's test")
        )
        found.append(
            f"Minimal detectable effect: with {runs} and a pooled standard deviation{of} of {effect.sd:.2f}, "
            f"{test} has 80 % power for a true difference of {effect.alone:.2f} points{one_of}."
        )
    return found


def _columns(table: Table) -> list[str]:
    found = []
    if "best" in table.columns and "test set" in table.columns["best"]:
        found.append(
            "The best epoch was chosen on the test set itself, so its accuracy is biased upwards: it does "
            "not estimate the accuracy on new images."
        )
    if "PFLOP" in table.headline:
        found.append(
            "At equal compute a longer training is measured before its schedule has annealed: a run planned "
            "for this budget would do better."
        )
    return found


def _runs(table: Table, runs: Sequence[RunRecord]) -> list[str]:
    found = []
    if partly := [f"{row.name} ({status_text(row)})" for row in table.rows if set(row.status) - {"ok"}]:
        found.append(f"The mean is only over the runs that ended well: {'; '.join(partly)}.")
    for key in ("code", "device"):
        seen = sorted({str(run.result["environment"].get(key)) for run in runs})
        if len(seen) > 1:
            costs = "; their seconds do not compare" if key == "device" else ""
            found.append(f"Runs of more than one {key}: {', '.join(seen)}{costs}.")
    return found


def status_text(row: TableRow) -> str:
    """`2 ok, 1 diverged`."""
    return ", ".join(f"{n} {status}" for status, n in sorted(row.status.items(), key=lambda s: s[0] != "ok"))
