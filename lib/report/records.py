"""Read run records, from which tables, plots and pages are made.

A record that cannot be used is left out and named; the others are still read.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ..config.schema import NOT_HASHED, under
from ..config.sources import flatten
from ..core.errors import BadInput
from ..store.run_folder import RESULT_FORMAT


@dataclass(frozen=True)
class RunRecord:
    """One run, as recorded in its folder."""

    folder: Path
    result: dict[str, Any]  # result.json

    @property
    def seed(self) -> int:
        return self.result["seed"]

    @property
    def status(self) -> str:
        return self.result["status"]

    @property
    def setting(self) -> str:
        """Hash of the configuration without the seed, eight hexadecimal digits."""
        return self.result["config"]

    @cached_property
    def settings(self) -> dict[str, Any]:
        """Dotted keys and values that differ from the defaults and affect training, without the seed."""
        flat = flatten(self.result["config_diff"])
        return {key: value for key, value in flat if not any(under(key, path) for path in NOT_HASHED)}

    @cached_property
    def epochs(self) -> list[dict[str, Any]]:
        """The rows of metrics.jsonl: one for each epoch."""
        lines = (self.folder / "metrics.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines]


@dataclass(frozen=True)
class Records:
    runs: list[RunRecord]
    left_out: list[tuple[Path, str]]  # paths of unusable records, and the reasons

    def without(self, folders: Sequence[Path], reason: str) -> "Records":
        """The records but for those in these folders, which are left out for this reason."""
        kept = [run for run in self.runs if run.folder not in folders]
        if not kept:
            raise BadInput(f"no record is left, as of each {reason}")
        gone = [(run.folder / "result.json", reason) for run in self.runs if run.folder in folders]
        return Records(kept, self.left_out + gone)


def read_records(folders: Iterable[Path]) -> Records:
    """All records below the folders, ordered by path; BadInput if none of them is usable."""
    folders = list(folders)
    found = (path for folder in folders for path in folder.glob("**/result.json"))
    paths = sorted({path.resolve(): path for path in found}.values())  # folders may contain each other
    runs, left_out = [], []
    for path in paths:
        try:
            runs.append(_record(path))
        except (OSError, ValueError, KeyError, TypeError) as error:
            left_out.append((path, str(error) if isinstance(error, OSError | ValueError) else repr(error)))
    if not runs:
        searched = " or ".join(map(str, folders))
        first = f"; {left_out[0][0]} cannot be used: {left_out[0][1]}" if left_out else ""
        raise BadInput(f"there is no usable result.json below {searched}{first}; give folders with runs")
    return Records(runs, left_out)


def _record(path: Path) -> RunRecord:
    result = json.loads(path.read_text())
    if (version := result["format"]) > RESULT_FORMAT:
        raise ValueError(f"format {version} is newer than this version's {RESULT_FORMAT}; update the code")
    record = RunRecord(path.parent, result)
    for needed in ("seed", "status", "config", "config_diff", "dataset", "model", "steps", "environment"):
        if needed not in result:
            raise ValueError(f"it has no {needed!r}")
    return record
