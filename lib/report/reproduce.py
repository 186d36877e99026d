"""Compare our runs with a published number: a verdict that takes both numbers of runs into account.

If all runs come from one distribution, the published number minus our mean has the variance s^2 (1/n + k/m),
with n runs of ours with standard deviation s and m of theirs. k is 1 for their mean or single run; for a
median it is pi/2, its limit for many normal draws (for three runs it is 1.35, for five 1.43, so the interval
is a little too wide). The number is `consistent` if it lies within

    mean +- (t(0.975, n - 1) s sqrt(1/n + k/m) + 0.005)

and `differs` otherwise. The last term is the rounding to two decimals. This is a prediction interval, wider
than the confidence interval of our mean, which need not contain a single published run. Their standard
deviation is assumed to equal ours, because no table states one.

With a single run, or equal runs, the standard deviation is unknown: `undecided`. If one of our runs diverged,
the row `differs`. A published best epoch is compared with our best epoch, if that was also chosen on the test
set. A number with test-time augmentation is compared with ours with the same augmentation.
"""

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from ..config.schema import Config
from ..config.sources import config_of, read_yaml
from ..core.errors import BadInput
from ..store.run_folder import COMPLETE
from .published import PublishedResult
from .records import RunRecord
from .statistics import CONFIDENCE, student
from .text import number

ROUNDING = 0.005
MEDIAN = math.pi / 2


@dataclass(frozen=True)
class Comparison:
    """A row of a grid and its published result."""

    row: str
    command: str  # to run it
    published: PublishedResult | None
    accuracies: tuple[float, ...]  # of our runs, at the epoch of the published number
    diverged: int = 0

    @cached_property
    def verdict(self) -> str:
        if not self.accuracies and not self.diverged:
            return "not run"
        if self.published is None or self.published.accuracy is None:
            return "nothing published"
        if self.diverged:
            return "differs"
        half = prediction(self.accuracies, self.published.n or 1, self.published.statistic == "median")
        if half is None:
            return "undecided"
        difference = abs(self.published.accuracy - statistics.fmean(self.accuracies))
        return "consistent" if difference <= half else "differs"

    @property
    def ours(self) -> str:
        """Our mean with its 95 % interval and number of runs."""
        runs = f"n = {len(self.accuracies)}" + (f", {self.diverged} diverged" if self.diverged else "")
        if not self.accuracies:
            return f"({runs})" if self.diverged else "-"
        ours = student(self.accuracies)
        half = "" if math.isnan(ours.high) else f" ± {ours.high - ours.mean:.2f}"
        return f"{ours.mean:.2f}{half} ({runs})"


def prediction(accuracies: Sequence[float], runs: int, median: bool) -> float | None:
    """Half the width of the prediction interval around our mean; None if our runs have no spread.

    Args:
        runs: the number of runs of the published number; `median`: it is their median, not their mean.
    """
    from scipy import stats  # imported late: it takes half a second

    n = len(accuracies)
    if n < 2 or max(accuracies) == min(accuracies):
        return None
    factor = MEDIAN if median and runs > 1 else 1
    error = statistics.stdev(accuracies) * math.sqrt(1 / n + factor / runs)
    return float(stats.t.ppf((1 + CONFIDENCE) / 2, n - 1)) * error + ROUNDING


def complete_runs(runs: Iterable[RunRecord]) -> dict[str, dict[int, RunRecord]]:
    """The complete runs, by hash of the setting and by seed."""
    found: dict[str, dict[int, RunRecord]] = {}
    for record in runs:
        if record.status in COMPLETE:
            found.setdefault(setting_of(record), {})[record.seed] = record
    return found


def comparison_of(
    row: str,
    command: str,
    config: Config,
    published: PublishedResult | None,
    runs: dict[str, dict[int, RunRecord]],
) -> Comparison:
    """The comparison of a row of this configuration, with runs as from `complete_runs`."""
    mine = runs.get(config.digest(), {}).values()
    accuracies = [accuracy(record, published) for record in mine if record.status == "ok"]
    diverged = sum(record.status == "diverged" for record in mine)
    return Comparison(row, command, published, tuple(a for a in accuracies if a is not None), diverged)


def setting_of(record: RunRecord) -> str:
    """The hash of its setting with this version of the code: settings added since have their defaults."""
    try:
        tree = dict(read_yaml(record.folder / "config.yaml"))
        return config_of(tree, str(record.folder)).digest()
    except BadInput:
        return record.setting


def accuracy(record: RunRecord, published: PublishedResult | None) -> float | None:
    """The comparable test accuracy; None if the best epoch was not chosen on the test set."""
    if published and published.views:
        return record.result[f"{published.views}_test_accuracy"]
    if not published or published.at != "best":
        return record.result["test_accuracy"]
    best = record.result["best"]
    return best["accuracy"] if best["split"] == "test" else None


def report(rows: Sequence[Comparison]) -> str:
    """Markdown: a line for each row, then the doubts about the published numbers."""
    lines = ["| row | published | ours | verdict | command |", "|---|---|---|---|---|"]
    doubts: dict[str, list[str]] = {}
    for row in rows:
        why = row.published.contaminated if row.published else None
        doubts.setdefault(why or "", []).append(row.row)
        name = f"{row.row} *" if why else row.row
        lines.append(f"| {name} | {_printed(row.published)} | {row.ours} | {row.verdict} | `{row.command}` |")
    notes = [f"\\* {', '.join(names)}: {why}" for why, names in doubts.items() if why]
    return "\n".join([*lines, "", *notes]).rstrip()


def _printed(result: PublishedResult | None) -> str:
    if result is None or result.accuracy is None:
        return "-"
    of = f" ({result.statistic} of {result.n})" if result.n and result.n > 1 else ""
    how = [", best epoch"] if result.at == "best" else []
    how += [f", {result.views}"] if result.views else []
    return f"{number(result.accuracy)}{of}{''.join(how)}"
