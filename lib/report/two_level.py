"""Intervals over seeds and test images for the rows of a table, from the predictions of the runs."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ..core.errors import BadInput
from .records import RunRecord
from .run_metrics import predictions
from .table import Difference, Estimate, TableRow, plain

# By setting, for rows with several runs: (S, N) whether each image was classified correctly, by seed.
Right = dict[str, np.ndarray]


def over_images(
    rows: Sequence[TableRow], runs: Sequence[RunRecord], paired: bool
) -> tuple[list[TableRow], list[str]]:
    """The rows with their intervals, and notes on their meaning and on rows without one.

    Raises:
        BadInput: no row has the predictions of its runs.
    """
    from .bootstrap import two_level  # imported late: torch takes seconds

    right, why = _right(rows, {str(run.folder): run for run in runs})
    if not right:
        reason = next(iter(why.values()), "no setting has more than one run")
        raise BadInput(f"an interval over seeds and images needs predictions of the runs: {reason}")
    home = next((row for row in rows if row.baseline), None)
    extended = []
    for row in rows:
        if row.setting not in right:
            extended.append(row)
            continue
        mine = right[row.setting]
        found = [plain(100 * fraction) for fraction in two_level(mine)]
        row = replace(row, two_level=Estimate(len(mine), *found))
        if home and not row.baseline and home.setting in right:
            pair = _common(row, home, right) if paired else (mine, right[home.setting])
            if min(map(len, pair)) > 1:
                mean, _, low, high = (plain(100 * fraction) for fraction in two_level(*pair, paired=paired))
                row = replace(row, two_level_difference=Difference(mean, low, high))
        extended.append(row)
    return extended, _notes(rows, why)


def _right(rows: Sequence[TableRow], runs: dict[str, RunRecord]) -> tuple[Right, dict[str, str]]:
    """The predictions by setting, and the reasons why others have none."""
    right, why, truth = {}, {}, None
    for row in sorted(rows, key=lambda row: not row.baseline):  # the images of the baseline define the order
        if len(row.folders) < 2:
            continue
        try:
            found = [predictions(runs[folder]) for folder in row.folders]
        except BadInput as error:
            why[row.setting] = str(error)
            continue
        truth = found[0][1] if truth is None else truth
        if all(np.array_equal(y, truth) for _, y in found):
            right[row.setting] = np.stack([logits.argmax(1) == y for logits, y in found])
        else:
            why[row.setting] = "its predictions are for other test images, or in another order"
    return right, why


def _common(row: TableRow, home: TableRow, right: Right) -> tuple[np.ndarray, np.ndarray]:
    """The predictions of the seeds that both have, in the order of the row."""
    seeds = [seed for seed in row.seeds if seed in home.seeds]
    places = ([of.seeds.index(seed) for seed in seeds] for of in (row, home))
    mine, theirs = (right[of.setting][list(at)] for of, at in zip((row, home), places, strict=True))
    return mine, theirs


def _notes(rows: Sequence[TableRow], why: dict[str, str]) -> list[str]:
    notes = [
        "Over seeds and images: the 95 % interval for new seeds and new test images of the same kind "
        "(two-level bootstrap; the settings share their images). The other intervals are for these test "
        "images."
    ]
    lacking = [f"{row.name} ({why[row.setting]})" for row in rows if row.setting in why]
    return [*notes, *([f"Without that interval: {'; '.join(lacking)}."] if lacking else [])]
