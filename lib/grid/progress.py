"""Show the progress of a grid, and the summary at its end: a table, and the commands of runs that failed."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm

from ..core.errors import BadInput
from ..report.published import accuracies
from ..report.records import read_records
from ..report.render import render
from ..report.summarise import summarise
from ..report.text import duration
from ..store.run_folder import COMPLETE, read_result
from .job import ENDED, RUNNING, Job, done, last_line, outcome
from .spec import Grid


@dataclass
class Progress:
    """A bar on a terminal, and a line for each run that has ended."""

    jobs: Sequence[Job]
    running: dict[str, None] = field(default_factory=dict)
    left: set[Job] = field(default_factory=set)  # reported by the back end, but not as ended
    ended: int = 0

    def __enter__(self) -> "Progress":
        self.bar = tqdm(total=len(self.jobs), unit="run", disable=None, file=sys.stdout)
        return self

    def __exit__(self, *error) -> None:
        self.bar.close()

    def report(self, job: Job, state: str) -> None:
        """Show the new state of a job."""
        self.running.pop(job.name, None)
        self.left.add(job)
        if state == RUNNING:
            self.running[job.name] = None
        elif state == ENDED:
            self.left.discard(job)
            self.ended += 1
            self.bar.update()
            tqdm.write(f"[{self.ended}/{len(self.jobs)}] {job.name}: {describe(job)}")
        self.bar.set_postfix_str(", ".join(self.running))


def describe(job: Job) -> str:
    """The outcome of a run in a few words."""
    result = read_result(job.folder) if done(job) else None
    if not result:
        return f"failed: {_reason(job)}"
    if result["status"] != "ok":
        return result["status"]
    seconds = result["seconds"]["train"] + result["seconds"]["evaluate"]
    return f"{result['test_accuracy']:.2f} % in {duration(seconds)}"


def summary(
    jobs: Sequence[Job], grid: Grid, folder: Path, trial: bool = False, stale: Sequence[Job] = ()
) -> str:
    """The table of the records below the folder, then the failures.

    Args:
        trial: it has no published numbers to compare.
        stale: jobs with a folder that holds a run of an earlier version of their row, which is left out.
    """
    try:
        published = {} if trial else accuracies((row.name, row.published) for row in grid.rows)
        records = read_records([folder]).without([job.folder for job in stale], "the row has changed since")
        lines = [render(summarise(records, grid.baseline, published=published), "md")]
    except BadInput as error:
        lines = [f"no table: {error}"]
    return "\n".join([*lines, *failures([job for job in jobs if job not in stale])])


def failures(jobs: Sequence[Job]) -> list[str]:
    """For each run that did not end with ok: its outcome, and the command that repeats it."""
    lines = []
    for job in jobs:
        if (status := outcome(job)) != "ok":
            description = status if status in COMPLETE else f"{status or 'failed'}: {_reason(job)}"
            lines += [f"{job.name}: {description}", f"  {job.command}"]
    return lines


def _reason(job: Job) -> str:
    return last_line(job) or "no output"
