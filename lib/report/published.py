"""Results published by other projects: results/published.yaml, where a comment explains the keys."""

from collections.abc import Iterable
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from ..core.errors import BadInput

PUBLISHED = Path(__file__).parents[2] / "results" / "published.yaml"


@dataclass(frozen=True)
class PublishedResult:
    """A row of a published table: the configuration as far as known, and the result."""

    id: str  # name of the table, a slash, a number
    setting: str  # differences to the other rows of the table
    metric: str  # `test error, %`, `test accuracy, %`, or the unit of a speed
    model: str
    options: dict[str, Any] | None = None  # of the model
    data: str | None = None
    epochs: float | None = None
    batch: int | None = None  # images per step, over all GPUs
    lr: float | None = None
    decay: float | None = None  # weight decay
    precision: str | None = None
    gpus: int = 1
    value: float | None = None  # as printed
    n: int | None = None  # number of runs
    statistic: str | None = None  # single, mean, median, or about
    at: str | None = None  # epoch: last or best
    views: str | None = None  # test-time augmentation
    seconds: float | None = None  # of training
    gpu: str | None = None
    paper: str | None = None
    also: dict[str, Any] | None = None
    contaminated: str | None = None  # reason why the value does not measure the setting
    note: str | None = None
    cannot: str | None = None  # reason why it cannot be run here
    same_as: str | None = None  # id of the row that it repeats

    @cached_property
    def accuracy(self) -> float | None:
        """On the test set, in percent; None if the table has none."""
        if self.value is None or not self.metric.startswith("test"):
            return None
        return round(100 - self.value, 4) if "error" in self.metric else self.value


@dataclass(frozen=True)
class PublishedTable:
    name: str
    title: str
    source: str  # the project
    metric: str
    rows: tuple[PublishedResult, ...]


def read_published(path: Path = PUBLISHED) -> dict[str, PublishedTable]:
    """The tables, by name; BadInput if the file does not have the form that its first comment describes."""
    # The parser in C takes 0.1 s, that in Python 0.7 s.
    tree = yaml.load(path.read_text(), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    return {name: _table(name, table) for name, table in tree.items()}


def _table(name: str, table: dict[str, Any]) -> PublishedTable:
    common, metric = table.get("all", {}), table["metric"]
    rows = tuple(_result(name, metric, common, row) for row in table["rows"])
    return PublishedTable(name, table["title"], table["source"], metric, rows)


def _result(table: str, metric: str, common: dict[str, Any], row: dict[str, Any]) -> PublishedResult:
    known = {field.name for field in fields(PublishedResult)} - {"metric"}
    if unknown := [key for key in (*common, *row) if key not in known]:
        raise BadInput(f"{PUBLISHED.name}, {row.get('id', table)}: unknown key {unknown[0]!r}")
    if not row["id"].startswith(f"{table}/"):
        raise BadInput(f"{PUBLISHED.name}: row {row['id']} is in table {table}")
    doubts = [part["contaminated"] for part in (common, row) if "contaminated" in part]
    return PublishedResult(metric=metric, **(common | row | {"contaminated": "; ".join(doubts) or None}))


def accuracies(rows: Iterable[tuple[str, str | None]]) -> dict[str, float]:
    """Published accuracies in percent, by the names of our rows, from pairs of these and ids of published
    rows.

    Those with test-time augmentation are left out: they do not compare with an accuracy without it.
    """
    results = [result for table in read_published().values() for result in table.rows if not result.views]
    found = {result.id: result.accuracy for result in results}
    return {name: found[id] for name, id in rows if id and found.get(id) is not None}
