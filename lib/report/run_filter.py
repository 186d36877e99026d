"""Choose the records of a table: of one data set, with the same test images, each seed of a setting once.

Records that are not counted are listed with the reason.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from ..core.errors import BadInput
from .records import Records, RunRecord

KINDS = {"seed": int, "status": str, "config": str, "config_diff": dict, "dataset": str, "environment": dict}
LeftOut = tuple[str, str]  # a folder or file, and the reason


@dataclass(frozen=True)
class ComparableRuns:
    dataset: str
    rows: dict[str, list[RunRecord]]  # by setting, ordered by path; includes runs that did not end well
    left_out: list[LeftOut]


def usable(records: Records) -> tuple[list[RunRecord], list[LeftOut]]:
    """The valid records, each seed of a setting once, and the others with the reason.

    Of two runs of one seed, the one that ended well counts: a repetition is not an independent run.
    """
    left_out = [(str(path), why) for path, why in records.left_out]
    counted: dict[tuple[str, int], RunRecord] = {}
    for run in sorted(records.runs, key=lambda run: run.status != "ok"):
        key = (run.setting, run.seed)
        if why := _fault(run):
            left_out.append((str(run.folder), why))
        elif key in counted:
            first = counted[key].folder
            left_out.append((str(run.folder), f"seed {run.seed} of this setting is already in {first}"))
        else:
            counted[key] = run
    kept = set(map(id, counted.values()))
    return [run for run in records.runs if id(run) in kept], left_out


def by_setting(runs: Sequence[RunRecord]) -> dict[str, list[RunRecord]]:
    rows: dict[str, list[RunRecord]] = {}
    for run in runs:
        rows.setdefault(run.setting, []).append(run)
    return rows


def comparable_runs(runs: Sequence[RunRecord], home: str | None) -> ComparableRuns:
    """The rows that can be compared.

    Args:
        home: the setting of the baseline, which defines the data set and the test images. Without it, several
            data sets are a BadInput.
    """
    ours = [run for run in runs if run.setting == home] if home else runs
    sets = Counter(run.result["dataset"] for run in ours)
    if len(sets) > 1:
        raise BadInput(
            f"the runs use several data sets, {', '.join(sorted(sets))}, and their accuracies do not "
            "compare; give folders of one, or a --baseline to choose its data set"
        )
    dataset = next(iter(sets))
    hashes = Counter(test for run in ours if (test := _test_data(run)))
    test = hashes.most_common(1)[0][0] if hashes else None
    kept, left_out = [], []
    for run in runs:
        if run.result["dataset"] != dataset:
            left_out.append((str(run.folder), f"its data set is {run.result['dataset']}"))
        elif test and _test_data(run) not in (test, None):
            left_out.append((str(run.folder), "it was tested on other images"))
        else:
            kept.append(run)
            if run.status != "ok":
                left_out.append((str(run.folder), f"{run.status}: counted in its row, left out of the mean"))
    return ComparableRuns(dataset, by_setting(kept), left_out)


def _fault(run: RunRecord) -> str | None:
    """The reason why a record cannot be counted, or None."""
    for key, kind in KINDS.items():
        if not isinstance(run.result[key], kind):
            return f"its {key!r} is damaged: {run.result[key]!r}"
    accuracy = run.result.get("test_accuracy")
    if run.status == "ok" and not (isinstance(accuracy, int | float) and 0 <= accuracy <= 100):
        return f"it has no test accuracy (test_accuracy is {accuracy!r})"
    return None


def _test_data(run: RunRecord) -> str | None:
    """The fingerprint of the test images; None in older records."""
    data = run.result.get("data")
    return data.get("test") if isinstance(data, dict) else None
