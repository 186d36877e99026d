"""What a reader of a table must know beside its numbers, in sentences."""

from collections.abc import Mapping, Sequence

from .records import RunRecord
from .table import Table, TableRow


def notes(table: Table, runs: Sequence[RunRecord], published: Mapping[str, float]) -> tuple[str, ...]:
    """The notes of a table over `runs`, those that ended well."""
    told = [_numbers(table), *_differences(table), *_columns(table), *_runs(table, runs)]
    if lost := [name for name in published if name not in {row.name for row in table.rows}]:
        told.append(f"Published values without a row here: {', '.join(lost)}.")
    return tuple(told)


def _numbers(table: Table) -> str:
    ends = "the last epoch's" if "last epoch" in table.headline else "interpolated between evaluated epochs"
    return (
        f"Mean ± standard deviation over n seeds, with Student's 95 % interval; the accuracy is {ends}. "
        "A single run has no interval."
    )


def _differences(table: Table) -> list[str]:
    if table.baseline is None:
        return []
    test = (
        "taken seed by seed, on the seeds that both have (Student's test of paired differences)"
        if table.paired
        else "by Welch's test, which allows for unequal spreads"
    )
    told = [
        f"Differences to {table.baseline} with their 95 % interval {test}; each interval is of its row "
        "alone, p is adjusted for all tested rows by Holm's procedure. An interval that holds 0 shows no "
        "detectable difference, which does not mean that there is none."
    ]
    if found := table.detectable:
        one_of = f" by itself, or {found.among:.2f} as one of {found.rows} rows" if found.rows > 1 else ""
        told.append(
            f"Minimal detectable effect: with {found.n} runs against {found.baseline_n}, whose standard "
            f"deviation is {found.sd:.2f} (pooled), Welch's test finds a true difference in 80 % of the "
            f"cases where it is {found.alone:.2f} points{one_of}."
        )
    return told


def _columns(table: Table) -> list[str]:
    told = []
    if "best" in table.columns and "test set" in table.columns["best"]:
        told.append(
            "The best epoch was chosen on the test set itself, so its accuracy is too good: no estimate of "
            "what new images would give."
        )
    if "PFLOP" in table.headline:
        told.append(
            "At equal compute a longer training is judged on its way, before its schedule has annealed: a "
            "run planned for this budget would do better."
        )
    return told


def _runs(table: Table, runs: Sequence[RunRecord]) -> list[str]:
    told = []
    if partly := [f"{row.name} ({status_text(row)})" for row in table.rows if set(row.status) - {"ok"}]:
        told.append(f"The mean is over the runs that ended well only: {'; '.join(partly)}.")
    for what, key in (("code", "code"), ("device", "device")):
        seen = sorted({str(run.result["environment"].get(key)) for run in runs})
        if len(seen) > 1:
            costs = "; seconds of one are not those of the other" if key == "device" else ""
            told.append(f"Runs of more than one {what}: {', '.join(seen)}{costs}.")
    return told


def status_text(row: TableRow) -> str:
    """`2 ok, 1 diverged`."""
    return ", ".join(f"{n} {status}" for status, n in sorted(row.status.items(), key=lambda s: s[0] != "ok"))
