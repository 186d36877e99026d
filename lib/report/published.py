"""Results that other projects have published: results/published.yaml, whose head says what its keys mean."""

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
    """A row of a published table: what was run as far as known, and what came out."""

    id: str  # the table's name, a slash, a number
    setting: str  # what distinguishes the row within its table
    metric: str  # of the value: `test error, %`, `test accuracy, %`, or the unit of a speed
    model: str
    options: dict[str, Any] | None = None  # of the model
    data: str | None = None
    epochs: float | None = None
    batch: int | None = None  # images a step, over all GPUs
    lr: float | None = None
    decay: float | None = None  # of the weights
    precision: str | None = None
    gpus: int = 1
    value: float | None = None  # as printed
    n: int | None = None  # runs that the value is of
    statistic: str | None = None  # single, mean, median, or about
    at: str | None = None  # the epoch that it is of: last or best
    views: str | None = None  # the test-time views that it is measured through
    seconds: float | None = None  # of training
    gpu: str | None = None
    paper: str | None = None
    also: dict[str, Any] | None = None
    contaminated: str | None = None  # why the value is no clean measurement of the setting
    note: str | None = None
    cannot: str | None = None  # why it cannot be run here
    same_as: str | None = None  # the id of the row that it repeats

    @cached_property
    def accuracy(self) -> float | None:
        """On the test set, in percent; None where none is printed."""
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
    """The tables, by name.

    Raises:
        BadInput: the file is not of the form that its head describes.
    """
    # The parser in C takes 0.1 s for what the other takes 0.7 s for.
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
        raise BadInput(f"{PUBLISHED.name}: row {row['id']} stands in {table}")
    doubts = [part["contaminated"] for part in (common, row) if "contaminated" in part]
    return PublishedResult(metric=metric, **(common | row | {"contaminated": "; ".join(doubts) or None}))


def accuracies(rows: Iterable[tuple[str, str | None]]) -> dict[str, float]:
    """Published accuracies in percent, by the name of the row of ours that names their id.

    Those measured through test-time views are left out: they are not to be had beside an accuracy without.
    """
    results = [result for table in read_published().values() for result in table.rows if not result.views]
    found = {result.id: result.accuracy for result in results}
    return {name: found[id] for name, id in rows if id and found.get(id) is not None}
