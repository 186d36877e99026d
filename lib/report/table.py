"""A table of settings from run records: mean over the seeds, its interval, and the difference to a baseline.

The headline is the last epoch's accuracy on the test set. Runs of one seed share the order of the images and
the draws of all tricks that they have in common, so differences are taken seed by seed.
"""

import json
import math
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lib.errors import BadInput

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Interval:
    mean: float
    half: float | None  # half the width of the 95 % interval; None for a single value

    def __str__(self) -> str:
        return f"{self.mean:.2f}" if self.half is None else f"{self.mean:.2f} ± {self.half:.2f}"


def interval(values: list[float]) -> Interval:
    """The mean, and Student's interval around it."""
    from scipy import stats  # half a second, which only tables should take

    mean = statistics.fmean(values)
    if len(values) == 1:
        return Interval(mean, None)
    error = statistics.stdev(values) / math.sqrt(len(values))
    return Interval(mean, stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1) * error)


def read(folder: Path) -> dict[str, dict[int, dict[str, Any]]]:
    """The records below a folder, by setting (the folder of the seeds' folders) and seed.

    Raises:
        BadInput: there are none, or one of them is damaged.
    """
    settings: dict[str, dict[int, dict[str, Any]]] = {}
    for path in sorted(folder.glob("**/result.json")):
        try:
            record = json.loads(path.read_text())
            settings.setdefault(path.parent.parent.name, {})[record["seed"]] = record
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BadInput(f"{path} is no run record: {error!r}") from error
    if not settings:
        raise BadInput(f"there is no result.json below {folder}; give a folder with runs")
    return settings


def table(settings: dict[str, dict[int, dict[str, Any]]], baseline: str) -> str:
    """Markdown: a row for each setting, the best first; the differences are to `baseline`.

    Raises:
        BadInput: there is no such setting, or a run did not end well.
    """
    if baseline not in settings:
        raise BadInput(f"baseline {baseline!r} is none of {', '.join(settings)}")
    accuracies = {
        name: {seed: _accuracy(name, record) for seed, record in runs.items()}
        for name, runs in settings.items()
    }
    lines = ["| setting | n | test accuracy, % | difference | seconds a run |", "|---|---|---|---|---|"]
    for name in sorted(settings, key=lambda name: -statistics.fmean(accuracies[name].values())):
        mine, base = accuracies[name], accuracies[baseline]
        paired = [mine[seed] - base[seed] for seed in mine if seed in base]
        difference = "" if name == baseline or not paired else _signed(interval(paired))
        seconds = statistics.fmean(record["seconds"]["train"] for record in settings[name].values())
        accuracy = interval(list(mine.values()))
        lines.append(f"| {name} | {len(mine)} | {accuracy} | {difference} | {seconds:,.0f} |")
    return "\n".join(lines) + "\n"


def _signed(difference: Interval) -> str:
    return str(difference) if difference.mean < 0 else f"+{difference}"


def _accuracy(name: str, record: dict[str, Any]) -> float:
    if record["status"] != "ok":
        raise BadInput(f"{name}, seed {record['seed']}: the run is {record['status']}; run it again")
    return record["test_accuracy"]
