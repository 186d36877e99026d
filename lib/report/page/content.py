"""The content of the page: a table for each data set, with the records of the runs of each row."""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ...config.schema import SECTIONS
from ...core.errors import BadInput
from ..records import Records, RunRecord
from ..run_filter import by_setting, usable
from ..setting_names import NONE, TICK
from ..summarise import summarise
from ..table import Table, TableRow


@dataclass(frozen=True)
class Setting:
    row: TableRow
    dataset: str
    runs: Sequence[RunRecord]

    @property
    def text(self) -> str:
        """The text that is searched, in lower case."""
        settings = [f"{key}={value}" for key, value in self.runs[0].settings.items()]
        folders = [str(run.folder) for run in self.runs]
        return " ".join([self.row.name, self.row.setting, self.dataset, *settings, *folders]).lower()


@dataclass(frozen=True)
class Content:
    tables: Sequence[Table]  # one for each data set
    settings: Sequence[Setting]  # of all tables, best first
    left_out: Sequence[tuple[str, str]]  # a record that is in no mean, and the reason
    refused: Sequence[str]  # reasons why a data set has no comparison with the baseline

    @cached_property
    def runs(self) -> list[RunRecord]:
        return [run for setting in self.settings for run in setting.runs]

    @cached_property
    def datasets(self) -> list[str]:
        return [table.dataset for table in self.tables]

    @cached_property
    def reasons(self) -> dict[str, str]:
        return dict(self.left_out)

    @cached_property
    def models(self) -> set[str]:
        return {run.result["model"] for run in self.runs}

    @cached_property
    def statuses(self) -> list[str]:
        return list(dict.fromkeys(status for one in self.settings for status in one.row.status))

    @cached_property
    def tricks(self) -> list[tuple[str, str | None]]:
        """The differences between settings: a trick, as `augment.cutout`, or a choice with its value."""
        cells: dict[str, set[str]] = {}
        for setting in self.settings:
            for name in self._ticked:
                cells.setdefault(name, set()).add(setting.row.ticks.get(name, NONE))
        differ = sorted(name for name, seen in cells.items() if len(seen) > 1)
        values = {n: sorted(cells[n] - {NONE}) if n.endswith(".name") else [None] for n in differ}
        return [(name, value) for name in differ for value in values[name]]

    @cached_property
    def _ticked(self) -> set[str]:
        return {name for setting in self.settings for name in setting.row.ticks}

    @cached_property
    def labels(self) -> list[str]:
        """Short names of the tricks."""
        short = [value or name.rpartition(".")[2] for name, value in self.tricks]
        seen = Counter(short)
        whole = [f"{name}={value}" if value else name for name, value in self.tricks]
        return [one if seen[one] == 1 else other for one, other in zip(short, whole, strict=True)]

    def on(self, setting: Setting) -> dict[int, str]:
        """The tricks of a setting: their places in `tricks`, and their names with options."""
        cells = {place: setting.row.ticks.get(name, NONE) for place, (name, _) in enumerate(self.tricks)}
        return {
            place: " ".join([self.labels[place], "" if value else cells[place].removeprefix(TICK)]).strip()
            for place, (_, value) in enumerate(self.tricks)
            if (cells[place] == value if value else cells[place] != NONE)
        }

    @cached_property
    def names(self) -> dict[Path, str]:
        """For each run, the path of its folder from the common root: short, and the same on every machine."""
        paths = {run.folder: run.folder.resolve() for run in self.runs}
        common = os.path.commonpath([path.parent.parent for path in paths.values()])
        # A path may contain bytes that are not text; a URL cannot.
        return {folder: readable(os.path.relpath(path, common)) for folder, path in paths.items()}


def readable(text: str) -> str:
    """Text without characters that UTF-8 cannot encode, such as a lone surrogate from a file name."""
    return text.encode(errors="replace").decode()


def gather(records: Records, baseline: str | None, paired: bool) -> Content:
    """The tables of these records.

    Args:
        baseline: the row that others are compared with, in each data set that contains it.
        paired: whether the differences are taken seed by seed.
    Raises:
        BadInput: no record can be used, or no data set has the baseline.
    """
    runs, left_out = usable(records)
    if not runs:
        raise BadInput(f"no record can be used; {left_out[0][0]}: {left_out[0][1]}")
    tables, settings, refused = [], [], {}
    for dataset in dict.fromkeys(run.result["dataset"] for run in runs):
        part = Records([run for run in runs if run.result["dataset"] == dataset], [])
        ticks = _candidates(part.runs)
        try:
            table = summarise(part, baseline, ticks, paired=paired)
        except BadInput as error:
            refused[dataset] = error
            table = summarise(part, None, ticks)
        tables.append(table)
        left_out += table.left_out
        runs_of = by_setting(part.runs)
        settings += [Setting(row, dataset, runs_of[row.setting]) for row in table.rows]
    if len(refused) == len(tables):
        raise next(iter(refused.values()))
    settings.sort(key=lambda one: -one.row.accuracy.mean if one.row.accuracy else float("inf"))
    return Content(tables, settings, left_out, [f"On {name}: {error}." for name, error in refused.items()])


def _candidates(runs: Sequence[RunRecord]) -> list[str]:
    """The tricks and choices, except the model, that any of the runs changes."""
    keys = {tuple(key.split(".")[:2]) for run in runs for key in run.settings}
    return sorted(".".join(key) for key in keys if len(key) == 2 and _describes(*key))


def _describes(section: str, name: str) -> bool:
    known = SECTIONS.get(section)
    if known is None or not known.is_tricks:
        return known is not None and known.is_choice and name == "name" and section not in ("model", "data")
    return name in known.registry.names()  # an older version may have had other tricks
